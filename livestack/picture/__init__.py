"""From linear data to a picture: `measure_look` finds black, white and colours, `render` draws, `encode_*` packs."""

from livestack.picture.background import Surface, fit_background, measure_sky, remove_gradient
from livestack.picture.encode import encode_jpeg, encode_png, encode_tiff
from livestack.picture.look import Look, measure_look, measure_small
from livestack.picture.picture import Picture, count_levels, render, render_part, render_small
from livestack.picture.reduction import Small, reduce_planes, shrink, shrink_stack

__all__ = [
    "Look",
    "Picture",
    "Small",
    "Surface",
    "count_levels",
    "encode_jpeg",
    "encode_png",
    "encode_tiff",
    "fit_background",
    "measure_look",
    "measure_sky",
    "measure_small",
    "reduce_planes",
    "remove_gradient",
    "render",
    "render_part",
    "render_small",
    "shrink",
    "shrink_stack",
]
