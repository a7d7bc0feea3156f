"""Gradients of embeddings on a GPU, added up in the same order each time, so that a resumed run repeats them.

torch adds the rows of one id by several blocks at once where there are many: token types and positions of a large
micro-batch then have other last bits in each pass (seen with torch 2.11 on an H200, above 3,072 ids).
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import torch

from hf_trainpipe.runtime.model.kernels import in_fixed_order

FEW_IDS = 3072
"""Up to here torch's kernel adds one row after the other."""
FEW_ROWS = 1024
"""Tables up to here are multiplied with; larger ones are sorted."""
_TRIED = 8192


def add_in_order(model: torch.nn.Module) -> None:
    """Replace the gradient of a model's embeddings, in place."""
    for module in model.modules():
        if type(module) is not torch.nn.Embedding:
            continue
        plain = not (module.sparse or module.scale_grad_by_freq) and module.max_norm is None
        if plain:
            module.forward = partial(_look_up, module)  # type: ignore[method-assign]


def _look_up(module: torch.nn.Embedding, ids: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = _Lookup.apply(module.weight, ids, module.padding_idx)  # type: ignore[no-untyped-call]
    return found


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, ids: torch.Tensor, padding: int | None) -> torch.Tensor:
        ctx.save_for_backward(ids)
        ctx.table = (weight.shape[0], -1 if padding is None else padding)
        return torch.nn.functional.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        (ids,), (rows, padding) = ctx.saved_tensors, ctx.table
        summed = gradient(grad.reshape(-1, grad.shape[-1]), ids.reshape(-1), rows, padding)
        return summed.to(grad.dtype), None, None


def gradient(grad: torch.Tensor, ids: torch.Tensor, rows: int, padding: int) -> torch.Tensor:
    """The gradient [rows, H] of a table from those of what was looked up in it, in their type or in fp32.

    Args:
        grad: [T, H].
        ids: int64[T].
        padding: The row that gets none; -1: there is none.
    """
    if len(ids) > FEW_IDS and rows <= FEW_ROWS:
        is_row = ids[None, :] == torch.arange(rows, device=ids.device)[:, None]
        if padding >= 0:
            is_row[padding] = False
        return is_row.to(grad.dtype) @ grad
    grad = grad.float()  # thousands of rows of one id, added one by one in 16 bits, would soon change their sum no more
    if len(ids) <= FEW_IDS or _repeats_itself(ids.device):
        return _by_torch(grad, ids, rows, padding)
    return _by_sorting(grad, ids, rows, padding)


def _by_torch(grad: torch.Tensor, ids: torch.Tensor, rows: int, padding: int) -> torch.Tensor:
    with in_fixed_order():
        found: torch.Tensor = torch.ops.aten.embedding_dense_backward(grad, ids, rows, padding, False)
    return found


def _by_sorting(grad: torch.Tensor, ids: torch.Tensor, rows: int, padding: int) -> torch.Tensor:
    found = grad.new_zeros(rows, grad.shape[-1])
    with in_fixed_order():
        found.index_put_((ids,), grad, accumulate=True)
    if padding >= 0:
        found[padding].zero_()
    return found


@cache
def _repeats_itself(device: torch.device) -> bool:
    """Whether torch's kernel gives the same bits each time for one id alone. Takes some milliseconds, once."""
    ids = torch.full((_TRIED,), 7, device=device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        grad = torch.randn(_TRIED, 64, device=device)
    try:
        first, *others = (_by_torch(grad, ids, 2 * FEW_ROWS, -1) for _ in range(4))
    except RuntimeError:  # there is no such way in this build
        return False
    return all(torch.equal(first, again) for again in others)
