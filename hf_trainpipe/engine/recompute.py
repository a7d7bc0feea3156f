"""Activation checkpointing (gradient checkpointing) by layer: less memory, a third more compute.

torch restores its own random state for the second forward pass; the masks of :mod:`.dropout`, which have a generator of
their own, are restored here. The gradient is that of ordinary layers, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from hf_trainpipe.engine.cpu import dropout
from hf_trainpipe.errors import RecipeError


def checkpoint_layers(model: Any) -> None:
    """Keep only the input of each layer of a transformers model for the backward pass.

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
            fix="Leave optim.checkpoint_layers at False; budget.micro_batch_tokens and optim.algorithm save memory too.",
        ) from None


def _same_masks() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Contexts for a layer's forward pass and for its recomputation, which draws the same dropout masks."""
    saved: dict[str, Any] = {}

    @contextmanager
    def first() -> Iterator[None]:
        saved.update(dropout.state())
        yield

    @contextmanager
    def again() -> Iterator[None]:
        now = dropout.state()
        dropout.restore(saved)
        try:
            yield
        finally:
            dropout.restore(now)

    return first(), again()
