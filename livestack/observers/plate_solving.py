"""Where the stacks lie in the sky: each reference's stars are solved in the background as soon as it stands.

Faces see what was found at once. It is told, for the journal, a fixed number of frames after it was asked, so that the
same night gives the same journal; but where a program that is installed had to be asked, when that has answered.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from scipy.spatial import cKDTree

from livestack.astrometry import Catalogue, Hint, SkyMap, Solved, Solver, Unsolved
from livestack.astrometry.facts import FieldStars, SkyFacts
from livestack.astrometry.hints import hints_of, year_of
from livestack.astrometry.installed import find_solver, solve_stars
from livestack.base.errors import LivestackError
from livestack.engine.events import Event, FrameDone, FrameRefused, FrameRegistered, FrameStacked, ReferenceChanged
from livestack.engine.reference import Reference
from livestack.engine.views import StackView
from livestack.photometry.depth import Depth, Stamps, exposure_of
from livestack.registration.distortion import to_reference
from livestack.stacking.canvas import Canvas

LEAST_STARS = 3
LAST_WAIT_S = 20.0
"""At the end of a session a program that is still at work has so long."""
WAIT_FRAMES = 6
"""So many frames after it was asked an answer is told, or waited for: counted in frames, not by the clock."""
GROWN = 1.25
"""A canvas is solved anew when it has so many times the area that was solved last."""
SAME_STAR_PX = 4.0
GROWTH = 1.25
"""How faint the stack reaches is measured again when it has so many times as many frames."""


@dataclass(frozen=True, eq=False)
class _Question:
    """All that the solver is asked of a reference.

    Attributes
    ----------
    xy : (n, 2) px of the reference; flux : (n,) ADU.
    canvas : what they were found in.
    """

    xy: np.ndarray
    flux: np.ndarray
    canvas: Canvas
    hints: tuple[Hint, ...]
    year: float

    def solve(self, solver: Solver) -> Solved | Unsolved:
        """By the hints, one after the other; the map is one of the reference's pixels, whatever the canvas is."""
        canvas = self.canvas
        for hint in self.hints:
            answer = solver.solve(self._on_canvas(), self.flux, canvas.width, canvas.height, hint, self.year)
            if isinstance(answer, Solved):
                break
        return self._on_reference(answer)

    def ask_program(self, cancelled: threading.Event) -> Solved | Unsolved:
        """The same of a program that is installed, by the first hint that says where to look."""
        canvas = self.canvas
        hint = next((one for one in self.hints if one.points), self.hints[0])
        catalogue = Catalogue.load(self.year)
        answer = solve_stars(
            self._on_canvas(), self.flux, canvas.width, canvas.height, hint, catalogue, cancelled=cancelled
        )
        return self._on_reference(answer)

    def _on_canvas(self) -> np.ndarray:
        return self.xy - (self.canvas.left, self.canvas.top)

    def _on_reference(self, answer: Solved | Unsolved) -> Solved | Unsolved:
        canvas = self.canvas
        if isinstance(answer, Unsolved) or canvas == Canvas.of(*canvas.field):
            return answer
        back, (height, width) = np.linalg.inv(canvas.from_reference), canvas.field
        return replace(answer, sky=answer.sky.moved(back, width, height))


