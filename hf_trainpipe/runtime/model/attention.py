"""Attention over flat tokens: every feature looks at itself alone.

On a GPU by kernels for sequences of varying length (:mod:`.kernels`); on a CPU by groups of features of one length,
which are dense blocks without padding.

Legend: T tokens of a batch, h heads, d size of a head, n tokens of a feature, b features of n tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from ..tokens.ragged import ranges
from .exact import exact_products
from .kernels import Call, attend_by_kernel, band
from .layout import KnownLengths, Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


draw_mask: Callable[[int, float, torch.dtype], torch.Tensor] | None = None
"""Where training puts a faster source of dropout masks on a CPU: (elements, rate, dtype) -> 0 or 1 / (1 - rate)."""


_hidden = False
"""Whether compilers are kept out of :func:`attend` in this process."""


def register(name: str, *, hidden: bool | None = None) -> None:
    """Make :func:`attend` known to transformers, with the masks of sdpa for batches that are not flat.

    Args:
        hidden: Whether compilers are not to look inside it; None: as it was, since a package may be loaded beside a
            training whose layers are compiled.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    global _hidden
    _hidden = _hidden if hidden is None else hidden
    function = torch.compiler.disable(attend) if _hidden else attend  # type: ignore[no-untyped-call]
    AttentionInterface.register(name, function)
    AttentionMaskInterface.register(name, sdpa_mask)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    layout: Layout | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """An attention function of transformers.

    Args:
        query: [1, h, T, d], like ``key`` and ``value``; [B, h, L, d] without a layout.
        attention_mask: Without a layout, as sdpa takes it; else unused.
        scaling: What products are multiplied by; None: 1 / sqrt(d).
        sliding_window: A token sees those nearer than this many places, where it is given.
        layout: Where each feature of the flat tokens is; None: an ordinary padded batch.

    Returns:
        [1, T, h, d] (or [B, L, h, d]), and no weights.
    """
    if layout is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        out, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=False, **kwargs
        )
        return out, None
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    query, key, value = (tensor[0].transpose(0, 1) for tensor in (query, key, value))  # [T, h, d]
    if query.is_cuda or not isinstance(layout, KnownLengths):
        return attend_by_kernel(Call(query, key, value, layout, scale, dropout, sliding_window))[None], None
    flat = [tensor.float() for tensor in (query, key, value)]
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in flat):
        out_T: torch.Tensor = _Grouped.apply(*flat, layout, scale, dropout, sliding_window)  # type: ignore[no-untyped-call]
    else:
        with exact_products():  # for blocks this small, converting the operands to bf16 costs more than it saves
            out_T = _by_views(flat, layout, scale, dropout, sliding_window)
    return out_T[None].to(value.dtype), None


def _by_views(
    flat: list[torch.Tensor], layout: KnownLengths, scale: float, dropout: float, window: int | None
) -> torch.Tensor:
    """Group by group with torch's fused kernel, on views; [T, h, d]. Autograd goes through it, too."""
    parts, begin = [], 0
    for length, count in layout.groups:
        end = begin + length * count
        query, key, value = (t[begin:end].reshape(count, length, *t.shape[1:]).transpose(1, 2) for t in flat)
        near = band(length, window, query.device)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=near, dropout_p=dropout, scale=scale)
        parts.append(out.transpose(1, 2).flatten(0, 1))
        begin = end
    return torch.cat(parts)


def _blocks(layout: KnownLengths, heads: int) -> tuple[torch.Tensor, torch.Tensor]:
    """int64[T * h] twice: rows of [T, h] in the order of the groups' [b, h, n] blocks, and the way back."""
    known = layout.__dict__.setdefault("_blocks", {})
    if heads not in known:
        counts = np.asarray([count for _, count in layout.groups])
        sizes = np.repeat(np.asarray([length for length, _ in layout.groups]), counts)  # [B] tokens of each feature
        begins = np.cumsum(sizes) - sizes
        # One run of n rows for each (feature, head): token-major rows are h apart.
        runs = np.repeat(sizes, heads)
        first = (begins[:, None] * heads + np.arange(heads)[None, :]).reshape(-1)
        order = np.repeat(first, runs) + ranges(np.zeros(len(runs), dtype=np.int64), runs) * heads
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        known[heads] = tuple(torch.from_numpy(array).to(layout.device) for array in (order, back))
    pair: tuple[torch.Tensor, torch.Tensor] = known[heads]
    return pair


