"""WCS through transforms against astropy's own mathematics; solvers by stand-ins on PATH; labels by known objects."""

from __future__ import annotations

import math
import stat
import sys

import numpy as np
import pytest
from astropy.io.fits import Header
from astropy.wcs import WCS

from livestack.base.errors import FrameError
from livestack.formats.wcs import label_objects, parse_header, read_wcs, solve_plate, wcs_cards

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


def put_solver(folder, name, body):
    script = folder / name
    script.write_text(f"#!{sys.executable}\nimport sys, time\n{body}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def only_path(tmp_path, monkeypatch):
    """An empty folder that is all there is on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def header_of_sky() -> Header:
    header = Header()
    for keyword, value, comment in sky_cards():
        header[keyword] = (value, comment)
    return header


def test_without_a_solver_there_is_a_sentence(only_path, tmp_path):
    solution, sentence = solve_plate(tmp_path / "stack.fits")
    assert solution is None
    assert "astap_cli" in sentence


def test_astap_is_asked_and_its_text_header_read(only_path, tmp_path):
    text = header_of_sky().tostring(sep="\r\n", padding=False, endcard=True)
    put_solver(
        only_path,
        "astap_cli",
        f"args = sys.argv\nopen({str(tmp_path / 'asked')!r}, 'w').write(' '.join(args[1:]))\n"
        f"open(args[args.index('-o') + 1] + '.wcs', 'w', newline='').write({text!r})",
    )
    solution, sentence = solve_plate(tmp_path / "stack.fits", 299.9, 22.7, scale_arcsec_px=1.8, height_px=HEIGHT)
    assert solution is not None
    assert solution.solver == "astap_cli"
    assert worst_arcsec(wcs_from(sky_cards()), wcs_from(solution.cards), np.eye(3)) < 1e-5
    assert "OBJECT" not in {card[0] for card in solution.cards}
    assert "1.800 arcsec" in sentence
    words = (tmp_path / "asked").read_text().split()
    assert words[words.index("-fov") + 1] == "0.2400"
    assert float(words[words.index("-ra") + 1]) == pytest.approx(299.9 / 15)
    assert float(words[words.index("-spd") + 1]) == pytest.approx(112.7)


def test_solve_field_is_asked_and_its_fits_header_read(only_path, tmp_path):
    raw = header_of_sky().tostring()
    put_solver(
        only_path,
        "solve-field",
        f"args = sys.argv\nopen(args[args.index('--wcs') + 1], 'wb').write({raw.encode()!r})",
    )
    solution, _ = solve_plate(tmp_path / "stack.fits")
    assert solution is not None
    assert worst_arcsec(wcs_from(sky_cards()), wcs_from(solution.cards), np.eye(3)) < 1e-5


def test_a_solver_that_fails_or_hangs_costs_nothing_but_time(only_path, tmp_path):
    put_solver(only_path, "astap", "sys.exit(1)")
    solution, sentence = solve_plate(tmp_path / "stack.fits")
    assert solution is None
    assert "exit status 1" in sentence
    put_solver(only_path, "astap", "time.sleep(60)")
    solution, sentence = solve_plate(tmp_path / "stack.fits", timeout_s=0.3)
    assert solution is None
    assert "0.3 s" in sentence


def test_rubbish_in_a_header_costs_only_its_card():
    cards = parse_header(
        b"CRVAL1  =                  1.5 / ok\nRUBBISH = 'never ends\nCRVAL2  = 2.5\nEND\nCRPIX1  = 9.0"
    )
    values = {card[0]: card[1] for card in cards}
    assert values["CRVAL1"] == 1.5
    assert values["CRVAL2"] == 2.5
    assert "CRPIX1" not in values


class TestLabels:
    @pytest.fixture(autouse=True)
    def catalogue(self):
        pytest.importorskip("pyongc", reason="object names need pyongc")

    def test_the_dumbbell_is_named_where_it_is(self):
        cards = sky_cards()
        found = {label.name: label for label in label_objects(cards, WIDTH, HEIGHT)}
        label = found["M 27 (Dumbbell Nebula)"]
        # SIMBAD: 19 59 36.36 +22 43 16.3
        x, y = wcs_from(cards).all_world2pix([[299.9015, 22.7212]], 0)[0]
        assert math.hypot(label.x - x, label.y - y) < 2
        assert label.size_px == pytest.approx(6.7 * 60 / 1.8, rel=0.01)

    def test_nothing_is_named_outside_the_picture(self):
        labels = label_objects(sky_cards(ra=187.7, dec=12.4, scale_arcsec=6.0), WIDTH, HEIGHT)
        assert len(labels) > 5
        assert all(0 <= label.x < WIDTH and 0 <= label.y < HEIGHT for label in labels)
        sizes = [label.size_px or 0 for label in labels]
        assert sizes == sorted(sizes, reverse=True)

    @pytest.mark.parametrize("ra", [0.02, 359.98])
    def test_a_field_across_zero_hours_is_whole(self, ra):
        names = {label.name for label in label_objects(sky_cards(ra=ra, dec=-15.4, scale_arcsec=30), WIDTH, HEIGHT)}
        around = {label.name for label in label_objects(sky_cards(ra=0.0, dec=-15.4, scale_arcsec=30), WIDTH, HEIGHT)}
        assert len(names & around) > 0.9 * len(around) > 3

    def test_a_field_at_the_pole_works(self):
        names = {label.name for label in label_objects(sky_cards(ra=40, dec=89.0, scale_arcsec=60), WIDTH, HEIGHT)}
        assert "NGC 3172 (Polarissima Borealis)" in names or "NGC 3172" in names

    def test_without_a_wcs_there_are_no_names(self):
        with pytest.raises(FrameError, match="solve"):
            label_objects((("OBJECT", "M27", ""),), WIDTH, HEIGHT)


def test_read_wcs_of_a_usual_header():
    wcs = read_wcs(sky_cards())
    assert wcs is not None
    np.testing.assert_allclose(wcs.wcs.crval, [299.9015, 22.7212])
