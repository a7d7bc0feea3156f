"""Findings about length: what of the texts does not fit into the recipe's ``max_length``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from hf_trainpipe.audit.finding import Finding, Level, examples, share

if TYPE_CHECKING:
    from hf_trainpipe.audit.corpus import Corpus
    from hf_trainpipe.recipe import Recipe

_LEFT_OVER = {"truncate": "lost", "drop": "dropped with their rows", "error": "lost if they were cut", "window": "lost"}


def truncated(corpus: Corpus, recipe: Recipe) -> Iterator[Finding]:
    """Rows with more tokens than a feature holds. Only texts that are long enough for it are tokenised.

    Raises:
        TrainpipeError: there is no tokenizer.
    """
    from hf_trainpipe.model.lengths import max_length
    from hf_trainpipe.model.limits import model_limits
    from hf_trainpipe.model.names import pin_model
    from hf_trainpipe.model.tokenizer import load_tokenizer
    from hf_trainpipe.recipe import Scratch
    from hf_trainpipe.runtime.tokens.encoder import Encoder

    if isinstance(recipe.model, Scratch) or corpus.kind is None:
        return
    model = pin_model(recipe.model)
    tokenizer = load_tokenizer(model)
    most = max_length(recipe.tokens, model_limits(model, corpus.task, tokenizer).limit)
    encoder = Encoder(tokenizer, steps=recipe.preprocessing, max_length=most, overflow="truncate")
    # A token is a byte at least, but for what preprocessing and normalisers add: half the length leaves room for it.
    sizes = np.array([len(text.encode("utf-8", "replace")) for text in corpus.shown], dtype=np.int64)
    policy = recipe.tokens.overflow
    for split in corpus.names:
        rows = corpus.rows_of(split)
        long = rows[(sizes[rows] > most // 2) & ~corpus.is_empty[rows]]
        if not len(long) or policy == "window":
            continue
        inputs = {role: [_cell(corpus, role, row) for row in long.tolist()] for role in corpus.roles}
        features = corpus.task.encode(inputs, encoder)
        found = features.overflow
        if not found.over_length:
            continue
        reached = long[features.lengths >= most] if len(features.lengths) == len(long) else long[:0]
        lost = found.tokens_lost / max(1, found.tokens)
        yield Finding(
            kind="truncated",
            level=Level.COSTS if found.over_length > 0.01 * len(rows) else Level.LOOK,
            split=split,
            line=f"{share(found.over_length, len(rows))} are longer than max_length {most}: {found.tokens_lost:,} tokens "
            f"are {_LEFT_OVER[policy]}",
            fix="Raise tokens.max_length as far as the model goes, or set tokens.overflow='window'.",
            count=found.over_length,
            total=len(rows),
            rows=examples(corpus, reached),
            facts={"max_length": most, "tokens_lost": found.tokens_lost, "share_of_long_texts": lost},
        )


def _cell(corpus: Corpus, role: str, row: int) -> object:
    return corpus.words[row] if corpus.has_words else corpus.texts[role][row]
