"""The content of a checkpoint: a snapshot before it is on disk, a checkpoint after."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hf_trainpipe.checkpoint import plainjson, tensors
from hf_trainpipe.checkpoint.manifest import MODEL, OPTIMIZER, RESERVED, STATE, shards_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Everything that a run needs to continue after ``step``. Nothing is copied here."""

    step: int
    """Optimizer steps done."""
    model: Mapping[str, tensors.Value]
    """Parameters and buffers by name, on any device; names that share memory stay shared."""
    optimizer: Mapping[str, tensors.Value] = field(default_factory=dict)
    """Tensors of the optimizer by flat name, such as of :func:`flatten_optimizer`."""
    state: Mapping[str, Any] = field(default_factory=dict)
    """Scheduler, best score, early stopping, log window, gradient scaler and the optimizer's options, as JSON
    (NaN, infinities and tuples included)."""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """What the manifest records besides the files: attempt, epoch, examples consumed, seed, order version,
    global batch, world size, dtype, fingerprints, versions, git commit, ledger offset."""
    best_step: int | None = None
    """The step whose checkpoint is the best so far; it is kept."""
    ranks: int = 1
    """With more than one, the tensors are rank 0's rows, and the other ranks write theirs
    (:class:`~hf_trainpipe.checkpoint.shards.ShardWriter`)."""

    def __post_init__(self) -> None:
        if self.step < 0:
            raise ValueError(f"step: expected 0 or more, found {self.step}.")
        if taken := sorted(RESERVED & self.manifest.keys()):
            raise ValueError(f"manifest: the store writes {', '.join(taken)} itself; leave them out.")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A snapshot ready to be written: JSON as bytes, tied weights found."""

    step: int
    best_step: int | None
    ranks: int
    model: tensors.Shared
    optimizer: tensors.Shared
    state: bytes
    manifest: Mapping[str, Any]

    @classmethod
    def of(cls, snapshot: Snapshot, *, buffers: tensors.Buffers) -> Prepared:
        """Prepare ``snapshot``, with its tensors copied into ``buffers``.

        Raises:
            TypeError: something that JSON or safetensors cannot hold.
        """
        return cls(
            step=snapshot.step,
            best_step=snapshot.best_step,
            ranks=snapshot.ranks,
            model=buffers.copy("model", snapshot.model),
            optimizer=buffers.copy("optimizer", snapshot.optimizer),
            state=plainjson.dumps(dict(snapshot.state), where="state"),
            manifest=plainjson.loads(plainjson.dumps(dict(snapshot.manifest), where="manifest")),
        )


@dataclass(frozen=True)
class Checkpoint:
    """A complete, verified directory."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return int(self.manifest["step"])

    @cached_property
    def state(self) -> dict[str, Any]:
        """The value of :attr:`Snapshot.state`, exactly."""
        state: dict[str, Any] = plainjson.loads((self.path / STATE).read_bytes())
        return state

    def load_model(self) -> dict[str, torch.Tensor]:
        """Parameters and buffers by name, on the CPU, bit for bit; names that were tied share one tensor."""
        return tensors.read_files(self._files(MODEL))

    def load_optimizer(self) -> dict[str, torch.Tensor]:
        """The optimizer's tensors by flat name, on the CPU, bit for bit."""
        return tensors.read_files(self._files(OPTIMIZER))

    def shapes(self) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
        """The shapes of what :meth:`load_model` and :meth:`load_optimizer` give, from the files' headers alone."""
        return tensors.shapes_of(self._files(MODEL)), tensors.shapes_of(self._files(OPTIMIZER))

    def _files(self, name: str) -> list[Path]:
        return [self.path / file for file in shards_of(name, self.manifest["files"])]
