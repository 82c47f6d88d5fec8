"""Every reason for which a frame is refused, with its sentence: one table, and the `Verdict` that carries one of them.

The word is for machines (journal, report), the sentence for the person at the telescope: it carries the numbers and,
where there is one, the remedy. Clouds and trailing are not errors; errors of `base.errors` become verdicts here.
"""

from __future__ import annotations

from dataclasses import dataclass

REASONS: dict[str, str] = {
    "unreadable": "unreadable: {detail}",
    "truncated": "truncated: {detail}",
    "vanished": "vanished: {detail}",
    "wrong_size": "wrong size: {detail}",
    "master": "master: {detail}",
    "duplicate": "duplicate: the same pixels as {detail}; it would count twice",
    "not_a_light": "not a light: {detail}",
    "blank": "blank: {detail}",
    "no_registration": "no registration: {detail}",
    "other_field": "other field: {detail}",
    "clouds": (
        "clouds: the stars reach {percent:.0f} % of their usual light (limit {limit:.0f} %); wait for the sky to clear"
    ),
    "bright_sky": (
        "bright sky: the sky is {ratio:.1f} times as bright as usual (limit {limit:.1f}); "
        "look for the Moon, dawn or a lamp"
    ),
    "defocus": (
        "defocus: the stars are {fwhm:.1f} px wide, usually {usual:.1f} px (limit {limit:.1f} px); check the focus"
    ),
    "trailing": (
        "trailing: the stars are {ratio:.1f} times as long as wide along {direction:.0f} deg (limit {limit:.1f}); "
        "check guiding, wind and cables"
    ),
    "too_few_stars": "too few stars: {found} found, usually {usual:.0f} (limit {limit:.0f}); clouds, dew or focus",
    "high_residual": "high residual: matched stars miss by {rms:.2f} px (limit {limit:.2f} px)",
    "rejected_samples": (
        "too many samples rejected: {percent:.0f} % of its pixels disagree with the stack (limit {limit:.0f} %)"
    ),
}
"""Reason -> sentence template. `detail` is a sentence part that the caller brings."""


@dataclass(frozen=True)
class Verdict:
    """What was decided on one frame.

    Attributes
    ----------
    accepted : stack it.
    reason : a key of `REASONS`, None when accepted.
    message : the sentence; empty when accepted.
    weight : how much it counts relative to the reference (1 = as good); 0 when refused.
    """

    accepted: bool
    reason: str | None
    message: str
    weight: float


def accept(weight: float = 1.0) -> Verdict:
    """Stack it with this weight."""
    return Verdict(True, None, "", weight)


def refuse(reason: str, **values: object) -> Verdict:
    """Refuse for `reason` with the sentence of the table; `values` fill its template.

    Raises
    ------
    KeyError
        An unknown reason, or a value of its template is missing: a mistake of the program, not of the sky.
    """
    return Verdict(False, reason, REASONS[reason].format(**values), 0.0)
