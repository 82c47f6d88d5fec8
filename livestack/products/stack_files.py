"""What is left in the morning: `stack.fits` with its maps, stretched pictures, and the preview.

Every file is written beside its place, synced and moved into it. The linear result follows `docs/conventions.md`; how
pictures look is `picture`'s business.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from astropy.io import fits

from livestack.astrometry.facts import SkyFacts
from livestack.base.durable import replacing, write_atomically
from livestack.base.frame import FrameInfo
from livestack.base.settings import Settings
from livestack.detection.psf import PSFModel
from livestack.engine.ledger import Member
from livestack.engine.results import Result
from livestack.formats.wcs import is_wcs_card, wcs_cards
from livestack.kernels.bands import Bands
from livestack.picture import Look, Picture, encode_jpeg, encode_png, encode_tiff, measure_look, render
from livestack.stacking.canvas import Canvas
from livestack.stacking.filling import fill_holes

EXTENSIONS = ("COVERAGE", "VARIANCE", "WEIGHT", "REJLOW", "REJHIGH")
"""Coverage comes first because it is not float32: Siril takes a file whose second image is like its first for a
sequence of frames, and refuses to open it as one image."""


def isot(moment: datetime) -> str:
    """As FITS writes a moment: UTC, to the millisecond."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]


def span(members: Sequence[Member]) -> tuple[datetime | None, datetime | None]:
    """Start of the first exposure, end of the last."""
    starts = [(m.info.date_obs, m.info.exposure_s or 0.0) for m in members if m.info.date_obs is not None]
    if not starts:
        return None, None
    ends = [start + timedelta(seconds=exposure) for start, exposure in starts]
    return min(start for start, _ in starts), max(ends)


STEP_CARD = "SKYSTEP"
"""Where noise does not blur the steps of the files' whole numbers; pictures do not stretch what is lower."""


def terraces_in(header: fits.Header, channels: int) -> np.ndarray:
    """What `picture.measure_look` wants to know of the sky of a stack that was saved."""
    return np.full(channels, 0.5 * float(header.get(STEP_CARD, 0.0)))


