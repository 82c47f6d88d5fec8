"""A session in a process of its own, begun from home: what it is told on its standard input, and what it tells back.

Whatever becomes of the session, home stays; and where home is gone, the session goes on. It serves its pages on a port
of this machine only, behind home's server, and says in a file how it is reached and, at last, how it ended.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from livestack.base.durable import write_atomically
from livestack.base.errors import LivestackError, NothingStacked
from livestack.base.settings import Settings
from livestack.faces.run import open_session, run_with_faces
from livestack.faces.web.server import WebServer


def run_hosted(told: dict[str, Any]) -> int:
    """Run the session that home asked for; the exit status.

    Parameters
    ----------
    told : paths, settings, output, one_shot, resumed, token, home, join_url, and record: the file to answer in.
    """
    record = Path(told["record"])
    output = Path(told["output"])
    known = {"pid": os.getpid(), "output": str(output), "folder": str(told["paths"][0])}

    def tell(**more: Any) -> None:
        write_atomically(record, json.dumps({**known, **more}).encode())
        record.chmod(0o600)

    try:
        settings = Settings.model_validate(told["settings"])
        # no dashboard, no window, no second server: home shows the session
        quiet = settings.face.model_copy(update={"web": False, "window": False, "json_events": True})
        settings = settings.model_copy(update={"face": quiet})
        session, _, notifier = open_session(
            [Path(path) for path in told["paths"]], settings, output, bool(told["one_shot"]),
            resumed=bool(told["resumed"]), prints=False,
        )  # fmt: skip
        server = WebServer(
            session.slot, session.controls(), "127.0.0.1", 0, told["token"], told["home"], told["join_url"]
        )
        server.start()
    except LivestackError as error:
        tell(state="ended", status=2, message=str(error))
        return 2
    tell(state="running", port=server.port)
    try:
        end = run_with_faces(session, settings, notifier)
    except LivestackError as error:
        status = 1 if isinstance(error, NothingStacked) else 3
        tell(state="ended", status=status, message=str(error))
        return status
    finally:
        server.stop()
    tell(state="ended", status=end.status, message=end.message)
    return end.status


def read_told() -> dict[str, Any]:
    """What home says on the standard input, one line of JSON."""
    return dict(json.loads(sys.stdin.readline()))
