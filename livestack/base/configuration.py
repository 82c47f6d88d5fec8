"""Settings from a TOML file and the command line, and the defaults as commented TOML."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from livestack.base.errors import UsageError
from livestack.base.settings import Section, Settings

OPTIONS: dict[str, tuple[str, str]] = {
    "output": ("save", "output"),
    "masters": ("calibration", "masters"),
    "cosmetic": ("calibration", "cosmetic"),
    "bayer": ("calibration", "bayer"),
    "debayer": ("calibration", "debayer"),
    "reference": ("registration", "reference"),
    "registration": ("registration", "method"),
    "existing": ("ingest", "existing"),
    "recursive": ("ingest", "recursive"),
    "poll": ("ingest", "poll"),
    "idle_stop": ("ingest", "idle_stop_s"),
    "max_frames": ("ingest", "max_frames"),
    "rejection": ("stack", "rejection"),
    "mode": ("stack", "mode"),
    "window_minutes": ("stack", "window_minutes"),
    "scale": ("stack", "scale"),
    "pixfrac": ("stack", "pixfrac"),
    "canvas": ("stack", "canvas"),
    "quality": ("quality", "enabled"),
    "photometry": ("photometry", "enabled"),
    "passages": ("passages", "look"),
    "tle": ("passages", "tle"),
    "mpcorb": ("passages", "mpcorb"),
    "comets": ("passages", "comets"),
    "final_pass": ("save", "final_pass"),
    "palette": ("render", "palette"),
    "formats": ("save", "formats"),
    "flatten": ("save", "flatten"),
    "solve": ("save", "solve"),
    "follow": ("follow", "target"),
    "rate": ("follow", "rate"),
    "publish": ("save", "publish"),
    "timelapse": ("save", "timelapse"),
    "memory_limit": ("save", "memory_limit_mb"),
    "notify": ("notify", "urls"),
    "quiet": ("notify", "quiet"),
    "window": ("face", "window"),
    "web": ("face", "web"),
    "host": ("face", "host"),
    "port": ("face", "port"),
    "json": ("face", "json_events"),
}
"""Command-line option -> section and field."""
SWITCHES = {"on": True, "off": False}


def load_settings(config: Path | None, options: dict[str, Any]) -> Settings:
    """Defaults, changed by the file, changed by the options.

    Raises
    ------
    UsageError : a file that is missing or no TOML, a name that does not exist, or a value out of range; says which.
    """
    content: dict[str, Any] = {}
    if config is not None:
        try:
            content = tomllib.loads(config.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(
                f"{config}: cannot be read ({error.strerror}); `livestack config` prints one to begin with."
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(
                f"{config}: is not valid TOML ({error}); `livestack config` prints one to begin with."
            ) from error
    for name, value in options.items():
        section, field = OPTIONS[name]
        if name in ("quality", "cosmetic", "photometry"):
            if value not in SWITCHES:
                raise UsageError(f"--{name}: found {value!r}, expected on or off.")
            value = SWITCHES[value]
        if name == "formats":
            value = [word.strip() for word in value.split(",") if word.strip()]
        part = content.setdefault(section, {})
        if not isinstance(part, dict):
            raise UsageError(f"{config}: [{section}] should be a section, found {part!r}.")
        part[field] = value
        if name in ("scale", "pixfrac"):
            content.setdefault("calibration", {}).setdefault("debayer", "drizzle")
        if name in NAMING:
            part.setdefault("look", "on")
    try:
        return _anchored(Settings(**content))
    except ValidationError as error:
        raise UsageError(_explain(error, options)) from error


NAMING = ("tle", "mpcorb", "comets")
"""Options that name what passes: who gives one wants to know what does."""
_PATHS = (
    ("calibration", "masters"), ("registration", "reference"), ("save", "publish"), ("passages", "tle"),
    ("passages", "mpcorb"), ("passages", "comets"),
)  # fmt: skip


def _anchored(settings: Settings) -> Settings:
    """The same with whole paths: a session may be resumed from another folder than it was begun in."""
    for section, field in _PATHS:
        part = getattr(settings, section)
        path = getattr(part, field)
        if path is not None:
            settings = settings.model_copy(update={section: part.model_copy(update={field: path.absolute()})})
    return settings


def _explain(error: ValidationError, options: dict[str, Any]) -> str:
    """One sentence on the first thing that is wrong."""
    first = error.errors()[0]
    where = tuple(str(part) for part in first["loc"])
    for name, place in OPTIONS.items():
        if where[:2] == place and name in options:
            return f"--{name.replace('_', '-')}: found {first['input']!r}; {first['msg'].lower()}."
    if first["type"] == "extra_forbidden":
        return _unknown_name(where)
    return f"settings, {'.'.join(where)}: found {first['input']!r}; {first['msg'].lower()}; see `livestack config`."


def _unknown_name(where: tuple[str, ...]) -> str:
    """One sentence on a section or a setting that does not exist, with the one that was probably meant."""
    known = {name: list(type(section).model_fields) for name, section in Settings()}
    if len(where) == 1:
        meant = difflib.get_close_matches(where[0], known, 1)
        homes = [f"{name}.{where[0]}" for name, fields in known.items() if where[0] in fields]
        found, guess = f"there is no section [{where[0]}]", [*(f"[{name}]" for name in meant), *homes]
    else:
        section, name = where[:2]
        meant = difflib.get_close_matches(name, known[section], 1)
        homes = [f"{other}.{name}" for other, fields in known.items() if name in fields]
        found, guess = f"there is no {name} in section [{section}]", [*homes, *meant]
    perhaps = f", perhaps {guess[0]} is meant" if guess else ""
    return f"settings, {'.'.join(where)}: {found}{perhaps}; see `livestack config`."


def default_toml() -> str:
    """All settings with their defaults, each explained."""
    lines = ["# Settings of livestack: the defaults. Keep the lines that you change; pass the file with --config."]
    for name, field in Settings.model_fields.items():
        section: Section = field.get_default(call_default_factory=True)
        lines += ["", f"# {(type(section).__doc__ or '').strip().splitlines()[0]}", f"[{name}]"]
        for key, entry in type(section).model_fields.items():
            lines.append(f"# {entry.description}{_choices(entry)}")
            value = getattr(section, key)
            lines.append(f"# {key} =" if value is None else f"{key} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _choices(entry: FieldInfo) -> str:
    values = getattr(entry.annotation, "__args__", ())
    words = [value for value in values if isinstance(value, str)]
    return f" ({', '.join(words)})" if words else ""


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
