"""The command line: words in, exit status out; each command is a thin call into the module that does the work.

Exit status: 0 done; 1 nothing could be stacked; 2 wrong usage; 3 the session cannot continue; 130 stopped at once.
Modules are imported inside the commands, so that `livestack --help` answers at once.
"""

from __future__ import annotations

import sys
from typing import Annotated  # noqa: F401  (used by the commands)

import typer

from livestack.errors import LivestackError, SessionError, UsageError

app = typer.Typer(
    name="livestack",
    help="Live stacking for amateur astronomers: watches the folder that your camera fills.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def exit_status(error: LivestackError) -> int:
    """The exit status that an error stands for."""
    if isinstance(error, UsageError):
        return 2
    if isinstance(error, SessionError):
        return 3
    return 1


def main() -> None:
    """Entry point: run the command, turn our errors into one sentence on stderr and an exit status."""
    debug = "--debug" in sys.argv
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    try:
        status = app(arguments, standalone_mode=False)
    except LivestackError as error:
        if debug:
            raise
        print(f"livestack: {error}", file=sys.stderr)
        sys.exit(exit_status(error))
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
