"""The visitors' languages: every catalogue is complete, says what the pages say, and keeps the places of values."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from livestack.faces.web.publish import LANGUAGES
from livestack.faces.web.static_files import STATIC
from livestack.faces.web.status import PLAIN_WORDS

FORMS = {"pl": {"one", "few", "many", "other"}, "ja": {"other"}, "zh": {"other"}}


def catalogue(language: str) -> dict[str, Any]:
    return dict(json.loads((STATIC / f"words_{language}.json").read_text(encoding="utf-8")))


def test_there_is_a_catalogue_for_each_language_and_no_other() -> None:
    assert {path.name for path in STATIC.glob("words_*.json")} == {f"words_{language}.json" for language in LANGUAGES}
    script = (STATIC / "words.js").read_text(encoding="utf-8")
    names = re.search(r"const NAMES = \{(.*?)\}", script)
    assert names is not None
    assert set(re.findall(r"(\w\w): ", names[1])) == set(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_catalogue_is_complete(language: str) -> None:
    english, words = catalogue("en"), catalogue(language)
    assert set(words) == set(english)
    for text, found in words.items():
        plural = isinstance(english[text], dict)
        if plural:
            assert set(found) == FORMS.get(language, {"one", "other"}), text
        for form in found.values() if plural else (found,):
            assert form.strip(), text
            if not plural:
                assert sorted(re.findall(r"\{\w+\}", form)) == sorted(re.findall(r"\{\w+\}", text)), text
    if language != "en":
        same = [text for text, found in words.items() if found == text]
        assert len(same) < 12, same  # "Distance" is French, too


def test_catalogues_hold_what_the_pages_say() -> None:
    english = catalogue("en")
    said: set[str] = set()
    for name in ("live.js", "sky.js", "overlay.js"):
        said |= set(re.findall(r'\bT\("((?:[^"\\]|\\.)*)"', (STATIC / name).read_text(encoding="utf-8")))
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    body = page[page.index("<body") :]
    said |= {text.strip() for text in re.findall(r">([^<>]+)<", body)}
    said |= set(re.findall(r'(?:aria-label|title|alt)="([^"]+)"', body))
    left = {"", "0", "1:1", "×", "This page needs JavaScript to follow the telescope."}
    assert said - left - set(english) == set()
    assert set(PLAIN_WORDS.values()) <= set(english)
    assert set(english) - said - set(PLAIN_WORDS.values()) == set()  # nothing is translated in vain
