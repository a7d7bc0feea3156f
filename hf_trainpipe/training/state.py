"""What a run remembers from one step to the next. The position in the data follows from ``step``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from hf_trainpipe.training.health import LossSpikeDetector

__all__ = ["Best", "LogWindow", "RunState"]


@dataclass
class Best:
    """The best evaluation so far."""

    step: int
    value: float
    scores: dict[str, float]
    threshold: float | None = None


@dataclass
class LogWindow:
    """Sums since the last logged loss, over all ranks when stored."""

    loss_sum: float = 0.0
    count: float = 0.0
    steps: int = 0
    skipped: int = 0
    """Steps that changed nothing. The schedule learns of them at the end of the window, so that no step waits for the
    device to know, and a save in between changes nothing."""


@dataclass
class RunState:
    """Everything that a resumed run needs besides weights and optimizer moments."""

    step: int = 0
    """Optimizer steps attempted: the position in the data."""
    updates: int = 0
    """Steps that changed the weights, those skipped in the window not yet taken off: the position in the schedule."""
    skipped: int = 0
    """Steps in a row whose gradient was not finite."""
    evaluated: int = 0
    """The step of the last evaluation."""
    stale: int = 0
    """Evaluations in a row without improvement."""
    best: Best | None = None
    window: LogWindow = field(default_factory=LogWindow)
    usual: LossSpikeDetector = field(default_factory=LossSpikeDetector)
    """The usual loss, against which a spike is seen."""
    micro_batch_tokens: int | None = None
    """The token budget after memory was too small for the plan's; part of the state, since dropout depends on it."""

    stream: dict[str, Any] | None = None
    """Where the window of a stream begins that is trained on (:mod:`hf_trainpipe.data.streaming`)."""

    def took_step(self) -> None:
        """Count a step, whose gradient is looked at later."""
        self.step += 1
        self.updates += 1

    def looked_at(self, *, skipped: bool) -> None:
        """Count a step of the window as one that changed the weights or, where its gradient was not finite, did not."""
        self.skipped = self.skipped + 1 if skipped else 0
        self.window.skipped += skipped

    def end_window(self) -> None:
        """Begin a new window; all steps of the old one have been looked at."""
        self.updates -= self.window.skipped
        self.window = LogWindow()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> RunState:
        best = data.get("best")
        return cls(
            **{
                **data,
                "best": Best(**best) if best else None,
                "window": LogWindow(**data.get("window", {})),
                "usual": LossSpikeDetector(**data.get("usual", {})),
            }
        )
