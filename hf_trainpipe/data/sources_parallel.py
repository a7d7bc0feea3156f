"""Text files side by side, as corpora of translations come: line n of one file belongs to line n of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.data.credentials import shown_address
from hf_trainpipe.data.readers_base import ReadOptions
from hf_trainpipe.data.sources import SPLITS, FilesSource, as_patterns
from hf_trainpipe.errors import DataError, RecipeError

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

    from hf_trainpipe.recipe.interfaces import Preview


@dataclass(frozen=True, kw_only=True)
class ParallelFiles(FilesSource):
    """Plain text files side by side, one a language, a line a sentence; ``.gz`` and ``.zst`` too.

    Lines that are blank in all of them are left out; one that is blank in some is an error.
    """

    names: tuple[str, ...]
    """The column of each file, in their order: ``("en", "de")``."""
    train: tuple[str, ...]
    """A path for each of ``names``."""
    validation: tuple[str, ...] | float | None = None
    """The same, or a fraction of the training rows; None: no such split."""
    test: tuple[str, ...] | float | None = None
    """As ``validation``."""
    root: str | None = None
    """The folder of relative paths, also ``package:NAME/folder`` or an address (``s3://bucket/folder``); None: the working
    directory, then the recipe file's folder."""
    encoding: str = "utf-8"
    """Of files without a byte order mark, by Python's name: ``cp1252``."""
    max_row_bytes: int = 1_000_000
    """Longer lines are refused."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.names) < 2 or len(set(self.names)) < len(self.names):
            raise RecipeError(
                f"data.names: expected two different names or more, found {self.names!r}.",
                fix='Write names=("en", "de"), one for each file of a split.',
            )
        for split in SPLITS:
            said = getattr(self, split)
            if said is not None and not isinstance(said, float | int) and len(as_patterns(said)) != len(self.names):
                raise RecipeError(
                    f"data.{split}: expected a file for each of {', '.join(self.names)}, found {said!r}.",
                    fix=f"Name {len(self.names)} files, in the order of data.names.",
                )

    def describe(self) -> str:
        return "parallel files: " + self._described(lambda value: "|".join(map(shown_address, self.patterns(value))))

    def preview(self) -> Preview:
        from hf_trainpipe.data.preview import all_of, not_here

        return not_here(self) or all_of(self.splits())

    def _load(self, wanted: Mapping[str, Any]) -> dict[str, Dataset]:
        from datasets import Dataset

        return {split: Dataset(self._side_by_side(self.patterns(paths))) for split, paths in wanted.items()}

    def _side_by_side(self, paths: tuple[str, ...]) -> pa.Table:
        """A table with a column for each file; file and line of a row are those in the first one.

        Raises:
            DataError: with file and line, where one has a line that another lacks.
        """
        from hf_trainpipe.data.place import LINE
        from hf_trainpipe.data.readers import read_split

        def options(path: Path, shown: str) -> ReadOptions:
            return ReadOptions(format="txt", encoding=self.encoding, max_row_bytes=self.max_row_bytes)

        root = self.folder()
        tables = [read_split((path,), root=root, options=options) for path in paths]
        paths = tuple(map(shown_address, paths))
        lines = [table[LINE].to_pylist() for table in tables]
        missing = min(((min(set(one) ^ set(lines[0]), default=None), path) for one, path in zip(lines, paths, strict=True)
                       if one != lines[0]), default=None)  # fmt: skip
        if missing is not None:
            number, path = missing
            raise DataError(
                f"{path}, line {number}: {path} and {paths[0]} are not parallel from here on: one of them has no text there "
                f"({', '.join(f'{len(one):,}' for one in lines)} lines with text).",
                fix="Correct the files: line n of each belongs together. If they only have blank lines, remove those pairs.",
                file=path,
                line=number,
            )
        first = tables[0].rename_columns([self.names[0] if name == "text" else name for name in tables[0].column_names])
        sides = zip(self.names[1:], tables[1:], strict=True)
        whole: pa.Table = reduce(lambda table, side: table.append_column(side[0], side[1]["text"]), sides, first)
        return whole
