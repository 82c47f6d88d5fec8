"""Pictures as bytes: JPEG, PNG and TIFF. Writing them to disk, atomically, is for whoever has a folder."""

from __future__ import annotations

import io
from collections.abc import Mapping

import cv2
import numpy as np
import tifffile

from livestack.picture.picture import Picture


def encode_jpeg(picture: Picture, quality: int = 90) -> bytes:
    """JPEG, `quality` 1..100; a 16-bit picture is brought to 8 bits."""
    rgb = picture.rgb
    if rgb.dtype == np.uint16:
        rgb = ((rgb.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    return _encode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, quality])


def encode_png(picture: Picture) -> bytes:
    """PNG of the picture's own depth, 8 or 16 bits."""
    return _encode(".png", picture.rgb, [cv2.IMWRITE_PNG_COMPRESSION, 3])


def encode_tiff(image: Picture | np.ndarray, metadata: Mapping[str, str] | None = None) -> bytes:
    """TIFF of a picture (8 or 16 bits, sRGB) or of linear data (C, H, W) float32; deflate-compressed.

    `metadata` goes into the description as lines `key: value`; characters outside ASCII are replaced, as TIFF demands.
    """
    if isinstance(image, Picture):
        pixels = image.rgb
    elif image.ndim == 3 and image.shape[0] in (1, 3):
        pixels = np.moveaxis(image, 0, -1) if image.shape[0] == 3 else image[0]
    else:
        raise ValueError(f"image: expected a Picture or data of shape (1, H, W) or (3, H, W), found {image.shape}.")
    text = "\n".join(f"{key}: {value}" for key, value in (metadata or {}).items())
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        np.ascontiguousarray(pixels),
        photometric="rgb" if pixels.ndim == 3 else "minisblack",
        compression="zlib",
        predictor=pixels.dtype.kind == "u",
        description=text.encode("ascii", "replace").decode() or None,
        software="livestack",
        metadata=None,
    )
    return buffer.getvalue()


def _encode(kind: str, rgb: np.ndarray, options: list[int]) -> bytes:
    done, data = cv2.imencode(kind, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise ValueError(f"picture: {rgb.shape[1]} x {rgb.shape[0]} pixels cannot be written as {kind[1:].upper()}.")
    return data.tobytes()
