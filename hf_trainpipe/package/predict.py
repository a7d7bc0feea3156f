"""Predict a file: one JSON line of answer for each input, in order, in bounded memory."""

from __future__ import annotations

import csv
import json
import os
import sys
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from hf_trainpipe.errors import DataError, closest
from hf_trainpipe.package.layout import find_package

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["predict_file", "read_inputs"]

_CHUNK = 1_000
_LONGEST_LINE = 16 << 20
"""Characters of a line; longer ones are refused before they fill the memory."""
_FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv", ".txt": "txt"}
_FIELDS = ("text", "text_pair", "words", "inputs")


def predict_file(
    package: Path | str,
    input: Path | str,
    output: Path | str,
    *,
    format: str | None = None,
    device: str | None = None,
    allow_code: bool = False,
    backend: str | None = None,
    **params: Any,
) -> int:
    """Answer every input of a file with a package (or the package of a run).

    Inputs are ``jsonl`` (objects with ``text``, ``text`` and ``text_pair``, ``words``, or ``inputs``; or bare
    strings), ``csv`` or ``tsv`` with a header (columns ``text``, ``text_pair``, else the first), or
    ``txt`` (a text a line). ``-`` reads standard input, as ``txt`` unless ``format`` says otherwise,
    or writes standard output. An output file appears only when it is whole.

    Args:
        format: ``jsonl``, ``csv``, ``tsv`` or ``txt``; None: by the file's ending.
        params: Parameters of the answers, such as ``top_k`` or ``threshold``.

    Returns:
        The number of inputs.

    Raises:
        DataError: with file and line, for an input that cannot be used.
        PackageError: if there is no package.
        InputError: if a parameter is wrong.
    """
    from hf_trainpipe.runtime.errors import InputError
    from hf_trainpipe.runtime.predictor import Predictor

    with _open(input) as stream:
        kind = format or ("txt" if str(input) == "-" else _FORMATS.get(Path(input).suffix.lower()))
        if kind is None or kind not in _FORMATS.values():
            raise DataError(
                f"{input}: expected jsonl, csv, tsv or txt, found {kind or Path(input).suffix!r}.",
                fix="Name the format with --format.",
                file=str(input),
            )
        inputs = read_inputs(stream, format=kind, name=str(input))
        chunk = list(islice(inputs, _CHUNK))  # the first lines are read before the model is loaded
        predictor = Predictor.load(find_package(package), device=device, allow_code=allow_code, backend=backend)
        count = 0
        with _written(output) as sink:
            while chunk:
                try:
                    answers = predictor.predict([value for _, value in chunk], **params)
                except InputError as error:
                    position = getattr(error, "position", None)
                    if position is None:
                        raise
                    line = chunk[position][0]
                    raise DataError(
                        f"{input}, line {line}: {error.message}", fix=error.fix, file=str(input), line=line
                    ) from error
                for answer in answers:
                    sink.write(json.dumps(answer, ensure_ascii=False) + "\n")
                count += len(chunk)
                chunk = list(islice(inputs, _CHUNK))
    return count


def read_inputs(stream: IO[bytes], *, format: str, name: str) -> Iterator[tuple[int, Any]]:
    """Yield ``(line, input)`` from a stream; ``line`` counts from 1, and is where the input starts.

    Raises:
        DataError: with file and line.
    """
    lines = _lines(stream, name)
    if format == "txt":
        yield from lines
    elif format == "jsonl":
        for number, line in lines:
            if line.strip():
                yield number, _from_json(line, name=name, number=number)
    else:
        yield from _rows(lines, delimiter="," if format == "csv" else "\t", name=name)


def _problem(message: str, *, name: str, number: int, fix: str) -> DataError:
    return DataError(f"{name}, line {number}: {message}", fix=fix, file=name, line=number)


def _lines(stream: IO[bytes], name: str) -> Iterator[tuple[int, str]]:
    number = 0
    while raw := stream.readline(_LONGEST_LINE + 1):
        number += 1
        if len(raw) > _LONGEST_LINE:
            raise _problem(
                f"the line is longer than {_LONGEST_LINE:,} bytes.", name=name, number=number, fix="Split it."
            )
        try:
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise _problem(
                f"byte {error.start + 1} is not UTF-8 ({raw[error.start]:#04x}).",
                name=name,
                number=number,
                fix="Save the file as UTF-8.",
            ) from None
        yield number, text.removesuffix("\n").removesuffix("\r")


def _from_json(line: str, *, name: str, number: int) -> Any:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise _problem(
            f"not JSON ({error.msg} at character {error.pos + 1}).",
            name=name,
            number=number,
            fix="Write one JSON object or string a line.",
        ) from None
    if isinstance(value, str):
        return value
    expected = 'Write {"text": ...}, {"text": ..., "text_pair": ...}, {"words": [...]} or {"inputs": ...}.'
    if not isinstance(value, dict):
        raise _problem(f"expected an object or a string, found {line[:40]}.", name=name, number=number, fix=expected)
    if "inputs" in value:
        return value["inputs"]
    if "words" in value:
        return {"words": value["words"]}
    if "text" not in value:
        hint = next((closest(key, _FIELDS) for key in value if closest(key, _FIELDS)), "")
        found = ", ".join(map(repr, value)) or "none"
        raise _problem(f"expected the field 'text', found {found}.{hint}", name=name, number=number, fix=expected)
    if value.get("text_pair") is not None:
        return {"text": value["text"], "text_pair": value["text_pair"]}
    return value["text"]


def _rows(lines: Iterator[tuple[int, str]], *, delimiter: str, name: str) -> Iterator[tuple[int, Any]]:
    last = [0]

    def texts() -> Iterator[str]:
        for number, line in lines:
            last[0] = number
            yield line + "\n"

    reader = csv.reader(texts(), delimiter=delimiter, strict=True)
    head: list[str] | None = None
    while True:
        start = last[0] + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise _problem(f"{error}.", name=name, number=start, fix="Close every quote.") from None
        if row is None:
            return
        if not row:
            continue
        if head is None:
            head = row
            continue
        if len(row) != len(head):
            raise _problem(
                f"expected {len(head)} columns ({', '.join(head)}), found {len(row)}.",
                name=name,
                number=start,
                fix="Quote values that hold the separator.",
            )
        cells = dict(zip(head, row, strict=True))
        text = cells.get("text", row[0])
        yield start, {"text": text, "text_pair": cells["text_pair"]} if "text_pair" in cells else text


@contextmanager
def _open(path: Path | str) -> Iterator[IO[bytes]]:
    if str(path) == "-":
        yield sys.stdin.buffer
        return
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(Path(path).open("rb"))
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}.", fix="Name a file that can be read.") from None
        yield stream


@contextmanager
def _written(path: Path | str) -> Iterator[IO[str]]:
    if str(path) == "-":
        yield sys.stdout
        sys.stdout.flush()
        return
    path = Path(path)
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as stream:
            yield stream
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}.", fix="Name a file that can be written.") from None
    finally:
        temporary.unlink(missing_ok=True)
