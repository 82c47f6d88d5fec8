"""The options that commands share, each said once, and the way to give them to a command."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from livestack.base import choices

Masters = Annotated[Path | None, typer.Option(help="folder of master frames", show_default=False)]
Output = Annotated[
    Path | None, typer.Option(help="session folder \\[default: FOLDER/livestack/<start time>]", show_default=False)
]
Config = Annotated[Path | None, typer.Option(help="settings as TOML; see `livestack config`", show_default=False)]
ReferenceFile = Annotated[Path | None, typer.Option(help="register to this frame", show_default=False)]
Existing = Annotated[
    bool | None, typer.Option("--existing/--no-existing", help="take the frames already there", show_default=False)
]
Recursive = Annotated[
    bool | None, typer.Option("--recursive/--no-recursive", help="look into sub-folders", show_default=False)
]
Poll = Annotated[
    bool | None, typer.Option("--poll", help="look at intervals instead of trusting folder events", show_default=False)
]
IdleStop = Annotated[
    float | None, typer.Option(min=0, help="end after so many seconds without a new file", show_default=False)
]
MaxFrames = Annotated[int | None, typer.Option(min=1, help="end after so many stacked frames", show_default=False)]
Rejection = Annotated[
    choices.RejectionMethod | None, typer.Option(help="refuse outliers while stacking", show_default=False)
]
Mode = Annotated[choices.StackMode | None, typer.Option(help="maximum: star trails", show_default=False)]
WindowMinutes = Annotated[
    float | None, typer.Option(help="also save a stack for each so many minutes", show_default=False)
]
Quality = Annotated[
    choices.Switch | None, typer.Option(help="refuse and weight frames by their quality", show_default=False)
]
Cosmetic = Annotated[choices.Switch | None, typer.Option(help="repair defective pixels", show_default=False)]
Registration = Annotated[
    choices.RegistrationMethod | None,
    typer.Option(help="what frames are registered by; none: they are aligned already", show_default=False),
]
Bayer = Annotated[
    choices.BayerPattern | None,
    typer.Option(help="Bayer pattern where the header is wrong or silent; none: mono", show_default=False),
]
Debayer = Annotated[
    choices.Debayering | None, typer.Option(help="how a colour mosaic becomes a picture", show_default=False)
]
Scale = Annotated[
    float | None, typer.Option(help="pixels of a drizzled stack along one of the camera: 1, 1.5, 2", show_default=False)
]
Pixfrac = Annotated[
    float | None, typer.Option(help="side of the drops over that of a pixel, above 0.1, up to 1", show_default=False)
]
Photometry = Annotated[
    choices.Switch | None, typer.Option(help="measure the stars of each frame: light curves", show_default=False)
]
Passages = Annotated[
    choices.Looking | None,
    typer.Option(
        help="tell of satellites, aircraft, meteors, asteroids, new stars; on: faint ones in long nights, too",
        show_default=False,
    ),
]
Tle = Annotated[
    Path | None,
    typer.Option(help="two-line elements that name satellites (needs sgp4)", show_default=False),
]
Mpcorb = Annotated[
    Path | None,
    typer.Option(help="asteroids' elements, as MPCORB.DAT, that name what moves", show_default=False),
]
CometElements = Annotated[
    Path | None,
    typer.Option(help="comets' elements, as CometEls.txt, that name what moves", show_default=False),
]
FinalPass = Annotated[
    bool | None,
    typer.Option("--final-pass/--no-final-pass", help="test all frames again at the end", show_default=False),
]
Window = Annotated[bool | None, typer.Option("--window/--no-window", help="desktop window", show_default=False)]
Web = Annotated[bool | None, typer.Option("--web/--no-web", help="web view", show_default=False)]
Host = Annotated[str | None, typer.Option(help="address of the web view; 0.0.0.0 lets phones in", show_default=False)]
Port = Annotated[
    int | None, typer.Option(min=0, max=65535, help="port of the web view; 0: any free one", show_default=False)
]
Publish = Annotated[
    Path | None, typer.Option(help="also write picture and status as static files here", show_default=False)
]
Timelapse = Annotated[
    bool | None, typer.Option("--timelapse/--no-timelapse", help="film of the stack growing", show_default=False)
]
MemoryLimit = Annotated[
    int | None, typer.Option(min=1, help="in MB; frames are binned 2 x 2 rather than need more", show_default=False)
]
Palette = Annotated[
    str | None,
    typer.Option(
        help="colours of a target with several filters: auto, LRGB, RGB, SHO, HOO, none, or a mixture such as "
        "'R=SII, G=0.8*Ha+0.2*OIII, B=OIII'",
        show_default=False,
    ),
]
Canvas = Annotated[
    choices.CanvasExtent | None,
    typer.Option(help="reference: as large as that frame; union: growing with what is seen", show_default=False),
]
Formats = Annotated[
    str | None,
    typer.Option(
        help=f"what to write, with commas between, of {', '.join(get_args(choices.PictureFormat))} "
        "\\[default: fits,png,tiff]",
        show_default=False,
    ),
]
Flatten = Annotated[
    bool | None,
    typer.Option("--flatten/--no-flatten", help="also a linear stack without its sky gradient", show_default=False),
]
Solve = Annotated[
    choices.SolveMode | None,
    typer.Option(help="find where the stack lies in the sky; external: ASTAP, astrometry.net", show_default=False),
]
Follow = Annotated[
    str | None,
    typer.Option(
        help="also stack a comet or an asteroid on itself: auto (it is found), X,Y of the reference, RA,+DEC, "
        "its name in the file of --comets or --mpcorb, none",
        show_default=False,
    ),
]
Rate = Annotated[
    str | None,
    typer.Option(help="how it moves, if known: PX_PER_MIN,ANGLE (from +x towards +y, degrees)", show_default=False),
]
Notify = Annotated[
    list[str] | None,
    typer.Option(
        help="tell of clouds, focus, dips, disk, the end: ntfy://topic, mailto://..., tgram://... (repeatable; needs "
        "apprise)",
        show_default=False,
    ),
]
Quiet = Annotated[
    str | None, typer.Option(help="local hours in which nobody is told, such as 23:30-06:00", show_default=False)
]
Json = Annotated[
    bool | None,
    typer.Option("--json", help="events as JSON lines on stdout instead of the dashboard", show_default=False),
]

SESSION: dict[str, Any] = {
    "output": Output,
    "config": Config,
    "masters": Masters,
    "reference": ReferenceFile,
    "existing": Existing,
    "recursive": Recursive,
    "poll": Poll,
    "idle_stop": IdleStop,
    "max_frames": MaxFrames,
    "rejection": Rejection,
    "mode": Mode,
    "window_minutes": WindowMinutes,
    "canvas": Canvas,
    "quality": Quality,
    "cosmetic": Cosmetic,
    "registration": Registration,
    "bayer": Bayer,
    "debayer": Debayer,
    "scale": Scale,
    "pixfrac": Pixfrac,
    "photometry": Photometry,
    "passages": Passages,
    "tle": Tle,
    "mpcorb": Mpcorb,
    "comets": CometElements,
    "final_pass": FinalPass,
    "window": Window,
    "web": Web,
    "host": Host,
    "port": Port,
    "publish": Publish,
    "timelapse": Timelapse,
    "memory_limit": MemoryLimit,
    "palette": Palette,
    "formats": Formats,
    "flatten": Flatten,
    "solve": Solve,
    "follow": Follow,
    "rate": Rate,
    "notify": Notify,
    "quiet": Quiet,
    "json": Json,
}
"""Options of `watch` and `stack`, in the order of their help."""
GOING_ON = (
    "poll", "idle_stop", "max_frames", "final_pass", "window", "web", "host", "port", "publish", "timelapse",
    "notify", "quiet", "json",
)  # fmt: skip
"""Those that an interrupted session may be given anew."""


def with_options(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of these names; it gets those that were used as keywords.

    The command declares its own arguments and takes the options as `**options`.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        shared = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=SESSION[name])
            for name in names
        ]

        @wraps(command)
        def called(**words: Any) -> None:
            command(**{name: value for name, value in words.items() if name not in names or value is not None})

        called.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
        called.__annotations__ = {one.name: one.annotation for one in (*own, *shared)}
        return called

    return decorate
