"""The sky among wide nebulae, against simulated skies that are known exactly; and the algebra, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from livestack.picture import fit_background
from livestack.picture.families import MAX_DEGREE, _border, families_at
from livestack.picture.skyfit import fit_sky

HEIGHT, WIDTH = 420, 650
SKY = 1000.0
SIDE = (HEIGHT * WIDTH) ** 0.5
Y, X = np.mgrid[0:HEIGHT, 0:WIDTH].astype(float)
U, V = (X + 0.5) * 2 / WIDTH - 1, (Y + 0.5) * 2 / HEIGHT - 1
SKIES = {
    "plane": SKY * (1 + 0.25 * U - 0.15 * V),
    "steep plane": SKY * (1 - 0.1 * U + 0.4 * V),
    "curved": SKY * (1 + 0.05 * U + 0.1 * U**2 + 0.05 * U * V + 0.03 * V**2),
    "vignetting": SKY * (1 + 0.1 * U - 0.05 * V) * (1 - 0.15 * (U**2 + (V * HEIGHT / WIDTH) ** 2)),
}
TOWN = SKY * (1 + 0.3 * np.exp(-np.hypot(U - 1.3, V - 1.2) / 0.9))


def glow(kind, share, centre=(0.1, -0.05)):
    """(H, W) with peak 1; its FWHM is `share` of the field's side."""
    dx, dy = (U - centre[0]) * WIDTH / 2, (V - centre[1]) * HEIGHT / 2
    fwhm = share * SIDE
    if kind == "round":
        return np.exp(-4 * np.log(2) * (dx**2 + dy**2) / fwhm**2)
    if kind == "galaxy":
        a, b = 0.8 * dx + 0.6 * dy, 0.8 * dy - 0.6 * dx
        return np.exp(-2 * np.log(2) * np.hypot(a, b / 0.4) / fwhm)
    rng = np.random.default_rng(21)
    out = np.zeros((HEIGHT, WIDTH))
    for _ in range(12):
        x, y = rng.normal(0, 0.3 * fwhm, 2)
        size = fwhm * rng.uniform(0.1, 0.3)
        out += rng.uniform(0.3, 1) * np.exp(-((dx - x) ** 2 + (dy - y) ** 2) / (2 * size**2))
    return out / out.max()


def picture(sky, light, seed, noise=4.0):
    """(1, H, W) float32: the sky, an object, stars and noise."""
    rng = np.random.default_rng(seed)
    image = sky + light + rng.normal(0, noise, sky.shape)
    yy, xx = np.mgrid[-7:8, -7:8]
    spot = np.exp(-(xx**2 + yy**2) / (2 * 1.7**2))
    for _ in range(300):
        x, y = rng.integers(8, WIDTH - 8), rng.integers(8, HEIGHT - 8)
        image[y - 7 : y + 8, x - 7 : x + 8] += min(60 * rng.pareto(1.3), 2e4) * spot
    return image[None].astype(np.float32)


def judge(surface, sky, light):
    """Residual gradient where the object is not, as a share of the sky; share of the object's light that was taken."""
    wrong = surface - sky
    dark = light <= 0.005 * light.max()
    wrong = wrong - np.median(wrong[dark])
    lit = light > 0.05 * light.max()
    return np.abs(wrong[dark]).max() / SKY, wrong[lit].sum() / light[lit].sum()


@pytest.mark.parametrize("name", SKIES)
@pytest.mark.parametrize(
    "kind, share, centre",
    [
        ("round", 0.2, (0.1, -0.05)),
        ("round", 0.33, (-0.3, 0.2)),
        ("ragged", 0.33, (0.1, -0.05)),
        ("ragged", 0.25, (0.6, 0.5)),
        ("galaxy", 0.15, (0.1, 0.1)),
    ],
)
@pytest.mark.parametrize("peak", [120.0, 500.0])
def test_a_nebula_as_wide_as_a_third_of_the_field_keeps_its_light(name, kind, share, centre, peak):
    sky, light = SKIES[name], peak * glow(kind, share, centre)
    surface = fit_background(picture(sky, light, 1)).evaluate(HEIGHT, WIDTH)[0]
    left, taken = judge(surface, sky, light)
    assert left < 0.005
    # Half as much freedom again makes a faint nebula half as uncertain again.
    assert abs(taken) < (0.03 if name == "vignetting" else 0.02)


@pytest.mark.parametrize("kind", ["round", "ragged"])
def test_half_of_the_field_on_a_plane_is_still_a_nebula(kind):
    sky, light = SKIES["plane"], 300 * glow(kind, 0.45)
    surface = fit_background(picture(sky, light, 2)).evaluate(HEIGHT, WIDTH)[0]
    left, taken = judge(surface, sky, light)
    assert left < 0.005
    assert abs(taken) < 0.03


def test_a_faint_smooth_hump_is_no_sky():
    """Half of the field wide and 3 % of the sky high: a polynomial of the sixth degree would fit it well."""
    sky, light = SKIES["plane"], 30 * glow("round", 0.5, (0.35, -0.3))
    left, taken = judge(fit_background(picture(sky, light, 2)).evaluate(HEIGHT, WIDTH)[0], sky, light)
    assert left < 0.002
    assert abs(taken) < 0.1


@pytest.mark.parametrize("share", [0.03, 0.15])
def test_the_light_of_a_town_behind_a_corner_goes_and_a_nebula_stays(share):
    light = 300 * glow("ragged", share)
    surface = fit_background(picture(TOWN, light, 3)).evaluate(HEIGHT, WIDTH)[0]
    left, taken = judge(surface, TOWN, light)
    assert np.ptp(TOWN) > 0.1 * SKY
    assert left < 0.01
    assert abs(taken) < 0.02


