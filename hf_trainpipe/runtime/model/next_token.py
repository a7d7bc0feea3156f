"""The loss of the next token: the head on supervised positions alone, its logits never held whole.

The head of a large vocabulary makes most of the memory of a language model's step: [tokens, vocabulary] logits, and their
gradient. Here a chunk of positions at a time becomes logits, losses and gradients at once, in the forward pass; what
stays are the gradients of the hidden states and of the head's weight. The way is that of Liger's and of cut cross-entropy's
kernels (arXiv 2410.10989, 2411.09009), in plain torch.

Legend: B documents of a batch, L longest of them, S supervised positions, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F

from .inference import bare

IGNORED = -100
"""The label of a position that is not supervised."""

CHUNK_ELEMENTS = 1 << 24
"""Logits held at a time (64 MiB in fp32)."""

_RETURNED = "_hf_trainpipe_head_is_last"
"""Attribute of a model: whether what its head gives comes out of it as it is."""


def summed_loss(model: Any, inputs: Mapping[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """The loss of all supervised positions together; a scalar with a gradient.

    Args:
        model: A causal model, or another with a head over the vocabulary; bare or wrapped.
        inputs: What it is called with.
        labels: int64[B, L] what each position is to give (a causal model's are the ids one place on); :data:`IGNORED`
            where it is not supervised.
    """
    return _losses(model, inputs, labels).sum()


def token_losses(model: Any, inputs: Mapping[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """[B, L] the loss of each position, 0 where it is not supervised; without a gradient."""
    with torch.no_grad():
        losses_S = _losses(model, inputs, labels)
        return losses_S.new_zeros(labels.shape).masked_scatter(labels != IGNORED, losses_S)


def position_losses(model: Any, inputs: Mapping[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """[B, L] the loss of each position, 0 where it is not supervised; with a gradient of its own each."""
    losses_S = _losses(model, inputs, labels, each=True)
    return losses_S.new_zeros(labels.shape).masked_scatter(labels != IGNORED, losses_S)


def _losses(
    model: Any, inputs: Mapping[str, torch.Tensor], labels: torch.Tensor, *, each: bool = False
) -> torch.Tensor:
    """[S], or with a gradient their sum [1] unless ``each`` is asked for."""
    inner = bare(model)
    loss_of = position_by_position if each else chunked_losses
    is_supervised = labels != IGNORED
    targets_S = labels[is_supervised]
    if getattr(inner, _RETURNED, True):
        kept: list[torch.Tensor] = []

        def fused(head: Any, hidden: torch.Tensor) -> torch.Tensor:
            found = loss_of(hidden[is_supervised], head.weight, getattr(head, "bias", None), targets_S)
            kept.append(found.detach())
            return found.view(1, -1, 1)

        with _head(inner, fused):
            losses: torch.Tensor = model(**inputs, use_cache=False).logits.view(-1)
        if not hasattr(inner, _RETURNED):  # some scale or cap their logits behind the head
            setattr(inner, _RETURNED, torch.equal(losses.detach(), kept[0]))
        if getattr(inner, _RETURNED):
            return losses

    def selected(head: Any, hidden: torch.Tensor) -> torch.Tensor:
        return F.linear(hidden[is_supervised], head.weight, getattr(head, "bias", None))[None]

    with _head(inner, selected):
        logits_SV = model(**inputs, use_cache=False).logits[0].float()
    losses_S = F.cross_entropy(logits_SV, targets_S, reduction="none")
    return losses_S.sum()[None] if torch.is_grad_enabled() and not each else losses_S


@contextmanager
def _head(model: Any, forward: Any) -> Iterator[None]:
    """The head computes something else while this is open; inside the model, so that its wrappers see to the weights."""
    head = model.get_output_embeddings()
    before = head.__dict__.get("forward")
    head.forward = lambda hidden: forward(head, hidden)
    try:
        yield
    finally:
        if before is None:
            del head.forward
        else:
            head.forward = before


def chunked_losses(
    hidden_SH: torch.Tensor, weight_VH: torch.Tensor, bias_V: torch.Tensor | None, targets_S: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy of a linear head. With gradients enabled the sum [1], else [S] losses, in fp32."""
    if torch.is_grad_enabled():
        total: torch.Tensor = _Chunked.apply(hidden_SH, weight_VH, bias_V, targets_S)  # type: ignore[no-untyped-call]
        return total
    parts = [losses for losses, _, _ in _chunks(hidden_SH, weight_VH, bias_V, targets_S, gradients=False)]
    return torch.cat(parts) if parts else hidden_SH.new_zeros(0, dtype=torch.float32)


class _Chunked(torch.autograd.Function):
    """The sum of the losses. As it is a sum, the gradients of a chunk are known with its logits, but for one factor."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_SH: torch.Tensor,
        weight_VH: torch.Tensor,
        bias_V: torch.Tensor | None,
        targets_S: torch.Tensor,
    ) -> torch.Tensor:
        wants_hidden, wants_weight, wants_bias, _ = ctx.needs_input_grad
        grad_hidden = torch.empty_like(hidden_SH) if wants_hidden else None
        grad_weight = torch.zeros_like(weight_VH, dtype=torch.float32) if wants_weight else None
        grad_bias = torch.zeros_like(bias_V, dtype=torch.float32) if bias_V is not None and wants_bias else None
        total = hidden_SH.new_zeros(1, dtype=torch.float32)
        cast_VH = weight_VH.to(_product_type(hidden_SH))
        for losses, rows, grad_logits in _chunks(hidden_SH, weight_VH, bias_V, targets_S, gradients=True):
            total += losses.sum()
            if grad_bias is not None:
                grad_bias += grad_logits.sum(0)
            grad_logits = grad_logits.to(cast_VH.dtype)
            if grad_hidden is not None:
                grad_hidden[rows] = (grad_logits @ cast_VH).to(grad_hidden.dtype)
            if grad_weight is not None:
                _add_product(grad_weight, grad_logits, hidden_SH[rows])
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        ctx.types = (weight_VH.dtype, None if bias_V is None else bias_V.dtype)
        return total

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        hidden, weight, bias = ctx.saved_tensors
        of_weight, of_bias = ctx.types
        return (
            None if hidden is None else hidden * grad.to(hidden.dtype),
            None if weight is None else weight.mul_(grad).to(of_weight),
            None if bias is None else bias.mul_(grad).to(of_bias),
            None,
        )


def position_by_position(
    hidden_SH: torch.Tensor, weight_VH: torch.Tensor, bias_V: torch.Tensor | None, targets_S: torch.Tensor
) -> torch.Tensor:
    """[S] cross-entropy of a linear head, in fp32, each with a gradient of its own.

    What a loss makes of each position is known only behind the forward pass, so the backward pass computes the logits of a chunk
    once more.
    """
    found: torch.Tensor = _Each.apply(hidden_SH, weight_VH, bias_V, targets_S)  # type: ignore[no-untyped-call]
    return found


class _Each(torch.autograd.Function):
    """Neither logits nor their gradient are held for longer than a chunk."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_SH: torch.Tensor,
        weight_VH: torch.Tensor,
        bias_V: torch.Tensor | None,
        targets_S: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(hidden_SH, weight_VH, bias_V, targets_S)
        ctx.kind = _product_type(hidden_SH)
        parts = [losses for losses, _, _ in _chunks(hidden_SH, weight_VH, bias_V, targets_S, gradients=False)]
        return torch.cat(parts) if parts else hidden_SH.new_zeros(0, dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, grad_S: torch.Tensor) -> Any:
        hidden, weight, bias, targets = ctx.saved_tensors
        wants_hidden, wants_weight, wants_bias, _ = ctx.needs_input_grad
        grad_hidden = torch.zeros_like(hidden) if wants_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if wants_bias else None
        cast = weight.to(ctx.kind)
        for _, rows, grad_logits in _chunks(hidden, weight, bias, targets, gradients=True, kind=ctx.kind):
            grad_logits.mul_(grad_S[rows, None])
            if grad_bias is not None:
                grad_bias += grad_logits.sum(0)
            grad_logits = grad_logits.to(cast.dtype)
            if grad_hidden is not None:
                grad_hidden[rows] = (grad_logits @ cast).to(grad_hidden.dtype)
            if grad_weight is not None:
                _add_product(grad_weight, grad_logits, hidden[rows])
        return (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None else grad_bias.to(bias.dtype),
            None,
        )


def _add_product(total_VH: torch.Tensor, grad_logits: torch.Tensor, hidden: torch.Tensor) -> None:
    """Add the gradient of a head's weight by some rows, in fp32."""
    if grad_logits.dtype == torch.float32:
        total_VH.addmm_(grad_logits.t(), hidden.float())
    else:
        total_VH += grad_logits.t() @ hidden.to(grad_logits.dtype)


def _product_type(hidden: torch.Tensor) -> torch.dtype:
    """What matrices are multiplied in: autocast's type, where it is on."""
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype


def _chunks(
    hidden_SH: torch.Tensor,
    weight_VH: torch.Tensor,
    bias_V: torch.Tensor | None,
    targets_S: torch.Tensor,
    *,
    gradients: bool,
    kind: torch.dtype | None = None,
) -> Iterator[tuple[torch.Tensor, slice, torch.Tensor]]:
    """Losses [s] of some rows, these rows, and (with ``gradients``) the gradient of their logits [s, V]; in fp32.

    Args:
        kind: What matrices are multiplied in; None: as it is here.
    """
    size = max(16, CHUNK_ELEMENTS // weight_VH.shape[0])
    kind = kind or _product_type(hidden_SH)
    weight, bias = weight_VH.to(kind), None if bias_V is None else bias_V.to(kind)
    for begin in range(0, len(targets_S), size):
        rows = slice(begin, begin + size)
        with torch.autocast(hidden_SH.device.type, enabled=False):
            logits = F.linear(hidden_SH[rows].to(kind), weight, bias).float()
        targets = targets_S[rows, None]
        log_sum = logits.logsumexp(-1, keepdim=True)
        losses = (log_sum - logits.gather(-1, targets))[:, 0]
        if gradients:
            logits.sub_(log_sum).exp_()
            logits.scatter_add_(-1, targets, logits.new_full(targets.shape, -1.0))
        yield losses, rows, logits
