"""What we understood of a frame, in words: the rows that `livestack info` shows."""

from __future__ import annotations

from collections.abc import Iterator

from livestack.base.frame import FrameInfo, say_mosaic


def describe_info(info: FrameInfo, frames: int = 1) -> list[tuple[str, str]]:
    """(name, what the file says) for everything that the file told; what it left out is left out here too."""
    return [(name, words) for name, words in _rows(info, frames) if words]


def _rows(info: FrameInfo, frames: int) -> Iterator[tuple[str, str]]:
    mosaic = say_mosaic(info)
    kind = "colour" if info.planes == 3 else f"mosaic {mosaic}" if mosaic else "mono"
    yield "picture", f"{info.width} x {info.height}, {kind}, {info.bits} bit"
    yield "frames in the file", str(frames) if frames > 1 else ""
    yield "kind", f"{'master ' if info.is_master else ''}{info.kind}"
    yield "first row", "bottom of the picture" if info.bottom_up else ""
    yield "object", info.object_name or ""
    yield "filter", info.filter_name or ""
    yield "exposure", _number(info.exposure_s, "s")
    yield "start", info.date_obs.isoformat(sep=" ").replace("+00:00", " UTC") if info.date_obs else ""
    yield "camera", info.camera or ""
    yield "telescope", info.telescope or ""
    yield "gain", _number(info.gain)
    yield "offset", _number(info.offset)
    yield "temperature", _number(info.temperature_c, "°C")
    yield "binning", "" if info.binning == (1, 1) else f"{info.binning[0]} x {info.binning[1]}"
    yield "saturation", _number(info.saturation_adu, "ADU")
    yield "pedestal", _number(info.pedestal_adu, "ADU")
    yield "pixel", _number(info.pixel_um, "µm")
    yield "focal length", _number(info.focal_mm, "mm")
    yield "sampling", _number(info.scale_arcsec_px, "arcsec/px")
    if info.ra_deg is not None and info.dec_deg is not None:
        yield "pointing", f"RA {info.ra_deg:.4f}°, Dec {info.dec_deg:+.4f}°"
    yield "cards carried", " ".join(keyword for keyword, _, _ in info.cards)
    for sentence in info.oddities:
        yield "odd", sentence


def _number(number: float | None, unit: str = "") -> str:
    return "" if number is None else f"{number:.6g} {unit}".strip()
