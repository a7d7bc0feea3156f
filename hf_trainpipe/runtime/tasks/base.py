"""What a task is: everything about it in one file, which trains, travels in the package and answers.

A method is called by the training alone (fit, supervise, precompute, loss, metrics, tune), or by both sides. None of them
imports what a server lacks. Legend: N examples, F features, B features of a batch, L tokens of the longest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ..kinds import to_json
from ..model.outputs import Output, Outputs
from .columns import Column, Labels, Text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    import torch

    from ..tokens.batch import Batch
    from ..tokens.encoder import Encoder
    from ..tokens.features import Features
    from .draws import Draws
    from .schema import TaskSchema


Augmentable = Literal["tokens", "words", "text"] | None
"""What of its inputs a task lets augmentation change (:attr:`Task.augmentable`)."""
LOOKED_TOKENS = 4096
"""Tokens of a batch of what ``precompute`` looks at."""


@dataclass(frozen=True)
class Metric:
    """A score of a task's own: the mean of a number that each example has, resampled for its interval as others are."""

    name: str
    statistic: Callable[[Any], npt.NDArray[Any]]
    """What :meth:`Task.judge` gave to numbers [N], NaN where an example has none; or with ``finish`` to [N, K]."""
    greater_is_better: bool = True
    finish: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] | None = None
    """Sums of statistics [..., K] to scores [...], where a score is not the mean over examples (BLEU, perplexity)."""
    signature: Callable[[Any], str] | None = None
    """What :meth:`Task.judge` gave to a line that says how exactly it was computed; kept beside the score."""


@dataclass(frozen=True)
class Requests:
    """What answers are told in: the inputs as they were given, by role, and what was made of them."""

    inputs: Sequence[Mapping[str, Any]]
    features: Features
    encoder: Encoder


