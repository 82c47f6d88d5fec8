"""What a frame's header says of where it points: hints for the solver, likeliest first."""

from __future__ import annotations

from datetime import UTC, datetime

from livestack.astrometry.objects import place_of
from livestack.astrometry.solver import Hint
from livestack.base.frame import FrameInfo

HOURS = 24.0


def hints_of(info: FrameInfo, known_scale: float | None = None) -> list[Hint]:
    """Hints of a header.

    Parameters
    ----------
    known_scale : arcseconds a pixel of the same camera as it was solved before; it is believed first.
    """
    ra, dec, scale = info.ra_deg, info.dec_deg, info.scale_arcsec_px
    hints = []
    if known_scale is not None and ra is not None:
        hints.append(Hint(ra, dec, known_scale, sure=True))
    named = place_of(info.object_name) if ra is None and info.object_name else None
    if named is not None:
        hints.append(Hint(*named, scale or known_scale, whence=f"{info.object_name}, which the header names"))
    else:
        hints.append(Hint(ra, dec, scale))
    plain = not any(keyword == "OBJCTRA" or str(keyword).startswith("CRVAL") for keyword, _, _ in info.cards)
    if ra is not None and scale is not None and ra < HOURS and plain:
        hints.append(Hint(ra * 15.0, dec, scale))  # some programs write hours into RA
    return hints


def year_of(date: datetime | None) -> float:
    """Julian year; of now where a frame has no date."""
    moment = date or datetime.now(UTC)
    return 2000.0 + (moment.timestamp() - 946_728_000.0) / 31_557_600.0
