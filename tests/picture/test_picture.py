"""Pictures of synthetic skies whose colours, sky and noise are known."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from astropy.io import fits

from livestack.base.settings import RenderSettings
from livestack.kernels.bands import Bands
from livestack.picture import (
    Look,
    Picture,
    encode_jpeg,
    encode_png,
    encode_tiff,
    measure_look,
    measure_small,
    reduce_planes,
    render,
    render_part,
    render_small,
    shrink,
    shrink_stack,
)
from livestack.picture.picture import count_levels, stretch_curve

HEIGHT, WIDTH = 360, 520
SKY = np.array([900.0, 1500.0, 1100.0])
RESPONSE = np.array([0.5, 1.0, 0.7])
"""What the sensor makes of white light: greenish, as bare sensors are."""
SETTINGS = RenderSettings()


def place_star(image, x, y, flux, sigma=1.6):
    yy, xx = np.mgrid[-9:10, -9:10]
    spot = np.exp(-(xx**2 + yy**2) / (2 * sigma**2)) / (2 * math.pi * sigma**2)
    image[:, y - 9 : y + 10, x - 9 : x + 10] += np.asarray(flux, float)[:, None, None] * spot


def star_field(seed=1, noise=10.0, n_stars=150, tilt=0.15, response=RESPONSE, size=(HEIGHT, WIDTH)):
    """(3, H, W) float32: tilted sky, stars whose median colour is white, a reddish nebula, the sensor's response."""
    rng = np.random.default_rng(seed)
    height, width = size
    image = np.zeros((3, height, width))
    for _ in range(n_stars):
        warmth = rng.normal(0, 0.15)
        flux = 3000 * (rng.pareto(1.2) + 0.3)
        flux = min(flux, 2e5)
        place_star(
            image,
            rng.integers(12, width - 12),
            rng.integers(12, height - 12),
            flux * np.exp([warmth, 0.0, -warmth]) * response,
        )
    y, x = np.mgrid[0:height, 0:width]
    glow = np.exp(-((x - 0.6 * width) ** 2 + (y - 0.4 * height) ** 2) / (2 * (0.06 * width) ** 2))
    image += np.array([160.0, 80.0, 60.0])[:, None, None] * response[:, None, None] * glow
    image += SKY[:, None, None] * (1 + tilt * (x / width - 0.5))
    image += rng.normal(0, noise, image.shape)
    return image.astype(np.float32)


def draw(image, settings=SETTINGS, **options) -> np.ndarray:
    return render(image, measure_look(image, settings), **options).rgb


