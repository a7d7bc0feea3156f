"""Attention over flat tokens on a GPU: the kernels, and which of them runs.

Before a kernel is used for a type, a size of heads, a window and dropout, it computes a small batch, forward and
backward, and is compared with fp32: one that this device, this build of torch or this version of flash-attn does not
have, or has with other arguments, is passed over for the next one.

Legend: T tokens of a batch, h heads, d size of a head, B features, L the longest of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from .exact import exact_products
from .layout import Layout

TOLERANCES = {torch.float16: 2e-2, torch.bfloat16: 5e-2, torch.float32: 1e-3}
"""Largest difference from fp32 over the largest value; a feature that sees another one gives some tenths. In fp32 products
may be in TF32, where a person asked for it."""

_WINDOW = 9
"""Of the small batch, where one is asked for."""


@dataclass(frozen=True)
class Call:
    """What attention is asked for: every feature looks at itself alone."""

    query: torch.Tensor
    """[T, h, d], like ``key`` and ``value``."""
    key: torch.Tensor
    value: torch.Tensor
    layout: Layout
    scale: float
    """What products are multiplied by."""
    dropout: float
    window: int | None
    """A token sees those nearer than this many places; None: all of its feature."""

    @property
    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Query, key and value, and int32[B + 1] where features start."""
        return self.query, self.key, self.value, self.layout.starts

    @property
    def sides(self) -> tuple[int, int]:
        """How many places a token sees before and behind it; -1: all."""
        return (-1, -1) if self.window is None else (self.window - 1, self.window - 1)


def flash_attn(call: Call) -> torch.Tensor:
    """The package flash-attn."""
    from flash_attn import flash_attn_varlen_func

    starts, longest = call.layout.starts, call.layout.longest
    found: torch.Tensor = flash_attn_varlen_func(
        call.query, call.key, call.value, starts, starts, longest, longest,
        dropout_p=call.dropout, softmax_scale=call.scale, window_size=call.sides, deterministic=True,
    )  # fmt: skip
    return found


def torch_flash(call: Call) -> torch.Tensor:
    """torch's own build of that kernel; ``torch.nn.attention.varlen`` calls it too, without dropout."""
    found: torch.Tensor = _TorchFlash.apply(*call.tensors, call.layout.longest, call.dropout, call.scale, *call.sides)  # type: ignore[no-untyped-call]
    return found


