"""What a package multiplies in: fp32, or 16 bits where a person asks for it.

In 16 bits the weights of linear layers are kept in them, and products are made in them; norms and softmax stay in fp32, as in a
training with autocast, and embeddings too, but for those that are the weights of the head.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    import torch

PRECISIONS = ("fp32", "bf16", "fp16")
VARIABLE = "HF_TRAINPIPE_PRECISION"
"""Names the precision where the caller does not."""
_TYPES = {"bf16": "bfloat16", "fp16": "float16"}


def choose_precision(asked: str | None, *, backend: str) -> str:
    """What to multiply in: the caller's choice, else ``HF_TRAINPIPE_PRECISION``, else fp32.

    Raises:
        InputError: An unknown name, or 16 bits of a backend other than torch.
    """
    name = asked or os.environ.get(VARIABLE) or "fp32"
    where = "precision" if asked else VARIABLE
    if name not in PRECISIONS:
        raise InputError(f"{where}: expected {', '.join(PRECISIONS)}, found {name!r}.", fix="Choose one of them.")
    if name != "fp32" and backend != "torch":
        raise InputError(
            f"{where}: the backend {backend!r} has a precision of its own, found {name!r}.",
            fix="Take the backend torch, or leave the precision out.",
        )
    return name


def keep_in(model: torch.nn.Module, precision: str) -> None:
    """Keep the weights of linear layers in 16 bits, in place. The model then answers inside :func:`products` alone."""
    import torch
    from transformers.pytorch_utils import Conv1D

    dtype: torch.dtype = getattr(torch, _TYPES[precision])
    for module in model.modules():
        if isinstance(module, (torch.nn.Linear, Conv1D)):
            module.to(dtype)


@contextmanager
def products(precision: str, device: Any) -> Iterator[None]:
    """Matrices are multiplied in a precision while it is open, whatever the process around it has set."""
    import torch

    from .exact import exact_products

    with exact_products():
        if precision == "fp32":
            yield
        else:
            with torch.autocast(torch.device(device).type, dtype=getattr(torch, _TYPES[precision])):
                yield
