"""Which pixels of a group's sensor are not to be trusted: by its masters, and learned from the frames themselves."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from livestack.base.state import OwnState
from livestack.calibration.cosmetic import DefectLearner
from livestack.calibration.defects import DefectMap
from livestack.engine.states import Detected
from livestack.kernels.bands import Bands
from livestack.registration import transform as tf

LEARN_FROM_ALL, LEARN_EVERY = 24, 4
"""Defects are learned from each of the first frames; a sensor grows new ones slowly, so later from some."""


class SensorDefects(OwnState):
    """What is known of the defects of one sensor.

    Parameters
    ----------
    repairs : whether defects are to be repaired at all.

    Attributes
    ----------
    by_masters : found in darks and flats; None where there are none.
    """

    GIVEN: ClassVar[frozenset[str]] = frozenset({"_repairs"})

    def __init__(self, repairs: bool) -> None:
        self._repairs = repairs
        self.by_masters: DefectMap | None = None
        self._learner: DefectLearner | None = None
        self._learned_at: np.ndarray | None = None

    @property
    def known(self) -> DefectMap | None:
        """All of them; None where there are none, or none are to be repaired."""
        if not self._repairs:
            return None
        learned = self._learner.defects() if self._learner is not None else None
        if learned is None or self.by_masters is None:
            return learned if self.by_masters is None else self.by_masters
        return learned | self.by_masters

    def learn(self, detected: Detected, matrix: np.ndarray, n_stacked: int, bands: Bands) -> None:
        """Look for what stands still on the sensor while the sky moves over it; `matrix` (3, 3) frame -> reference."""
        if not self._repairs or detected.data is None or detected.data.ndim != 2:
            return
        if n_stacked >= LEARN_FROM_ALL and n_stacked % LEARN_EVERY:
            return
        if self._learner is None:
            self._learner = DefectLearner(detected.data.shape, detected.frame.info.bayer)
        shift = (0.0, 0.0)
        if self._learned_at is not None:
            # how far the middle of the field moved over the sensor since the last frame
            height, width = detected.shape
            centre = np.array([[(width - 1) / 2, (height - 1) / 2]])
            before = tf.apply(np.linalg.inv(self._learned_at), tf.apply(matrix, centre))
            shift = (float(before[0, 0] - centre[0, 0]), float(before[0, 1] - centre[0, 1]))
        self._learned_at = matrix
        self._learner.update(detected.data, shift, bands)
