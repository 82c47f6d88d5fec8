"""Home served: `livestack` alone, or `livestack app`."""

from __future__ import annotations

import signal
import sys
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from starlette.applications import Starlette

from livestack.base.errors import LivestackError
from livestack.faces.home.app import make_home
from livestack.faces.home.desk import Desk
from livestack.faces.home.memory import Memory, state_folder
from livestack.faces.home.roots import machine_roots
from livestack.faces.home.runner import Runner
from livestack.faces.web.network_name import announce
from livestack.faces.web.serving import AppServer, find_lan_address, qr_text

LONGEST_SAVING_S = 1800.0


class HomeServer(AppServer):
    """Home, served from a thread of its own.

    Parameters
    ----------
    roots : folders that may be seen besides the user's own and mounted media.
    memory : what is remembered; its secret opens home.
    """

    def __init__(self, host: str, port: int, roots: Sequence[Path], memory: Memory) -> None:
        token = memory.token()
        super().__init__(host, port, token)
        self.runner = Runner(memory, token)
        self.desk = Desk(machine_roots(roots), self.runner, memory)

    def make(self) -> Starlette:
        """The application."""
        self.runner.join_url = self.public_url if self.is_open else None
        return make_home(self.desk, self._token)

    def say_goodbye(self) -> None:
        """End the work that home began itself; a session goes on until it is stopped."""
        self.runner.close()
        self.desk.jobs.close()


def run_home(host: str, port: int, roots: Sequence[Path], browser: bool) -> int:
    """Serve home until Ctrl-C or SIGTERM; a session that runs is then stopped as by its own button."""
    server = HomeServer(host, port, roots, Memory(state_folder()))
    server.start()
    console = Console(stderr=True)
    name = None
    console.print(f"Home (keep it to yourself): {server.host_url}", highlight=False, soft_wrap=True)
    if server.is_open:
        console.print(f"Public page: {server.public_url}", highlight=False)
        name = announce(find_lan_address(), server.port)
        if name is not None:
            console.print(f"Also: {name.url}", highlight=False)
        console.print(qr_text(server.public_url), highlight=False)
    console.print("Ctrl-C ends it.", highlight=False)
    if browser:
        local = server.host_url if not server.is_open else f"http://127.0.0.1:{server.port}/enter/{server._token}"
        threading.Thread(target=webbrowser.open, args=(local,), daemon=True).start()
    _wait_for_the_end(server.runner, console)
    server.stop()
    if name is not None:
        name.close()
    return 0


def _wait_for_the_end(runner: Runner, console: Console) -> None:
    asked = threading.Event()
    again = threading.Event()

    def handle(number: int, frame: object) -> None:
        (again if asked.is_set() else asked).set()

    for wanted in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", None)):
        if wanted is not None:
            signal.signal(wanted, handle)
    while not asked.wait(0.5):
        pass
    if not runner.is_running:
        return
    console.print("The session takes what is ready and saves; Ctrl-C again leaves it to itself.", highlight=False)
    try:
        runner.stop()
    except LivestackError as error:
        print(f"livestack: {error}", file=sys.stderr)
    while not again.is_set() and runner.is_running:
        again.wait(0.2)
