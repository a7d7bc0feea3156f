"""The plan: steps, micro-batches and memory, from a recipe, its data and the machine, without weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_trainpipe.engine.device import IN_WORDS, Precision
from hf_trainpipe.engine.machine import Machine
from hf_trainpipe.engine.optimizer import state_bytes
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.model.facts import ModelFacts, model_facts
from hf_trainpipe.model.lengths import max_length
from hf_trainpipe.model.limits import ModelLimits
from hf_trainpipe.model.quantised import quantised_bytes
from hf_trainpipe.utils.tables import facts

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Recipe

CPU_TOKENS = 512
CPU_TOKENS_UNPADDED = 2048
GPU_TOKENS, GPU_TOKENS_MOST = 4096, 65_536
"""Of a micro-batch on a GPU, at least and at most; in between what fits into a third of its memory."""
ACTIVATION_BYTES = 48
"""Of a token, layer and hidden unit, kept for the backward pass in 16 bits: an estimate for encoders, on the large side."""
COMPILED_SAVING, COMPILING_SECONDS = 6e-11, 60.0
"""Compiled layers save so many seconds a token, layer and hidden unit on a GPU (an H200: docs/results/speed-gpu.md), and take so
long to compile, at most."""
CPU_COST, GPU_COST = 96, 2048
"""Fixed cost of a padded micro-batch, in tokens. On a CPU, with MPNet and DeBERTa of MiniLM's size and SST-2, 96 was the
fastest of 20, 32, 64, 96, 400: with 20 (1.09 computed per real token) a step took a tenth (fp32) to a half (``medium``)
longer. The value for GPUs, with their launch latency, is a guess."""
FROZEN_BYTES = 4
"""Bytes of a parameter in fp32."""
WEIGHT_BYTES = 8
"""Bytes of a parameter and its gradient, both in fp32, without optimizer state."""
COPY_BYTES = 2
"""Bytes of a parameter's copy in bf16, where passes read one of each."""
_WIDTH = 78
"""Width of the plan's lines: indented by ``show``, they fit 80 columns."""


_OPTIMIZERS = {
    "adamw_8bit": "AdamW with moments in 8 bits, those of embeddings in 32",
    "adafactor": "Adafactor; its rate is relative to the size of each weight: a peak_lr of 1e-3 to 1e-2 is usual",
}


@dataclass(frozen=True, kw_only=True, repr=False)
class Plan:
    """Derived consequences of a recipe. Units are in the names."""

    num_examples: int
    num_tokens: int | None
    """Of all training features and streams; None: not known before they are encoded."""
    world_size: int
    examples_per_step: int
    examples_per_rank: int
    """Maximum examples of a step on one rank."""
    micro_batch_tokens: int
    micro_batch_examples: int | None
    micro_batch_cost: int
    """Fixed cost of a micro-batch in tokens, if they are padded."""
    steps_per_epoch: int
    total_steps: int
    warmup_steps: int
    evaluate_every: int
    save_every: int
    max_length: int
    precision: Precision
    compiled: bool
    """Whether the layers are compiled before the first step."""
    algorithm: str
    """The optimizer."""
    checkpointed: bool
    """Whether gradient checkpointing is on."""
    padding: str | None
    """Why micro-batches are padded to their longest; None: no padding is computed."""
    threads: int
    parameters: int
    architecture: str
    memory_bytes: int
    sharded: bool
    """Weights, gradients and optimizer state of one rank, without activations."""
    trained: int | None = None
    """Parameters of the adapters and the head, where nothing else is trained; None: there are no adapters."""
    base_bits: int | None = None
    """Of the weights of the base's linear layers; None: they are in fp32."""
    flops_per_step: float | None = None
    """FLOPs of matrix products of one step over all ranks, forward and backward."""
    teacher: str | None = None
    """What is learnt from, and what asking it costs; None: there is no teacher."""

    def evaluates_at(self, step: int) -> bool:
        """Whether an evaluation follows step ``step`` (counted from 1)."""
        return step % self.evaluate_every == 0 or step == self.total_steps

    def saves_at(self, step: int) -> bool:
        """Whether a checkpoint follows step ``step`` (counted from 1)."""
        return step % self.save_every == 0 or step == self.total_steps

    def __repr__(self) -> str:
        return f"Plan({self.total_steps:,} steps of {self.examples_per_step} examples, {self.precision})"

    def _repr_html_(self) -> str:
        from html import escape

        return "<pre>" + escape("\n".join(self.lines())) + "</pre>"

    def lines(self) -> list[str]:
        """The plan as text, one fact per line of at most 78 characters."""
        shape = f"{self.examples_per_step} examples a step = {self.world_size} x {self.examples_per_rank}"
        tokens = "" if self.num_tokens is None else f", {self.num_tokens:,} tokens"
        rows = [
            ("model", f"{self.architecture}, {self.parameters / 1e6:.1f} M parameters, {self.precision}"),
            ("precision", IN_WORDS[self.precision] if self.precision in ("tf32", "bf16-pure") else None),
            ("lora", None if self.trained is None else self._lora()),
            ("teacher", self.teacher),
            ("examples", f"{self.num_examples:,} for training{tokens}, at most {self.max_length} tokens each"),
            ("step", f"{shape}, in micro-batches of up to {self.micro_batch_tokens:,} tokens"),
            (
                "padding",
                "none is computed" if self.padding is None else f"to the longest of a micro-batch: {self.padding}",
            ),
            ("compiled", "each layer, before the first step" if self.compiled else None),
            (
                "memory",
                "each layer's activations are computed again in the backward pass" if self.checkpointed else None,
            ),
            ("optimizer", _OPTIMIZERS.get(self.algorithm)),
            (
                "steps",
                f"{self.total_steps:,} ({self.steps_per_epoch:,} an epoch), {self.warmup_steps:,} of them warm-up",
            ),
            ("evaluation", f"every {self.evaluate_every:,} steps; checkpoint every {self.save_every:,}"),
            (
                "machine",
                f"{self.world_size} rank(s) x {self.threads} thread(s); weights, gradients and optimizer take "
                f"{self.memory_bytes / 2**20:,.0f} MiB a rank{' (FSDP2)' if self.sharded else ''}",
            ),
            ("work", None if self.flops_per_step is None else f"{self.flops_per_step / 1e9:,.0f} GFLOP a step"),
        ]
        return facts([(name, line) for name, line in rows if line is not None], width=_WIDTH).splitlines()

    def _lora(self) -> str:
        assert self.trained is not None
        share = self.trained / self.parameters
        held = "" if self.base_bits is None else f"; the base is held in {self.base_bits} bits"
        return f"{self.trained:,} parameters are trained, {share:.1%} of the model's: the adapters and the head{held}"


