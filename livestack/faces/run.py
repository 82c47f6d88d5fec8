"""Running a session with its faces: what `watch`, `stack` and `demo` have in common.

Signals, the dashboard or JSON lines, the web view and the window are put together here; the work is `session`'s.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from livestack.base.configuration import OPTIONS, load_settings
from livestack.base.journal import Record
from livestack.base.settings import Settings
from livestack.faces.program import own_command
from livestack.faces.terminal import Dashboard
from livestack.session.resume import find_unfinished, read_interrupted, settings_of, stacked_without
from livestack.session.session import Session, SessionEnd, default_output

if TYPE_CHECKING:
    from livestack.faces.notify import Notifier

HARD_STOP_S = 5.0


def run(paths: Sequence[Path], options: dict[str, Any], one_shot: bool) -> int:
    """Run a session over `paths` with command-line `options`; the exit status."""
    settings = load_settings(options.pop("config", None), options)
    output = settings.save.output or default_output(paths)
    unfinished = None if one_shot else find_unfinished(Path(paths[0]))
    if unfinished is not None:
        print(
            f"{unfinished}: an earlier session here broke off; `livestack resume {unfinished}` continues it. "
            "This one begins anew.",
            file=sys.stderr,
        )
    return run_session(*open_session(paths, settings, output, one_shot))


def resume(output: Path, options: dict[str, Any]) -> int:
    """Go on with the interrupted session whose folder `output` is; the exit status.

    Parameters
    ----------
    options : of the command line; they replace what the session was begun with.
    """
    interrupted = read_interrupted(output)
    changes: dict[str, dict[str, Any]] = {"face": {}, "ingest": {}}
    # how it shows itself, and when it ends by itself, is not carried over from another evening's command line
    changes["face"] = {name: field.default for name, field in type(Settings().face).model_fields.items()}
    changes["ingest"] = {"idle_stop_s": None, "max_frames": None}
    for name, value in options.items():
        section, field = OPTIONS[name]
        changes.setdefault(section, {})[field] = value
    settings = settings_of(interrupted.start, output, changes)
    return run_session(*open_session(interrupted.folders, settings, output, interrupted.start.one_shot, resumed=True))


def remove(session_folder: Path, unwanted: Sequence[str], output: Path | None) -> int:
    """Stack a session's frames once more without some of them, beside it; the exit status.

    The session itself stays as it is: its settings, and the files that it stacked, make the new one.
    """
    start, files = stacked_without(session_folder, unwanted)
    place = output or session_folder.with_name(f"{session_folder.name}-without-{len(unwanted)}")
    changes: dict[str, dict[str, Any]] = {"ingest": {"max_frames": None, "existing": True}}
    changes["face"] = {name: field.default for name, field in type(Settings().face).model_fields.items()}
    settings = settings_of(start, place, changes)
    return run_session(Session(files, settings, place, one_shot=True), settings)


def open_session(
    paths: Sequence[Path], settings: Settings, output: Path, one_shot: bool = False, resumed: bool = False,
    prints: bool = True,
) -> tuple[Session, Settings, Notifier | None]:  # fmt: skip
    """A session whose records go where the settings say; with what `run_session` needs besides.

    Parameters
    ----------
    prints : records go to stdout, where the settings ask for that.

    Raises
    ------
    UsageError : as `Session`; or somebody shall be told who cannot be.
    """
    notifier = None
    hearers: list[Callable[[Record], None]] = [print_record] if prints and settings.face.json_events else []
    if settings.notify.urls:
        from livestack.faces.notify import Notifier

        notifier = Notifier(settings.notify, output)
        hearers.append(notifier.hear)

    def tell(record: Record) -> None:
        for hearer in hearers:
            hearer(record)

    session = Session(paths, settings, output, one_shot, tell=tell if hearers else None, resumed=resumed)
    return session, settings, notifier


def print_record(record: Record) -> None:
    """One event as a line of JSON on stdout."""
    write_out(record.to_line().decode())


def write_out(text: str) -> None:
    """Write to stdout. A reader that has gone, or a full disk behind it, ends the telling and not the night."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        with suppress(OSError):
            print(
                f"livestack: stdout: nobody reads it any more ({error.strerror}); the session goes on without, "
                "its journal has everything.",
                file=sys.stderr,
            )


def run_session(session: Session, settings: Settings, notifier: Notifier | None = None) -> int:
    """Run a session with the faces that the settings ask for, and say how it ended; the exit status."""
    end = run_with_faces(session, settings, notifier)
    if not settings.face.json_events:
        write_out("".join(f"{line}\n" for line in (end.message, *(f"  {path}" for path in end.results))))
    elif end.status == 130:
        print(f"livestack: {end.message}", file=sys.stderr)
    return end.status


