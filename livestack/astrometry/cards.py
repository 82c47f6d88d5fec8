"""What an object is: common name, type, constellation, size and brightness, for the card beside the picture.

The facts come from OpenNGC (https://github.com/mattiaverga/OpenNGC) through the package `pyongc`. OpenNGC is licensed
CC-BY-SA 4.0, which cannot be bundled into a BSD package, so `pyongc` is the extra `catalogue`; without it the most
shown objects have a short card all the same (`showpieces`). For anything else, a comet, the Moon or a planet, there is
no card and the page shows the name as the host wrote it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from livestack.astrometry.showpieces import SHOWPIECES

_DESIGNATION = re.compile(
    r"(?<![A-Za-z])(messier|caldwell|barnard|sh\s*2|ngc|ic|ugc|pgc|mel|cr|m|c|b)[\s_-]*0*(\d{1,6})(?!\d)", re.IGNORECASE
)
_SPELLING = {"messier": "M", "caldwell": "C", "barnard": "B"}
_TYPES = {
    "HII Ionized region": "Glowing cloud of hydrogen (HII region)",
    "Star cluster + Nebula": "Star cluster with nebula",
    "Cluster + Nebula": "Star cluster with nebula",
    "Association of stars": "Group of young stars",
    "Supernova remnant": "Remnant of an exploded star",
    "Reflection Nebula": "Reflection nebula: dust lit by stars",
    "Emission Nebula": "Emission nebula: glowing gas",
    "Dark Nebula": "Dark nebula: dust in front of stars",
    "Planetary Nebula": "Planetary nebula: shell of a dying star",
}
_CONSTELLATIONS = (
    "And Andromeda,Ant Antlia,Aps Apus,Aql Aquila,Aqr Aquarius,Ara Ara,Ari Aries,Aur Auriga,Boo Boötes,"
    "CMa Canis Major,CMi Canis Minor,CVn Canes Venatici,Cae Caelum,Cam Camelopardalis,Cap Capricornus,"
    "Car Carina,Cas Cassiopeia,Cen Centaurus,Cep Cepheus,Cet Cetus,Cha Chamaeleon,Cir Circinus,Cnc Cancer,"
    "Col Columba,Com Coma Berenices,CrA Corona Australis,CrB Corona Borealis,Crt Crater,Cru Crux,Crv Corvus,"
    "Cyg Cygnus,Del Delphinus,Dor Dorado,Dra Draco,Equ Equuleus,Eri Eridanus,For Fornax,Gem Gemini,Gru Grus,"
    "Her Hercules,Hor Horologium,Hya Hydra,Hyi Hydrus,Ind Indus,LMi Leo Minor,Lac Lacerta,Leo Leo,Lep Lepus,"
    "Lib Libra,Lup Lupus,Lyn Lynx,Lyr Lyra,Men Mensa,Mic Microscopium,Mon Monoceros,Mus Musca,Nor Norma,"
    "Oct Octans,Oph Ophiuchus,Ori Orion,Pav Pavo,Peg Pegasus,Per Perseus,Phe Phoenix,Pic Pictor,"
    "PsA Piscis Austrinus,Psc Pisces,Pup Puppis,Pyx Pyxis,Ret Reticulum,Scl Sculptor,Sco Scorpius,Sct Scutum,"
    "Se1 Serpens,Se2 Serpens,Ser Serpens,Sex Sextans,Sge Sagitta,Sgr Sagittarius,Tau Taurus,Tel Telescopium,"
    "TrA Triangulum Australe,Tri Triangulum,Tuc Tucana,UMa Ursa Major,UMi Ursa Minor,Vel Vela,Vir Virgo,"
    "Vol Volans,Vul Vulpecula"
)
CONSTELLATIONS = dict(entry.split(" ", 1) for entry in _CONSTELLATIONS.split(","))


@dataclass(frozen=True)
class Card:
    """What the public reads about an object; None where unknown. Size in arcminutes, distance in light years."""

    designation: str
    common_name: str | None
    kind: str
    constellation: str | None
    size_arcmin: tuple[float, float] | None
    magnitude: float | None
    distance_ly: float | None
    source: str | None


def find_designation(text: str) -> str | None:
    """Return the catalogue number in a free text ("m_101 LRGB" -> "M101"), or None."""
    found = _DESIGNATION.search(text)
    if found is None:
        return None
    catalogue = re.sub(r"\s", "", found.group(1).lower())
    catalogue = "Sh2-" if catalogue == "sh2" else _SPELLING.get(catalogue, catalogue.upper())
    return f"{catalogue}{found.group(2)}"


@lru_cache(maxsize=64)
def find_card(name: str) -> Card | None:
    """Return what is known of the object in `name`; None without a catalogue number or an entry."""
    designation = find_designation(name)
    if designation is None:
        return None
    shown = SHOWPIECES.get(designation)
    distance = shown.distance_ly if shown else None
    try:
        from pyongc import ongc
    except ImportError:
        entry = None
    else:
        entry = ongc.get(designation)
    if entry is None:
        if shown is None:
            return None
        return Card(designation, shown.common_name, shown.kind, shown.constellation, None, None, distance, None)
    major, minor, _angle = entry.dimensions
    blue, visual = entry.magnitudes[:2]
    names = entry.identifiers[3] or ()
    return Card(
        designation=designation,
        common_name=(shown.common_name if shown else None) or (max(names, key=len) if names else None),
        kind=_TYPES.get(entry.type, entry.type),
        constellation=CONSTELLATIONS.get(entry.constellation, entry.constellation or None),
        size_arcmin=(major, minor or major) if major else None,
        magnitude=visual if visual is not None else blue,
        distance_ly=distance,
        source="OpenNGC, CC BY-SA 4.0",
    )
