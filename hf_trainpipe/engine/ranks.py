"""Communication between the ranks of a run."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from hf_trainpipe.engine import sharding
from hf_trainpipe.engine.heartbeat import collective_timeout
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.utils.brief import first_line

if TYPE_CHECKING:
    from accelerate import Accelerator

T = TypeVar("T")


def make_accelerator() -> Accelerator:
    """An Accelerator for the process group and device that ``accelerate launch`` describes.

    Mixed precision is not accelerate's here (:mod:`hf_trainpipe.engine.mixed`): it has one setting for the whole
    process, and a second run may need another.

    Raises:
        RecipeError: this process has an Accelerator already, of a kind that runs here cannot share.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

    # We shard ourselves (engine/sharding.py): accelerate sees plain DDP ranks.
    asked = os.environ.pop(sharding.FSDP_VARIABLE, None)
    taken = AcceleratorState._shared_state != {}
    try:
        accelerator = Accelerator(
            cpu=_is_cpu_group(),
            mixed_precision=None if taken else "no",  # an existing Accelerator may have set one
            kwargs_handlers=[
                InitProcessGroupKwargs(timeout=timedelta(seconds=collective_timeout())),
                # Buffers of text models are constants: no broadcast in every forward pass.
                DistributedDataParallelKwargs(broadcast_buffers=False),
            ],
        )
    except Exception as error:  # the existing Accelerator may be of any kind
        if not taken:
            raise
        raise _cannot_share(first_line(error)) from None
    finally:
        if asked is not None:
            os.environ[sharding.FSDP_VARIABLE] = asked
    if asked is not None:
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"  # transformers would leave rank 1 without weights
    if (kind := accelerator.distributed_type.value) in ("DEEPSPEED", "FSDP", "MEGATRON_LM", "XLA"):
        raise _cannot_share(f"it is one for {kind}")
    accelerator.native_amp = False  # or its prepare_model would put autocast into the model
    if accelerator.num_processes > 1:
        atexit.register(_leave, accelerator)
    return accelerator


def _is_cpu_group() -> bool:
    """Whether a launcher started several processes on a machine without a GPU.

    Without this (or ACCELERATE_USE_CPU) accelerate makes each of them rank 0 of its own group.
    """
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.accelerator.is_available()


def _cannot_share(reason: str) -> RecipeError:
    return RecipeError(
        f"This process has an Accelerator that the run cannot share: {reason}.",
        fix="Run the recipe in a process of its own (hf-trainpipe train RECIPE), or before that Accelerator is made; "
        "launch without DeepSpeed, Megatron or XLA. FSDP2 is asked for by scripts/accelerate/fsdp2.yaml.",
    )


def _leave(accelerator: Accelerator) -> None:
    """Stop the process group's threads before the interpreter exits.

    A thread that frees a tensor later aborts the process ("terminate called without an active exception"), and with it a
    completed run.
    """
    accelerator.free_memory()  # models reference the group too
    accelerator.end_training()


def _host_group(accelerator: Accelerator) -> Any:
    """A gloo group for numbers in host memory, so that exchanging them does not synchronise the device."""

    if accelerator.num_processes == 1 or accelerator.device.type == "cpu":
        return None  # the default group, which is gloo on a CPU

    return torch.distributed.new_group(backend="gloo", timeout=timedelta(seconds=collective_timeout()))


def num_machines() -> int:
    """Number of machines, from the launcher's environment."""

    size = int(os.environ.get("WORLD_SIZE", "1"))
    return -(-size // int(os.environ.get("LOCAL_WORLD_SIZE", size)))


def single_process_warning() -> str | None:
    """A warning if accelerate was asked for several CPU processes but started only this one; else None.

    accelerate's launcher then sets the address of a process group that nothing creates.
    """
    alone = "WORLD_SIZE" not in os.environ and "LOCAL_RANK" not in os.environ
    if not (alone and "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_PORT" in os.environ):
        return None
    return (
        "accelerate launch was asked for several processes on a CPU and starts one. For as many as asked: "
        "hf-trainpipe launch with the same options (or ACCELERATE_USE_CPU=true accelerate launch --multi_gpu ...)"
    )


class Ranks:
    """The processes that train together. Every method is a collective: all ranks call it."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.rank: int = accelerator.process_index
        self.size: int = accelerator.num_processes
        self.is_main: bool = accelerator.is_main_process
        self.sharded = self.size > 1 and sharding.is_wanted()
        """Whether weights, gradients and optimizer state are sharded (FSDP2)."""
        self._hosts = _host_group(accelerator)

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is true on any rank."""
        return self.sum(float(flag)) > 0

    def sum(self, value: float) -> float:
        """The sum of a number over all ranks."""
        return self.sums([value])[0]

    def sums(self, values: Sequence[float]) -> list[float]:
        """The sum of each number over all ranks, in one all-reduce."""
        if self.size == 1:
            return [float(value) for value in values]
        numbers = torch.tensor(values, dtype=torch.float64)
        torch.distributed.all_reduce(numbers, group=self._hosts)
        found: list[float] = numbers.tolist()
        return found

    def gather_number(self, value: float) -> list[float]:
        """The number of every rank, by rank."""
        return self.sums([value if rank == self.rank else 0.0 for rank in range(self.size)])

    def gather(self, part: T) -> list[T]:
        """The object of every rank, by rank."""
        if self.size == 1:
            return [part]
        from accelerate.utils import gather_object

        gathered: list[T] = gather_object([part])
        return gathered

    def gather_rows(self, rows: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        """The rows [n, ...] of every rank, by rank, on their device; ``counts`` says how many each rank has."""
        if self.size == 1:
            return rows
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        torch.distributed.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def from_main(self, find: Callable[[], T]) -> T:
        """What ``find`` gives on rank 0, on every rank; the others do not call it."""
        if self.size == 1:
            return find()
        from accelerate.utils import broadcast_object_list

        found: list[Any] = broadcast_object_list([find() if self.is_main else None])
        shared: T = found[0]
        return shared
