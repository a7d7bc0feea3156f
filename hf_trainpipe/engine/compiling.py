"""The layers of an encoder, compiled by torch: an option, and off unless a recipe asks for it.

A step on a CPU is matrix products, which a compiler leaves as they are: there it gained nothing where it was measured
(docs/results/speed.md, ``ours-compiled``). The graphs are for any number of tokens. torch chooses kernels by the sizes
that it sees first, so every attempt of a run begins with the same batch, and a resumed run adds up in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch

from hf_trainpipe.engine.optimizer import LAYER
from hf_trainpipe.runtime.model import attention
from hf_trainpipe.runtime.model.unpad import IMPLEMENTATION

__all__ = ["compile_layers", "not_compiled", "undo"]

EXACT = 1e-4
"""How far the gradient in fp32 may be from that of the plain layers, relative: norm of the difference over the norm."""
ROUNDED = 0.05
"""The same where products are rounded to 16 bits. A wrong graph is off by tenths."""


def compile_layers(
    model: torch.nn.Module,
    gradient: Callable[[bool], Sequence[torch.Tensor]],
    *,
    tolerance: float,
    backend: str = "inductor",
) -> str | None:
    """Compile each layer in place, where that is proven to keep the gradient.

    Args:
        model: Names of parameters stay; a copy of it is not compiled.
        gradient: The gradient of one batch, which has to be the same one in every attempt of a run; given True, as in
            training, else without dropout.
        tolerance: ``EXACT`` or ``ROUNDED``.

    Returns:
        None, or why the layers stay as they are (no compiler for C++, a model that torch cannot trace, other numbers).
    """
    layers = _layers(model)
    if not layers:
        return "no layers were found in it"
    expected = gradient(False)
    attention.register(IMPLEMENTATION, hidden=True)
    try:
        for layer in layers:
            layer.compile(dynamic=True, backend=backend)
        difference = _distance(expected, gradient(False))
        if difference <= tolerance:
            gradient(True)
            return None
        reason = f"its gradient differs from the plain layers' by {difference:.1e}"
    except Exception as error:  # whatever torch, Triton or a compiler of C++ may say: the plain layers are there
        cause = getattr(error, "inner_exception", error)
        reason = f"{type(cause).__name__}: {(str(cause).strip().splitlines() or [''])[0]}"
    undo(model)
    return reason


def undo(model: torch.nn.Module) -> None:
    """Let the layers run as they did before :func:`compile_layers`."""
    for layer in _layers(model):
        layer._compiled_call_impl = None
    attention.register(IMPLEMENTATION, hidden=False)


def not_compiled() -> AbstractContextManager[None]:
    """While it is open, layers run as they are written: an evaluation gives what the package will give."""
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance


def _layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The modules that are named as layers are, those inside another layer left out."""
    found = []
    for name, module in model.named_modules():
        first = LAYER.search(f"{name}.")
        if first is not None and first.end() > len(name):
            found.append(module)
    return found


def _distance(expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor]) -> float:
    """Norm of the difference over the norm of ``expected``, all tensors as one; infinite where it is not a number."""
    if len(expected) != len(found):
        return float("inf")
    off = sum(float((one.double() - other.double()).square().sum()) for one, other in zip(expected, found, strict=True))
    size = sum(float(one.double().square().sum()) for one in expected)
    ratio = (off / max(size, 1e-60)) ** 0.5
    return ratio if ratio == ratio else float("inf")
