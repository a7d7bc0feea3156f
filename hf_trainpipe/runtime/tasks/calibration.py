"""What probabilities are made of logits, and what is decided with them: temperature, costs, abstention.

Legend: N examples, C labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..brief import listed
from ..errors import RecipeError
from .merging import sigmoid, softmax

Wide = npt.NDArray[np.float64]
NEVER = 2.0
"""A least score that no answer has."""


def _is_number(value: Any, low: float, high: float, *, is_open: bool = False) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return is_number and (low < value if is_open else low <= value) and value <= high


def _is_row(value: Any) -> bool:
    return isinstance(value, Mapping) and all(_is_number(cost, 0.0, math.inf) for cost in value.values())


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Probabilities that hold, and decisions by them; chosen on the validation split when the run ends (docs/calibration.md)."""

    temperature: float | Literal["fit"] | None = "fit"
    """What logits are divided by. ``fit``: chosen on validation, and left out where that does not help on rows it was not chosen on;
    None: 1."""
    promise: float | None = None
    """Share of right answers among those that are given, such as 0.98: where it would not be kept the package abstains. None: it always
    answers. Single labels only."""
    confidence: float = 0.95
    """That the promise is kept on texts like those of validation."""
    costs: Mapping[str, Mapping[str, float]] | None = None
    """What it costs to give a text of one label another: ``{"ham": {"spam": 20}}``; 1 where nothing is said, and 0 for the right one.
    The label with the least expected cost is answered. Single labels only."""
    least: float | None = None
    """The score below which it abstains; chosen on validation where there is a promise."""

    def __post_init__(self) -> None:
        fix = "Correct task.calibration."
        if self.temperature not in ("fit", None) and not _is_number(self.temperature, 0.0, math.inf, is_open=True):
            raise RecipeError(
                f"task.calibration.temperature: expected 'fit', a number above 0 or None, found {self.temperature!r}.",
                fix="Leave it out: it is chosen on validation.",
            )
        for name, low, high in (("promise", 0.5, 1.0), ("confidence", 0.5, 1.0)):
            value = getattr(self, name)
            if not (value is None and name == "promise") and not (_is_number(value, low, high) and value < high):
                raise RecipeError(f"task.calibration.{name}: expected a number in [0.5, 1), found {value!r}.", fix=fix)
        if self.least is not None and not _is_number(self.least, 0.0, NEVER):
            raise RecipeError(f"task.calibration.least: expected a probability, found {self.least!r}.", fix=fix)
        if self.costs is not None and not (isinstance(self.costs, Mapping) and all(map(_is_row, self.costs.values()))):
            raise RecipeError(
                f"task.calibration.costs: expected label -> label -> a number of 0 or more, found {self.costs!r:.120}.",
                fix='Write costs={"ham": {"spam": 20}}: what it costs to call ham spam.',
            )

    @classmethod
    def read(cls, value: Any) -> Calibration | None:
        """From JSON, as a package holds it."""
        if value is None or isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise RecipeError(
                f"task.calibration: expected a Calibration, found {value!r:.80}.",
                fix="Write calibration=Calibration().",
            )
        return cls(**{name: item for name, item in value.items() if name != "kind"})

    def check(self, names: Sequence[str]) -> None:
        """Refuse costs of labels that there are not.

        Raises:
            RecipeError: as said.
        """
        said = {*(self.costs or {}), *(name for row in (self.costs or {}).values() for name in row)}
        if unknown := sorted(said - set(names)):
            raise RecipeError(
                f"task.calibration.costs: expected labels of {listed(names, quoted=True)}, found {unknown[0]!r}.",
                fix="Name the labels as the task does.",
            )

    def fitted(self, **found: Any) -> Calibration:
        """With what was chosen on validation."""
        return replace(self, **found)

    def scaled(self, logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Logits by the temperature; where there is none the same array."""
        if self.temperature in ("fit", None, 1):
            return logits
        assert not isinstance(self.temperature, str)
        return logits.astype(np.float64) / self.temperature

    def expected_costs(self, probabilities_NC: Wide, names: Sequence[str]) -> Wide:
        """[N, C]: what it costs to give each label."""
        costs_CC = 1.0 - np.eye(len(names))
        for gold, row in (self.costs or {}).items():
            for given, cost in row.items():
                costs_CC[names.index(gold), names.index(given)] = cost
        found: Wide = probabilities_NC @ costs_CC
        return found

    def abstains(self, score: float) -> bool:
        """Whether an answer of this score is withheld."""
        return self.least is not None and score < self.least

    @property
    def options(self) -> dict[str, Any]:
        """What of it a client may want to know."""
        known = {
            "temperature": self.temperature,
            "promise": self.promise,
            "abstains_below": self.least,
            "costs": self.costs,
        }
        return {name: value for name, value in known.items() if value is not None and value != "fit"}


NONE = Calibration(temperature=None)
"""Logits as they are, always an answer, the most probable one."""


def probabilities(logits: npt.NDArray[Any], calibration: Calibration | None, *, several: bool = False) -> Wide:
    """[N, C] logits to probabilities: the one place where package and evaluation do it.

    Args:
        several: Whether each label has a probability of its own.
    """
    scaled = (calibration or NONE).scaled(logits)
    return sigmoid(scaled) if several else softmax(scaled)


def best_first(
    probabilities_NC: Wide, calibration: Calibration | None, names: Sequence[str]
) -> tuple[npt.NDArray[np.int64], Wide | None]:
    """[N, C] labels in the order in which they are answered, and what each costs, where costs are said."""
    if calibration is None or calibration.costs is None:
        return np.argsort(-probabilities_NC, axis=1, kind="stable"), None
    costs_NC = calibration.expected_costs(probabilities_NC, names)
    return np.argsort(costs_NC, axis=1, kind="stable"), costs_NC
