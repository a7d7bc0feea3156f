"""Check a model against its tokenizer before any data is read: maximum length, rows of the embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_trainpipe.model.lengths import look_up, usable_length
from hf_trainpipe.model.names import load_config, text_config
from hf_trainpipe.model.tokenizer import check_tokenizer

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Pretrained
    from hf_trainpipe.runtime.tasks.base import Task


@dataclass(frozen=True)
class ModelLimits:
    """Limits of a model with its tokenizer."""

    limit: int
    """Maximum length of an input in tokens, special tokens included."""
    rows: int | None
    """Rows of the word embedding; None where unknown."""
    warnings: tuple[str, ...] = ()


def model_limits(model: Pretrained, task: Task, tokenizer: Any) -> ModelLimits:
    """Check a model against its tokenizer, without weights.

    Raises:
        RecipeError: the tokenizer has ids without a row in the embedding.
    """
    config = load_config(model)
    tables = look_up(model, task, config)
    rows = tables.words if tables.words is not None else getattr(text_config(config), "vocab_size", None)
    warnings = check_tokenizer(tokenizer, config, rows=rows)
    return ModelLimits(usable_length(config, tokenizer, tables.positions), rows, tuple(warnings))