class TestColour:
    @pytest.mark.parametrize("response", [RESPONSE, np.array([1.4, 1.0, 0.6]), np.ones(3)])
    def test_the_sensors_cast_is_undone(self, response):
        look = measure_look(star_field(response=response, n_stars=300), SETTINGS)
        neutral = look.gains * response
        np.testing.assert_allclose(neutral / neutral.mean(), 1, atol=0.05)
        assert look.n_stars > 40

    def test_white_stars_are_grey_and_the_sky_is_grey(self):
        image = star_field(n_stars=120)
        spots = [(60, 60), (260, 300), (450, 60)]
        for x, y in spots:
            image[:, y - 12 : y + 13, x - 12 : x + 13] = SKY[:, None, None]
            place_star(image, x, y, 15000 * RESPONSE)
        rgb = draw(image).astype(float)
        for x, y in spots:
            red, green, blue = rgb[y - 1 : y + 2, x - 1 : x + 2].mean(axis=(0, 1))
            assert min(red, green, blue) > 150
            assert max(red, green, blue) - min(red, green, blue) < 12
        red, green, blue = np.median(rgb.reshape(-1, 3), axis=0)
        assert max(red, green, blue) - min(red, green, blue) <= 1

    @pytest.mark.parametrize("n_stars", [0, 1])
    def test_a_galaxy_without_stars_is_not_green(self, n_stars):
        image = star_field(seed=31, n_stars=n_stars)
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
        galaxy = 600 * np.exp(-np.hypot((x - 150) / 30, (y - 250) / 12))
        rgb = draw((image + galaxy * RESPONSE[:, None, None]).astype(np.float32)).astype(float)
        red, green, blue = rgb[244:257, 135:166].mean(axis=(0, 1))
        assert green <= 1.03 * max(red, blue)

    @pytest.mark.parametrize("noise", [10.0, 60.0])
    @pytest.mark.parametrize("n_stars", [0, 3, 150])
    def test_there_is_never_a_green_cast(self, noise, n_stars):
        """From the first frame on, with and without stars: green is nowhere the strongest on average."""
        rgb = draw(star_field(seed=2, noise=noise, n_stars=n_stars)).astype(float)
        red, green, blue = rgb.reshape(-1, 3).mean(axis=0)
        assert green < 1.03 * (red + blue) / 2

    def test_a_single_noisy_frame_shows_no_coloured_noise(self):
        image = star_field(seed=3, noise=40.0, n_stars=30)
        rgb = draw(image).astype(float)
        corner = rgb[:80, :120].reshape(-1, 3)
        grain = corner.mean(axis=1).std()
        chroma = (corner - corner.mean(axis=1, keepdims=True)).std()
        assert 2 < grain < 14
        assert chroma < 0.25 * grain

    def test_a_frame_beside_the_stack_is_grainy_but_no_carpet_of_colours(self):
        rng = np.random.default_rng(30)
        stack = star_field(seed=3, noise=3.0, n_stars=30)
        frame = (stack + rng.normal(0, 30, stack.shape)).astype(np.float32)
        look = measure_look(stack, SETTINGS)
        chroma = []
        for each in (look, look.with_grain(10)):
            corner = render(frame, each).rgb[:80, :120].astype(float)
            chroma.append((corner - corner.mean(axis=2, keepdims=True)).std())
        assert chroma[1] < 0.2 * chroma[0]

    def test_coloured_stars_keep_their_colour_where_they_are_bright(self):
        image = star_field(seed=4, n_stars=120)
        for x, flux in ((100, 30000), (300, 300000)):
            image[:, 168:193, x - 12 : x + 13] = SKY[:, None, None]
            place_star(image, x, 180, flux * np.array([1.7, 1.0, 0.45]) * RESPONSE)
        rgb = draw(image).astype(float)
        for x in (100, 300):
            ring = np.array([rgb[180, x + d] for d in (-4, 4)]).mean(axis=0)
            assert ring[0] > 1.3 * ring[2] > 0
            core = rgb[180, x]
            assert core[0] >= core[1] >= core[2]

    def test_the_nebula_is_red_and_clear_of_the_sky(self):
        rgb = draw(star_field(seed=5, noise=15.0)).astype(float)
        x, y = round(0.6 * WIDTH), round(0.4 * HEIGHT)
        core = np.median(rgb[y - 8 : y + 9, x - 8 : x + 9].reshape(-1, 3), axis=0)
        assert core.mean() > 2.0 * np.median(rgb)
        assert core[0] > 1.15 * core[2]

    def test_saturation_nought_is_grey(self):
        rgb = draw(star_field(), RenderSettings(saturation=0))
        assert np.ptp(rgb.astype(int), axis=2).max() <= 1

    def test_balance_can_be_left_alone(self):
        look = measure_look(star_field(), RenderSettings(white_balance="none"))
        np.testing.assert_array_equal(look.gains, 1)

    def test_unlinked_channels_are_stretched_by_their_noise(self):
        image = star_field(noise=10.0)
        image[0] = (image[0] - SKY[0]) * 3 + SKY[0]
        gains = measure_look(image, RenderSettings(linked=False)).gains
        assert gains[1] / gains[0] == pytest.approx(3, rel=0.05)


