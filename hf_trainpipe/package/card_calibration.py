"""Calibration in a model card, and in words for a report: what was chosen, and how honest probabilities are before and after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_trainpipe.package.card_tables import table
from hf_trainpipe.package.in_words import interval, number

HEAD = ("split", "", "calibration error", "interval", "of exact probabilities")


def calibration(report: Mapping[str, Mapping[str, Any]]) -> str:
    """The section of a card; empty where the recipe asks for none."""
    told = {split: found["calibration"] for split, found in report.items() if found.get("calibration")}
    if not told:
        return ""
    lines = [line for split, one in told.items() for line in (sentences(one) if split == next(iter(told)) else [])]
    lines += [line for split, one in told.items() if (line := _given(split, one))]
    rows = [row for split, one in told.items() for row in errors(split, one)]
    return "\n\n".join(["\n".join(f"- {line}" for line in lines), table(HEAD, rows), ABOUT])


ABOUT = (
    "The calibration error is how far probabilities are, on average, from the share of answers that is right. The last column is what "
    "probabilities that are exactly right would show on this many rows, and stay below with 95 % probability. On validation a "
    "temperature is told on rows that it was not chosen on."
)


def sentences(found: Mapping[str, Any]) -> list[str]:
    """What was chosen, on validation or on the rows that ``on`` names."""
    lines = []
    gain = found.get("gain")
    if gain:
        how = f"the negative log-likelihood of rows it was not chosen on goes from {number(gain['first'])} to {number(gain['second'])}"
        change = f"a change of {gain['value']:+.4f}, between {gain['low']:+.4f} and {gain['high']:+.4f}"
        if found["temperature"] is None:
            lines.append(
                f"A temperature of {found['fitted']:.3f} was left out, since no gain is shown: {how}, {change}."
            )
        else:
            lines.append(f"Logits are divided by a temperature of {found['temperature']:.3f}: {how}, {change}.")
    elif found.get("temperature") is not None:
        lines.append(f"Logits are divided by a temperature of {found['temperature']:.3f}, as the recipe says.")
    kept = found.get("kept")
    if kept and kept["answered"]:
        lines.append(
            f"It abstains where its score is below {kept['least']:.4f}, so that {100 * found['promise']:g} % of its answers are right: on "
            f"{found.get('on', 'validation')} {100 * kept['right']:.1f} % of them are, at least {100 * kept['at_least']:.1f} %."
        )
    elif kept:
        lines.append(
            f"It abstains from every answer: no score was shown to keep {100 * found['promise']:g} % of answers right."
        )
    if found.get("argmax_changed") is not None:
        lines.append(
            f"It answers the label with the least expected cost: another one than the most probable for {100 * found['argmax_changed']:.1f} % "
            "of the texts."
        )
    return lines


def _given(split: str, found: Mapping[str, Any]) -> str:
    if found.get("answered") is None:
        return ""
    right = found.get("right_if_answered")
    of_these = "" if right is None else f", of which {100 * right:.1f} % right"
    return f"On {split} it answers {100 * found['answered']:.1f} % of the texts{of_these}."


def errors(split: str, found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Rows of :data:`HEAD`."""
    return [
        (
            split,
            when,
            number(one["error"]),
            interval(one),
            f"{number(one['perfect'])}, below {number(one['perfect_high'])}",
        )
        for when in ("before", "after")
        if (one := found.get(when))
    ]