def build_header(
    result: Result, settings: Settings, version: str, psf: PSFModel | None, history: Sequence[str], final: bool,
    sky: SkyFacts | None = None,
) -> fits.Header:  # fmt: skip
    """Header of `stack.fits`: the contract's cards, the reference's own, and the history of the calibration."""
    header = fits.Header()
    reference = result.reference.info
    grid = result.canvas.from_reference @ np.linalg.inv(result.reference.light.inverse)
    carried, note = (reference.cards, None) if np.array_equal(grid, np.eye(3)) else wcs_cards(reference.cards, grid)
    if sky is not None:
        note = None
        carried = tuple(card for card in carried if not is_wcs_card(card[0]))
    for keyword, value, comment in carried:
        unwritable = isinstance(value, float) and not math.isfinite(value)
        if unwritable or keyword in ("ROWORDER", "NCOMBINE", "EXPTIME", "DATE-OBS", "DATE-END"):
            continue
        header[keyword] = (value, _fitting(value, comment))
    if reference.bottom_up:
        header["ROWORDER"] = ("BOTTOM-UP", "row 0 is the bottom of the picture")
    else:
        header["ROWORDER"] = ("TOP-DOWN", "row 0 is the top of the picture")
    set_names(header, reference)
    start, end = span(result.members)
    if start is not None and end is not None:
        header["DATE-OBS"] = (isot(start), "start of the first exposure, UTC")
        header["DATE-END"] = (isot(end), "end of the last exposure, UTC")
    numbers = result.header
    header["NCOMBINE"] = (int(numbers["NCOMBINE"]), "frames stacked")
    header["NREFUSED"] = (int(numbers["NREFUSED"]), "frames refused")
    header["EXPTIME"] = (float(numbers["EXPTIME"]), "[s] exposure of one frame")
    header["EXPTOTAL"] = (float(numbers["EXPTOTAL"]), "[s] exposure of all stacked frames")
    if result.drop is not None:
        header["DEBAYER"] = ("drizzle", "each pixel was dropped in its own colour")
        header["SCALE"] = (result.canvas.scale, "pixels along each pixel of the camera")
        header["PIXFRAC"] = (result.drop.pixfrac, "side of a drop over that of a pixel")
        empty = [float(np.mean(plane == 0)) for plane in np.atleast_3d(result.weight.T).T]
        header["HOLES"] = (round(max(empty), 6), "share of pixels without a sample in some colour")
        if result.filler is not None:
            history = (*history, "Pixels without a sample are NaN; pictures show the debayered warm-up there.")
    elif result.reference.info.bayer is not None:
        header["DEBAYER"] = (settings.calibration.interpolation, "how the mosaic became a picture")
    terraces = result.reference.terraces
    if terraces is not None and terraces.any():
        header[STEP_CARD] = (2 * float(terraces.max()), "[adu] step of the sky, wider than its noise")
    name = _ascii(str(numbers["REFFRAME"]))
    header["REFFRAME"] = (name, _fitting(name, "frame that set the scale of brightness"))
    grid_name = _ascii(result.grid_frame)
    header["GRIDFRAM"] = (grid_name, _fitting(grid_name, "frame that set the grid"))
    header["BUNIT"] = ("adu", "on the scale of the reference frame")
    set_place(header, result.canvas)
    if sky is not None:
        set_sky(header, sky, result.canvas)
    if settings.stack.mode != "mean":
        meaning = {"sum": "mean times number of samples (with rejected)", "maximum": "largest sample of each pixel"}
        header["STACKMOD"] = (settings.stack.mode, meaning[settings.stack.mode])
    shape = _star_shape(result.members, result.canvas.scale)
    fwhm, eccentricity = (psf.fwhm_px, psf.eccentricity) if psf is not None else shape
    if fwhm is not None and math.isfinite(fwhm):
        header["FWHM"] = (round(fwhm, 4), "[px] of the stars in the stack")
    if eccentricity is not None and math.isfinite(eccentricity):
        header["ECCENTR"] = (round(eccentricity, 4), "eccentricity of the stars in the stack")
    s = settings.stack
    header["REJECT"] = ("live" if s.rejects else "none", "rejection while stacking")
    if s.rejects:
        header["REJKAPPA"] = (s.kappa, "limit in sigma, both sides")
        header["REJPRIOR"] = (s.prior_dof, "samples that the noise model is worth")
        header["REJGRAD"] = (s.gradient, "allowance around stars")
        header["REJWARM"] = (s.warmup_frames, "frames combined at once at the start")
        header["REJFINAL"] = (final, "tested again against the finished stack")
    header["SWCREATE"] = (f"livestack {version}", "software")
    for line in (*result.reference.info.oddities, *([note] if note else []), *history):
        header.add_history(_ascii(line))
    return header


def set_place(header: fits.Header, canvas: Canvas) -> None:
    """Where the first pixel lies on the reference's grid, if not on its first, as IRAF's physical coordinates."""
    if canvas.moved or canvas.scale != 1:
        scale = canvas.scale
        edge = 0.5 * (1.0 - scale)  # of FITS, whose first pixel is 1
        header["LTV1"] = (edge - canvas.left, "pixel x here = LTM1_1 * x on the grid + LTV1")
        header["LTV2"] = (edge - canvas.top, "pixel y here = LTM2_2 * y on the grid + LTV2")
        header["LTM1_1"] = (scale, "scale to the grid")
        header["LTM2_2"] = (scale, "scale to the grid")


