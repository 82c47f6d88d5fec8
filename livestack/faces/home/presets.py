"""What to change for whom: the settings that suit a program or a kind of night, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Changes = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Preset:
    """One choice.

    Attributes
    ----------
    why : what to choose as folder, and what is done differently.
    changes : section -> field -> value.
    """

    name: str
    title: str
    why: str
    changes: Changes = field(default_factory=dict)


_NEW_ONLY: Changes = {"ingest": {"existing": False, "recursive": True}}

PRESETS = (
    Preset(
        "any", "Any camera",
        "Choose the folder that your camera program writes into. All that is there is stacked, then what comes.",
    ),
    Preset(
        "smart", "Seestar or Dwarf",
        "Choose the target's folder on the telescope's share. Shares tell no events, so the folder is looked at every "
        "two seconds; the picture grows as the field turns.",
        {
            "ingest": {"poll": True, "rescan_interval_s": 2.0, "settle_timeout_s": 120.0},
            "stack": {"canvas": "union"},
        },
    ),
    Preset(
        "nina", "N.I.N.A.",
        "Choose the image folder of its options. Sub-folders for dates and targets are entered; of what is there "
        "already nothing is taken, only what comes from now on.",
        _NEW_ONLY,
    ),
    Preset(
        "ekos", "Ekos",
        "Choose the folder of its capture module. Sub-folders are entered; only what comes from now on is taken.",
        _NEW_ONLY,
    ),
    Preset(
        "sharpcap", "SharpCap",
        "Choose the capture folder of its options, saving each frame as FITS. Sub-folders are entered; only what comes "
        "from now on is taken.",
        _NEW_ONLY,
    ),
    Preset(
        "asiair", "ASIAIR",
        "Choose Autorun, Light or Plan on its share. Shares tell no events, so the folder is looked at every two "
        "seconds.",
        {"ingest": {"poll": True, "rescan_interval_s": 2.0, "settle_timeout_s": 120.0}},
    ),
    Preset(
        "tether", "Tethered camera",
        "Choose the folder that gphoto2, EOS Utility or digiCamControl saves into. Cameras write slowly: files may "
        "stand still for two minutes before they are given up.",
        {"ingest": {"settle_timeout_s": 120.0}},
    ),
    Preset(
        "trails", "Star trails",
        "Camera on a tripod, the brightest light of all frames at each place: nothing is registered, judged or "
        "refused, and no star is measured.",
        {
            "stack": {"mode": "maximum"},
            "registration": {"method": "none"},
            "quality": {"enabled": False},
            "photometry": {"enabled": False},
            "follow": {"target": "none"},
            "save": {"final_pass": False, "solve": "off"},
        },
    ),
)  # fmt: skip


def find_preset(name: str) -> Preset:
    """The preset of a name; the first where there is none."""
    return next((preset for preset in PRESETS if preset.name == name), PRESETS[0])
