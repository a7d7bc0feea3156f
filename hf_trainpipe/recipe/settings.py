"""Settings in a recipe, validated when they are created."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

from hf_trainpipe.errors import RecipeError, closest


def refused(where: str, expected: str, found: object, fix: str) -> RecipeError:
    """The error of a field, to be raised."""
    return RecipeError(f"{where}: expected {expected}, found {found!r}.", fix=fix)


def _check_range(where: str, value: float, low: float, high: float, *, open_high: bool = False) -> None:
    inside = low <= value < high if open_high else low <= value <= high
    if not inside:
        interval = f"a number in [{low:g}, {high:g}{')' if open_high else ']'}"
        raise refused(where, interval, value, f"Set {where} to {interval}.")


def check_share(where: str, value: float, *, closed: bool = False) -> None:
    """Refuse what is no share in (0, 1), or with ``closed`` in (0, 1]."""
    if not 0 < value < 1 and not (closed and value == 1):
        interval = f"a share in (0, 1{']' if closed else ')'}"
        raise refused(where, interval, value, f"Set {where} to {interval}.")


def check_positive(where: str, value: float | None) -> None:
    """Refuse 0 and less."""
    if value is not None and not value > 0:
        raise refused(where, "a positive number", value, f"Set {where} above 0.")


def check_choice(where: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse what is none of the choices."""
    if value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise refused(where, f"one of {listed}", value, f"Choose one of them.{closest(str(value), choices)}")


def check_choices(where: str, part: object) -> None:
    """Hold the settings of a part to the choices that their annotations list."""
    for name, hint in get_type_hints(type(part)).items():
        if get_origin(hint) is Literal:
            check_choice(f"{where}.{name}", getattr(part, name), get_args(hint))


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Train small matrices beside the linear layers of the model, and its head; the rest stays as it is (docs/lora.md).

    Needs ``hf-trainpipe[lora]``. A ``peak_lr`` ten times that of full fine-tuning is usual.
    """

    rank: int = 8
    """Columns of the two matrices of a layer: what an adapter can learn, and its size."""
    alpha: float = 16.0
    """An adapter's part is multiplied by ``alpha / rank``."""
    dropout: float = 0.0
    """Dropout on what an adapter reads."""
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Layers with an adapter: ``all-linear`` is every linear layer but the head; or the ends of their names, such as
    ``("query", "value")``."""
    rank_stabilised: bool = False
    """Multiply by ``alpha / sqrt(rank)``, so that a higher rank does not learn more slowly (arXiv 2312.03732)."""
    dora: bool = False
    """Also train the length of each row of a weight (arXiv 2402.09353): a little better at low ranks, slower."""
    base_bits: Literal[4, 8] | None = None
    """Hold the frozen weights of the model's linear layers in so many bits (4: NF4, 8: a scale for each row), and dequantise them
    whenever they are used (arXiv 2305.14314): less memory, more time. None: in fp32. Needs ``hf-trainpipe[qlora]``."""
    save_adapter: bool = False
    """Put the adapter and the head alone into the package's folder ``adapter/`` too, as peft reads them."""

    def __post_init__(self) -> None:
        check_positive("model.lora.rank", self.rank)
        check_positive("model.lora.alpha", self.alpha)
        _check_range("model.lora.dropout", self.dropout, 0.0, 1.0, open_high=True)
        if self.base_bits not in (None, 4, 8):
            raise refused(
                "model.lora.base_bits", "4, 8 or None", self.base_bits, "Leave base_bits out: the base stays in fp32."
            )
        if isinstance(self.targets, str):
            fix = 'Write targets="all-linear", or the ends of names: targets=("query", "value").'
            if self.targets != "all-linear":
                raise refused("model.lora.targets", "'all-linear' or a tuple of names", self.targets, fix)
        elif not self.targets or not all(self.targets):
            raise refused("model.lora.targets", "at least one name", self.targets, "Name the layers to adapt.")


