"""Attention kernels as operators of torch: a compiler leaves them whole inside a compiled layer, forward and backward.

Without them it would cut each layer in two at its attention. They call the functions of :mod:`.kernels` that eager layers
call, so dropout is drawn from the default generator of the GPU, and gradients are added in a fixed order, as there.
Eager layers do not go through them, since torch takes some 0.1 ms of the host for each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from hf_trainpipe.runtime.model.kernels import (
    Call,
    efficient_backward,
    efficient_forward,
    flash_backward,
    flash_forward,
)

_DRAWS = torch.Tag.nondeterministic_seeded


def _flash(call: Call) -> torch.Tensor:
    found: torch.Tensor = flash(*call.tensors, call.layout.longest, call.dropout, call.scale, *call.sides)[0]
    return found


def _efficient(call: Call) -> torch.Tensor:
    found: torch.Tensor = efficient(*call.tensors, call.layout.longest, call.dropout, call.scale)[0]
    return found


BY_NAME: dict[str, Callable[[Call], torch.Tensor]] = {"torch flash": _flash, "torch memory-efficient": _efficient}
"""By the names of the kernels. flash-attn has operators of its own; the padded way is made of torch's."""

_FOUR = "(Tensor, Tensor, Tensor, Tensor)"
_QKV = "Tensor query, Tensor key, Tensor value, Tensor starts"
_KEPT = f"Tensor grad, {_QKV}, Tensor out, Tensor logsumexp, Tensor seed, Tensor offset"
_SETTINGS = "SymInt longest, float dropout, float scale"


def _operator(name: str, function: Callable[..., Any], schema: str, fake: Callable[..., Any]) -> Any:
    operator = torch.library.custom_op(
        f"hf_trainpipe::{name}", function, mutates_args=(), device_types="cuda", schema=schema, tags=[_DRAWS]
    )
    operator.register_fake(fake)
    return operator


def _with_gradient(operator: Any, backward: Any) -> None:
    """Let autograd call ``backward`` with the gradient, the tensors that were kept, and the settings."""

    def keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:4], *output)
        ctx.settings = inputs[4:]

    def gradient(ctx: Any, grad: torch.Tensor | None, *_: Any) -> tuple[torch.Tensor | None, ...]:
        rest = (None, *(None for _ in ctx.settings))  # of the starts and the settings
        grads = (None,) * 3 if grad is None else backward(grad, *ctx.saved_tensors, *ctx.settings)
        return (*grads, *rest)

    operator.register_autograd(gradient, setup_context=keep)


def _efficient_forward(*arguments: Any) -> tuple[torch.Tensor, ...]:
    return efficient_forward(*arguments, trains=True)


def _like_inputs(grad: torch.Tensor, *tensors: Any) -> tuple[torch.Tensor, ...]:
    return tuple(torch.empty_like(tensor) for tensor in tensors[:3])


_SIDES = ", SymInt left, SymInt right"
flash = _operator("flash", flash_forward, f"({_QKV}, {_SETTINGS}{_SIDES}) -> {_FOUR}", flash_forward)
_flash_backward = _operator(
    "flash_backward", flash_backward, f"({_KEPT}, {_SETTINGS}{_SIDES}) -> (Tensor, Tensor, Tensor)", _like_inputs
)
efficient = _operator("efficient", _efficient_forward, f"({_QKV}, {_SETTINGS}) -> {_FOUR}", _efficient_forward)
_efficient_backward = _operator(
    "efficient_backward", efficient_backward, f"({_KEPT}, {_SETTINGS}) -> (Tensor, Tensor, Tensor)", _like_inputs
)
_with_gradient(flash, _flash_backward)
_with_gradient(efficient, _efficient_backward)
