"""Bright stars with names that the IAU has approved, by Hipparcos number.

Names: IAU Catalog of Star Names (Working Group on Star Names, 2016 to 2022). Places of 2016 and motions are those of
`catalogue`; a row stands here only where that has a star of about that brightness at that place, in that constellation
(`tests/astrometry/test_objects.py` asks it again). The catalogue has no motions of stars that blind Gaia: those that
move fast have van Leeuwen's (2007, doi:10.1051/0004-6361:20078357), the others stand still here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_TABLE = """
677|Alpheratz|α And|2.09762|+29.08970|0|0|2.06
746|Caph|β Cas|2.29907|+59.14898|3|2|2.27
1067|Algenib|γ Peg|3.30897|+15.18355|3|3|2.83
2081|Ankaa|α Phe|6.57216|-42.30782|3|2|2.40
3179|Schedar|α Cas|10.12724|+56.53719|3|2|2.24
3419|Diphda|β Cet|10.89847|-17.98646|233|32|2.02
5447|Mirach|β And|17.43398|+35.62006|176|-112|2.05
6686|Ruchbah|δ Cas|21.45661|+60.23507|3|3|2.66
7588|Achernar|α Eri|24.42924|-57.23692|0|0|0.46
8886|Segin|ε Cas|28.59919|+63.67002|3|3|3.37
8903|Sheratan|β Ari|28.66052|+20.80754|0|0|2.64
9640|Almach|γ And|30.97506|+42.32951|0|0|2.10
9884|Hamal|α Ari|31.79427|+23.46176|189|-148|2.00
11767|Polaris|α UMi|37.94614|+89.26414|0|0|1.98
14135|Menkar|α Cet|45.56984|+4.08940|0|0|2.53
14576|Algol|β Per|47.04224|+40.95564|0|0|2.12
15863|Mirfak|α Per|51.08087|+49.86106|0|0|1.79
17489|Celaeno|16 Tau|56.20099|+24.28927|5|5|5.45
17499|Electra|17 Tau|56.21900|+24.11313|4|4|3.70
17531|Taygeta|19 Tau|56.30216|+24.46706|4|4|4.30
17573|Maia|20 Tau|56.45680|+24.36754|4|4|3.87
17579|Asterope|21 Tau|56.47708|+24.55431|6|6|5.76
17608|Merope|23 Tau|56.58167|+23.94814|4|4|4.17
17702|Alcyone|η Tau|56.87125|+24.10493|3|3|2.87
17847|Atlas|27 Tau|57.29069|+24.05321|4|4|3.63
17851|Pleione|28 Tau|57.29683|+24.13650|5|5|5.05
18543|Zaurak|γ Eri|59.50764|-13.50901|4|2|2.95
20889|Ain|ε Tau|67.15467|+19.18027|4|3|3.53
21421|Aldebaran|α Tau|68.98046|+16.50846|64|-189|0.86
23015|Hassaleh|ι Aur|74.24844|+33.16601|3|2|2.69
23875|Cursa|β Eri|76.96200|-5.08681|3|3|2.79
24436|Rigel|β Ori|78.63447|-8.20164|0|0|0.13
24608|Capella|α Aur|79.17281|+45.99609|75|-427|0.08
25336|Bellatrix|γ Ori|81.28273|+6.34965|0|0|1.64
25428|Elnath|β Tau|81.57309|+28.60668|0|0|1.65
25606|Nihal|β Lep|82.06132|-20.75982|3|2|2.84
25930|Mintaka|δ Ori|83.00166|-0.29908|3|2|2.23
25985|Arneb|α Lep|83.18258|-17.82228|3|2|2.58
26207|Meissa|λ Ori|83.78450|+9.93415|3|4|3.40
26241|Hatysa|ι Ori|83.85826|-5.90990|3|3|2.77
26311|Alnilam|ε Ori|84.05340|-1.20192|0|0|1.69
26634|Phact|α Col|84.91226|-34.07421|3|3|2.65
26727|Alnitak|ζ Ori|85.18971|-1.94256|0|0|1.77
27366|Saiph|κ Ori|86.93913|-9.66961|3|2|2.09
27989|Betelgeuse|α Ori|88.79306|+7.40711|0|0|0.42
28360|Menkalinan|β Aur|89.88182|+44.94743|0|0|1.90
29655|Propus|η Gem|93.71907|+22.50675|4|2|3.30
30324|Mirzam|β CMa|95.67492|-17.95592|0|0|1.98
30343|Tejat|μ Gem|95.74037|+22.51310|4|2|2.88
30438|Canopus|α Car|95.98810|-52.69556|0|0|-0.74
31681|Alhena|γ Gem|99.42802|+16.39904|0|0|1.92
32246|Mebsuta|ε Gem|100.98301|+25.13107|4|2|3.06
32349|Sirius|α CMa|101.28462|-16.72155|-546|-1223|-1.46
33579|Adhara|ε CMa|104.65647|-28.97208|0|0|1.50
34444|Wezen|δ CMa|107.09783|-26.39318|0|0|1.84
35550|Wasat|δ Gem|110.03059|+21.98224|4|3|3.53
35904|Aludra|η CMa|111.02374|-29.30308|3|3|2.45
36188|Gomeisa|β CMi|111.78744|+8.28915|3|3|2.89
36850|Castor|α Gem|113.64847|+31.88764|-192|-145|1.58
37279|Procyon|α CMi|114.82231|+5.22038|-715|-1037|0.34
37826|Pollux|β Gem|116.32580|+28.02600|-627|-46|1.14
39429|Naos|ζ Pup|120.89586|-40.00307|3|3|2.25
39757|Tureis|ρ Pup|121.88563|-24.30412|3|3|2.81
41037|Avior|ε Car|125.62826|-59.50939|0|0|1.86
42806|Asellus Borealis|γ Cnc|130.82094|+21.46832|5|5|4.67
42911|Asellus Australis|δ Cnc|131.17116|+18.15330|4|3|3.94
42913|Alsephina|δ Vel|131.17617|-54.70928|0|0|1.96
44816|Suhail|λ Vel|136.99884|-43.43253|0|0|2.21
45238|Miaplacidus|β Car|138.29790|-69.71672|0|0|1.69
45556|Aspidiske|ι Car|139.27237|-59.27518|3|2|2.21
45941|Markeb|κ Vel|140.52832|-55.01061|3|3|2.50
46390|Alphard|α Hya|141.89678|-8.65845|0|0|1.98
49669|Regulus|α Leo|152.09183|+11.96723|-249|6|1.40
50335|Adhafera|ζ Leo|154.17267|+23.41728|4|3|3.44
50583|Algieba|γ Leo|154.99457|+19.84080|0|0|2.08
53910|Merak|β UMa|165.46097|+56.38258|3|3|2.37
54061|Dubhe|α UMa|165.93071|+61.75088|0|0|1.79
54872|Zosma|δ Leo|168.52777|+20.52314|3|3|2.56
54879|Chertan|θ Leo|168.55974|+15.42922|3|3|3.34
57632|Denebola|β Leo|177.26262|+14.57155|-498|-115|2.13
58001|Phecda|γ UMa|178.45837|+53.69480|3|3|2.44
59774|Megrez|δ UMa|183.85735|+57.03265|3|3|3.31
59803|Gienah|γ Crv|183.95081|-17.54183|0|0|2.59
60718|Acrux|α Cru|186.64921|-63.09916|0|0|0.76
60965|Algorab|δ Crv|187.46509|-16.51605|3|3|2.95
61084|Gacrux|γ Cru|187.79173|-57.11439|0|0|1.64
61359|Kraz|β Crv|188.59682|-23.39701|3|2|2.65
61932|Muhlifain|γ Cen|190.37799|-48.95978|3|2|2.17
61941|Porrima|γ Vir|190.41238|-1.44969|3|3|2.74
62434|Mimosa|β Cru|191.92991|-59.68884|0|0|1.25
62956|Alioth|ε UMa|193.50818|+55.95978|2|2|1.77
63125|Cor Caroli|α CVn|194.00562|+38.31862|3|3|2.89
63608|Vindemiatrix|ε Vir|195.54291|+10.95924|3|2|2.83
65378|Mizar|ζ UMa|200.98237|+54.92526|3|2|2.04
65474|Spica|α Vir|201.29806|-11.16146|0|0|0.97
65477|Alcor|80 UMa|201.30731|+54.98785|4|4|4.00
67301|Alkaid|η UMa|206.88433|+49.31320|2|2|1.86
67927|Muphrid|η Boo|208.67086|+18.39612|3|2|2.68
68702|Hadar|β Cen|210.95556|-60.37314|0|0|0.61
68756|Thuban|α Dra|211.09674|+64.37592|4|4|3.65
68933|Menkent|θ Cen|211.66774|-36.37226|-520|-518|2.06
69673|Arcturus|α Boo|213.91015|+19.17352|-1093|-1999|-0.05
71075|Seginus|γ Boo|218.01882|+38.30892|3|3|3.03
71683|Rigil Kentaurus|α Cen|219.86850|-60.83189|-3679|474|0.01
72105|Izar|ε Boo|221.24649|+27.07432|3|2|2.37
72607|Kochab|β UMi|222.67583|+74.15555|0|0|2.08
72622|Zubenelgenubi|α Lib|222.71915|-16.04208|3|3|2.75
73555|Nekkar|β Boo|225.48627|+40.39043|4|3|3.50
74785|Zubeneschamali|β Lib|229.25128|-9.38300|3|3|2.61
75097|Pherkad|γ UMi|230.18187|+71.83410|3|3|3.05
75458|Edasich|ι Dra|231.23232|+58.96614|4|2|3.29
76267|Alphecca|α CrB|233.67254|+26.71430|3|2|2.23
77070|Unukalhai|α Ser|236.06757|+6.42583|3|2|2.63
78265|Fang|π Sco|239.71290|-26.11423|3|3|2.89
78401|Dschubba|δ Sco|240.08331|-22.62186|0|0|2.32
78820|Acrab|β Sco|241.35927|-19.80555|3|3|2.62
80763|Antares|α Sco|247.35186|-26.43211|0|0|0.96
80816|Kornephoros|β Her|247.55453|+21.48954|3|2|2.77
82273|Atria|α TrA|252.16645|-69.02785|0|0|1.91
82396|Larawag|ε Sco|252.53759|-34.29437|3|2|2.29
83895|Aldhibah|ζ Dra|257.19644|+65.71479|3|3|3.17
84012|Sabik|η Oph|257.59468|-15.72448|3|2|2.43
85670|Rastaban|β Dra|262.60806|+52.30144|3|2|2.79
85696|Lesath|υ Sco|262.69097|-37.29595|0|0|2.70
85927|Shaula|λ Sco|263.40212|-37.10396|0|0|1.62
86032|Rasalhague|α Oph|263.73420|+12.55901|3|2|2.07
86228|Sargas|θ Sco|264.32974|-42.99784|0|0|1.86
86670|Girtab|κ Sco|265.62194|-39.03009|3|3|2.41
86742|Cebalrai|β Oph|265.86795|+4.56801|3|2|2.77
87833|Eltanin|γ Dra|269.15148|+51.48879|0|0|2.23
88635|Alnasl|γ Sgr|271.45177|-30.42494|4|2|2.99
89931|Kaus Media|δ Sgr|275.24868|-29.82822|3|2|2.70
90185|Kaus Australis|ε Sgr|276.04278|-34.38517|0|0|1.85
90496|Kaus Borealis|λ Sgr|276.99244|-25.42252|3|2|2.81
91262|Vega|α Lyr|279.23588|+38.78496|201|286|0.03
92420|Sheliak|β Lyr|282.51999|+33.36265|4|3|3.50
92855|Nunki|σ Sgr|283.81644|-26.29696|0|0|2.05
93194|Sulafat|γ Lyr|284.73591|+32.68956|3|3|3.24
93506|Ascella|ζ Sgr|285.65275|-29.88014|3|2|2.60
95947|Albireo|β Cyg|292.68034|+27.95962|4|2|3.05
97278|Tarazed|γ Aql|296.56499|+10.61325|3|2|2.72
97649|Altair|α Aql|297.69824|+8.87003|536|385|0.76
100453|Sadr|γ Cyg|305.55711|+40.25667|3|2|2.23
100751|Peacock|α Pav|306.41196|-56.73547|0|0|1.94
102098|Deneb|α Cyg|310.35799|+45.28035|0|0|1.25
102488|Aljanah|ε Cyg|311.55476|+33.97170|3|2|2.48
105199|Alderamin|α Cep|319.64634|+62.58580|3|2|2.45
106278|Sadalsuud|β Aqr|322.88980|-5.57121|3|2|2.91
107315|Enif|ε Peg|326.04661|+9.87501|0|0|2.39
107556|Deneb Algedi|δ Cap|326.76139|-16.12861|3|3|2.85
109074|Sadalmelik|α Aqr|331.44606|-0.31990|3|2|2.95
109268|Alnair|α Gru|332.05908|-46.96162|2|2|1.74
112029|Homam|ζ Peg|340.36585|+10.83131|3|3|3.40
112122|Tiaki|β Gru|340.66776|-46.88460|0|0|2.10
112158|Matar|η Peg|340.75064|+30.22113|3|2|2.94
113368|Fomalhaut|α PsA|344.41437|-29.62297|329|-165|1.16
113881|Scheat|β Peg|345.94452|+28.08340|0|0|2.42
113963|Markab|α Peg|346.19051|+15.20508|3|3|2.49
116727|Errai|γ Cep|354.83578|+77.63312|4|2|3.21
"""
_MAS_DEG = 1.0 / 3.6e6


@dataclass(frozen=True)
class NamedStar:
    """A row of the table.

    Attributes
    ----------
    hip : Hipparcos number.
    designation : letter or number with the constellation's abbreviation, "α Ori".
    ra_deg, dec_deg : ICRS, in the year 2016; pm_ra, pm_dec : motion in mas a year, pm_ra times cos(dec).
    mag : V; double stars together.
    """

    hip: int
    name: str
    designation: str
    ra_deg: float
    dec_deg: float
    pm_ra: float
    pm_dec: float
    mag: float

    def place(self, year: float) -> tuple[float, float]:
        """RA and Dec in degrees in a Julian year."""
        years = (year - 2016.0) * _MAS_DEG
        east = years * self.pm_ra / math.cos(math.radians(self.dec_deg))
        return self.ra_deg + east, self.dec_deg + years * self.pm_dec


def _read_table() -> tuple[NamedStar, ...]:
    rows = (line.split("|") for line in _TABLE.strip().splitlines())
    return tuple(NamedStar(int(hip), name, letter, *map(float, rest)) for hip, name, letter, *rest in rows)


NAMED_STARS = _read_table()
"""All of them, by growing number."""
