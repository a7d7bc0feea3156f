"""A run with its model: weights, optimizer and state on the accelerator. What the loop calls."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from hf_trainpipe.data.reference import with_reference
from hf_trainpipe.engine import compiling, sharding
from hf_trainpipe.engine.cpu import dropout
from hf_trainpipe.engine.evaluation import loss_of, mean_loss, predict_split
from hf_trainpipe.engine.gpu.embedding import add_in_order
from hf_trainpipe.engine.gpu.rounding import RoundedBatch
from hf_trainpipe.engine.heartbeat import Heartbeat
from hf_trainpipe.engine.kept import Kept
from hf_trainpipe.engine.mixed import Mixed
from hf_trainpipe.engine.optimizer import freeze, reinitialize_top
from hf_trainpipe.engine.parallel import parallelize
from hf_trainpipe.engine.randomness import seed_everything
from hf_trainpipe.engine.recompute import checkpoint_layers
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.model.lora import base_fingerprint, is_adapted
from hf_trainpipe.model.proof import prove_forward, prove_passes
from hf_trainpipe.model.weights import build_model
from hf_trainpipe.runtime.model.exact import exact_products
from hf_trainpipe.runtime.model.inference import known_lengths_of
from hf_trainpipe.runtime.model.unpad import gpu_kernels, is_unpadded, unpad
from hf_trainpipe.training.contrastive import warm_up
from hf_trainpipe.training.distilling import Lessons
from hf_trainpipe.training.distilling import loss_sum as distilled
from hf_trainpipe.training.feed import Feed
from hf_trainpipe.training.graphed import graphs_of
from hf_trainpipe.training.linear_probe import begin_as_probe
from hf_trainpipe.training.setup import Setup
from hf_trainpipe.training.state import RunState
from hf_trainpipe.utils.cache import cache_root
from hf_trainpipe.utils.gc import resume_gc

if TYPE_CHECKING:
    import numpy as np
    import torch

    from hf_trainpipe.data.prepare import Prepared
    from hf_trainpipe.engine.gpu.graphs import Graphs
    from hf_trainpipe.runtime.model.outputs import Outputs
    from hf_trainpipe.runtime.tasks.base import Task
    from hf_trainpipe.runtime.tokens.batch import Batch

EVALUATION_TOKENS, EVALUATION_TOKENS_GPU = 4096, 16_384
"""Tokens a batch of an evaluation holds at most, padding included."""

HEAD = (0, 0, 0, 1)
"""Key of the randomness that initialises a new head, beside the seed; steps use keys of four numbers."""


class Run(Setup):
    """The model, optimizer and state of a training run. All ranks hold one; only rank 0 writes files.

    Args:
        setup: The run before its model is loaded; the weights are loaded here.
    """

    graphs: Graphs | None = None
    """Of the forward and backward passes, where steps run as CUDA graphs."""
    chosen_apart: Mapping[str, Any] | None = None
    """Fields of the task that were chosen on answers of a cross-validation, in place of those that validation chose."""
    feed: Feed
    """What each step reads."""
    _heartbeat: Heartbeat | None = None
    _whole: torch.nn.Module | None = None
    """With FSDP2: a model for all weights, once they are cut."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(**vars(setup))
        self.pad_id: int = self.tokenizer.pad_token_id or 0  # as a package pads
        self.evaluation_tokens = max(EVALUATION_TOKENS_GPU if self.on_gpu else EVALUATION_TOKENS, self.plan.max_length)
        self.mixed = Mixed(self.plan.precision, self.accelerator.device)
        self.state = RunState()
        with self.console.working("loading the model"):
            self._load_model()

    def _load_model(self) -> None:
        """Load weights, a head from the recipe's seed, and an optimizer."""
        seed_everything(self.recipe.seed, *HEAD)
        self.bare = build_model(self.recipe.model, self.task, say=self.console.say)
        reinitialize_top(self.bare, self.recipe.model.reinit_layers)
        freeze(self.bare, self.recipe.optim)
        self.bare.to(self.accelerator.device)
        prove_forward(
            self.bare,
            length=self.plan.max_length,
            pad_id=self.pad_id,
            pads_with_a_word=self.tokenizer.pad_token_id is None,
        )
        if self.mixed.is_pure:
            self.mixed.take(self.bare)
            prove_passes(self.bare, self.mixed.passes)
        self._speed_up()
        if self.recipe.model.head is not None:
            warmed = warm_up(self, self.bare) if self.recipe.model.head == "contrastive" else None
            begin_as_probe(self, self.bare, warmed)
        if self.recipe.optim.checkpoint_layers:
            checkpoint_layers(self.bare)
        learnt = self._look_at_data()
        if self.on_gpu:
            self.graphs = graphs_of(self, self.bare, self.mixed, self.loss_there)
        self.feed = Feed(
            self,
            learnt,
            completed=lambda rows: self._precomputed(rows, self._lessons()),
            state=lambda: self.state,
            unpadded=self.unpadded,
            rounded=self.graphs is not None,
        )
        if self.ranks.sharded:
            self._whole = copy.deepcopy(self.bare).to("cpu").requires_grad_(False)
        self.parallel = parallelize(
            self.bare, self.recipe.optim, self.ranks, self.mixed, graphed=self.graphs is not None
        )
        self.model, self.optimizer = self.mixed.around(self.parallel.model), self.parallel.optimizer
        self.compiled = self.plan.compiled and not self.options.package_only and self._compile()
        resume_gc()  # it was off while libraries were imported

    def _look_at_data(self) -> Prepared:
        """What the task asks of the model before its first step, for all splits, and what a teacher makes of what is learnt, which
        is returned."""
        if (line := self.task.remark(self.bare)) is not None:
            self.console.say(f"warning: {line}")
        lessons = self._lessons()  # the teacher's weights go with it
        for name, split in self.data.splits.items():
            self.data.splits[name] = self._precomputed(split, lessons)
        if lessons is None or self.data.unlabelled is None:
            return self.data.train
        return lessons.learnt(self.data.train, self.data.unlabelled)

    def _lessons(self) -> Lessons | None:
        return None if self.teacher is None else Lessons(self)

    def _precomputed(self, split: Prepared, lessons: Lessons | None) -> Prepared:
        """A split with what the task asks of the model before its first step, and the training one with what a teacher makes of it.

        What training compares with is computed as its steps are, so that both round alike, and the rest in fp32.
        """
        if lessons is not None and split.name == "train":
            split = lessons.added_to(split)
        if not self.task.keeps(split.features):
            return self.data.precomputed(split, self.whole_model)
        trains = split.name == "train"
        base = self.data.fingerprints.get("base")
        kept = partial(
            with_reference,
            weights=base or self.ranks.from_main(partial(base_fingerprint, self.recipe.model)),
            precision=self.plan.precision if trains else "fp32",
            root=cache_root(),
            say=self.console.say,
            ranks=self.ranks if self.task.refers else None,  # mining looks at all texts at once
        )
        with (
            self.console.working(f"looking at {split.name} with the model as it begins"),
            self.mixed.evaluates() if trains else exact_products(),
        ):
            return self.data.precomputed(split, self.whole_model, kept)

    def _speed_up(self) -> None:
        """Skip padding if the check of this model passed; on a CPU, use the faster dropout."""
        if self.plan.padding is None and (reason := unpad(self.bare)) is not None:
            self.console.say(f"warning: micro-batches are padded to their longest: {reason}")
        self.unpadded = is_unpadded(self.bare)
        if self.unpadded and self.on_gpu:
            with self.mixed.evaluates():
                if kernels := gpu_kernels(self.bare, self.mixed.dtype):
                    self.console.say(f"attention   {', '.join(kernels)}")
        if self.accelerator.device.type == "cpu":
            dropout.use_fast_dropout(self.bare)
        if self.on_gpu or self.mixed.is_pure:
            add_in_order(self.bare)

    def _compile(self) -> bool:
        """Compile the layers on all ranks or on none; returns whether they are compiled."""
        batch = self.feed.batches_of(self.data.train.usable[: self.plan.examples_per_step])[0]

        def gradient(training: bool) -> list[torch.Tensor]:
            seed_everything(self.recipe.seed, *HEAD)
            self.model.train(training)
            try:
                with nullcontext() if training else exact_products(), self.parallel.micro_batch_context(last=False):
                    if self.graphs is not None and isinstance(batch, RoundedBatch):
                        self.graphs.run(batch, 1.0)
                    else:
                        self.mixed.backward(self.loss_sum(batch))
                return [parameter.grad.clone() for parameter in self.bare.parameters() if parameter.grad is not None]
            finally:  # a backward pass that fails in its middle has left some
                self.optimizer.zero_grad()

        reason: str | None = "FSDP2 cuts them"
        if not self.ranks.sharded:
            tolerance = compiling.TOLERANCE_16_BIT if self.mixed.is_on else compiling.FP32_TOLERANCE
            reason = compiling.compile_layers(
                self.bare,
                gradient,
                tolerance=tolerance,
                whole=self.on_gpu,
                say=self.console.say,
                on_any_rank=self.ranks.any,
            )
        if reason is not None:
            self.console.say(f"warning: the layers are not compiled: {reason}")
        return reason is None

    @property
    def tuned_task(self) -> Task:
        """The task with what was chosen for the best model, on validation or apart from it."""
        best, apart = self.state.best, self.chosen_apart
        return self.task.changed(apart if apart is not None else best.tuned if best is not None else {})

    def load_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Load whole tensors, by name, into the model; with FSDP2 every rank takes its rows. Frozen ones may be missing."""
        held = self.bare.state_dict()
        rows = {name: sharding.shard_like(tensor, held[name]) for name, tensor in weights.items()}
        self.bare.load_state_dict(rows, strict=not is_adapted(self.bare))

    def whole_model(self) -> torch.nn.Module:
        """The whole model on the device: the model itself, or once FSDP2 has cut it a copy. All ranks call it."""
        if self._whole is None:
            return self.bare
        weights = {name: sharding.full_tensor(tensor).cpu() for name, tensor in self.bare.state_dict().items()}
        self._whole.load_state_dict(weights)
        return self._whole.to(self.accelerator.device)

    # -- what the loop asks for ------------------------------------------------------------

    def shrink_micro_batches(self) -> None:
        """Halve the token budget of a micro-batch and drop the gradients of the step; all ranks at once.

        Raises:
            RecipeError: one example alone does not fit.
        """
        import torch

        shortest = self.feed.shortest
        if self.feed.micro_batch_tokens <= shortest:
            raise RecipeError(
                f"Step {self.state.step + 1}: out of memory with a single example of up to "
                f"{self.plan.max_length} tokens.",
                fix="Lower tokens.max_length, choose a smaller model, or use a device with more memory.",
            )
        self.state.micro_batch_tokens = max(shortest, self.feed.micro_batch_tokens // 2)
        if (scaler := self.mixed.scaler) is not None:
            scaler.update(scaler.get_scale())  # the non-finite norm was no overflow
        self.optimizer.zero_grad()
        if self.graphs is not None:
            self.graphs.forget()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.console.say(
            f"warning: step {self.state.step + 1}: out of memory; from here on micro-batches hold up to "
            f"{self.feed.micro_batch_tokens:,} tokens, the step the same {self.plan.examples_per_step} examples"
        )

    def heartbeat(self) -> Heartbeat:
        """Ends the run and names the rank if one hangs; while it is open, every forward pass is a beat."""
        folder, ranks = self.folder.path / "heartbeat", self.ranks
        self._heartbeat = Heartbeat(folder=folder, rank=ranks.rank, ranks=ranks.size, watched=self.bare)
        return self._heartbeat

    def beat(self) -> None:
        """Record that this rank goes on, where no forward pass tells: a graph calls no hooks."""
        if self._heartbeat is not None:
            self._heartbeat.beat()

    @property
    def epoch(self) -> float:
        """Epochs done, as a fraction."""
        return self.state.step / self.feed.order.steps_per_epoch

    @property
    def device_is_host(self) -> bool:
        """Whether the device is the CPU, so that reading a number needs no sync."""
        return bool(self.accelerator.device.type == "cpu")

    def zero(self) -> torch.Tensor:
        """A float64 zero on the device."""
        import torch

        return torch.zeros((), dtype=torch.float64, device=self.accelerator.device)

    def loss_sum(self, batch: Batch) -> torch.Tensor:
        """The loss of a micro-batch on the CPU: a sum, not a mean; the task's, or with a teacher both."""
        return self.loss_there(batch.to(self.accelerator.device))

    def loss_there(self, batch: Batch, model: torch.nn.Module | None = None) -> torch.Tensor:
        """The same of one on the device; by the model of the steps, or another."""
        outputs, distil = self._forward(batch, model or self.model), self.recipe.distil
        return self.task.loss_sum(outputs, batch) if distil is None else distilled(self.task, distil, outputs, batch)

    def outputs(self, batch: Batch) -> tuple[Mapping[str, torch.Tensor], Batch]:
        """What the loss of a micro-batch on the CPU is computed from, and the micro-batch on the device."""
        there = batch.to(self.accelerator.device)
        return self._forward(there, self.model), there

    def _forward(self, there: Batch, model: torch.nn.Module) -> Mapping[str, torch.Tensor]:
        with known_lengths_of(there, self.task if self.unpadded else None):
            return self.task.forward(model, there.inputs)

    def computed_tokens(self, batch: Batch) -> int:
        """Tokens that the model computes of a micro-batch, padding included."""
        if isinstance(batch, RoundedBatch):
            return batch.shape.tokens
        return batch.tokens if self.unpadded else batch.padded_tokens

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of every group: ``rate`` times the group's own scale."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)

    # -- evaluation ------------------------------------------------------------------------

    @contextmanager
    def _evaluation(self, *, autocast: bool, model: torch.nn.Module | None = None) -> Iterator[torch.nn.Module]:
        """The whole model, or another, not compiled, in the precision of the steps or in fp32."""
        model = model or self.whole_model()
        plain = compiling.run_eagerly() if self.compiled else nullcontext()
        with plain, self.mixed.evaluates() if autocast else exact_products():
            yield model

    def predict(
        self,
        split: str,
        *,
        autocast: bool = True,
        examples: np.ndarray | None = None,
        model: torch.nn.Module | None = None,
        task: Task | None = None,
        done: Callable[[int], None] | None = None,
    ) -> Outputs:
        """Outputs for the examples of a split, or some of them, on every rank.

        Args:
            autocast: False: in fp32.
            model: The one that answers; None: the run's.
            task: Whose outputs; None: the run's.
            done: Called with the examples that all ranks have done, as far as this one knows.
        """
        prepared, kept = self.data.splits[split], None
        with self._evaluation(autocast=autocast, model=model) as answering:
            if self.task.generates:
                precision = self.plan.precision if autocast else "fp32"
                kept = Kept(
                    self.folder.path,
                    prepared,
                    answering,
                    self.ranks,
                    task=self.task,
                    precision=precision,
                    examples=examples,
                )
            return predict_split(
                answering,
                prepared,
                self.ranks,
                task=task or self.task,
                max_tokens=self.evaluation_tokens,
                examples=examples,
                kept=kept,
                done=done,
            )

    def evaluation_loss(self, split: str, predictions: Outputs) -> float:
        """The task's mean loss over a split; all ranks call it."""
        prepared = self.data.splits[split]
        found = loss_of(predictions, prepared.features, self.task)
        if found is None:
            with self._evaluation(autocast=True) as model:
                found = mean_loss(model, prepared, self.ranks, task=self.task, max_tokens=self.evaluation_tokens)
        return found

    def block_losses(self, split: str, blocks: Sequence[np.ndarray]) -> list[float]:
        """The task's mean loss over each of some blocks of examples; all ranks call it."""
        prepared = self.data.splits[split]
        with self._evaluation(autocast=True) as model:
            return [
                mean_loss(
                    model, prepared, self.ranks, task=self.task, max_tokens=self.evaluation_tokens, examples=block
                )
                for block in blocks
            ]
