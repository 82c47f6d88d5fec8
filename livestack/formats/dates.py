"""When the exposure began, as the headers of capture programs, old observatories and EXIF say it.

Times are UTC unless a zone is named. A date that is none is noted and the next keyword asked; nothing raises.

Sources: FITS standard 4.0, section 9; the old form DD/MM/YY; years that count from 1900 ("102"), as seen in real files.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from livestack.formats.cards import Cards

_DATE_KEYS = ("DATE-OBS", "DATE_OBS", "DATEOBS", "DATE-BEG", "DATE-STA")
_TIME_KEYS = ("TIME-OBS", "TIME_OBS", "UTSTART", "UTC-OBS", "UT-OBS", "UTC", "UT", "TIME-BEG")
_ISO = re.compile(
    r"(\d{4})[-/:](\d{1,2})[-/:](\d{1,2})(?:[T ]+(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:[.,](\d*))?)?)?"
    r"\s*(Z|UTC?|[+-]\d{2}:?\d{2})?\Z",
    re.IGNORECASE,
)
_CLOCK = re.compile(r"(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:[.,](\d*))?)?\s*Z?\Z", re.IGNORECASE)
_OLD_DATE = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{2,4})\Z")


def find_date(cards: Cards) -> datetime | None:
    """Start of the exposure in UTC."""
    for keyword in _DATE_KEYS:
        text = cards.text(keyword)
        if text is None:
            continue
        found = _read_date(cards, keyword, text)
        if found is not None:
            return found
        cards.note(f"{keyword} = '{text}' is no date that we can read; ignored.")
    for keyword, epoch in (("MJD-OBS", 0.0), ("MJD-BEG", 0.0), ("JD", 2400000.5)):
        days = cards.number(keyword)
        if days is not None and 15000 < days - epoch < 100000:
            return datetime(1858, 11, 17, tzinfo=UTC) + timedelta(days=days - epoch)
    return None


def _read_date(cards: Cards, keyword: str, text: str) -> datetime | None:
    match = _ISO.match(text)
    if match:
        year, month, day = (int(part) for part in match.groups()[:3])
        clock, zone = match.groups()[3:7], match.group(8)
    else:
        old = _OLD_DATE.match(text)
        if old is None:
            return None
        day, month, year = (int(part) for part in old.groups())
        clock, zone = (None, None, None, None), None
        if year < 1000:
            year += 1900
            if year >= 2000 or len(old.group(3)) > 2:
                cards.note(f"{keyword} = '{text}' counts its year from 1900; read as {year:04d}-{month:02d}-{day:02d}.")
    if clock[0] is None:
        time_of_day = next((_CLOCK.match(t) for k in _TIME_KEYS if (t := cards.text(k)) and _CLOCK.match(t)), None)
        if time_of_day is not None:
            clock = time_of_day.groups()
    try:
        moment = datetime(year, month, day, tzinfo=UTC) + timedelta(
            hours=int(clock[0] or 0),
            minutes=int(clock[1] or 0),
            seconds=int(clock[2] or 0),
            microseconds=int(((clock[3] or "") + "000000")[:6]),
        )
        if zone and zone[0] in "+-":
            shift = timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
            moment = moment - shift if zone[0] == "+" else moment + shift
    except (ValueError, OverflowError):
        return None
    if not 1850 <= moment.year <= 2200:
        return None
    return moment