class Task(ABC):
    """A frozen dataclass whose fields are options of the recipe and of the command line.

    A task in a recipe file needs no registration; its file travels in the package. docs/tasks.md writes one.
    """

    names: tuple[str, ...] | None = None
    """Of a task with labels a field: their names in the order of their ids; None: read from the data."""
    learned: ClassVar[tuple[str, ...]] = ()
    """Fields that ``fit`` and ``tune`` fill in."""
    unpadded: ClassVar[tuple[str, ...]] = ("input",)
    """Streams whose padding may be left out of the computation, where the architecture is proven to allow it."""
    exportable: ClassVar[bool] = False
    """Whether ONNX Runtime may run the model: one stream in, ``logits`` out, ``predict`` as it is here."""
    generates: ClassVar[bool] = False
    """Whether ``predict`` writes token by token, which takes long: a run saves before it evaluates, and an evaluation that was
    killed goes on where it stopped."""
    augmentable: ClassVar[Augmentable] = None
    """What of its inputs augmentation may change so that targets still fit: ``tokens`` may be hidden; ``words`` may change as long
    as they stay as many; all of the ``text``; None: nothing. Then ``encode`` reads texts by :class:`.Encoder` alone."""
    encodes_by: ClassVar[tuple[str, ...] | None] = None
    """Fields that ``encode`` depends on, beside its inputs; None: all."""
    teachable: ClassVar[bool] = False
    """Whether it can learn from the logits of a teacher, by :meth:`distilled_sum` and :meth:`taught`; then its loss is separable."""
    outputs: ClassVar[Mapping[str, Output]] = {"logits": Output()}
    """What ``predict`` gives."""
    scored: ClassVar[Mapping[str, Output] | None] = None
    """What ``likelihood`` gives, of a task whose evaluations ask how likely the targets are; None: they judge what ``predict``
    gives."""
    recorded: ClassVar[tuple[str, ...]] = ("logits",)
    """Arrays of ``merge`` that the package must reproduce: floats within 1e-5, integers exactly."""
    num_recorded: ClassVar[int] = 64
    """Examples whose predictions it must reproduce."""
    most_departure: ClassVar[float] = 0.02
    """Of :meth:`departure`: a package that is further off does not answer in 16 bits."""
    departs_in: ClassVar[str] = "of numbers, as a share of the largest"
    """What that is a difference of."""

    # -- what rows hold ------------------------------------------------------------------------------------------------

    @abstractmethod
    def columns(self) -> Mapping[str, Column]:
        """The columns by role. Roles of inputs are the fields of a request."""

    @property
    def label_names(self) -> Labels:
        """Names in the order of the model's outputs; none of a task without labels, or before ``fit``."""
        return Labels.of(self.names)

    def fit(self, rows: Any) -> Self:
        """The task with what follows from the training rows filled in: labels, class weights.

        Args:
            rows: A :class:`~hf_trainpipe.data.rows.Rows` of the training split.
        """
        return self

    def check_preprocessing(self, steps: Sequence[Any]) -> None:  # noqa: B027  nothing to refuse
        """Refuse preprocessing that targets would no longer fit.

        Raises:
            RecipeError: as said.
        """

    @property
    def pipelines(self) -> tuple[str, ...]:
        """spaCy pipelines that ``encode`` needs."""
        return ()

    # -- features ------------------------------------------------------------------------------------------------------

    @abstractmethod
    def encode(self, inputs: Mapping[str, Sequence[Any]], encoder: Encoder) -> Features:
        """What the model reads: the same call in training and in serving, preprocessing included.

        Args:
            inputs: A column for each role of an input; None where an example has another form.
        """

    def check(self, rows: Any) -> None:  # noqa: B027  nothing to refuse
        """Refuse targets that cannot be read before rows are encoded, which takes long.

        Raises:
            DataError: as :meth:`supervise`.
        """

    @abstractmethod
    def supervise(self, rows: Any, features: Features) -> Features:
        """Add what only training has: targets for the loss, and what is right for metrics.

        Args:
            rows: A :class:`~hf_trainpipe.data.rows.Rows`, whose methods read labels by the rule of docs/labels.md.

        Raises:
            DataError: with the place of the row.
        """

    def asked(self, features: Features, encoder: Encoder, parameters: Mapping[str, Any]) -> Features:
        """Features of a request with those of its parameters that ``predict`` depends on (:attr:`.Features.asked`)."""
        return features

    @property
    def recording(self) -> Mapping[str, Any]:
        """The parameters of the requests that are recorded."""
        return {}

    def over(self, role: str) -> Self:
        """The task over another of its forms of input, known by a role: a tagger's rows may have texts or words."""
        return self

    def unknown_labels(self, rows: Any) -> list[tuple[int, str]]:
        """Rows whose target the task does not know, with what stands there: a labelled file is scored without them."""
        return []

    def vary(self, batch: Batch, draws: Draws) -> Batch:
        """A micro-batch of the training with what differs from epoch to epoch, such as masks.

        A function of the draws and of each feature alone, so that it is the same after a resume, on any ranks and in any
        micro-batch. Evaluations take features as they are.
        """
        return batch

    def precompute(self, model: torch.nn.Module, features: Features) -> Features:
        """Add what the model gives before its first step, such as a reference's log-probabilities."""
        return features

    def keeps(self, features: Features) -> bool:
        """Whether the dense columns that ``precompute`` adds to a split are kept on disk."""
        return self.refers

    def completed(self, features: Features) -> Features:
        """Features with what follows from those columns, such as further texts; called behind ``precompute``."""
        return features

    @property
    def refers(self) -> bool:
        """Whether losses and scores compare with the model as it was before its first step.

        Then the dense columns that ``precompute`` adds are kept on disk, and a package is scored beside that model.
        """
        return False

    # -- the model -----------------------------------------------------------------------------------------------------

    @property
    def separable(self) -> bool:
        """Whether the loss is a sum over micro-batches.

        False: it looks across the whole global batch (in-batch negatives). Then ``forward`` gives rows of features alone, and
        ``loss_sum`` sees those of all micro-batches and ranks, with their dense columns and ``weights``, in any order
        (:mod:`hf_trainpipe.training.across`).
        """
        return True

    def prepare_model(self, model: torch.nn.Module) -> None:  # noqa: B027  nothing to prepare
        """Set a model that was just loaded up for training: freeze what the task does not use of it."""

    def remark(self, model: torch.nn.Module) -> str | None:
        """What a person should know of how the task is computed with a model that was just loaded; None: nothing."""
        return None

    def model_class(self) -> type[Any]:
        """The transformers ``AutoModelFor...`` class that the schema names. Imports transformers when called."""
        import transformers

        found: type[Any] = getattr(transformers, self.schema().model)
        return found

    def model_options(self) -> dict[str, Any]:
        """Fields of the model's configuration (``num_labels``, ``id2label``, ...)."""
        return {}

    def forward(self, model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """The outputs that the loss is computed from.

        Args:
            inputs: The columns that the features mark for the model.
        """
        return {"logits": model(**inputs).logits}

    def predict(self, model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """The tensors that :attr:`outputs` names, in evaluation and in serving; generation, where a task generates."""
        return self.forward(model, inputs)

    def widths(self, features: Features) -> npt.NDArray[np.int64]:
        """int64[F, S]: what ``predict`` computes of each feature, in tokens; batches are cut by it, each column padded to its
        longest. Those of all streams; where a task generates, what it writes too."""
        return features.widths

    def likelihood(self, model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """The tensors that :attr:`scored` names, in evaluations.

        Args:
            batch: As :meth:`loss_sum` gets it.
        """
        raise NotImplementedError(f"{type(self).__name__}.likelihood")

    @abstractmethod
    def loss_sum(self, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The loss summed (not averaged) over what :meth:`count` counts; a scalar.

        Args:
            batch: The model's inputs, target columns, dense ones, and ``weights`` float32[B].
        """

    def distilled_sum(
        self, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor], *, temperature: float
    ) -> torch.Tensor:
        """The distance from a teacher, summed and weighed as :meth:`loss_sum` is; a scalar.

        Args:
            batch: As of :meth:`loss_sum`, with the teacher's logits of each feature's example: ``teacher``, float32[B, C].
            temperature: What the logits of classes are divided by; the sum is multiplied by its square, so that gradients
                stay of one size.
        """
        raise NotImplementedError(f"{type(self).__name__}.distilled_sum")

    def taught(self, logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The targets of examples [N] or [N, C] as a teacher's logits [N, C] tell them, for rows that have none."""
        raise NotImplementedError(f"{type(self).__name__}.taught")

    def count(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """How much the batch weighs: examples, or labelled tokens; a float64 scalar on any device."""
        return batch["weights"].double().sum()

    # -- from windows to answers ---------------------------------------------------------------------------------------

    def merge(self, outputs: Outputs, features: Features) -> Outputs:
        """Outputs of examples, from those of their windows: of each array the mean.

        Args:
            outputs: Of some features, with all windows of their examples.
        """
        from .merging import by_example, mean_rows

        return by_example(outputs, features, mean_rows)

    @property
    def judged_as(self) -> str | None:
        """The built-in kind of predictions that ``judge`` gives, whose metrics may be named: ``single_label``,
        ``multi_label``, ``regression`` or ``tags``; None: the task has metrics of its own alone."""
        return None

    def decode(self, predictions: Outputs, encoder: Encoder) -> Outputs:
        """Predictions with what only the tokenizer can tell, such as the texts of generated ids; called behind ``merge``."""
        return predictions

    def gap(self, found: Any, recorded: Any) -> float | None:
        """How far the JSON of an answer's :attr:`recorded` arrays is from the recorded one; None: the largest difference of
        their numbers, infinite where shapes or whole numbers differ."""
        return None

    def departure(self, found: Sequence[Any], recorded: Sequence[Any]) -> float:
        """How far answers of the network in 16 bits are from those in fp32: by default the largest difference of numbers, as
        a share of the largest one.

        Args:
            found: The JSON of their :attr:`recorded` arrays, one an input; None of an input that is not taken.
            recorded: The same in fp32.
        """
        from .departures import as_share

        return as_share(found, recorded)

    @abstractmethod
    def judge(self, predictions: Outputs, features: Features) -> Any:
        """What metrics score, in the order of ``predictions``: fields of :class:`hf_trainpipe.metrics.Predictions` of the
        kind :attr:`judged_as`, or without one whatever the task's own metrics take."""

    @abstractmethod
    def metrics(self) -> tuple[str | Metric, ...]:
        """Scores of each evaluation, by name or the task's own; the first is the default of ``select``."""

    def merged_batch(
        self, predictions: Outputs, features: Features
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
        """Merged outputs and a batch of their targets, as arrays, from which ``loss_sum`` gives an evaluation's loss.

        None: merged outputs have none; the loss is that of :meth:`forward` over all features.
        """
        return None

    kept: ClassVar[tuple[str, ...]] = ()
    """Numbers of what :meth:`judge` gives, one an example, that a run keeps beside its predictions, so that :meth:`tune` may choose on those
    of several runs; for tasks without :attr:`judged_as`."""

    def judged_again(self, kept: Mapping[str, np.ndarray]) -> Any:
        """What :meth:`judge` gave, as this task decides, from the numbers of :attr:`kept`."""
        raise NotImplementedError

    def tune(self, judged: Any) -> Self:
        """The task with an option chosen on validation, such as a threshold.

        Args:
            judged: Of a built-in kind the :class:`hf_trainpipe.metrics.Predictions`, else what ``judge`` gave.
        """
        return self

    def worst(self, judged: Any, number: int) -> list[dict[str, Any]]:
        """Of a task with metrics of its own alone: its worst answers, the worst first, for a person.

        Args:
            judged: What ``judge`` gave.

        Returns:
            ``{"position", "right", "written"}`` each: which of the judged examples, and two texts.
        """
        return []

    def explain(self, error: Mapping[str, Any], asked: Requests, example: int) -> Mapping[str, Any]:
        """More about one of the worst errors, for a person.

        Args:
            error: As the breakdown of a built-in kind has it.
            example: Its position in ``asked``.
        """
        return {}

    @abstractmethod
    def answers(self, predictions: Outputs, asked: Requests, **parameters: Any) -> list[Any]:
        """One JSON answer an example, in the order of ``predictions``. The parameters are checked."""

    @abstractmethod
    def schema(self) -> TaskSchema:
        """What the fitted task takes and gives."""

    def package_files(self, model: Any, tokens: Mapping[str, Any]) -> Mapping[str, str]:
        """Further files of a package, by name, with their text: those by which another library loads it.

        Args:
            tokens: ``{"max_length", "overflow", "stride"}``.
        """
        return {}

    def answer_columns(self, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        """What the parts of an answer are called as columns of a table."""
        return ("answer",)

    def answer_cells(self, answer: Any, parameters: Mapping[str, Any]) -> tuple[Any, ...]:
        """An answer as cells of these columns."""
        return (answer,)

    # -- what follows from the above -----------------------------------------------------------------------------------

    @property
    def inputs(self) -> dict[str, Column]:
        """The columns that a request has too."""
        return {role: column for role, column in self.columns().items() if not column.is_target}

    @property
    def target(self) -> Column | None:
        """The column that a labelled file is looked through for: the first of the targets."""
        return next((column for column in self.columns().values() if column.is_target), None)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Of :meth:`metrics`."""
        return tuple(metric if isinstance(metric, str) else metric.name for metric in self.metrics())

    def check_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Refuse parameters that the answers do not have, and wrong values.

        Raises:
            InputError: as said.
        """
        if parameters:
            self.schema().check(parameters)

    def as_request(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The values of a row as a request has them: without what is to be learnt, where a column holds both."""
        return values

    def spelt(self, given: Any) -> str:
        """An input as a client sends it, for a person to read."""
        if not isinstance(given, dict):
            return str(given)
        form = next((form for form in self.schema().inputs if set(form) == set(given)), {})
        return " | ".join(cell.spelt(given[role]) for role, cell in form.items())

    def as_input(self, values: Mapping[str, Any]) -> Any:
        """Values by role as a client sends them: a text alone stays bare."""
        form = self.inputs
        if len(form) == 1 and isinstance(next(iter(form.values())).cell, Text):
            return next(iter(values.values()))
        return dict(values)

    def renamed(self, names: Mapping[str, str]) -> Self:
        """The task over other names of columns, so that messages have them; as it was where its fields do not name them."""
        if all(old == new for old, new in names.items()):
            return self
        said = self.fields()
        changed = {name: names[value] for name, value in said.items() if isinstance(value, str) and value in names}
        renamed: Self = replace(self, **changed)  # type: ignore[type-var]
        before, after = self.columns(), renamed.columns()
        fits = all(after[role].name == names.get(column.name, column.name) for role, column in before.items())
        return renamed if fits else self

    def renamed_target(self, name: str) -> Self:
        """The task with its labels in one column of a labelled file, in place of a column for each."""
        return self

    def fitted_as(self, other: Task) -> Self:
        """This task with what ``other``, of the same class, learned from data."""
        found = {name: getattr(other, name) for name in self.learned}
        for name, value in found.items():
            if isinstance(value, tuple) and all(isinstance(item, str) for item in value):
                found[name] = Labels(value, said=getattr(self, name))
        return replace(self, **found)  # type: ignore[type-var]

    def changes_from(self, other: Task) -> dict[str, Any]:
        """The fields in which this task differs from another of its class."""
        return {name: value for name, value in self.fields().items() if value != getattr(other, name)}

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """With other values of some fields."""
        return replace(self, **changes) if changes else self  # type: ignore[type-var]

    tells_all: ClassVar[Mapping[str, Any]] = {}
    """Parameters with which answers tell all that :meth:`unsure` reads."""

    def unsure(self, answer: Any) -> float | None:
        """How unsure an answer is, from 0 to 1, by which rows to label next are chosen; None: such answers do not tell."""
        return None

    def fields(self) -> dict[str, Any]:
        """The options by name."""
        # A subclass that is no dataclass gets the TypeError of fields().
        return {item.name: getattr(self, item.name) for item in fields(self) if item.init}  # type: ignore[arg-type]

    @property
    def encoding(self) -> dict[str, Any]:
        """The fields that :attr:`encodes_by` names, by name, as JSON; without those that are not said."""
        said = self.to_json()
        return {name: said[name] for name in self.encodes_by or () if name in said}

    def to_json(self) -> dict[str, Any]:
        """``{"kind": ..., field: value, ...}``, tuples as lists."""
        return to_json(self)
