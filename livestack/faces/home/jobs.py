"""Work that takes minutes, asked for at home: `livestack enhance`, `merge` and `report`, each a process of its own.

One at a time, in the order in which they were asked for; the last sentence that the command wrote is its answer.
"""

from __future__ import annotations

import queue
import subprocess
import threading
from dataclasses import dataclass, replace
from typing import Literal

from livestack.base.errors import UsageError
from livestack.faces.program import own_command

MOST_WAITING = 8
MOST_KEPT = 20

JobState = Literal["waiting", "running", "done", "failed"]


@dataclass(frozen=True)
class Job:
    """One command, and how far it is."""

    number: int
    title: str
    words: tuple[str, ...]
    state: JobState = "waiting"
    answer: str = ""


class Jobs:
    """Runs jobs in a thread; may be asked from any."""

    def __init__(self) -> None:
        self._jobs: dict[int, Job] = {}
        self._queue: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    @property
    def listed(self) -> list[Job]:
        """The newest first."""
        return sorted(self._jobs.values(), key=lambda job: -job.number)[:MOST_KEPT]

    def ask(self, title: str, *words: str) -> Job:
        """Let a command of livestack be run.

        Raises
        ------
        UsageError : too many wait.
        """
        with self._lock:
            if sum(job.state == "waiting" for job in self._jobs.values()) >= MOST_WAITING:
                raise UsageError("Enough is waiting already; ask again when something is done.")
            job = Job(1 + max(self._jobs, default=0), title, words)
            self._jobs[job.number] = job
            self._queue.put(job.number)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="livestack-home-jobs", daemon=True)
                self._thread.start()
        return job

    def close(self) -> None:
        """End what runs."""
        self._queue.put(None)
        if self._process is not None:
            self._process.terminate()

    def _run(self) -> None:
        while (number := self._queue.get()) is not None:
            job = self._jobs[number]
            self._jobs[number] = replace(job, state="running")
            self._process = subprocess.Popen(
                own_command(*job.words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, encoding="utf-8", errors="replace",
            )  # fmt: skip
            said, _ = self._process.communicate()
            lines = [line for line in said.splitlines() if line.strip()]
            failed = self._process.returncode != 0
            answer = (lines[-1] if failed else "\n".join(lines)) if lines else ""
            self._jobs[number] = replace(job, state="failed" if failed else "done", answer=answer)
            self._process = None
