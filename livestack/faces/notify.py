"""Tells the person who is not at the telescope: clouds, focus, a dip, a meteor, Moon rise, the disk, the end.

Hears the journal's records, decides in a thread of its own what is worth a message, and sends it through apprise, with
the latest picture. Nobody is flooded: of each kind there is one message in a quarter of an hour and six in an hour of
all; what was held back is counted in the next. In the quiet hours only a session that broke off is told.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from livestack.base.durable import free_bytes
from livestack.base.errors import FrameError, UsageError
from livestack.base.journal import FrameRecord, PassageRecord, Record, SessionStart, SessionStop, WarningRecord
from livestack.base.settings import NotifySettings
from livestack.base.text import clean_text
from livestack.ephemeris.moon import moon_altitude_deg
from livestack.formats import read_info
from livestack.photometry.times import Site, site_of

SAME_KIND_S = 900.0
HOUR_S, MOST_IN_AN_HOUR = 3600.0, 6
DISK_BYTES = 2e9
LOOK_S = 60.0
LAST_WORDS_S = 30.0
TOLD_PASSAGES = ("meteor", "newcomer")
KINDS = {
    "focus is": "focus", "clouds": "clouds", "tracking": "trailing", "wind": "trailing", "dew": "dew",
    "the sky": "sky", "the field": "drift", "the frames are mirror": "mirrored",
}  # fmt: skip
"""How an alert begins -> its kind."""
Urgency = Literal["info", "warning", "failure", "success"]
Send = Callable[[str, str, Urgency, Path | None], bool]


class Gate:
    """Lets through what is worth it: not too often, not in the quiet hours.

    Parameters
    ----------
    quiet : two local times of the day, "23:30-06:00"; None: never quiet.
    """

    def __init__(self, quiet: str | None) -> None:
        self._quiet = None if quiet is None else tuple(_minutes(word) for word in quiet.split("-"))
        self._last: dict[str, float] = {}
        self._sent: deque[float] = deque()
        self.held: Counter[str] = Counter()

    def lets_through(self, kind: str, now: float, local: datetime, urgent: bool = False) -> bool:
        """True when a message of a kind may go out; `urgent` ones always may."""
        while self._sent and now - self._sent[0] > HOUR_S:
            self._sent.popleft()
        crowded = now - self._last.get(kind, -1e9) < SAME_KIND_S or len(self._sent) >= MOST_IN_AN_HOUR
        if not urgent and (crowded or self.is_quiet(local)):
            self.held[kind] += 1
            return False
        self._last[kind] = now
        self._sent.append(now)
        return True

    def is_quiet(self, local: datetime) -> bool:
        """True in the quiet hours."""
        if self._quiet is None:
            return False
        begin, end = self._quiet
        at = 60 * local.hour + local.minute
        return begin <= at < end if begin <= end else at >= begin or at < end


def _minutes(word: str) -> int:
    hours, minutes = word.split(":")
    return 60 * int(hours) + int(minutes)


class Notifier:
    """Hears records and sends messages.

    Parameters
    ----------
    settings : where to, and when not.
    output : the session's folder; its preview goes along.
    send : title, words, urgency, picture -> sent; None: by apprise.

    Raises
    ------
    UsageError : apprise is not installed, or does not understand an address.
    """

    def __init__(self, settings: NotifySettings, output: Path, send: Send | None = None) -> None:
        self._send = send or by_apprise(settings.urls)
        self._gate = Gate(settings.quiet)
        self._output = output
        self._heard: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._name, self._base = "livestack", Path()
        self._site: Site | None = None
        self._n_stacked = 0
        self._moon_up: bool | None = None
        self._disk_told = False
        self.failed = 0
        """Messages that nobody took."""

    def hear(self, record: Record) -> None:
        """Take a record of the journal; returns at once."""
        self._heard.put(record)

    def start(self) -> None:
        """Begin to tell."""
        self._thread = threading.Thread(target=self._run, name="livestack-notify", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Tell what is left, then end."""
        self._heard.put(None)
        if self._thread is not None:
            self._thread.join(LAST_WORDS_S)

    def _run(self) -> None:
        looked, end = time.monotonic(), None
        while True:
            try:
                record = self._heard.get(timeout=LOOK_S)
            except queue.Empty:
                record = WarningRecord(kind="nothing", message="")
            if record is None:
                break
            if isinstance(record, SessionStop):
                end = record  # told when all is written, with the last picture
                continue
            self.take(record)
            if time.monotonic() - looked >= LOOK_S:
                looked = time.monotonic()
                self.look(datetime.now(UTC))
        if end is not None:
            self.take(end)

    def take(self, record: Record) -> None:
        """Tell of a record, if it is worth it."""
        if isinstance(record, SessionStart):
            self._base = Path(record.folder)
            self._name = self._base.name or "livestack"
        elif isinstance(record, FrameRecord) and record.status == "stacked":
            self._n_stacked += 1
            if self._n_stacked == 1:
                self._site = self._find_site(record)
        elif isinstance(record, WarningRecord) and record.kind in ("observing", "star"):
            self._tell(kind_of(record), record.message, "info" if record.kind == "star" else "warning")
        elif isinstance(record, PassageRecord) and record.kind in TOLD_PASSAGES:
            self._tell(record.kind, record.message, "info")
        elif isinstance(record, SessionStop):
            broke = record.status in ("failed", "interrupted")
            said = f"{record.status.replace('_', ' ')}: {record.reason}. {record.n_stacked} frames are stacked, "
            self._tell("end", f"{said}{record.n_refused} refused.", "failure" if broke else "success", urgent=broke)

    def look(self, now: datetime) -> None:
        """Look at what no record tells: the disk, the Moon."""
        with contextlib.suppress(OSError):
            free = free_bytes(self._output)
            if free < DISK_BYTES and not self._disk_told:
                where = f"on the disk of {self._output}"
                self._tell("disk", f"{free / 1e9:.1f} GB are left {where}; free some space", "warning")
            self._disk_told = free < DISK_BYTES
        if self._site is not None:
            up = moon_altitude_deg(now, self._site.lat_deg, self._site.lon_deg) > 0
            if up and self._moon_up is False:
                self._tell("moon", "the Moon is rising; the sky will brighten", "info")
            self._moon_up = up

    def _find_site(self, record: FrameRecord) -> Site | None:
        try:
            return site_of(read_info(self._base / record.file))
        except (FrameError, OSError):
            return None

    def _tell(self, kind: str, words: str, urgency: Urgency, urgent: bool = False) -> None:
        if not self._gate.lets_through(kind, time.monotonic(), datetime.now(), urgent):
            return
        held = ", ".join(f"{count} x {name}" for name, count in self._gate.held.most_common())
        self._gate.held.clear()
        text = clean_text(words) + (f" (Held back meanwhile: {held}.)" if held else "")
        picture = self._output / "preview.jpg"
        sent = self._send(f"livestack: {self._name}", text, urgency, picture if picture.is_file() else None)
        self.failed += not sent


def kind_of(record: WarningRecord) -> str:
    """What an alert is about, by how it begins."""
    if record.kind == "star":
        return "star"
    return next((kind for begin, kind in KINDS.items() if record.message.startswith(begin)), "other")


def by_apprise(urls: Sequence[str]) -> Send:
    """A `Send` that reaches these addresses.

    Raises
    ------
    UsageError : apprise is not installed, or does not understand one of them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # what apprise loads of other people's is not our night's
        try:
            import apprise
        except ImportError:
            raise UsageError("--notify: needs apprise; `pip install livestack[notify]` brings it.") from None
        service = apprise.Apprise()
        for url in urls:
            if not service.add(url):
                shown = url.partition("://")[0]
                raise UsageError(f"--notify {shown}://...: is no address that apprise knows; see its list of services.")

    def send(title: str, words: str, urgency: Urgency, picture: Path | None) -> bool:
        attached = None if picture is None else str(picture)
        return bool(service.notify(body=words, title=title, notify_type=urgency, attach=attached))

    return send