class TestStretch:
    @pytest.mark.parametrize("stretch", ["auto", "asinh", "log", "gamma"])
    @pytest.mark.parametrize("background", [0.06, 0.12, 0.25])
    def test_the_sky_comes_to_the_asked_brightness(self, stretch, background):
        rgb = draw(star_field(), RenderSettings(stretch=stretch, background=background))
        assert np.median(rgb) / 255 == pytest.approx(background, abs=0.012)

    @pytest.mark.parametrize("stretch", ["auto", "asinh", "log", "gamma", "linear"])
    def test_more_light_is_never_darker(self, stretch):
        look = measure_look(star_field(), RenderSettings(stretch=stretch))
        curve, _, _ = stretch_curve(look, 1.0)
        assert (np.diff(curve) >= 0).all()
        assert curve[0] == 0
        assert curve[-1] == pytest.approx(1, abs=1e-6)
        ramp = np.linspace(0, 30000, WIDTH, dtype=np.float32) * np.ones((1, HEIGHT, 1), np.float32)
        mono = measure_look(star_field()[1:2], RenderSettings(stretch=stretch))
        row = render(ramp, mono, depth=16).rgb[0, :, 0].astype(int)
        assert (np.diff(row) >= 0).all()
        assert row[-1] > 30000

    def test_black_middle_and_white_cut_the_stretched_picture(self):
        """Levels as an image editor has them, on the stretched picture."""
        plain = draw(star_field(), RenderSettings(saturation=0))[..., 0] / 255
        cut = draw(star_field(), RenderSettings(saturation=0, black=0.1, midtone=0.3, white=0.8))[..., 0] / 255
        x = np.clip((plain - 0.1) / 0.7, 0, 1)
        expected = (0.3 - 1) * x / ((2 * 0.3 - 1) * x - 0.3)
        assert np.abs(cut - expected).max() < 0.02
        with pytest.raises(ValueError, match="must lie below white"):
            RenderSettings(black=0.5, white=0.4)

    def test_a_single_frame_as_the_norm_keeps_the_brightness(self):
        """Where a frame sets the stretch, a deep stack of the same sky looks the same, with less noise."""
        x, y = round(0.6 * WIDTH), round(0.4 * HEIGHT)
        here = np.s_[y - 5 : y + 6, x - 5 : x + 6]
        one = draw(star_field(noise=40.0), RenderSettings())
        deep = star_field(noise=5.0)
        look = measure_look(deep, RenderSettings(norm="frame"))
        normed = render(deep, look.normed(8.0)).rgb
        assert np.median(normed[here]) == pytest.approx(np.median(one[here]), abs=6)
        assert np.median(render(deep, look).rgb[here]) > np.median(one[here]) + 20
        rough = [np.median(np.abs(np.diff(rgb[..., 1].astype(int), axis=1))) for rgb in (normed, one)]
        assert rough[0] < 0.3 * rough[1]

    def test_the_histogram_is_that_of_the_picture(self):
        image = star_field()
        look = measure_look(image, RenderSettings(saturation=1, black=0.2))
        counted = count_levels(shrink(image), look)
        assert counted.shape == (3, 64)
        plain = render(image, measure_look(image, RenderSettings(saturation=1))).rgb
        for channel in range(3):
            middle = (np.arange(64) + 0.5) @ counted[channel] / counted[channel].sum() / 64
            assert middle == pytest.approx(plain[..., channel].mean() / 255, abs=0.03)

    def test_the_gradient_is_gone_unless_asked_for(self):
        image = star_field(tilt=0.3)
        for removed, most in ((True, 3), (False, 255)):
            rgb = draw(image, RenderSettings(gradient_removal=removed))
            left, right = np.median(rgb[:, :90]), np.median(rgb[:, -90:])
            assert abs(right - left) <= most
            if not removed:
                assert right - left > 20

    def test_more_frames_show_fainter_things(self):
        """The stretch follows the noise, or a longer night would show no more than a short one."""
        x, y = round(0.6 * WIDTH), round(0.4 * HEIGHT)
        shown = [np.median(draw(star_field(noise=noise))[y - 5 : y + 6, x - 5 : x + 6]) for noise in (40.0, 10.0, 2.5)]
        assert shown[0] < shown[1] < shown[2]