def flash_forward(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, starts: torch.Tensor,
    longest: int, dropout: float, scale: float, left: int, right: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """[T, h, d], and what :func:`flash_backward` needs: the logarithms of sums, and where the dropout's numbers begin."""
    out, logsumexp, seed, offset, _ = torch.ops.aten._flash_attention_forward(
        query, key, value, starts, starts, longest, longest, dropout, False, False,
        scale=scale, window_size_left=left, window_size_right=right,
    )  # fmt: skip
    return out, logsumexp, seed, offset


def flash_backward(
    grad: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, starts: torch.Tensor,
    out: torch.Tensor, logsumexp: torch.Tensor, seed: torch.Tensor, offset: torch.Tensor,
    longest: int, dropout: float, scale: float, left: int, right: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """Gradients of query, key and value, in a fixed order, so that a resumed run repeats it."""
    with in_fixed_order():
        grads: tuple[torch.Tensor, torch.Tensor, torch.Tensor] = torch.ops.aten._flash_attention_backward(
            grad.contiguous(), query, key, value, out, logsumexp, starts, starts, longest, longest,
            dropout, False, seed, offset, scale=scale, window_size_left=left, window_size_right=right,
        )  # fmt: skip
    return grads


class _TorchFlash(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, starts: torch.Tensor, *settings: Any
    ) -> torch.Tensor:
        out, *kept = flash_forward(query, key, value, starts, *settings)
        ctx.save_for_backward(query, key, value, starts, out, *kept)
        ctx.settings = settings
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        grads = flash_backward(grad, *ctx.saved_tensors, *ctx.settings)
        return (*grads, None, *(None for _ in ctx.settings))


@contextmanager
def in_fixed_order() -> Iterator[None]:
    """Kernels that are called here add in the same order each time."""
    enabled, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    fills, memory.fill_uninitialized_memory = memory.fill_uninitialized_memory, False
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        memory.fill_uninitialized_memory = fills
        torch.use_deterministic_algorithms(enabled, warn_only=warns)


def torch_efficient(call: Call) -> torch.Tensor:
    """torch's memory-efficient kernel, which takes fp32 too; not with a window."""
    found: torch.Tensor = _TorchEfficient.apply(*call.tensors, call.layout.longest, call.dropout, call.scale)  # type: ignore[no-untyped-call]
    return found


def efficient_forward(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, starts: torch.Tensor,
    longest: int, dropout: float, scale: float, *, trains: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """[T, h, d], and what :func:`efficient_backward` needs, where ``trains``."""
    out, logsumexp, seed, offset, *_ = torch.ops.aten._efficient_attention_forward(
        *(tensor.unsqueeze(0) for tensor in (query, key, value)), None, starts, starts, longest, longest,
        dropout, 0, trains, scale=scale,
    )  # fmt: skip
    return out.squeeze(0), logsumexp, seed, offset


def efficient_backward(
    grad: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, starts: torch.Tensor,
    out: torch.Tensor, logsumexp: torch.Tensor, seed: torch.Tensor, offset: torch.Tensor,
    longest: int, dropout: float, scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """Gradients of query, key and value, over all keys at once, not in splits that are added as they come."""
    batch = (tensor.unsqueeze(0) for tensor in (grad.contiguous(), query, key, value))
    grads = torch.ops.aten._efficient_attention_backward(
        *batch, None, out.unsqueeze(0), starts, starts, longest, longest,
        logsumexp, dropout, seed, offset, 0, False, scale=scale, num_splits_key=1,
    )  # fmt: skip
    of_query, of_key, of_value = (one.squeeze(0) for one in grads[:3])
    return of_query, of_key, of_value


class _TorchEfficient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, starts: torch.Tensor, *settings: Any
    ) -> torch.Tensor:
        out, *kept = efficient_forward(query, key, value, starts, *settings, trains=any(ctx.needs_input_grad))
        ctx.save_for_backward(query, key, value, starts, out, *kept)
        ctx.settings = settings
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        grads = efficient_backward(grad, *ctx.saved_tensors, *ctx.settings)
        return (*grads, None, *(None for _ in ctx.settings))


def band(length: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    """bool[length, length]: which tokens of a feature see each other; None: all."""
    if window is None or length <= window:
        return None
    places = torch.arange(length, device=device)
    return (places[:, None] - places[None, :]).abs() < window


def padded_sdpa(call: Call) -> torch.Tensor:
    """Padded for the attention alone: one call of torch's sdpa with a mask, on any device and in any type."""
    layout = call.layout
    heads, size = call.query.shape[1:]
    query, key, value = (
        layout.restore(tensor.flatten(1)[None]).view(-1, layout.width, heads, size).transpose(1, 2)  # [B, h, L, d]
        for tensor in (call.query, call.key, call.value)
    )
    is_token_BL = layout.restore(torch.ones_like(call.query[None, :, 0, :1], dtype=torch.bool))[..., 0]
    sees = is_token_BL[:, None, None, :]
    if (near := band(layout.width, call.window, query.device)) is not None:
        sees = sees & near
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=sees, dropout_p=call.dropout, scale=call.scale)
    return out.transpose(1, 2).reshape(-1, heads, size).index_select(0, layout.source_T)


KERNELS: dict[str, Callable[[Call], torch.Tensor]] = {
    "flash-attn": flash_attn,
    "torch flash": torch_flash,
    "torch memory-efficient": torch_efficient,
    "padded sdpa": padded_sdpa,
}
"""By what the plan calls them, the fastest first. Each gives [T, h, d]."""


operators: dict[str, Callable[[Call], torch.Tensor]] = {}
"""Where training puts kernels as operators that a compiler leaves whole, by the same names. It looks inside the others."""


def candidates(dtype: torch.dtype, size: int, *, slides: bool) -> list[str]:
    """Kernels that may take heads of ``size`` in a type, the fastest first; ``slides``: with a window."""
    half = dtype in (torch.float16, torch.bfloat16)
    refused = set()
    if not half or size % 8 or size > 256:
        refused |= {"flash-attn", "torch flash"}
    if slides or size % (8 if half else 4):
        refused.add("torch memory-efficient")
    return [name for name in KERNELS if name not in refused]


def attend_by_kernel(call: Call) -> torch.Tensor:
    """Attention [T, h, d] by the first kernel that is right for such a call."""
    # Branches, since a compiler makes constants of conditions there alone.
    slides = True if call.window is not None and call.layout.longest > call.window else False  # noqa: SIM210
    drops = True if call.dropout > 0.0 else False  # noqa: SIM210
    query, key, value = (  # parts of one product are read where they are
        tensor if tensor.stride(-1) == 1 else tensor.contiguous() for tensor in (call.query, call.key, call.value)
    )
    name = choose(query.device, query.dtype, query.shape[-1], slides, drops)
    kernel = operators[name] if torch.compiler.is_compiling() and name in operators else KERNELS[name]
    return kernel(Call(query, key, value, call.layout, call.scale, call.dropout, call.window if slides else None))


_CHOSEN: dict[tuple[torch.device, torch.dtype, int, bool, bool], str] = {}


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def choose(device: torch.device, dtype: torch.dtype, size: int, slides: bool, drops: bool) -> str:
    """The first of :func:`candidates` that :func:`is_right` here, else the last one. Takes some milliseconds, once."""
    key = (device, dtype, size, slides, drops)
    if key not in _CHOSEN:
        *names, last = candidates(dtype, size, slides=slides)
        _CHOSEN[key] = next((name for name in names if is_right(KERNELS[name], *key)), last)
    return _CHOSEN[key]


def chosen(dtype: torch.dtype) -> list[str]:
    """What :func:`choose` gave in this process for a type, the fastest first."""
    found = {name for (_, kind, *_), name in _CHOSEN.items() if kind == dtype}
    return [name for name in KERNELS if name in found]


def is_right(
    kernel: Callable[[Call], torch.Tensor],
    device: torch.device,
    dtype: torch.dtype,
    size: int,
    slides: bool,
    drops: bool,
) -> bool:
    """Whether a kernel gives the outputs and gradients of fp32 attention, and with dropout the same for the same seed."""
    from .unpad import prove

    def outcome(way: Callable[[Call], torch.Tensor], kind: torch.dtype, dropout: float) -> list[torch.Tensor]:
        return try_out(way, device, kind, size, window=_WINDOW if slides else None, dropout=dropout)

    forked = torch.random.fork_rng([device] if device.type == "cuda" else [])
    with forked, torch.inference_mode(False), torch.enable_grad():  # a package may ask first
        with exact_products():
            expected = outcome(padded_sdpa, torch.float32, 0.0)
        try:
            found = outcome(kernel, dtype, 0.0)
            if prove(expected, found) > TOLERANCES.get(dtype, 0.0):
                return False
            dropped = [outcome(kernel, dtype, 0.5)[0] for _ in range(2)] if drops else []
        except (RuntimeError, TypeError, ImportError):  # not here, or with other arguments
            return False
    return not drops or (torch.equal(*dropped) and not torch.equal(dropped[0], found[0]))


def try_out(
    kernel: Callable[[Call], torch.Tensor],
    device: torch.device,
    dtype: torch.dtype,
    size: int,
    *,
    window: int | None = None,
    dropout: float = 0.0,
    lengths: Sequence[int] = (70, 33, 17, 16, 1),
) -> list[torch.Tensor]:
    """Output and gradients of query, key and value for features of these lengths, in fp32; the same numbers each time.

    Args:
        size: Of the heads; there are two.
    """
    layout = Layout.of(lengths, max(lengths), device)
    torch.manual_seed(5)
    query, key, value = (
        torch.randn(sum(lengths), 2, size).to(device, dtype).requires_grad_() for _ in ("query", "key", "value")
    )
    torch.manual_seed(6)
    out = kernel(Call(query, key, value, layout, size**-0.5, dropout, window))
    weights = torch.linspace(-1.0, 1.0, out.numel(), device=device).view(out.shape)
    gradients = torch.autograd.grad(out, (query, key, value), weights.to(dtype))
    return [out.detach().float(), *(gradient.float() for gradient in gradients)]
