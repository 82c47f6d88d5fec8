"""What is made of finished stacks at the end: colour pictures, stacks without gradients, solved plates, named objects.

`stack.fits` and its pictures are there before this begins (`stack_files`). Nothing here changes a pixel of them: a
solution goes into their headers, all else into files of its own.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from astropy.io import fits

from livestack.astrometry.facts import SkyFacts
from livestack.astrometry.headers import map_of_cards
from livestack.astrometry.installed import solve_plate
from livestack.astrometry.objects import ObjectLabel, label_objects
from livestack.base.durable import replacing, write_atomically
from livestack.base.settings import Settings
from livestack.engine.grid import filled_canvas
from livestack.engine.group import Group
from livestack.engine.ledger import Member
from livestack.engine.live_stack import LiveStack
from livestack.engine.reference import Reference
from livestack.engine.results import composite_of
from livestack.formats.wcs import Cards, is_wcs_card, wcs_cards
from livestack.picture import Picture, encode_png, measure_look, remove_gradient, render
from livestack.picture.composite import OFF, Composite
from livestack.products.stack_files import isot, set_names, set_place, span, write_formats

LABEL_COLOUR = (255, 214, 120)


def write_products(
    output: Path, stack: LiveStack, settings: Settings, software: str, say: Callable[[str], None],
    facts: Callable[[str], SkyFacts | None] = lambda group: None,
) -> list[Path]:  # fmt: skip
    """Write all that the settings ask for beyond `stack.fits` and its pictures.

    Parameters
    ----------
    output : the session's folder.
    stack : every group of it has been saved.
    software : name and version for headers.
    say : told what was made, and why something was not.
    facts : where the reference of a group lies in the sky, where that is known.

    Returns
    -------
    The new files.

    Raises
    ------
    SessionError : disk full, or not writable.
    """
    written: list[Path] = []
    roots = [group for group in stack.groups.values() if group.grid.root == group.name and group.reference is not None]
    for root in roots:
        groups = [group for group in stack.targets.on_grid_of(root.name) if group.n_stacked]
        if not groups:
            continue
        solution = _known(root, groups, facts)
        if not solution and settings.save.solve == "external":
            solution = _solve(output, root, groups, say)
        for group in groups:
            if settings.save.flatten:
                written.append(write_flattened(output / group.name / "stack.fits"))
            if solution:
                written += _label_group(output / group.name, group, settings, stack, solution)
        composite = composite_of(stack.targets, root.name, trimmed=True)
        if composite is not None:
            members = {role: stack.groups[part.group].members for role, part in composite.parts.items()}
            assert root.reference is not None
            folder = output / composite.name
            header = composite_header(composite, root.reference, members, software, solution)
            written += write_composite(folder, composite, header, root.reference, settings, stack, solution)
            say(f"Colour picture: {composite.words}.")
        elif len(groups) > 1 and settings.render.palette.lower() not in ("auto", OFF):
            say(f"No colour picture of {root.name}: the palette {settings.render.palette} needs other filters.")
    return written


# Colour pictures


def write_composite(
    folder: Path, composite: Composite, header: fits.Header, reference: Reference, settings: Settings, stack: LiveStack,
    solution: Cards = (),
) -> list[Path]:  # fmt: skip
    """`composite.fits`, linear, (3, H, W), and its stretched pictures.

    Raises
    ------
    SessionError : disk full, or not writable.
    """
    planes, sky = composite.make(stack.bands)
    header["SKYADU"] = (round(sky, 3), "[adu] sky that was given to all colours")
    path = folder / "composite.fits"
    with replacing(path) as temporary:
        fits.PrimaryHDU(planes, header).writeto(temporary, overwrite=True)
    look = measure_look(planes, composite.settings_for(settings.render), None, stack.bands)
    bottom_up = reference.info.bottom_up
    picture = render(planes, look, depth=16, bottom_up=bottom_up, bands=stack.bands)
    words = {"object": reference.info.object_name or "", "made": composite.words}
    written = [path, *write_formats(folder, "composite", picture, planes, bottom_up, settings.save.formats, words)]
    return written + _label(folder / "composite_labelled.png", picture, solution, bottom_up)


def composite_header(
    composite: Composite,
    reference: Reference,
    members: Mapping[str, Sequence[Member]],
    software: str,
    solution: Cards = (),
) -> fits.Header:
    """Header of a composite: what went in, exposure by filter, and the grid's own cards.

    `EXPTL`, `EXPTHA` ... is the accepted exposure through L, Ha ... in s, `EXPTOTAL` their sum.
    """
    header = fits.Header()
    left_out = {
        "ROWORDER",
        "NCOMBINE",
        "EXPTIME",
        "EXPOSURE",
        "FILTER",
        "DATE-OBS",
        "DATE-END",
        "GAIN",
        "OFFSET",
        "CCD-TEMP",
    }
    canvas = next(iter(composite.parts.values())).stack.canvas
    elsewhere = canvas.moved or canvas.scale != 1
    carried = wcs_cards(reference.info.cards, canvas.from_reference)[0] if elsewhere else reference.info.cards
    for keyword, value, comment in carried:
        finite = not isinstance(value, float) or math.isfinite(value)
        if keyword not in left_out and finite and not (solution and is_wcs_card(keyword)):
            header[keyword] = (value, comment[: max(0, 45 - len(str(value)))])
    for keyword, value, comment in solution:
        header[keyword] = (value, comment)
    set_names(header, replace(reference.info, filter_name=None))
    upright = "BOTTOM-UP" if reference.info.bottom_up else "TOP-DOWN"
    header["ROWORDER"] = (upright, "which way up the first row is")
    everyone = [member for part in members.values() for member in part]
    start, end = span(everyone)
    if start is not None and end is not None:
        header["DATE-OBS"] = (isot(start), "start of the first exposure, UTC")
        header["DATE-END"] = (isot(end), "end of the last exposure, UTC")
    header["PALETTE"] = (composite.palette_name, "how filters became colours")
    header["NCOMBINE"] = (len(everyone), "frames in all filters")
    header["EXPTOTAL"] = (float(sum(part.exposure_s for part in composite.parts.values())), "[s] all filters")
    for role, part in composite.parts.items():
        header[f"EXPT{role.upper()}"] = (float(part.exposure_s), f"[s] through {role}")
    header["BUNIT"] = ("adu", "filters on one scale")
    set_place(header, canvas)
    header["SWCREATE"] = software
    for colour, mixture in composite.palette.items():
        header.add_history(f"{colour} = " + " + ".join(f"{weight:g} {role}" for role, weight in mixture.items()))
    for role, part in composite.parts.items():
        header.add_history(f"{role}: {part.n_frames} frames, {part.exposure_s:g} s, group {part.group}")
    return header


# Gradients


def write_flattened(stack: Path) -> Path:
    """`stack_flat.fits` beside a `stack.fits`: the mean without its sky gradient; the sky's mean level stays.

    Raises
    ------
    SessionError : disk full, or not writable.
    """
    data = np.asarray(fits.getdata(stack), dtype=np.float32)
    header = fits.getheader(stack)
    planes = data if data.ndim == 3 else data[None]
    flat, _ = remove_gradient(planes)
    header.add_history("A smooth sky surface was subtracted, its mean left in: not for photometry of large things.")
    path = stack.with_name("stack_flat.fits")
    with replacing(path) as temporary:
        fits.PrimaryHDU(flat.reshape(data.shape), header).writeto(temporary, overwrite=True)
    return path


# Where in the sky


def _known(root: Group, groups: Sequence[Group], facts: Callable[[str], SkyFacts | None]) -> Cards:
    """The WCS of a grid that was found while stacking: of the root, or of another filter."""
    known = next((found for group in (root, *groups) if (found := facts(group.name)) is not None), None)
    if known is None:
        return ()
    canvas = filled_canvas(root if root.n_stacked else groups[0])
    return known.sky.moved(canvas.from_reference, canvas.width, canvas.height).cards()


def _solve(output: Path, root: Group, groups: Sequence[Group], say: Callable[[str], None]) -> Cards:
    """Solve the plate of a grid once, by an installed program; the solution goes into the headers of all its stacks."""
    assert root.reference is not None
    if root.reference.starless:
        return ()
    info = root.reference.info
    best = root if root.n_stacked else groups[0]
    assert best.stack is not None
    image = np.mean(best.stack.on(filled_canvas(best)).image(), axis=0)
    with tempfile.TemporaryDirectory(prefix="livestack-plate-") as folder:
        plate = Path(folder) / f"{best.name}.fits"
        write_plate(plate, image)
        solved, sentence = solve_plate(
            plate,
            info.ra_deg,
            info.dec_deg,
            info.scale_arcsec_px,
            image.shape[0],
        )
    say(sentence)
    if solved is None:
        return ()
    for group in groups:
        put_wcs(output / group.name / "stack.fits", solved.cards)
    return solved.cards


def write_plate(path: Path, image: np.ndarray) -> None:
    """A picture that every solver reads: (H, W) to 16 bit, the sky dark, nothing missing."""
    seen = image[np.isfinite(image)]
    low, high = np.percentile(seen, (0.5, 99.95)) if seen.size else (0.0, 1.0)
    scaled = (np.nan_to_num(image, nan=low) - low) / max(float(high - low), 1e-6)
    fits.writeto(path, (np.clip(scaled, 0, 1) * 60000).astype(np.uint16))


def put_wcs(path: Path, cards: Cards) -> None:
    """Replace the WCS in the header of a FITS file; its pixels stay.

    Raises
    ------
    SessionError : disk full, or not writable.
    """
    with fits.open(path) as hdus, replacing(path) as temporary:
        header = hdus[0].header
        for keyword in [word for word in header if is_wcs_card(word)]:
            del header[keyword]
        for keyword, value, comment in cards:
            if keyword != "WCSAXES":
                header[keyword] = (value, comment)
        hdus.writeto(temporary, overwrite=True)


def _label_group(folder: Path, group: Group, settings: Settings, stack: LiveStack, cards: Cards) -> list[Path]:
    assert group.stack is not None
    assert group.reference is not None
    planes = group.stack.on(filled_canvas(group)).image()
    look = measure_look(planes, settings.render, None, stack.bands, group.reference.terraces)
    picture = render(planes, look, bottom_up=group.reference.info.bottom_up, bands=stack.bands)
    return _label(folder / "stack_labelled.png", picture, cards, group.reference.info.bottom_up)


def _label(path: Path, picture: Picture, cards: Cards, bottom_up: bool) -> list[Path]:
    """A copy of a full-size picture with the names of what it shows; nothing where no name is known."""
    height, width = picture.rgb.shape[:2]
    sky = map_of_cards(cards, width, height) if cards else None
    labels = label_objects(sky) if sky is not None else []
    if not labels:
        return []
    write_atomically(path, encode_png(Picture(draw_labels(picture.rgb, labels, bottom_up), picture.scale)))
    return [path]


def draw_labels(rgb: np.ndarray, labels: Sequence[ObjectLabel], bottom_up: bool = False) -> np.ndarray:
    """(h, w, 3) uint8: an upright picture with a circle and a name for each object; `labels` in pixels as stored."""
    drawn = (rgb >> 8).astype(np.uint8) if rgb.dtype == np.uint16 else rgb.copy()
    height, width = drawn.shape[:2]
    unit = max(height, width) / 1000
    thick = max(1, round(1.2 * unit))
    for label in labels:
        x = round(label.x)
        y = round(height - 1 - label.y if bottom_up else label.y)
        radius = round(max(0.5 * (label.size_px or 0.0), 9 * unit))
        cv2.circle(drawn, (x, y), radius, LABEL_COLOUR, thick, cv2.LINE_AA)
        text = label.name.encode("ascii", "replace").decode()
        size = 0.5 * max(unit, 0.8)
        (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, thick)
        left = min(max(2, x + round(0.75 * radius)), max(2, width - wide - 2))
        base = min(max(high + 2, y - round(0.75 * radius)), height - 4)
        cv2.putText(drawn, text, (left, base), cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), thick + 2, cv2.LINE_AA)
        cv2.putText(drawn, text, (left, base), cv2.FONT_HERSHEY_SIMPLEX, size, LABEL_COLOUR, thick, cv2.LINE_AA)
    return drawn
