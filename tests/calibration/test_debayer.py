"""Debayering against the published filters, applied by scipy, and against pictures whose colours are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import convolve

from livestack.base.frame import BAYER_PATTERNS
from livestack.calibration.debayer import debayer, debayer_region, red_position
from livestack.kernels.bands import Bands, split_rows

# Malvar, He & Cutler (2004), figure 2, as printed (times 8).
G_AT_X = np.array([[0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]]) / 8
X_IN_ROW = np.array([[0, 0, 0.5, 0, 0], [0, -1, 0, -1, 0], [-1, 4, 5, 4, -1], [0, -1, 0, -1, 0], [0, 0, 0.5, 0, 0]]) / 8
X_OPPOSITE = np.array([[0, 0, -3, 0, 0], [0, 4, 0, 4, 0], [-3, 0, 12, 0, -3], [0, 4, 0, 4, 0], [0, 0, -3, 0, 0]]) / 16
MHC = {"green": G_AT_X, "row": X_IN_ROW, "column": X_IN_ROW.T, "opposite": X_OPPOSITE}
BILINEAR = {
    "green": np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]]) / 4,
    "row": np.array([[0, 0, 0], [1, 0, 1], [0, 0, 0]]) / 2,
    "column": np.array([[0, 1, 0], [0, 0, 0], [0, 1, 0]]) / 2,
    "opposite": np.array([[1, 0, 1], [0, 0, 0], [1, 0, 1]]) / 4,
}


def colours(pattern, shape):
    """The colour letter of every pixel."""
    cell = np.array(list(pattern)).reshape(2, 2)
    return np.tile(cell, (shape[0] // 2 + 1, shape[1] // 2 + 1))[: shape[0], : shape[1]]


def mosaic_of(picture, pattern):
    letter = colours(pattern, picture.shape[1:])
    return np.select([letter == "R", letter == "G", letter == "B"], picture).astype(np.float32)


def debayer_slowly(mosaic, pattern, filters):
    """Whole-image convolutions (edges mirrored about the edge pixel), chosen by colour."""
    letter = colours(pattern, mosaic.shape)
    rows_with = {c: (letter == c).any(axis=1)[:, None] & np.ones_like(letter, bool) for c in "RB"}
    plane = {name: convolve(mosaic.astype(np.float64), f, mode="mirror") for name, f in filters.items()}
    out = []
    for c, opposite in (("R", "B"), ("G", ""), ("B", "R")):
        if c == "G":
            out.append(np.where(letter == "G", mosaic, plane["green"]))
        else:
            at_green = np.where(rows_with[c], plane["row"], plane["column"])
            out.append(np.select([letter == c, letter == opposite], [mosaic, plane["opposite"]], at_green))
    return np.array(out)


@pytest.fixture
def noise():
    return np.random.default_rng(7).normal(100, 300, (37, 52)).astype(np.float32)


@pytest.mark.parametrize("pattern", BAYER_PATTERNS)
@pytest.mark.parametrize("method, filters", [("mhc", MHC), ("bilinear", BILINEAR)])
@pytest.mark.parametrize("shape", [(37, 52), (20, 33), (4, 5)])
def test_equals_the_published_filters_edges_included(noise, pattern, method, filters, shape):
    mosaic = np.ascontiguousarray(noise[: shape[0], : shape[1]])
    expected = debayer_slowly(mosaic, pattern, filters)
    np.testing.assert_allclose(debayer(mosaic, pattern, method), expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("pattern", BAYER_PATTERNS)
@pytest.mark.parametrize("method", ["mhc", "bilinear"])
def test_keeps_a_plane_of_constant_colour_and_every_measured_sample(pattern, method):
    picture = np.ones((3, 22, 31)) * np.array([300.0, -20.0, 90.0])[:, None, None]
    mosaic = mosaic_of(picture, pattern)
    np.testing.assert_allclose(debayer(mosaic, pattern, method), picture, atol=1e-3)
    mosaic += np.random.default_rng(1).normal(0, 5, mosaic.shape).astype(np.float32)
    np.testing.assert_array_equal(mosaic_of(debayer(mosaic, pattern, method), pattern), mosaic)


@pytest.mark.parametrize("pattern", BAYER_PATTERNS)
def test_superpixel_takes_the_cell_apart(pattern):
    rng = np.random.default_rng(3)
    mosaic = rng.normal(50, 9, (11, 17)).astype(np.float32)
    out = debayer(mosaic, pattern, "superpixel")
    assert out.shape == (3, 5, 8)
    cells = mosaic[:10, :16].reshape(5, 2, 8, 2).transpose(0, 2, 1, 3).reshape(5, 8, 4)
    letters = np.array(list(pattern))
    for plane, letter in zip(out, "RGB", strict=True):
        np.testing.assert_allclose(plane, cells[..., letters == letter].mean(axis=-1), rtol=1e-6)


@pytest.mark.parametrize("method", ["mhc", "bilinear"])
@pytest.mark.parametrize("pattern", ["RGGB", "GBRG"])
def test_missing_samples_stay_missing_in_their_own_colour_only(noise, method, pattern):
    whole = debayer(noise, pattern, method)
    letter = colours(pattern, noise.shape)
    holes = [(0, 0), (17, 30), (18, 31), (36, 51), (9, 12)]
    mosaic = noise.copy()
    for y, x in holes:
        mosaic[y, x] = np.nan
    out = debayer(mosaic, pattern, method)
    expected = {("RGB".index(str(letter[y, x])), y, x) for y, x in holes}
    assert {tuple(int(i) for i in p) for p in np.argwhere(np.isnan(out))} == expected
    reach = np.zeros(noise.shape, bool)
    for y, x in holes:
        reach[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3] = True
    np.testing.assert_array_equal(out[:, ~reach], whole[:, ~reach])


def test_a_missing_neighbour_is_replaced_by_the_mean_of_the_others():
    mosaic = np.arange(48, dtype=np.float32).reshape(6, 8)
    mosaic[2, 3] = np.nan  # green beside the red pixel (2, 2)
    green = debayer(mosaic, "RGGB", "bilinear")[1, 2, 2]
    assert green == pytest.approx(np.mean([mosaic[1, 2], mosaic[3, 2], mosaic[2, 1]]))


@pytest.mark.parametrize("method", ["mhc", "bilinear", "superpixel"])
def test_threads_change_nothing(noise, method):
    with Bands(3) as bands:
        np.testing.assert_array_equal(debayer(noise, "GRBG", method, bands=bands), debayer(noise, "GRBG", method))


@pytest.mark.parametrize("pattern", BAYER_PATTERNS)
@pytest.mark.parametrize("box", [(0, 37, 0, 52), (5, 20, 7, 33), (35, 37, 0, 1), (0, 1, 49, 52), (11, 12, 20, 21)])
def test_a_region_is_the_whole_cropped(noise, pattern, box):
    y0, y1, x0, x1 = box
    noise[12, 20] = np.nan
    np.testing.assert_array_equal(
        debayer_region(noise, pattern, y0, y1, x0, x1), debayer(noise, pattern)[:, y0:y1, x0:x1]
    )


def test_mhc_is_closer_to_the_truth_than_bilinear_where_colours_share_detail():
    y, x = np.mgrid[:60, :82]
    star = 4000 * np.exp(-((x - 40.3) ** 2 + (y - 29.6) ** 2) / (2 * 1.3**2))
    picture = star * np.array([0.9, 1.0, 0.8])[:, None, None]
    errors = [np.abs(debayer(mosaic_of(picture, "RGGB"), "RGGB", m) - picture).mean() for m in ("mhc", "bilinear")]
    assert errors[0] < 0.7 * errors[1]


def test_result_goes_where_the_caller_says(noise):
    out = np.empty((3, *noise.shape), np.float32)
    assert debayer(noise, "RGGB", out=out) is out


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda m: debayer(m, "RGBG"), "pattern: expected one of RGGB"),
        (lambda m: debayer(m, "RGGB", "vng"), "method: expected mhc"),
        (lambda m: debayer(m.astype(np.uint16), "RGGB"), "calibrate it first"),
        (lambda m: debayer(m[:3], "RGGB"), "4 x 4 or more"),
        (lambda m: debayer(m, "RGGB", out=np.empty((3, 4, 4), np.float32)), "out: expected"),
        (lambda m: debayer_region(m, "RGGB", 0, 40, 0, 5), "do not lie within 37 rows"),
        (lambda m: debayer_region(m, "RGGB", 0, 4, 0, 5, "superpixel"), "mhc or bilinear for a region"),
    ],
)
def test_wrong_arguments_are_named(call, text):
    with pytest.raises(ValueError, match=text):
        call(np.zeros((37, 52), np.float32))


def test_red_is_found_in_every_pattern():
    assert [red_position(p) for p in ("RGGB", "GRBG", "GBRG", "BGGR")] == [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.mark.parametrize("rows, bands", [(1, 4), (2, 1), (7, 3), (100, 8), (101, 8)])
def test_bands_cover_all_rows_once(rows, bands):
    cut = split_rows(rows, bands)
    assert [y for y0, y1 in cut for y in range(y0, y1)] == list(range(rows))
    assert all(y0 % 2 == 0 for y0, _ in cut)


def test_an_error_in_a_band_reaches_the_caller():
    def fail(y0, y1):
        if y0 > 10:
            raise RuntimeError(f"band at {y0}")

    with Bands(2) as bands, pytest.raises(RuntimeError, match="band at"):
        bands.run(fail, 100)
