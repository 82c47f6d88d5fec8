"""From files and programs to detected frames: the settings' Bayer pattern, the masters that fit, reading again.

Knows no other frame and no group; `prepare` may run in another thread than the stacking.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from livestack.base.errors import FrameError, MasterError, UnreadableFrame, UsageError
from livestack.base.frame import Frame, FrameInfo, say_mosaic, with_bayer
from livestack.base.settings import Settings
from livestack.calibration.binned_mosaic import is_mosaic_still
from livestack.calibration.calibrate import MatchedMasters
from livestack.calibration.turned_mosaic import cell_colours, turned_pattern
from livestack.engine.ledger import Member
from livestack.engine.prepare import calibrate, prepare
from livestack.engine.states import Calibrated, Detected, Outcome
from livestack.formats import read_frame
from livestack.kernels.bands import Bands
from livestack.quality import refuse

if TYPE_CHECKING:
    from livestack.calibration.masters import MasterLibrary

XTRANS_TOLD = (
    "the headers say that the frames have an X-Trans mosaic, 6 x 6: they are stacked in colour, each colour averaged "
    "from its own pixels nearby, with the finest detail that green shows."
)


def slug(text: str) -> str:
    """A folder name that every file system accepts: "M 27" -> "m-27", "Hα" -> "ha"."""
    greek = text.replace("α", "a").replace("β", "b").replace("γ", "g")
    plain = unicodedata.normalize("NFKD", greek).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


def group_name(info: FrameInfo) -> str:
    """The group that a frame belongs to by its header: object and filter, or "stack" when it names neither."""
    words = [slug(part) for part in (info.object_name, info.filter_name) if part]
    return "-".join(word for word in words if word) or "stack"


class Intake:
    """Makes frames ready for the stack.

    Parameters
    ----------
    masters : library of master frames, or None.
    notice : told each sentence once, from whatever thread.
    """

    def __init__(
        self, settings: Settings, masters: MasterLibrary | None, bands: Bands, notice: Callable[[str], None]
    ) -> None:
        self._settings, self._masters, self._bands, self._notice = settings, masters, bands, notice
        self._matches: dict[tuple[object, ...], MatchedMasters] = {}
        self.told: set[str] = set()
        """Sentences that were told already."""
        self.mosaics: dict[tuple[object, ...], bool] = {}
        """Of a binned camera that names a mosaic: whether its frames are one."""
        self.red_blue: dict[tuple[object, ...], float] = {}
        """Of a camera: by how much red is above blue in the first frame that bore its mosaic out, ADU."""

    def prepare(self, frame: Frame) -> Detected | Outcome:
        """Calibrate and measure a frame; the outcome says why where its masters do not fit."""
        frame = self.as_told(frame)
        try:
            return prepare(frame, self._match(frame.info), self._settings, self._bands)
        except MasterError as error:
            verdict = refuse("master", detail=str(error))
            info = frame.info
            return Outcome(
                frame.name, frame.path, frame.index, group_name(info), "refused", verdict.reason,
                f"{frame.name}: {verdict.message}", exposure_s=info.exposure_s, date_obs=info.date_obs,
            )  # fmt: skip

    def prepare_again(self, member: Member) -> Detected:
        """Read a frame again and prepare it.

        Raises
        ------
        FrameError : it cannot be read any more.
        """
        if member.path is None:
            raise UnreadableFrame(f"{member.name}: has no file to read it from again.")
        prepared = self.prepare(read_frame(member.path, member.index))
        if isinstance(prepared, Outcome):
            raise UnreadableFrame(prepared.message)
        return prepared

    def calibrate(self, frame: Frame) -> Calibrated:
        """Calibrate only: for a frame whose place in the stack is known already."""
        frame = self.as_told(frame)
        return calibrate(frame, self._match(frame.info), self._settings, self._bands)

    def calibrate_again(self, member: Member) -> Calibrated:
        """Read a member's file again and calibrate it.

        Raises
        ------
        FrameError : it cannot be read any more.
        """
        if member.path is None:
            raise UnreadableFrame(f"{member.name}: has no file to read it from again; its streaming result stays.")
        return self.calibrate(read_frame(member.path, member.index))

    def as_told(self, frame: Frame) -> Frame:
        """The frame with the Bayer pattern of the settings, which corrects the header's; else that of its content."""
        told = with_bayer(frame, self._settings.calibration.bayer)
        if told is not frame:
            theirs = say_mosaic(frame.info) or "no Bayer pattern"
            taken = told.info.bayer or "mono"
            self.tell(f"the headers say {theirs}; the frames are taken for {taken}, as --bayer says.")
        if self._settings.calibration.bayer is None:
            told = self._as_turned(self._as_seen(told))
        if told.info.xtrans is not None:
            self.tell(XTRANS_TOLD)
        return told

    def _as_seen(self, frame: Frame) -> Frame:
        """The frame without its mosaic, where the camera has binned the colours together; decided once for a camera."""
        info = frame.info
        if info.bayer is None or frame.is_colour or max(info.binning) < 2:
            return frame
        key = (info.size, info.bayer, info.binning, info.camera)
        if key not in self.mosaics:
            still = is_mosaic_still(frame.data, info.bayer, info.saturation_adu)
            if still is None:  # a blank frame: the header counts until one shows more
                return frame
            self.mosaics[key] = still
        said = f"the headers say {info.bayer}, binned {info.binning[0]} x {info.binning[1]}; "
        if self.mosaics[key]:
            self.tell(f"{said}the colours differ, so the frames are a mosaic still and stacked in colour.")
            return frame
        said += "all four pixels see the same, so the colours were summed and the frames are taken for mono"
        self.tell(f"{said} (--bayer {info.bayer} if they are not).")
        return replace(frame, info=replace(info, bayer=None, oddities=(*info.oddities, said)))

    def _as_turned(self, frame: Frame) -> Frame:
        """The frame with the mosaic that it shows, where its read-out was flipped and the header did not follow."""
        info = frame.info
        if info.bayer is None or frame.is_colour:
            return frame
        colours = cell_colours(frame.data)
        if colours is None:
            return frame
        key = (info.camera, info.binning, info.bayer)
        if key not in self.red_blue:
            if colours.bears_out(info.bayer):
                self.red_blue[key] = colours.apart(info.bayer)[1]
            return frame
        pattern = turned_pattern(info.bayer, self.red_blue[key], colours)
        if pattern is None:
            return frame
        said = (
            f"the header says {info.bayer} still, the colours {pattern}: read out flipped, or cut out at other pixels"
        )
        self.tell(f"some frames have changed: {said}; they are taken for {pattern} (--bayer {info.bayer} if not).")
        return replace(frame, info=replace(info, bayer=pattern, oddities=(*info.oddities, said)))

    @cached_property
    def chosen(self) -> Detected | None:
        """The frame that the user wants everything registered to.

        Raises
        ------
        UsageError : it cannot be read.
        """
        path = self._settings.registration.reference
        if path is None:
            return None
        try:
            frame = self.as_told(read_frame(path))
            return prepare(frame, self._match(frame.info), self._settings, self._bands)
        except FrameError as error:
            raise UsageError(f"--reference: {error}") from error

    def _match(self, info: FrameInfo) -> MatchedMasters | None:
        if self._masters is None:
            return None
        key = (
            info.size, info.mosaic, info.binning, info.gain, info.offset, info.filter_name, info.exposure_s,
            None if info.temperature_c is None else round(info.temperature_c, 1), info.camera,
        )  # fmt: skip
        if key not in self._matches:
            self._matches[key] = self._masters.match(info)
            for sentence in self._matches[key].missing:
                self.tell(sentence)
        return self._matches[key]

    def tell(self, sentence: str) -> None:
        """Say a sentence, unless it was said before."""
        if sentence not in self.told:
            self.told.add(sentence)
            self._notice(sentence)
