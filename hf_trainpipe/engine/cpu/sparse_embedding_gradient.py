"""Word-embedding gradients that write only the rows of tokens in the batch.

A batch has a few hundred of the tens of thousands of token ids, yet autograd allocates, fills and reads a gradient of
the whole table: 47 MB for MiniLM, a twentieth of its step on a CPU. Here one buffer is reused for the whole run: a
step writes the rows of its tokens, and the next step sets them to zero. The optimizer sees the same dense gradient.
"""

from __future__ import annotations

from typing import Any

import torch

MIN_ELEMENTS = 1_000_000
"""Elements of a table; smaller ones keep autograd's gradient."""


class _Table:
    """An embedding module, its gradient buffer, and the non-zero rows of the buffer."""

    def __init__(self, module: torch.nn.Embedding) -> None:
        self.module = module
        self.buffer = torch.zeros_like(module.weight)
        self.nonzero_rows: list[torch.Tensor] = []

    def add(self, ids: torch.Tensor, grad: torch.Tensor) -> None:
        """Add the gradient [..., hidden] of the rows ``ids`` [...]."""
        weight = self.module.weight
        self.clear()
        rows, place = torch.unique(ids, return_inverse=True)
        summed = torch.ops.aten.embedding_dense_backward(grad, place, len(rows), -1, False)
        if self.module.padding_idx is not None:
            summed.masked_fill_((rows == self.module.padding_idx)[:, None], 0.0)
        if self.nonzero_rows:
            summed += self.buffer.index_select(0, rows)
        self.buffer.index_copy_(0, rows, summed.to(self.buffer.dtype))
        self.nonzero_rows.append(rows)
        weight.grad = self.buffer

    def clear(self) -> None:
        """Zero the rows of the previous step, before the first gradient of this one."""
        if self.module.weight.grad is None:
            for rows in self.nonzero_rows:
                self.buffer.index_fill_(0, rows, 0.0)
            self.nonzero_rows = []


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, ids: torch.Tensor, table: _Table) -> torch.Tensor:
        ctx.save_for_backward(ids)
        ctx.table = table
        return torch.nn.functional.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        (ids,) = ctx.saved_tensors
        ctx.table.add(ids, grad)
        return None, None, None  # already in weight.grad


def _plain_tables(model: torch.nn.Module) -> list[torch.nn.Embedding]:
    """Embedding modules that qualify: large, on the CPU, trained, without options, and not tied."""
    uses: dict[int, int] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                uses[id(parameter)] = uses.get(id(parameter), 0) + 1
    found = []
    for module in model.modules():
        if type(module) is not torch.nn.Embedding or module.weight.numel() < MIN_ELEMENTS:
            continue
        weight = module.weight
        plain = not (module.sparse or module.scale_grad_by_freq) and module.max_norm is None
        if plain and weight.requires_grad and weight.device.type == "cpu" and uses[id(weight)] == 1:
            found.append(module)
    return found


class EmbeddingGradients:
    """Replaces the gradient of a model's large embedding tables on a CPU.

    From the first backward pass of a step until ``zero_grad(set_to_none=True)``, ``weight.grad`` is the buffer. It may be
    scaled in place: the next step zeroes the rows that were written.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.tables: dict[int, _Table] = {}
        """By ``id()`` of the parameter."""
        for module in _plain_tables(model):
            table = self.tables[id(module.weight)] = _Table(module)
            module.forward = _forward(table)  # type: ignore[method-assign]

    def nonzero_parts(self, parameters: list[torch.nn.Parameter]) -> list[torch.Tensor]:
        """Gradients for computing a norm: of these tables only the non-zero rows, of other parameters all of it."""
        found = []
        for parameter in parameters:
            table = self.tables.get(id(parameter))
            if parameter.grad is None:
                continue
            if table is None or not table.nonzero_rows or parameter.grad is not table.buffer:
                found.append(parameter.grad)
            else:
                found.append(table.buffer.index_select(0, torch.unique(torch.cat(table.nonzero_rows))))
        return found


def _forward(table: _Table) -> Any:
    def forward(ids: torch.Tensor) -> torch.Tensor:
        weight = table.module.weight
        if not (torch.is_grad_enabled() and weight.requires_grad):
            return torch.nn.functional.embedding(ids, weight)
        looked_up: torch.Tensor = _Lookup.apply(weight, ids, table)  # type: ignore[no-untyped-call]
        return looked_up

    return forward