def test_a_nebula_does_not_bend_a_plane():
    """A higher order would lower the residuals everywhere around this nebula, and explain it nowhere."""
    coefficients = fit_background(picture(SKIES["plane"], 300 * glow("ragged", 0.4), 4)).coefficients[0]
    assert coefficients[1, 0] == pytest.approx(0.25 * SKY, abs=2)
    assert coefficients[0, 1] == pytest.approx(-0.15 * SKY, abs=2)
    coefficients[0, :2] = coefficients[1, 0] = 0
    assert not coefficients.any()


def test_a_weak_curvature_is_seen_where_nothing_hides_it():
    sky = SKY * (1 + 0.02 * U**2 - 0.015 * V**2)
    surface = fit_background(picture(sky, 0 * sky, 5)).evaluate(HEIGHT, WIDTH)[0]
    assert np.abs(surface - sky - np.median(surface - sky)).max() < 0.002 * SKY


def test_an_object_in_one_colour_is_left_out_in_all():
    """Hydrogen: strong in red, so faint in green that green alone would not show where it ends."""
    sky, light = SKIES["plane"], glow("round", 0.3)
    planes = np.concatenate([picture(f * sky, p * light, 6 + i) for i, (f, p) in enumerate([(0.6, 400), (1, 12)])])
    surfaces = fit_background(np.concatenate([planes, planes[1:]])).evaluate(HEIGHT, WIDTH)
    for surface, factor, peak in zip(surfaces, (0.6, 1, 1), (400, 12, 12), strict=True):
        left, taken = judge(surface, factor * sky, peak * light)
        assert left < 0.003
        assert abs(taken) < 0.02 if peak > 100 else abs(taken) < 0.05


def test_the_order_of_colours_does_not_matter():
    planes = np.concatenate([picture(SKIES[name], 200 * glow("ragged", 0.2), 9) for name in list(SKIES)[:3]])
    forth, back = fit_background(planes).coefficients, fit_background(planes[::-1].copy()).coefficients
    np.testing.assert_allclose(forth, back[::-1], atol=1e-6)


def test_a_channel_without_data_leaves_the_others_alone():
    planes = np.concatenate([picture(SKIES["curved"], 0 * U, 10)] * 3)
    alone = fit_background(planes[:1]).coefficients[0]
    planes[1] = np.nan
    coefficients = fit_background(planes).coefficients
    assert not coefficients[1].any()
    np.testing.assert_allclose(coefficients[[0, 2]], [alone, alone], atol=0.5)


def test_few_blocks_give_a_level():
    levels = np.array([[[3.0, np.nan, 5.0], [4.0, 4.0, np.nan]]])
    u, v = np.meshgrid([-0.7, 0, 0.7], [-0.5, 0.5])
    coefficients = fit_sky(levels, u, v, 0.7, 3)
    assert coefficients[0, 0, 0] == 4
    assert np.count_nonzero(coefficients) == 1


def test_blocks_without_noise_are_survived():
    u, v = np.meshgrid(np.linspace(-1, 1, 30), np.linspace(-1, 1, 20))
    coefficients = fit_sky(np.stack([0 * u, 100 + 30 * u]), u, v, 20 / 30, 3)
    assert not coefficients[0].any()
    np.testing.assert_allclose(coefficients[1, :2, 0], [100, 30], rtol=1e-5)


@pytest.mark.parametrize("angle_deg, power", [(0, 4), (45, 6), (200, 3)])
def test_light_from_a_border_rises_from_nothing_to_one(angle_deg, power):
    values = np.polynomial.polynomial.polyval2d(U, V, _border(angle_deg, power))
    assert values.min() >= -1e-12
    assert values.max() <= 1 + 1e-12
    assert values.max() > 0.98
    # Nowhere does it bend down: no hump can be made of it.
    for step in (np.diff(values, 2, axis=0), np.diff(values, 2, axis=1)):
        assert step.min() > -1e-12


def test_families_solve_as_numpy_and_scipy_do():
    rng = np.random.default_rng(11)
    u, v = rng.uniform(-1, 1, (2, 300))
    levels, weights = rng.normal(0, 1, 300) + 3 * u**4, rng.uniform(0.1, 1, 300)
    for family in families_at(u, v, 0.7):
        values = np.stack([np.polynomial.polynomial.polyval2d(u, v, term) for term in family.coefficients], axis=1)
        np.testing.assert_allclose(family.values, values, atol=1e-12)
        low = np.where(np.arange(values.shape[1]) < family.n_free, -np.inf, 0)
        root = np.sqrt(weights)
        wanted = lsq_linear(values * root[:, None], levels * root, (low, np.inf), method="bvls", max_iter=500)
        found = family.solve(levels, weights)
        assert found[family.n_free :].min(initial=0) >= 0
        # The terms of light from the borders are much alike: many factors fit equally well.
        squares = [
            float((weights * (levels - fitted) ** 2).sum()) for fitted in (family.at_blocks(found), values @ wanted.x)
        ]
        assert squares[0] == pytest.approx(squares[1], rel=1e-3 if family.n_terms > family.n_free else 1e-6)


def test_the_surface_has_room_for_every_term():
    families = families_at(np.zeros(1), np.zeros(1), 0.7)
    assert [family.n_terms for family in families][:3] == [3, 6, 8]
    assert all(family.coefficients.shape[1:] == (MAX_DEGREE + 1, MAX_DEGREE + 1) for family in families)
