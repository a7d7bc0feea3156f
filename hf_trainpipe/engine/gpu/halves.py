"""Weights of linear layers in 16 bits, made all at once at the start of a pass.

Autocast casts each weight when its layer comes, and each gradient back: four hundred small launches in a pass of BERT-base,
which short micro-batches wait for. The numbers are the same: a layer reads the same 16 bits, and its gradient is cast by
whoever adds it up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class HalfWeights:
    """Copies in 16 bits of the parameters that only linear layers use.

    Args:
        model: On its device, in fp32.
        dtype: What its layers compute in.
    """

    def __init__(self, model: torch.nn.Module, dtype: torch.dtype) -> None:
        held = [
            (module, name, one) for module in model.modules() for name, one in module.named_parameters(recurse=False)
        ]
        uses = Counter(id(one) for _, _, one in held)
        self._places = [
            (module, name, one, torch.nn.Parameter(one.detach().to(dtype), requires_grad=one.requires_grad))
            for module, name, one in held
            if type(module) is torch.nn.Linear and uses[id(one)] == 1 and one.dtype == torch.float32
        ]
        self._copy_of = {id(one): copy for _, _, one, copy in self._places}

    def of(self, parameter: torch.nn.Parameter) -> torch.nn.Parameter:
        """What a pass reads instead of a parameter, and has the gradient of; it may be the parameter itself."""
        return self._copy_of.get(id(parameter), parameter)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Inside, the layers have copies of their weights as they are now."""
        if self._places:
            with torch.no_grad():
                torch._foreach_copy_([copy for *_, copy in self._places], [one for _, _, one, _ in self._places])
        try:
            for module, name, _, copy in self._places:
                module._parameters[name] = copy
            yield
        finally:
            for module, name, one, _ in self._places:
                module._parameters[name] = one
