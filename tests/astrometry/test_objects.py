"""Naming what a picture shows: against astropy's WCS and constellations, and the catalogue of stars."""

from __future__ import annotations

import math
import sys
from itertools import pairwise

import pytest
from astropy.coordinates import SkyCoord, get_constellation

from livestack.astrometry.catalogue import Catalogue, to_vectors
from livestack.astrometry.headers import map_of_cards
from livestack.astrometry.objects import ObjectLabel, label_objects, separation_deg
from livestack.astrometry.star_names import NAMED_STARS
from tests.formats.test_wcs import HEIGHT, WIDTH, sky_cards, wcs_from


def labels_of(limit: int = 30, **where: float) -> list[ObjectLabel]:
    sky = map_of_cards(sky_cards(**where), WIDTH, HEIGHT)
    assert sky is not None
    return label_objects(sky, limit)


class TestDeepSky:
    @pytest.fixture(autouse=True)
    def catalogue(self) -> None:
        pytest.importorskip("pyongc", reason="object names need pyongc")

    def test_the_dumbbell_is_named_where_it_is(self) -> None:
        label = next(label for label in labels_of() if label.name == "M 27 (Dumbbell Nebula)")
        # SIMBAD: 19 59 36.36 +22 43 16.3
        x, y = wcs_from(sky_cards()).all_world2pix([[299.9015, 22.7212]], 0)[0]
        assert math.hypot(label.x - x, label.y - y) < 2
        assert label.size_px == pytest.approx(6.7 * 60 / 1.8, rel=0.01)
        assert (label.kind, label.designation) == ("nebula", "M27")

    def test_nothing_is_named_outside_the_picture_and_the_most_prominent_comes_first(self) -> None:
        labels = labels_of(ra=187.7, dec=12.4, scale_arcsec=6.0)
        assert len(labels) > 5
        assert all(0 <= label.x < WIDTH and 0 <= label.y < HEIGHT for label in labels)
        assert labels[0].name.startswith("M 87")
        ranks = [label.prominence for label in labels]
        assert ranks == sorted(ranks)
        few = labels_of(3, ra=187.7, dec=12.4, scale_arcsec=6.0)
        assert few == labels[:3]

    def test_a_cluster_with_its_nebula_is_no_star(self) -> None:
        assert labels_of(ra=83.8, dec=-5.4, scale_arcsec=10)[0].name == "M 42 (Great Orion Nebula)"

    @pytest.mark.parametrize("ra", [0.02, 359.98])
    def test_a_field_across_zero_hours_is_whole(self, ra: float) -> None:
        names = {label.name for label in labels_of(ra=ra, dec=8, scale_arcsec=18)}
        around = {label.name for label in labels_of(ra=0.0, dec=8, scale_arcsec=18)}
        assert len(names & around) > 0.9 * len(around) > 3

    def test_a_field_at_the_pole_works(self) -> None:
        names = {label.name for label in labels_of(ra=176, dec=89.0, scale_arcsec=18)}
        assert "NGC 3172 (Polarissima Borealis)" in names
        assert "Polaris" in {label.name for label in labels_of(ra=40, dec=89.0, scale_arcsec=60)}


class TestStars:
    def test_they_are_named_without_the_catalogue_of_other_objects(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("livestack.astrometry.objects.has_catalogue", lambda: False)
        monkeypatch.setitem(sys.modules, "pyongc", None)
        labels = labels_of(ra=84.05, dec=-1.2, scale_arcsec=25)
        assert [label.name for label in labels] == ["Alnilam", "Alnitak", "Mintaka"]
        wcs = wcs_from(sky_cards(ra=84.05, dec=-1.2, scale_arcsec=25))
        for label in labels:
            x, y = wcs.all_world2pix([[label.ra_deg, label.dec_deg]], 0)[0]
            assert math.hypot(label.x - x, label.y - y) < 1

    def test_each_is_in_the_catalogue_where_the_table_says(self) -> None:
        catalogue = Catalogue.load(2016.0)
        for star in NAMED_STARS:
            found = catalogue.around(to_vectors(star.ra_deg, star.dec_deg), math.radians(2 / 3600))
            assert len(found), star.name
            brightest = found[0]
            assert -1.2 < catalogue.g[brightest] - star.mag < 0.7, star.name
            number = int(catalogue.ids[brightest])
            assert number > 0 or number == -star.hip, star.name

    def test_each_is_in_its_constellation(self) -> None:
        places = SkyCoord([s.ra_deg for s in NAMED_STARS], [s.dec_deg for s in NAMED_STARS], unit="deg")
        found = get_constellation(places, short_name=True)
        assert [s.designation.split()[-1] for s in NAMED_STARS] == list(found)

    def test_numbers_grow_with_right_ascension_as_hipparcos_gave_them(self) -> None:
        assert len({s.hip for s in NAMED_STARS}) == len({s.name for s in NAMED_STARS}) == len(NAMED_STARS) > 100
        assert all(a.hip < b.hip and a.ra_deg < b.ra_deg + 0.02 for a, b in pairwise(NAMED_STARS))

    def test_arcturus_moves(self) -> None:
        star = next(s for s in NAMED_STARS if s.name == "Arcturus")
        moved = separation_deg(*star.place(2000.0), *star.place(2026.0)) * 3600
        assert moved == pytest.approx(26 * 2.279, rel=0.01)  # van Leeuwen 2007


def test_a_header_without_a_wcs_gives_no_map() -> None:
    assert map_of_cards((("OBJECT", "M27", ""),), WIDTH, HEIGHT) is None
