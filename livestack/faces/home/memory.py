"""What home remembers from one evening to the next: recent folders, its secret, and the session that runs.

Plain files in the user's own state folder, readable by the user alone: the secret opens this machine's sessions.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from livestack.base.durable import write_atomically

MOST_RECENT = 12
PLACE_VARIABLE = "LIVESTACK_STATE"


def state_folder() -> Path:
    """Where this user's programs keep what they remember; LIVESTACK_STATE names another place."""
    said = os.environ.get(PLACE_VARIABLE)
    if said:
        return Path(said)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "livestack"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "livestack"
    return Path(os.environ.get("XDG_STATE_HOME", Path.home() / ".local" / "state")) / "livestack"


class Memory:
    """The files of the state folder, one method each.

    Raises
    ------
    OSError : the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)

    @property
    def running(self) -> Path:
        """Where the session that runs says how it is reached."""
        return self.folder / "running.json"

    @property
    def log(self) -> Path:
        """What the session's process had to say."""
        return self.folder / "session.log"

    def token(self) -> str:
        """The secret of home's link: the same from one start to the next, so that a bookmark stays good."""
        path = self.folder / "token"
        try:
            kept = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            kept = ""
        if len(kept) < 20:
            kept = secrets.token_urlsafe(18)
            self._write(path, kept.encode())
        return kept

    def recent(self) -> list[str]:
        """Folders that sessions were begun on, the newest first, and still there."""
        listed = self._read("recent.json")
        found = [str(one) for one in listed if isinstance(one, str)] if isinstance(listed, list) else []
        return [path for path in found if Path(path).is_dir()]

    def outputs(self) -> list[str]:
        """Where sessions were saved that do not lie below the folder they watched."""
        listed = self._read("outputs.json")
        return [str(one) for one in listed if isinstance(one, str)] if isinstance(listed, list) else []

    def remember(self, folder: Path, output: Path | None = None) -> None:
        """A session was begun on this folder."""
        listed = [str(folder), *(path for path in self.recent() if path != str(folder))]
        self._write(self.folder / "recent.json", json.dumps(listed[:MOST_RECENT]).encode())
        if output is not None and not output.is_relative_to(folder):
            kept = [str(output.parent), *(path for path in self.outputs() if path != str(output.parent))]
            self._write(self.folder / "outputs.json", json.dumps(kept[:MOST_RECENT]).encode())

    def forget(self, folder: str) -> None:
        """A folder is not to be offered any more."""
        kept = [path for path in self.recent() if path != folder]
        self._write(self.folder / "recent.json", json.dumps(kept).encode())

    def _read(self, name: str) -> Any:
        try:
            return json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    @staticmethod
    def _write(path: Path, content: bytes) -> None:
        write_atomically(path, content)
        path.chmod(0o600)
