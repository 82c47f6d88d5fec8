"""Frames as a SER recording: header, frames, and a trailer of timestamps.

After the SER format description version 3 (Grischa Hahn, 2014). Its endianness flag is written as capture programs
write it, 0 for little-endian samples, which is the reverse of the text but what readers expect. The number of frames
is filled in when the recording is closed.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import numpy as np

from livestack.base.frame import Frame
from livestack.simulate.scenario import Scenario

_COLOUR_ID = {None: 0, "RGGB": 8, "GRBG": 9, "GBRG": 10, "BGGR": 11}
_COUNT_OFFSET = 38
_EPOCH = datetime(1, 1, 1, tzinfo=UTC)


def _ticks(when: datetime) -> int:
    """100 ns since the year 1, which is how SER counts time."""
    past = when - _EPOCH
    return (past.days * 86400 + past.seconds) * 10_000_000 + past.microseconds * 10


class SerWriter:
    """Appends frames to a SER file; the header is complete and the trailer there after leaving the `with` block.

    Samples of more than 8 bits take two bytes; the header says how many bits the converter has.
    """

    def __init__(self, path: Path, scenario: Scenario) -> None:
        self._file = path.open("wb")
        self._bits = scenario.adc_bits
        self._ticks: list[int] = []
        words = [text.encode()[:40].ljust(40, b"\0") for text in ("", scenario.camera, scenario.telescope)]
        numbers = (0, _COLOUR_ID[scenario.bayer], 0, scenario.width, scenario.height, scenario.adc_bits, 0)
        start = _ticks(scenario.start)
        self._file.write(struct.pack("<14s7i40s40s40sqq", b"LUCAM-RECORDER", *numbers, *words, start, start))

    def append(self, frame: Frame) -> None:
        """Write one frame at the end."""
        assert frame.info.date_obs is not None
        self._file.write(np.ascontiguousarray(frame.data, "u1" if self._bits <= 8 else "<u2").tobytes())
        self._file.flush()
        self._ticks.append(_ticks(frame.info.date_obs))

    def __enter__(self) -> SerWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the timestamps and the number of frames."""
        with self._file:
            self._file.write(np.array(self._ticks, "<i8").tobytes())
            self._file.seek(_COUNT_OFFSET)
            self._file.write(struct.pack("<i", len(self._ticks)))