class TestStability:
    def test_realisations_of_one_sky_look_the_same(self):
        looks = [measure_look(star_field_of(noise_seed), SETTINGS) for noise_seed in range(6)]
        skies = np.array([look.surface.evaluate(HEIGHT, WIDTH)[:, 180, 260] for look in looks])
        assert skies.std(axis=0).max() < 0.1 * 10
        sigmas = np.array([look.noise_at(1) for look in looks])
        assert sigmas.std() / sigmas.mean() < 0.02
        gains = np.array([look.gains for look in looks])
        assert (gains.std(axis=0) / gains.mean(axis=0)).max() < 0.02

    def test_colours_and_white_follow_slowly_and_arrive(self):
        first = measure_look(star_field(), SETTINGS)
        changed = star_field(response=RESPONSE[::-1].copy())
        target = measure_look(changed, SETTINGS)
        look, steps = first, []
        for _ in range(15):
            follower = measure_look(changed, SETTINGS, look)
            steps.append(np.abs(np.log(follower.gains / look.gains)).max())
            look = follower
        whole = np.abs(np.log(target.gains / first.gains)).max()
        assert max(steps) < 0.4 * whole
        np.testing.assert_allclose(look.gains, target.gains, rtol=0.02)
        assert look.white == pytest.approx(target.white, rel=0.05)

    def test_the_sky_is_followed_at_once(self):
        """A brighter sky must not turn the picture grey for the next ten frames."""
        image = star_field()
        first = measure_look(image, SETTINGS)
        brighter = image + np.array([300, 500, 200], np.float32)[:, None, None]
        rgb = render(brighter, measure_look(brighter, SETTINGS, first)).rgb
        assert np.abs(np.median(rgb.reshape(-1, 3), axis=0) - 0.12 * 255).max() < 4

    def test_another_gradient_is_taken_out_at_once_and_noise_is_not_followed(self):
        """The Moon rises, or another frame becomes the reference and turns the field."""
        first = measure_look(star_field(tilt=0.15), SETTINGS)
        turned = star_field(tilt=-0.25)
        rgb = render(turned, measure_look(turned, SETTINGS, first)).rgb
        assert abs(np.median(rgb[:, :90]) - np.median(rgb[:, -90:])) <= 3
        again = star_field_of(3)
        alone, blended = measure_look(again, SETTINGS), measure_look(again, SETTINGS, first)
        shape = [look.surface.coefficients[:, 1, 0] for look in (first, alone, blended)]
        np.testing.assert_allclose(shape[2], 0.7 * shape[0] + 0.3 * shape[1])

    def test_new_settings_take_effect_at_once(self):
        image = star_field()
        look = measure_look(image, RenderSettings(background=0.3), measure_look(image, SETTINGS))
        assert np.median(render(image, look).rgb) / 255 == pytest.approx(0.3, abs=0.02)

    def test_a_look_of_another_size_is_forgotten(self):
        small = star_field(size=(200, 300))
        look = measure_look(small, SETTINGS, measure_look(star_field(), SETTINGS))
        assert look.size == (300, 200)


def star_field_of(noise_seed):
    """The same stars and sky with other noise."""
    rng = np.random.default_rng(100 + noise_seed)
    clean = star_field(seed=1, noise=0.0)
    return (clean + rng.normal(0, 10, clean.shape)).astype(np.float32)


class TestBright:
    def moon(self, channels=1):
        rng = np.random.default_rng(11)
        ground = cv2.GaussianBlur(rng.normal(0, 1, (HEIGHT, WIDTH)).astype(np.float32), (0, 0), 4)
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
        disc = ((x - 200) ** 2 + (y - 420) ** 2 < 330**2).astype(np.float32)
        image = 40 + disc * (6000 + 12000 * ground) + rng.normal(0, 20, ground.shape)
        return np.repeat(image[None], channels, axis=0).astype(np.float32)

    def test_the_moon_is_shown_as_it_is(self):
        image = self.moon()
        look = measure_look(image, SETTINGS)
        assert look.kind == "bright"
        rgb = render(image, look).rgb[..., 0]
        ground = rgb[250:, 100:300]
        assert 60 < np.median(ground) < 210
        assert (ground == 255).mean() < 0.02
        assert np.median(rgb[:60, 420:]) < 8

    def test_a_planet_on_a_black_sky_is_not_torn_up(self):
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
        disc = 9000 * ((x - 250) ** 2 + (y - 170) ** 2 < 45**2)
        image = (100 + disc + np.random.default_rng(12).normal(0, 25, disc.shape))[None].astype(np.float32)
        assert measure_look(image, SETTINGS).kind == "bright"

    @pytest.mark.parametrize("noise", [2.0, 10.0, 100.0])
    @pytest.mark.parametrize("n_stars", [0, 20, 400])
    def test_skies_are_skies(self, noise, n_stars):
        assert measure_look(star_field(noise=noise, n_stars=n_stars), SETTINGS).kind == "sky"

    def test_the_cast_of_a_bare_sensor_is_taken_out_of_the_moon_too(self):
        image = self.moon(3) * RESPONSE[:, None, None].astype(np.float32)
        rgb = draw(image)
        red, green, blue = np.median(rgb[250:, 100:300].reshape(-1, 3), axis=0)
        assert max(red, green, blue) - min(red, green, blue) < 6


