"""Passes in 16 bits: by autocast, with loss scaling for fp16, or with all weights in bf16 (``bf16-pure``).

accelerate patches autocast into the model's own ``forward``, where evaluation and packaging would inherit it. Here the
model is not changed: the training step calls it through :class:`Autocast`.

In ``bf16-pure`` the model keeps its weights in fp32, which the optimizer updates and checkpoints and packages hold: they are the
masters. A pass reads copies of all of them in bf16, made when it begins, so that what flows between layers is in bf16
too, and gives gradients in bf16. These are added up, clipped and applied in fp32. So nothing but the weights and AdamW's moments is
state, and a resumed run needs no random rounding to be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from hf_trainpipe.engine.device import Precision
from hf_trainpipe.engine.gpu.halves import HalfWeights
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.utils.brief import first_line

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "bf16-pure": torch.bfloat16}


class Mixed:
    """What a run's training steps compute in.

    Args:
        precision: ``fp32``, ``tf32`` and ``medium`` need nothing of it.
        device: The device of the steps.
    """

    def __init__(self, precision: Precision = "fp32", device: torch.device | str = "cpu") -> None:
        self._dtype = _TYPES.get(precision)
        self.dtype = self._dtype or torch.float32
        """What layers compute in."""
        self.is_pure = precision == "bf16-pure"
        """Whether passes read all weights in bf16, and none of autocast's."""
        self._kind = torch.device(device).type
        self.scaler: Any = torch.amp.GradScaler(self._kind) if precision == "fp16" else None
        """Of fp16, whose small gradients would underflow; None: the loss is not scaled."""
        self.halves: HalfWeights | None = None
        """What training steps read in place of weights."""

    @property
    def is_on(self) -> bool:
        """Whether training forward passes run in 16 bits."""
        return self._dtype is not None

    def take(self, model: torch.nn.Module, *, joins: bool = True) -> None:
        """Make the copies of a model's weights that passes read; in ``bf16-pure`` of all, else of those of linear layers alone.

        Args:
            model: On its device, in fp32.
            joins: Whether query, key and value of a layer are one product.
        """
        self.halves = HalfWeights(model, self.dtype, every=self.is_pure, joins=joins)

    @contextmanager
    def passes(self) -> Iterator[None]:
        """Passes inside compute as those of training steps, forward."""
        with self._autocast(), nullcontext() if self.halves is None else self.halves.installed():
            yield

    def evaluates(self) -> AbstractContextManager[None]:
        """Passes inside compute in the precision of training steps; of linear layers no copies are made."""
        return self.passes() if self.is_pure else self._autocast()

    def _autocast(self) -> AbstractContextManager[Any]:
        """Autocast to the run's precision, if it has one."""
        if self._dtype is None or self.is_pure:
            return nullcontext()
        # A CUDA graph casts weights whenever it runs; a copy that a pass before it made would go stale.
        return torch.autocast(self._kind, dtype=self._dtype, cache_enabled=self._kind != "cuda")

    def around(self, model: torch.nn.Module) -> torch.nn.Module:
        """``model``, wrapped in :class:`Autocast` where needed, for the training step to call."""
        return Autocast(model, self) if self.is_on else model

    def backward(self, loss: torch.Tensor) -> None:
        """Run the backward pass, with the loss scaled where needed; gradients are added to those of the weights themselves."""
        if self.halves is None:
            self.scaled(loss).backward()  # type: ignore[no-untyped-call]
        else:
            self.add_gradients(loss, self.halves.trained)

    def add_gradients(self, loss: torch.Tensor, parameters: Sequence[torch.nn.Parameter]) -> None:
        """The same for some of the model's parameters; nothing is added where the pass fails."""
        for parameter, grad in zip(parameters, self.gradients(loss, parameters), strict=True):
            if grad is None:
                continue
            if parameter.grad is None:
                parameter.grad = grad.to(parameter.dtype).contiguous()
            else:
                parameter.grad.add_(grad.to(parameter.dtype))

    def gradients(self, loss: torch.Tensor, parameters: Sequence[torch.nn.Parameter]) -> Sequence[torch.Tensor | None]:
        """Of each parameter, or of what passes read in its place, in the type of that."""
        scaled = self.scaled(loss)
        if self.halves is not None:
            return self.halves.gradients(scaled, parameters)
        found: Sequence[torch.Tensor | None] = torch.autograd.grad(scaled, parameters, allow_unused=True)
        return found

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
            layer = torch.nn.Linear(8, 8, device=self._kind, dtype=self._dtype if self.is_pure else None)
            with self._autocast():
                out = layer(torch.ones_like(layer.weight))
            self.backward(out.float().sum())
        except RuntimeError as error:
            name = str(self._dtype).removeprefix("torch.")
            raise RecipeError(
                f"optim.precision: this {self._kind} cannot multiply in {name}: {first_line(error)}",
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

        with self._mixed.passes():
            out = self.module(*args, **kwargs)
        return convert_to_fp32(out)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)