@dataclass(frozen=True)
class Pretrained:
    """The model to start from: a Hub id, a folder, or ``package:NAME/folder``."""

    name: str
    """A Hub id such as ``google-bert/bert-base-uncased``, a folder made by ``save_pretrained``, or
    ``package:NAME/folder``."""
    _: KW_ONLY
    revision: str | None = None
    """Branch, tag or commit on the Hub; pinned to a commit at first use."""
    tokenizer: str | None = None
    """Hub id or folder of the tokenizer; None: the model's."""
    sha256: str | None = None
    """Expected sha256 of ``model.safetensors``; checked before it is loaded."""
    dropout: float | None = None
    """Replaces every dropout probability of the model; None keeps the model's own."""
    trust_remote_code: bool = False
    """Run custom code of the model. Recorded in the manifest and the model card."""
    lora: Lora | None = None
    """Train adapters and the head alone; None: all of the model."""
    head: Literal["probe", "contrastive"] | None = None
    """How the head begins. ``probe``: as the linear model that fits the training split best while the encoder stays as it is;
    ``contrastive``: the same behind an encoder that was warmed up on pairs of rows with the same label and with others, for few
    labelled rows (docs/few-labels.md); None: as the model has it where that is for the same labels, else at random (docs/heads.md)."""
    reinit_layers: int = 0
    """Number of encoder layers, from the output, that begin at random, and a pooler with them (arXiv 2006.05987)."""

    def __post_init__(self) -> None:
        if self.head not in (None, "probe", "contrastive"):
            fix = "Leave model.head out, or set it to 'probe' or 'contrastive'."
            raise refused("model.head", "'probe', 'contrastive' or None", self.head, fix)
        _check_range("model.reinit_layers", self.reinit_layers, 0, 1000)
        if self.reinit_layers and self.lora is not None:
            fix = "Leave model.reinit_layers out: with model.lora the layers of the encoder are not trained."
            raise refused("model.reinit_layers", "0 with model.lora", self.reinit_layers, fix)
        for name in ("name", "tokenizer"):  # a pathlib.Path becomes text
            if isinstance(found := getattr(self, name), os.PathLike):
                object.__setattr__(self, name, os.fspath(found))
        if not self.name:
            raise refused("model.name", "a Hub id, a folder or package:NAME/folder", self.name, "Name a model.")
        if self.dropout is not None:
            _check_range("model.dropout", self.dropout, 0.0, 1.0, open_high=True)


@dataclass(frozen=True)
class Scratch(Pretrained):
    """A model that begins with random weights, and a tokenizer that is trained on the training texts."""

    name: str
    """The architecture, by the ``model_type`` of transformers: ``gpt2``, ``llama``, ``t5``."""
    _: KW_ONLY
    config: Mapping[str, Any] = field(default_factory=dict)
    """Fields of its configuration: ``{"n_layer": 4, "n_head": 4, "n_embd": 128}``; the vocabulary follows from the tokenizer."""
    tokenizer: str | None = "bpe"
    """``bpe``: byte-level pairs, as of GPT-2; ``characters``: each character of the training texts is a token. Or a Hub id
    or folder, whose tokenizer is used as it is."""
    vocabulary: int = 8000
    """Of ``bpe``: tokens at most, the special ones included."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("revision", "sha256", "lora", "head"):
            if getattr(self, name) is not None:
                raise refused(f"model.{name}", "None: nothing is loaded", getattr(self, name), f"Leave {name} out.")
        if self.reinit_layers:
            raise refused("model.reinit_layers", "0: all of it is random", self.reinit_layers, "Leave it out.")
        check_positive("model.vocabulary", self.vocabulary)


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """How text becomes tokens."""

    max_length: int | None = 128
    """Maximum tokens of a feature, special tokens included; None: the model's maximum."""
    overflow: Literal["truncate", "window", "drop", "error"] = "truncate"
    """For longer texts. ``window``: overlapping windows, whose predictions are merged."""
    stride: int = 32
    """Tokens by which neighbouring windows overlap."""
    padding: Literal["auto", "batch"] = "auto"
    """``auto``: no padding is computed for architectures that are tested to give the same numbers without; ``batch``: pad
    each micro-batch to its longest."""

    def __post_init__(self) -> None:
        check_choices("tokens", self)
        check_positive("tokens.max_length", self.max_length)
        too_wide = self.max_length is not None and self.stride >= self.max_length
        if self.stride < 0 or (self.overflow == "window" and too_wide):
            raise refused("tokens.stride", "0 or more, and less than max_length", self.stride, "Lower tokens.stride.")


