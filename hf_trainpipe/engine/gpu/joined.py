"""Query, key and value of a layer as one matrix product.

The three read the same tokens. A short micro-batch on a GPU waits for launches: one product instead of three, forward and
twice backward, saves about ten of some sixty a layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F

NAMES = (("query", "key", "value"), ("q_lin", "k_lin", "v_lin"))
"""What architectures call the three."""


class Joined:
    """Linear layers of one module that read the same tensor.

    Args:
        layers: Of the same inputs and type, all with a bias or none.
    """

    def __init__(self, layers: Sequence[torch.nn.Linear]) -> None:
        self.sizes = [layer.out_features for layer in layers]
        self.weight: torch.Tensor | None = None
        """[sum of sizes, inputs], while the layers are to be computed together."""
        self.bias: torch.Tensor | None = None
        self._input: torch.Tensor | None = None
        self._parts: tuple[torch.Tensor, ...] = ()
        for place, layer in enumerate(layers):
            layer.__class__ = JoinedLinear
            assert isinstance(layer, JoinedLinear)
            layer.joined, layer.place = self, place

    def part(self, tensor: torch.Tensor, place: int) -> torch.Tensor:
        """What one of the layers gives; the first one that is asked computes all."""
        assert self.weight is not None
        if self._input is not tensor:
            product = F.linear(tensor, self.weight, self.bias)
            self._parts = product.split(self.sizes, dim=-1)  # type: ignore[no-untyped-call]
            self._input = tensor
        found = self._parts[place]
        if place == len(self.sizes) - 1:
            self._input, self._parts = None, ()
        return found


class JoinedLinear(torch.nn.Linear):
    """A linear layer that may be computed with others; alone where they have no weight in common."""

    joined: Joined
    place: int

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if self.joined.weight is None:
            return F.linear(input, self.weight, self.bias)
        return self.joined.part(input, self.place)


def join(model: torch.nn.Module, uses: Mapping[int, int]) -> None:
    """Make the queries, keys and values of a model ready to be computed together, in place; names stay the same.

    Args:
        uses: By ``id()`` of a parameter, how many modules have it: one that others have too stays as it is.
    """
    for module in model.modules():
        for names in NAMES:
            layers = [part for name in names if type(part := getattr(module, name, None)) is torch.nn.Linear]
            alone = all(uses[id(one)] == 1 for layer in layers for one in layer.parameters())
            if len(layers) == len(names) and alone and _fit(layers):
                Joined(layers)


def _fit(layers: Sequence[torch.nn.Linear]) -> bool:
    """Whether they can be one product, and are trained or frozen together."""
    kinds = {
        (layer.in_features, tuple((name, one.dtype, one.requires_grad) for name, one in layer.named_parameters()))
        for layer in layers
    }
    return len(kinds) == 1