def set_sky(header: fits.Header, facts: SkyFacts, canvas: Canvas) -> None:
    """Where the pixels lie in the sky, and how faint they reach; `facts` are of the grid that the canvas lies on."""
    sky = facts.sky.moved(canvas.from_reference, canvas.width, canvas.height)
    for keyword, value, comment in sky.cards():
        if keyword != "WCSAXES":
            header[keyword] = (value, comment)
    ra, dec = sky.centre
    header["SOLVER"] = (facts.solver, "found where this lies in the sky")
    if math.isfinite(facts.rms_arcsec):
        header["SOLVRMS"] = (round(facts.rms_arcsec, 4), "[arcsec] scatter of the matched stars")
    header["SOLVSTAR"] = (facts.n_stars, "stars matched with the catalogue")
    header["PIXSCALE"] = (round(sky.scale_arcsec, 6), "[arcsec/px]")
    header["RA"] = (round(ra, 6), "[deg] middle of the picture")
    header["DEC"] = (round(dec, 6), "[deg] middle of the picture")
    header["ROTATION"] = (round(sky.rotation_deg, 4), "[deg] position angle against the rows")
    header["MIRRORED"] = (sky.mirrored, "as stored, first row on top")
    channels = facts.zero_points if len(facts.zero_points) == 3 else ()
    for keyword, number, comment in (
        ("ZEROPT", facts.zero_point, "[mag] Gaia G of a star of 1 adu/s"),
        *(
            (f"ZEROPT_{colour}", zero, f"[mag] the same of the channel {name}")
            for zero, (colour, name) in zip(channels, (("R", "red"), ("G", "green"), ("B", "blue")), strict=False)
        ),
        ("COLTERM", facts.colour_term, "change of ZEROPT with Gaia's BP-RP"),
        ("COLPIVOT", facts.colour_pivot, "[mag] BP-RP for which the zero points hold"),
        ("MAGLIM", facts.limit_mag, "[mag] point source at 5 sigma"),
        ("SKYMAG", facts.sky_mag, "[mag/arcsec2] brightness of the sky"),
    ):
        if number is not None and math.isfinite(number):
            header[keyword] = (round(number, 4), comment)


def set_names(header: fits.Header, info: FrameInfo) -> None:
    """Object, filter, camera and telescope, where the cards of the reference do not hold them."""
    for keyword, value in (
        ("OBJECT", info.object_name), ("FILTER", info.filter_name), ("INSTRUME", info.camera),
        ("TELESCOP", info.telescope),
    ):  # fmt: skip
        if value and keyword not in header:
            header[keyword] = _ascii(value)


def _fitting(value: object, comment: str) -> str:
    """A carried comment, cut to what is left of the card's 80 characters."""
    taken = max(20, len(str(value).replace("'", "''")) + 2)
    return comment[: max(0, 80 - 10 - taken - 3)]


def _ascii(text: str) -> str:
    return "".join(c if 32 <= ord(c) < 127 else "?" for c in text)


def _star_shape(members: Sequence[Member], scale: float) -> tuple[float | None, float | None]:
    widths = [m.fwhm_px for m in members if m.fwhm_px]
    return (scale * float(np.median(widths)) if widths else None), None


def write_stack(path: Path, result: Result, header: fits.Header) -> None:
    """Write `stack.fits`.

    Raises
    ------
    SessionError : disk full, or the place is not writable.
    """
    maps = (result.coverage, result.variance, result.weight, result.rejected_low, result.rejected_high)
    with replacing(path) as temporary:
        # one after the other, so that only one map at a time is turned into FITS byte order
        with open(temporary, "wb") as file:
            fits.PrimaryHDU(result.mean.astype(np.float32, copy=False), header).writeto(file)
        for name, data in zip(EXTENSIONS, maps, strict=True):
            fits.append(temporary, data, fits.Header({"EXTNAME": name}), verify=False)


def shown_planes(result: Result) -> np.ndarray:
    """(C, H, W) the mean as pictures show it: holes between drops filled from the debayered frames, where these are."""
    planes = result.mean if result.mean.ndim == 3 else result.mean[None]
    if result.filler is None or not np.isnan(planes).any():
        return planes
    planes = planes.copy()
    fill_holes(planes, result.canvas, result.filler)
    return planes


