"""Layers whose activations are not kept for the backward pass but computed again in it: less memory, a third more work.

torch repeats its own randomness then; the masks of :mod:`.dropout`, which come from a stream of their own, are repeated
here. So the gradient is that of plain layers, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from hf_trainpipe.engine.cpu import dropout
from hf_trainpipe.errors import RecipeError

__all__ = ["checkpoint_layers"]


def checkpoint_layers(model: Any) -> None:
    """Let each layer of a model of transformers keep its input alone.

    Raises:
        RecipeError: the model's code does not support it.
    """
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    try:
        if not getattr(model, "supports_gradient_checkpointing", False):
            raise ValueError(f"{type(model).__name__} does not support it")
        enable({"use_reentrant": False, "context_fn": _same_masks})
    except ValueError as error:
        raise RecipeError(
            f"optim.checkpoint_layers: this model's layers cannot be computed again: {error}.",
            fix="Leave optim.checkpoint_layers at False; budget.micro_batch_tokens and optim.algorithm save memory, too.",
        ) from None


def _same_masks() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """What is open in a layer's first pass, and in its second: the second draws the masks of the first."""
    held: dict[str, Any] = {}

    @contextmanager
    def first() -> Iterator[None]:
        held.update(dropout.state())
        yield

    @contextmanager
    def again() -> Iterator[None]:
        now = dropout.state()
        dropout.restore(held)
        try:
            yield
        finally:
            dropout.restore(now)

    return first(), again()
