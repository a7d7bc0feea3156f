"""What the ranks of a run tell each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Ranks", "make_accelerator"]

COLLECTIVE_TIMEOUT_MINUTES = 10


def make_accelerator(precision: str) -> Accelerator:
    """The process group and device that ``accelerate launch`` describes."""
    from datetime import timedelta

    from accelerate import Accelerator
    from accelerate.utils import InitProcessGroupKwargs

    return Accelerator(
        mixed_precision="no" if precision == "fp32" else precision,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(minutes=COLLECTIVE_TIMEOUT_MINUTES))],
    )


class Ranks:
    """The processes that train together. Every method but the properties is a collective: all ranks call it."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.rank: int = accelerator.process_index
        self.size: int = accelerator.num_processes
        self.is_main: bool = accelerator.is_main_process

    def agree(self, *, count: float, stop: bool) -> tuple[float, bool]:
        """Sum the counts over ranks, and learn whether any rank wants to stop: one collective."""
        if self.size == 1:
            return count, stop
        import torch

        mine = torch.tensor([count, float(stop)], dtype=torch.float64, device=self.accelerator.device)
        total = self.accelerator.reduce(mine, reduction="sum")
        return float(total[0]), bool(total[1] > 0)

    def sum(self, value: float) -> float:
        """The sum of a number over all ranks."""
        return self.agree(count=value, stop=False)[0]

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