class TestGeometry:
    def test_a_region_is_that_part_of_the_picture(self):
        image = star_field()
        look = measure_look(image, SETTINGS)
        whole = render(image, look).rgb
        for x, y, w, h in (
            (0, 0, 64, 48),
            (133, 77, 101, 203),
            (WIDTH - 40, HEIGHT - 30, 40, 30),
            (0, 0, WIDTH, HEIGHT),
        ):
            part = render(image, look, region=(x, y, w, h)).rgb
            assert part.shape == (h, w, 3)
            difference = np.abs(part.astype(int) - whole[y : y + h, x : x + w])
            # Vectorised smoothing may round the last bit otherwise at another column.
            assert difference.max() <= 1
            assert (difference > 0).mean() < 1e-3

    def test_a_region_is_cut_at_the_border_and_refused_outside(self):
        image = star_field()
        look = measure_look(image, SETTINGS)
        assert render(image, look, region=(-20, HEIGHT - 10, 50, 50)).rgb.shape == (10, 30, 3)
        with pytest.raises(ValueError, match="outside"):
            render(image, look, region=(WIDTH, 0, 10, 10))

    def test_a_piece_with_its_margin_is_that_part_of_the_picture(self):
        image = star_field()
        look = measure_look(image, SETTINGS)
        whole = render(image, look).rgb
        part = render_part(image[:, 92:208, 142:258].copy(), look, (142, 92)).rgb
        assert np.abs(part[8:-8, 8:-8].astype(int) - whole[100:200, 150:250]).max() <= 1
        flipped = render_part(image[:, 92:208, 142:258].copy(), look, (142, 92), bottom_up=True).rgb
        np.testing.assert_array_equal(flipped, part[::-1])

    def test_bottom_up_data_are_shown_upright_and_regions_with_them(self):
        image = star_field()
        look = measure_look(image, SETTINGS)
        upright = render(image, look).rgb[::-1]
        flipped = render(image, look, bottom_up=True)
        np.testing.assert_array_equal(flipped.rgb, upright)
        part = render(image, look, region=(10, 20, 60, 40), bottom_up=True).rgb
        assert np.abs(part.astype(int) - upright[20:60, 10:70]).max() <= 1

    def test_reduction_is_the_mean_of_what_lies_under_a_pixel(self):
        rng = np.random.default_rng(13)
        image = rng.normal(100, 10, (3, 240, 400)).astype(np.float32)
        image[:, 40:47, 100:131] = np.nan
        small, scale = reduce_planes(image, 100)
        assert scale == 4
        blocks = image.reshape(3, 60, 4, 100, 4).swapaxes(2, 3).reshape(3, 60, 100, 16)
        counts = np.isfinite(blocks).sum(axis=3)
        with np.errstate(invalid="ignore"):
            expected = np.nansum(blocks, axis=3) / np.where(counts, counts, np.nan)
        np.testing.assert_allclose(small, expected, rtol=1e-5)

    def test_a_reduction_that_is_no_whole_number_keeps_the_light(self):
        image = star_field()
        small, scale = reduce_planes(image, 200)
        assert scale == pytest.approx(2.6)
        assert small.shape == (3, round(HEIGHT / 2.6), 200)
        assert small.mean(dtype=float) == pytest.approx(image.mean(dtype=float), rel=1e-3)
        ramp = np.broadcast_to(np.arange(WIDTH, dtype=np.float32), (1, HEIGHT, WIDTH)).copy()
        centres = (np.arange(200) + 0.5) * 2.6 - 0.5
        row = reduce_planes(ramp, 200)[0][0, 7]
        # Pixels are squares of one value: the mean under 0 .. 2.6 is (0 + 1 + 0.6 x 2) / 2.6.
        assert row[0] == pytest.approx(2.2 / 2.6)
        np.testing.assert_allclose(row, centres, atol=0.05)
        assert abs((row - centres).mean()) < 1e-3

    def test_threads_change_nothing(self):
        image = star_field()
        with Bands(2) as bands:
            look = measure_look(image, RenderSettings(preview_width=200), bands=bands)
            shared = render(image, look, 200, bands=bands).rgb
        alone = render(image, measure_look(image, RenderSettings(preview_width=200)), 200).rgb
        np.testing.assert_array_equal(shared, alone)

    def test_the_data_are_not_touched(self):
        image = star_field()
        before = image.copy()
        draw(image)
        draw(image, max_side=200)
        np.testing.assert_array_equal(image, before)


