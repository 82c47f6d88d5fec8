"""Options of the command line: each choice shown in the help, any other word refused there."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import get_args

import pytest
from typer.testing import CliRunner

from livestack.base import choices
from livestack.base.configuration import OPTIONS, load_settings
from livestack.base.settings import Settings
from livestack.faces.cli import app
from livestack.faces.cli.options import GOING_ON, SESSION

ENUMERATED = {
    "--rejection": choices.RejectionMethod,
    "--mode": choices.StackMode,
    "--canvas": choices.CanvasExtent,
    "--quality": choices.Switch,
    "--cosmetic": choices.Switch,
    "--registration": choices.RegistrationMethod,
    "--bayer": choices.BayerPattern,
    "--debayer": choices.Debayering,
}


def help_of(command: str) -> str:
    """The words of a command's help, without the frame around them and its line breaks."""
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "300", "TERMINAL_WIDTH": "300"})
    assert shown.exit_code == 0
    return re.sub(r"[\s│]+", " ", shown.output)


@pytest.mark.parametrize("command", ["watch", "stack"])
def test_each_choice_is_shown(command: str) -> None:
    shown = help_of(command)
    for option, words in ENUMERATED.items():
        line = shown[shown.index(f"{option} ") :][:200]
        assert "|".join(get_args(words)) in line, option
    for name in get_args(choices.PictureFormat):
        assert name in shown
    assert "[default: FOLDER/livestack/<start time>]" in shown


@pytest.mark.parametrize("option", ENUMERATED)
def test_another_word_is_refused_with_the_choices(option: str) -> None:
    said = CliRunner().invoke(app, ["stack", ".", option, "sideways"])
    assert said.exit_code == 2
    command = [sys.executable, "-m", "livestack", "stack", ".", option, "sideways"]
    if option == "--mode":  # as a user sees it; once is enough, a process is slow
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 2
        assert ended.stderr == (
            "livestack: Invalid value for '--mode': 'sideways' is not one of 'mean', 'maximum', 'sum'; see `livestack "
            "stack --help`.\n"
        )


@pytest.mark.parametrize(("command", "option", "words"), [
    ("simulate", "--format", choices.FrameFormat), ("enhance", "--target", choices.EnhanceTarget),
])  # fmt: skip
def test_choices_of_other_commands(command: str, option: str, words: object) -> None:
    assert "|".join(get_args(words)) in help_of(command)
    assert CliRunner().invoke(app, [command, "x", option, "sideways"]).exit_code == 2


def test_watch_and_stack_take_the_same_options_and_all_reach_the_settings() -> None:
    assert set(SESSION) - {"config"} == set(OPTIONS)
    assert set(GOING_ON) <= set(SESSION)
    for command in ("watch", "stack"):
        shown = help_of(command)
        assert all(f"--{name.replace('_', '-')}" in shown for name in SESSION)


def test_all_choices_are_settings() -> None:
    for option, words in ENUMERATED.items():
        for word in get_args(words):
            assert isinstance(load_settings(None, {option.removeprefix("--"): word}), Settings)


def test_help_loads_no_mathematics() -> None:
    code = (
        "import sys; sys.argv = ['livestack', '--help']\n"
        "from livestack.faces.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "found = {name.split('.')[0] for name in sys.modules}\n"
        "print('loaded:', *sorted(found & {'numpy', 'numba', 'cv2', 'pydantic'}))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.rstrip().endswith("loaded:")
