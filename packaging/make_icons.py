"""Draw the icon as livestack.ico (Windows) and livestack.icns (macOS) beside this file.

python packaging/make_icons.py

The same picture as `livestack/faces/web/static/icon.svg`, drawn with OpenCV, since no reader of SVG is among what
livestack needs. Both files are lists of PNGs (Microsoft's ICO since Windows Vista; Apple's icns of types ic07 to ic10).
"""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np

HERE = Path(__file__).parent
GROUND, LIGHT = (19, 13, 10, 255), (97, 182, 242)  # BGRA, BGR
STAR = [(32, 9), (35.6, 18.4), (45, 22), (35.6, 25.6), (32, 35), (28.4, 25.6), (19, 22), (28.4, 18.4)]
LINES = [(38, 0.45), (30, 0.75)]
ICNS = {128: b"ic07", 256: b"ic08", 512: b"ic09", 1024: b"ic10"}


def draw(side: int) -> bytes:
    """The icon as a PNG of `side` x `side` pixels: drawn four times as large, then averaged."""
    scale = side * 4 / 64
    big = np.zeros((side * 4, side * 4, 4), np.uint8)

    def place(points: list[tuple[float, float]]) -> np.ndarray:
        return np.round(np.array(points) * scale).astype(np.int32).reshape(-1, 1, 2)

    radius = round(14 * scale)
    for x in (radius, side * 4 - radius - 1):
        for y in (radius, side * 4 - radius - 1):
            cv2.circle(big, (x, y), radius, GROUND, -1)
    cv2.rectangle(big, (radius, 0), (side * 4 - radius - 1, side * 4), GROUND, -1)
    cv2.rectangle(big, (0, radius), (side * 4, side * 4 - radius - 1), GROUND, -1)
    for y, share in LINES:
        colour = tuple(share * light + (1 - share) * dark for light, dark in zip(LIGHT, GROUND[:3], strict=True))
        cv2.polylines(big, [place([(14, y), (32, y + 9), (50, y)])], False, (*colour, 255), round(3 * scale))
    cv2.fillPoly(big, [place(STAR)], (*LIGHT, 255))
    small = cv2.resize(big, (side, side), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".png", small)[1].tobytes()


def write_ico(path: Path) -> None:
    """Sizes 16 to 256."""
    sides = (16, 24, 32, 48, 64, 128, 256)
    pictures = [draw(side) for side in sides]
    offset = 6 + 16 * len(sides)
    table = struct.pack("<HHH", 0, 1, len(sides))
    for side, picture in zip(sides, pictures, strict=True):
        table += struct.pack("<BBBBHHII", side % 256, side % 256, 0, 0, 1, 32, len(picture), offset)
        offset += len(picture)
    path.write_bytes(table + b"".join(pictures))


def write_icns(path: Path) -> None:
    """Sizes 128 to 1024."""
    parts = [(kind, draw(side)) for side, kind in ICNS.items()]
    body = b"".join(kind + struct.pack(">I", len(picture) + 8) + picture for kind, picture in parts)
    path.write_bytes(b"icns" + struct.pack(">I", len(body) + 8) + body)


if __name__ == "__main__":
    write_ico(HERE / "livestack.ico")
    write_icns(HERE / "livestack.icns")
