"""What is left of an object that was followed: its own stack, and a picture of it among the stars, both sharp."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
from astropy.io import fits

from livestack.astrometry.facts import SkyFacts
from livestack.astrometry.sky_map import position_angle_deg
from livestack.base.settings import Settings
from livestack.base.version import version
from livestack.detection.psf import PSFModel
from livestack.engine.group import Group
from livestack.engine.live_stack import LiveStack
from livestack.engine.results import Result
from livestack.following.path import Path as ObjectPath
from livestack.following.two_skies import paint
from livestack.products.stack_files import build_header, isot, write_pictures, write_stack


def write_object(
    folder: Path, stack: LiveStack, group: Group, stars: Result, psf: PSFModel | None, settings: Settings, final: bool,
    sky: SkyFacts | None,
) -> list[Path]:  # fmt: skip
    """`comet.fits` with its pictures, and those of `comet_and_stars`; nothing where nothing was followed.

    Parameters
    ----------
    stars : the stack of the stars; psf, final, sky : as of that.

    Raises
    ------
    SessionError : disk full, or not writable.
    """
    result, path = stack.object_result(group.name), group.following.path
    if result is None or path is None:
        return []
    header = build_header(result, settings, version(), psf, group.history, final, sky)
    set_rate(header, path, group, sky)
    target = folder / "comet.fits"
    write_stack(target, result, header)
    written = [target, *write_pictures(folder, result, settings, stack.bands, None, "comet")]
    light = group.following.shown
    if light is not None:
        planes = (stars.mean if stars.mean.ndim == 3 else stars.mean[None]).copy()
        paint(planes, stars.canvas, light)
        both = replace(stars, mean=planes if stars.mean.ndim == 3 else planes[0])
        written += write_pictures(folder, both, settings, stack.bands, None, "comet_and_stars")
    return written


def set_rate(header: fits.Header, path: ObjectPath, group: Group, sky: SkyFacts | None) -> None:
    """How fast and where to the object goes: in pixels of the reference, on the sky where that is known."""
    assert group.reference is not None
    header["RATEPXM"] = (round(path.rate_px_min, 5), "[px/min] motion of the object at RATEEPOC")
    scale = sky.sky.scale_arcsec if sky is not None else group.reference.info.scale_arcsec_px
    if scale is not None:
        header["RATEASM"] = (round(path.rate_px_min * scale, 5), "[arcsec/min] the same")
    if sky is not None:
        here, there = sky.sky.to_sky(np.array([path.at(path.epoch_min), path.at(path.epoch_min + 1.0)]))
        angle = position_angle_deg(*here, *there)
        header["RATEPA"] = (round(angle, 3), "[deg] direction, from north through east")
        header["OBJCTRA0"] = (round(float(here[0]), 6), "[deg] of the object at RATEEPOC")
        header["OBJCTDE0"] = (round(float(here[1]), 6), "[deg] of the object at RATEEPOC")
    else:
        header["RATEPA"] = (round(path.angle_deg, 3), "[deg] direction, from +x towards +y: not solved")
    x, y = path.coefficients[0]
    header["RATEX"], header["RATEY"] = (round(float(x), 3), "[px] of the object"), (round(float(y), 3), "0-based")
    header["RATERMS"] = (round(path.rms_px, 4), f"[px] scatter of its {path.n} places about the path")
    info = group.reference.info
    if info.date_obs is not None:
        middle = info.date_obs + timedelta(seconds=(info.exposure_s or 0.0) / 2)
        header["RATEEPOC"] = (isot(middle), "UTC; middle of the reference frame")