def why_padded(recipe: Recipe, model_type: str) -> str | None:
    """Why micro-batches are padded, as far as known before weights are loaded; None: they are not."""
    from hf_trainpipe.runtime.model.unpad import ARCHITECTURES

    if recipe.tokens.padding == "batch":
        return "tokens.padding is 'batch'"
    if recipe.task.schema().model == "AutoModelForCausalLM":
        from hf_trainpipe.runtime.model.packed import why_not

        return why_not(model_type)
    if model_type not in ARCHITECTURES:
        return f"{model_type} is not among {', '.join(ARCHITECTURES)}"
    return None


def training_flops(mean_tokens: float, examples: int, facts: ModelFacts) -> float:
    """FLOPs of matrix products in a training step of an encoder: sum of n (6 P + 12 L h n).

    P are the parameters outside embeddings, L layers, h hidden size, n tokens of an example,
    approximated by the mean. Of frozen parameters there is no gradient: 4 P, and 6 for what is trained.
    """
    weights = 6.0 * facts.encoder_parameters
    if facts.trained is not None:
        weights = 4.0 * facts.encoder_parameters + 6.0 * facts.trained
    per_token = weights + 12.0 * facts.layers * facts.hidden * mean_tokens
    return examples * mean_tokens * per_token


def teacher_line(
    name: str, teacher: ModelFacts, student: ModelFacts, *, asked: int, trained: int, mean_tokens: float
) -> str:
    """A teacher, and what asking it costs beside the steps.

    Args:
        asked: Examples that it reads.
        trained: Examples of all steps.
        mean_tokens: Of an example.
    """
    forward = (
        asked * mean_tokens * (2.0 * teacher.encoder_parameters + 4.0 * teacher.layers * teacher.hidden * mean_tokens)
    )
    share = forward / training_flops(mean_tokens, trained, student)
    return (
        f"{name}, {teacher.parameters / 1e6:.1f} M parameters; reads {asked:,} examples once, before they are trained on: "
        f"about {share:.0%} of the work of all steps"
    )


