"""What a run's splits could show of a model that is still to come: ``compare RUN --planned 8``."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from hf_trainpipe.errors import DataError
from hf_trainpipe.metrics.paired import right
from hf_trainpipe.metrics.power import POWER, smallest_by_rows
from hf_trainpipe.package.layout import finite
from hf_trainpipe.report.comparison import SPLITS
from hf_trainpipe.report.facts import Facts


@dataclass(frozen=True, kw_only=True)
class Planned:
    """The smallest difference in whole answers that a split shows."""

    split: str
    rows: int
    disagreement: float
    """Assumed: the share of the rows that one of the two models will get right and the other not."""
    smallest: float
    confidence: float

    def told(self) -> str:
        """In a sentence."""
        what = (
            f"a difference of {100 * self.smallest:.1f} points"
            if math.isfinite(self.smallest)
            else "no difference at all: there are too few rows"
        )
        return (
            f"{self.split}: {self.rows:,} rows show {what}, where one of two models is right and the other wrong on "
            f"{100 * self.disagreement:g} % of them ({100 * POWER:g} % power, {100 * self.confidence:g} % confidence)."
        )

    def to_json(self) -> dict[str, object]:
        return dict(finite(asdict(self)))


def planned(run: Facts, disagreement: float, *, confidence: float = 0.95) -> list[Planned]:
    """Of each split whose predictions the run recorded.

    Raises:
        DataError: there is none, or its answers are not right or wrong.
    """
    found = []
    for split in SPLITS:
        if split in run.predicted and right(run.predicted[split].predictions) is not None:
            rows = len(run.predicted[split])
            smallest = smallest_by_rows(rows, disagreement, level=1 - confidence)
            found.append(
                Planned(split=split, rows=rows, disagreement=disagreement, smallest=smallest, confidence=confidence)
            )
    if not found:
        raise DataError(
            f"{run.path}: expected recorded predictions of answers that are right or wrong, found none.",
            fix="Name a complete run of a classifier or a tagger.",
        )
    return found
