"""What the ranks of a run tell each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hf_trainpipe.engine import sharding
from hf_trainpipe.engine.heartbeat import collective_timeout

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Ranks", "make_accelerator"]


def make_accelerator(precision: str) -> Accelerator:
    """The process group and device that ``accelerate launch`` describes."""
    import atexit
    import os
    from datetime import timedelta

    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

    # Sharding is ours (engine/sharding.py): accelerate is to see ranks as in DDP.
    asked = os.environ.pop(sharding.ASKED, None)
    accelerator = Accelerator(
        mixed_precision="no" if precision == "fp32" else precision,
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=timedelta(seconds=collective_timeout())),
            # Buffers of text models are constants: no exchange in every forward pass, and no waiting there.
            DistributedDataParallelKwargs(broadcast_buffers=False),
        ],
    )
    if asked is not None:
        os.environ[sharding.ASKED] = asked
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"  # transformers would leave rank 1 without weights
    if accelerator.num_processes > 1:
        atexit.register(_leave, accelerator)
    return accelerator


def _leave(accelerator: Accelerator) -> None:
    """End the group's threads while Python still runs.

    A thread that lets go of a tensor later than that aborts the process ("terminate called without an active
    exception"), and with it a run that was complete.
    """
    accelerator.free_memory()  # models hold the group, too
    accelerator.end_training()


def _host_group(accelerator: Accelerator) -> Any:
    """Where numbers are exchanged between the hosts' memories, so that no rank waits for its device to know them."""
    import torch

    if accelerator.num_processes == 1 or accelerator.device.type == "cpu":
        return None  # the group of all, which is gloo's on a CPU
    from datetime import timedelta

    return torch.distributed.new_group(backend="gloo", timeout=timedelta(seconds=collective_timeout()))


class Ranks:
    """The processes that train together. Every method but the properties is a collective: all ranks call it."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.rank: int = accelerator.process_index
        self.size: int = accelerator.num_processes
        self.is_main: bool = accelerator.is_main_process
        self.sharded = self.size > 1 and sharding.is_wanted(precision=accelerator.mixed_precision)
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
        import torch

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
