"""What a model and its tokenizer allow, and whether they belong together: known before any data is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_trainpipe.model.lengths import look_up, usable_length
from hf_trainpipe.model.names import load_config, text_part
from hf_trainpipe.model.tokenizer import check_tokenizer

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Pretrained
    from hf_trainpipe.tasks.base import Task

__all__ = ["Fitting", "fit"]


@dataclass(frozen=True)
class Fitting:
    """What follows from a model's tables and its tokenizer."""

    limit: int
    """Tokens that one input may hold, special tokens included."""
    rows: int | None
    """Rows of the word embedding; None where the model does not tell."""
    warnings: tuple[str, ...] = ()


def fit(model: Pretrained, task: Task, tokenizer: Any) -> Fitting:
    """Hold a model and its tokenizer against each other, without weights.

    Raises:
        RecipeError: the tokenizer gives ids that the model has no row for.
    """
    config = load_config(model)
    tables = look_up(model, task, config)
    rows = tables.words if tables.words is not None else getattr(text_part(config), "vocab_size", None)
    warnings = check_tokenizer(tokenizer, config, rows=rows)
    return Fitting(usable_length(config, tokenizer, tables.positions), rows, tuple(warnings))
