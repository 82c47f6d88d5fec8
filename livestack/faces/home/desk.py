"""What home can be asked: folders, settings, the doctor, past sessions; and what it can do. No web in it.

Each answer is plain JSON values; each action takes what the page sent and returns a sentence.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2

from livestack.base.errors import UsageError
from livestack.base.settings import Settings
from livestack.base.text import clean_text
from livestack.faces.home.form import make_form, read_wishes
from livestack.faces.home.gallery import Gallery, PastSession
from livestack.faces.home.jobs import Jobs
from livestack.faces.home.memory import Memory
from livestack.faces.home.presets import PRESETS, find_preset
from livestack.faces.home.roots import Roots
from livestack.faces.home.runner import Runner
from livestack.faces.home.survey import list_folder, masters_in, survey
from livestack.session.resume import read_interrupted, settings_of
from livestack.session.session import default_output

THUMBNAIL_SIDE = 640
MOST_MERGED = 12


class Desk:
    """Puts home's parts together.

    Parameters
    ----------
    roots : what may be seen; runner : runs the session; memory : what is remembered.
    host, port : where home itself is served, for the doctor.
    """

    def __init__(self, roots: Roots, runner: Runner, memory: Memory, host: str = "127.0.0.1", port: int = 0) -> None:
        self.roots, self.runner, self.memory = roots, runner, memory
        self.jobs, self.gallery = Jobs(), Gallery()
        self._host, self._port = host, port
        self._after: tuple[str, Path] | None = None
        self.actions: Mapping[str, Callable[[dict[str, Any]], str]] = {
            "start": self._start, "stop": lambda _: runner.stop(), "kill": lambda _: runner.kill(),
            "resume": self._resume, "merge": self._merge, "enhance": self._enhance, "report": self._report,
            "forget": self._forget,
        }  # fmt: skip

    # --- questions -------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What changes while home is open: the session, the jobs, recent folders."""
        latest = self.runner.latest
        self._merge_after()
        return {
            "session": None if latest is None else {
                "folder": latest.folder, "output": latest.output, "since": latest.since, "running": not latest.is_over,
                "reachable": latest.port is not None, "status": latest.status, "message": clean_text(latest.message),
            },
            "jobs": [{"number": j.number, "title": j.title, "state": j.state, "answer": j.answer}
                     for j in self.jobs.listed],
            "recent": [path for path in self.memory.recent() if self._may_see(path)],
            "join": self.runner.join_url,
        }  # fmt: skip

    def folder(self, asked: str | None) -> dict[str, Any]:
        """What a folder holds; None: the roots."""
        roots = [
            {"name": root.name, "path": str(root.path), "writable": os.access(root.path, os.W_OK)}
            for root in self.roots.roots
        ]
        if not asked:
            return {"path": None, "above": None, "roots": roots, "folders": []}
        path = self.roots.admit(asked)
        above = self.roots.above(path)
        listed = [one for one in list_folder(path) if self._may_see(one["path"])]
        return {"path": str(path), "above": None if above is None else str(above), "roots": roots, "folders": listed}

    def survey(self, asked: str | None) -> dict[str, Any]:
        """What a session on a folder would find."""
        path = self.roots.admit(asked)
        found, running = survey(path), self._running()
        sessions = [one.brief() for one in self.gallery.look([path]) if str(one.path) != running]
        if found.get("unfinished") == running:
            found["unfinished"] = None
        return {**found, "sessions": sessions}

    def form(self) -> dict[str, Any]:
        """Settings and presets."""
        return {"sections": make_form(), "presets": [asdict(preset) for preset in PRESETS]}

    def doctor(self, asked: str | None) -> list[dict[str, str]]:
        """The doctor's findings; home's own port is its own."""
        from livestack.session.doctor import examine

        folder = self.roots.admit(asked) if asked else None
        checks = examine(folder, None, "127.0.0.1", 0)
        return [asdict(check) for check in checks if check.name not in ("web view", "window")]

    def past(self) -> list[dict[str, Any]]:
        """Past sessions below the folders that are known."""
        folders = [Path(path) for path in self.memory.recent() if self._may_see(path)]
        outputs = [Path(path) for path in self.memory.outputs() if self._may_see(path)]
        running = self._running()
        given = [root.path for root in self.roots.roots if root.path != Path.home()]
        found = self.gallery.look([*folders, *given], outputs)
        return [one.brief() for one in found if str(one.path) != running]

    def one(self, key: str) -> dict[str, Any]:
        """All of one past session.

        Raises
        ------
        UsageError : there is none of that name.
        """
        return self._session(key).full()

    def thumbnail(self, key: str) -> bytes | None:
        """The newest picture of a past session as a small JPEG."""
        found = self.gallery.find(key)
        picture = cv2.imread(os.fspath(found.path / "preview.jpg")) if found is not None else None
        if picture is None:
            return None
        scale = min(1.0, THUMBNAIL_SIDE / max(picture.shape[:2]))
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        return bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 82])[1])

    def file(self, key: str, number: int) -> Path | None:
        """A file of a past session; None where there is none."""
        found = self.gallery.find(key)
        files = found.files() if found is not None else []
        return found.path / files[number] if found is not None and 0 <= number < len(files) else None

    def report(self, key: str) -> Path | None:
        """The report of a past session."""
        found = self.gallery.find(key)
        path = found.path / "report.html" if found is not None else None
        return path if path is not None and path.is_file() else None

    # --- what is to be done ----------------------------------------------------------------------------------------

    def _start(self, asked: dict[str, Any]) -> str:
        folder = self.roots.admit(asked.get("folder"))
        if not folder.is_dir():
            raise UsageError(f"{folder}: is no folder.")
        changes = {name: dict(fields) for name, fields in find_preset(str(asked.get("preset", ""))).changes.items()}
        masters = asked.get("masters")
        if masters:
            place = self.roots.admit(masters)
            if not masters_in(place):
                raise UsageError(f"{place}: holds no masters; build some with `livestack masters`.")
            changes.setdefault("calibration", {})["masters"] = str(place)
        goes_on = None
        if asked.get("on"):
            goes_on = self._stack_of(self._session(str(asked["on"])), asked.get("group"))
            changes.setdefault("registration", {})["reference"] = str(goes_on)
        settings = read_wishes(changes, asked.get("settings", {}), self.roots)
        output = self.roots.admit(asked["output"]) / default_output([folder]).name if asked.get("output") else None
        place = output or default_output([folder])
        settings = self._saved_at(settings, place)
        self.runner.begin([folder], settings, place, one_shot=bool(asked.get("once")))
        self._after = None if goes_on is None else (str(place), goes_on)
        self.memory.remember(folder, place)
        return "The session is running."

    def _resume(self, asked: dict[str, Any]) -> str:
        session = self._session(str(asked.get("key")))
        interrupted = read_interrupted(session.path)
        for folder in interrupted.folders:
            self.roots.admit(str(folder))
        face = {name: field.default for name, field in type(Settings().face).model_fields.items()}
        changes = {"face": face, "ingest": {"idle_stop_s": None, "max_frames": None}}
        settings = settings_of(interrupted.start, session.path, changes)
        self.runner.begin(interrupted.folders, settings, session.path, interrupted.start.one_shot, resumed=True)
        self.memory.remember(interrupted.folders[0], session.path)
        return "The session goes on."

    def _merge(self, asked: dict[str, Any]) -> str:
        keys = asked.get("keys")
        if not isinstance(keys, list) or not 2 <= len(keys) <= MOST_MERGED:
            raise UsageError(f"Choose from 2 to {MOST_MERGED} sessions to merge.")
        stacks = [self._stack_of(self._session(str(key)), None) for key in keys]
        self.jobs.ask(f"Merging {len(stacks)} nights", "merge", *map(str, stacks))
        return "Merging; the result lies beside the first stack."

    def _enhance(self, asked: dict[str, Any]) -> str:
        stack = self._stack_of(self._session(str(asked.get("key"))), asked.get("group"))
        self.jobs.ask(f"Enhancing {stack.parent.name}", "enhance", str(stack))
        return "Enhancing; before and after appear here when it is done."

    def _report(self, asked: dict[str, Any]) -> str:
        session = self._session(str(asked.get("key")))
        self.jobs.ask(f"Report of {session.path.name}", "report", str(session.path))
        return "The report is being written."

    def _forget(self, asked: dict[str, Any]) -> str:
        self.memory.forget(str(asked.get("folder")))
        return "Not offered any more; nothing was deleted."

    def _merge_after(self) -> None:
        """When a session that went on with another night has saved its stack, add that night to it."""
        latest, after = self.runner.latest, self._after
        if after is None or latest is None or not latest.is_over or latest.output != after[0]:
            return
        self._after = None
        session = self.gallery.read(Path(after[0]))
        if latest.status == 0 and session is not None:
            self.jobs.ask("Adding the night before", "merge", str(self._stack_of(session, None)), str(after[1]))

    def _running(self) -> str | None:
        """The folder of the session that runs."""
        latest = self.runner.latest
        return latest.output if latest is not None and not latest.is_over else None

    def _session(self, key: str) -> PastSession:
        found = self.gallery.find(key)
        if found is None:
            raise UsageError("There is no such session; look at the gallery again.")
        return found

    @staticmethod
    def _stack_of(session: PastSession, group: object) -> Path:
        """The stack that is meant: of a group, or the one with the most light."""
        groups = sorted(session.targets, key=lambda name: -session.targets[name][3])
        wanted = [name for name in groups if name == group] if group else groups
        for name in wanted:
            if (session.path / name / "stack.fits").is_file():
                return session.path / name / "stack.fits"
        raise UsageError(f"{session.path.name}: holds no stack.")

    @staticmethod
    def _saved_at(settings: Settings, output: Path) -> Settings:
        return settings.model_copy(update={"save": settings.save.model_copy(update={"output": output})})

    def _may_see(self, path: str) -> bool:
        try:
            self.roots.admit(path)
        except UsageError:
            return False
        return True
