"""Further labelled rows beside a source's splits, as a split of their own: what ``train RECIPE --added FILE`` makes of a recipe's
data. :class:`~hf_trainpipe.data.chosen_rows.ChosenRows` then says which of them are trained on."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from hf_trainpipe.data.readers_base import ReadOptions, opened
from hf_trainpipe.errors import DataError
from hf_trainpipe.recipe import Data
from hf_trainpipe.utils.atomic import sha256_file
from hf_trainpipe.utils.brief import one_line

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

ADDED = "added"
"""The split of further rows."""


@dataclass(frozen=True, kw_only=True)
class AddedRows(Data):
    """Another source with further rows. :meth:`of` makes one; ``train --added FILE`` calls it.

    The rows are a split called ``added``, which is trained on where rows are chosen from it. A run belongs to the content of the
    file: it may be moved, not changed.
    """

    source: Data
    """What the rows are beside."""
    added_file: str
    """A jsonl file with the columns of the source's training split."""
    sha256: str
    """Of the file."""

    @classmethod
    def of(cls, source: Data, added_file: str | Path) -> Self:
        """The rows of a file beside a source.

        Raises:
            DataError: there is no such file.
        """
        if not Path(added_file).is_file():
            raise DataError(
                f"{added_file}: there is no such file of further rows.", fix="Name the added.jsonl of a run of retrain."
            )
        return cls(source=source, added_file=str(added_file), sha256=sha256_file(Path(added_file)))

    def splits(self) -> DatasetDict:
        """The source's splits, and ``added`` in the types of its training split.

        Raises:
            DataError: the file changed, or lacks a column.
        """
        from datasets import DatasetDict

        from hf_trainpipe.utils.resources import check_sha256, resolve

        path = resolve(self.added_file)
        check_sha256(path, self.sha256)
        there = self.source.splits()
        return DatasetDict({**there, ADDED: _like(path, there["train"])})

    def paths(self) -> tuple[Path, ...]:
        from hf_trainpipe.utils.resources import resolve

        return (*self.source.paths(), resolve(self.added_file))

    def origin(self) -> Data:
        return self.source.origin()

    def describe(self) -> str:
        return f"{self.source.describe()}; and {Path(self.added_file).name} (sha256 {self.sha256[:12]})"


def _like(path: Path, train: Dataset) -> Dataset:
    """The rows of a file with the columns and types of the training rows; columns that it lacks are empty."""
    from datasets import Dataset

    from hf_trainpipe.data.readers import read_lines

    reading = ReadOptions(format="jsonl", max_row_bytes=sys.maxsize, piece=1 << 20)
    with opened(path, shown=str(path)) as stream:
        rows = [row for _, row in read_lines(stream, shown=str(path), options=reading)]
    cells: dict[str, list[Any]] = {name: [row.get(name) for row in rows] for name in train.column_names}
    try:
        return Dataset.from_dict(cells, features=train.features)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{path}: its rows do not have the types of the training rows: {one_line(error)}.",
            fix="Give the new labels the form of the training data.",
            file=str(path),
        ) from error