@dataclass(frozen=True, kw_only=True)
class Optim:
    """The optimizer and its schedule."""

    algorithm: Literal["adamw", "adamw_8bit", "adafactor"] = "adamw"
    """``adamw_8bit`` keeps its two moments in 8 bits (embeddings in 32; needs ``hf-trainpipe[8bit]``): 2 bytes a parameter
    instead of 8. ``adafactor`` keeps almost no state; ``peak_lr`` is then relative to the size of each weight: 1e-3 to
    1e-2 is usual, and ``betas`` and ``eps`` are not used."""
    peak_lr: float = 5e-5
    """The learning rate after the warm-up."""
    warmup: float = 0.06
    """A fraction of all steps, in [0, 1)."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """The learning rate after the warm-up: linear decay, cosine decay, or constant."""
    weight_decay: float = 0.01
    """Not applied to biases and normalisation weights."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's decay rates of the two moments."""
    eps: float = 1e-8
    """AdamW's term for numerical stability."""
    max_grad_norm: float | None = 1.0
    """Gradients are clipped to this norm; None: no clipping."""
    layer_decay: float = 1.0
    """The learning rate of a layer is this times that of the layer above, in (0, 1]."""
    freeze_embeddings: bool = False
    """Do not train the embeddings."""
    freeze_layers: int = 0
    """Number of encoder layers, from the input, that are not trained."""
    precision: Literal["auto", "fp32", "tf32", "medium", "bf16", "fp16", "bf16-pure"] = "auto"
    """Of training steps; final scores and packages are always in fp32. ``auto``: bf16 on a GPU that has it; on a CPU the faster of
    fp32 and ``medium`` in a one-second benchmark. ``fp32`` is fp32 on a GPU too; ``tf32`` keeps everything in fp32 and multiplies
    matrices in TF32, on a GPU; ``medium`` multiplies them in bf16 (torch's float32_matmul_precision of that name). ``bf16`` and
    ``fp16`` are autocast over weights in fp32. ``bf16-pure``: passes read all weights in bf16 and give gradients in bf16, so what
    flows between layers takes half the memory traffic; the optimizer, checkpoints and packages have the weights in fp32. It does not go
    with LoRA, FSDP2 or ``checkpoint_layers``."""
    compile: bool | None = None
    """Compile the encoder's layers with torch.compile before the first step; None: on a GPU, where the run is long enough to
    pay for it. On a CPU it gained nothing in our measurements. Needs a C++ compiler on a CPU, Triton on a GPU."""
    graphs: bool | None = None
    """Run forward and backward passes as CUDA graphs, so that short steps do not wait for Python; None: on GPUs, where no
    padding is computed and the weights are not cut (FSDP2). Micro-batches are then rounded up to few shapes. False: exactly their tokens, launch by launch."""
    checkpoint_layers: bool = False
    """Gradient checkpointing: keep only the input of each layer and recompute the rest in the backward pass. The same
    gradient, much less memory for activations, about a third more time."""

    def __post_init__(self) -> None:
        check_choices("optim", self)
        check_positive("optim.peak_lr", self.peak_lr)
        _check_range("optim.warmup", self.warmup, 0.0, 1.0, open_high=True)
        if self.compile and self.checkpoint_layers:
            fix = "Choose one of them: the compiler itself decides what to keep."
            raise refused("optim.checkpoint_layers", "False where optim.compile is True", True, fix)
        if self.precision == "bf16-pure" and self.checkpoint_layers:
            fix = "Choose one of them; optim.precision='bf16' goes with it."
            raise refused("optim.checkpoint_layers", "False where optim.precision is 'bf16-pure'", True, fix)
        _check_range("optim.weight_decay", self.weight_decay, 0.0, float("inf"))
        check_positive("optim.max_grad_norm", self.max_grad_norm)
        check_positive("optim.layer_decay", self.layer_decay)
        _check_range("optim.layer_decay", self.layer_decay, 0.0, 1.0)
        _check_range("optim.freeze_layers", self.freeze_layers, 0, 1000)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long to train, and how often to evaluate and save."""

    epochs: float = 3.0
    """Passes over the training data; a fraction is fine."""
    max_steps: int | None = None
    """Maximum optimizer steps; the schedule ends at the smaller of the two. 0: the model is scored and packaged as it begins, such as
    a linear model behind a frozen encoder (``model.head``)."""
    examples_per_step: int = 32
    """Examples of one optimizer step over all ranks and micro-batches."""
    micro_batch_tokens: int | None = None
    """Maximum tokens of a micro-batch, padding included; None: chosen by the plan."""
    micro_batch_examples: int | None = None
    """Maximum examples of a micro-batch; None: no limit."""
    evaluate_every: int | None = None
    """Steps between evaluations; None: once an epoch."""
    save_every: int | None = None
    """Steps between checkpoints; None: at each evaluation."""
    log_every: int = 10
    """Steps that a logged loss is averaged over."""
    patience: int | None = None
    """Evaluations without improvement before the run stops early; None: never."""
    stop_on_overfitting: bool = False
    """Stop early once overfitting is shown (docs/results/overfitting.md)."""
    keep_checkpoints: int = 2
    """Newest checkpoints kept, besides the best one."""
    keep_when_done: Literal["last", "all"] = "last"
    """Checkpoints of a complete run to keep: only the last, from which ``--extend`` continues, or all."""

    def __post_init__(self) -> None:
        check_choices("budget", self)
        if self.keep_checkpoints < 2:
            raise refused("budget.keep_checkpoints", "2 or more", self.keep_checkpoints, "Keep at least two.")
        for name, value in vars(self).items():
            if name == "max_steps":
                _check_range("budget.max_steps", value or 0, 0, float("inf"))
            elif name not in ("keep_when_done", "stop_on_overfitting"):
                check_positive(f"budget.{name}", value)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Metrics, and the one that selects the best model."""

    select: str | None = None
    """Metric that selects the best checkpoint; None: the task's first. May be ``loss``."""
    metrics: tuple[str, ...] = ()
    """Further metrics: names of :mod:`hf_trainpipe.metrics`, or ``evaluate:NAME`` from the Hub."""
    confidence: float = 0.95
    """Level of the bootstrap intervals."""
    resamples: int = 1000
    """Bootstrap resamples of the examples."""
    train_sample: int | None = None
    """Training examples whose loss is taken without dropout at each evaluation, to tell overfitting; None: 3 % of those between
    two evaluations, from 32 to 512, which costs about a hundredth of the training; 0: none."""
    errors: int = 20
    """Worst errors of each split, with their texts, in the run's result.json."""
    errors_in_card: bool | None = None
    """Whether the model card shows some of them, texts included; None: where the data set comes from the Hub."""
    profile: bool = True
    """Whether the package gets numbers of evaluated texts, which ``watch`` holds later ones against: no text, but they tell whoever has
    the model what the texts were about (docs/watch.md)."""

    @property
    def named(self) -> tuple[str, ...]:
        """All metrics that the recipe names."""
        return (*self.metrics, *((self.select,) if self.select else ()))

    def __post_init__(self) -> None:
        _check_range("evaluation.confidence", self.confidence, 0.5, 1.0, open_high=True)
        check_positive("evaluation.resamples", self.resamples)
        _check_range("evaluation.errors", self.errors, 0, 1000)
        _check_range("evaluation.train_sample", self.train_sample or 0, 0, float("inf"))


