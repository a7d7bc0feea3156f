"""Requests that share the model: each is encoded, run in pieces beside others, and answered on its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..model.listening import LISTENER, listening
from ..model.outputs import Outputs, concatenate
from ..tokens import features as tokens
from ..tokens.features import Features
from .requests import Example


@dataclass(eq=False)
class Job:
    """One request. :meth:`.predictor.Predictor.open` checks it, ``encode`` tokenises it, ``run`` computes any of its
    features, and once ``missing`` is 0 ``answer`` gives what ``predict`` would have given."""

    examples: Sequence[Example]
    parameters: Mapping[str, Any]
    cost: Callable[[Features], npt.NDArray[np.int64]] | None = None
    """What is computed of each feature, :meth:`.base.Task.widths`; None: its tokens."""
    prepared: Features | None = None
    missing: int = 0
    """Features without outputs."""
    parts: list[Features] = field(default_factory=list)
    """Of a request that is encoded in parts: those that are."""
    _found: list[Outputs] = field(default_factory=list)

    @property
    def characters(self) -> int:
        """Characters of its texts and words."""
        return sum(example.characters for example in self.examples)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """[F] tokens that are computed of each feature: special ones, and those that may be written, included."""
        if self.prepared is None:
            assert not self.examples, "encode comes first"
            return np.zeros(0, dtype=np.int64)
        if self.cost is None:
            return self.prepared.lengths
        total: npt.NDArray[np.int64] = self.cost(self.prepared).sum(axis=1)
        return total

    @property
    def num_read(self) -> int:
        """Examples that are encoded."""
        return len(self.examples) if self.prepared else sum(part.num_examples for part in self.parts)

    @property
    def num_tokens(self) -> int:
        """Tokens of the examples that are encoded."""
        return sum(one.num_tokens for one in ([self.prepared] if self.prepared else self.parts))

    def add(self, part: Features) -> None:
        """Take the next part; with the last one the request is encoded."""
        self.parts.append(part)
        if self.num_read == len(self.examples):
            whole, self.parts = tokens.concatenate(self.parts), []
            self.set(whole)

    def set(self, prepared: Features) -> None:
        self.prepared = prepared
        self.missing = prepared.num_features

    def put(self, outputs: Outputs) -> None:
        """Take what was computed for one of its features, which ``outputs`` names."""
        self._found.append(outputs)
        self.missing -= 1

    @property
    def outputs(self) -> Outputs:
        """Of all features, in their order."""
        assert not self.missing, f"{self.missing} features are not computed"
        return concatenate(self._found)


@contextmanager
def heard(job: Any, listener: Callable[[list[int]], None] | None) -> Iterator[None]:
    """Tell somebody of the tokens that are written for a request of one input, while this is open; None: nobody."""
    if listener is None:
        yield
        return
    with listening(listener) as number:
        job.parameters = {**job.parameters, LISTENER: number}
        yield


Piece = tuple[Job, int]
"""A job and the number of one of its features."""
