"""Write `docs/sentences.md`, every sentence in which livestack refuses something, from the source.

python docs/make_sentences.py

A sentence is the text of an error that is raised on purpose (`livestack/base/errors.py`); what is put in at run time
is shown as `…`. Each stands under the part of the program that says it, with what one can do.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import livestack

PAGE = Path(__file__).with_name("sentences.md")
SOURCE = Path(livestack.__file__).parent
ERRORS = {
    "LivestackError": "exit 1",
    "FrameError": "the frame is left out",
    "UnreadableFrame": "the frame is left out",
    "TruncatedFrame": "waited for, then left out",
    "VanishedFrame": "the frame is left out",
    "MasterError": "without that master",
    "NothingStacked": "exit 1",
    "UsageError": "exit 2",
    "SessionError": "exit 3",
}
CHAPTERS = {
    "formats": (
        "Reading files",
        "One file is left out, the session goes on. Look at the file with `livestack info FILE`; one that was cut"
        " short or damaged on the way can be copied anew from the camera.",
    ),
    "calibration": (
        "Masters",
        "The frame is stacked without the master that does not fit. `livestack info MASTER` tells what a master is;"
        " `livestack masters` builds new ones.",
    ),
    "session": (
        "The session, its folder and its disk",
        "Exit status 3 keeps the state: free the disk or bring the folder back, then `livestack resume SESSION`.",
    ),
    "faces": (
        "Commands and pages",
        "Something in the command's words; `livestack COMMAND --help` lists what there is.",
    ),
    "simulate": ("The simulated camera", "`livestack simulate OUT --scenario list` tells which nights there are."),
    "astrometry": ("Where in the sky", "The stack is as good without; a position in the header helps."),
    "ephemeris": ("Names of what moves", "Get the files of elements anew, of about the night's date."),
    "photometry": ("Light curves", "`docs/lightcurves.md` tells what a light curve needs."),
    "products": ("What is saved", "The stacks are kept; what is derived from them can be written again."),
    "base": ("Settings", "`livestack config` prints every setting with its default and what it may be."),
    "": ("Stacking", "These are told to a program that uses livestack as a library, or with a frame that is named."),
}


def text_of(node: ast.expr | None) -> str | None:
    """The words of a string expression, `…` where something is put in; None where there are no words."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = [str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values]
        return "".join(parts)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = text_of(node.left), text_of(node.right)
        return None if left is None and right is None else f"{left or '…'}{right or '…'}"
    return None


def parts_of(function: ast.AST) -> list[str]:
    """The sentence parts that a function gives names to, of which it then makes a sentence."""
    values = [node.value for node in ast.walk(function) if isinstance(node, ast.Assign)]
    words = [one for value in values for one in (value.elts if isinstance(value, ast.Tuple) else [value])]
    return [said for one in words if (said := text_of(one)) and said.count(" ") >= 2]


def errors_in(tree: ast.AST, function: ast.AST) -> Iterator[tuple[str, ast.Call, ast.AST]]:
    """Kind of error, the call that makes it, and the function that it is made in."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS and node.args:
            yield node.func.id, node, function
        yield from errors_in(node, node if isinstance(node, ast.FunctionDef) else function)


def sentences(path: Path) -> set[tuple[str, str]]:
    """Pairs of a sentence, or a part of one, and what follows from it, for every error that the module makes."""
    found = set()
    tree = ast.parse(path.read_text("utf-8"))
    for kind, call, function in errors_in(tree, tree):
        said = text_of(call.args[0]) or ""
        whole = len(re.sub(r"[…\W]", "", said)) > 12
        for one in [said] if whole else parts_of(function):
            found.add((re.sub(r"(…\s*)+…", "…", " ".join(one.split())), ERRORS[kind]))
    return found


def chapter_of(path: Path) -> str:
    """The key of `CHAPTERS` under which a module's sentences stand."""
    package = path.relative_to(SOURCE).parts[0]
    return package if package in CHAPTERS else ""


def page() -> str:
    """The page as Markdown."""
    chapters: dict[str, set[tuple[str, str]]] = {key: set() for key in CHAPTERS}
    for path in sorted(SOURCE.rglob("*.py")):
        chapters[chapter_of(path)].update(sentences(path))
    lines = [
        "# Every sentence",
        "",
        "What livestack says when something cannot be done, by the part that says it; `…` stands for names and numbers."
        " Search this page for a few words of yours. What happens at night is in [troubleshooting](troubleshooting.md)."
        " Made from the source by `docs/make_sentences.py`.",
    ]
    for key, (title, help_) in CHAPTERS.items():
        if not chapters[key]:
            continue
        lines += ["", f"## {title}", "", help_, "", "| sentence | then |", "|---|---|"]
        for said, then in sorted(chapters[key]):
            escaped = said.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
            lines.append(f"| {escaped} | {then} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
