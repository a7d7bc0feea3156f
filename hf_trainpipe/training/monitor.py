"""What happens between steps: log, evaluate, remember the best, stop early."""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe import metrics
from hf_trainpipe.codec import to_json
from hf_trainpipe.engine.evaluation import loss_of, scorable, tune_threshold
from hf_trainpipe.errors import Interrupted
from hf_trainpipe.recipe import RunInfo
from hf_trainpipe.tracking.follower import Follower
from hf_trainpipe.tracking.ledger import FINAL, Ledger
from hf_trainpipe.training.checkpointing import Checkpointing
from hf_trainpipe.training.health import straggler
from hf_trainpipe.training.state import Best
from hf_trainpipe.utils.wording import here

if TYPE_CHECKING:
    from hf_trainpipe.hub.background_push import BackgroundPush
    from hf_trainpipe.training.loop import StepReport
    from hf_trainpipe.training.run import Run

__all__ = ["Monitor", "command_line", "metric_names", "selected"]


def selected(run: Run) -> str:
    """The metric that chooses the best checkpoint."""
    return run.recipe.evaluation.select or run.recipe.task.metrics()[0]


def metric_names(run: Run) -> list[str]:
    """Everything that is scored, the selected metric first."""
    names = [selected(run), *run.recipe.task.metrics(), *run.recipe.evaluation.metrics]
    return [name for name in dict.fromkeys(names) if name != "loss"]


