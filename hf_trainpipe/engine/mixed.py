"""Mixed precision: autocast around the forward pass, and loss scaling for fp16.

accelerate patches autocast into the model's own ``forward``, where evaluation and packaging would inherit it. Here the
model is not changed: the training step calls it through :class:`Autocast`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from hf_trainpipe.engine.device import Precision
from hf_trainpipe.engine.gpu.halves import HalfWeights
from hf_trainpipe.errors import RecipeError

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Mixed:
    """Autocast and loss scaling of a run's training steps.

    Args:
        precision: ``fp32`` and ``medium`` need neither.
        device: The device of the steps.
    """

    def __init__(self, precision: Precision = "fp32", device: torch.device | str = "cpu") -> None:
        self._dtype = _TYPES.get(precision)
        self.dtype = self._dtype or torch.float32
        """What layers compute in."""
        self._kind = torch.device(device).type
        self.scaler: Any = torch.amp.GradScaler(self._kind) if precision == "fp16" else None
        """Of fp16, whose small gradients would underflow; None: the loss is not scaled."""
        self.halves: HalfWeights | None = None
        """What training steps read in place of weights; whoever sets it takes the gradients of those."""

    @property
    def is_on(self) -> bool:
        """Whether training forward passes run in 16 bits."""
        return self._dtype is not None

    def autocast(self) -> AbstractContextManager[Any]:
        """Autocast to the run's precision, if it has one."""
        if self._dtype is None:
            return nullcontext()
        # A CUDA graph casts weights whenever it runs; a copy that a pass before it made would go stale.
        return torch.autocast(self._kind, dtype=self._dtype, cache_enabled=self._kind != "cuda")

    def around(self, model: torch.nn.Module) -> torch.nn.Module:
        """``model``, wrapped in :class:`Autocast` where needed, for the training step to call."""
        return Autocast(model, self) if self.is_on else model

    def backward(self, loss: torch.Tensor) -> None:
        """Run the backward pass, with the loss scaled where needed."""
        self.scaled(loss).backward()  # type: ignore[no-untyped-call]

    def scaled(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss, scaled where gradients in fp16 would underflow."""
        found: torch.Tensor = loss if self.scaler is None else self.scaler.scale(loss)
        return found

    def check(self) -> None:
        """Try one product, forward and backward.

        Raises:
            RecipeError: this device, with this build of torch, cannot compute in that type.
        """
        if self._dtype is None:
            return
        try:
            layer = torch.nn.Linear(8, 8, device=self._kind)
            with self.autocast():
                out = layer(torch.ones(2, 8, device=self._kind))
            self.backward(out.float().sum())
        except RuntimeError as error:
            said = (str(error).strip().splitlines() or [""])[0]
            name = str(self._dtype).removeprefix("torch.")
            raise RecipeError(
                f"optim.precision: this {self._kind} cannot multiply in {name}: {said}",
                fix="Set optim.precision to 'auto', which chooses what the machine can do, or to 'fp32'.",
            ) from None


class Autocast(torch.nn.Module):
    """Runs a model's forward pass in 16 bits and returns fp32 outputs for the loss; does not change the model.

    Attributes of the model (``config`` and others) are passed through.
    """

    def __init__(self, module: torch.nn.Module, mixed: Mixed) -> None:
        super().__init__()
        self.module = module
        self._mixed = mixed

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        from accelerate.utils import convert_to_fp32

        halves = self._mixed.halves
        with self._mixed.autocast(), nullcontext() if halves is None else halves.installed():
            out = self.module(*args, **kwargs)
        return convert_to_fp32(out)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)
