"""Ranks of one machine that compute on its CPU: one copy of weights and optimizer, which all of them see.

Each rank adds up and updates its share of the numbers (the first stage of ZeRO, https://arxiv.org/abs/1910.02054) and
reads the others' gradients where they lie: nothing passes through sockets but the beat of the steps, and no weight is
updated twice. The memory belongs to no file: it is gone with the last process, however that ends.
"""

from __future__ import annotations

import math
import mmap
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.adamw import adamw

from hf_trainpipe.engine.cpu.sparse_embedding_gradient import EmbeddingGradients, plain_tables
from hf_trainpipe.engine.optimizer import Clipping
from hf_trainpipe.engine.single_process import SingleProcess

if TYPE_CHECKING:
    from hf_trainpipe.engine.mixed import Mixed
    from hf_trainpipe.engine.ranks import Ranks
    from hf_trainpipe.recipe import Optim

__all__ = ["Memory", "SharedMemory", "map_memory"]

ALIGNED = 16
"""Numbers of fp32 in a cache line: where a tensor begins."""
MARK = 16
"""Bytes at the end by which a rank knows that it has mapped the memory of this run."""


class Memory:
    """Where the parts lie: weights, two moments, each rank's gradient, its touched rows, and which gradients it has.

    Args:
        model: Its trained parameters are laid out in their order.
        ranks: How many there are.
    """

    def __init__(self, model: torch.nn.Module, *, ranks: int) -> None:
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.starts: list[int] = []
        self.numbers = 0
        for parameter in self.parameters:
            self.starts.append(self.numbers)
            self.numbers += -(-parameter.numel() // ALIGNED) * ALIGNED
        self.tables = {id(table.weight): table.num_embeddings for table in plain_tables(model)}
        self.ranks = ranks
        rows = sum(1 + number for number in self.tables.values())
        self._rows_at = 4 * self.numbers * (3 + ranks)
        self._flags_at = self._rows_at + 8 * rows * ranks
        self._mark_at = self._flags_at + 8 * len(self.parameters) * ranks
        self.size = self._mark_at + MARK
        """Bytes."""
        self._rows = rows
        self._map: mmap.mmap | None = None

    def open(self, descriptor: int, mark: bytes, *, write: bool) -> bool:
        """Map a file of :attr:`size` bytes.

        Args:
            mark: What tells this memory from any other; written, or looked for.
        """
        self._map = mmap.mmap(descriptor, self.size)
        if write:
            self._map[self._mark_at :] = mark
        return self._map[self._mark_at :] == mark

    def _numbers(self, section: int, which: int) -> torch.Tensor:
        """The numbers of one parameter in a section of fp32, flat; a storage of its own."""
        offset = 4 * (section * self.numbers + self.starts[which])
        count = self.parameters[which].numel()
        return torch.frombuffer(self._map, dtype=torch.float32, count=count, offset=offset)

    def weight(self, which: int) -> torch.Tensor:
        return self._numbers(0, which)

    def moments(self, which: int) -> tuple[torch.Tensor, torch.Tensor]:
        """AdamW's running means of the gradient and of its square."""
        return self._numbers(1, which), self._numbers(2, which)

    def gradient(self, rank: int, which: int) -> torch.Tensor:
        return self._numbers(3 + rank, which)

    def rows(self, rank: int, parameter: torch.nn.Parameter) -> torch.Tensor:
        """[1 + V] how many rows of a table a rank has touched, and which."""
        before = 0
        for identity, number in self.tables.items():
            if identity == id(parameter):
                break
            before += 1 + number
        offset = self._rows_at + 8 * (rank * self._rows + before)
        return torch.frombuffer(self._map, dtype=torch.int64, count=1 + self.tables[id(parameter)], offset=offset)

    def flags(self) -> torch.Tensor:
        """[ranks, parameters] 1 where a rank has a gradient."""
        count = self.ranks * len(self.parameters)
        found = torch.frombuffer(self._map, dtype=torch.int64, count=count, offset=self._flags_at)
        return found.view(self.ranks, len(self.parameters))


def map_memory(model: torch.nn.Module, ranks: Ranks) -> Memory | None:
    """Memory that all ranks see, or None where they are not on one CPU machine; all ranks call it."""
    here = os.environ.get("LOCAL_WORLD_SIZE") == os.environ.get("WORLD_SIZE")
    if not here or ranks.accelerator.device.type != "cpu" or not hasattr(os, "memfd_create"):
        return None
    memory = Memory(model, ranks=ranks.size)
    if any(one.dtype != torch.float32 or not one.is_contiguous() for one in memory.parameters):
        return None
    descriptor, mark = -1, secrets.token_bytes(MARK)
    if ranks.is_main:
        descriptor = os.memfd_create("hf_trainpipe")
        os.ftruncate(descriptor, memory.size)
        memory.open(descriptor, mark, write=True)
    process, number, mark = ranks.from_main((os.getpid(), descriptor, mark))
    try:
        if not ranks.is_main:
            descriptor = os.open(f"/proc/{process}/fd/{number}", os.O_RDWR)
        seen = ranks.is_main or memory.open(descriptor, mark, write=False)
    except (OSError, ValueError):  # another container, another user
        seen = False
    missing = ranks.any(not seen)
    if descriptor >= 0:
        os.close(descriptor)
    return None if missing else memory


@dataclass(frozen=True)
class Share:
    """What this rank has to do with one parameter: the numbers from ``first`` to before ``end`` are its own."""

    which: int
    parameter: torch.nn.Parameter
    first: int
    end: int
    table: Any
    """The table of :class:`EmbeddingGradients` that it is, or None."""
    shown: list[tuple[slice, torch.Tensor]]
    """Numbers of the gradient that others add up, and where they look for them."""
    place: int
    """The address of the weight, which all ranks see."""

    @property
    def own(self) -> slice:
        return slice(self.first, self.end)

    @property
    def row(self) -> int:
        """Numbers of a row."""
        return self.parameter.shape[-1] if self.parameter.ndim > 1 else 1


class SharedMemory(SingleProcess):
    """Ranks that share their memory. Gradients are sums in the order of the ranks: the same in every run."""

    def __init__(self, model: torch.nn.Module, optim: Optim, ranks: Ranks, mixed: Mixed, memory: Memory) -> None:
        self._memory = memory
        super().__init__(model, optim, ranks, mixed)

    def _prepare(self, optimizer: torch.optim.Optimizer) -> None:
        memory = self._memory
        with torch.no_grad():
            for which, parameter in enumerate(memory.parameters):
                place = memory.weight(which).view(parameter.shape)
                if self.ranks.is_main:
                    place.copy_(parameter)
                parameter.data = place
        mine = {id(parameter): which for which, parameter in enumerate(memory.parameters)}

        def allocate(weight: torch.nn.Parameter) -> torch.Tensor:
            return memory.gradient(self.ranks.rank, mine[id(weight)]).view(weight.shape)

        rows = EmbeddingGradients(self.bare, allocate=allocate)
        self._shares = [self._share(which, rows) for which in range(len(memory.parameters))]
        self._trained: set[int] = set()
        """Which parameters have a gradient on some rank."""
        self._clipping: Clipping = Clipping(optimizer)
        self._raw = optimizer
        self.model = self.bare
        self.loaded()

    def _share(self, which: int, rows: EmbeddingGradients) -> Share:
        memory, parameter, rank = self._memory, self._memory.parameters[which], self.ranks.rank
        row = parameter.shape[-1] if parameter.ndim > 1 else 1
        number_of_rows = parameter.numel() // row
        first, end = (number_of_rows * of // memory.ranks * row for of in (rank, rank + 1))
        place = memory.gradient(rank, which)
        theirs = [slice(0, first), slice(end, parameter.numel())]
        shown = [(part, place[part]) for part in theirs if part.start < part.stop]
        return Share(which, parameter, first, end, rows.tables.get(id(parameter)), shown, parameter.data_ptr())

    def loaded(self) -> None:
        """Move the optimizer's state to where all ranks see it: that of a checkpoint, or of a beginning."""
        for share in self._shares:
            held, shape = self._raw.state[share.parameter], share.parameter.shape
            held.setdefault("step", torch.zeros((), dtype=torch.float32))
            for name, place in zip(("exp_avg", "exp_avg_sq"), self._memory.moments(share.which), strict=True):
                if self.ranks.is_main:
                    place.view(shape).copy_(held[name]) if name in held else place.zero_()
                held[name] = place.view(shape)
        self.ranks.wait()

    def clip(self, max_norm: float | None) -> torch.Tensor:
        """As :meth:`SingleProcess.clip`; before that, add up this rank's share of the gradient over all ranks.

        Raises:
            RuntimeError: something put a weight elsewhere (``model.to`` of another device does).
        """
        if any(share.parameter.data_ptr() != share.place for share in self._shares):
            raise RuntimeError("A weight has left the memory that the ranks share: something moved the model.")
        self._show()
        self.ranks.wait()
        norm = torch.tensor(math.sqrt(self.ranks.sum(self._add())))
        self._clipping.apply(norm, max_norm)
        return norm

    def _show(self) -> None:
        """Put what others add up where they look for it."""
        memory, rank = self._memory, self.ranks.rank
        flags = memory.flags()[rank]
        for share in self._shares:
            if share.table is not None:
                share.table.forget()
            gradient = share.parameter.grad
            flags[share.which] = int(gradient is not None)
            if gradient is None:
                continue
            if share.table is None:
                flat = gradient.view(-1)
                for part, place in share.shown:
                    place.copy_(flat[part])
            else:
                touched, box = share.table.numbers(), memory.rows(rank, share.parameter)
                box[0] = len(touched)
                box[1 : 1 + len(touched)] = touched

    def _add(self) -> float:
        """Add the others' gradient to this rank's share of its own; the sum of its squares."""
        memory, flags = self._memory, self._memory.flags().tolist()
        others = [rank for rank in range(memory.ranks) if rank != self.ranks.rank]
        self._trained = {which for of_rank in flags for which, flag in enumerate(of_rank) if flag}
        norms = []
        for share in self._shares:
            if share.first == share.end or share.which not in self._trained:
                continue
            having = [rank for rank in others if flags[rank][share.which]]
            own = self._add_rows(share, having) if share.table is not None else self._add_numbers(share, having)
            norms.append(torch.linalg.vector_norm(own))  # while it is in the core's cache
        return float(torch.stack(norms).double().square().sum()) if norms else 0.0

    def _add_numbers(self, share: Share, having: list[int]) -> torch.Tensor:
        if share.parameter.grad is None:
            share.parameter.grad = torch.zeros_like(share.parameter)
        own = share.parameter.grad.view(-1)[share.own]
        for rank in having:
            own.add_(self._memory.gradient(rank, share.which)[share.own])
        return own

    def _add_rows(self, share: Share, having: list[int]) -> torch.Tensor:
        """The same of a table, whose gradients are read at the rows that a rank has touched."""
        shape, first, end = share.parameter.shape, share.first // share.row, share.end // share.row
        for rank in having:
            box = self._memory.rows(rank, share.parameter)
            touched = box[1 : 1 + int(box[0])]
            touched = touched[(touched >= first) & (touched < end)]
            theirs = self._memory.gradient(rank, share.which).view(shape)
            share.table.add_rows(touched, theirs.index_select(0, touched))
        own: torch.Tensor = share.table.buffer.index_select(0, share.table.numbers(first, end))
        return own

    def step(self, norm: torch.Tensor) -> None:
        """As :meth:`SingleProcess.step`, of this rank's share; the others' is there when it returns."""
        raw: Any = self._raw
        shares = {id(share.parameter): share for share in self._shares}
        for group in raw.param_groups:
            trained = [shares[id(one)] for one in group["params"] if shares[id(one)].which in self._trained]
            moving = [share for share in trained if share.first < share.end]
            for share in trained:
                if share.first == share.end:
                    raw.state[share.parameter]["step"].add_(1.0 - raw.found_inf)

            def parts(name: str, moving: list[Share] = moving) -> list[torch.Tensor]:
                return [raw.state[share.parameter][name].view(-1)[share.own] for share in moving]

            with torch.no_grad():
                adamw(
                    [share.parameter.view(-1)[share.own] for share in moving],
                    [share.parameter.grad.view(-1)[share.own] for share in moving],  # type: ignore[union-attr]
                    parts("exp_avg"),
                    parts("exp_avg_sq"),
                    [],
                    [raw.state[share.parameter]["step"] for share in moving],
                    fused=True,
                    grad_scale=raw.grad_scale,
                    found_inf=raw.found_inf,
                    amsgrad=False,
                    beta1=group["betas"][0],
                    beta2=group["betas"][1],
                    lr=group["lr"],
                    weight_decay=group["weight_decay"],
                    eps=group["eps"],
                    maximize=False,
                )
        self.optimizer.zero_grad()
        self.ranks.wait()
