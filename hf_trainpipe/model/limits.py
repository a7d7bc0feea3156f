"""Check a model against its tokenizer before any data is read: maximum length, rows of the embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_trainpipe.model.lengths import configured_limits, look_up, usable_length
from hf_trainpipe.model.names import load_config, local_folder, text_config
from hf_trainpipe.model.tokenizer import check_tokenizer

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Pretrained
    from hf_trainpipe.runtime.tasks.base import Task

FIRST_POSITIONS = 8
"""More than any architecture leaves out before a text."""


@dataclass(frozen=True)
class ModelLimits:
    """Limits of a model with its tokenizer."""

    limit: int
    """Maximum length of an input in tokens, special tokens included."""
    rows: int | None
    """Rows of the word embedding; None where unknown."""
    warnings: tuple[str, ...] = ()


def plainly_takes(model: Pretrained, tokens: int) -> bool:
    """Whether configuration and tokenizer say that a model takes texts of so many tokens, and some more.

    False: :func:`model_limits` tells, which imports and builds the model. This is for who asks before the model is needed.
    """
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    if model.tokenizer is not None:
        return False
    folder = local_folder(model.name)
    revision = model.revision if folder is None else None
    longest: int = get_tokenizer_config(folder or model.name, revision=revision).get("model_max_length") or 0
    positions = min(configured_limits(load_config(model)), default=0)
    return min(positions - FIRST_POSITIONS, longest) >= tokens


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
