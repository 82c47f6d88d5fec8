"""Filters to colour: names as people write them, channels that are known, palettes that mix as they say."""

from __future__ import annotations

import numpy as np
import pytest

from livestack.base.errors import UsageError
from livestack.picture.compose import PALETTES, choose_palette, compose, filter_role, parse_palette

HEIGHT, WIDTH = 300, 420


def blob(x, y, size_px, peak):
    yy, xx = np.mgrid[0:HEIGHT, 0:WIDTH]
    return peak * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * size_px**2))


def stars(scale=1.0, count=120, seed=20):
    rng = np.random.default_rng(seed)
    image = np.zeros((HEIGHT, WIDTH))
    for _ in range(count):
        x, y = rng.integers(10, WIDTH - 10), rng.integers(10, HEIGHT - 10)
        yy, xx = np.mgrid[-8:9, -8:9]
        image[y - 8 : y + 9, x - 8 : x + 9] += min(150 * (rng.pareto(1.2) + 0.3), 4000) * np.exp(
            -(xx**2 + yy**2) / (2 * 1.7**2)
        )
    return scale * image


def stack(light, sky, noise=3.0, seed=21):
    rng = np.random.default_rng(seed)
    return (sky + light + rng.normal(0, noise, (HEIGHT, WIDTH))).astype(np.float32)


@pytest.mark.parametrize(
    "name, role",
    [
        ("L", "L"), ("Lum", "L"), ("Luminance", "L"), ("Clear", "L"), ("UV/IR Cut", "L"), ("Astronomik L", "L"),
        ("R", "R"), ("red", "R"), ("Baader Red", "R"), ("G", "G"), ("GREEN", "G"), ("B", "B"), ("Blue ", "B"),
        ("Ha", "Ha"), ("H-alpha", "Ha"), ("H_Alpha", "Ha"), ("H Alpha 7nm", "Ha"), ("Antlia 3nm Ha", "Ha"),
        ("Hα", "Ha"),
        ("OIII", "OIII"), ("O3", "OIII"), ("O-III", "OIII"), ("oiii 6.5nm", "OIII"), ("Baader O-III 8.5 nm", "OIII"),
        ("SII", "SII"), ("S2", "SII"), ("S-II", "SII"), ("NII", "NII"), ("H-beta", "Hb"),
        ("", None), ("L-eXtreme Ha OIII", None), ("Filter 3", None), ("V", None),
    ],
)  # fmt: skip
def test_filters_are_known_by_their_names(name, role):
    assert filter_role(name) == role


def test_known_channels_come_to_their_places():
    """Without stars there is nothing to balance by: what went in, less the sky, comes out."""
    light = {"R": blob(100, 150, 25, 300), "G": blob(210, 150, 25, 300), "B": blob(320, 150, 25, 300)}
    channels = {
        name: stack(part, sky, seed=i)
        for i, ((name, part), sky) in enumerate(zip(light.items(), (500, 900, 100), strict=True))
    }
    rgb = compose(channels, "RGB")
    assert rgb.dtype == np.float32
    for plane, part in zip(rgb, light.values(), strict=True):
        assert abs(np.median(plane)) < 4
        np.testing.assert_allclose(plane - np.median(plane), part - np.median(part), atol=18)


def test_broadband_filters_are_balanced_by_the_stars():
    channels = {name: stack(stars(scale), sky, seed=i) for i, (name, scale, sky) in enumerate(
        (("Red", 0.6, 800), ("Green", 1.0, 900), ("Blue", 0.45, 700)))}  # fmt: skip
    rgb = compose(channels)
    bright = stars() > 200
    totals = np.array([plane[bright].sum() for plane in rgb])
    np.testing.assert_allclose(totals / totals[1], 1, atol=0.04)


def test_narrowband_filters_are_brought_to_one_strength():
    """Sulphur at a tenth of H-alpha must show; the hydrogen map is the green of the Hubble palette."""
    shape = {"Ha": blob(150, 150, 40, 500), "SII": blob(200, 150, 40, 50), "OIII": blob(250, 150, 40, 120)}
    channels = {name: stack(part, 300, seed=i) for i, (name, part) in enumerate(shape.items())}
    red, green, blue = compose(channels)
    for plane, name in ((red, "SII"), (green, "Ha"), (blue, "OIII")):
        y, x = np.unravel_index(np.argmax(shape[name]), shape[name].shape)
        assert plane[y - 3 : y + 4, x - 3 : x + 4].mean() == pytest.approx(500, rel=0.15)


def test_a_filter_without_signal_is_not_blown_up_without_end():
    channels = {"Ha": stack(blob(150, 150, 40, 5000), 300), "OIII": stack(np.zeros((HEIGHT, WIDTH)), 300, seed=2)}
    _, green, blue = compose(channels, "HOO")
    np.testing.assert_array_equal(green, blue)
    assert green.std() < 10 * 3 * 1.2


