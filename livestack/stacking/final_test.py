"""The final pass over one frame: each of its samples against the finished stack without it."""

from __future__ import annotations

import numpy as np

from livestack.kernels.bands import Bands
from livestack.kernels.final_test import final_strip
from livestack.registration.distortion import Distortion
from livestack.stacking.accumulators import Stack, sweep
from livestack.stacking.laying import lay
from livestack.stacking.noise_model import Limits
from livestack.stacking.normalisation import Normalisation
from livestack.stacking.rejected_samples import Added, RejectedSamples, codes_of
from livestack.stacking.starlight import Refused, take_back


def finalise(
    finished: Stack,
    fresh: Stack,
    planes: np.ndarray,
    matrix: np.ndarray,
    normalisation: Normalisation,
    weight: float,
    limits: Limits,
    rejected: RejectedSamples,
    bands: Bands,
    distortion: Distortion | None = None,
) -> Added:
    """Test a frame against a finished stack without the frame's own samples, and add it to `fresh`.

    Parameters
    ----------
    fresh : like `finished.empty()`.
    rejected : what streaming refused of this frame: those samples the finished stack does not hold.
    planes, matrix, normalisation, weight, limits, distortion : as in `Stack.add`.
    """
    laid = lay(planes, matrix, normalisation, distortion, finished.canvas, finished.origin)
    _, height, width = finished.shape
    live = rejected.unpack_on(finished.canvas)

    def visit(c: int, y0: int, y1: int, codes: np.ndarray) -> tuple[int, int]:
        mean = finished.mean[c]
        return final_strip(
            laid.of_channel(c), np.float32(weight), limits.of_channel(c), finished.planes(c)[:4],
            codes_of(live, (c * height + y0) * width, (y1 - y0, width)), fresh.planes(c), y0, y1,
            mean[max(0, y0 - 1)], mean[min(height - 1, y1)], codes,
        )  # fmt: skip

    def revise(entries: np.ndarray) -> np.ndarray:
        return take_back(
            Refused(entries, live), lambda c, y, x: laid.of_channel(c), weight, limits, finished.planes, fresh.planes,
            finished.shape[0],
        )  # fmt: skip

    fresh.n_frames += 1
    return sweep(finished, laid, visit, bands, revise)
