"""A frozen base in few bits: linear layers that hold their weights as bitsandbytes quantises them, and multiply in full precision.

bitsandbytes' own layers are not used: that of 8 bits rounds what it reads too, by the largest numbers of the batch, so that a
gradient would depend on how a step is cut into micro-batches; and both are loaded by ways of their own. Here a weight is what
transformers' ``BitsAndBytesConfig`` makes of it, in 4 bits NF4 (https://arxiv.org/abs/2305.14314), in 8 bits a scale for each row
(https://arxiv.org/abs/2208.07339), and nothing else is rounded. So a model with adapters and the dequantised one into which they are merged
answer alike.

Weights are quantised on the CPU, whatever the device: the same bits everywhere.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from hf_trainpipe.errors import MissingExtra, RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterable

_BLOCK = 64
"""Weights with a scale of their own, in 4 bits."""
_BASE = "quantised_base"
"""Attribute of a model whose base is in few bits."""


@dataclass(frozen=True)
class Base:
    """What is known of a base in few bits."""

    bits: int
    digest: str
    """sha256 of the quantised weights: no checkpoint holds them."""


def _functional() -> Any:
    """The functions of the library.

    Raises:
        MissingExtra: it is not installed.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of a kernel that is not needed
    try:
        import bitsandbytes.functional
    except ImportError as error:
        raise MissingExtra(
            f"model.lora.base_bits needs bitsandbytes: {error}.",
            fix="pip install 'hf-trainpipe[qlora]'; or leave base_bits out, which keeps the base in fp32.",
        ) from None
    return bitsandbytes.functional


class QuantisedLinear(torch.nn.Linear):
    """A frozen linear layer whose weight [out, in] is in 4 or 8 bits, and is dequantised whenever it is used.

    Args:
        linear: Its weight on the CPU.
    """

    def __init__(self, linear: torch.nn.Linear, bits: int) -> None:
        torch.nn.Module.__init__(self)
        self.in_features, self.out_features, self.bits = linear.in_features, linear.out_features, bits
        weight = linear.weight.detach()
        if bits == 4:
            codes, state = _functional().quantize_4bit(weight, blocksize=_BLOCK, quant_type="nf4")
            scales = state.absmax
        else:
            codes, scales, _ = _functional().int8_vectorwise_quant(weight.half())
        self.codes = torch.nn.Parameter(codes, requires_grad=False)
        self.scales = torch.nn.Parameter(scales, requires_grad=False)
        self.register_parameter("bias", linear.bias)

    @property
    def weight(self) -> torch.Tensor:  # type: ignore[override]
        """[out, in] in fp32, made anew."""
        found: torch.Tensor
        if self.bits == 4:
            shape = self.out_features, self.in_features
            # As rows of a block each: on a CPU bitsandbytes 0.50.2 takes scales of other blocks where a row holds no whole number.
            rows = shape if self.out_features * self.in_features % _BLOCK else (self.scales.numel(), _BLOCK)
            by_blocks = torch.ops.bitsandbytes.dequantize_4bit
            found = by_blocks(self.codes, self.scales, _BLOCK, "nf4", rows, torch.float32).view(shape)
        else:
            found = _functional().int8_vectorwise_dequant(self.codes, self.scales)
        return found

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = _Product.apply(input, self)  # type: ignore[no-untyped-call]
        return found

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, bits={self.bits}"


class _Product(torch.autograd.Function):
    """``x W^T + b``; the backward pass dequantises again, since a kept weight would take the memory that was saved."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: QuantisedLinear) -> torch.Tensor:
        ctx.layer, ctx.dtype = layer, x.dtype
        return functional.linear(x, layer.weight, layer.bias)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return (gradient @ ctx.layer.weight.to(gradient.dtype)).to(ctx.dtype), None


def check(model: torch.nn.Module, names: Iterable[str], bits: int) -> int:
    """How many weights the linear layers have.

    Raises:
        MissingExtra: bitsandbytes is not installed.
        RecipeError: there is no such layer.
    """
    _functional()
    layers = [layer for layer in map(model.get_submodule, names) if isinstance(layer, torch.nn.Linear)]
    if not layers:
        raise RecipeError(
            f"model.lora.base_bits: {type(model).__name__} has no linear layers (torch.nn.Linear) besides its head, which alone "
            f"can be held in {bits} bits.",
            fix="Leave model.lora.base_bits out: the base stays in fp32.",
        )
    return sum(layer.in_features * layer.out_features for layer in layers)


def quantise(model: torch.nn.Module, names: Iterable[str], bits: int) -> float:
    """Put the linear layers of a frozen model on the CPU into few bits, in place.

    Returns:
        How far the weights are from what they were: the root of the mean squared error, as a share of the root mean square.
    """
    digest = hashlib.sha256()
    error = size = 0.0
    for name in names:
        layer = model.get_submodule(name)
        if not isinstance(layer, torch.nn.Linear):
            continue
        quantised = QuantisedLinear(layer, bits)
        error += float((quantised.weight - layer.weight).detach().double().square().sum())
        size += float(layer.weight.detach().double().square().sum())
        for tensor in (quantised.codes, quantised.scales):
            digest.update(tensor.detach().contiguous().view(torch.uint8).numpy().data)
        model.set_submodule(name, quantised)
    setattr(model, _BASE, Base(bits, digest.hexdigest()[:32]))
    return float((error / size) ** 0.5) if size else 0.0


def quantised_bytes(weights: int, bits: int) -> int:
    """Bytes of weights in few bits, with the scales of their blocks; those of rows are few."""
    return weights * bits // 8 + (weights * 4 // _BLOCK if bits == 4 else 0)


def base_of(model: torch.nn.Module) -> Base | None:
    """What is known of the base, if it is in few bits."""
    found: Base | None = getattr(model, _BASE, None)
    return found


def dequantise(model: torch.nn.Module) -> None:
    """Plain linear layers in fp32 in the place of the quantised ones, in place."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, QuantisedLinear):
            plain = torch.nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
            plain.weight = torch.nn.Parameter(layer.weight, requires_grad=False)
            plain.bias = layer.bias
            model.set_submodule(name, plain)
    if base_of(model) is not None:
        delattr(model, _BASE)
