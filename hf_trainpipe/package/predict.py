"""Predict a file: rows with their answers, in order, in bounded memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from hf_trainpipe.data.place import spell_place
from hf_trainpipe.data.readers_base import AS_FOUND, ReadOptions
from hf_trainpipe.errors import DataError
from hf_trainpipe.package.answers import Answered, form_of, written
from hf_trainpipe.package.columns import Chooser, known_columns, parse_asked
from hf_trainpipe.package.inputs import Record, read_records
from hf_trainpipe.package.layout import find_package, read_manifest
from hf_trainpipe.tracking.console import Console

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hf_trainpipe.runtime.handler.jobs import Job
    from hf_trainpipe.runtime.handler.predictor import Predictor

_CHUNK = 1_000
_SHOWN = 5


@dataclass
class Predicted:
    """Counts of a predicted file."""

    rows: int = 0
    columns: tuple[str, ...] = ()
    """The input columns; empty for a file of lines."""
    unanswered: Counter[str] = field(default_factory=Counter)
    """Number of rows without an answer, by reason."""
    places: list[str] = field(default_factory=list)
    """The first of these rows."""


def predict_file(
    package: Path | str,
    input: Path | str,
    output: Path | str,
    *,
    column: Sequence[str] = (),
    reading: ReadOptions = AS_FOUND,
    form: str | None = None,
    device: str | None = None,
    allow_code: bool = False,
    backend: str | None = None,
    precision: str | None = None,
    **params: Any,
) -> Predicted:
    """Answer every row of a file with a package (or the package of a run).

    The file is anything that training reads; ``-`` is standard input, lines of text unless ``reading`` says otherwise.
    Which columns are answered: :mod:`.columns`; what is written: :mod:`.answers`. A row whose text is blank, missing
    or otherwise of no use gets no answer but its reason, and the rest goes on. An output file appears once it is whole.

    Args:
        column: The column to answer, or two of a pair.
        form: One of :data:`.answers.FORMS`; None: by the output's ending.
        params: Parameters of the answers, such as ``top_k`` or ``threshold``.

    Raises:
        DataError: the file cannot be read, with file and line; it has none of the columns; or none of its rows
            can be answered.
        PackageError: if there is no package.
        InputError: if a parameter is wrong.
    """
    from hf_trainpipe.runtime.handler.predictor import Predictor

    chosen_form = form_of(output, form)
    records = read_records(input, reading)
    chunk = list(islice(records, _CHUNK))  # the first rows are read before the model is loaded
    path = find_package(package)
    manifest = read_manifest(path)
    known = known_columns(manifest)
    chooser = Chooser(known, parse_asked(column, known), name=str(input))
    inputs = _inputs(chooser, chunk)
    console = Console(0)
    with console.working("loading the package"):
        predictor = Predictor.load(path, device=device, allow_code=allow_code, backend=backend, precision=precision)
    predictor.task.check_parameters(params)
    done = Predicted(columns=chooser.columns)
    quiet = Console(0, is_main=str(output) != "-")  # what is written there shows by itself that work goes on
    with (
        quiet.working(f"answering {input}") as work,
        written(output, chosen_form, predictor.task, params) as write,
    ):
        while chunk:
            items = []
            for record, (answer, error) in zip(chunk, answer_rows(predictor, inputs, params), strict=True):
                done.rows += 1
                items.append(Answered(done.rows, record, answer, error))
                if error is not None:
                    done.unanswered[error] += 1
                    if len(done.places) < _SHOWN:
                        done.places.append(str(spell_place(str(input), record.line)))
            write(items)
            work(done.rows)
            chunk = list(islice(records, _CHUNK))
            inputs = _inputs(chooser, chunk)
        if done.rows and done.unanswered.total() == done.rows:
            reason = next(iter(done.unanswered))
            chosen = f" (columns answered: {', '.join(map(repr, done.columns))})" if done.columns else ""
            raise DataError(
                f"{input}: none of its {done.rows:,} rows can be answered{chosen}; {done.places[0]}: {reason}.",
                fix="Check the file, or choose the column that holds the text with --column NAME.",
                file=str(input),
            )
    return done


def _inputs(chooser: Chooser, records: Sequence[Record]) -> list[Any]:
    return [
        chooser.input_of(record.fields) if record.fields is not None else chooser.line(record.value)
        for record in records
    ]


def answer_rows(predictor: Predictor, inputs: Sequence[Any], params: dict[str, Any]) -> list[tuple[Any, str | None]]:
    """For each input (answer, None), or (None, reason) if there is no answer."""
    from hf_trainpipe.runtime.errors import InputError

    reasons = [missing(value) for value in inputs]
    jobs: dict[int, Job] = {}
    for position, value in enumerate(inputs):
        if reasons[position] is None:
            try:
                jobs[position] = predictor.open([value], **params)
            except InputError as error:
                reasons[position] = _reason(error)
    try:
        answers = predictor.predict([inputs[position] for position in jobs], **params)
    except InputError:
        # One of them is too long, or nothing of it is left after cleaning: each is tried alone, the rest together.
        refused = predictor.encode(list(jobs.values()))
        if not refused:
            raise
        for position, job in list(jobs.items()):
            if job in refused:
                reasons[position] = _reason(refused[job])
                del jobs[position]
        answers = predictor.predict([inputs[position] for position in jobs], **params)
    found = dict(zip(jobs, answers, strict=True))
    return [(found.get(position), reason) for position, reason in enumerate(reasons)]


def missing(value: Any) -> str | None:
    """The reason of a row without a text: blank, null, NaN, or one of several that is."""
    cells = list(value.values()) if isinstance(value, dict) and len(value) > 1 else [value]
    for cell in cells:
        if cell is None or cell != cell:
            return "no text (null)"
        if isinstance(cell, str) and not cell.strip():
            return "an empty text"
    return "no words" if isinstance(value, dict) and value.get("words") == [] else None


def _reason(error: Any) -> str:
    """The message of an error without the number of the input, since the row has it."""
    _, colon, rest = str(error.message).partition("]: ")
    return (rest if colon else str(error.message)).rstrip(".")
