"""What every reader asks before it believes a file: is it there, is it whole, is what it declares sane.

A file from a camera may be half written, renamed, on a share that just went away, or no image at all. Each of these
ends as one sentence in a `FrameError`; nothing is allocated before the declared size was held against the limits here.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from livestack.base.errors import FrameError, TruncatedFrame, UnreadableFrame, VanishedFrame

MAX_PIXELS = 400_000_000
"""More than twice the largest sensor an amateur can buy (151 megapixels)."""

MAX_RATIO = 2000
"""Deflate cannot exceed 1032 : 1; a file that declares more than this times its own length lies."""

SMALL_BYTES = 64 << 20
"""Below this the ratio is not asked: a small black picture compresses endlessly and harms nobody."""

_OS_WORDS = {
    errno.EACCES: "may not be read by this user; change its permissions",
    errno.EPERM: "may not be read by this user; change its permissions",
    errno.ELOOP: "is a symbolic link that leads back to itself; remove the link",
    errno.EISDIR: "is a folder, not a frame; name the files in it",
    errno.ENAMETOOLONG: "has a name too long for this file system; rename it",
    errno.EIO: "could not be read from the disk (input/output error); check the cable and the card",
}


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Turn what the operating system says about `path` into our errors.

    Raises
    ------
    VanishedFrame, UnreadableFrame
    """
    try:
        yield
    except FrameError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise VanishedFrame(f"{path.name} is not there (any more); it was moved, renamed or never written.") from error
    except MemoryError as error:
        raise UnreadableFrame(f"{path.name} needs more memory than this machine has free.") from error
    except OSError as error:
        words = _OS_WORDS.get(error.errno or 0, f"could not be read: {error.strerror or error}")
        raise UnreadableFrame(f"{path.name} {words}.") from error


@contextmanager
def decoding(path: Path, what: str) -> Iterator[None]:
    """Around a library that decodes `path` as `what`: whatever it raises becomes one sentence.

    Decoders of other people meet damaged files with every kind of exception; which one says nothing to the observer.

    Raises
    ------
    UnreadableFrame
    """
    try:
        yield
    except (FrameError, OSError, MemoryError):
        raise
    except Exception as error:
        detail = " ".join(str(error).split())[:120] or type(error).__name__
        raise UnreadableFrame(f"{path.name} cannot be decoded as {what} ({detail}); the file is damaged.") from error


def check_pixels(path: Path, width: int, height: int, planes: int = 1) -> None:
    """Refuse a size that no camera has, before anything of that size is allocated.

    Raises
    ------
    UnreadableFrame
    """
    if width < 1 or height < 1 or planes < 1:
        raise UnreadableFrame(f"{path.name} declares an empty picture of {width} x {height} pixels.")
    if width * height > MAX_PIXELS or planes > 4:
        raise UnreadableFrame(
            f"{path.name} declares {width} x {height} pixels in {planes} plane(s); no camera makes that, "
            f"the limit is {MAX_PIXELS // 1_000_000} megapixels and its header is probably damaged."
        )


def check_ratio(path: Path, declared_bytes: int, found_bytes: int) -> None:
    """Refuse a compressed file that would unpack to an absurd multiple of its length (a decompression bomb).

    Raises
    ------
    UnreadableFrame
    """
    if declared_bytes > SMALL_BYTES and declared_bytes > MAX_RATIO * max(found_bytes, 1):
        raise UnreadableFrame(
            f"{path.name} holds {found_bytes} bytes and claims to unpack to {declared_bytes}; "
            "no picture of the sky compresses like that."
        )


def truncated(path: Path, declared_bytes: int, found_bytes: int) -> TruncatedFrame:
    """The error for a file shorter than it declares."""
    if found_bytes == 0:
        return TruncatedFrame(f"{path.name} is empty so far.")
    return TruncatedFrame(
        f"{path.name} declares {declared_bytes} bytes and holds {found_bytes}: still being written, or broken off."
    )


def broken_off(path: Path, found_bytes: int, where: str) -> TruncatedFrame:
    """The error for a file that ends too early and does not tell how long it should be."""
    return TruncatedFrame(f"{path.name} ends after {found_bytes} bytes {where}: still being written, or broken off.")


_MAGICS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"SIMPLE  =", "FITS"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"LUCAM-RECORDER", "SER"),
    (0, b"XISF0100", "XISF"),
    (0, b"FUJIFILMCCD-RAW", "raw"),
    (4, b"ftypcrx ", "raw"),
    (0, b"IIU\0", "raw"),
    (0, b"IIRO", "raw"),
    (0, b"IIRS", "raw"),
    (0, b"MMOR", "raw"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"%PDF", "a PDF document"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"BM", "a BMP picture"),
    (8, b"WEBP", "a WebP picture"),
    (8, b"AVI ", "an AVI film"),
    (4, b"ftyp", "a film or HEIC picture"),
)

_ZEROS = "nothing but zeros"

MAGIC_BYTES = 16
"""How many bytes `recognise` wants to see."""


def recognise(start: bytes) -> str:
    """What the first bytes of a file are: "FITS", "PNG", "JPEG", "TIFF", "SER", "XISF", "raw", "gzip", or words."""
    for offset, magic, what in _MAGICS:
        if start[offset : offset + len(magic)] == magic:
            return what
    if not start.strip(b"\0"):
        return _ZEROS
    if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in start):
        return "text"
    return "data that we do not recognise"


def expect_magic(path: Path, start: bytes, wanted: tuple[str, ...], named: str) -> str:
    """Check that a file is what its name says.

    Parameters
    ----------
    start : the first `MAGIC_BYTES` bytes.
    wanted : what `recognise` may answer.
    named : what the name promises, for the sentence.

    Returns
    -------
    what was recognised

    Raises
    ------
    UnreadableFrame, TruncatedFrame
    """
    if not start:
        raise truncated(path, 0, 0)
    found = recognise(start)
    if found in wanted:
        return found
    if len(start) < MAGIC_BYTES and any(magic[: len(start)] == start for _, magic, what in _MAGICS if what in wanted):
        raise broken_off(path, len(start), "inside its first words")
    if found == _ZEROS:
        raise broken_off(path, path.stat().st_size, "which are zeros so far")
    kinds = {"FITS", "PNG", "JPEG", "TIFF", "SER", "XISF", "raw", "gzip"}
    if found in kinds:
        raise UnreadableFrame(f"{path.name} is named like {named} but holds {found} data; give it the right extension.")
    raise UnreadableFrame(f"{path.name} is named like {named} but holds {found}; it is no frame.")