def make_plan(
    recipe: Recipe,
    *,
    limits: ModelLimits,
    machine: Machine,
    num_examples: int,
    num_labels: int,
    streamed: bool = False,
    mean_tokens: float | None = None,
    num_tokens: int | None = None,
    teacher: tuple[str, ModelFacts] | None = None,
) -> Plan:
    """Derive a plan, for ``show`` and for training.

    Args:
        recipe: Its model's configuration is read.
        limits: Limits of the model with its tokenizer.
        machine: Ranks, threads and precision.
        num_examples: Usable examples of the training split.
        num_labels: Of the task, for the size of the head.
        streamed: Whether ``num_examples`` is that of one window of a stream.
        mean_tokens: Mean tokens of an example, if known.
        num_tokens: Tokens of all examples, if known.
        teacher: The name and the size of what is learnt from; None: there is none.

    Raises:
        RecipeError: the budget cannot be met on this number of ranks.
    """
    budget, world_size = recipe.budget, machine.ranks
    facts = model_facts(recipe.model, recipe.task, num_labels=num_labels)
    length = max_length(recipe.tokens, limits.limit)
    if budget.examples_per_step < world_size:
        raise RecipeError(
            f"budget.examples_per_step: {budget.examples_per_step} examples cannot be shared among {world_size} ranks.",
            fix=f"Set budget.examples_per_step to {world_size} or more, or launch fewer processes.",
        )
    steps_per_epoch = -(-num_examples // budget.examples_per_step)
    total = max(1, round(steps_per_epoch * budget.epochs))
    if streamed:
        total = _steps_of_stream(recipe)
    elif budget.max_steps is not None:
        total = min(total, budget.max_steps)
    evaluate_every = min(budget.evaluate_every or steps_per_epoch, max(1, total))
    padding = why_padded(recipe, facts.model_type)
    usual = _gpu_tokens(facts, machine) if machine.on_gpu else CPU_TOKENS if padding else CPU_TOKENS_UNPADDED
    tokens = max(budget.micro_batch_tokens or usual, length)
    per_rank = -(-budget.examples_per_step // world_size)
    adapted = facts.trained is not None
    trained = facts.parameters if facts.trained is None else facts.trained
    moments = state_bytes(
        recipe.optim.algorithm,
        parameters=trained,
        in_tables=0 if adapted else facts.parameters - facts.encoder_parameters,
    )
    weight_bytes = WEIGHT_BYTES * trained + (FROZEN_BYTES * (facts.parameters - facts.quantised) if adapted else 0)
    base_bits = recipe.model.lora.base_bits if recipe.model.lora is not None else None
    if machine.precision == "bf16-pure":
        weight_bytes += COPY_BYTES * facts.parameters
    if base_bits is not None:
        weight_bytes += quantised_bytes(facts.quantised, base_bits)
    flops = None if mean_tokens is None else training_flops(mean_tokens, budget.examples_per_step, facts)
    learnt = total * budget.examples_per_step
    taught = None
    if teacher is not None:
        asked = learnt if streamed else num_examples
        taught = teacher_line(*teacher, facts, asked=asked, trained=learnt, mean_tokens=mean_tokens or 1.0)
    return Plan(
        num_examples=num_examples,
        num_tokens=num_tokens,
        world_size=world_size,
        examples_per_step=budget.examples_per_step,
        examples_per_rank=per_rank,
        micro_batch_tokens=tokens,
        micro_batch_examples=budget.micro_batch_examples,
        micro_batch_cost=GPU_COST if machine.on_gpu else CPU_COST,
        steps_per_epoch=steps_per_epoch,
        total_steps=total,
        warmup_steps=math.ceil(recipe.optim.warmup * total),
        evaluate_every=evaluate_every,
        save_every=min(budget.save_every or evaluate_every, max(1, total)),
        max_length=length,
        precision=machine.precision,
        compiled=_compiles(recipe, machine, facts, tokens=total * budget.examples_per_step * (mean_tokens or 0.0)),
        algorithm=recipe.optim.algorithm,
        checkpointed=recipe.optim.checkpoint_layers,
        padding=padding,
        threads=machine.threads,
        parameters=facts.parameters,
        architecture=facts.architecture,
        memory_bytes=(weight_bytes + moments) // (world_size if machine.sharded else 1),
        sharded=machine.sharded,
        trained=facts.trained,
        base_bits=base_bits,
        flops_per_step=flops,
        teacher=taught,
    )


def _gpu_tokens(facts: ModelFacts, machine: Machine) -> int:
    """Tokens of a micro-batch whose activations fill a third of the GPU's memory."""
    size = ACTIVATION_BYTES * facts.layers * facts.hidden * (2 if machine.precision in ("fp32", "tf32") else 1)
    fitting = int((machine.gpu_bytes or 0) / 3 / max(1, size)) // GPU_TOKENS * GPU_TOKENS
    return min(GPU_TOKENS_MOST, max(GPU_TOKENS, fitting))


def _compiles(recipe: Recipe, machine: Machine, facts: ModelFacts, *, tokens: float) -> bool:
    """Whether the layers are compiled: as the recipe says, else on a GPU where the steps to come save more than it takes."""
    if recipe.optim.compile is not None:
        return recipe.optim.compile
    fits = machine.on_gpu and not machine.sharded and not recipe.optim.checkpoint_layers
    return fits and tokens * facts.layers * facts.hidden * COMPILED_SAVING > COMPILING_SECONDS


def _steps_of_stream(recipe: Recipe) -> int:
    if recipe.tokens.overflow == "drop":
        raise RecipeError(
            "tokens.overflow: the rows of a stream are counted before any are dropped.",
            fix="Choose 'truncate' or 'window'.",
        )
    if recipe.budget.max_steps is None:
        raise RecipeError(
            "budget.max_steps: expected a number, since the length of a stream is unknown; found None.",
            fix="Set budget.max_steps; budget.epochs is not used.",
        )
    return recipe.budget.max_steps
