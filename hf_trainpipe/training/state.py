"""The state of a run besides weights and optimizer. The position in the data follows from ``step``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from hf_trainpipe.metrics.overfitting import Gaps
from hf_trainpipe.training.health import LossSpikeDetector


@dataclass
class Best:
    """The best evaluation so far."""

    step: int
    value: float
    scores: dict[str, float]
    tuned: dict[str, Any] = field(default_factory=dict)
    """Fields of the task that were chosen on validation."""


@dataclass
class LogWindow:
    """Sums since the last logged loss, over all ranks when stored."""

    loss_sum: float = 0.0
    count: float = 0.0
    steps: int = 0
    skipped: int = 0
    """Steps without an update. The schedule counts them off at the end of the window, so that no step needs a sync, and a
    save in between changes nothing."""


@dataclass
class RunState:
    """Everything that a resumed run needs besides weights and optimizer moments."""

    step: int = 0
    """Optimizer steps attempted: the position in the data."""
    updates: int = 0
    """Steps with an update, and those skipped in the current window: the position in the schedule."""
    skipped: int = 0
    """Steps in a row whose gradient was not finite."""
    evaluated: int = 0
    """The step of the last evaluation."""
    due: bool = False
    """Whether the evaluation of this step had not ended when the checkpoint was written."""
    stale: int = 0
    """Evaluations in a row without improvement."""
    best: Best | None = None
    window: LogWindow = field(default_factory=LogWindow)
    usual: LossSpikeDetector = field(default_factory=LossSpikeDetector)
    """Running means of the loss, to detect a spike."""
    micro_batch_tokens: int | None = None
    """The token budget after an out-of-memory error; part of the state, since dropout depends on it."""

    gaps: Gaps = field(default_factory=Gaps)
    """Losses without dropout, from which overfitting is told."""

    stream: dict[str, Any] | None = None
    """Where the current window of a stream begins (:mod:`hf_trainpipe.data.streaming`)."""

    def took_step(self) -> None:
        """Count a step; its gradient norm is fetched later."""
        self.step += 1
        self.updates += 1

    def count_skipped(self, *, skipped: bool) -> None:
        """Count a step whose gradient norm was fetched: ``skipped`` if it was not finite, so that no rank updated."""
        self.skipped = self.skipped + 1 if skipped else 0
        self.window.skipped += skipped

    def end_window(self) -> None:
        """Begin a new window; the losses of the old one have been fetched."""
        self.updates -= self.window.skipped
        self.window = LogWindow()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> RunState:
        best = dict(data["best"]) if data.get("best") else None
        if best is not None and (threshold := best.pop("threshold", None)) is not None:
            best["tuned"] = {"threshold": threshold}  # of a version before any field could be tuned
        return cls(
            **{
                **data,
                "best": Best(**best) if best else None,
                "window": LogWindow(**data.get("window", {})),
                "usual": LossSpikeDetector(**data.get("usual", {})),
                "gaps": Gaps(**data.get("gaps", {})),
            }
        )
