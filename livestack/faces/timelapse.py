"""How the picture grew: a bounded album of pictures, and a film made of it in the morning.

The album keeps at most `limit` entries: when it is full every second one is dropped and the step doubles, so that it
always spans the whole night evenly and its memory never grows. The film is MP4 (VP9, or MPEG-4 where OpenCV cannot)
or animated WebP. `Timelapse` follows a slot in a thread of its own; it reads snapshots and nothing else.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Generic, TypeVar

import cv2
import numpy as np

from livestack.base.errors import SessionError, UsageError
from livestack.faces.follower import SlotFollower
from livestack.session.snapshot import Slot, Snapshot

Entry = TypeVar("Entry")
MP4_ENCODERS = ("vp09", "mp4v")
SHORTEST_INTERVAL_S = 0.5


class ThinnedAlbum(Generic[Entry]):
    """At most `limit` entries, evenly spread over all that were ever added; the newest is always among them."""

    def __init__(self, limit: int = 60) -> None:
        if limit < 3:
            raise UsageError(f"limit: found {limit}, an album needs room for at least 3 pictures.")
        self._limit = limit
        self._step = 1
        self._added = 0
        self._kept: list[Entry] = []
        self._newest: Entry | None = None

    def add(self, entry: Entry) -> None:
        """Take the newest entry, and thin out the old ones where there is no room."""
        if self._added % self._step == 0:
            self._kept.append(entry)
            self._newest = None
            if len(self._kept) >= self._limit:
                del self._kept[1::2]
                self._step *= 2
                if self._kept[-1] is not entry:
                    self._newest = entry
        else:
            self._newest = entry
        self._added += 1

    def clear(self) -> None:
        """Forget everything: another target."""
        self._step, self._added, self._kept, self._newest = 1, 0, [], None

    @property
    def entries(self) -> list[Entry]:
        """Oldest first."""
        return [*self._kept, self._newest] if self._newest is not None else list(self._kept)


def encode_jpeg(picture: np.ndarray, longest_side: int | None = None, quality: int = 85) -> bytes:
    """Return an (h, w, 3) uint8 sRGB picture as JPEG, scaled down so that neither side exceeds `longest_side`."""
    if longest_side is not None and max(picture.shape[:2]) > longest_side:
        scale = longest_side / max(picture.shape[:2])
        size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not done:
        raise SessionError(f"picture: OpenCV could not encode {picture.shape[1]} x {picture.shape[0]} as JPEG.")
    return bytes(data)


def write_film(pictures: list[bytes], path: Path, frames_per_s: float = 10.0, hold_s: float = 2.0) -> Path:
    """Write JPEG pictures as a film and return where it is; the last picture stands for `hold_s`.

    The suffix of `path` says which: ".mp4" or ".webp". Where no MP4 encoder works the film becomes animated WebP.
    All pictures take the size of the last one.

    Raises
    ------
    UsageError : nothing to film, or another suffix.
    SessionError : the file could not be written.
    """
    if not pictures:
        raise UsageError(f"{path.name}: there is no picture yet to make a film of; stack some frames first.")
    if path.suffix not in (".mp4", ".webp"):
        raise UsageError(f"{path.name}: a film is .mp4 or .webp, found {path.suffix or 'no suffix'}.")
    height, width = _decode(pictures[-1]).shape[:2]
    size = (width // 2 * 2, height // 2 * 2)  # video wants even sides

    def frames() -> list[np.ndarray]:
        decoded = (_decode(picture) for picture in pictures)
        return [cv2.resize(f, size, interpolation=cv2.INTER_AREA) if f.shape[1::-1] != size else f for f in decoded]

    if path.suffix == ".mp4":
        for encoder in MP4_ENCODERS:
            if _write_video(frames(), size, path, encoder, frames_per_s, round(hold_s * frames_per_s)):
                return path
        path = path.with_suffix(".webp")
    animation = cv2.Animation()
    animation.frames = frames()
    animation.durations = [round(1000 / frames_per_s)] * (len(pictures) - 1) + [round(1000 * hold_s)]
    temporary = path.with_name(f".{path.stem}.part.webp")
    try:
        if not cv2.imwriteanimation(str(temporary), animation, [cv2.IMWRITE_WEBP_QUALITY, 80]):
            raise SessionError(f"{path}: the film could not be written; is there room, and may we write there?")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _decode(picture: bytes) -> np.ndarray:
    """Return a JPEG as (h, w, 3) uint8 in OpenCV's order of colours."""
    decoded = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    if decoded is None:
        raise SessionError("film: one of the pictures is no JPEG; begin the film anew.")
    return np.asarray(decoded)


def _write_video(
    frames: list[np.ndarray], size: tuple[int, int], path: Path, encoder: str, frames_per_s: float, hold: int
) -> bool:
    """Write an MP4 with one encoder; False where it does not work here."""
    temporary = path.with_name(f".{path.stem}.part.mp4")
    writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*encoder), frames_per_s, size)
    try:
        if not writer.isOpened():
            return False
        for frame in frames + frames[-1:] * hold:
            writer.write(frame)
        writer.release()
        if not temporary.exists() or temporary.stat().st_size == 0:
            return False
        os.replace(temporary, path)
        return True
    finally:
        writer.release()
        temporary.unlink(missing_ok=True)


class Timelapse(SlotFollower):
    """Follows a slot and keeps a thinned album of its pictures until `write`.

    Parameters
    ----------
    slot : where the session publishes.
    limit : most pictures kept (about 150 kB each).
    longest_side : size of the film in pixels.
    """

    def __init__(self, slot: Slot, limit: int = 200, longest_side: int = 1280) -> None:
        super().__init__(slot, "livestack-timelapse", SHORTEST_INTERVAL_S)
        self._album: ThinnedAlbum[bytes] = ThinnedAlbum(limit)
        self._longest_side = longest_side
        self._group: str | None = None
        self._picture_sequence = -1
        self._lock = threading.Lock()

    def add(self, snapshot: Snapshot) -> bool:
        """Take a snapshot's picture where it is a new one; another group begins a new film."""
        with self._lock:
            if snapshot.picture is None or snapshot.picture_sequence == self._picture_sequence:
                return False
            if snapshot.group != self._group:
                self._album.clear()
                self._group = snapshot.group
            self._picture_sequence = snapshot.picture_sequence
            self._album.add(encode_jpeg(snapshot.picture, self._longest_side, 90))
            return True

    @property
    def pictures(self) -> list[bytes]:
        """The pictures kept so far, JPEG, oldest first."""
        with self._lock:
            return self._album.entries

    def write(self, path: Path, frames_per_s: float = 10.0) -> Path:
        """Write the film; see `write_film`."""
        return write_film(self.pictures, path, frames_per_s)

    def take(self, snapshot: Snapshot) -> bool:
        """Take a snapshot's picture, if it is a new one."""
        self.add(snapshot)
        return True
