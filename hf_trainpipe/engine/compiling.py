"""torch.compile for the layers of an encoder: where the plan says so.

On a CPU it gained nothing in our measurements (docs/results/speed.md, ``ours-compiled``): a step is mostly matrix
products, which a compiler leaves as they are. On a GPU what lies between them becomes one kernel each. Graphs are dynamic in
the number of tokens. torch chooses kernels by the first sizes it sees, so every attempt of a run starts with the same
batch; on a GPU none is chosen by timing. So a resumed run sums in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from hf_trainpipe.engine.optimizer import LAYER
from hf_trainpipe.runtime.model import attention, kernels
from hf_trainpipe.runtime.model.unpad import IMPLEMENTATION
from hf_trainpipe.utils.brief import first_line

FP32_TOLERANCE = 1e-4
"""Largest relative error of the fp32 gradient against the eager layers: norm of the difference over the norm."""
TOLERANCE_16_BIT = 0.05
"""The same in 16 bits. A wrong graph is off by tenths."""


def compile_layers(
    model: torch.nn.Module,
    gradient: Callable[[bool], Sequence[torch.Tensor]],
    *,
    tolerance: float,
    whole: bool,
    say: Callable[[str], None],
    on_any_rank: Callable[[bool], bool] = bool,
    backend: str = "inductor",
) -> str | None:
    """Compile each layer in place; undo it if the gradient changes. All ranks call it, and go the same way.

    Args:
        model: Parameter names stay the same; copies of it are not compiled.
        gradient: Computes the gradient of one batch, the same batch in every attempt of a run. True: with dropout, as in
            training; False: without.
        tolerance: ``FP32_TOLERANCE`` or ``TOLERANCE_16_BIT``.
        whole: Whether attention is tried as an operator inside the compiled layer, as a GPU's kernels can be; if that fails, as
            without it, each layer is compiled in parts, with its attention between them.
        say: Is told where that failed.
        on_any_rank: Whether something holds on any rank; left out, this process is the only one.

    Returns:
        None, or why the layers stay eager (no C++ compiler, torch cannot trace the model, the gradient differs).
    """
    if not _layers(model):
        return "no layers were found in it"
    expected = gradient(False)
    reasons: list[str] = []
    for hidden in (False, True) if whole else (True,):
        reason = _try(model, gradient, expected, tolerance=tolerance, hidden=hidden, backend=backend)
        if not on_any_rank(reason is not None):
            if reasons:
                say(f"warning: layers are compiled in parts, with their attention between them: {reasons[0]}")
            return None
        undo(model)
        torch.compiler.reset()
        reasons.append(reason or "another rank could not")
    return reasons[-1]


def _try(
    model: torch.nn.Module,
    gradient: Callable[[bool], Sequence[torch.Tensor]],
    expected: Sequence[torch.Tensor],
    *,
    tolerance: float,
    hidden: bool,
    backend: str,
) -> str | None:
    """Compile, with the attention hidden from the compiler or not; why it is of no use."""
    on_gpu = next(model.parameters()).device.type == "cuda"
    options: dict[str, Any] | None = {"deterministic": True} if on_gpu and backend == "inductor" else None
    attention.register(IMPLEMENTATION, hidden=hidden)
    if not hidden:
        from hf_trainpipe.engine.gpu.operators import BY_NAME

        kernels.operators.update(BY_NAME)
    try:
        for layer in _layers(model):
            layer.compile(dynamic=True, backend=backend, options=options)
        difference = _relative_error(expected, gradient(False))
        if difference <= tolerance:
            gradient(True)
            return None
        return f"its gradient differs from the plain layers' by {difference:.1e}"
    except Exception as error:  # any error of torch, Triton or the C++ compiler: fall back
        cause = getattr(error, "inner_exception", error)
        return first_line(cause, named=True)


def undo(model: torch.nn.Module) -> None:
    """Run the layers eagerly again, as before :func:`compile_layers`."""
    for layer in _layers(model):
        layer._compiled_call_impl = None
    attention.register(IMPLEMENTATION, hidden=False)
    kernels.operators.clear()


def run_eagerly() -> AbstractContextManager[None]:
    """Run the layers eagerly inside this context: an evaluation then computes what the package will compute."""

    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance


def _layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Modules named like layers, without those nested in another layer."""
    found = []
    for name, module in model.named_modules():
        first = LAYER.search(f"{name}.")
        if first is not None and first.end() > len(name):
            found.append(module)
    return found


def _relative_error(expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor]) -> float:
    """Norm of the difference over the norm of ``expected``, over all tensors; infinite instead of NaN."""
    if len(expected) != len(found):
        return float("inf")
    off = sum(float((one.double() - other.double()).square().sum()) for one, other in zip(expected, found, strict=True))
    size = sum(float(one.double().square().sum()) for one in expected)
    ratio = (off / max(size, 1e-60)) ** 0.5
    return ratio if ratio == ratio else float("inf")
