"""Tokens hidden behind the mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hf_trainpipe.recipe.interfaces import Augmentation, Changes
from hf_trainpipe.recipe.settings import check_share
from hf_trainpipe.runtime.text.edits import Edit
from hf_trainpipe.runtime.tokens.masking import Masker


@dataclass(frozen=True, kw_only=True)
class TokenMask(Augmentation):
    """Hide tokens behind the tokenizer's mask; where words and spans lie stays as it is."""

    changes: ClassVar[Changes] = "tokens"
    share: float = 0.1
    """The probability of each token, in (0, 1); special ones stay."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("TokenMask.share", self.share)

    def check(self, tokenizer: Any) -> None:
        Masker.of(tokenizer)

    def edits(self, text: str, draws: np.random.Generator) -> list[Edit]:
        return []

    def hidden(self, ids: np.ndarray, draws: np.random.Generator, masker: Masker) -> np.ndarray:
        chosen = np.flatnonzero(draws.random(len(ids)) < self.share)
        place = np.searchsorted(masker.ordinary, ids[chosen]).clip(max=len(masker.ordinary) - 1)
        is_ordinary = masker.ordinary[place] == ids[chosen]
        hidden = np.array(ids)
        hidden[chosen[is_ordinary]] = masker.mask_id
        return hidden
