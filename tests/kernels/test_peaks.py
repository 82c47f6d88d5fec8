"""Stars taken out of the light above a limit, held against a slow twin that labels the image at every level."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from livestack.kernels.peaks import separate_stars

LIMIT, SHARE = 0.25, 0.1


def separate(image: np.ndarray, floor: float, limit: float = LIMIT) -> np.ndarray:
    """(n, 3) x, y, light of the stars among the pixels above `floor`."""
    above = np.flatnonzero(image > floor)
    order = above[np.lexsort((above, -image.ravel()[above]))]
    stars = np.empty((len(order), 3))
    found = separate_stars(image, order, limit, SHARE, np.zeros(image.shape, np.int32), stars)
    return stars[:found]


def slow_twin(image: np.ndarray, floor: float) -> np.ndarray:
    """The same by definition: where two peaks meet is the highest level at which one label holds both."""
    levels = np.sort(np.unique(image[image > floor]))[::-1]
    labels = [ndimage.label(image >= level, np.ones((3, 3)))[0] for level in levels]
    highest = ndimage.maximum_filter(image, 3, mode="constant") == image
    peaks = [tuple(p) for p in np.argwhere(highest & (image > floor))]
    peaks.sort(key=lambda p: -image[p])

    def meeting(p: tuple[int, ...], q: tuple[int, ...]) -> tuple[float, int]:
        for k, (level, label) in enumerate(zip(levels, labels, strict=True)):
            if label[p] and label[p] == label[q]:
                return float(level), k
        return -np.inf, len(levels)

    stars = {}
    for n, p in enumerate(peaks):
        level, k = max((meeting(p, q) for q in peaks[:n]), default=(-np.inf, len(levels)))
        if level == -np.inf or image[p] - level > max(LIMIT, SHARE * level):
            stars[p] = np.count_nonzero(labels[k - 1] == labels[k - 1][p])
    answer = []
    for p, pixels in stars.items():
        k = min((meeting(p, q)[1] for q in stars if q != p), default=len(levels)) - 1
        own = labels[k] == labels[k][p]
        if pixels >= 2:
            y, x = np.nonzero(own)
            answer.append([np.average(x, weights=image[own]), np.average(y, weights=image[own])])
    return np.array(answer)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("width", [0.7, 1.3, 3.0])
def test_stars_are_those_of_the_slow_twin(seed: int, width: float) -> None:
    noise = np.random.default_rng(seed).normal(0, 1, (23, 34))
    smooth = ndimage.gaussian_filter(noise, width, mode="wrap")
    image = (smooth / smooth.std()).astype(np.float32)
    ours, theirs = separate(image, 0.4)[:, :2], slow_twin(image, 0.4)
    assert len(ours) == len(theirs) > 2
    ours, theirs = (places[np.lexsort(places.T.round(3))] for places in (ours, theirs))
    assert ours == pytest.approx(theirs, abs=1e-4)


def test_all_light_belongs_to_some_star_and_flat_tops_to_one() -> None:
    y, x = np.mgrid[:40, :60]
    image = np.minimum(900 * np.exp(-((x - 17) ** 2 + (y - 21) ** 2) / 30), 100).astype(np.float32)
    image += (60 * np.exp(-((x - 45.3) ** 2 + (y - 12.6) ** 2) / 8)).astype(np.float32)
    stars = separate(image, 1.0, 5.0)
    assert stars[:, :2] == pytest.approx(np.array([[17, 21], [45.3, 12.6]]), abs=0.05)
    assert stars[:, 2].sum() == pytest.approx(image[image > 1].sum(), rel=1e-6)


def test_a_ripple_on_a_bright_star_is_part_of_it_and_a_neighbour_is_not() -> None:
    y, x = np.mgrid[:40, :60]
    star = 1000 * np.exp(-((x - 20) ** 2 + (y - 20) ** 2) / 18)
    ripple = star + 30 * np.exp(-((x - 24) ** 2 + (y - 20) ** 2) / 2)
    assert len(separate(ripple.astype(np.float32), 5, 5)) == 1
    neighbour = star + 300 * np.exp(-((x - 29) ** 2 + (y - 20) ** 2) / 8)
    places = separate(neighbour.astype(np.float32), 5, 5)[:, :2]
    assert sorted(places[:, 0]) == pytest.approx([20, 29], abs=0.4)


def test_single_pixels_are_no_stars() -> None:
    image = np.zeros((9, 12), np.float32)
    image[3, 4] = image[7, 9] = image[7, 10] = 50
    assert separate(image, 1)[:, :2].tolist() == [[9.5, 7.0]]


def test_as_many_peaks_as_fit_into_an_image() -> None:
    image = np.ones((7, 10), np.float32)
    image[::2, ::2] = np.arange(20).reshape(4, 5) + 10
    places = separate(image, 0.5, 5.0)[:, :2].tolist()
    assert sorted(places) == sorted([x, y] for y in range(0, 7, 2) for x in range(0, 10, 2))[1:], (
        "the first is one pixel"
    )
