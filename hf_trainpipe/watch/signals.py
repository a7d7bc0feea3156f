"""What is watched: six signals, each a number that a text has, ranked among those of the texts before it.

Four are read off a text as it is (how far it lies from the nearest texts of the reference, how sure the answer is, how unusual its
tokens are, how many). Two compare distributions, by the witness function of the maximum mean discrepancy (Gretton et al., JMLR 13,
2012): the first half of a window, halved by chance, tells in which direction its vectors, or its answers, lie from the
reference; the second half is ranked along that direction. What was used to choose the direction is not ranked, so that ranks stay uniform.

Shapes: n texts of a window, P texts before it, K numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.watch.bets import Floats, ranks

Readings = Mapping[str, NDArray[Any]]
"""By signal: [n] numbers, or [n, K] of signals that compare directions."""


@dataclass(frozen=True, kw_only=True)
class Signal:
    """One thing that is watched."""

    name: str
    about: str
    """What it compares, for people."""
    high: str
    """What a high number means of a text."""
    low: str = ""
    directed: bool = False
    """Whether it is ranked along a direction that the window's first half tells."""

    @property
    def two_sided(self) -> bool:
        """Whether low numbers count too."""
        return bool(self.low)


SIGNALS = {
    one.name: one
    for one in (
        Signal(name="embeddings", about="where texts lie (MMD of vectors)", high="like the others of its window", directed=True),
        Signal(name="novelty", about="how far a text is from the nearest known ones", high="unlike any text of the reference"),
        Signal(name="answers", about="what is answered (prior shift)", high="answered like the others of its window", directed=True),
        Signal(name="confidence", about="how sure answers are", high="answered surely", low="answered unsurely"),
        Signal(name="vocabulary", about="how unusual the tokens are", high="of unusual words", low="of the most usual words"),
        Signal(name="length", about="how many tokens", high="long", low="short"),
    )
}  # fmt: skip
"""All, by name."""


@dataclass(frozen=True)
class Ranked:
    """The texts of a window by one signal."""

    scores: NDArray[Any]
    """[n] by which texts are put in order, of all texts of the window."""
    ranks: Floats
    """[n], or of a directed signal of its second half."""


def rank(
    signal: Signal, earlier: Sequence[NDArray[Any]], new: NDArray[Any], order: NDArray[Any], generator: Any
) -> Ranked:
    """Rank a window's texts among those before it.

    Args:
        earlier: [P] or [P, K], in parts.
        new: [n] or [n, K].
        order: [n] the window's texts in an order of chance, of which the first half tells a direction.
    """
    if not signal.directed:
        return Ranked(new, ranks(np.concatenate(earlier), new, generator))
    half = len(new) // 2
    direction = new[order[:half]].mean(axis=0)  # readings are centred: the reference lies at 0
    scores = new @ direction
    before = np.concatenate([part @ direction for part in earlier])
    return Ranked(scores, ranks(before, scores[order[half:]], generator))


def kept(name: str, readings: NDArray[Any]) -> NDArray[Any]:
    """Readings as files hold them: float16 where they compare directions, which they are rounded to from the start."""
    return readings.astype(np.float16) if SIGNALS[name].directed else readings


def held(name: str, readings: NDArray[Any]) -> NDArray[Any]:
    """Readings of a file as they were before :func:`kept`, and new ones rounded as those are."""
    return readings.astype(np.float16).astype(np.float32) if SIGNALS[name].directed else readings
