"""Make the pictures of the documentation from real runs of the program.

python docs/make_pictures.py [NAME...]

Each picture is named by a function below; without names all are made. Those of pages need selenium and chromium.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def pages(scratch: Path) -> np.ndarray:
    """Home with a folder chosen, and the host's page of the session that it began, as chromium shows them."""
    from selenium import webdriver
    from selenium.webdriver.common.by import By

    livestack("simulate", scratch / "tonight", "--scenario", "osc", "--frames", "16", "--size", "800x600")
    surroundings = {**os.environ, "LIVESTACK_STATE": str(scratch / "state")}
    words = [sys.executable, "-m", "livestack", "app", "--no-browser", "--port", "0", "--root", str(scratch)]
    options = webdriver.ChromeOptions()
    for word in ("--headless=new", "--no-sandbox", "--hide-scrollbars"):
        options.add_argument(word)
    with subprocess.Popen(words, env=surroundings, stderr=subprocess.PIPE, text=True) as home:
        browser = webdriver.Chrome(options=options)
        try:
            assert home.stderr is not None
            link = next(word for line in home.stderr for word in line.split() if "/enter/" in word)
            browser.set_window_size(1120, 860)
            browser.get(link)
            shots = []
            for name in (scratch.name, "tonight"):
                press(browser, By.XPATH, name)
            browser.save_screenshot(str(scratch / "home.png"))
            shots.append(scratch / "home.png")
            press(browser, By.XPATH, "Start")
            end = time.monotonic() + 300
            browser.get(link.split("/enter/")[0] + "/host")
            while "16 frames stacked" not in browser.find_element(By.TAG_NAME, "body").text.replace("\n", " "):
                if time.monotonic() > end:
                    raise SystemExit("pages: the session has not stacked its frames in five minutes.")
                time.sleep(1)
            time.sleep(3)
            browser.save_screenshot(str(scratch / "host.png"))
            shots.append(scratch / "host.png")
        finally:
            browser.quit()
            home.send_signal(signal.SIGTERM)
    return beside(shots, 720)


def press(browser: Any, by: str, words: str) -> None:
    """Press the button that says so, once there is one."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        for button in browser.find_elements(by, f"//button[contains(normalize-space(.), '{words}')]"):
            if button.is_displayed() and button.is_enabled():
                button.click()
                time.sleep(2)
                return
        time.sleep(0.2)
    raise SystemExit(f"pages: there is no button {words!r}.")


PICTURES: dict[str, Callable[[Path], np.ndarray]] = {"comet": comet, "pages": pages}


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
