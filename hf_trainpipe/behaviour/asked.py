"""The rows whose inputs are changed: of a file, or of a split; and changed rows as a file, with their labels where they belong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.behaviour.behave import Asked
from hf_trainpipe.behaviour.perturbations import Perturbation
from hf_trainpipe.behaviour.perturbed import Perturbed
from hf_trainpipe.data.place import FILE, LINE, spell_place
from hf_trainpipe.data.place import place as place_of
from hf_trainpipe.data.readers_base import AS_FOUND, ReadOptions
from hf_trainpipe.data.span_forms import UnreadableSpans, read_spans
from hf_trainpipe.errors import DataError
from hf_trainpipe.package.columns import Chooser, Known
from hf_trainpipe.package.inputs import read_records
from hf_trainpipe.utils.atomic import write_bytes

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_trainpipe.runtime.tasks.base import Task


def rows_of_file(
    file: Path | str, known: Known, *, asked: tuple[str, ...] = (), reading: ReadOptions = AS_FOUND
) -> tuple[list[Asked], tuple[str, ...]]:
    """The rows of a file, labelled or not, and the columns of their inputs.

    Raises:
        DataError: it cannot be read, with file and line, or has none of the columns.
    """
    chooser = Chooser(known, asked, name=str(file))
    found = []
    for number, record in enumerate(read_records(file, reading)):
        given = chooser.input_of(record.fields) if record.fields is not None else chooser.line(record.value)
        found.append(Asked(number, str(spell_place(str(file), record.line)), given, record.fields or {}))
    return found, chooser.columns


def rows_of_split(task: Task, dataset: Dataset, *, split: str) -> tuple[list[Asked], tuple[str, ...]]:
    """The rows of a split, and the columns of their inputs."""
    columns = {role: column.name for role, column in task.inputs.items()}
    found = []
    for number, row in enumerate(dataset.with_format(None)):
        given = task.as_input({role: row[name] for role, name in columns.items()})
        fields = {name: cell for name, cell in row.items() if name not in (FILE, LINE)}
        found.append(Asked(number, str(place_of(dataset, split, number)), given, fields))
    return found, tuple(columns.values())


def label_columns(task: Task, known: str | None) -> dict[str, tuple[str, ...]]:
    """Of a tagger, by the form of an input (``text``, ``words``), the columns that may hold its labels; of other tasks none.

    Args:
        known: The recipe's.
    """
    if task.judged_as != "tags":
        return {}
    found = {}
    for role in ("text", "words"):
        is_own, target = role in task.inputs, task.over(role).target
        usual = target.usual if target is not None else ()
        found[role] = tuple(dict.fromkeys([*([known] if is_own and known else []), *usual]))
    return found


@dataclass(eq=False)
class Writer:
    """Keeps changed rows for a file of JSON lines: the row's columns with the changed input, its labels where they belong now, the
    name of the perturbation, and the number of the row.

    Args:
        columns: Of the input, in the order of its parts.
        labels: As :func:`label_columns` gives them; the labels of other tasks stay as they are.
        has_scheme: Whether tags are those of entities, ``B-`` and ``I-``.
    """

    columns: Sequence[str]
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    has_scheme: bool = False
    _lines: list[str] = field(default_factory=list)

    def __call__(self, asked: Asked, perturbation: Perturbation, new: Perturbed) -> None:
        """Keep a changed row.

        Raises:
            DataError: its labels cannot be put where they belong.
        """
        parts = list(new.given.values()) if isinstance(new.given, dict) else [new.given]
        columns = self.columns or ("text",)
        if len(parts) != len(columns):
            raise DataError(
                f"{asked.place}: its input is made of {', '.join(columns)}, and a changed one cannot be parted again.",
                fix="Leave --output out, or write a file whose columns are the inputs themselves.",
            )
        row = {**asked.fields, **dict(zip(columns, parts, strict=True))}
        form = "text" if new.owners is None else "words"
        target = next((name for name in self.labels.get(form, ()) if row.get(name) is not None), None)
        if target is not None:
            row[target] = self._labels(row[target], new, asked.place)
        row |= {"perturbation": perturbation.name, "row": asked.row}
        self._lines.append(json.dumps(row, ensure_ascii=False, default=str))

    def save(self, file: Path) -> int:
        """Write the file; the number of its rows."""
        write_bytes(file, "".join(f"{line}\n" for line in self._lines).encode("utf-8", "surrogatepass"))
        return len(self._lines)

    def _labels(self, cell: Any, new: Perturbed, where: str) -> Any:
        if new.owners is not None:
            given = json.loads(cell) if isinstance(cell, str) else list(cell)
            if not self.has_scheme or not all(isinstance(tag, str) for tag in given):
                return new.tags(given)
            return new.tags(given, inside={tag: f"I-{tag[2:]}" for tag in given if tag[:2] == "B-"}, outside="O")
        try:
            spans = read_spans(cell)
        except UnreadableSpans as error:
            raise DataError(f"{where}: {error.message}", fix=error.fix) from None
        places = [(new.forth(span.start, span.end), span.label) for span in spans]
        return [{"start": place[0], "end": place[1], "label": label} for place, label in places if place is not None]