def render_result(result: Result, settings: Settings, bands: Bands, look: Look | None = None) -> tuple[Look, Picture]:
    """The stretched picture, 16 bit, full size."""
    planes = shown_planes(result)
    if look is None:
        look = measure_look(planes, settings.render, None, bands, result.reference.terraces)
        if settings.render.norm == "frame":
            look = look.normed(math.sqrt(max(1, len(result.members))))
    return look, render(planes, look, depth=16, bottom_up=result.reference.info.bottom_up, bands=bands)


def write_pictures(
    folder: Path, result: Result, settings: Settings, bands: Bands, look: Look | None, stem: str = "stack"
) -> list[Path]:
    """The pictures that the settings ask for, by default `stack.png` and `stack.tif`; see `write_formats`."""
    _, picture = render_result(result, settings, bands, look)
    planes = result.mean if result.mean.ndim == 3 else result.mean[None]
    bottom_up = result.reference.info.bottom_up
    return write_formats(folder, stem, picture, planes, bottom_up, settings.save.formats, describe_result(result))


def describe_result(result: Result) -> dict[str, str]:
    """What the description of a TIFF says."""
    info, numbers = result.reference.info, result.header
    start, _ = span(result.members)
    words = {
        "object": info.object_name,
        "filter": info.filter_name,
        "camera": info.camera,
        "telescope": info.telescope,
        "frames": str(numbers["NCOMBINE"]),
        "exposure of one frame": f"{numbers['EXPTIME']:g} s",
        "exposure in all": f"{numbers['EXPTOTAL']:g} s",
        "begun": isot(start) + " UTC" if start is not None else None,
    }
    return {name: word for name, word in words.items() if word}


def write_formats(
    folder: Path, stem: str, picture: Picture, planes: np.ndarray, bottom_up: bool, formats: Sequence[str],
    words: Mapping[str, str],
) -> list[Path]:  # fmt: skip
    """Write a picture, the right way up, in each of `formats`.

    Parameters
    ----------
    stem : name of the files; stretched `.png` (8 bit), `.jpg`, `.tif` and `_16bit.png` (16 bit); linear `_linear.tif`.
    picture : 16 bit, upright.
    planes : (C, H, W) float32, the linear data as stored.
    words : name -> value, for the description of a TIFF.

    Raises
    ------
    SessionError : disk full, or the place is not writable.
    """
    written = []

    def write(name: str, data: bytes) -> None:
        write_atomically(folder / name, data)
        written.append(folder / name)

    if "png" in formats:
        write(f"{stem}.png", encode_png(Picture((picture.rgb >> 8).astype(np.uint8), picture.scale)))
    if "png16" in formats:
        write(f"{stem}_16bit.png", encode_png(picture))
    if "tiff" in formats:
        write(f"{stem}.tif", encode_tiff(picture, words))
    if "tiff32" in formats:
        upright = planes[:, ::-1] if bottom_up else planes
        write(f"{stem}_linear.tif", encode_tiff(upright, {**words, "values": "linear, ADU, NaN where no data"}))
    if "jpeg" in formats:
        write(f"{stem}.jpg", encode_jpeg(picture, 95))
    return written


def write_preview(path: Path, picture: Picture) -> None:
    """`preview.jpg`, replaced atomically."""
    write_atomically(path, encode_jpeg(picture))


def append_psf_csv(path: Path, columns: Sequence[str], row: dict[str, object]) -> None:
    """One more line in `psf.csv`; the heading when it is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    if not path.exists():
        text.write(",".join(columns) + "\n")
    text.write(",".join("" if row.get(c) is None else str(row[c]) for c in columns) + "\n")
    with open(path, "a", encoding="utf-8", newline="") as file:
        file.write(text.getvalue())
