"""The settings as a form: each with its sentence, its kind and its default, straight from the settings themselves.

Back come the values that were changed; they are laid over the preset's and the defaults and read as settings, which say
what is wrong with them. A path must be one that the browser may see.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from livestack.base.errors import UsageError
from livestack.base.settings import Section, Settings
from livestack.faces.home.presets import Changes
from livestack.faces.home.roots import Roots

HIDDEN = {("save", "output"), ("save", "publish")}
"""Said elsewhere on the page, or nothing that a browser may choose."""


def make_form() -> list[dict[str, Any]]:
    """Sections of fields, as JSON values."""
    return [
        {"name": name, "title": _first_line(section), "fields": list(_fields(name, section))}
        for name, section in Settings()
        if name != "face"
    ]


def _fields(name: str, section: Section) -> Iterator[dict[str, Any]]:
    for key, field in type(section).model_fields.items():
        if (name, key) in HIDDEN:
            continue
        kind, choices, optional = _kind_of(field.annotation)
        yield {
            "name": key, "kind": kind, "choices": choices, "optional": optional, "words": field.description or "",
            "default": _plain(getattr(section, key)), **_limits(field),
        }  # fmt: skip


def _first_line(section: Section) -> str:
    return (type(section).__doc__ or "").strip().splitlines()[0].rstrip(".")


def _kind_of(annotation: Any) -> tuple[str, list[str], bool]:
    """Kind of input, the words to choose from, and whether it may be left empty."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        rest = [one for one in args if one is not type(None)]
        kind, choices, _ = _kind_of(rest[0])
        return kind, choices, len(rest) < len(args)
    if origin is Literal:
        return "choice", [str(word) for word in args], False
    if origin is tuple:
        return "words", [str(word) for word in get_args(args[0])], False
    return {bool: "switch", int: "integer", float: "number", Path: "path"}.get(annotation, "text"), [], False


def _limits(field: FieldInfo) -> dict[str, float]:
    found = {}
    for limit in field.metadata:
        for word, name in (("ge", "min"), ("gt", "min"), ("le", "max"), ("lt", "max")):
            value = getattr(limit, word, None)
            if value is not None:
                found[name] = value
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def read_wishes(preset: Changes, asked: object, roots: Roots) -> Settings:
    """Settings from the defaults, a preset, and what the page sent: section -> field -> value.

    Raises
    ------
    UsageError : a name that does not exist, or a value out of range. OutsideRoots : a path that may not be seen.
    """
    content: dict[str, dict[str, Any]] = {name: dict(fields) for name, fields in preset.items()}
    if not isinstance(asked, Mapping):
        raise UsageError("settings: expected sections of settings.")
    known = {section["name"]: {f["name"]: f for f in section["fields"]} for section in make_form()}
    for name, fields in asked.items():
        if name not in known or not isinstance(fields, Mapping):
            raise UsageError(f"settings: there is no section {name!r} to choose.")
        for key, value in fields.items():
            if key not in known[name]:
                raise UsageError(f"settings: there is no {key!r} to choose in {name!r}.")
            if known[name][key]["kind"] == "path" and value not in (None, ""):
                value = str(roots.admit(value))
            content.setdefault(name, {})[key] = None if value == "" and known[name][key]["optional"] else value
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"{where}: found {first['input']!r}; {first['msg'].lower()}.") from error
