"""The 80-column cards of a FITS header, read with tolerance.

Capture programs write headers that the standard forbids: decimal commas from a German or Spanish Windows, bytes that
are not ASCII, values that are no value, zeros for blanks. A night must not end over that, so every card is read as well
as it can be, and each repair leaves a sentence in `Cards.oddities`. Strictness would be astropy's `Header`, which costs
several times as long and raises late. What the keywords mean is the business of `headers`.

Source: FITS standard 4.0, section 4 (Pence et al. 2010, doi:10.1051/0004-6361/201015362).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

CARD = 80
BLOCK = 2880

Value = str | int | float | bool

_INTEGER = re.compile(r"[+-]?\d{1,300}\Z")
_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([EeDd][+-]?\d+)?\Z")
_COMMA = re.compile(r"[+-]?\d*,\d+([EeDd][+-]?\d+)?\Z")
_SILENT = {"COMMENT", "HISTORY", "", "END", "CONTINUE"}


@dataclass
class Cards:
    """Keywords with values and comments, in the order of the file; the first of a repeated keyword counts."""

    values: dict[str, tuple[Value, str]] = field(default_factory=dict)
    oddities: list[str] = field(default_factory=list)

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.values

    def __iter__(self) -> Iterator[tuple[str, Value, str]]:
        for keyword, (value, comment) in self.values.items():
            yield keyword, value, comment

    def add(self, keyword: str, value: Value, comment: str = "") -> None:
        """Append a card unless the keyword is there already."""
        self.values.setdefault(keyword, (value, comment))

    def get(self, keyword: str) -> Value | None:
        """The value, or None."""
        entry = self.values.get(keyword)
        return None if entry is None else entry[0]

    def note(self, sentence: str) -> None:
        """Record an oddity once."""
        if sentence not in self.oddities:
            self.oddities.append(sentence)

    def text(self, *keywords: str) -> str | None:
        """The first of `keywords` whose value is not blank, as stripped text."""
        for keyword in keywords:
            value = self.get(keyword)
            if value is not None and not isinstance(value, bool) and (text := str(value).strip()):
                return text
        return None

    def number(self, *keywords: str) -> float | None:
        """The first of `keywords` that holds a finite number, also one in quotes or with a decimal comma."""
        for keyword in keywords:
            value = self.get(keyword)
            if isinstance(value, str):
                value = self._number_in_text(keyword, value.strip())
            if value is None or isinstance(value, bool):
                continue
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            if math.isfinite(number):
                return number
            self.note(f"{keyword} is {number}, which is no measurement; ignored.")
        return None

    def whole(self, keyword: str) -> int | None:
        """An integer, also one written as 2.0 or in quotes; None where it is neither."""
        value = self.get(keyword)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        number = self.number(keyword)
        return int(number) if number is not None and number == int(number) else None

    def _number_in_text(self, keyword: str, text: str) -> float | None:
        if _COMMA.match(text):
            number = to_float(text.replace(",", "."))
            self.note(f"{keyword} = '{text}' uses a decimal comma; read as {number:g}.")
            return number
        if _FLOAT.match(text) or _INTEGER.match(text):
            return to_float(text)
        return None


def to_float(text: str) -> float:
    """Fortran or C notation to float; 1D3 is 1000."""
    return float(text.replace("D", "E").replace("d", "e"))


def is_end(raw: bytes) -> bool:
    """Whether a card ends the header; some writers fill it up with zeros."""
    return raw[:8].rstrip(b" \0") == b"END"


def parse_cards(block: bytes) -> Cards:
    """Read the cards of one header.

    Parameters
    ----------
    block : bytes of the header, a multiple of 80 long; reading stops at END.
    """
    cards = Cards()
    open_string: str | None = None
    for start in range(0, len(block) - CARD + 1, CARD):
        raw = block[start : start + CARD]
        if is_end(raw):
            break
        if not raw.isascii() or b"\0" in raw:
            text = _rescue(raw, cards)
        else:
            text = raw.decode("ascii")
        open_string = read_card(text, cards, open_string)
    return cards


def read_card(text: str, cards: Cards, open_string: str | None = None) -> str | None:
    """Add the card that `text` holds (of any length).

    Returns
    -------
    the keyword of a string that goes on in a CONTINUE card, to be handed over with the next card
    """
    keyword = text[:8].rstrip().upper()
    if keyword == "CONTINUE" and open_string is not None:
        more, comment = _read_string(text[8:].strip())
        begun, old = cards.values[open_string]
        goes_on = more.endswith("&")
        cards.values[open_string] = (str(begun) + more.removesuffix("&"), old + comment)
        return open_string if goes_on else None
    if keyword == "HIERARCH" and "=" in text:
        keyword, _, rest = text[9:].partition("=")
        keyword = keyword.strip().upper()
    elif text[8:9] == "=":
        rest = text[9:]
    else:
        return None
    if keyword in _SILENT or keyword in cards:
        return None
    rest = rest.strip()
    if rest.startswith("'"):
        string, comment = _read_string(rest)
        goes_on = string.endswith("&")
        cards.add(keyword, string.removesuffix("&") if goes_on else string, comment)
        return keyword if goes_on else None
    value_text, _, comment = rest.partition("/")
    value = _read_value(keyword, value_text.strip(), cards)
    if value is not None:
        cards.add(keyword, value, comment.strip())
    return None


def _read_string(text: str) -> tuple[str, str]:
    """`'It''s' / comment` to ("It's", "comment"); a missing closing quote is forgiven."""
    end = 1
    while (end := text.find("'", end)) >= 0 and text[end : end + 2] == "''":
        end += 2
    if end < 0:
        return text[1:].rstrip(), ""
    return text[1:end].replace("''", "'").rstrip(), text[end + 1 :].partition("/")[2].strip()


def _read_value(keyword: str, text: str, cards: Cards) -> Value | None:
    if not text:
        return None
    if text in ("T", "F"):
        return text == "T"
    if _INTEGER.match(text):
        return int(text)
    if _FLOAT.match(text):
        return to_float(text)
    if _COMMA.match(text):
        return cards._number_in_text(keyword, text)
    if text.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        return float(text)
    cards.note(f"{keyword} = {text} is no FITS value; kept as text.")
    return text


def _rescue(raw: bytes, cards: Cards) -> str:
    """Decode a card with foreign bytes; zeros become blanks."""
    keyword = raw[:8].decode("latin-1").strip(" \0")
    if b"\0" in raw:
        raw = raw.replace(b"\0", b" ")
    if not raw.isascii():
        cards.note(f"The card {keyword!r} holds bytes that are not ASCII; read as well as possible.")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