class _Grouped(torch.autograd.Function):
    """Attention of all groups as one node of the graph: one gather before them, one after, dropout drawn at once."""

    @staticmethod
    @exact_products()
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        layout: KnownLengths,
        scale: float,
        dropout: float,
        window: int | None,
    ) -> torch.Tensor:
        tokens, heads, size = query.shape
        order, back = _blocks(layout, heads)
        rows = [t.reshape(tokens * heads, size).index_select(0, order) for t in (query, key, value)]
        area = heads * sum(count * length * length for length, count in layout.groups)
        weights = query.new_empty(area)
        out = query.new_empty(tokens * heads, size)
        places = list(_places(layout, heads))
        for (b, n), (row, row_end), (cell, cell_end) in places:
            q, k = (t[row:row_end].view(b, n, size) for t in rows[:2])
            block = weights[cell:cell_end].view(b, n, n)
            scores = torch.baddbmm(block, q, k.transpose(1, 2), beta=0, alpha=scale)
            near = band(n, window, scores.device)
            if near is not None:
                scores.masked_fill_(~near, -torch.inf)
            torch.softmax(scores, -1, out=block)
        mask, kept = None, weights
        if dropout > 0.0:
            mask = _draw(area, dropout, weights)
            kept = weights * mask
        for (b, n), (row, row_end), (cell, cell_end) in places:
            v, o = (t[row:row_end].view(b, n, size) for t in (rows[2], out))
            torch.bmm(kept[cell:cell_end].view(b, n, n), v, out=o)
        ctx.save_for_backward(*rows, weights, kept, mask)
        ctx.settings = (layout, scale)
        return out.index_select(0, back).view(tokens, heads, size)

    @staticmethod
    @exact_products()
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        query, key, value, weights, kept, mask = ctx.saved_tensors
        layout, scale = ctx.settings
        tokens, heads, size = grad.shape
        order, back = _blocks(layout, heads)
        grad = grad.reshape(tokens * heads, size).index_select(0, order)
        grad_weights = torch.empty_like(weights)
        grads = [torch.empty_like(grad) for _ in range(3)]
        places = list(_places(layout, heads))
        for (b, n), (row, row_end), (cell, cell_end) in places:
            g, v, into = (t[row:row_end].view(b, n, size) for t in (grad, value, grads[2]))
            torch.bmm(kept[cell:cell_end].view(b, n, n).transpose(1, 2), g, out=into)
            torch.bmm(g, v.transpose(1, 2), out=grad_weights[cell:cell_end].view(b, n, n))
        if mask is not None:
            grad_weights.mul_(mask)
        for (b, n), (row, row_end), (cell, cell_end) in places:
            block = torch._softmax_backward_data(
                grad_weights[cell:cell_end].view(b, n, n), weights[cell:cell_end].view(b, n, n), -1, weights.dtype
            )
            q, k, grad_q, grad_k = (t[row:row_end].view(b, n, size) for t in (query, key, grads[0], grads[1]))
            torch.baddbmm(grad_q, block, k, beta=0, alpha=scale, out=grad_q)
            torch.baddbmm(grad_k, block.transpose(1, 2), q, beta=0, alpha=scale, out=grad_k)
        found = [t.index_select(0, back).view(tokens, heads, size) for t in grads]
        return (*found, None, None, None, None)


def _places(layout: KnownLengths, heads: int) -> Iterator[tuple[tuple[int, int], tuple[int, int], tuple[int, int]]]:
    """For each group: (features x heads, tokens), its rows, its cells of attention weights."""
    row = cell = 0
    for length, count in layout.groups:
        b = count * heads
        yield (b, length), (row, row + b * length), (cell, cell + b * length * length)
        row, cell = row + b * length, cell + b * length * length


def _draw(count: int, rate: float, like: torch.Tensor) -> torch.Tensor:
    """[count]: 0 where a weight is dropped, else 1 / (1 - rate)."""
    if draw_mask is not None and like.device.type == "cpu":
        return draw_mask(count, rate, like.dtype)
    return torch.empty(count, dtype=like.dtype, device=like.device).bernoulli_(1.0 - rate).div_(1.0 - rate)
