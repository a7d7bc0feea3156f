"""What happens between steps: the log of a run, its evaluations on the validation split, early stopping.

All ranks hold one of each, because sums over the ranks are taken together; rank 0 alone has a ledger and trackers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from hf_trainpipe import metrics
from hf_trainpipe.codec import to_json
from hf_trainpipe.engine.device import memory_in_use
from hf_trainpipe.engine.evaluation import judge, tune
from hf_trainpipe.metrics.overfitting import FEWEST
from hf_trainpipe.recipe import RunInfo
from hf_trainpipe.tracking.follower import Follower
from hf_trainpipe.tracking.ledger import FINAL, Ledger
from hf_trainpipe.training import gap
from hf_trainpipe.training.health import straggler
from hf_trainpipe.training.state import Best

if TYPE_CHECKING:
    from hf_trainpipe.metrics.overfitting import Trend
    from hf_trainpipe.runtime.model.outputs import Outputs
    from hf_trainpipe.sidecar.parent import Sidecar
    from hf_trainpipe.training.loop import StepReport
    from hf_trainpipe.training.run import Run


class TrainingLog:
    """Writes losses, rates, speed and scores to the ledger and the console; the trackers' process reads the ledger."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.folder = run.folder
        self.console = run.console
        self.ledger: Ledger | None = None
        self.follower: Follower | None = None
        self.sidecars: list[Sidecar] = []
        """Processes beside the training, whose messages are shown on its console."""
        self._pending: list[StepReport] = []
        """Steps whose loss and gradient norm are still on the device."""
        self._grad_norm = math.nan
        self._straggler: int | None = None
        self.console.memory = partial(memory_in_use, run.accelerator.device)
        self.restart_clock()

    def open(self, *, offset: int) -> None:
        """Continue the ledger at the byte ``offset``, which is 0 for a new run, and start the trackers."""
        run = self.run
        self.console.start(run.state.step)
        if not self.folder.is_main:
            return
        place = self.folder.path / "ledger.jsonl"
        if offset > (place.stat().st_size if place.is_file() else 0):
            self.console.say(f"warning: {place} is shorter than the checkpoint says; numbers of this run are lost")
        self.ledger = Ledger(place, attempt=self.folder.attempt, truncate_to=offset, last_step=run.state.step)
        info = RunInfo(
            name=run.recipe.name,
            uid=self.folder.uid,
            directory=self.folder.path,
            attempt=self.folder.attempt,
            recipe=to_json(run.recipe),
        )
        self.follower = Follower(info, run.recipe.trackers)
        self.sidecars.append(self.follower)
        self._show_messages()

    def log_step(self, report: StepReport) -> None:
        """Add a step to the logging interval; at its end write the mean loss, the learning rate and the speed."""
        run, window = self.run, self.run.state.window
        window.steps += 1
        self._pending.append(report)
        self._tokens += report.tokens
        self._computed += report.computed_tokens
        self._busy += report.busy_seconds
        ended = window.steps >= run.recipe.budget.log_every or report.step == run.plan.total_steps
        if ended or run.device_is_host:
            self.fetch_losses()
        self.console.tick(step=report.step, epoch=run.epoch)
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
            self.ledger.log(values, step=report.step, epoch=run.epoch)
        values.pop("train/padding")
        self.console.step(values, step=report.step, epoch=run.epoch)
        self._show_messages()

    def fetch_losses(self) -> None:
        """Fetch pending losses and gradient norms from the device in one sync, and count skipped steps."""
        import torch

        state, pending = self.run.state, self._pending
        if not pending:
            return
        self._pending = []
        numbers = [number.double() for report in pending for number in (report.loss_sum, report.grad_norm)]
        found = torch.stack(numbers).tolist()
        for report, loss_sum, grad_norm in zip(pending, found[::2], found[1::2], strict=True):
            skipped = not math.isfinite(grad_norm)
            state.count_skipped(skipped=skipped)
            self._grad_norm = grad_norm
            if skipped:
                self.console.say(f"warning: step {report.step}: the gradient is not finite; no rank updated")
            else:
                state.window.loss_sum += loss_sum
                state.window.count += report.count

    def log_scores(
        self, scores: Mapping[str, float], *, best: bool, intervals: Mapping[str, tuple[float, float]]
    ) -> None:
        """Write the scores of an evaluation, and show them, some with an interval; rank 0 only."""
        assert self.ledger is not None
        step = self.run.state.step
        self.ledger.log(
            {f"validation/{name}": score for name, score in scores.items()}, step=step, epoch=self.run.epoch
        )
        select = self.run.recipe.selected_metric
        self.console.evaluation(scores, step=step, best=best, select=select, intervals=intervals)

    def log_gap(self, trend: Trend, train_loss: float) -> None:
        """Write the training loss without dropout and what it says of overfitting; rank 0 only."""
        assert self.ledger is not None
        values = {"train/sample_loss": train_loss}
        if math.isfinite(trend.slope):
            values |= {"overfitting/slope": trend.slope, "overfitting/low": trend.low, "overfitting/high": trend.high}
        if trend.shown_from is not None:
            values["overfitting/shown_from"] = float(trend.shown_from)
        self.ledger.log(values, step=self.run.state.step, epoch=self.run.epoch)
        if trend.evaluations >= FEWEST or trend.shown_from is not None:
            self.console.say(f"overfitting {trend.line}")

    def log_final(self, scores: Mapping[str, Mapping[str, Mapping[str, Any]]], card: Path | None) -> None:
        """Write the final scores, and offer the model card, if there is one, to the trackers; rank 0 only."""
        assert self.ledger is not None
        assert self.follower is not None
        values = {
            f"{FINAL}{split}/{name}": float(score["value"])
            for split, found in scores.items()
            for name, score in found.items()
            if score["value"] is not None
        }
        self.ledger.log(values, step=self.run.state.step, epoch=self.run.epoch)
        if card is not None:
            self.follower.artifact(card)

    def restart_clock(self) -> None:
        """Leave the time since the last step out of the speed."""
        self._since = time.monotonic()
        self._tokens = 0
        self._computed = 0
        self._busy = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Flush the ledger, give the trackers a few seconds to catch up, close the console."""
        if self.ledger is not None:
            self.ledger.close()
        if self.follower is not None:
            self.follower.finish(timeout=5.0)
            self._show_messages()
        self.console.close()

    def _show_messages(self) -> None:
        for sidecar in self.sidecars:
            for line in sidecar.messages():
                self.console.say(line)

    def _warn_of_spike(self, loss: float, step: int) -> None:
        usual = self.run.state.usual.mean
        times = self.run.state.usual.spike(loss)
        if times is not None:
            self.console.say(
                f"warning: step {step}: the loss is {times:,.0f} times the usual ({usual:.4g} -> {loss:.4g}): wrong "
                "examples, or too high a learning rate; the run goes on"
            )

    def _warn_of_straggler(self, step: int) -> None:
        found = straggler(self.run.ranks.gather_number(self._busy))
        if found is not None and found[0] != self._straggler:
            rank, times = found
            self.console.say(
                f"warning: rank {rank} is slow: it computes {times} times as long as the others, which wait "
                f"for it (step {step})"
            )
        self._straggler = found[0] if found is not None else None


class Evaluator:
    """Scores the validation split while a run trains, and remembers the best step."""

    def __init__(self, run: Run, log: TrainingLog) -> None:
        self.run = run
        self.log = log

        self._sample = gap.sample_of(run)

    @property
    def stops_early(self) -> bool:
        """Whether the score has not improved for ``budget.patience`` evaluations in a row, or overfitting is shown and
        ``budget.stop_on_overfitting`` is set."""
        budget, state = self.run.recipe.budget, self.run.state
        if budget.stop_on_overfitting and state.gaps.shown_from is not None:
            return True
        return budget.patience is not None and state.stale >= budget.patience

    def evaluate(self) -> bool:
        """Score the validation split, if there is one.

        Returns:
            Whether the score is the best so far; the same on every rank.
        """
        run, state = self.run, self.run.state
        if "validation" not in run.data.splits:
            return False
        run.console.pause()
        split = run.data.splits["validation"]
        with run.console.working("evaluating validation", total=len(split)) as done:
            outputs = run.predict("validation", done=done)
            loss = run.evaluation_loss("validation", outputs)
            gaps = self._gaps(outputs)
        select = run.recipe.selected_metric

        def scored() -> tuple[bool, dict[str, Any], dict[str, float]]:
            predictions = judge(outputs, split.features, run.task)
            task = tune(run.task, predictions)
            if task != run.task:
                predictions = judge(outputs, split.features, task)
            scores = {"loss": loss, **metrics.score(predictions, run.recipe.scored_metrics)}
            better = metrics.better(select, scores[select], state.best.value if state.best else None, task=run.task)
            self.log.log_scores(scores, best=better, intervals=self._interval(predictions))
            return better, task.changes_from(run.task), scores

        better, tuned, scores = run.ranks.from_main(scored)
        if gaps is not None:
            trend = state.gaps.add(state.step, *gaps)
            run.ranks.from_main(lambda: self.log.log_gap(trend, gap.mean(gaps[1])))
        state.evaluated, state.due = state.step, False
        if better:
            state.best = Best(step=state.step, value=scores[select], scores=scores, tuned=tuned)
        state.stale = 0 if better else state.stale + 1
        self.log.restart_clock()
        return better

    def _interval(self, predictions: metrics.Predictions) -> dict[str, tuple[float, float]]:
        """The selected score's, where the console shows it; the final scores have all."""
        recipe = self.run.recipe
        if not self.run.console.shows_intervals:
            return {}
        found = metrics.intervals(
            predictions,
            [recipe.selected_metric],
            confidence=recipe.evaluation.confidence,
            resamples=recipe.evaluation.resamples,
            seed=recipe.seed,
        )
        return {name: (interval.low, interval.high) for name, interval in found.items()}

    def _gaps(self, outputs: Outputs) -> tuple[list[float], list[float]] | None:
        """Losses without dropout, by block, of validation and of a sample of the training; None of a task without them."""
        if not len(self._sample):
            return None
        return gap.validation_losses(self.run, outputs, self._sample), gap.train_losses(self.run, self._sample)
