"""What slices are told by, of rows as a task reads them: their words, lengths and other columns.

Shapes: N rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hf_trainpipe.audit.corpus import Corpus
from hf_trainpipe.data.columns import is_text
from hf_trainpipe.data.place import FILE, LINE
from hf_trainpipe.metrics.slices import TOKENS, RowFacts
from hf_trainpipe.runtime.text.words import WordSplitter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from datasets import Dataset

    from hf_trainpipe.metrics.base import Floats
    from hf_trainpipe.runtime.tasks.base import Task

_VALUES = 50
"""Of a column that is told by its values; numbers with more are told by ranges."""


def facts_of(
    task: Task, dataset: Dataset, *, lengths: NDArray[np.int64] | None = None, further: pa.Table | None = None
) -> RowFacts:
    """What is known of rows.

    Args:
        dataset: With the columns of the task.
        lengths: [N] tokens of each row.
        further: [N] columns beside those of the task; None: those of the dataset that the task does not read.
    """
    corpus = Corpus(task, {"rows": dataset})
    words = corpus.words if corpus.has_words else _words_of(corpus)
    beside = further if further is not None else dataset.with_format("arrow")[:].select(list(corpus.unread))
    values: dict[str, NDArray[np.str_]] = {}
    numbers: dict[str, Floats] = {} if lengths is None else {TOKENS: lengths.astype(np.float64)}
    for name in beside.column_names:
        column = beside[name]
        if name == LINE or not len(column):
            continue
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
        if not (is_number or pa.types.is_boolean(column.type) or is_text(column.type)):
            continue
        if 2 <= (count := pc.count_distinct(column).as_py()) <= _VALUES:
            told = ["" if value is None else str(value) for value in column.to_pylist()]
            values["file" if name == FILE else name] = np.array(told)
        elif is_number and count > _VALUES:
            numbers.setdefault(name, np.array(column.to_pylist(), dtype=np.float64))  # "tokens" are the lengths
    return RowFacts.of(words, values=values, numbers=numbers)


def _words_of(corpus: Corpus) -> Iterable[list[str]]:
    splitter = WordSplitter()
    columns = [splitter(texts) for texts in corpus.texts.values()]
    return [[word for found in parts for word, _, _ in found] for parts in zip(*columns, strict=True)]
