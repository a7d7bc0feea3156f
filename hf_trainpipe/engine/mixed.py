"""What a step computes in, where that is not fp32 throughout: autocast around the forward pass, and fp16's loss scale.

accelerate's way puts autocast into the model's own ``forward``, where it stays for whoever scores or packages the model
afterwards. Here the model is never touched: what trains calls it through :class:`Autocast`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from hf_trainpipe.engine.device import Precision
from hf_trainpipe.errors import RecipeError

__all__ = ["Autocast", "Mixed"]

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Mixed:
    """The types of a run's steps.

    Args:
        precision: ``fp32`` and ``medium`` need nothing of this.
        device: Where the steps run.
    """

    def __init__(self, precision: Precision = "fp32", device: torch.device | str = "cpu") -> None:
        self._dtype = _TYPES.get(precision)
        self._kind = torch.device(device).type
        self.scaler: Any = torch.amp.GradScaler(self._kind) if precision == "fp16" else None
        """Keeps small gradients of fp16 above zero; None: no loss is scaled."""

    @property
    def is_on(self) -> bool:
        """Whether forward passes of the training are in 16 bits."""
        return self._dtype is not None

    def autocast(self) -> AbstractContextManager[Any]:
        """Matrix products in the run's type while it is open."""
        return nullcontext() if self._dtype is None else torch.autocast(self._kind, dtype=self._dtype)

    def around(self, model: torch.nn.Module) -> torch.nn.Module:
        """``model``, to be called by a training step: itself, or in :class:`Autocast`."""
        return Autocast(model, self) if self.is_on else model

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of a loss, scaled where it has to be."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

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
    """A model whose forward pass is in 16 bits and whose outputs are fp32, as a loss needs them; the model stays as it is.

    Attributes of the model (``config``, a task's own) are seen through it.
    """

    def __init__(self, module: torch.nn.Module, mixed: Mixed) -> None:
        super().__init__()
        self.module = module
        self._mixed = mixed

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        from accelerate.utils import convert_to_fp32

        with self._mixed.autocast():
            out = self.module(*args, **kwargs)
        return convert_to_fp32(out)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)
