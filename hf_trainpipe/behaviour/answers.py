"""How two answers are compared, by what a task answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hf_trainpipe.behaviour.perturbations import NEGATION, Perturbation
from hf_trainpipe.behaviour.perturbed import Perturbed
from hf_trainpipe.errors import DataError, RecipeError, closest
from hf_trainpipe.utils.brief import listed

if TYPE_CHECKING:
    from hf_trainpipe.runtime.tasks.base import Task

_SCORE = 0.05
"""By how much a probability may move without having risen or fallen."""
_RANGE = 0.1
"""The share of the range of answered numbers within which two are the same."""


class Comparison(ABC):
    """Compares answers of one kind."""

    compares: ClassVar[str]
    """What is the same, in a few words."""

    def asked(self, perturbation: Perturbation) -> Perturbation | None:
        """A perturbation with what can be expected of such answers; None: nothing."""
        return perturbation

    def tolerance(self, answers: Sequence[Any]) -> float:
        """How far an answer may move, where nobody says it."""
        return _SCORE

    def holds(
        self, perturbation: Perturbation, before: Any, after: Any, changed: Perturbed, allowed: float
    ) -> tuple[bool, float]:
        """Whether an answer is as expected, and how far it moved, in the direction that is wrong."""
        if perturbation.expect in ("same", "changes"):
            moved = self.moved(before, after, changed)
            is_same = self.is_same(before, after, changed, allowed)
            return (is_same, moved) if perturbation.expect == "same" else (not is_same, -moved)
        risen = self.score(after, perturbation.label, before) - self.score(before, perturbation.label, before)
        wrong = risen if perturbation.expect == "falls" else -risen
        return wrong <= allowed, wrong

    @abstractmethod
    def is_same(self, before: Any, after: Any, changed: Perturbed, allowed: float) -> bool:
        """Whether two answers are the same."""

    @abstractmethod
    def moved(self, before: Any, after: Any, changed: Perturbed) -> float:
        """How far an answer moved."""

    @abstractmethod
    def score(self, answer: Any, label: str | None, first: Any) -> float:
        """The score of a label; None: of the one that ``first`` answers."""

    @abstractmethod
    def told(self, answer: Any) -> str:
        """An answer for a person."""


class _OneLabel(Comparison):
    compares = "the label"

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels

    def asked(self, perturbation: Perturbation) -> Perturbation | None:
        """The same.

        Raises:
            DataError: it names a label that the package does not have.
        """
        if perturbation.label is not None and perturbation.label not in self._labels:
            raise DataError(
                f"{perturbation.name}: label: expected one of {listed(self._labels)}, found {perturbation.label!r}."
                f"{closest(perturbation.label, self._labels)}",
                fix="Correct it in the file of perturbations.",
            )
        return perturbation

    def is_same(self, before: Any, after: Any, changed: Perturbed, allowed: float) -> bool:
        return bool(before[0]["label"] == after[0]["label"])

    def moved(self, before: Any, after: Any, changed: Perturbed) -> float:
        return self.score(before, None, before) - self.score(after, None, before)

    def score(self, answer: Any, label: str | None, first: Any) -> float:
        named = [one for one in answer if one["label"] == (label if label is not None else _first(first))]
        return float(named[0]["score"]) if named else 0.0

    def told(self, answer: Any) -> str:
        best = answer[0] if answer else {"label": None, "score": 0.0}
        return f"{best['label'] or 'no label'} {best['score']:.2f}"


def _first(answer: Any) -> str | None:
    """The first label that is one: not that of a package that abstains."""
    return next((one["label"] for one in answer if one["label"] is not None), None)


class _Labels(_OneLabel):
    compares = "the labels, all of them"

    def is_same(self, before: Any, after: Any, changed: Perturbed, allowed: float) -> bool:
        return {one["label"] for one in before} == {one["label"] for one in after}

    def moved(self, before: Any, after: Any, changed: Perturbed) -> float:
        one, other = ({entry["label"]: entry["score"] for entry in answer} for answer in (before, after))
        return float(
            sum(one.get(label, 0.0) if label not in other else other[label] for label in set(one) ^ set(other))
        )

    def told(self, answer: Any) -> str:
        return ", ".join(f"{one['label']} {one['score']:.2f}" for one in answer) or "no label"


class _Numbers(Comparison):
    compares = "the number"

    def asked(self, perturbation: Perturbation) -> Perturbation | None:
        return None if perturbation == NEGATION else perturbation  # what it does to a number nobody knows

    def tolerance(self, answers: Sequence[Any]) -> float:
        low, high = np.quantile([one["score"] for one in answers], (0.1, 0.9))
        return max(_RANGE * float(high - low), 1e-6)

    def is_same(self, before: Any, after: Any, changed: Perturbed, allowed: float) -> bool:
        return self.moved(before, after, changed) <= allowed

    def moved(self, before: Any, after: Any, changed: Perturbed) -> float:
        return abs(float(after["score"] - before["score"]))

    def score(self, answer: Any, label: str | None, first: Any) -> float:
        return float(answer["score"])

    def told(self, answer: Any) -> str:
        return f"{answer['score']:.3g}"


class _Spans(Comparison):
    compares = "labels and places, in the text as it was"

    def asked(self, perturbation: Perturbation) -> Perturbation | None:
        is_of_score = perturbation.expect in ("falls", "rises")
        return replace(perturbation, expect="same", label=None) if is_of_score else perturbation

    def is_same(self, before: Any, after: Any, changed: Perturbed, allowed: float) -> bool:
        return self.moved(before, after, changed) == 0

    def moved(self, before: Any, after: Any, changed: Perturbed) -> float:
        found = {(one["label"], changed.back(one["start"], one["end"])) for one in after}
        given = {
            (one["label"], place) for one in before if changed.forth(*(place := (one["start"], one["end"]))) is not None
        }
        return float(len({one for one in found if one[1] is not None} ^ given))

    def score(self, answer: Any, label: str | None, first: Any) -> float:
        return 0.0

    def told(self, answer: Any) -> str:
        return (
            ", ".join(f"{one['label']} {one['text']!r}" for one in answer if one["label"] not in (None, "O"))
            or "nothing"
        )


def comparison_for(task: Task) -> Comparison:
    """What compares the answers of a task.

    Raises:
        RecipeError: they are of another kind.
    """
    if task.judged_as == "single_label":
        return _OneLabel(task.label_names)
    if task.judged_as == "multi_label":
        return _Labels(task.label_names)
    if task.judged_as == "regression":
        return _Numbers()
    if task.judged_as == "tags":
        return _Spans()
    raise RecipeError(
        f"behave compares labels, numbers and marked words, and {type(task).__name__} answers something else.",
        fix="Use it with packages that classify texts, give them numbers, or tag their words.",
    )
