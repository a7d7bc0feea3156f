"""Whether a run's probabilities are honest, as blocks of its report; and what its calibration came to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_trainpipe.metrics.reliability import Reliability, from_json
from hf_trainpipe.package.card_calibration import ABOUT, HEAD, errors, sentences
from hf_trainpipe.report import plots
from hf_trainpipe.report.blocks import Block, Paragraph, Pictures, Table


def told(honest: Reliability) -> Paragraph:
    """The calibration error beside that of exact probabilities."""
    beyond = "the error is not above that" if honest.is_perfect else "the error is above that"
    return Paragraph(
        f"Expected calibration error {honest.error:.3f}, between {honest.low:.3f} and {honest.high:.3f}: so far, on average, the "
        "probabilities that the model gives are from the share of its answers that is right (ten bins of probability). "
        f"If each were exactly right, rows as many as these would show {honest.perfect:.3f} on average, and less than "
        f"{honest.perfect_high:.3f} with 95 % probability; {beyond}."
    )


def blocks(found: Mapping[str, Any] | None, split: str, *, pictures: bool) -> list[Block]:
    """Of a run whose recipe asks for it: what was chosen, and how honest probabilities are before and after.

    Args:
        found: The calibration in the report of a split; None: there is none.
    """
    if not found:
        return []
    sides = {when: from_json(found[when]) for when in ("before", "after") if found.get(when)}
    names = {"before": "Reliability" if len(sides) == 1 else "Reliability before", "after": "Reliability after"}
    drawn = (
        [plots.diagram(f"{split}-reliability-{when}", names[when], one) for when, one in sides.items()]
        if pictures
        else []
    )
    made: list[Block] = [Pictures(drawn)] if drawn else []
    made += [Paragraph(line) for line in sentences(found)]
    if found.get("answered") is not None:
        right = found.get("right_if_answered")
        of_these = "." if right is None else f"; of these answers {100 * right:.1f} % are right."
        made.append(Paragraph(f"Here it answers {100 * found['answered']:.1f} % of the texts{of_these}"))
    rows = [list(row[1:]) for row in errors(split, found)]
    return [*made, Table(list(HEAD[1:]), rows, caption="Calibration"), Paragraph(ABOUT)] if rows else made
