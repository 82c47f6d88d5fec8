"""The command line: words in, exit status out; each command is a thin call into the module that does the work.

Exit status: 0 done; 1 nothing could be stacked; 2 wrong usage; 3 the session cannot continue; 130 stopped at once. What
goes wrong is one sentence on stderr.
Modules are imported inside the commands, so that `livestack --help` answers at once.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import cast

import typer

from livestack.base.errors import LivestackError, SessionError, UsageError
from livestack.faces.cli import home, images, lightcurve, machine, nights, sessions, solve
from livestack.faces.cli.app import app

__all__ = ["app", "exit_status", "home", "images", "lightcurve", "machine", "main", "nights", "sessions", "solve"]

WrongWords: type[Exception] = typer.BadParameter.__mro__[1]
"""Any mistake in the words of a command line; Typer has it from Click, or from a Click of its own, by version."""


def exit_status(error: LivestackError) -> int:
    """The exit status that an error stands for."""
    if isinstance(error, UsageError):
        return 2
    if isinstance(error, SessionError):
        return 3
    return 1


def main() -> None:
    """Entry point: run the command, turn our errors into one sentence on stderr and an exit status."""
    # before numpy is loaded: our loops have threads of their own, and those of linear algebra, which spin while they
    # wait, made a fit of small matrices ten times slower on a machine that had other work, and nothing faster
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    debug = "--debug" in sys.argv
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    if not arguments:  # started by a click, from a menu, or by somebody who is new here
        arguments = ["app"]
    try:
        status = app(arguments, prog_name="livestack", standalone_mode=False)
    except WrongWords as error:
        wrong = cast(typer.BadParameter, error)
        command = wrong.ctx.command_path if wrong.ctx is not None else "livestack"
        said = " ".join(wrong.format_message().split()).rstrip(".").replace("Value error, ", "")
        _tell(f"{said}; see `{command} --help`.", debug)
        sys.exit(2)
    except LivestackError as error:
        _tell(str(error), debug)
        sys.exit(exit_status(error))
    except OSError as error:
        _tell(
            f"{error.filename or 'the system'}: {error.strerror or error}; check that it can be read or written.", debug
        )
        sys.exit(3)
    except Exception as error:  # noqa: BLE001  (a fault of ours is told in a sentence too)
        _tell(
            f"{type(error).__name__}: {error}; this is a fault of livestack: please report what --debug shows.", debug
        )
        sys.exit(3)
    sys.exit(status or 0)


def _tell(sentence: str, debug: bool) -> None:
    """One sentence on stderr; with `debug`, where in the program the error in hand arose before it."""
    if debug:
        traceback.print_exc()
    print(f"livestack: {sentence}", file=sys.stderr)
