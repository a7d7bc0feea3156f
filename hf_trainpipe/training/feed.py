"""What a step reads: its examples, this rank's share of them, and the micro-batches that they are computed in."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hf_trainpipe.data.sampler import EpochSampler, micro_batches, shares
from hf_trainpipe.data.streaming import Windows
from hf_trainpipe.engine.gpu.ahead import Ahead
from hf_trainpipe.engine.gpu.rounding import RoundedBatch, fills_of
from hf_trainpipe.training.augmented import Augmented

if TYPE_CHECKING:
    import numpy as np

    from hf_trainpipe.data.prepare import Prepared
    from hf_trainpipe.runtime.tokens.batch import Batch
    from hf_trainpipe.training.setup import Setup
    from hf_trainpipe.training.state import RunState


class Feed:
    """Micro-batches by step: a function of (seed, step, ranks) and of how many tokens a micro-batch holds.

    Args:
        learnt: The rows that steps are drawn from: the training split, of a stream its first window, and those without labels
            behind it.
        completed: The rows of a further window of a stream with what training asks of a model, as those of ``learnt`` have it.
        state: The run's, now: where a stream is, and how much a micro-batch may hold.
        unpadded: Whether no padding is computed.
        rounded: Whether sizes are rounded up, for steps that are CUDA graphs.
    """

    def __init__(
        self,
        setup: Setup,
        learnt: Prepared,
        *,
        completed: Callable[[Prepared], Prepared],
        state: Callable[[], RunState],
        unpadded: bool,
        rounded: bool,
    ) -> None:
        self.setup, self.learnt = setup, learnt
        self.order = EpochSampler(
            num_examples=sum(len(rows.usable) for rows in setup.data.learnt),
            examples_per_step=setup.plan.examples_per_step,
            seed=setup.recipe.seed,
        )
        self._completed, self._state, self._unpadded, self._rounded = completed, state, unpadded, rounded
        self._open = learnt
        """The rows of the epoch, before augmentation: ``learnt``, or a window of a stream."""
        self._augmented = Augmented(setup)
        stream, place = setup.recipe.data.stream(), setup.folder.path / "stream"
        self._windows = Windows(stream, place, rows=len(setup.data.train)) if stream is not None else None
        # The rows of a stream, and changed texts, are made epoch by epoch.
        is_ahead = setup.on_gpu and self._windows is None and not self._augmented.texts
        self._ahead = Ahead(self._made, total_steps=setup.plan.total_steps) if is_ahead else None

    def micro_batches(self, step: int) -> list[Batch]:
        """This rank's micro-batches of a step (counted from 0), the largest first."""
        if os.environ.get("HF_TRAINPIPE_TRACE") == "1":
            self._trace(step)
        return self._made(step) if self._ahead is None else self._ahead.get(step, self.micro_batch_tokens)

    def global_batch(self, step: int) -> tuple[list[list[np.ndarray]], Prepared]:
        """The features of a step (counted from 0), by rank and micro-batch, and the rows that they are of."""
        rows = self._rows(step)
        return [self._groups(rows, share) for share in self._shares(rows, step)], rows

    def batches_of(self, examples: np.ndarray) -> list[Batch]:
        """Micro-batches of any of the examples that are learnt, int64, the largest first; of a stream those of its first window."""
        return self._batches(self.learnt, self._groups(self.learnt, examples))

    def empty_batch(self) -> Batch:
        """A micro-batch of weight 0, for a rank that has none left: it joins the collectives and changes nothing."""
        return self._open.empty_batch()

    @property
    def micro_batch_tokens(self) -> int:
        """The token budget of a micro-batch: the plan's, or less after an out-of-memory error."""
        return self._state().micro_batch_tokens or self.setup.plan.micro_batch_tokens

    @property
    def shortest(self) -> int:
        """Tokens of the shortest feature: no micro-batch can hold fewer."""
        return int(self._open.lengths.min())

    def _made(self, step: int) -> list[Batch]:
        rows, ranks = self._rows(step), self.setup.ranks
        everyones = self._shares(rows, step)
        batches = self._batches(rows, self._groups(rows, everyones[ranks.rank]), epoch=self.order.epoch(step))
        # With FSDP2 every forward pass is a collective: all ranks need the same number of micro-batches.
        needed = max(len(self._groups(rows, share)) for share in everyones) if ranks.sharded else 1
        return batches + [self.empty_batch() for _ in range(max(1, needed) - len(batches))]

    def _groups(self, rows: Prepared, examples: np.ndarray) -> list[np.ndarray]:
        """The features of examples, in micro-batches, the largest first."""
        plan = self.setup.plan
        return micro_batches(
            rows.features_of(examples),
            rows.features.widths,
            max_tokens=self.micro_batch_tokens,
            max_items=plan.micro_batch_examples,
            cost=None if self._unpadded else plan.micro_batch_cost,
            together=rows.features.example if rows.features.together else None,
        )

    def _shares(self, rows: Prepared, step: int) -> list[np.ndarray]:
        """The examples of each rank in a step."""
        examples = rows.usable[self.order.global_batch(step)]
        return shares(examples, rows.example_lengths, ranks=self.setup.ranks.size)

    def _batches(self, rows: Prepared, groups: Sequence[np.ndarray], *, epoch: int | None = None) -> list[Batch]:
        """Tensors of micro-batches: rounded up where steps are graphs, and ready to be copied to a GPU.

        Args:
            epoch: Whose draws they have; None: plain rows, before the first step.
        """
        task, seed = self.setup.task, self.setup.recipe.seed
        batches = [rows.varied(group, task, seed=seed, epoch=epoch or 0) for group in groups]
        if epoch is not None:
            batches = [
                self._augmented.hide(batch, group, epoch, rows) for batch, group in zip(batches, groups, strict=True)
            ]
        if self._rounded:
            fills = fills_of(rows.features)
            batches = [RoundedBatch(batch, fills) for batch in batches]
        return [batch.pinned() for batch in batches] if self.setup.on_gpu else batches

    def _rows(self, step: int) -> Prepared:
        """The rows that a step is drawn from, as its epoch reads them."""
        epoch = self.order.epoch(step)
        return self._augmented.of(self._of_epoch(epoch), epoch)

    def _of_epoch(self, epoch: int) -> Prepared:
        """The rows of an epoch before augmentation: all that are learnt, or the window of a stream."""
        setup, windows = self.setup, self._windows
        if windows is None or epoch == 0:
            return self.learnt
        state = self._state()
        if (state.stream or {"window": 0})["window"] != epoch or self._open is self.learnt:
            windows.restore(state.stream)
            rows, folder = windows.open(epoch)
            assert setup.data.prepare_split is not None
            self._open = self._completed(setup.data.prepare_split("train", rows, folder))
            for line in self._open.rows.warnings(f"train, window {epoch}"):
                setup.console.say(f"warning: {line}")
            state.stream = windows.to_json()
        return self._open

    def _trace(self, step: int) -> None:
        """With HF_TRAINPIPE_TRACE=1: which examples this rank trains on in each step, as lines of JSON."""
        rank = self.setup.ranks.rank
        examples = self._shares(self._rows(step), step)[rank]
        line = {"step": step + 1, "rank": rank, "examples": examples.tolist()}
        with (self.setup.folder.path / f"trace-rank{rank}.jsonl").open("a") as stream:
            stream.write(json.dumps(line) + "\n")
