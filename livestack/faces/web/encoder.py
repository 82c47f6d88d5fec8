"""From snapshots to bytes: one thread encodes each change once, whatever the number of visitors.

`Encoder` follows a slot and replaces its `view` as a whole: the status as JSON bytes and the pictures as JPEG. Names of
pictures hold the number of the change and a word drawn at the start, so that browsers may keep them for ever and a new
session on the same port never meets the old one's. A thinned album of small pictures shows how the stack grew.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from livestack.faces.solved import SolvedPicture
from livestack.faces.timelapse import ThinnedAlbum, encode_jpeg
from livestack.faces.web.stars import Starlight
from livestack.faces.web.status import public_status
from livestack.session.snapshot import Slot, Snapshot

SHORTEST_INTERVAL_S = 0.3
"""Most updates in a second are about three: more helps no eye."""
LONGEST_SIDE = 1920
SMALL_SIDE = 1280
"""Size of what phones get and of the pictures of how the stack grew: one encoding serves both."""
SMALL_QUALITY = 75
KEPT = 4
"""So many of the latest pictures can still be fetched by those who are a little late."""


@dataclass(frozen=True)
class View:
    """What visitors get at one moment."""

    number: int = 0
    status: bytes = b"{}"
    snapshot: Snapshot = field(default_factory=Snapshot)
    stack_name: str | None = None
    stars: Starlight | None = None
    sky: SolvedPicture | None = None


@dataclass(frozen=True)
class Grown:
    """One picture of how the stack grew."""

    name: str
    frames: int
    data: bytes


class Encoder:
    """Follows a slot in a thread and keeps the newest `view` ready; `on_change` is called from that thread."""

    def __init__(self, slot: Slot, on_change: Callable[[], None], join_url: str | None = None) -> None:
        self.view = View()
        self.run = secrets.token_hex(4)
        self._slot = slot
        self._on_change = on_change
        self._join_url = join_url
        self._pictures: OrderedDict[str, bytes] = OrderedDict()
        self._grown: ThinnedAlbum[Grown] = ThinnedAlbum(60)
        self._grown_names: dict[str, bytes] = {}
        self._arrays: dict[str, np.ndarray | None] = {"stack": None, "small": None, "frame": None}
        self._names: dict[str, str | None] = {"stack": None, "small": None, "frame": None}
        self._number = 0
        self._group: tuple[str, str] | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to follow the slot; the view holds the present snapshot when this returns."""
        self._update(self._slot.latest)
        self._thread = threading.Thread(target=self._run, name="livestack-web-encoder", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def find(self, name: str) -> bytes | None:
        """Return the picture of that name, None where it is gone or never was."""
        return self._pictures.get(name) or self._grown_names.get(name)

    @property
    def grown(self) -> list[bytes]:
        """How the picture grew, JPEG, oldest first."""
        return [one.data for one in self._grown.entries]

    def newest(self, kind: str) -> bytes | None:
        """Return the newest picture of "stack", "small" or "frame"."""
        name = self._names.get(kind)
        return self._pictures.get(name) if name else None

    def _run(self) -> None:
        while not self._stop.is_set():
            latest = self._slot.wait_newer(self.view.snapshot.sequence, 0.25)
            if latest is not self.view.snapshot:
                self._update(latest)
                self._on_change()
                self._stop.wait(SHORTEST_INTERVAL_S)

    def _update(self, snapshot: Snapshot) -> None:
        self._number += 1
        target = (snapshot.group, snapshot.object_name)
        if self._group is not None and snapshot.group != self._group[0]:
            self._grown.clear()
        self._group = target
        self._encode("stack", snapshot.picture, LONGEST_SIDE, 85)
        if self._encode("small", snapshot.picture, SMALL_SIDE, SMALL_QUALITY) and snapshot.n_stacked:
            name = str(self._names["small"])
            self._grown.add(Grown(name, snapshot.n_stacked, self._pictures[name]))
            self._grown_names = {g.name: g.data for g in self._grown.entries}
        self._encode("frame", snapshot.last_frame, SMALL_SIDE, SMALL_QUALITY)
        stars = self.view.stars
        if stars is None or not stars.is_of(snapshot):
            stars = Starlight.of(snapshot, self._number)
        sky = self.view.sky
        if sky is None or not sky.is_of(snapshot):
            sky = SolvedPicture.of(snapshot, self._number)
        status = self._say(snapshot, stars, sky)
        self.view = View(self._number, status, snapshot, self._names["stack"], stars, sky)

    def _encode(self, kind: str, picture: np.ndarray | None, longest_side: int, quality: int) -> bool:
        """Encode a picture where it is another than before; True where it was."""
        if picture is None or picture is self._arrays[kind]:
            return False
        name = f"{kind}-{self.run}-{self._number}"
        kept = OrderedDict(self._pictures)
        kept[name] = encode_jpeg(picture, longest_side, quality)
        of_kind = [n for n in kept if n.startswith(kind)]
        for old in of_kind[:-KEPT]:
            del kept[old]
        self._pictures, self._arrays[kind], self._names[kind] = kept, picture, name
        return True

    def _say(self, snapshot: Snapshot, stars: Starlight | None, sky: SolvedPicture | None) -> bytes:
        stack, small, frame = (self._names[kind] for kind in ("stack", "small", "frame"))
        size = self._arrays["stack"].shape[1::-1] if self._arrays["stack"] is not None else (0, 0)
        told: dict[str, Any] = {
            "number": self._number,
            "run": self.run,
            **public_status(snapshot),
            "picture": f"picture/{stack}.jpg" if stack else None,
            "small": f"picture/{small}.jpg" if small else None,
            "size": list(size),
            "frame": f"picture/{frame}.jpg" if frame else None,
            "tiles": f"tile/{stack}/" if stack and snapshot.region is not None else None,
            "grown": [[f"picture/{g.name}.jpg", g.frames] for g in self._grown.entries],
            "join": self._join_url,
            "stars": stars.number if stars else None,
            "sky": sky.number if sky else None,
        }
        return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()
