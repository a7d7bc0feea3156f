"""What the ranks of a run tell each other."""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch

from hf_trainpipe.engine import sharding
from hf_trainpipe.engine.heartbeat import collective_timeout
from hf_trainpipe.errors import RecipeError

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Ranks", "make_accelerator", "num_machines", "warning_of_one_process"]


def make_accelerator() -> Accelerator:
    """The process group and device that ``accelerate launch`` describes.

    The precision is none of accelerate's business (:mod:`hf_trainpipe.engine.mixed`): it keeps one for the whole
    process, and a second run may want another.

    Raises:
        RecipeError: this process has an Accelerator already, of a kind that runs here cannot share.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

    # Sharding is ours (engine/sharding.py): accelerate is to see ranks as in DDP.
    asked = os.environ.pop(sharding.ASKED, None)
    taken = AcceleratorState._shared_state != {}
    try:
        accelerator = Accelerator(
            cpu=_is_cpu_group(),
            mixed_precision=None if taken else "no",  # somebody's own Accelerator may have set one before
            kwargs_handlers=[
                InitProcessGroupKwargs(timeout=timedelta(seconds=collective_timeout())),
                # Buffers of text models are constants: no exchange in every forward pass, and no waiting there.
                DistributedDataParallelKwargs(broadcast_buffers=False),
            ],
        )
    except Exception as error:  # whatever the kind that is there may lack
        if not taken:
            raise
        raise _cannot_share(str(error).strip().splitlines()[0]) from None
    finally:
        if asked is not None:
            os.environ[sharding.ASKED] = asked
    if asked is not None:
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"  # transformers would leave rank 1 without weights
    if (kind := accelerator.distributed_type.value) in ("DEEPSPEED", "FSDP", "MEGATRON_LM", "XLA"):
        raise _cannot_share(f"it is one for {kind}")
    accelerator.native_amp = False  # or its prepare_model would put autocast into the model
    if accelerator.num_processes > 1:
        atexit.register(_leave, accelerator)
    return accelerator


def _is_cpu_group() -> bool:
    """Whether a launcher began several processes on a machine without a GPU.

    accelerate makes one group of them only where ACCELERATE_USE_CPU says so, too; else each is alone and rank 0.
    """
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.accelerator.is_available()


def _cannot_share(reason: str) -> RecipeError:
    return RecipeError(
        f"This process has an Accelerator that the run cannot share: {reason}.",
        fix="Run the recipe in a process of its own (hf-trainpipe train RECIPE), or before that Accelerator is made; "
        "launch without DeepSpeed, Megatron or XLA. FSDP2 is asked for by scripts/accelerate/fsdp2.yaml.",
    )


def _leave(accelerator: Accelerator) -> None:
    """End the group's threads while Python still runs.

    A thread that lets go of a tensor later than that aborts the process ("terminate called without an active
    exception"), and with it a run that was complete.
    """
    accelerator.free_memory()  # models hold the group, too
    accelerator.end_training()


def _host_group(accelerator: Accelerator) -> Any:
    """Where numbers are exchanged between the hosts' memories, so that no rank waits for its device to know them."""
    if accelerator.num_processes == 1 or accelerator.device.type == "cpu":
        return None  # the group of all, which is gloo's on a CPU
    return torch.distributed.new_group(backend="gloo", timeout=timedelta(seconds=collective_timeout()))


def num_machines() -> int:
    """Machines that the ranks of this run are on, as the launcher says."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    return -(-size // int(os.environ.get("LOCAL_WORLD_SIZE", size)))


def warning_of_one_process() -> str | None:
    """What to tell a person whose launcher was asked for several processes and started this one; None: it was not.

    accelerate's launcher gives its only process the address of a group that nobody makes.
    """
    alone = "WORLD_SIZE" not in os.environ and "LOCAL_RANK" not in os.environ
    if not (alone and "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_PORT" in os.environ):
        return None
    return (
        "accelerate launch was asked for several processes on a CPU and starts one. For as many as asked: "
        "hf-trainpipe launch with the same options (or ACCELERATE_USE_CPU=true accelerate launch --multi_gpu ...)"
    )


class Ranks:
    """The processes that train together. Every method but the properties is a collective: all ranks call it."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.rank: int = accelerator.process_index
        self.size: int = accelerator.num_processes
        self.is_main: bool = accelerator.is_main_process
        self.sharded = self.size > 1 and sharding.is_wanted()
        """Whether weights, gradients and optimizer are cut over the ranks."""
        self._hosts = _host_group(accelerator)

    def agree(self, *, count: float, stop: bool) -> tuple[float, bool]:
        """Sum the counts over ranks, and learn whether any rank wants to stop: one collective."""
        total, stops = self.sums([count, float(stop)])
        return total, stops > 0

    def any(self, flag: bool) -> bool:
        """Whether it holds on some rank."""
        return self.sum(float(flag)) > 0

    def sum(self, value: float) -> float:
        """The sum of a number over all ranks."""
        return self.sums([value])[0]

    def sums(self, values: Sequence[float]) -> list[float]:
        """The sum of each number over all ranks, in one exchange."""
        if self.size == 1:
            return [float(value) for value in values]
        numbers = torch.tensor(values, dtype=torch.float64)
        torch.distributed.all_reduce(numbers, group=self._hosts)
        found: list[float] = numbers.tolist()
        return found

    def wait(self) -> None:
        """Return when all ranks are here."""
        self.accelerator.wait_for_everyone()

    def each(self, value: float) -> list[float]:
        """The number of every rank, in their order."""
        return self.sums([value if rank == self.rank else 0.0 for rank in range(self.size)])

    def gather(self, part: Any) -> list[Any]:
        """The parts of all ranks, in their order."""
        if self.size == 1:
            return [part]
        from accelerate.utils import gather_object

        gathered: list[Any] = gather_object([part])
        return gathered

    def from_main(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""
        if self.size == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]
