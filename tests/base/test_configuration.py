"""Settings from file and command line; the printed defaults are the defaults."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from livestack.base.configuration import OPTIONS, default_toml, load_settings
from livestack.base.errors import UsageError
from livestack.base.settings import Settings


def test_printed_defaults_are_the_defaults(tmp_path: Path) -> None:
    config = tmp_path / "my.toml"
    config.write_text(default_toml(), encoding="utf-8")
    assert load_settings(config, {}) == Settings()


def test_every_setting_is_explained() -> None:
    text = default_toml()
    for section, entry in Settings.model_fields.items():
        assert f"[{section}]" in text
        for name, field in type(entry.get_default(call_default_factory=True)).model_fields.items():
            assert field.description, f"{section}.{name}"
            assert f"{name} =" in text
    tomllib.loads(text)


def test_options_override_the_file(tmp_path: Path) -> None:
    config = tmp_path / "my.toml"
    config.write_text('[stack]\nkappa = 4.0\nrejection = "none"\n', encoding="utf-8")
    settings = load_settings(config, {"rejection": "live", "quality": "off"})
    assert (settings.stack.kappa, settings.stack.rejection, settings.quality.enabled) == (4.0, "live", False)


def test_every_option_leads_to_a_setting() -> None:
    for section, field in OPTIONS.values():
        assert field in type(getattr(Settings(), section)).model_fields, (section, field)


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ("[stack]\nkapa = 3\n", {}, r"stack\.kapa: there is no kapa in section \[stack\], perhaps kappa is meant; see"),
        ("[stack]\nidle_stop_s = 3\n", {}, r"perhaps ingest\.idle_stop_s is meant"),
        ("[stak]\nkappa = 3\n", {}, r"there is no section \[stak\], perhaps \[stack\] is meant"),
        ("kappa = 3\n", {}, r"perhaps stack\.kappa is meant"),
        ("[zzz]\nq = 3\n", {}, r"there is no section \[zzz\]; see"),
        ("[stack\n", {}, "is not valid TOML"),
        ("stack = 3\n", {"rejection": "live"}, "should be a section"),
        ("", {"rejection": "sometimes"}, "--rejection: found 'sometimes'"),
        ("", {"quality": "maybe"}, "expected on or off"),
        ("[face]\nport = 99999\n", {}, r"face\.port"),
    ],
)
def test_mistakes_are_named(content: str, options: dict[str, object], said: str, tmp_path: Path) -> None:
    config = tmp_path / "my.toml"
    config.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=said):
        load_settings(config, options)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml: cannot be read"):
        load_settings(tmp_path / "none.toml", {})


def test_who_asks_for_smaller_pixels_asks_for_drizzle() -> None:
    given = load_settings(None, {"scale": 2.0})
    assert given.calibration.debayer == "drizzle"
    assert given.stack.scale == 2
    with pytest.raises(UsageError, match="needs debayer drizzle"):
        load_settings(None, {"scale": 2.0, "debayer": "mhc"})


def test_who_gives_names_for_what_passes_wants_to_be_told_of_it(tmp_path: Path) -> None:
    assert load_settings(None, {}).passages.look == "auto"
    given = load_settings(None, {"tle": Path("tle.txt")}).passages
    assert given.look == "on"
    assert given.tle == Path("tle.txt").absolute()
    assert not load_settings(None, {"mpcorb": tmp_path / "M", "passages": "off"}).passages.enabled
