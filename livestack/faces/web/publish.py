"""A static copy of the outreach page, for one's own web site: plain files, replaced whole at every change.

`Publisher` follows a slot in a thread and writes the page, `status.json` and the pictures into a folder that any web
server, rsync or cloud folder can take from there. Visitors' browsers look for a new status every ten seconds. A folder
that cannot be written is remembered in `failure` and tried again at the next change; the session never notices.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from livestack.faces.follower import SlotFollower
from livestack.faces.solved import SolvedPicture
from livestack.faces.timelapse import encode_jpeg
from livestack.faces.web.sky import SkyDesk
from livestack.faces.web.status import public_status
from livestack.session.snapshot import Slot, Snapshot

STATIC = Path(__file__).parent / "static"
LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "nl", "pl", "ja", "zh")
"""Catalogues of the visitors' pages: `words_<language>.json`."""
PAGE_FILES = (
    *(f"words_{language}.json" for language in LANGUAGES),
    "words.js",
    "style.css",
    "viewer.js",
    "chart.js",
    "live.js",
    "curve.js",
    "sky.js",
    "stars.js",
    "icon.svg",
)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'"
)
LONGEST_SIDE = 1600
SHORTEST_INTERVAL_S = 5.0


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that a reader finds the old or the new content, never a part."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class Publisher(SlotFollower):
    """Writes a slot's public view into a folder, at most every five seconds.

    Parameters
    ----------
    slot : where the session publishes.
    folder : made where it does not exist; files of other names in it are left alone.
    interval_s : shortest time between two writings.
    """

    def __init__(self, slot: Slot, folder: Path, interval_s: float = SHORTEST_INTERVAL_S) -> None:
        super().__init__(slot, "livestack-publish", interval_s)
        self._folder = folder
        self._number = 0
        self._written: dict[str, np.ndarray] = {}
        self._versions: dict[str, int] = {}
        self._desk = SkyDesk()
        self._sky: SolvedPicture | None = None
        self.failure: str | None = None
        """Why the last writing failed, None where it did not."""

    def take(self, snapshot: Snapshot) -> bool:
        """Write a snapshot; what cannot be written is tried again."""
        try:
            self.write(snapshot)
            self.failure = None
        except OSError as error:
            self.failure = f"{self._folder}: the page could not be written ({error.strerror}); trying again."
        return self.failure is None

    def write(self, snapshot: Snapshot) -> None:
        """Write one snapshot: pictures first, then the status that names them.

        Raises
        ------
        OSError : the folder cannot be written.
        """
        self._number += 1
        if not (self._folder / "index.html").exists():
            self._write_page()
        for name, picture in (("picture", snapshot.picture), ("frame", snapshot.last_frame)):
            if picture is not None and picture is not self._written.get(name):
                replace_file(self._folder / f"{name}.jpg", encode_jpeg(picture, LONGEST_SIDE, 80))
                self._written[name], self._versions[name] = picture, self._number
        if self._sky is None or not self._sky.is_of(snapshot):
            sky = SolvedPicture.of(snapshot, self._number)
            if sky is not None:
                replace_file(self._folder / "sky.json", self._desk.answer(sky))
            self._sky = sky
        replace_file(self._folder / "status.json", json.dumps(self._status(snapshot), ensure_ascii=False).encode())

    def _status(self, snapshot: Snapshot) -> dict[str, Any]:
        urls = {name: f"{name}.jpg?{version}" for name, version in self._versions.items()}
        picture = self._written.get("picture")
        return {
            "number": self._number,
            "run": "",
            **public_status(snapshot),
            "picture": urls.get("picture"),
            "small": None,
            "size": list(picture.shape[1::-1]) if picture is not None else [0, 0],
            "frame": urls.get("frame"),
            "tiles": None,
            "grown": [],
            "join": None,
            "stars": None,
            "sky": self._sky.number if self._sky else None,
        }

    def _write_page(self) -> None:
        static = self._folder / "static"
        static.mkdir(parents=True, exist_ok=True)
        for name in PAGE_FILES:
            shutil.copyfile(STATIC / name, static / name)
        page = (STATIC / "index.html").read_text(encoding="utf-8")
        page = page.replace('data-mode="live"', 'data-mode="static"')
        meta = f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        replace_file(self._folder / "index.html", page.replace('<meta charset="utf-8">', meta, 1).encode())
