"""Write `docs/api.md`, the page of what `import livestack` offers, from the docstrings.

python docs/make_api.py
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

import livestack
from livestack.engine import events
from livestack.engine.views import StackView

PAGE = Path(__file__).with_name("api.md")
HEAD = """# What a program may use

Made from the docstrings by `docs/make_api.py`; change those, not this page. Everything here can be had from `livestack`
itself (`from livestack import LiveStack`), the events from `livestack.engine.events`. What is not on this page may
change from one version to the next.
"""
OWN = "livestack."


def docstring(thing: Any) -> str:
    """The docstring, its numpydoc sections as small headings and lists."""
    text = inspect.cleandoc(thing.__doc__ or "")
    text = re.sub(r"^(\w[\w ]+)\n-{3,}$", r"*\1*\n", text, flags=re.M)
    text = re.sub(r"^(>>> .*(?:\n(?:>>>|\.\.\.).*)*)$", r"```python\n\1\n```", text, flags=re.M)
    lines, in_list = [], False
    for line in text.split("\n"):
        if re.fullmatch(r"\*(Parameters|Attributes|Raises)\*", line):
            in_list = True
        elif re.fullmatch(r"\*[\w ]+\*", line):
            in_list = False
        elif in_list and re.match(r"[\w, ]+ : ", line):
            names, said = line.split(" : ", 1)
            line = f"* `{names}`: {said}"
        lines.append(line)
    return "\n".join(lines)


def signature(name: str, thing: Any) -> str:
    """`name(arguments) -> result`, without the modules' names."""
    said = re.sub(r"\blivestack(\.\w+)+\.(?=\w)|\bcollections\.abc\.|\bpathlib\.\w*\.|\bnumpy\.", "", str(thing))
    said = re.sub(r"\(self,? ?", "(", said.replace("'", ""))
    return textwrap.shorten(f"{name}{said}", 400)


def members(made: type) -> list[str]:
    """Public methods and properties of a class, in the order of its source."""
    parts = []
    for name, member in vars(made).items():
        if name.startswith("_") or isinstance(member, enum.Enum):
            continue
        if isinstance(member, property):
            parts.append(f"`{name}`: {docstring(member.fget)}\n")
        elif inspect.isfunction(inspect.unwrap(getattr(member, "__func__", member))):
            function = getattr(member, "__func__", member)
            parts.append(f"`{signature(name, inspect.signature(function))}`\n\n{docstring(function)}\n")
    return parts


def section(name: str, thing: Any) -> str:
    """One entry of the page."""
    if inspect.isfunction(thing):
        return f"## `{signature(name, inspect.signature(thing))}`\n\n{docstring(thing)}\n"
    parts = [f"## {name}\n", docstring(thing) + "\n"]
    if dataclasses.is_dataclass(thing):
        fields = ", ".join(f"`{field.name}`" for field in dataclasses.fields(thing) if not field.name.startswith("_"))
        parts.append(f"Fields: {fields}.\n")
    elif issubclass(thing, enum.Enum):
        parts.append("One of " + ", ".join(f"`{one.value}`" for one in thing) + ".\n")
    elif hasattr(thing, "model_fields"):
        for field, entry in thing.model_fields.items():
            made = entry.annotation
            words = docstring(made).split("\n")[0]
            parts.append(f"* `{field}`: {words} " + ", ".join(f"`{inner}`" for inner in made.model_fields) + ".")
        parts.append("\n`livestack config` prints them all with their defaults, each explained.\n")
        return "\n".join(parts)
    return "\n".join([*parts, *members(thing)])


def page() -> str:
    """The whole page."""
    offered = [name for name in livestack.__all__ if not name.startswith("_")]
    parts = [HEAD, *(section(name, getattr(livestack, name)) for name in offered)]
    parts.append("# Events\n\n" + inspect.cleandoc(events.__doc__ or "") + "\n")
    told = [each for _, each in inspect.getmembers(events, inspect.isclass) if each.__module__ == events.__name__]
    parts += [section(each.__name__, each) for each in sorted(told, key=lambda one: inspect.getsourcelines(one)[1])]
    parts.append(section("StackView", StackView))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
