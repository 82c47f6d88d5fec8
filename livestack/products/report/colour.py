"""The report's first view of a target that was stacked through several filters: the colour picture."""

from __future__ import annotations

from html import escape

import numpy as np
from astropy.io import fits

from livestack.base.settings import RenderSettings
from livestack.base.text import say_duration
from livestack.picture import measure_look, render
from livestack.products.report.gather import Night
from livestack.products.report.page import picture
from livestack.products.report.pictures import STACK_SIDE, jpeg_address

NARROWBAND_CARDS = ("EXPTHA", "EXPTHB", "EXPTOIII", "EXPTSII", "EXPTNII")


def colour_chapter(night: Night, notices: list[str]) -> str:
    """Every composite of the session as a picture with its filters; "" where there is none.

    A file that cannot be read costs a sentence in `notices`.
    """
    parts = []
    for path in sorted(night.folder.glob("*/composite.fits")):
        try:
            with fits.open(path, memmap=False) as hdus:
                header, planes = hdus[0].header, np.ascontiguousarray(hdus[0].data, dtype=np.float32)
            rgb = _draw(planes, header, night.settings.render)
        except (OSError, ValueError, TypeError) as error:
            notices.append(f"{path.parent.name}/composite.fits cannot be read ({error}); the report does without it.")
            continue
        target = str(header.get("OBJECT", "") or path.parent.name)
        filters = ", ".join(
            f"{_filter_word(key)} {say_duration(float(header[key]))}"
            for key in header
            if key.startswith("EXPT") and key != "EXPTOTAL"
        )
        words = f"{header.get('PALETTE', '')} of {filters}"
        parts.append(f"<h2>{escape(target)} in colour</h2>" + picture(jpeg_address(rgb), f"{target}: {words}", words))
    return "".join(f"<section>{part}</section>" for part in parts)


def _filter_word(key: str) -> str:
    word = key.removeprefix("EXPT")
    return {"HA": "Ha", "HB": "Hb", "RGB": "colour"}.get(word, word)


def _draw(planes: np.ndarray, header: fits.Header, settings: RenderSettings) -> np.ndarray:
    """(h, w, 3) uint8; the balance of narrowband colours is part of the palette."""
    if any(card in header for card in NARROWBAND_CARDS) and header.get("PALETTE") not in ("RGB", "LRGB"):
        settings = settings.model_copy(update={"white_balance": "none"})
    look = measure_look(planes, settings)
    return render(planes, look, STACK_SIDE, bottom_up=header.get("ROWORDER") == "BOTTOM-UP").rgb