class Monitor:
    """The run's memory on disk and its voice. Ranks other than 0 take part in collectives only."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.folder = run.folder
        self.console = run.console
        self.ledger: Ledger | None = None
        self.follower: Follower | None = None
        self.background_push: BackgroundPush | None = None
        """Pushes while the run trains."""
        self.checkpointing = Checkpointing(run)
        self._unread: list[StepReport] = []
        self._grad_norm = math.nan
        self._straggler: int | None = None
        self._since = time.monotonic()
        self._tokens = 0
        self._computed = 0
        self._busy = 0.0

    def restore(self) -> None:
        """Continue from the newest valid checkpoint, if there is one; open the ledger at its offset."""
        run = self.run
        offset = self.checkpointing.restore()
        self.console.start(run.state.step)
        if self.folder.is_main:
            place = self.folder.path / "ledger.jsonl"
            if offset > (place.stat().st_size if place.is_file() else 0):
                self.console.say(f"warning: {place} is shorter than the checkpoint says; numbers of this run are lost")
            self.ledger = Ledger.open(place, attempt=self.folder.attempt, truncate_to=offset, last_step=run.state.step)
            info = RunInfo(
                name=run.recipe.name,
                uid=self.folder.uid,
                directory=self.folder.path,
                attempt=self.folder.attempt,
                recipe=to_json(run.recipe),
            )
            self.follower = Follower.start(info, run.recipe.trackers)
            self._relay()

    def save(self, *, wait: bool = False) -> None:
        """Write a checkpoint behind the training."""
        self._read()
        self.checkpointing.save(self.ledger, wait=wait)

    def log(self, report: StepReport) -> None:
        """Add a step to the window; at its end write the mean loss, the rate and the speed."""
        run, window = self.run, self.run.state.window
        window.steps += 1
        self._unread.append(report)
        self._tokens += report.tokens
        self._computed += report.computed_tokens
        self._busy += report.busy_seconds
        ended = window.steps >= run.recipe.budget.log_every or report.step == run.plan.total_steps
        if ended or run.device_is_host:
            self._read()
        self.console.tick(step=report.step, epoch=self.run.epoch)
        if not ended:
            return
        loss_sum, tokens, computed = run.ranks.sums([window.loss_sum, float(self._tokens), float(self._computed)])
        self._warn_of_straggler(report.step)
        seconds = max(time.monotonic() - self._since, 1e-9)
        values = {
            "train/lr": report.learning_rate,
            "train/grad_norm": self._grad_norm,
            "train/tokens_per_second": tokens / seconds,
            "train/padding": computed / max(tokens, 1.0),
        }
        if window.count > 0:
            values = {"train/loss": loss_sum / window.count, **values}
            self._warn_of_spike(values["train/loss"], report.step)
        run.state.end_window()
        self.restart_clock()
        if self.ledger is not None:
            self.ledger.log(values, step=report.step, epoch=self.run.epoch)
        values.pop("train/padding")
        self.console.step(values, step=report.step, epoch=self.run.epoch)
        self._relay()

    def _read(self) -> None:
        """Look at the losses and norms of steps that nobody has looked at: one wait for the device, however many."""
        import torch

        state, unread = self.run.state, self._unread
        if not unread:
            return
        self._unread = []
        numbers = [number.double() for report in unread for number in (report.loss_sum, report.grad_norm)]
        found = torch.stack(numbers).tolist()
        for report, loss_sum, grad_norm in zip(unread, found[::2], found[1::2], strict=True):
            skipped = not math.isfinite(grad_norm)
            state.looked_at(skipped=skipped)
            self._grad_norm = grad_norm
            if skipped:
                self.console.say(f"warning: step {report.step}: the gradient is not finite; no rank updated")
            else:
                state.window.loss_sum += loss_sum
                state.window.count += report.count

    def _relay(self) -> None:
        """Show what the processes beside the trainer have to say."""
        for sidecar in (self.follower, self.background_push):
            for line in sidecar.messages() if sidecar is not None else ():
                self.console.say(line)

    def restart_clock(self) -> None:
        """Leave what happened since the last step out of the speed."""
        self._since = time.monotonic()
        self._tokens = 0
        self._computed = 0
        self._busy = 0.0

    def _warn_of_spike(self, loss: float, step: int) -> None:
        usual = self.run.state.usual.mean
        times = self.run.state.usual.spike(loss)
        if times is not None:
            self.console.say(
                f"warning: step {step}: the loss is {times:,.0f} times the usual ({usual:.4g} -> {loss:.4g}): wrong "
                "examples, or too high a learning rate; the run goes on"
            )

    def _warn_of_straggler(self, step: int) -> None:
        found = straggler(self.run.ranks.each(self._busy))
        if found is not None and found[0] != self._straggler:
            rank, times = found
            self.console.say(
                f"warning: rank {rank} is slow: it computes {times} times as long as the others, which wait "
                f"for it (step {step})"
            )
        self._straggler = found[0] if found is not None else None

    def evaluate(self) -> bool:
        """Score the validation split, where there is one, and remember the best.

        Returns:
            Whether it improved; the same on every rank.
        """
        run, state = self.run, self.run.state
        if "validation" not in run.data.splits:
            return False
        self.console.pause()
        split = run.data.splits["validation"]
        with self.console.working(f"evaluating validation, {len(split):,} examples"):
            outputs = run.predict("validation")
        improved = None
        if self.folder.is_main:
            threshold = None
            if run.task.decoder == "multi_label":
                threshold = getattr(run.task, "threshold", 0.5)
                if getattr(run.task, "tune_threshold", False):
                    threshold = tune_threshold(outputs, split)
            predictions = scorable(outputs, split, task=run.task, labels=run.data.labels, threshold=threshold)
            scores = {
                "loss": loss_of(outputs, split, task=run.task),
                **metrics.score(predictions, metric_names(run)),
            }
            name = selected(run)
            better = metrics.better(name, scores[name], state.best.value if state.best else None)
            improved = (better, threshold, scores)
            assert self.ledger is not None
            logged = {f"validation/{key}": value for key, value in scores.items()}
            self.ledger.log(logged, step=state.step, epoch=self.run.epoch)
            self.console.evaluation(scores, step=state.step, best=better)
        better, threshold, scores = run.ranks.from_main(improved)
        state.evaluated = state.step
        if better:
            state.best = Best(step=state.step, value=scores[selected(run)], scores=scores, threshold=threshold)
        state.stale = 0 if better else state.stale + 1
        self.restart_clock()
        return bool(better)

    @property
    def patience_over(self) -> bool:
        """Whether the score has not improved for as many evaluations as the budget allows."""
        patience = self.run.recipe.budget.patience
        return patience is not None and self.run.state.stale >= patience

    def load_best(self) -> int:
        """Put the best weights into the model; returns the step they come from."""
        return self.checkpointing.load_best()

    def stop_if_asked(self, report: StepReport) -> None:
        """Leave the run, saved, where a signal asked for it.

        Raises:
            Interrupted: some rank got a signal, and there are steps left.
        """
        signals = self.run.signals
        stops_as_planned = signals is not None and signals.planned_stop.stop_at is not None
        if report.stop and (report.step < self.run.plan.total_steps or stops_as_planned):
            name = signals.name if signals is not None else None
            raise Interrupted(
                f"Stopped by {name or 'a signal to another rank'} after step {report.step:,}; everything up to it "
                "is saved.",
                fix=f"Continue with the same command:\n{command_line()}",
                step=report.step,
            )

    def final(self, scores: Mapping[str, Mapping[str, Mapping[str, Any]]], files: Sequence[Path]) -> None:
        """Put the final scores into the ledger, and offer files to the trackers; main process only."""
        assert self.ledger is not None
        values = {
            f"{FINAL}{split}/{name}": float(score["value"])
            for split, found in scores.items()
            for name, score in found.items()
            if score["value"] is not None
        }
        self.ledger.log(values, step=self.run.state.step, epoch=self.run.epoch)
        for file in files:
            if self.follower is not None:
                self.follower.artifact(file)

    def close(self) -> None:
        """Flush the ledger, let the trackers catch up for a few seconds, close the console."""
        self.checkpointing.close()
        if self.ledger is not None:
            self.ledger.close()
        if self.follower is not None:
            self.follower.finish(timeout=5.0)
            self._relay()
        self.console.close()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def command_line() -> str:
    """The command that started this process, as a person would type it; in a notebook the call."""
    if here() == "notebook":
        return "execute(recipe)"
    arguments = sys.argv[1:]
    if Path(sys.argv[0]).name in ("__main__.py", "hf-trainpipe"):
        return shlex.join(["hf-trainpipe", *arguments])
    return shlex.join(["python", sys.argv[0], *arguments])
