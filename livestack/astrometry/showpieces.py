"""The objects that people are shown most: name, kind, constellation and distance, written by us from common knowledge.

A card for these is there without any extra package; where the catalogue is installed its names, sizes and magnitudes
come first, and only the distance, which OpenNGC does not have, comes from here. Distances are in light years, rounded
to what is agreed on in the literature (about 10 %).
"""

from __future__ import annotations

from dataclasses import dataclass

_TABLE = """
M1|Crab Nebula|Remnant of an exploded star|Taurus|6500
M3||Globular cluster|Canes Venatici|34000
M5||Globular cluster|Serpens|24500
M8|Lagoon Nebula|Emission nebula: glowing gas|Sagittarius|4100
M11|Wild Duck Cluster|Open cluster|Scutum|6200
M13|Hercules Globular Cluster|Globular cluster|Hercules|24000
M15||Globular cluster|Pegasus|34000
M16|Eagle Nebula|Star cluster with nebula|Serpens|5700
M17|Omega Nebula|Emission nebula: glowing gas|Sagittarius|5500
M22||Globular cluster|Sagittarius|10500
M27|Dumbbell Nebula|Planetary nebula: shell of a dying star|Vulpecula|1300
M31|Andromeda Galaxy|Galaxy|Andromeda|2500000
M33|Triangulum Galaxy|Galaxy|Triangulum|2800000
M42|Orion Nebula|Star cluster with nebula|Orion|1350
M44|Beehive Cluster|Open cluster|Cancer|600
M45|Pleiades|Open cluster|Taurus|440
M51|Whirlpool Galaxy|Galaxy|Canes Venatici|28000000
M57|Ring Nebula|Planetary nebula: shell of a dying star|Lyra|2500
M63|Sunflower Galaxy|Galaxy|Canes Venatici|29000000
M64|Black Eye Galaxy|Galaxy|Coma Berenices|17000000
M78||Reflection nebula: dust lit by stars|Orion|1350
M81|Bode's Galaxy|Galaxy|Ursa Major|12000000
M82|Cigar Galaxy|Galaxy|Ursa Major|12000000
M83|Southern Pinwheel Galaxy|Galaxy|Hydra|15000000
M87||Galaxy|Virgo|54000000
M92||Globular cluster|Hercules|27000
M94||Galaxy|Canes Venatici|16000000
M97|Owl Nebula|Planetary nebula: shell of a dying star|Ursa Major|2500
M101|Pinwheel Galaxy|Galaxy|Ursa Major|21000000
M104|Sombrero Galaxy|Galaxy|Virgo|30000000
M106||Galaxy|Canes Venatici|24000000
NGC253|Sculptor Galaxy|Galaxy|Sculptor|11500000
NGC869|Double Cluster|Open cluster|Perseus|7500
NGC884|Double Cluster|Open cluster|Perseus|7500
NGC891||Galaxy|Andromeda|30000000
NGC5139|Omega Centauri|Globular cluster|Centaurus|17000
NGC2070|Tarantula Nebula|Star cluster with nebula|Dorado|160000
NGC2237|Rosette Nebula|Emission nebula: glowing gas|Monoceros|5000
NGC2244|Rosette Nebula|Star cluster with nebula|Monoceros|5000
NGC3372|Carina Nebula|Star cluster with nebula|Carina|8000
NGC6960|Veil Nebula|Remnant of an exploded star|Cygnus|2400
NGC6992|Veil Nebula|Remnant of an exploded star|Cygnus|2400
NGC7000|North America Nebula|Glowing cloud of hydrogen (HII region)|Cygnus|2600
NGC7293|Helix Nebula|Planetary nebula: shell of a dying star|Aquarius|650
B33|Horsehead Nebula|Dark nebula: dust in front of stars|Orion|1350
IC434|Horsehead Nebula|Glowing cloud of hydrogen (HII region)|Orion|1350
"""


@dataclass(frozen=True)
class Showpiece:
    """One object of the table; an empty name where it has none. Distance in light years."""

    common_name: str | None
    kind: str
    constellation: str
    distance_ly: float


def _read_table() -> dict[str, Showpiece]:
    rows = (line.split("|") for line in _TABLE.strip().splitlines())
    return {row[0]: Showpiece(row[1] or None, row[2], row[3], float(row[4])) for row in rows}


SHOWPIECES = _read_table()
"""By designation, written like "M31" and "NGC7000"."""
