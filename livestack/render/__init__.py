"""From linear data to a picture: `measure_look` finds black, white and colours, `render` draws, `encode_*` packs."""

from livestack.render.background import Surface, fit_background, measure_sky, remove_gradient
from livestack.render.encode import encode_jpeg, encode_png, encode_tiff
from livestack.render.look import Look, measure_look
from livestack.render.picture import Picture, render, render_part
from livestack.render.reduction import reduce_planes

__all__ = [
    "Look",
    "Picture",
    "Surface",
    "encode_jpeg",
    "encode_png",
    "encode_tiff",
    "fit_background",
    "measure_look",
    "measure_sky",
    "reduce_planes",
    "remove_gradient",
    "render",
    "render_part",
]
