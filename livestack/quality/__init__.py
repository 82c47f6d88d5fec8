"""Which frames are good enough, how much they count, and what the person at the telescope should hear.

`judge`: reasons, rolling limits, weights; `content`: frames that are no lights; `alerts`: warnings with hysteresis.
Pure: no clock, no files; the same measures in the same order give the same verdicts.
"""

from livestack.quality.alerts import Alerts
from livestack.quality.content import ContentStats, content_stats, not_a_light
from livestack.quality.judge import FrameMeasures, Judge, frame_weight
from livestack.quality.reasons import REASONS, Verdict, accept, refuse

__all__ = [
    "REASONS",
    "Alerts",
    "ContentStats",
    "FrameMeasures",
    "Judge",
    "Verdict",
    "accept",
    "content_stats",
    "frame_weight",
    "not_a_light",
    "refuse",
]
