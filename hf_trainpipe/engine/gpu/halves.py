"""Weights of linear layers in 16 bits, made all at once at the start of a pass.

Autocast casts each weight when its layer comes, and each gradient back: four hundred small launches in a pass of BERT-base,
which short micro-batches wait for. A layer reads the same 16 bits, and its gradient is cast by whoever adds it up. Those
of queries, keys and values lie one after the other, so that a layer multiplies with all three at once
(:mod:`hf_trainpipe.engine.gpu.joined`). With copies of every parameter what lies between linear layers is in 16 bits too, without
autocast.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from hf_trainpipe.engine.gpu.joined import JoinedLinear, join


@dataclass(eq=False)
class _Copy:
    """What stands in for some parameters, which lie one after the other in it."""

    sources: list[torch.nn.Parameter]
    places: list[tuple[dict[str, Any], str]]
    """Where a pass finds it."""
    whole: torch.nn.Parameter
    parts: Sequence[torch.Tensor]
    """Of ``whole``, one for each source."""


class HalfWeights:
    """Copies in 16 bits of the parameters that only linear layers use, or of all.

    Args:
        model: On its device, in fp32.
        dtype: What its layers compute in.
        every: Copy all parameters; one that several modules have is copied once.
        joins: Whether query, key and value of a layer are one product; the last bits of what they give may be others.
    """

    def __init__(self, model: torch.nn.Module, dtype: torch.dtype, *, every: bool = False, joins: bool = True) -> None:
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        """Those of the model that get a gradient, copied or not."""
        uses = Counter(id(one) for module in model.modules() for one in module.parameters(recurse=False))
        if joins:
            join(model, uses)
        sources: dict[tuple[int, str], list[torch.nn.Parameter]] = {}
        slots: dict[int, dict[str, Any]] = {}
        for module in model.modules():
            if type(module) not in (torch.nn.Linear, JoinedLinear):
                continue
            slot = vars(module.joined) if isinstance(module, JoinedLinear) else module._parameters
            slots[id(slot)] = slot
            for name, one in module.named_parameters(recurse=False):
                if uses[id(one)] == 1 and one.dtype == torch.float32:
                    sources.setdefault((id(slot), name), []).append(one)
        self._copies = [_copy(found, [(slots[slot], name)], dtype) for (slot, name), found in sources.items()]
        if every:
            self._copies += _others(model, {id(one) for copy in self._copies for one in copy.sources}, dtype)
        self._part_of = {id(one): (copy, place) for copy in self._copies for place, one in enumerate(copy.sources)}

    def gradients(self, loss: torch.Tensor, parameters: Sequence[torch.nn.Parameter]) -> list[torch.Tensor | None]:
        """Gradients for parameters, of what a pass read in their place and in its type; None: it has none."""
        found_in = [self._part_of.get(id(one)) for one in parameters]
        read = [one if part is None else part[0].whole for one, part in zip(parameters, found_in, strict=True)]
        distinct = {id(one): one for one in read}
        computed = torch.autograd.grad(loss, list(distinct.values()), allow_unused=True)
        grads = dict(zip(distinct, computed, strict=True))
        found: list[torch.Tensor | None] = []
        for one, part in zip(read, found_in, strict=True):
            grad = grads[id(one)]
            if grad is not None and part is not None and len(part[0].sources) > 1:
                copy, place = part
                grad = grad.split([len(source) for source in copy.sources])[place]  # type: ignore[no-untyped-call]
            found.append(grad)
        return found

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Inside, the layers have copies of their weights as they are now."""
        if self._copies:
            with torch.no_grad():
                torch._foreach_copy_(
                    [part for copy in self._copies for part in copy.parts],
                    [one for copy in self._copies for one in copy.sources],
                )
        places = [(slot, name, copy.whole) for copy in self._copies for slot, name in copy.places]
        before = [slot[name] for slot, name, _ in places]
        try:
            for slot, name, whole in places:
                slot[name] = whole
            yield
        finally:
            for (slot, name, _), held in zip(places, before, strict=True):
                slot[name] = held


def _others(model: torch.nn.Module, copied: set[int], dtype: torch.dtype) -> list[_Copy]:
    """Copies of a model's parameters that are not copied yet, each for all modules that have it."""
    found: dict[int, _Copy] = {}
    for module in model.modules():
        for name, one in module.named_parameters(recurse=False):
            if id(one) in copied or one.dtype != torch.float32:
                continue
            if id(one) not in found:
                found[id(one)] = _copy([one], [], dtype)
            found[id(one)].places.append((module._parameters, name))
    return list(found.values())


def _copy(sources: list[torch.nn.Parameter], places: list[tuple[dict[str, Any], str]], dtype: torch.dtype) -> _Copy:
    made = [one.detach().to(dtype) for one in sources]
    if len(made) == 1:  # of any shape
        whole = torch.nn.Parameter(made[0], requires_grad=sources[0].requires_grad)
        return _Copy(sources, places, whole, [whole.detach()])
    whole = torch.nn.Parameter(torch.cat(made), requires_grad=sources[0].requires_grad)
    return _Copy(sources, places, whole, whole.detach().split([len(one) for one in made]))  # type: ignore[no-untyped-call]
