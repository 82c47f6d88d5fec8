"""WCS through transforms against astropy's own mathematics; solvers by stand-ins on PATH; labels by known objects."""

from __future__ import annotations

import math

import numpy as np
import pytest
from astropy.io.fits import Header
from astropy.wcs import WCS

from livestack.formats.wcs import parse_header, read_wcs, wcs_cards

WIDTH, HEIGHT = 640, 480
CORNERS = np.array([[0.0, 0.0], [WIDTH - 1, 0], [WIDTH - 1, HEIGHT - 1], [0, HEIGHT - 1], [200.3, 117.8]])


def cards_of(header: Header):
    return tuple((card.keyword, card.value, card.comment) for card in header.cards)


def sky_cards(ra=299.9015, dec=22.7212, scale_arcsec=1.8, angle_deg=33.0, extra=()):
    scale, angle = scale_arcsec / 3600, math.radians(angle_deg)
    header = Header()
    header["OBJECT"] = "M27"
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    header["CRVAL1"], header["CRVAL2"] = ra, dec
    header["CRPIX1"], header["CRPIX2"] = 310.25, 250.5
    header["CD1_1"], header["CD1_2"] = -scale * math.cos(angle), scale * math.sin(angle)
    header["CD2_1"], header["CD2_2"] = scale * math.sin(angle), scale * math.cos(angle)
    for key, value in extra:
        header[key] = value
    return cards_of(header)


def matrix(scale=1.0, degrees=0.0, dx=0.0, dy=0.0, mirror=False):
    c, s = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    flip = -1.0 if mirror else 1.0
    return np.array([[c * flip, -s, dx], [s * flip, c, dy], [0, 0, 1.0]])


def wcs_from(cards) -> WCS:
    header = Header()
    for keyword, value, comment in cards:
        header[keyword] = (value, comment)
    return WCS(header)


def worst_arcsec(old: WCS, new: WCS, transform) -> float:
    moved = CORNERS @ transform[:2, :2].T + transform[:2, 2]
    a, b = old.all_pix2world(CORNERS, 0), new.all_pix2world(moved, 0)
    cos_dec = np.cos(np.radians(a[:, 1]))
    return 3600 * float(np.hypot((a[:, 0] - b[:, 0]) * cos_dec, a[:, 1] - b[:, 1]).max())


@pytest.mark.parametrize(
    "transform",
    [
        matrix(),
        matrix(dx=-12.5, dy=7.25),
        matrix(degrees=179.3, dx=600, dy=400),
        matrix(scale=2.0, degrees=-31, dx=5, dy=1),
        matrix(mirror=True, degrees=4, dx=639),
        np.array([[1.01, 0.02, 3.0], [-0.015, 0.99, -8.0], [0, 0, 1]]),
    ],
)
def test_the_same_star_keeps_its_place_in_the_sky(transform):
    cards = sky_cards()
    new, note = wcs_cards(cards, transform)
    assert note is None
    assert worst_arcsec(wcs_from(cards), wcs_from(new), transform) < 1e-5
    assert new[0][:2] == ("OBJECT", "M27")


def test_old_style_rotation_cards_are_understood():
    header = Header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    header["CRVAL1"], header["CRVAL2"], header["CRPIX1"], header["CRPIX2"] = 10.0, -40.0, 100.0, 80.0
    header["CDELT1"], header["CDELT2"], header["CROTA2"] = -2 / 3600, 2 / 3600, 25.0
    cards = cards_of(header)
    transform = matrix(degrees=12, dx=30, dy=-4)
    new, _ = wcs_cards(cards, transform)
    assert worst_arcsec(wcs_from(cards), wcs_from(new), transform) < 1e-5
    assert not {"CDELT1", "CROTA2"} & {card[0] for card in new}


def sip_cards():
    extra = [("A_ORDER", 2), ("B_ORDER", 2), ("A_2_0", 3e-5), ("A_1_1", -1e-5), ("B_0_2", 2e-5)]
    cards = sky_cards(extra=extra)
    return tuple((k, v.replace("TAN", "TAN-SIP") if k.startswith("CTYPE") else v, c) for k, v, c in cards)


def test_distortion_survives_a_shift():
    cards, transform = sip_cards(), matrix(dx=17.5, dy=-3.0)
    new, note = wcs_cards(cards, transform)
    assert note is None
    assert worst_arcsec(wcs_from(cards), wcs_from(new), transform) < 1e-5


def test_distortion_is_dropped_under_rotation_and_says_so():
    cards, transform = sip_cards(), matrix(degrees=20)
    new, note = wcs_cards(cards, transform)
    assert note is not None
    assert "SIP" in note
    assert not any("SIP" in str(value) or key.startswith(("A_", "B_")) for key, value, _ in new)
    centre = np.array([[309.25, 249.5]])
    moved = centre @ transform[:2, :2].T
    np.testing.assert_allclose(
        wcs_from(new).all_pix2world(moved, 0), wcs_from(cards).all_pix2world(centre, 0), atol=1e-9
    )


def test_no_wcs_is_no_trouble_and_a_broken_one_is_left_out():
    plain = (("OBJECT", "M27", ""), ("FILTER", "Ha", ""))
    assert wcs_cards(plain, matrix(dx=1)) == (plain, None)
    broken = (*plain, ("CTYPE1", "RA---TAN", ""), ("CTYPE2", "DEC--TAN", ""), ("CRVAL1", "12h", ""), ("CD1_1", 0.0, ""))
    new, note = wcs_cards(broken, matrix(dx=1))
    assert new == plain
    assert note is not None


@pytest.mark.parametrize("bad", [np.eye(2), np.array([[1, 0, 0], [0, 1, 0], [1e-3, 0, 1.0]]), np.diag([0.0, 1, 1])])
def test_a_transform_that_is_not_affine_is_refused(bad):
    with pytest.raises(ValueError, match="affine"):
        wcs_cards(sky_cards(), bad)


def test_rubbish_in_a_header_costs_only_its_card():
    cards = parse_header(
        b"CRVAL1  =                  1.5 / ok\nRUBBISH = 'never ends\nCRVAL2  = 2.5\nEND\nCRPIX1  = 9.0"
    )
    values = {card[0]: card[1] for card in cards}
    assert values["CRVAL1"] == 1.5
    assert values["CRVAL2"] == 2.5
    assert "CRPIX1" not in values


def test_read_wcs_of_a_usual_header():
    wcs = read_wcs(sky_cards())
    assert wcs is not None
    np.testing.assert_allclose(wcs.wcs.crval, [299.9015, 22.7212])
