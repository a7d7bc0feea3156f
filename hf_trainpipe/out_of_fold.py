"""What a cross-validation keeps of every row, read in one place (docs/crossval.md): whoever uses it learns here whether the study is finished,
keeps answers of rows, and is of these rows and of this recipe.

Shapes: N rows of the data that were dealt.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.checkpoint.contract import compare
from hf_trainpipe.data.place import place
from hf_trainpipe.data.predicted import row_hashes
from hf_trainpipe.engine.evaluation import as_predictions
from hf_trainpipe.errors import DataError, RecipeError, ResumeMismatch
from hf_trainpipe.metrics.base import Floats, Predictions
from hf_trainpipe.metrics.joined import reordered
from hf_trainpipe.metrics.saved import Predicted, load, taken
from hf_trainpipe.runtime.model.outputs import Outputs
from hf_trainpipe.utils.atomic import read_json_object
from hf_trainpipe.utils.brief import listed

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_trainpipe.runtime.tasks.base import Task
    from hf_trainpipe.runtime.tokens.features import Features

STORE, RESULT, IDENTITY = "out_of_fold.npz", "crossval.json", "study.json"
CHOSEN_AFTER = (
    "name", "seed", "evaluation", "task.threshold", "task.tune_threshold", "task.no_answer_threshold",
)  # fmt: skip
"""Fields of a recipe that change no weight, or that runs of a study differ in by themselves: they may differ from the study's."""
_DAMAGED = "Bring it back from a copy, or give the study's command again: it writes it anew."


@dataclass(frozen=True, eq=False, kw_only=True)
class OutOfFold:
    """What each row got from a model that never saw it."""

    folder: Path
    splits: tuple[str, ...]
    """Of the data, by the numbers that the store has of them."""
    recipe: Mapping[str, Any]
    """The study's, as JSON."""
    every: Predicted
    """All answers, those of one fold after the other; of several repeats a row has as many."""
    temperatures: tuple[float, ...]
    """What the logits of each fold were divided by, one repeat after the other."""

    @classmethod
    def read(cls, folder: Path, *, finishes: Mapping[str, Callable[[Floats], Floats]] | None = None) -> OutOfFold:
        """Read the store of a cross-validation.

        Args:
            finishes: Of metrics of a task's own, as :func:`~hf_trainpipe.metrics.saved.load` takes them.

        Raises:
            DataError: this is none, it is not finished, or it keeps no answers of rows.
        """
        identity, found = check_finished(folder)
        every = load(folder / STORE, finishes=finishes)
        return cls(
            folder=folder,
            splits=tuple(found["splits"]),
            recipe=identity["recipe"],
            every=every,
            temperatures=tuple(found.get("temperatures") or [1.0] * len(found["runs"])),
        )

    def first(self) -> Predicted:
        """An answer of each row, in the order of the data: of several repeats the first."""
        held = taken(self.every, np.flatnonzero(self.every.numbers["repeat"] == 1))
        return taken(held, np.lexsort((held.numbers["row"], held.numbers["split"])))

    def raw(self) -> Predicted:
        """:meth:`first` before any calibration: logits as the networks gave them, the most probable answer."""
        held = self.first()
        found = held.predictions
        if found.chosen is None and set(self.temperatures) == {1.0}:
            return held
        by = np.asarray(self.temperatures)[held.numbers["fold"] - 1][:, None]
        plain = replace(found, outputs=found.outputs.astype(np.float64) * by, chosen=None)
        return replace(held, predictions=plain)

    def logits(self, task: Task) -> Predicted:
        """:meth:`raw` of a classifier, with the labels in the order of its fitted task.

        Raises:
            RecipeError: the study keeps no logits of labels.
            DataError: its models know a label that the task does not.
        """
        held = self.raw()
        found, labels = held.predictions, tuple(task.label_names)
        if not found.has_logits:
            why = (
                "decisions alone, since logits of so many labels are too many"
                if found.decided
                else f"those of {type(task).__name__}"
            )
            raise RecipeError(
                f"{self.folder}: expected logits of labels, found {why}.",
                fix="Leave --crossval out: it goes with tasks that give a text one label or several.",
            )
        if unknown := sorted(set(found.labels) - set(labels)):
            raise DataError(
                f"{self.folder}: its models know the label {unknown[0]!r}, and there are {listed(labels, 8, quoted=True)}.",
                fix="Cross-validate the recipe on the data that it has now: hf-trainpipe crossval RECIPE --study-dir OTHER",
            )
        return replace(held, predictions=reordered(found, labels))

    def places(self, starts: NDArray[np.int64], names: Sequence[str]) -> NDArray[np.int64]:
        """[M] where the rows of :attr:`every` stand among those of some splits, one after the other.

        Args:
            starts: The first row of each split.
            names: The splits, all of the study's among them.
        """
        numbers = self.every.numbers
        begins = np.asarray([starts[names.index(name)] if name in names else 0 for name in self.splits])
        found: NDArray[np.int64] = begins[numbers["split"]] + numbers["row"]
        return found

    def check_recipe(
        self, recipe: Mapping[str, Any], *, whose: str, may_differ: Collection[str] = CHOSEN_AFTER
    ) -> None:
        """Refuse the answers of another recipe's models.

        Args:
            recipe: As JSON, as a run or a package records it.
            whose: Run, package or recipe, for the message.

        Raises:
            ResumeMismatch: fields differ that change what a model answers.
        """
        if self.recipe["model"].get("revision") is None:  # a run records what it was pinned to
            may_differ = (*may_differ, "model.revision")
        differences = compare({"recipe": self.recipe}, {"recipe": recipe}, allow=may_differ)
        if differences:
            listed = "\n".join(f"  {one}" for one in differences[:8])
            more = f"\n  and {len(differences) - 8} more" if len(differences) > 8 else ""
            raise ResumeMismatch(
                f"{self.folder} has the answers of another recipe than {whose}:\n{listed}{more}",
                fix="Cross-validate this recipe: hf-trainpipe crossval RECIPE --study-dir OTHER",
            )

    def rows(self, splits: Mapping[str, Dataset], task: Task) -> Dataset:
        """[N] the rows that :meth:`first` answers, in its order.

        Raises:
            DataError: the data lack a split, or have other rows than were dealt.
        """
        from datasets import concatenate_datasets

        held = self.first()
        parts: list[Dataset] = []
        for number in np.unique(held.numbers["split"]).tolist():
            name = self.splits[number]
            mine = held.numbers["split"] == number
            rows, there = held.numbers["row"][mine], splits.get(name)
            if there is None or int(rows.max()) >= len(there):
                now = "none of that name" if there is None else f"{len(there):,}"
                raise self._others(
                    f"split {name!r} had {int(rows.max()) + 1:,} rows or more when it was dealt, and there are {now} now"
                )
            chosen = there.select(rows)
            missing = [column.name for column in task.inputs.values() if column.name not in chosen.column_names]
            if missing:
                raise self._others(f"split {name!r} has no column {missing[0]!r}")
            differ = np.flatnonzero(row_hashes(chosen.with_format("arrow")[:], task) != held.rows[mine])
            if len(differ):
                at = place(chosen, name, int(differ[0]))
                raise self._others(
                    f"{len(differ):,} of {len(rows):,} rows of split {name!r} are others now, the first at {at}"
                )
            parts.append(chosen)
        return parts[0] if len(parts) == 1 else concatenate_datasets(parts)

    def _others(self, told: str) -> DataError:
        return DataError(
            f"{self.folder} has the answers of other rows: {told}.",
            fix="Bring the data back as they were dealt, or cross-validate what they are now: hf-trainpipe crossval RECIPE --study-dir OTHER",
        )


