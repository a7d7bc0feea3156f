"""A recipe: the choices of a person. Their consequences are in :mod:`hf_trainpipe.plan`.

settings    the parts that are plain settings: model, tokens, optimizer, budget, evaluation, Hub
interfaces  base classes for data sources, augmentation and trackers
distil      a teacher to learn from
source      the file and function of a recipe

Nothing here imports torch: a recipe is validated before anything heavy is loaded.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any

from hf_trainpipe.recipe.distil import Distil as Distil
from hf_trainpipe.recipe.interfaces import Augmentation as Augmentation
from hf_trainpipe.recipe.interfaces import Data as Data
from hf_trainpipe.recipe.interfaces import Destination as Destination
from hf_trainpipe.recipe.interfaces import RunInfo as RunInfo
from hf_trainpipe.recipe.interfaces import Session as Session
from hf_trainpipe.recipe.interfaces import Tracker as Tracker
from hf_trainpipe.recipe.settings import Budget as Budget
from hf_trainpipe.recipe.settings import Evaluation as Evaluation
from hf_trainpipe.recipe.settings import Hub as Hub
from hf_trainpipe.recipe.settings import Lora as Lora
from hf_trainpipe.recipe.settings import Optim as Optim
from hf_trainpipe.recipe.settings import Pretrained as Pretrained
from hf_trainpipe.recipe.settings import Scratch as Scratch
from hf_trainpipe.recipe.settings import Tokens as Tokens
from hf_trainpipe.recipe.settings import refused
from hf_trainpipe.runtime.kinds import UNSAID
from hf_trainpipe.runtime.tasks.base import Task
from hf_trainpipe.runtime.tasks.texts import TextTask
from hf_trainpipe.runtime.text.preprocessing import Preprocessor


@dataclass(frozen=True, kw_only=True, repr=False)
class Recipe:
    """Everything a person chooses about one training run."""

    name: str
    """Names the run, its folder ``runs/NAME`` and its package."""
    model: Pretrained
    """The model to start from."""
    data: Data
    """Where the examples come from."""
    task: Task
    """What to learn, from which columns."""
    preprocessing: tuple[Preprocessor, ...] = ()
    """Steps applied to texts before tokenization, in this order, in training and in the package."""
    augmentation: tuple[Augmentation, ...] | None = field(default=None, metadata=UNSAID)
    """What changes the texts of the training split, behind the preprocessing and anew in each epoch (docs/augmentation.md)."""
    distil: Distil | None = field(default=None, metadata=UNSAID)
    """The teacher whose outputs are learnt beside the labels; None: there is none (docs/distillation.md)."""
    tokens: Tokens = field(default_factory=Tokens)
    """How text becomes tokens."""
    optim: Optim = field(default_factory=Optim)
    """The optimizer and its schedule."""
    budget: Budget = field(default_factory=Budget)
    """How long to train, and how often to evaluate and save."""
    evaluation: Evaluation = field(default_factory=Evaluation)
    """Metrics, and the one that selects the best model."""
    trackers: tuple[Tracker, ...] = ()
    """Experiment trackers that receive the run's numbers."""
    hub: Hub | None = None
    """Where to push the package; None: nowhere."""
    seed: int = 17
    """Seed of all random numbers: the head, the order of the examples, dropout, the bootstrap."""

    def __post_init__(self) -> None:
        if not self.name or any(c in self.name for c in "/\\\0") or self.name.startswith("."):
            raise refused("name", "a name fit for a folder", self.name, "Use letters, digits, '-' and '_'.")
        for kind in (Pretrained, Data, Task, Tokens, Optim, Budget, Evaluation):
            where = "model" if kind is Pretrained else kind.__name__.lower()
            value = getattr(self, where)
            if not isinstance(value, kind):
                example = value if isinstance(value, type) and issubclass(value, kind) else kind
                raise refused(where, f"a {kind.__name__}", value, f"Pass {where}={example.__name__}(...).")
        for position, step in enumerate(self.preprocessing):
            if not isinstance(step, Preprocessor):
                raise refused(f"preprocessing[{position}]", "a Preprocessor", step, "Pass an instance, not a class.")
        self._check_augmentation()
        for position, tracker in enumerate(self.trackers):
            if not isinstance(tracker, Tracker):
                raise refused(f"trackers[{position}]", "a Tracker", tracker, "Pass an instance, such as Neptune().")
        if self.model.lora is not None:
            for name, unused in (("freeze_embeddings", False), ("freeze_layers", 0)):
                if (found := getattr(self.optim, name)) != unused:
                    fix = f"Leave optim.{name} out. To adapt some layers only, name them in model.lora.targets."
                    raise refused(f"optim.{name}", f"{unused} with model.lora, which freezes the model", found, fix)
            if self.optim.precision == "bf16-pure":
                fix = "Set optim.precision to 'bf16': a copy of all weights would take more memory than the frozen ones save."
                raise refused("optim.precision", "another one with model.lora", "bf16-pure", fix)
            if self.model.lora.save_adapter and isinstance(self.task, TextTask) and self.task.pooling:
                fix = "Leave task.pooling or model.lora.save_adapter out; the package holds the merged weights either way."
                raise refused("model.lora.save_adapter", "False with task.pooling: peft has no such head", True, fix)
        if self.model.reinit_layers and self.task.refers:
            fix = "Leave model.reinit_layers out: the task compares with the model as it begins."
            raise refused("model.reinit_layers", f"0 for {type(self.task).__name__}", self.model.reinit_layers, fix)
        self._check_distil()
        if self.seed < 0:
            raise refused("seed", "0 or more", self.seed, "Choose a seed of 0 or more.")

    def _check_augmentation(self) -> None:
        if self.augmentation == ():
            object.__setattr__(self, "augmentation", None)
        most, task = self.task.augmentable, type(self.task).__name__
        for position, step in enumerate(self.augmentation or ()):
            where = f"augmentation[{position}]"
            if not isinstance(step, Augmentation):
                raise refused(where, "an Augmentation", step, "Pass an instance, not a class.")
            if not step.fits(most):
                expected = f"none for {task}" if most is None else f"a step that changes no more than {most} for {task}"
                raise refused(
                    where,
                    f"{expected}, whose targets would no longer fit",
                    f"{type(step).__name__} (changes {step.changes})",
                    "Leave it out; docs/augmentation.md lists what each task takes.",
                )

    def _check_distil(self) -> None:
        if self.distil is None:
            return
        if not self.task.teachable:
            fix = "Leave distil out; docs/distillation.md lists the tasks that have it."
            raise refused("distil", f"None for {type(self.task).__name__}", self.distil.teacher, fix)
        if self.distil.unlabelled is not None:
            for position, step in enumerate(self.augmentation or ()):
                if step.changes != "tokens":
                    fix = "Leave one of them out; a TokenMask goes with rows without labels."
                    raise refused(f"augmentation[{position}]", "no changed texts with distil.unlabelled", step, fix)

    @property
    def selected_metric(self) -> str:
        """The metric that selects the best checkpoint."""
        return self.evaluation.select or self.task.metric_names[0]

    @property
    def scored_metrics(self) -> list[str]:
        """All metrics that are scored, the selected one first; without the loss."""
        names = [self.selected_metric, *self.task.metric_names, *self.evaluation.metrics]
        return [name for name in dict.fromkeys(names) if name != "loss"]

    def __repr__(self) -> str:
        return brief(self)

    def _repr_html_(self) -> str:
        from html import escape

        lines = [f"{name} = {brief(value)}" for name, value in _chosen(self)]
        return f"<pre>{escape(chr(10).join(lines))}</pre>"


def brief(value: Any) -> str:
    """A part of a recipe as a person writes it: only what differs from the defaults; tables by their size.

    >>> brief(Budget(epochs=3))
    'Budget()'
    >>> brief((Optim(peak_lr=0.01), "a"))
    "(Optim(peak_lr=0.01), 'a')"
    """
    if is_dataclass(value) and not isinstance(value, type):
        shown = ", ".join(f"{name}={brief(part)}" for name, part in _chosen(value))
        return f"{type(value).__name__}({shown})"
    if isinstance(value, tuple):
        return f"({', '.join(map(brief, value))}{',' if len(value) == 1 else ''})"
    if hasattr(value, "columns") and hasattr(value, "iloc"):
        return f"{type(value).__name__}({len(value)} rows x {len(value.columns)})"
    return repr(value)


def _chosen(part: Any) -> list[tuple[str, Any]]:
    """The fields of a dataclass that differ from their defaults."""
    found = []
    for item in fields(part):
        value = getattr(part, item.name)
        default = item.default_factory() if item.default_factory is not MISSING else item.default
        is_table = hasattr(value, "iloc")
        if item.repr and item.init and (default is MISSING or is_table or value != default):
            found.append((item.name, value))
    return found
