"""The gradient of a word embedding without its zeros.

A step touches some hundred of tens of thousands of rows, yet autograd makes, fills and reads a gradient of the whole
table: 47 MB for MiniLM, a twentieth of its step on a CPU. Here one buffer is kept for the run; only rows that a step
touched are written, and cleared when the next step begins. The optimizer sees the same dense gradient.

Legend: V rows of the table, H numbers of a row, T tokens, U different tokens among them.
"""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["EmbeddingGradients"]

LEAST = 1_000_000
"""Numbers of a table below which the usual way is taken."""


class _Table:
    """One embedding module, its buffer, and the rows in it that are not zero."""

    def __init__(self, module: torch.nn.Embedding) -> None:
        self.module = module
        self.buffer = torch.zeros_like(module.weight)
        self.touched: list[torch.Tensor] = []

    def add(self, ids: torch.Tensor, grad: torch.Tensor) -> None:
        """Add the gradient of looked-up rows [..., H] of ``ids`` [...]."""
        weight = self.module.weight
        self.forget()
        rows, place = torch.unique(ids, return_inverse=True)
        summed = torch.ops.aten.embedding_dense_backward(grad, place, len(rows), -1, False)
        if self.module.padding_idx is not None:
            summed.masked_fill_((rows == self.module.padding_idx)[:, None], 0.0)
        if self.touched:
            summed += self.buffer.index_select(0, rows)
        self.buffer.index_copy_(0, rows, summed.to(self.buffer.dtype))
        self.touched.append(rows)
        weight.grad = self.buffer

    def forget(self) -> None:
        """Clear what the step before left, where this one has added nothing yet."""
        if self.module.weight.grad is None:
            for rows in self.touched:
                self.buffer.index_fill_(0, rows, 0.0)
            self.touched = []


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
        return None, None, None  # it lies in weight.grad already


def _plain_tables(model: torch.nn.Module) -> list[torch.nn.Embedding]:
    """The embedding modules whose gradient may be kept in rows: large, on the CPU, trained, and used once."""
    uses: dict[int, int] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                uses[id(parameter)] = uses.get(id(parameter), 0) + 1
    found = []
    for module in model.modules():
        if type(module) is not torch.nn.Embedding or module.weight.numel() < LEAST:
            continue
        weight = module.weight
        plain = not (module.sparse or module.scale_grad_by_freq) and module.max_norm is None
        if plain and weight.requires_grad and weight.device.type == "cpu" and uses[id(weight)] == 1:
            found.append(module)
    return found


class EmbeddingGradients:
    """Takes over the large, plain embedding tables of a model that trains on a CPU.

    A gradient lies in the buffer that ``weight.grad`` names from the first backward pass of a step until
    ``zero_grad(set_to_none=True)``; whoever scales it in place scales the buffer, which is cleared afterwards.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.tables: dict[int, _Table] = {}
        """By the identity of the parameter."""
        for module in _plain_tables(model):
            table = self.tables[id(module.weight)] = _Table(module)
            module.forward = _forward(table)  # type: ignore[method-assign]

    def parts(self, parameters: list[torch.nn.Parameter]) -> list[torch.Tensor]:
        """The gradients of parameters, those of tables without their zeros: what a norm is taken of."""
        found = []
        for parameter in parameters:
            table = self.tables.get(id(parameter))
            if parameter.grad is None:
                continue
            if table is None or not table.touched or parameter.grad is not table.buffer:
                found.append(parameter.grad)
            else:
                found.append(table.buffer.index_select(0, torch.unique(torch.cat(table.touched))))
        return found


def _forward(table: _Table) -> Any:
    def forward(ids: torch.Tensor) -> torch.Tensor:
        weight = table.module.weight
        if not (torch.is_grad_enabled() and weight.requires_grad):
            return torch.nn.functional.embedding(ids, weight)
        looked_up: torch.Tensor = _Lookup.apply(weight, ids, table)  # type: ignore[no-untyped-call]
        return looked_up

    return forward
