"""Files without a recipe: which split each is, and which columns hold text and label. What was assumed is said."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from hf_trainpipe.data.columns import column_of, is_list, is_text
from hf_trainpipe.data.place import FILE, LINE
from hf_trainpipe.data.readers import format_of
from hf_trainpipe.data.readers_base import COMPRESSIONS
from hf_trainpipe.data.sources import Files
from hf_trainpipe.errors import DataError, closest
from hf_trainpipe.tasks import (
    CausalLM,
    MultiLabelClassification,
    Regression,
    TextClassification,
    TokenClassification,
)

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_trainpipe.runtime.tasks.base import Task

TEXTS = (
    "text", "sentence", "content", "message", "review", "body", "comment", "document", "utterance", "tweet", "description",
    "title", "question", "prompt",
)  # fmt: skip
"""Names that a column of texts usually has, the likeliest first."""
PAIRS = (
    ("sentence1", "sentence2"), ("premise", "hypothesis"), ("sentence_A", "sentence_B"), ("question1", "question2"),
    ("text", "text_pair"), ("text_a", "text_b"), ("text1", "text2"), ("query", "passage"), ("question", "context"),
)  # fmt: skip
LABELS = (
    "label", "labels", "category", "class", "intent", "sentiment", "target", "topic", "tag", "score", "rating", "stars",
    "similarity", "y", "entailment_judgment",
)  # fmt: skip
_SPLITS = {
    "test": "test", "dev": "validation", "valid": "validation", "validation": "validation", "val": "validation", "trial": "validation",
}  # fmt: skip
_FEW = 0.1
"""Share of the rows that a column of labels has distinct values at most."""
_FIRST = 200
"""Lines of a plain text that tell whether it is a table."""
_NUMBERS = 20
"""Different numbers from which a column is one to learn as a number."""


@dataclass(frozen=True, kw_only=True)
class Guess:
    """What files without a recipe hold."""

    source: Files
    splits: Mapping[str, Dataset]
    task: Task
    assumed: tuple[str, ...]
    """A sentence each."""


def guess(
    paths: Sequence[str],
    *,
    texts: Sequence[str] = (),
    label: str | None = None,
    header: tuple[str, ...] = (),
    **reading: Any,
) -> Guess:
    """Read files, and guess what nobody says.

    Args:
        texts: The columns of texts, one or two; empty: guessed.
        label: The column of labels; None: guessed.
        header: Names of the columns of files without a header line; empty: guessed whether there is one.
        reading: Fields of ``Files`` that say how they are read.

    Raises:
        DataError: a file cannot be read, or no column holds texts.
    """
    options = {**reading, **({"header": header} if header else {})}
    source, assumed = files_of(paths, **options)
    splits = source.splits()
    is_text = options.get("format") is None and all(format_of(Path(path), shown=path) == "txt" for path in paths)
    if is_text and (number := _tabs(splits["train"])):
        options |= {"format": "tsv", "quoting": "none"}
        source, assumed = files_of(paths, **options)
        splits = source.splits()
        columns = f"{number + 1} columns with tabs between them"
        assumed.append(
            f"the lines of the .txt are rows of {columns}, and quotes are text (--format tsv --quoting none)"
        )
    if not header and (number := without_header(splits)):
        names = tuple(f"column_{at}" for at in range(1, number + 1))
        source = files_of(paths, **options, header=names)[0]
        splits = source.splits()
        assumed.append(f"the first line is a row, not a header: columns are {names[0]} to {names[-1]} (--header A,B)")
    task, further = task_of(splits["train"], texts=texts, label=label)
    return Guess(source=source, splits=splits, task=task, assumed=(*assumed, *further))


def files_of(paths: Sequence[str], **reading: Any) -> tuple[Files, list[str]]:
    """The files as a source, split by their names.

    Args:
        reading: Fields of ``Files`` that say how they are read.

    Returns:
        The source, and what was assumed.
    """
    named: dict[str, list[str]] = {}
    for path in paths:
        stem = Path(path).name
        while Path(stem).suffix.lower() in COMPRESSIONS:
            stem = Path(stem).stem
        words = re.split(r"[^a-z]+", stem.lower())
        named.setdefault(next((_SPLITS[word] for word in words if word in _SPLITS), "train"), []).append(path)
    assumed = []
    if "train" not in named:
        first = next(iter(named))
        named["train"] = named.pop(first)
    if len(paths) > 1:
        assumed.append(", ".join(f"{' and '.join(found)} is {split}" for split, found in named.items()))
    fields: dict[str, Any] = {split: tuple(found) for split, found in named.items()}
    return Files(**fields, **reading), assumed


def _tabs(lines: Dataset) -> int:
    """How many tabs each of the first lines of a plain text has; 0: not equally many."""
    counts = pc.unique(pc.count_substring(lines.with_format("arrow")[:_FIRST]["text"], "\t")).to_pylist()
    return int(counts[0]) if len(counts) == 1 else 0


def without_header(splits: Mapping[str, Dataset]) -> int:
    """How many columns the files have, if their first line is no header but looks like a row; 0 if it is a header."""
    names = [name for name in next(iter(splits.values())).column_names if name not in (FILE, LINE)]
    is_row = any(len(name) > 50 or name.count(" ") > 3 or name.strip().lstrip("-").isdigit() for name in names)
    return len(names) if is_row else 0


def task_of(train: Dataset, *, texts: Sequence[str] = (), label: str | None = None) -> tuple[Task, list[str]]:
    """The task that the columns of a file suggest.

    Args:
        texts: The columns of texts, one or two, where they are known.
        label: The column of labels, where it is known.

    Returns:
        The task, and what was assumed.

    Raises:
        DataError: no column holds texts, or a column that was named is not there.
    """
    names = [name for name in train.column_names if name not in (FILE, LINE)]
    for name in (*texts, *([label] if label else ())):
        if name not in names:
            raise DataError(
                f"There is no column {name!r}. There are: {', '.join(names)}.",
                fix=f"Name one of them: --text NAME, --label NAME.{closest(name, names)}",
            )
    columns = {name: column_of(train, name) for name in names}
    if not texts and (found := _tagging(columns)) is not None:
        return found, [f"{', '.join(column.name for column in found.columns().values())}: words or texts with tags"]
    assumed = []
    if not texts:
        texts = _texts(columns, label)
        assumed.append(
            f"{' and '.join(map(repr, texts))} {'is the text' if len(texts) == 1 else 'are the texts'} (--text)"
        )
    if label is None:
        label = _label(columns, texts)
        told = (
            f"{label!r} is the label (--label)"
            if label
            else "no column is the label (--label): texts alone are looked at"
        )
        assumed.append(told)
    if label is None:
        if len(texts) > 1:
            return TextClassification(texts[0], text_pair=texts[1], label=texts[0]), assumed
        return CausalLM(texts[0]), assumed
    pair = texts[1] if len(texts) > 1 else None
    if is_list(columns[label].type):
        return MultiLabelClassification(texts[0], text_pair=pair, labels=label), [
            *assumed,
            "each row has several labels",
        ]
    if _are_numbers(columns[label]):
        return Regression(texts[0], text_pair=pair, score=label), [*assumed, f"{label!r} is a number to be learnt"]
    return TextClassification(texts[0], text_pair=pair, label=label), assumed


def _tagging(columns: Mapping[str, pa.Array]) -> Task | None:
    lists = [name for name, cells in columns.items() if is_list(cells.type) and is_text(cells.type.value_type)]
    words = next((name for name in ("words", "tokens") if name in lists), None)
    tags = next((name for name in ("tags", "ner_tags", "pos_tags", "labels", "upos") if name in columns), None)
    if words is not None and tags is not None and is_list(columns[tags].type):
        values = columns[tags].flatten()
        is_bio = is_text(values.type) and any(
            str(tag).startswith(("B-", "I-")) for tag in pc.unique(values).to_pylist()
        )
        return TokenClassification(words, tags=tags, scheme="BIO" if is_bio else None)
    spans = next((name for name in ("spans", "entities") if name in columns), None)
    text = next((name for name in TEXTS if name in columns and is_text(columns[name].type)), None)
    return None if spans is None or text is None else TokenClassification(text=text, spans=spans)


def _texts(columns: Mapping[str, pa.Array], label: str | None) -> tuple[str, ...]:
    there = {name: cells for name, cells in columns.items() if is_text(cells.type) and name != label}
    if not there:
        raise DataError(
            f"Expected a column of texts, found {', '.join(columns) or 'no column'}.",
            fix="Name the text's column: --text.",
        )
    for pair in PAIRS:
        if set(pair) <= set(there):
            return pair
    lower = {name.lower(): name for name in there}
    usual = next((lower[name] for name in TEXTS if name in lower), None)
    if usual is not None:
        return (usual,)
    return (max(there, key=lambda name: (pc.mean(pc.utf8_length(there[name])).as_py() or 0, name)),)


def _label(columns: Mapping[str, pa.Array], texts: Sequence[str]) -> str | None:
    free = {name: cells for name, cells in columns.items() if name not in texts}
    lower = {name.lower(): name for name in free}
    usual = next((lower[name] for name in LABELS if name in lower), None)
    if usual is not None:
        return usual
    few = {}
    for name, cells in free.items():
        if not pa.types.is_nested(cells.type) and not pa.types.is_floating(cells.type):
            distinct = pc.count_distinct(cells).as_py()
            if 2 <= distinct <= max(2, _FEW * len(cells)):
                few[name] = distinct
    return min(few, key=lambda name: (few[name], name)) if few else None


def _are_numbers(cells: pa.Array) -> bool:
    values = {str(value) for value in cells.to_pylist() if value is not None}
    try:
        numbers = {float(value) for value in values}
    except ValueError:
        return False
    return len(numbers) > _NUMBERS or any(not number.is_integer() for number in numbers)
