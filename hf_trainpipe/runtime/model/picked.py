"""A head on some tokens only: what a base model gives is cut to their rows before the head sees it.

Legend: B features of a batch, L the longest of them, R chosen tokens, H hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import local
from typing import Any

import torch

from .inference import bare

_HOOKED = "_hf_trainpipe_picked"
"""Attribute of a base model that has the hook."""

_CHOSEN = local()


@contextmanager
def picked(model: torch.nn.Module, places: torch.Tensor) -> Iterator[None]:
    """While this is open, in this thread: the head reads tokens as one row [1, R, H], and gives one.

    Args:
        model: A model of transformers whose head looks at each token alone, bare or wrapped.
        places: int64[R] of the batch, flattened to [B * L].
    """
    inner: Any = bare(model)
    base = getattr(inner, inner.base_model_prefix, inner)
    if not hasattr(base, _HOOKED):
        base.register_forward_hook(_pick)
        setattr(base, _HOOKED, True)
    _CHOSEN.places = places
    try:
        yield
    finally:
        _CHOSEN.places = None


def _pick(_: Any, args: Any, output: Any) -> Any:
    places = getattr(_CHOSEN, "places", None)
    if places is None:
        return output
    hidden = output["last_hidden_state"]
    output["last_hidden_state"] = hidden.reshape(-1, hidden.shape[-1]).index_select(0, places)[None]
    return output
