"""Write rows with their answers, as jsonl, csv, tsv, parquet, a table, or in the handler's format.

A row of the joined forms is the input's columns, then the answer's: ``label`` and ``score`` of one label, ``labels``
and ``scores`` of several, ``score`` of a number, ``entities`` or ``tags`` of words; ``error`` says why a row has no
answer. Rows without a column ``id`` begin with ``row``, counted from 1. Where the input has a column of the same name,
the answer's is called ``predicted_label``, ``predicted_score`` and so on.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import sys
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from hf_trainpipe.errors import DataError, closest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from hf_trainpipe.package.inputs import Record
    from hf_trainpipe.runtime.tasks.base import Task

Form = Literal["answers", "jsonl", "csv", "tsv", "parquet", "table"]
FORMS: tuple[Form, ...] = ("answers", "jsonl", "csv", "tsv", "parquet", "table")
_ENDINGS: dict[str, Form] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
_PACKED = (".gz", ".zst")


@dataclass(frozen=True, slots=True)
class Answered:
    """A row with its answer, or the reason why it has none."""

    row: int
    """From 1."""
    record: Record
    answer: Any = None
    error: str | None = None


def form_of(output: Path | str, said: str | None = None) -> Form:
    """The given form, or that of the output's suffix; for ``-`` a table on a terminal, else plain answers.

    Raises:
        DataError: another form or ending.
    """
    if said is not None:
        found = next((form for form in FORMS if form == said), None)
        if found is None:
            raise DataError(
                f"--output-format: expected one of {', '.join(FORMS)}, found {said!r}.",
                fix=f"Choose one of them.{closest(said, FORMS)}",
            )
        if found == "parquet" and str(output) == "-":
            raise DataError("--output-format: parquet needs a file.", fix="Write --output answers.parquet.")
        return found
    if str(output) == "-":
        return "table" if sys.stdout.isatty() else "answers"
    path = Path(output)
    ending = (path.with_suffix("") if path.suffix in _PACKED else path).suffix.lower()
    if ending not in _ENDINGS:
        raise DataError(
            f"{output}: the suffix {ending!r} is of no known format.",
            fix=f"End the name with one of {', '.join(_ENDINGS)}, or set the format: --output-format csv.",
            file=str(output),
        )
    return _ENDINGS[ending]


class Joined:
    """Rows joined with answers. The first rows decide the names of the answer's columns.

    Args:
        task: Of the package.
        parameters: Those of the answers.
        first: The first rows.
    """

    def __init__(self, task: Task, parameters: Mapping[str, Any], first: Sequence[Answered]) -> None:
        self.task, self.parameters = task, parameters
        self.inputs = list(dict.fromkeys(name for item in first for name in _cells(item)))
        taken = {name.lower() for name in self.inputs}
        self.numbered = not {"id", "row"} & taken
        names = task.answer_columns(parameters)
        prefix = "predicted_" if any(name in taken for name in names) else ""
        self.names = [prefix + name for name in names]
        self.error = "error" if "error" not in taken else "predicted_error"
        self.head = [*(("row",) if self.numbered else ()), *self.inputs, *self.names, self.error]

    def row(self, item: Answered) -> dict[str, Any]:
        """All columns of a row; the error, if any, is last."""
        cells = _cells(item)
        answers: dict[str, Any] = dict.fromkeys(self.names)
        if item.answer is not None:
            answers = dict(zip(self.names, self.task.answer_cells(item.answer, self.parameters), strict=True))
        if item.error is not None:
            answers[self.error] = item.error
        cells = {f"input_{name}" if name in answers else name: cell for name, cell in cells.items()}
        return {**({"row": item.row} if self.numbered else {}), **cells, **answers}

    def flat(self, item: Answered) -> list[Any]:
        """The cells of a row, in the order of :attr:`head`."""
        row = self.row(item)
        for name in row:
            if name not in self.head:
                raise DataError(
                    f"row {item.row} has the column {name!r}, which the rows before it do not have.",
                    fix="Write jsonl, whose rows may differ: --output answers.jsonl.",
                )
        return [row.get(name) for name in self.head]


def _cells(item: Answered) -> Mapping[str, Any]:
    record = item.record
    return record.fields if record.fields is not None else {"text": record.value}


@contextmanager
def written(output: Path | str, form: Form, task: Task, parameters: Mapping[str, Any]) -> Iterator[Any]:
    """A function that takes lists of :class:`Answered` and writes them; the file appears when it is complete.

    Args:
        task: Of the package.
        parameters: Those of the answers.

    Raises:
        DataError: the file cannot be written.
    """
    join = partial(Joined, task, parameters)
    if str(output) == "-":
        yield _Sink(sys.stdout, form, join).write
        sys.stdout.flush()
        return
    path = Path(output)
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    try:
        if form == "parquet":
            with closing(_Parquet(temporary, join)) as sink:
                yield sink.write
        else:
            with _opened(temporary, path.suffix) as stream:
                yield _Sink(stream, form, join).write
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}.", fix="Name a file that can be written.") from None
    finally:
        temporary.unlink(missing_ok=True)


def _opened(path: Path, ending: str) -> Any:
    text: dict[str, Any] = {"encoding": "utf-8", "errors": "replace", "newline": ""}
    if ending == ".gz":
        return gzip.open(path, "wt", **text)
    if ending == ".zst":
        import zstandard

        return zstandard.open(path, "wt", **text)
    return path.open("w", **text)


class _Sink:
    def __init__(self, stream: IO[str], form: Form, join: Callable[[Sequence[Answered]], Joined]) -> None:
        self.stream, self.form, self.join = stream, form, join
        self.joined: Joined | None = None
        self._table: Any = None

    def write(self, items: Sequence[Answered]) -> None:
        """Write some rows, in order."""
        if self.form == "answers":
            self.stream.writelines(_json(item.answer) + "\n" for item in items)
            return
        if self.joined is None:
            self.joined = self.join(items)
            if self.form in ("csv", "tsv"):
                self._lines.writerow(self.joined.head)
        if self.form == "jsonl":
            self.stream.writelines(_json(self.joined.row(item)) + "\n" for item in items)
        elif self.form == "table":
            self._rows(items, self.joined)
        else:
            self._lines.writerows([_cell(cell) for cell in self.joined.flat(item)] for item in items)

    @property
    def _lines(self) -> Any:
        return csv.writer(self.stream, delimiter="\t" if self.form == "tsv" else ",", lineterminator="\n")

    def _rows(self, items: Sequence[Answered], joined: Joined) -> None:
        from hf_trainpipe.utils.tables import Table

        failed = any(item.error for item in items)
        head = joined.head if failed else joined.head[:-1]
        if self._table is None:
            self._table = Table(head)
        rows = [[_shown(cell) for cell in joined.flat(item)[: len(head)]] for item in items]
        self.stream.writelines(line + "\n" for line in self._table.lines(rows))


class _Parquet:
    """A row group for each call. Numbers are columns of their own type; lists and objects are JSON."""

    def __init__(self, path: Path, join: Callable[[Sequence[Answered]], Joined]) -> None:
        self.path, self.join = path, join
        self.joined: Joined | None = None
        self.writer: Any = None

    def write(self, items: Sequence[Answered]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self.joined is None:
            self.joined = self.join(items)
            kinds = {"row": pa.int64(), **{name: pa.float64() for name in self.joined.names if name.endswith("score")}}
            self.schema = pa.schema([(name, kinds.get(name, pa.string())) for name in self.joined.head])
            self.writer = pq.ParquetWriter(self.path, self.schema)
        rows = [self.joined.flat(item) for item in items]
        columns = []
        for position, column in enumerate(self.schema):
            cells = [row[position] for row in rows]
            is_text = pa.types.is_string(column.type)
            columns.append(pa.array([_text(cell) for cell in cells] if is_text else cells, column.type))
        self.writer.write_table(pa.Table.from_arrays(columns, schema=self.schema))

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


def _json(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, written as an escape in a JSON line
        text = json.dumps(value, default=str)
    return text


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float) else _json(value)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else _json(value)
    return text.encode("utf-8", "replace").decode()


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, list) and value and all(isinstance(item, dict) and "label" in item for item in value):
        return ", ".join(f"{item.get('text', item['label'])} ({item['label']})" for item in value)
    if isinstance(value, list):
        return ", ".join(_shown(item) for item in value)
    return str(value)
