"""The words that a setting may be, where there are several: said once, for the settings and for the command line."""

from __future__ import annotations

from typing import Literal

BayerPattern = Literal["RGGB", "GRBG", "GBRG", "BGGR", "none"]
Debayering = Literal["auto", "drizzle", "mhc", "bilinear", "superpixel"]
RegistrationMethod = Literal["auto", "stars", "features", "phase", "none"]
TransformModel = Literal["auto", "similarity", "affine", "polynomial"]
RejectionMethod = Literal["live", "none"]
StackMode = Literal["mean", "maximum", "sum"]
CanvasExtent = Literal["reference", "union"]
PSFFunction = Literal["moffat", "gaussian"]
Stretch = Literal["auto", "asinh", "log", "linear", "gamma"]
Norm = Literal["stack", "frame"]
"""Whose noise sets the stretch: that of the stack as it is, or of a single frame of the night."""
WhiteBalance = Literal["stars", "none"]
Moving = Literal["both", "stars", "object"]
"""Which stack the live picture shows while an object is followed."""
PictureFormat = Literal["fits", "png", "png16", "tiff", "tiff32", "jpeg"]
FrameFormat = Literal["fits", "fits.fz", "dng", "ser", "xisf", "tiff", "png"]
"""What the simulated camera writes."""
SolveMode = Literal["auto", "off", "external"]
EnhanceTarget = Literal["auto", "deep-sky", "moon"]
Switch = Literal["on", "off"]
Looking = Literal["auto", "on", "off"]