def test_luminance_sets_the_brightness_and_leaves_the_colour():
    colour = stars(count=150)
    nebula = blob(210, 150, 30, 200)
    channels = {
        "R": stack(colour + 1.5 * nebula, 500, 12, 1),
        "G": stack(colour + nebula, 600, 12, 2),
        "B": stack(colour + 0.5 * nebula, 700, 12, 3),
        "L": stack(3 * (colour + nebula), 2000, 4, 4),
    }
    with_light, without = compose(channels, "LRGB"), compose(channels, "RGB")
    core = (slice(145, 156), slice(205, 216))
    ratio = [image[0][core].mean() / image[2][core].mean() for image in (with_light, without)]
    assert ratio[0] == pytest.approx(ratio[1], rel=0.03)
    luma = [0.3 * image[0] + 0.4 * image[1] + 0.3 * image[2] for image in (with_light, without)]
    assert luma[0][core].mean() == pytest.approx(luma[1][core].mean(), rel=0.08)
    # The luminance has a ninth of the noise that the colours have; the sky must profit.
    corner = (slice(0, 60), slice(0, 60))
    assert np.median(np.abs(luma[0][corner])) < 0.6 * np.median(np.abs(luma[1][corner]))


def test_colour_camera_and_mono_luminance_go_together():
    osc = np.stack([stack(stars(s), 500, seed=i) for i, s in enumerate((0.5, 1.0, 0.7))])
    rgb = compose({"": osc, "Clear": stack(stars(4), 900, seed=9)})
    assert rgb.shape == (3, HEIGHT, WIDTH)
    bright = stars() > 200
    totals = np.array([plane[bright].sum() for plane in rgb])
    np.testing.assert_allclose(totals / totals[1], 1, atol=0.05)


def test_ones_own_mixture():
    channels = {"Ha": stack(blob(100, 150, 30, 400), 300), "OIII": stack(blob(300, 150, 30, 400), 300, seed=5)}
    mixed = compose(channels, "R=Ha, G=0.25*Ha+0.75*OIII, B=OIII")
    plain = compose(channels, "HOO")
    np.testing.assert_allclose(mixed[1], 0.25 * plain[0] + 0.75 * plain[1], atol=1e-3)
    same = compose(channels, {"R": {"Ha": 1}, "G": {"Ha": 0.25, "OIII": 0.75}, "B": {"OIII": 1}})
    np.testing.assert_array_equal(mixed, same)


def test_no_data_stays_no_data():
    channels = {name: stack(stars(), 500, seed=i) for i, name in enumerate("LRGB")}
    channels["G"][:, :40] = np.nan
    channels["L"][200:] = np.nan
    rgb = compose(channels)
    assert np.isnan(rgb[1, :, :40]).all()
    assert np.isnan(rgb[:, 200:]).all()
    assert np.isfinite(rgb[:, :200, 40:]).all()
    assert compose({name: np.full((30, 40), np.nan, np.float32) for name in "RGB"}).shape == (3, 30, 40)


def test_the_palette_follows_from_the_filters():
    assert choose_palette({"L", "R", "G", "B"}) == "LRGB"
    assert choose_palette({"R", "G", "B", "Ha"}) == "RGB"
    assert choose_palette({"SII", "Ha", "OIII"}) == "SHO"
    assert choose_palette({"Ha", "OIII"}) == "HOO"
    assert parse_palette("sho") == PALETTES["SHO"]


class TestRefusals:
    plane = np.zeros((30, 40), np.float32)

    def test_what_is_missing_is_named(self):
        with pytest.raises(UsageError, match=r"needs B, G, R; there is Ha, OIII"):
            compose({"Ha": self.plane, "OIII": self.plane}, "RGB")

    def test_a_single_filter_makes_no_colour(self):
        with pytest.raises(UsageError, match="no palette fits the filters Ha"):
            compose({"Ha": self.plane})

    def test_sizes_must_agree(self):
        with pytest.raises(UsageError, match="one reference"):
            compose({"Ha": self.plane, "OIII": np.zeros((31, 40), np.float32)})

    def test_two_of_a_kind_are_refused(self):
        with pytest.raises(UsageError, match="'Red' and 'R' are both R"):
            compose({"Red": self.plane, "R": self.plane})

    def test_a_name_that_says_nothing_is_refused(self):
        with pytest.raises(UsageError, match="'Filter 3'"):
            compose({"Filter 3": self.plane})

    @pytest.mark.parametrize("text", ["R=Ha", "R=Ha,G=Ha,B=what", "R=Ha,G=Ha,B=2**OIII", "X=Ha,R=R,G=G,B=B", "HST"])
    def test_a_palette_that_is_not_understood_is_quoted(self, text):
        with pytest.raises(UsageError, match="palette"):
            parse_palette(text)
