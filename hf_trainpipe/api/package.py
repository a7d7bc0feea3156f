"""A package in Python: ``hf_trainpipe.load("runs/reviews").predict(["a fine film"])``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from hf_trainpipe.codec import from_json, value_from_json
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.package.columns import Chooser, Known, known_columns, parse_asked
from hf_trainpipe.package.layout import find_package
from hf_trainpipe.tracking.console import Console
from hf_trainpipe.utils.tables import html

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.runtime.handler.predictor import Predictor

_T = TypeVar("_T")


def load(
    path: Path | str,
    *,
    device: str | None = None,
    allow_code: bool = False,
    backend: str | None = None,
    precision: str | None = None,
) -> Package:
    """Load a package, or the package of a run.

    Args:
        path: The folder of a package or of a run.
        device: Such as ``cpu`` or ``cuda:1``; None: the first GPU, else the CPU.
        allow_code: Run the recipe's code in the package.
        backend: ``torch``, ``onnx`` or ``onnx-int8``; None: the package's own.
        precision: What torch multiplies in: ``fp32``, ``bf16`` or ``fp16``; None: ``HF_TRAINPIPE_PRECISION``, else fp32
            (docs/serving.md).

    Raises:
        NotReproduced: in that precision it does not agree with its recorded predictions.
        PackageError: there is none.
        SchemaError: it is not complete.
    """
    from hf_trainpipe.runtime.handler.predictor import Predictor

    folder = find_package(path)
    with Console(0).working("loading the package"):
        predictor = Predictor.load(folder, device=device, allow_code=allow_code, backend=backend, precision=precision)
    return Package(folder, predictor)


class Evaluated(dict[str, Any]):
    """What :meth:`Package.evaluate` found; a notebook shows its scores as a table."""

    def _repr_html_(self) -> str:
        rows = [
            [name, *("-" if score.get(part) is None else f"{score[part]:.4f}" for part in ("value", "low", "high"))]
            for name, score in self.get("scores", {}).items()
        ]
        return f"{self.get('n', 0):,} rows{html(['metric', 'value', 'low', 'high'], rows)}"


class Package:
    """A package, loaded. :func:`load` makes one."""

    def __init__(self, path: Path, predictor: Predictor) -> None:
        self.path = path
        self.predictor = predictor
        self._recipe = predictor.info.recipe

    @property
    def name(self) -> str:
        return self.predictor.info.name

    @property
    def labels(self) -> tuple[str, ...]:
        """Names in the order of the model's outputs; none for regression."""
        return tuple(self.predictor.task.label_names)

    @property
    def scores(self) -> dict[str, Any]:
        """Split to metric to ``value``, ``low``, ``high`` and ``n``, as they were when the package was written."""
        return self.predictor.info.scores

    @property
    def columns(self) -> tuple[str, ...]:
        """The input columns of the recipe, as far as they are known."""
        return self.known.inputs

    def predict(self, inputs: Any, *, column: str | Sequence[str] = (), **parameters: Any) -> Any:
        """Answer a text, a list of them, or a pandas frame.

        Args:
            inputs: A text; a list of texts, pairs ``(a, b)``, or ``{"words": [...]}``; a series of texts; or a frame.
            column: For a frame: the input column, or two for pairs; empty: those of the recipe.
            parameters: ``top_k``, ``threshold``, ``aggregation``.

        Returns:
            The answer to a text, or a list of answers; for a frame a copy with columns for the answers (``label``
            and ``score``) and ``error``, why a row has no answer.

        Raises:
            InputError: An input or a parameter cannot be used.
            DataError: A frame has none of the columns.
        """
        if hasattr(inputs, "columns") and hasattr(inputs, "iloc"):
            return self._predict_frame(inputs, column, parameters)
        if isinstance(inputs, str | dict):
            return self.predictor.predict([inputs], **parameters)[0]
        return self.predictor.predict(list(inputs), **parameters)

    def evaluate(
        self,
        data: Any = None,
        *,
        split: Literal["validation", "test"] = "validation",
        column: str | Sequence[str] = (),
        label: str | None = None,
        recipe: Recipe | None = None,
        **reading: Any,
    ) -> Evaluated:
        """Score on labelled rows, with bootstrap intervals over them.

        Args:
            data: A file in any format that training reads, a pandas frame, or a list of ``{"column": value}``;
                None: the ``split`` of the recipe's data.
            column: The column of the input, or two of a pair; none: those of the recipe.
            label: The column of the gold labels; None: that of the recipe.
            recipe: Its task, metrics and data are used; None: the recipe in the package.
            reading: Options for a file: ``format``, ``delimiter``, ``encoding``, ``quoting``.

        Returns:
            See :func:`hf_trainpipe.package.labelled.evaluate_table`, with ``file``; of a split
            ``{"split", "n", "scores"}``. In 16 bits also ``precision``.

        Raises:
            DataError: The data cannot be read, or lacks a column.
            RecipeError: The package's own recipe cannot be used, where its data are needed.
        """
        precision = self.predictor.precision
        in_16_bits = {} if precision == "fp32" else {"precision": precision}
        if data is None:
            from hf_trainpipe.package.scoring import score

            chosen = recipe or from_json(self._recipe)
            with Console(0).working(f"scoring {split}") as work:
                found = score(self.predictor, recipe=chosen, split=split, name=str(self.path), progress=work)
            return Evaluated(**found, **in_16_bits)
        from hf_trainpipe.data.readers_base import ReadOptions
        from hf_trainpipe.package.labelled import evaluate_table, read_table
        from hf_trainpipe.recipe import Evaluation

        table, name = read_table(data, ReadOptions(**reading))
        if recipe is not None:
            evaluation, seed, model = recipe.evaluation, recipe.seed, recipe.model
        else:
            evaluation = self.recorded("evaluation", Evaluation())
            seed = int(self._recipe.get("seed") or 0)
            model = self.beginning()
        with Console(0).working(f"scoring {name}", total=table.num_rows) as work:
            found = evaluate_table(
                self.predictor,
                table,
                name=name,
                evaluation=evaluation,
                seed=seed,
                model=model,
                progress=work,
                **self.read_as(column, label, recipe),
            )
        return Evaluated(file=name, **found, **in_16_bits)

    def read_as(self, column: str | Sequence[str], label: str | None, recipe: Recipe | None) -> dict[str, Any]:
        """How labelled rows are read: arguments of :func:`hf_trainpipe.package.labelled.labelled`."""
        return {
            "task": self.recorded("task", self.predictor.task) if recipe is None else recipe.task,
            "known": self.known,
            "asked": self.asked(column),
            "label": label,
            "values": self._origin.get("values") if recipe is None else getattr(recipe.data.origin(), "values", None),
        }

    def __repr__(self) -> str:
        kind = self.predictor.task.schema().answers
        labels = f", {len(self.labels)} labels" if self.labels else ""
        where = self.predictor.backend
        where += f" on {self.predictor.device}" if where == "torch" else ""
        where += "" if self.predictor.precision == "fp32" else f" in {self.predictor.precision}"
        return f"Package({str(self.path)!r}: {kind}{labels}, {where})"

    @cached_property
    def known(self) -> Known:
        return known_columns(self.predictor.info.to_json())

    @property
    def _origin(self) -> Mapping[str, Any]:
        """The recorded source of the data, as JSON; of rows that were chosen from another, or are beside it, that one."""
        found: Mapping[str, Any] = self._recipe.get("data") or {}
        while isinstance(source := found.get("source"), Mapping):
            found = source
        return found

    def recorded(self, name: str, otherwise: _T) -> _T:
        """A part of the recorded recipe; ``otherwise`` where it is of another class, or of one in the recipe's file."""
        try:
            found: _T = value_from_json(self._recipe.get(name), type(otherwise))
        except RecipeError:
            return otherwise
        return found if type(found) is type(otherwise) else otherwise

    def beginning(self) -> Any:
        """The model that the recorded recipe began with; None where it is not known."""
        from hf_trainpipe.recipe import Pretrained

        try:
            return value_from_json(self._recipe.get("model"), Pretrained)
        except RecipeError:
            return None

    def asked(self, column: str | Sequence[str]) -> tuple[str, ...]:
        return parse_asked((column,) if isinstance(column, str) else tuple(column), self.known)

    def _predict_frame(self, frame: Any, column: str | Sequence[str], parameters: dict[str, Any]) -> Any:
        from hf_trainpipe.package.answers import Answered, Joined
        from hf_trainpipe.package.inputs import Record
        from hf_trainpipe.package.predict import answer_rows

        self.predictor.task.check_parameters(parameters)
        chooser = Chooser(self.known, self.asked(column), name="the frame")
        rows = [{str(name): cell for name, cell in row.items()} for row in frame.to_dict("records")]
        answers = answer_rows(self.predictor, [chooser.input_of(row) for row in rows], parameters)
        items = [
            Answered(number, Record(number, fields=row), answer, error)
            for number, (row, (answer, error)) in enumerate(zip(rows, answers, strict=True), 1)
        ]
        joined = Joined(self.predictor.task, parameters, items)
        found = [joined.row(item) for item in items]
        return frame.assign(**{name: [row.get(name) for row in found] for name in (*joined.names, joined.error)})
