"""The end of a session: the final save, the report, and the journal's last line, whatever the end was."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from livestack.base.errors import NothingStacked, SessionError
from livestack.base.journal import SavingRecord, SessionStop
from livestack.observers.plate_solving import LAST_WAIT_S
from livestack.products.report import write_report
from livestack.session.checkpoint import FOLDER_NAME, remove_checkpoints
from livestack.session.parts import SessionParts
from livestack.session.stop import StopRequest

Status = Literal["saved", "interrupted", "failed", "nothing_stacked"]


@dataclass(frozen=True)
class SessionEnd:
    """How a session ended."""

    status: int
    message: str
    results: tuple[Path, ...] = ()


def finish(parts: SessionParts, stop: StopRequest, paths: Sequence[Path]) -> SessionEnd:
    """Save everything, unless the user wants to stop at once.

    Raises
    ------
    NothingStacked : there is nothing to save; says why.
    SessionError : disk full, or not writable.
    """
    output, status, stack, stopped = parts.output, parts.status, parts.stack, stop.aborting.is_set
    if stopped():
        _write_stop(parts, "interrupted", "stopped at once by the user", 130)
        return SessionEnd(130, f"Stopped at once; `livestack resume {output}` goes on from here.")
    parts.collect_checkpoint()
    parts.psf.collect()
    if parts.sky.asks_a_program:
        status.say(f"Asking where the pictures lie in the sky (at most {LAST_WAIT_S:g} s more).")
    parts.sky.collect()
    filled = [group for group in stack.groups.values() if group.n_stacked]
    if not filled:
        reason = _why_nothing(parts, paths)
        _write_stop(parts, "nothing_stacked", reason, 1)
        raise NothingStacked(reason)
    parts.journal.append(SavingRecord(final=True))
    stack.n_refused_elsewhere = status.n_refused - sum(group.ledger.n_refused for group in filled)
    status.publish(state="saving")
    for group in filled:
        parts.save_group(group, final=False)
        if parts.settings.save.final_pass and parts.saver.final_pass(group, status.publish, stopped):
            parts.save_group(group, final=True)
        parts.saver.save_windows(group, stopped)
        parts.save_curves(group)
        parts.save_passages(group)
    if stopped():
        _write_stop(parts, "interrupted", "stopped while saving", 130)
        said = f"Stopped; the streaming result is in {output}, `livestack resume {output}` finishes it."
        return SessionEnd(130, said, tuple(parts.saver.results))
    parts.saver.save_products(final=True)
    parts.draw_active(otherwise=filled[-1])
    _write_stop(parts, "saved", stop.why or "all frames are done", 0)
    parts.preview.close()
    for group in filled:
        group.accumulation.forget_pixels()  # all is saved: the report needs the memory
    try:
        parts.saver.results.append(write_report(output))
    except Exception as error:  # noqa: BLE001  (the stacks are saved: whatever ails the report must not hide it)
        status.say(f"{error} The stacks are saved; `livestack report` writes the report later.")
    parts.close_state()
    remove_checkpoints(output / FOLDER_NAME)
    status.say(f"Saved to {output}.")
    return SessionEnd(0, f"Saved to {output}.", tuple(parts.saver.results))


def write_failure(parts: SessionParts, error: BaseException) -> None:
    """Write down why the session broke off, if the disk still takes it."""
    if isinstance(error, NothingStacked):
        return
    with contextlib.suppress(SessionError):
        _write_stop(parts, "failed", str(error), 3)


def _why_nothing(parts: SessionParts, paths: Sequence[Path]) -> str:
    where, trend = ", ".join(str(path) for path in paths), parts.status.trend
    if not trend:
        return f"{where}: no frame was found; expected FITS, raw, TIFF, PNG, JPEG, SER or XISF; check the folder."
    why = trend[-1].message or trend[-1].reason
    return f"{where}: none of {len(trend)} frame(s) could be stacked; the last one: {why}"


def _write_stop(parts: SessionParts, status: Status, reason: str, exit_status: int) -> None:
    parts.journal.append(
        SessionStop(
            status=status, reason=reason, exit_status=exit_status, n_stacked=parts.stack.n_stacked,
            n_refused=parts.status.n_refused, results=tuple(str(path) for path in parts.saver.results),
        )
    )  # fmt: skip
