"""What the audit's own model reads of a text: vectors of the recipe's encoder as it begins, else TF-IDF.

Shapes: N rows, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.baselines.vectors import TfIdf, matching
from hf_trainpipe.errors import TrainpipeError
from hf_trainpipe.utils.cache import cache_root
from hf_trainpipe.utils.resources import is_local

if TYPE_CHECKING:
    from hf_trainpipe.audit.corpus import Corpus
    from hf_trainpipe.recipe import Recipe

Ints = NDArray[np.int64]
_MOST_ENCODED = 20_000
"""Texts that the recipe's encoder reads for an audit: a minute or two of a core, and then they are kept."""
_CHARACTERS = 3_000_000
"""Of all texts, times the labels, up to which pieces of words are read too."""
_CELLS_OF_BOTH = 200_000
"""Rows times labels up to which words are read beside an encoder's vectors: seconds of a core."""


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """Vectors of some rows."""

    told: str
    """What they are, for people."""
    features: Any
    """[N, F] float32, sparse or not."""


@dataclass(frozen=True, eq=False)
class Reader:
    """Makes vectors of the rows of a corpus.

    Args:
        recipe: Whose encoder reads them, if it is on this machine; None: TF-IDF.
    """

    corpus: Corpus
    recipe: Recipe | None

    def vectors(self, rows: Ints) -> Vectors:
        """Vectors of rows. They are made without labels, so that one set of them serves all folds.

        Raises:
            Unfit: the texts have no words.
        """
        if self._encoded is not None:
            assert self.recipe is not None
            told = f"the encoder {self.recipe.model.name} as it begins"
            return Vectors(told=told, features=matching([side[rows] for side in self._encoded]))
        return self._words(rows)

    def words_beside(self, rows: Ints) -> Vectors | None:
        """TF-IDF of rows that :meth:`vectors` has by an encoder; None where it has not, or where they take too long to learn.

        Raises:
            Unfit: the texts have no words.
        """
        cells = len(rows) * max(1, len(self.corpus.class_names))
        return None if self._encoded is None or cells > _CELLS_OF_BOTH else self._words(rows)

    def _words(self, rows: Ints) -> Vectors:
        columns = [[texts[row] for row in rows.tolist()] for texts in self._columns]
        size = sum(len(text) for column in columns for text in column) * max(1, len(self.corpus.class_names))
        has_pieces = size <= _CHARACTERS
        told = "TF-IDF of words and pieces of them" if has_pieces else "TF-IDF of words"
        return Vectors(told=told, features=TfIdf(characters=has_pieces, min_df=1 if has_pieces else 2).fit(columns))

    @cached_property
    def _columns(self) -> list[list[str]]:
        """The texts of all rows: one column, or two of pairs."""
        columns = list(self.corpus.texts.values())
        return columns if len(columns) <= 2 else [self.corpus.shown]

    @cached_property
    def _encoded(self) -> list[Any] | None:
        """Of each column float32 [N, W] by the recipe's model, if it is here and the texts are not too many; else None."""
        from hf_trainpipe.recipe import Scratch

        recipe = self.recipe
        if recipe is None or isinstance(recipe.model, Scratch) or not _is_here(recipe.model.name):
            return None
        distinct = sorted({text for column in self._columns for text in column})
        if len(distinct) > _MOST_ENCODED:
            return None
        from hf_trainpipe.baselines.frozen import frozen_texts
        from hf_trainpipe.model.lengths import max_length
        from hf_trainpipe.model.limits import model_limits
        from hf_trainpipe.model.names import pin_model
        from hf_trainpipe.model.tokenizer import load_tokenizer
        from hf_trainpipe.runtime.tokens.encoder import Encoder

        try:
            model = pin_model(recipe.model)
            tokenizer = load_tokenizer(model)
            most = max_length(recipe.tokens, model_limits(model, recipe.task, tokenizer).limit)
            encoder = Encoder(tokenizer, steps=recipe.preprocessing, max_length=most, overflow="truncate")
            found = np.asarray(frozen_texts(distinct, model=model, encoder=encoder, root=cache_root()))
        except TrainpipeError:
            return None
        number = {text: at for at, text in enumerate(distinct)}
        return [found[[number[text] for text in column]] for column in self._columns]


def _is_here(name: str) -> bool:
    """Whether a model is a local folder, or in the Hub's cache: an audit downloads nothing."""
    from huggingface_hub import try_to_load_from_cache

    return is_local(name) or isinstance(try_to_load_from_cache(name, "model.safetensors"), str)
