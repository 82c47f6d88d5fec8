"""Rows of an image shared out over a few threads.

Every compiled loop of ours takes a range of rows and releases the interpreter lock, so one loop serves one thread or
several. The split depends on the number of rows and threads alone, never on timing; loops write to their own rows only,
hence the result does not depend on the split either. Who owns a `Bands` closes it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

BANDS_PER_THREAD = 4
"""More bands than threads: a thread that was held up by other work on the machine does not hold up the frame."""


def split_rows(n_rows: int, n_bands: int) -> list[tuple[int, int]]:
    """Cut rows 0 .. n_rows into at most `n_bands` disjoint (y0, y1), in order, beginning at even rows, none empty."""
    pairs = (n_rows + 1) // 2
    n_bands = max(1, min(n_bands, pairs))
    edges = [min(n_rows, 2 * (pairs * i // n_bands)) for i in range(n_bands)] + [n_rows]
    return [(y0, y1) for y0, y1 in itertools.pairwise(edges) if y1 > y0]


class Bands:
    """A few threads that work through bands of rows.

    Parameters
    ----------
    threads : how many; 1 runs everything in the calling thread and starts none.
    """

    def __init__(self, threads: int = 1) -> None:
        if threads < 1:
            raise ValueError(f"threads: expected 1 or more, found {threads}.")
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="bands") if threads > 1 else None

    def run(self, fn: Callable[[int, int], object], n_rows: int) -> None:
        """Call `fn(y0, y1)` on disjoint bands that cover rows 0 .. n_rows, and wait for all of them.

        Raises
        ------
        whatever `fn` raised: that of the topmost band, after all bands have ended.
        """
        if n_rows <= 0:
            return
        if self._pool is None:
            fn(0, n_rows)
            return
        bands = split_rows(n_rows, self.threads * BANDS_PER_THREAD)
        futures: list[Future[object]] = [self._pool.submit(fn, y0, y1) for y0, y1 in bands]
        errors = [future.exception() for future in futures]
        for error in errors:
            if error is not None:
                raise error

    def close(self) -> None:
        """End the threads; the object can no longer be used."""
        if self._pool is not None:
            self._pool.shutdown()

    def __enter__(self) -> Bands:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def run_bands(bands: Bands | None, fn: Callable[[int, int], object], n_rows: int) -> None:
    """`bands.run(fn, n_rows)`, or one call in this thread when there are no bands."""
    if bands is None:
        if n_rows > 0:
            fn(0, n_rows)
    else:
        bands.run(fn, n_rows)
