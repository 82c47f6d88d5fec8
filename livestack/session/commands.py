"""What faces may ask of a session, carried out between two frames."""

from __future__ import annotations

import queue
from collections.abc import Callable

from pydantic import ValidationError

from livestack.base.errors import FrameError, NothingStacked, UsageError
from livestack.base.journal import SavingRecord, TargetRecord
from livestack.base.settings import RenderSettings
from livestack.session.parts import SessionParts
from livestack.session.snapshot import Controls, Upright
from livestack.session.stop import StopRequest

Command = Callable[[SessionParts], None]
LONGEST_NAME, LONGEST_NOTE = 80, 500
CHANGEABLE = {
    "render": tuple(name for name in RenderSettings.model_fields if name != "preview_width"),
    "save": ("final_pass", "formats", "flatten"),
}
"""Section -> settings that may change while a session runs, for they change nothing of what is stacked."""


class Commands:
    """Takes commands from any thread; the session's own carries them out."""

    def __init__(self, stop: StopRequest) -> None:
        self._stop = stop
        self._waiting: queue.Queue[Command] = queue.Queue()

    def put(self, command: Command) -> None:
        """Let a command be carried out soon."""
        self._waiting.put(command)

    def carry_out(self, parts: SessionParts) -> None:
        """Carry out what waits."""
        while True:
            try:
                command = self._waiting.get_nowait()
            except queue.Empty:
                return
            try:
                command(parts)
            except (FrameError, UsageError, NothingStacked) as error:
                parts.status.say(str(error))
                parts.status.publish()

    def controls(self) -> Controls:
        """Commands for faces; each returns at once, with a sentence."""

        def ask(command: Command, said: str) -> str:
            self.put(command)
            return said

        return Controls(
            pause=lambda: ask(lambda parts: _pause(parts, True), "Pausing after the frame in hand."),
            resume=lambda: ask(lambda parts: _pause(parts, False), "Going on."),
            save_now=lambda: ask(_save_now, "Saving the stack as it stands."),
            stop=self._end,
            new_target=lambda name: ask(
                lambda parts: _new_target(parts, _short(name)), "The next frame begins a new stack."
            ),
            set_note=lambda text: ask(
                lambda parts: parts.status.publish(note=text[:LONGEST_NOTE]), "The words are shown."
            ),
            set_object=lambda name: ask(lambda parts: _set_object(parts, _short(name)), "The name is shown."),
            set_stretch=lambda background, saturation: ask(
                lambda parts: _change(parts, "render", {"background": background, "saturation": saturation}),
                "The picture is being drawn anew.",
            ),
            show=lambda which: ask(
                lambda parts: _change(parts, "render", {"moving": which}), "The picture is being drawn anew."
            ),
            follow=lambda x, y: ask(
                lambda parts: _follow(parts, x, y), "It is followed as soon as it has moved far enough."
            ),
            change=lambda section, values: ask(
                lambda parts: _change(parts, section, dict(values)), "It holds from now on."
            ),
            set_goal=lambda name, seconds: ask(lambda parts: _set_goal(parts, name, seconds), "The goal is set."),
            remove_frame=lambda name: ask(lambda parts: _remove(parts, name), f"Taking {name} out."),
        )

    def _end(self) -> str:
        self._stop.ask("the host ended it from a screen")
        return "Finishing what is ready, then saving."


def _short(name: str) -> str:
    return name.strip()[:LONGEST_NAME]


def _pause(parts: SessionParts, paused: bool) -> None:
    parts.status.paused = paused
    parts.status.say("Paused: new frames wait." if paused else "Going on.")
    parts.status.publish()


def _new_target(parts: SessionParts, name: str) -> None:
    parts.journal.append_event(TargetRecord(name=name))
    parts.stack.start_new_target()
    parts.status.object_override = name
    parts.status.say("The next frame begins a new stack.")
    parts.status.publish()


def _set_object(parts: SessionParts, name: str) -> None:
    parts.status.object_override = name
    parts.status.publish()


def _change(parts: SessionParts, section: str, values: dict[str, object]) -> None:
    """Settings that change nothing of what is stacked."""
    allowed = CHANGEABLE.get(section, ())
    other = next((name for name in values if name not in allowed), None)
    if other is not None:
        raise UsageError(f"{section}.{other}: cannot be changed while a session runs; stop it, and begin another.")
    before = getattr(parts.settings, section)
    try:
        wanted = type(before)(**{**before.model_dump(), **values})
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{section}: {first['msg'].lower().removeprefix('value error, ')}.") from error
    parts.use(parts.settings.model_copy(update={section: wanted}))
    parts.draw_active()
    parts.status.publish()


def _set_goal(parts: SessionParts, name: str, seconds: float) -> None:
    goals = {**parts.status.goals, name[:LONGEST_NAME]: seconds}
    parts.status.goals = {key: value for key, value in goals.items() if value > 0}
    parts.status.publish()


def _remove(parts: SessionParts, name: str) -> None:
    parts.collect_checkpoint()
    group = parts.stack.remove(name)
    parts.status.say(f"{name} was taken out of {group}.")
    parts.preview.draw_group(parts.stack.groups[group])
    parts.status.publish()


def _follow(parts: SessionParts, x: float, y: float) -> None:
    group = parts.active_group()
    if group is None or group.stack is None or group.reference is None:
        raise UsageError("There is no stack yet in which anything could be followed.")
    upright = Upright.of(group.stack.canvas, group.reference.info.bottom_up)
    parts.follow(group.name, *upright.to_reference(x, y))
    parts.status.publish()


def _save_now(parts: SessionParts) -> None:
    parts.collect_checkpoint()
    parts.journal.append_event(SavingRecord(final=False))
    for group in list(parts.stack.groups.values()):
        if group.n_stacked:
            parts.save_group(group, final=False)
            parts.save_curves(group)
            parts.save_passages(group)
    parts.saver.save_products(final=False)
    parts.status.say(f"Saved to {parts.output}.")
    parts.status.publish()
