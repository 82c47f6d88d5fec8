"""What the frozen program starts with."""

import multiprocessing
import os
import tempfile
from pathlib import Path

os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(tempfile.gettempdir()) / "livestack-numba"))

if __name__ == "__main__":
    multiprocessing.freeze_support()
    from livestack.faces.cli import main

    main()