def run_with_faces(session: Session, settings: Settings, notifier: Notifier | None = None) -> SessionEnd:
    """Run a session with the faces that the settings ask for."""
    with ExitStack() as faces, signals_to(session):
        if notifier is not None:
            notifier.start()
            faces.callback(notifier.stop)
        if not settings.face.json_events:
            faces.enter_context(Dashboard(session.slot))
        if settings.face.web:
            start_web(session, settings, faces)
        if settings.save.publish is not None:
            from livestack.faces.web.publish import Publisher

            publisher = Publisher(session.slot, settings.save.publish)
            publisher.start()
            faces.callback(publisher.stop)
        film = None
        if settings.save.timelapse:
            from livestack.faces.timelapse import Timelapse

            film = Timelapse(session.slot)
            film.start()
        end = run_with_window(session) if settings.face.window else session.run()
        if film is not None:
            film.stop()
            if end.status == 0:
                film.write(session.output / "timelapse.mp4")
    return end


def start_web(session: Session, settings: Settings, faces: ExitStack) -> None:
    """Serve the web view and say where."""
    from livestack.faces.web.server import WebServer, find_lan_address, qr_text

    server = WebServer(session.slot, session.controls(), settings.face.host, settings.face.port)
    server.start()
    faces.callback(server.stop)
    console = Console(stderr=True)
    console.print(f"Public page: {server.public_url}", highlight=False)
    console.print(qr_text(server.public_url), highlight=False)
    if server.is_open:
        from livestack.faces.web.network_name import announce

        name = announce(find_lan_address(), server.port)
        if name is not None:
            faces.callback(name.close)
            console.print(f"Also: {name.url}", highlight=False)
    console.print(f"Host page (keep it to yourself): {server.host_url}", highlight=False, soft_wrap=True)


def run_with_window(session: Session) -> SessionEnd:
    """The session in a thread, the window in this one: GUI toolkits insist on it."""
    from livestack.faces.desktop import run_window

    ends: list[SessionEnd | BaseException] = []

    def work() -> None:
        try:
            ends.append(session.run())
        except BaseException as error:  # noqa: BLE001  (raised again below)
            ends.append(error)

    worker = threading.Thread(target=work, name="livestack-session")
    worker.start()
    try:
        run_window(session.slot, session.controls())
    finally:
        while worker.is_alive():
            worker.join(0.2)  # in short steps, so that signals get through
    end = ends[0]
    if isinstance(end, BaseException):
        raise end
    return end


@contextmanager
def signals_to(session: Session) -> Iterator[None]:
    """First Ctrl-C or SIGTERM, or the terminal closed: finish and save. Second: stop at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    asked: queue.SimpleQueue[str] = queue.SimpleQueue()

    def carry_out() -> None:
        while (word := asked.get()) != "end":
            if word == "hangup" and session.stop_request.stopping.is_set():
                continue  # a closing terminal may say so more than once
            session.stop()
            if word == "stop" and session.stop_request.aborting.is_set():
                # whatever step is under way: the disk holds all that is needed to go on
                timer = threading.Timer(HARD_STOP_S, os._exit, (130,))
                timer.daemon = True
                timer.start()

    # A handler interrupts whatever the main thread does, perhaps with the lock of the very event that is to be set: it
    # only leaves word, and another thread does what is asked.
    threading.Thread(target=carry_out, daemon=True, name="livestack-signals").start()

    def handle(number: int, frame: object) -> None:
        asked.put("stop")

    def handle_hangup(number: int, frame: object) -> None:
        asked.put("hangup")

    before: list[tuple[int, Callable[..., object] | int | None]] = []
    for wanted in (signal.SIGINT, signal.SIGTERM):
        before.append((wanted, signal.signal(wanted, handle)))
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:  # nohup asked to outlive the terminal
        before.append((hangup, signal.signal(hangup, handle_hangup)))
    try:
        yield
    finally:
        for number, old in before:
            signal.signal(number, old)
        asked.put("end")


def run_demo(frames: int, pace: float, output: Path | None, options: dict[str, Any]) -> int:
    """A simulated camera in a process of its own, a live session beside it."""
    home = output or Path(tempfile.mkdtemp(prefix="livestack-demo-"))
    lights = home / "lights"
    lights.mkdir(parents=True, exist_ok=True)
    command = own_command(
        "simulate", str(lights), "--scenario", "everything", "--frames", str(frames), "--size", "960x640",
        "--pace", str(pace), "--format", "fits",
    )  # fmt: skip
    print(f"A simulated camera writes {frames} frames into {lights}; the session watches it.", flush=True)
    camera = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    chosen = {name: value for name, value in options.items() if value is not None}
    try:
        # it compiles its own loops first, slowly beside other work: its silence is no end of the night
        while camera.poll() is None and not any(lights.glob("*.fits")):
            time.sleep(0.1)
        settings = load_settings(None, {**chosen, "idle_stop": max(15.0, 4 * pace), "output": home / "session"})
        session = Session([lights], settings, home / "session")
        status = run_session(session, settings)
    finally:
        camera.terminate()
        camera.wait()
    if status == 0:
        for picture in sorted((home / "session").glob("*/stack.png")):
            print(f"The picture: {picture}")
    return status
