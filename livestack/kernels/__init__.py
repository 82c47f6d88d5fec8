"""Compiled loops (numba). Callers own the memory and check it; nothing here knows what a frame is.

All kernels are `nogil=True, cache=True`, take C-contiguous arrays in native byte order, and work on a band of rows so
that a caller can share the rows among threads. Never `fastmath=True`: it deletes the NaN tests that "no data" needs.

numba knows a compiled loop by the text of the file that it stands in. Loops call loops of other files here, so a file
that is the same in a new version may hold old code of another: when any of them has changed, all are compiled anew.
"""

import hashlib
from contextlib import suppress
from pathlib import Path

STAMP = "loops.stamp"


def forget_old_loops(folder: Path) -> bool:
    """Delete numba's index files beside the sources in `folder` when these are not those it was made from.

    Returns
    -------
    True when they were deleted. Where the place cannot be written, numba keeps nothing there either.
    """
    text = b"".join(path.name.encode() + path.read_bytes() for path in sorted(folder.glob("*.py")))
    digest = hashlib.sha256(text).hexdigest()
    cache = folder / "__pycache__"
    with suppress(OSError):
        if (cache / STAMP).read_text() == digest:
            return False
    with suppress(OSError):
        for index in cache.glob("*.nbi"):
            index.unlink(missing_ok=True)
        cache.mkdir(exist_ok=True)
        (cache / STAMP).write_text(digest)
        return True
    return False


forget_old_loops(Path(__file__).parent)
