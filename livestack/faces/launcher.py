"""An entry in the desktop's menu that opens home: Linux (freedesktop), macOS (a bundle), Windows (a link)."""

from __future__ import annotations

import os
import plistlib
import shlex
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

from livestack.base.durable import write_atomically
from livestack.base.errors import SessionError
from livestack.faces.program import own_command

_ENTRY = """\
[Desktop Entry]
Type=Application
Version=1.5
Name=livestack
GenericName=Live stacking
Comment=Watch the folder that the camera fills, and see the picture grow
Exec={command}
Icon=livestack
Terminal=false
Categories=Science;Astronomy;Graphics;
Keywords=astronomy;stacking;telescope;camera;
"""


def install() -> list[str]:
    """Make the entry; returns sentences that say where it is."""
    if sys.platform == "darwin":
        return _install_bundle()
    if sys.platform == "win32":
        return _install_link()
    return _install_entry()


def remove() -> list[str]:
    """Delete the entry, where there is one."""
    gone = []
    for place in _places():
        if place.is_dir():
            shutil.rmtree(place)
        elif place.exists():
            place.unlink()
        else:
            continue
        gone.append(f"{place}: removed.")
    return gone or ["There is no launcher; nothing to remove."]


def _places() -> list[Path]:
    if sys.platform == "darwin":
        return [Path.home() / "Applications" / "livestack.app"]
    if sys.platform == "win32":
        return [_start_menu() / "livestack.lnk"]
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return [data / "applications" / "livestack.desktop", data / "icons/hicolor/scalable/apps/livestack.svg"]


def _start_menu() -> Path:
    roaming = Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    return roaming / "Microsoft" / "Windows" / "Start Menu" / "Programs"


def _icon() -> str:
    return resources.files("livestack.faces.web").joinpath("static/icon.svg").read_text("utf-8")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode())


def _install_entry() -> list[str]:
    """The desktop entry (Desktop Entry Specification 1.5) and its icon."""
    entry, icon = _places()
    _write(icon, _icon())
    _write(entry, _ENTRY.format(command=" ".join(_quoted(word) for word in own_command("app"))))
    return [f"{entry}: written; livestack is in the menu of your desktop."]


def _quoted(word: str) -> str:
    """A word of `Exec`: quoted; a value of an entry is unescaped once before that, so backslashes are doubled."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("`", "\\`").replace("$", "\\$")
    return '"' + escaped.replace("\\", "\\\\").replace("%", "%%") + '"'


def _install_bundle() -> list[str]:
    """A bundle whose program is a line of shell."""
    (bundle,) = _places()
    program = bundle / "Contents" / "MacOS" / "livestack"
    information = {
        "CFBundleName": "livestack",
        "CFBundleIdentifier": "org.livestack.home",
        "CFBundleExecutable": "livestack",
        "CFBundlePackageType": "APPL",
        "CFBundleShortVersionString": "1",
        "LSUIElement": True,
    }
    _write(bundle / "Contents" / "Info.plist", plistlib.dumps(information).decode())
    _write(program, f"#!/bin/sh\nexec {shlex.join(own_command('app'))}\n")
    program.chmod(0o755)
    return [f"{bundle}: written; livestack is among your applications."]


def _install_link() -> list[str]:
    """A link in the start menu, made by the shell's own object (WScript.Shell)."""
    (link,) = _places()
    link.parent.mkdir(parents=True, exist_ok=True)
    python, *words = own_command("app")
    windowless = Path(python).with_name("pythonw.exe")
    program = windowless if windowless.exists() else Path(python)

    def quoted(word: str) -> str:
        return "'" + word.replace("'", "''") + "'"

    script = (
        f"$l = (New-Object -ComObject WScript.Shell).CreateShortcut({quoted(str(link))});"
        f" $l.TargetPath = {quoted(str(program))}; $l.Arguments = {quoted(' '.join(words))};"
        " $l.Description = 'Live stacking'; $l.Save()"
    )
    command = ["powershell", "-NoProfile", "-NonInteractive", "-Command", script]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise SessionError("powershell: is not on this machine; start `livestack app` by hand.") from None
    if done.returncode:
        raise SessionError(f"{link}: cannot be made ({' '.join(done.stderr.split())}); start `livestack app` by hand.")
    return [f"{link}: written; livestack is in the start menu."]
