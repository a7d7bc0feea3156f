"""What a task is: which columns it reads, what it asks of the model, its loss and its scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import torch

__all__ = ["Column", "ColumnKind", "Labels", "Task", "model_inputs"]

NOT_FOR_THE_MODEL = frozenset({"labels", "weights"})

ColumnKind = Literal["text", "words", "class", "classes", "number", "tags", "spans"]
"""What a column holds.

text     a string
words    a list of strings, one a word
class    one label: a name, or an integer id
classes  any number of labels: a list, a vector of a 0 or 1 a label, or a string separated by ``separator``
number   a float
tags     a list of tag names or ids, one a word
spans    a list of ``{"start", "end", "label"}`` in characters of the text column
"""


@dataclass(frozen=True)
class Column:
    """A column that a task reads, and what it expects in it."""

    name: str
    """The column's name in the data."""
    kind: ColumnKind
    """What its cells are."""
    parts: tuple[str, ...] = field(default=(), repr=False)
    """Of kind classes, where each label has a column of its own: these columns, of 0s and 1s."""

    @property
    def columns(self) -> tuple[str, ...]:
        """What it is called in the data."""
        return self.parts or (self.name,)


@dataclass(frozen=True)
class Labels:
    """Label names in the order of the model's outputs. Empty for regression."""

    names: tuple[str, ...] = ()
    """In the order of the ids."""
    is_ordered: bool = field(default=True, compare=False)
    """Whether somebody gave them their order (the recipe, a ``ClassLabel``, a package), so that integers in a column may
    be positions in it. Names that were collected from the data and sorted have none that data could know."""
    are_vectors: bool | None = field(default=None, compare=False)
    """Of several labels a row, whether the training data writes them as a 0 or 1 a label; None: not known."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def ids(self) -> dict[str, int]:
        """Name to position."""
        return {name: position for position, name in enumerate(self.names)}


class Task(ABC):
    """Columns -> features, ``loss_sum``, ``count``, model class and options, decoder, metrics.

    Subclasses are frozen dataclasses; their fields become command-line options by themselves.
    A task in a recipe file needs no registration.
    """

    decoder: ClassVar[str]
    """Which decoder of :mod:`hf_trainpipe.runtime.tasks.decoding` turns logits into answers:
    ``single_label``, ``multi_label``, ``regression`` or ``tags``."""

    @abstractmethod
    def inputs(self) -> tuple[Column, ...]:
        """The columns that the model reads: one of kind text or words, or a pair of texts."""

    @abstractmethod
    def target(self) -> Column:
        """The column that holds what is to be learnt."""

    @abstractmethod
    def metrics(self) -> tuple[str, ...]:
        """Metrics computed at each evaluation, by name; the first is the default of ``select``."""

    def label_names(self) -> tuple[str, ...] | None:
        """Label names fixed by the recipe, in the order of their ids; None: read from the data."""
        return None

    @abstractmethod
    def model_class(self) -> type[Any]:
        """The transformers ``AutoModelFor...`` class. Imports transformers when called."""

    @abstractmethod
    def model_options(self, labels: Labels) -> dict[str, Any]:
        """Keyword arguments of ``from_pretrained`` (``num_labels``, ``id2label``, ...)."""

    @abstractmethod
    def loss_sum(self, model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The loss summed (not averaged) over what :meth:`count` counts; a scalar."""

    @abstractmethod
    def count(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """How much the batch weighs: examples, or labelled tokens; a float64 scalar on any device."""

    def fit(self, labels: Labels, values: np.ndarray) -> Task:
        """The task with what follows from the training targets filled in (balanced class weights)."""
        return self

    def decoder_options(self, labels: Labels) -> dict[str, Any]:
        """What the decoder needs besides the labels, as JSON (a threshold, a tagging scheme)."""
        return {}


def model_inputs(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What of a batch the model is called with: all but ``labels`` and ``weights``."""
    return {name: tensor for name, tensor in batch.items() if name not in NOT_FOR_THE_MODEL}