@dataclass(frozen=True)
class Hub:
    """Where to push the package, and further facts for its model card."""

    repo: str
    """``user/name``; created where it does not exist."""
    _: KW_ONLY
    private: bool = True
    """Whether a newly created repository is private."""
    when: Literal["end", "best", "every_save"] = "end"
    """``best``: also each new best model while it trains; ``every_save``: each checkpoint. A background process
    pushes them; if it cannot keep up, only the newest."""
    tag: str | None = "auto"
    """Tag of the finished model; ``auto``: ``v1``, ``v2``, ...; None: no tag."""
    checkpoints: bool = False
    """Mirror the newest checkpoint to the branch ``checkpoints``, from which ``train RECIPE --resume-from
    hub:user/name`` continues on another machine."""
    license: str | None = None
    """License id of the Hub, such as ``apache-2.0``."""
    language: tuple[str, ...] = ()
    """Languages of the texts, as ISO 639-1 codes."""
    tags: tuple[str, ...] = ()
    """Tags on the Hub."""
    intended_use: tuple[str, ...] = ()
    """Sentences on what the model is for, and what not: a section of the card."""
    limits: tuple[str, ...] = ()
    """Further sentences for the card's section on limits."""

    def __post_init__(self) -> None:
        check_choices("hub", self)
        for name in ("language", "tags", "intended_use", "limits"):
            if isinstance(getattr(self, name), str):
                found = getattr(self, name)
                raise refused(f"hub.{name}", "a tuple of texts", found, f"Write {name}=({found!r},).")
        if self.repo.count("/") != 1:
            raise refused("hub.repo", "user/name", self.repo, "Name the repository as user/name.")