class TestNoData:
    def test_no_data_is_black_and_changes_nothing_else(self):
        image = star_field()
        clean = measure_look(image, SETTINGS)
        hole = image.copy()
        hole[:, :, :60] = np.nan
        hole[:, 300:, :] = np.nan
        look = measure_look(hole, SETTINGS)
        rgb = render(hole, look).rgb
        assert (rgb[:, :60] == 0).all()
        assert (rgb[300:] == 0).all()
        # No ringing along the border: its pixels are sky like the others.
        border = np.median(rgb[:300, 60:62].reshape(-1, 3), axis=0)
        inner = np.median(rgb[:300, 100:160].reshape(-1, 3), axis=0)
        assert np.abs(border - inner).max() <= 4
        np.testing.assert_allclose(look.gains, clean.gains, rtol=0.06)

    def test_one_channel_without_data_is_grey_there(self):
        image = star_field()
        image[0, :, :50] = np.nan
        rgb = draw(image).astype(int)
        assert np.isfinite(rgb).all()
        assert rgb[:, :50].mean() > 15

    @pytest.mark.parametrize("channels", [1, 3])
    def test_nothing_at_all_is_a_black_picture(self, channels):
        assert (draw(np.full((channels, 40, 60), np.nan, np.float32)) == 0).all()

    @pytest.mark.parametrize("value", [0.0, 1234.0])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_a_constant_frame_is_survived(self, channels, value):
        rgb = draw(np.full((channels, 40, 60), value, np.float32))
        assert np.ptp(rgb) <= 1

    @pytest.mark.parametrize("shape", [(3, 1, 1), (1, 3, 500), (3, 16, 9)])
    def test_tiny_frames_are_survived(self, shape):
        image = np.random.default_rng(14).normal(100, 5, shape).astype(np.float32)
        assert draw(image, max_side=8).shape[2] == 3

    def test_infinities_do_not_spread(self):
        image = star_field()
        clean = draw(image).astype(int)
        image[:, 100, 100] = np.inf
        image[1, 200, 300] = -np.inf
        changed = np.abs(draw(image) - clean).max(axis=2) > 6
        assert changed[:95].sum() + changed[106:195].sum() + changed[206:].sum() == 0


