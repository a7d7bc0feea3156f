"""Tokens hidden from a model that learns to tell them (Devlin et al. 2019, arXiv 1810.04805, with whole words masked).

Shapes: n tokens of a feature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import RecipeError

if TYPE_CHECKING:
    from typing import Self

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Masker:
    """What masking needs of a tokenizer."""

    token: str
    """What stands for a hidden token in a text."""
    mask_id: int
    ordinary: Ints
    """The ids that may replace a token: all but special ones."""

    @classmethod
    def of(cls, tokenizer: Any) -> Self:
        """Read it off a tokenizer of transformers.

        Raises:
            RecipeError: it has no mask token.
        """
        token = getattr(tokenizer, "mask_token", None)
        if token is None:
            raise RecipeError(
                f"model.tokenizer: expected a tokenizer with a mask token, found {type(tokenizer).__name__} without one.",
                fix="Choose a model of masked language modelling, such as BERT or RoBERTa; models that write text have no mask.",
            )
        everything = np.arange(len(tokenizer), dtype=np.int64)
        return cls(token, int(tokenizer.mask_token_id), np.setdiff1d(everything, tokenizer.all_special_ids))

    def choose(self, words: Ints, draws: np.random.Generator, *, share: float) -> npt.NDArray[np.bool_]:
        """bool[n]: the tokens of the chosen words. Each word is chosen with probability ``share``; if none is, one of them.

        Args:
            words: The word of each token; negative: never chosen.
        """
        known, of_word = np.unique(words, return_inverse=True)
        is_chosen = (draws.random(len(known)) < share) & (known >= 0)
        if not is_chosen.any() and (known >= 0).any():
            is_chosen[draws.choice(np.flatnonzero(known >= 0))] = True
        chosen: npt.NDArray[np.bool_] = is_chosen[of_word]
        return chosen

    def hide(self, ids: Ints, draws: np.random.Generator, *, masked: float, replaced: float) -> Ints:
        """Chosen tokens [n] as the model reads them: the mask, another token, or as they are.

        Args:
            masked: The share of them that becomes the mask.
            replaced: The share that becomes a random token.
        """
        fate = draws.random(len(ids))
        others = self.ordinary[draws.integers(len(self.ordinary), size=len(ids))]
        hidden: Ints = np.where(fate < masked, self.mask_id, np.where(fate < masked + replaced, others, ids))
        return hidden
