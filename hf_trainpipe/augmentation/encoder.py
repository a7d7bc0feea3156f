"""What a task encodes the training split of an epoch with: preprocessing, then augmentation, then the tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hf_trainpipe.recipe.interfaces import Augmentation
from hf_trainpipe.runtime.text.edits import Aligned, apply_edits
from hf_trainpipe.runtime.tokens.encoder import Encoder
from hf_trainpipe.runtime.tokens.features import Features

_TEXTS, _TOKENS = 2, 3
"""The third word of the counter, which keeps draws apart from those of an epoch's order (0) and of tasks (1)."""


def generator(seed: int, epoch: int, example: int, *, column: int = 0, kind: int = _TEXTS) -> np.random.Generator:
    """Random numbers of a text in one epoch: Philox with a key and a counter, so that no two texts share any.

    Args:
        example: Its row in the column.
        column: 0 or 1: the first text or the second.
    """
    return np.random.Generator(np.random.Philox(key=[seed, epoch], counter=[0, column, kind, example]))


def token_draws(seed: int, epoch: int, feature: int) -> np.random.Generator:
    """The same of the tokens of a feature."""
    return generator(seed, epoch, feature, kind=_TOKENS)


class AugmentingEncoder(Encoder):
    """Encodes as another one does, with texts or words that were changed by (seed, epoch, example).

    Texts that grew too long are cut, where the policy would drop or refuse them: an epoch has the examples of every other.

    Args:
        encoder: What the training split was encoded with.
        augmentation: The steps that change texts.
    """

    def __init__(self, encoder: Encoder, augmentation: Sequence[Augmentation], *, seed: int, epoch: int) -> None:
        self.augmentation, self.seed, self.epoch = tuple(augmentation), seed, epoch
        super().__init__(
            encoder.tokenizer,
            steps=encoder.steps,
            max_length=encoder.max_length,
            overflow="window" if encoder.overflow == "window" else "truncate",
            stride=encoder.stride,
        )

    def texts(
        self,
        first: Sequence[str],
        second: Sequence[str] | None = None,
        *,
        with_places: bool = False,
        with_words: bool = False,
        owners: Any = None,
    ) -> Features:
        assert not with_words, "a task that learns hidden words takes no augmentation"
        columns = [first] if second is None else [first, second]
        if with_places:
            aligned = [
                [self._aligned_text(text, row, number) for row, text in enumerate(self._aligned(column))]
                for number, column in enumerate(columns)
            ]
            return self._tokens.aligned(aligned)
        changed = [
            [self._text(text, row, number) for row, text in enumerate(self.clean(column))]
            for number, column in enumerate(columns)
        ]
        return self._tokens.texts(*changed, owners=owners)

    def words(self, sentences: Sequence[Sequence[str]]) -> Features:
        return super().words([self._words(words, row) for row, words in enumerate(sentences)])

    def _text(self, text: str, row: int, column: int) -> str:
        draws = generator(self.seed, self.epoch, row, column=column)
        for step in self.augmentation:
            if draws.random() < step.examples:
                text = apply_edits(text, step.edits(text, draws))
        return text

    def _aligned_text(self, text: Aligned, row: int, column: int) -> Aligned:
        draws = generator(self.seed, self.epoch, row, column=column)
        for step in self.augmentation:
            if draws.random() < step.examples:
                text = text.edited(step.edits(text.text, draws))
        return text

    def _words(self, words: Sequence[str], row: int) -> list[str]:
        """Each word by itself, so that none is lost or made."""
        draws, changed = generator(self.seed, self.epoch, row), list(words)
        for step in self.augmentation:
            if draws.random() < step.examples:
                changed = [apply_edits(word, step.edits(word, draws)) or word for word in changed]
        return changed