class PlateSolving:
    """Solves the plates of all groups.

    Parameters
    ----------
    enabled : else nothing is solved.
    tell : called with (group, what was found), between two frames.

    Attributes
    ----------
    found : by group.
    """

    name: ClassVar[str] = "plate solving"
    version: ClassVar[int] = 2

    def __init__(self, enabled: bool, tell: Callable[[str, Solved | Unsolved], None]) -> None:
        self.found: dict[str, Solved] = {}
        self._enabled, self._tell = enabled, tell
        self._solver = Solver()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="livestack-solve")
        self._asked: dict[str, _Question] = {}
        self._waiting: dict[str, Future[Solved | Unsolved]] = {}
        self._program = ThreadPoolExecutor(1, thread_name_prefix="livestack-solve-program")
        self._cancelled = threading.Event()
        self._programs: dict[str, Future[Solved | Unsolved]] = {}
        self._ages: dict[str, int] = {}
        self._areas: dict[str, int] = {}
        self._depths: dict[str, list[tuple[int, Depth]]] = {}
        self._measuring: tuple[str, int, Future[Depth | None]] | None = None
        self._dark: dict[str, bool] = {}

    def on_event(self, event: Event) -> None:
        """Ask when there is a reference; take over what was found."""
        if not self._enabled:
            return
        if isinstance(event, ReferenceChanged):
            self._begin(event.group, event.reference)
        elif isinstance(event, FrameRegistered):
            info, masters = event.detected.frame.info, event.detected.masters
            dark = masters is not None and masters.dark is not None
            self._dark[event.group] = dark or info.pedestal_adu is not None
        elif isinstance(event, FrameStacked | FrameRefused):
            self._grow_older()
        elif isinstance(event, FrameDone) and event.view is not None:
            self._ask_of_grown(event.view)
            self._measure(event.view)

    def state(self) -> Mapping[str, Any]:
        """What was found, and what was asked and not yet answered."""
        return {
            "found": {name: _as_plain(solved) for name, solved in self.found.items()},
            "depths": {name: [(n, vars(depth)) for n, depth in known] for name, known in self._depths.items()},
            "dark": dict(self._dark),
            "areas": dict(self._areas),
            "asked": {
                name: (
                    q.xy,
                    q.flux,
                    q.canvas,
                    [_hint_as_plain(hint) for hint in q.hints],
                    q.year,
                    self._ages[name],
                )
                for name, q in self._asked.items()
            },
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        if not self._enabled:
            return
        self.found = {str(name): _from_plain(saved) for name, saved in state["found"].items()}
        self._dark = dict(state["dark"])
        self._depths = {
            str(name): [(n, Depth(**saved)) for n, saved in known] for name, known in state["depths"].items()
        }
        self._areas = dict(state["areas"])
        for name, (xy, flux, canvas, hints, year, age) in state["asked"].items():
            asked = _Question(xy, flux, canvas, tuple(Hint(*hint) for hint in hints), year)
            self._ask(str(name), asked)
            self._ages[str(name)] = age

    def facts(self, group: str) -> SkyFacts | None:
        """Where the reference of a group lies; None while that is not known."""
        solved = self.found.get(group)
        if solved is None:
            return None
        facts = SkyFacts(solved.sky, solved.solver, solved.rms_arcsec, solved.n_matched, solved.field)
        known = self._depths.get(group)
        if not known:
            return facts
        limits = tuple((n, depth.limit_mag) for n, depth in known if depth.limit_mag is not None)
        return known[-1][1].added_to(facts, limits)

    def has_black(self, group: str) -> bool:
        """Whether the sky of a group's frames is light alone: dark, bias or black level were subtracted."""
        return self._dark.get(group, False)

    def collect(self) -> None:
        """Wait for all that was asked, and tell it; for a program that is installed no longer than `LAST_WAIT_S`."""
        self._take_depth()
        for group in tuple(self._waiting):
            self._tell_answer(group)
        wait(self._programs.values(), LAST_WAIT_S)
        self._cancelled.set()
        for group in tuple(self._programs):
            self._tell_program(group)

    @property
    def asks_a_program(self) -> bool:
        """Whether a program that is installed is at work, or may be asked yet."""
        return bool(self._asked) and find_solver() is not None

    def _grow_older(self) -> None:
        """A frame has come: tell what is due."""
        self._take_depth()
        for group in tuple(self._waiting):
            self._ages[group] += 1
            if self._ages[group] >= WAIT_FRAMES:
                self._tell_answer(group)
        for group, asked in tuple(self._programs.items()):
            if asked.done():
                self._tell_program(group)

    def _tell_answer(self, group: str) -> None:
        """What our own search found; a program that is installed is asked where it found nothing."""
        answer = self._waiting.pop(group).result()
        if isinstance(answer, Unsolved) and group not in self.found and find_solver() is not None:
            self._programs[group] = self._program.submit(self._ask_program, group, self._asked[group])
        else:
            self._close_question(group, answer)

    def _tell_program(self, group: str) -> None:
        self._close_question(group, self._programs.pop(group).result())

    def _close_question(self, group: str, solved: Solved | Unsolved) -> None:
        del self._asked[group], self._ages[group]
        if isinstance(solved, Solved) or group not in self.found:  # else a smaller canvas was solved before
            self._tell(group, solved)

    def _take_depth(self) -> None:
        if self._measuring is None:
            return
        name, n_frames, measured = self._measuring
        self._measuring = None
        depth = measured.result()
        if depth is not None and name in self.found:
            self._depths.setdefault(name, []).append((n_frames, depth))

    def close(self) -> None:
        """Ask no more."""
        self._cancelled.set()
        for pool in (self._worker, self._program):
            pool.shutdown(wait=True, cancel_futures=True)

    def _begin(self, group: str, reference: Reference) -> None:
        earlier = self.found.pop(group, None)
        self._asked.pop(group, None)
        self._waiting.pop(group, None)
        self._programs.pop(group, None)
        self._ages.pop(group, None)
        self._depths.pop(group, None)
        stars = reference.stars.stars
        if reference.starless or len(stars) < LEAST_STARS:
            return
        scale = earlier.sky.scale_arcsec if earlier is not None else self._scale_of_others()
        canvas = Canvas.of(*reference.shape)
        self._areas[group] = canvas.width * canvas.height
        self._ask(group, _question(reference, canvas, hints_of(reference.info, scale)))

    def _ask_of_grown(self, view: StackView) -> None:
        """Ask again where the canvas has grown: with more of the sky in it what was not found is, and what was, holds
        farther out."""
        canvas, reference, group = view.canvas.scaled(1.0), view.reference, view.group
        known = self._areas.get(group)
        if known is None or reference is None or not reference.patches or group in self._asked:
            return
        if canvas.width * canvas.height < GROWN * known:
            return
        self._areas[group] = canvas.width * canvas.height
        found = self.found.get(group)
        hints = hints_of(reference.info, None if found is None else found.sky.scale_arcsec)
        if found is not None:
            middle = found.sky.to_sky(np.array([_middle(canvas)]))[0]
            hints = [Hint(float(middle[0]), float(middle[1]), found.sky.scale_arcsec, sure=True)]
        self._ask(group, _question(reference, canvas, hints))

    def _measure(self, view: StackView) -> None:
        """Measure how faint a stack reaches, in the background, from stamps that are cut out here."""
        solved, reference = self.found.get(view.group), view.reference
        if solved is None or reference is None or self._measuring is not None:
            return
        known = self._depths.get(view.group)
        fwhm = reference.stars.stars.fwhm_px
        if fwhm is None or (known and view.n_stacked < GROWTH * known[-1][0]):
            return
        sky = solved.sky.moved(view.canvas.from_reference, view.canvas.width, view.canvas.height)
        stamps = Stamps.cut(view.image, view.shape, sky, solved.field, fwhm)
        task = self._worker.submit(
            stamps.measure, sky.scale_arcsec, exposure_of(reference.info), reference.info.saturation_adu,
            self.has_black(view.group),
        )  # fmt: skip
        self._measuring = (view.group, view.n_stacked, task)

    def _scale_of_others(self) -> float | None:
        """The scale of what was solved last: the same camera, most likely."""
        return next((one.sky.scale_arcsec for one in reversed(self.found.values())), None)

    def _ask(self, group: str, asked: _Question) -> None:
        self._asked[group], self._ages[group] = asked, 0
        self._waiting[group] = self._worker.submit(self._answer, group, asked)

    def _answer(self, group: str, asked: _Question) -> Solved | Unsolved:
        try:
            return self._keep(group, asked, asked.solve(self._solver))
        except LivestackError as error:
            return Unsolved(f"not solved: {error}")
        finally:
            self._solver.release()

    def _ask_program(self, group: str, asked: _Question) -> Solved | Unsolved:
        try:
            return self._keep(group, asked, asked.ask_program(self._cancelled))
        except LivestackError as error:
            return Unsolved(f"not solved: {error}")

    def _keep(self, group: str, asked: _Question, answer: Solved | Unsolved) -> Solved | Unsolved:
        if isinstance(answer, Solved) and self._asked.get(group) is asked:  # else another reference has come
            self.found[group] = answer
        return answer


def _middle(canvas: Canvas) -> tuple[float, float]:
    return canvas.left + (canvas.width - 1) / 2, canvas.top + (canvas.height - 1) / 2


def _question(reference: Reference, canvas: Canvas, hints: Sequence[Hint]) -> _Question:
    """What is asked of a reference and its patches, each star once."""
    stars = reference.stars.stars
    xy, flux = stars.xy, stars.flux
    for patch in reference.patches:
        places = to_reference(patch.matrix, patch.distortion, patch.stars.stars.xy)
        away, _ = cKDTree(xy).query(places)
        new = away > SAME_STAR_PX
        xy = np.concatenate([xy, places[new]])
        flux = np.concatenate([flux, patch.stars.stars.flux[new] * patch.ratio])
    return _Question(xy, flux, canvas, tuple(hints), year_of(reference.info.date_obs))


def _hint_as_plain(hint: Hint) -> tuple[float | None, float | None, float | None, bool, str]:
    return hint.ra_deg, hint.dec_deg, hint.scale_arcsec, hint.sure, hint.whence


def _as_plain(solved: Solved) -> dict[str, Any]:
    return {**vars(solved), "sky": dict(vars(solved.sky)), "field": dict(vars(solved.field))}


def _from_plain(saved: Mapping[str, Any]) -> Solved:
    return Solved(**{**saved, "sky": SkyMap(**saved["sky"]), "field": FieldStars(**saved["field"])})
