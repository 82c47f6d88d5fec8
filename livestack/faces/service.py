"""livestack as a service of systemd: home in the browser from the moment that a Raspberry Pi has started.

A user's own service (`systemctl --user`), which needs no rights; lingering lets it begin without anybody logging in. As
the superuser a service of the machine, which runs as the person who called sudo. SIGTERM goes to home, which lets its
session drain and save, as Ctrl-C does; systemd waits for that.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from livestack.base.durable import write_atomically
from livestack.base.errors import SessionError, UsageError
from livestack.faces.home.memory import Memory, state_folder
from livestack.faces.program import own_command
from livestack.faces.web.serving import address_of

NAME = "livestack.service"
SAVE_TIMEOUT_S = 300
"""How long a session may take to drain and save before systemd kills it."""

_UNIT = """\
[Unit]
Description=livestack: live stacking, its pages in the browser
After=network.target

[Service]
Type=simple
ExecStart={command}
{person}Restart=on-failure
RestartSec=5
KillMode=mixed
KillSignal=SIGTERM
TimeoutStopSec={patience}
Nice=5

[Install]
WantedBy={wanted_by}
"""


@dataclass(frozen=True)
class Service:
    """Where the unit lies and how systemd is spoken to."""

    unit: Path
    for_machine: bool
    """A service of the machine, not of a person."""

    @classmethod
    def here(cls) -> Service:
        """The service of whoever asks: of the machine for the superuser, else the person's own.

        Raises
        ------
        UsageError : there is no systemd on this machine.
        """
        if not sys.platform.startswith("linux") or shutil.which("systemctl") is None:
            raise UsageError(
                "livestack service: this machine has no systemd; start `livestack app` by hand, or from the entry"
                " in the menu that `livestack launcher install` makes."
            )
        if os.geteuid() == 0:
            return cls(Path("/etc/systemd/system") / NAME, True)
        config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        return cls(config / "systemd" / "user" / NAME, False)

    def install(self, words: list[str]) -> list[str]:
        """Write the unit, begin now and with every start; returns sentences for the person.

        Parameters
        ----------
        words : what follows `livestack app` on the command line.
        """
        self.unit.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.unit, self._text(words).encode())
        self._ask("daemon-reload")
        self._ask("enable", NAME)
        self._ask("restart", NAME)
        told = [f"{self.unit}: written; livestack runs now and begins with every start."]
        if not self.for_machine and not self._linger():
            who = getpass.getuser()
            told.append(f"It begins when you log in; to begin without, run `sudo loginctl enable-linger {who}`.")
        return told

    def remove(self) -> list[str]:
        """Stop, forget, delete the unit; a session that runs is saved first."""
        if not self.unit.exists():
            return [f"{self.unit}: is not there; nothing to remove."]
        self._ask("disable", "--now", NAME)
        self.unit.unlink()
        self._ask("daemon-reload")
        return [f"{self.unit}: removed; livestack does not begin by itself any more."]

    def status(self) -> tuple[list[str], bool]:
        """Sentences, and whether it runs."""
        if not self.unit.exists():
            return ["livestack is not installed as a service; `livestack service install` does it."], False
        asked = self._systemctl("is-active", NAME)
        state = asked.stdout.strip() or "unknown"
        log = "journalctl " + ("" if self.for_machine else "--user ") + "-u livestack"
        told = [f"{self.unit}: {state}; what it told: `{log}`."]
        if state == "active" and not self.for_machine:
            told.append(f"Home (keep it to yourself): {self._address()}")
        return told, state == "active"

    def _address(self) -> str:
        """Home's secret link, by what the unit says and the secret that this user's homes share."""
        said = dict(re.findall(r'"--(host|port)" "([^"]*)"', self.unit.read_text(encoding="utf-8")))
        host = said.get("host", "127.0.0.1")
        return f"{address_of(host, int(said.get('port', '8765')))}enter/{Memory(state_folder()).token()}"

    def _text(self, words: list[str]) -> str:
        command = " ".join(_quoted(word) for word in own_command("app", "--no-browser", *words))
        person = ""
        if self.for_machine and (who := os.environ.get("SUDO_USER")):
            person = f"User={who}\n"
        wanted_by = "multi-user.target" if self.for_machine else "default.target"
        return _UNIT.format(command=command, person=person, patience=SAVE_TIMEOUT_S, wanted_by=wanted_by)

    def _systemctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        scope = [] if self.for_machine else ["--user"]
        return subprocess.run(["systemctl", *scope, *words], capture_output=True, text=True, check=False)

    def _ask(self, *words: str) -> None:
        done = self._systemctl(*words)
        if done.returncode:
            said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
            raise SessionError(
                f"systemctl {' '.join(words)}: {said}; check that systemd runs for you (`systemctl --user status`)."
            )

    @staticmethod
    def _linger() -> bool:
        if shutil.which("loginctl") is None:
            return False
        return subprocess.run(["loginctl", "enable-linger"], capture_output=True, check=False).returncode == 0


def _quoted(word: str) -> str:
    """A word of `ExecStart` (systemd.service(5)): quoted, with its own escapes for `%`, `$`, quotes and backslashes."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'