class TestDepth:
    def test_both_depths_show_the_same(self):
        image = star_field()
        look = measure_look(image, SETTINGS)
        eight, sixteen = render(image, look).rgb, render(image, look, depth=16).rgb
        assert eight.dtype == np.uint8
        assert sixteen.dtype == np.uint16
        assert np.abs(eight - sixteen / 257).max() <= 0.51
        assert len(np.unique(sixteen)) > 2000

    def test_other_depths_are_refused(self):
        image = star_field()
        with pytest.raises(ValueError, match="depth"):
            render(image, measure_look(image, SETTINGS), depth=12)

    def test_a_look_of_other_data_is_refused(self):
        look = measure_look(star_field(), SETTINGS)
        with pytest.raises(ValueError, match="measure again"):
            render(star_field(size=(200, 300)), look)
        with pytest.raises(ValueError, match="measure again"):
            render(star_field()[:1], look)

    def test_wrong_types_are_refused(self):
        with pytest.raises(ValueError, match="float32"):
            measure_look(star_field().astype(float), SETTINGS)
        with pytest.raises(ValueError, match="shape"):
            measure_look(star_field()[0], SETTINGS)


class TestEncoding:
    def picture(self, depth) -> Picture:
        image = star_field()
        return render(image, measure_look(image, SETTINGS), depth=depth)

    @pytest.mark.parametrize("depth", [8, 16])
    def test_png_is_exact(self, depth):
        picture = self.picture(depth)
        data = cv2.imdecode(np.frombuffer(encode_png(picture), np.uint8), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(data[:, :, ::-1], picture.rgb)

    @pytest.mark.parametrize("depth", [8, 16])
    def test_jpeg_is_close(self, depth):
        picture = self.picture(depth)
        data = cv2.imdecode(np.frombuffer(encode_jpeg(picture, 95), np.uint8), cv2.IMREAD_COLOR)
        assert np.abs(data[:, :, ::-1] - self.picture(8).rgb.astype(float)).mean() < 3

    def test_tiff_is_exact_and_carries_its_words(self, tmp_path):
        picture = self.picture(16)
        file = tmp_path / "stack.tif"
        file.write_bytes(encode_tiff(picture, {"OBJECT": "M 27", "observer": "Zoë"}))
        with tifffile.TiffFile(file) as tiff:
            np.testing.assert_array_equal(tiff.asarray(), picture.rgb)
            assert "OBJECT: M 27" in tiff.pages[0].description

    @pytest.mark.parametrize("channels", [1, 3])
    def test_linear_data_keep_every_bit(self, channels, tmp_path):
        image = star_field()[:channels]
        image[:, 5, 7] = np.nan
        file = tmp_path / "linear.tif"
        file.write_bytes(encode_tiff(image))
        back = tifffile.imread(file)
        np.testing.assert_array_equal(
            back if channels == 1 else np.moveaxis(back, -1, 0), image[0] if channels == 1 else image
        )


def test_a_look_says_what_it_stands_on():
    look = measure_look(star_field(), SETTINGS)
    assert isinstance(look, Look)
    assert look.noise_at(1.0) == pytest.approx(10 * float(np.linalg.norm(look.gains * [0.3, 0.4, 0.3])), rel=0.1)


def test_noise_falls_with_the_reduction():
    image = star_field(size=(720, 1040))
    look = measure_look(image, RenderSettings(preview_width=260))
    assert look.noise_at(1.0) / look.noise_at(4.0) == pytest.approx(4, rel=0.3)
    assert look.noise_at(4.0) < look.noise_at(2.0) < look.noise_at(1.0)


class TestRealFrames:
    """Pictures of real frames, made with the crudest debayering; judged by what every viewer would complain about."""

    folder = Path(__file__).resolve().parents[3] / "shared" / "data"

    def mosaic(self, pattern, order):
        files = sorted(self.folder.glob(pattern))
        if not files:
            pytest.skip("the folder of real frames (../shared/data) is not here")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            raw = fits.getdata(files[0]).astype(np.float32)
        cells = [raw[0::2, 0::2], raw[0::2, 1::2], raw[1::2, 0::2], raw[1::2, 1::2]]
        red, green, other, blue = (cells[order.index(c) if c != "g" else order.rindex("G")] for c in "RGgB")
        return np.stack([red, (green + other) / 2, blue])

    def decoded(self, pattern):
        files = sorted(self.folder.glob(pattern))
        if not files:
            pytest.skip("the folder of real frames (../shared/data) is not here")
        image = np.atleast_3d(cv2.imread(str(files[0]), cv2.IMREAD_UNCHANGED))
        return np.ascontiguousarray(np.moveaxis(image[:, :, ::-1], 2, 0), np.float32)

    @pytest.mark.parametrize(
        "pattern, order",
        [("m27_osc_asi224/*1069.fits", "RGGB"), ("m94_osc_seestar/*.fit", "GRBG"), ("m44_altaz_jpeg/*.jpeg", "")],
    )
    def test_a_single_frame_has_a_dark_neutral_sky_and_no_neon(self, pattern, order):
        image = self.mosaic(pattern, order) if order else self.decoded(pattern)
        look = measure_look(image, SETTINGS)
        assert look.kind == "sky"
        assert look.n_stars >= 10
        rgb = render(image, look).rgb.astype(float).reshape(-1, 3)
        sky = np.median(rgb, axis=0)
        assert np.ptp(sky) <= 2
        assert 20 < sky.mean() < 42
        chroma = rgb - rgb.mean(axis=1, keepdims=True)
        assert np.percentile(np.abs(chroma), 95) < 6
        assert np.abs(chroma.mean(axis=0)).max() < 1.5

    def test_the_moon_is_shown_as_it_is(self):
        image = self.decoded("moon_png/*.png")[:1]
        look = measure_look(image, SETTINGS)
        assert look.kind == "bright"
        rgb = render(image, look).rgb
        assert 70 < np.median(rgb) < 190
        assert (rgb == 255).mean() < 0.02


class TestSmall:
    """A preview read straight from the accumulators is the picture of the finished image."""

    settings = RenderSettings(preview_width=120)

    def stack(self, size=(300, 460), channels=3):
        rng = np.random.default_rng(31)
        mean = rng.normal(0, 9, (channels, *size)).astype(np.float32)
        mean[:, 140:150, 200:212] += 4000
        weight = rng.uniform(0.5, 9, mean.shape).astype(np.float32)
        weight[:, :, :37] = 0
        weight[0, 50:60, 100:300] = 0
        origin = np.array([700.0, 900.0, 500.0])[:channels]
        image = mean + origin[:, None, None].astype(np.float32)
        image[weight == 0] = np.nan
        return mean, weight, origin, image

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("side", [None, 120, 457])
    def test_accumulators_reduce_as_the_image_does(self, channels, side):
        mean, weight, origin, image = self.stack(channels=channels)
        read, wanted = shrink_stack(mean, weight, origin, side), shrink(image, side)
        assert (read.scale, read.size) == (wanted.scale, wanted.size)
        for name in ("planes", "here", "there"):
            np.testing.assert_allclose(getattr(read, name), getattr(wanted, name), rtol=2e-6)

    def test_the_number_of_threads_changes_nothing(self):
        mean, weight, origin, _ = self.stack()
        with Bands(3) as bands:
            np.testing.assert_array_equal(
                shrink_stack(mean, weight, origin, 133).planes, shrink_stack(mean, weight, origin, 133, bands).planes
            )

    def test_the_picture_is_the_same(self):
        *accumulators, image = self.stack()
        look = measure_look(image, self.settings)
        small = shrink_stack(*accumulators, self.settings.preview_width)
        again = measure_small(small, self.settings)
        np.testing.assert_allclose(again.noise, look.noise, rtol=1e-3)
        assert again.white == pytest.approx(look.white, rel=1e-3)
        picture = render_small(small, again)
        whole = render(image, look, self.settings.preview_width)
        assert picture.scale == whole.scale
        assert np.abs(picture.rgb.astype(int) - whole.rgb).max() <= 1

    def test_noise_of_true_pixels_is_seen_through_the_reduction(self):
        small = shrink(self.stack()[3], 60)
        sigma = 1.4826 * np.nanmedian(np.abs(small.here - small.there)) / math.sqrt(2)
        assert sigma == pytest.approx(9, rel=0.05)

    def test_what_does_not_fit_is_refused(self):
        mean, weight, origin, image = self.stack()
        with pytest.raises(ValueError, match="weight: expected float32"):
            shrink_stack(mean, weight[:, 1:], origin)
        with pytest.raises(ValueError, match="measure again"):
            render_small(shrink(image, 60), measure_look(image[:, 1:], self.settings))
