"""Make the pictures of the documentation from real runs of the program.

python docs/make_pictures.py [NAME...]

Each picture is named by a function below; without names all are made.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

IMAGES = Path(__file__).with_name("images")


def livestack(*words: str | Path) -> None:
    """Run the program as a person would."""
    subprocess.run([sys.executable, "-m", "livestack", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def beside(pictures: list[Path], width: int) -> np.ndarray:
    """Pictures of one height side by side, with a gap, each `width` pixels wide."""
    drawn = []
    for path in pictures:
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        height = round(width * picture.shape[0] / picture.shape[1])
        small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        drawn += [small, np.zeros((height, 8, 3), np.uint8)]
    return np.hstack(drawn[:-1])


def comet(scratch: Path) -> np.ndarray:
    """A comet's night: the plain stack, and both stacks in one picture."""
    livestack("simulate", scratch / "night", "--scenario", "comet", "--frames", "24", "--size", "640x480")
    livestack("stack", scratch / "night", "--output", scratch / "plain", "--follow", "none", "--formats", "png")
    livestack("stack", scratch / "night", "--output", scratch / "both", "--formats", "png")
    return beside([scratch / "plain/m-27/stack.png", scratch / "both/m-27/comet_and_stars.png"], 560)


PICTURES: dict[str, Callable[[Path], np.ndarray]] = {"comet": comet}


def main() -> None:
    """Make those that are named, or all."""
    for name in sys.argv[1:] or PICTURES:
        with tempfile.TemporaryDirectory() as scratch:
            picture = PICTURES[name](Path(scratch))
        path = IMAGES / f"{name}.jpg"
        cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 88])
        print(f"{path}: {picture.shape[1]} x {picture.shape[0]}")


if __name__ == "__main__":
    main()