def run_of_fold(folder: Path, number: int) -> Path:
    """The run of a fold of a study, from 0."""
    return folder / "folds" / str(number + 1)


def rows_of_fold(folder: Path, number: int) -> Path:
    """The file of the rows that it has."""
    return folder / "rows" / f"{number + 1}.json"


def check_finished(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """study.json and crossval.json of a cross-validation that keeps answers of rows.

    Raises:
        DataError: this is none, it is not finished, or it keeps no such answers.
    """
    identity = _identity(folder)
    if not (folder / RESULT).is_file():
        dealt = identity["fingerprints"].get("folds", 0) * identity["fingerprints"].get("repeats", 1)
        done = len(list(folder.glob("folds/*/result.json")))
        raise DataError(
            f"{folder}: expected a finished cross-validation, found {done} of {dealt} folds complete.",
            fix=f"Continue it by the same command:\n{identity.get('command') or 'hf-trainpipe crossval RECIPE'}",
        )
    found = read_json_object(folder / RESULT, needs={"splits": list, "runs": list}, fix=_DAMAGED)
    if found.get("out_of_fold") is None:
        raise DataError(
            f"{folder}: expected answers of single rows, found none: what this recipe's model answers are blocks of several rows or parts "
            "of one, as those of a language model are.",
            fix="Use it with tasks that answer rows; the scores of the study are in crossval.json.",
        )
    return identity, found


def is_crossval(folder: Path) -> bool:
    """Whether a folder is that of a cross-validation, finished or not."""
    try:
        return bool(_identity(folder))
    except DataError:
        return False


def judged(found: Predictions, task: Task, rows: NDArray[np.int64] | None = None) -> Predictions:
    """Raw logits [N, C] as a task judges them, with its temperature, costs and thresholds.

    Args:
        rows: Some of them; None: all.
    """
    rows = np.arange(len(found)) if rows is None else rows
    outputs = Outputs(np.arange(len(rows)), {"logits": found.outputs[rows]})
    features = cast(
        "Features", SimpleNamespace(of_examples={"labels": found.references[rows]})
    )  # the targets alone are read
    return as_predictions(task.judge(outputs, features), task, outputs.items)


def _identity(folder: Path) -> dict[str, Any]:
    """study.json of a cross-validation.

    Raises:
        DataError: the folder is something else.
    """
    file = folder / IDENTITY
    if file.is_file():
        found = read_json_object(file, needs={"recipe": dict, "fingerprints": dict}, fix=_DAMAGED)
        kind = found["fingerprints"].get("study")
        if kind == "crossval":
            return found
        told = f"a study of {kind}"
    else:
        told = "a run" if (folder / "run.json").is_file() else "no study" if folder.is_dir() else "no such folder"
    raise DataError(
        f"{folder}: expected the folder of a cross-validation, found {told}.",
        fix="hf-trainpipe crossval RECIPE makes one, in studies/crossval-NAME.",
    )
