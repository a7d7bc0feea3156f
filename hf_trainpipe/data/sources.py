"""Data sources: local files, the Hub, pandas frames. Each has train, validation and test."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from hf_trainpipe.data.credentials import is_remote, refuse_secrets, shown_address
from hf_trainpipe.data.readers_base import Format, ReadOptions
from hf_trainpipe.data.sources_shape import shape
from hf_trainpipe.data.splits import check_fraction, cut_splits
from hf_trainpipe.errors import RecipeError, closest
from hf_trainpipe.recipe import Data
from hf_trainpipe.recipe.settings import check_choice, check_positive
from hf_trainpipe.runtime.kinds import UNSAID

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset, DatasetDict

    from hf_trainpipe.data.streaming import TrainStream
    from hf_trainpipe.recipe.interfaces import Preview

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class Source(Data):
    """Options of all sources. They are applied in the order of the fields, then fractions are split off."""

    rename: Mapping[str, str] = field(default_factory=dict)
    """From the data's column names to the recipe's."""
    join: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """A new text column that replaces others, joined by a space, in the splits that have them."""
    lists: Mapping[str, tuple[str, ...]] | None = None
    """A new column of lists that replaces others, such as one a choice, in the splits that have them; missing and empty cells are
    left out."""
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """For a column, the new value of each value; numbers are matched as text."""
    drop_missing: tuple[str, ...] = ()
    """Drop rows in which one of these columns is null, NaN, blank or an empty list."""
    columns: tuple[str, ...] = ()
    """The columns to keep; empty: all."""
    stratify: str | None = None
    """Stratify by this column when a fraction is split off."""
    group: str | None = None
    """Keep rows with the same value of this column together when a fraction is split off."""
    seed: int = 17
    """Seed of the split by fraction."""
    cut: Literal["random", "end"] = "random"
    """Which rows a fraction takes: drawn by the seed, or ``end``, the last ones, of texts or times that follow each other."""

    def __post_init__(self) -> None:
        if self.stratify is not None and self.group is not None:
            raise RecipeError(
                f"data.stratify, data.group: expected one, found {self.stratify!r} and {self.group!r}.",
                fix="A split by fraction is stratified or grouped, not both.",
            )
        check_choice("data.cut", self.cut, ("random", "end"))
        if self.cut == "end" and (self.stratify or self.group):
            raise RecipeError(
                f"data.cut: expected 'random' where rows are stratified or grouped, found {self.cut!r}.",
                fix="Leave data.stratify and data.group out, or data.cut.",
            )
        if self.seed < 0:
            raise RecipeError(f"data.seed: expected 0 or more, found {self.seed}.", fix="Choose another seed.")
        for name in ("validation", "test"):
            fraction = getattr(self, name)
            if isinstance(fraction, float | int):
                check_fraction(f"data.{name}", float(fraction))

    @abstractmethod
    def _load(self, wanted: Mapping[str, Any]) -> dict[str, Dataset]:
        """Load the splits of ``wanted``: name to the recipe's value."""

    def named_splits(self) -> tuple[dict[str, Any], dict[str, float]]:
        """The splits that the recipe names, with its values; and the splits taken from train, with their fractions."""
        said = {name: getattr(self, name) for name in SPLITS}
        cut = {name: float(value) for name, value in said.items() if isinstance(value, float | int)}
        return {name: value for name, value in said.items() if value is not None and name not in cut}, cut

    def _described(self, show: Callable[[Any], str]) -> str:
        said = ((name, getattr(self, name)) for name in SPLITS)
        return ", ".join(
            f"{name}={value if isinstance(value, float) else show(value)}" for name, value in said if value is not None
        )

    def splits(self) -> DatasetDict:
        """Load the splits, apply the options, and split fractions off.

        Raises:
            DataError: with file and line where they are known.
        """
        from datasets import DatasetDict

        wanted, fractions = self.named_splits()
        loaded = self.shaped(self._load(wanted))
        # Test first, so that it keeps its rows when the fraction of validation changes.
        order: dict[str, float] = {name: fractions[name] for name in reversed(SPLITS) if name in fractions}
        cut = cut_splits(loaded, order, self)
        return DatasetDict({name: cut[name] for name in SPLITS if name in cut})

    def shaped(self, loaded: dict[str, Dataset]) -> dict[str, Dataset]:
        """Splits after ``rename``, ``join``, ``lists``, ``values``, ``drop_missing`` and ``columns``."""
        return shape(loaded, self)


def as_patterns(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


class FilesSource(Source):
    """A source whose splits are files: paths, patterns or addresses, relative ones below ``root``."""

    root: str | None

    def __post_init__(self) -> None:
        for name in (*SPLITS, "root"):  # a pathlib.Path becomes text, also in the recipe's JSON
            if isinstance(found := getattr(self, name), os.PathLike):
                object.__setattr__(self, name, os.fspath(found))
            elif isinstance(found, list | tuple):
                object.__setattr__(self, name, tuple(map(os.fspath, found)))
        super().__post_init__()
        said = {"root": self.root, **self.named_splits()[0]}
        for name, parts in said.items():
            for part in () if parts is None else self.patterns(parts):
                if is_remote(part):
                    refuse_secrets(f"data.{name}", part)

    def folder(self) -> Path | None:
        """The folder of relative paths; None: the working directory or the recipe file's folder."""
        from hf_trainpipe.utils.resources import resolve

        return None if self.root is None or is_remote(self.root) else resolve(self.root)

    def patterns(self, value: str | tuple[str, ...]) -> tuple[str, ...]:
        """The paths and globs of a split, below the address of ``root`` where that is one."""
        if self.root is None or not is_remote(self.root):
            return as_patterns(value)
        base = self.root.rstrip("/")
        return tuple(part if is_remote(part) else f"{base}/{part}" for part in as_patterns(value))

    def elsewhere(self) -> list[str]:
        """The addresses among the files of all splits, for messages."""
        named = self.named_splits()[0].values()
        return [shown_address(part) for value in named for part in self.patterns(value) if is_remote(part)]

    def paths(self) -> tuple[Path, ...]:
        from hf_trainpipe.data.readers import expand

        named, root = self.named_splits()[0], self.folder()
        return tuple(path for value in named.values() for path, _ in expand(self.patterns(value), root))


@dataclass(frozen=True, kw_only=True)
class Files(FilesSource):
    """Files, plain or ``.gz`` or ``.zst``. Datasets keep the file and line of each row.

    A split is a path, a glob, several of them, or a fraction of the training rows. ``s3://``, ``gs://``, ``https://`` and other
    addresses of fsspec are fetched into the machine's cache; credentials come from the environment.
    Values of csv, tsv and the like stay text: "NA" is a word, and the task parses numbers.
    """

    train: str | tuple[str, ...]
    """A path, a glob or several of them."""
    validation: str | tuple[str, ...] | float | None = None
    """The same, or a fraction of the training rows; None: no such split."""
    test: str | tuple[str, ...] | float | None = None
    """As ``validation``."""
    root: str | None = None
    """The folder of relative paths, also ``package:NAME/folder`` or an address (``s3://bucket/folder``); None: the working
    directory, then the recipe file's folder."""
    format: Format | None = None
    """None: by the suffix. ``labelled-lines``: "label text" on each line; ``folder``: ``label/*.txt``;
    ``paragraphs``: texts with blank lines between them."""
    delimiter: str | None = None
    """Delimiter of fields in csv (None: ','), tsv (None: tab) and conll (None: tab or spaces)."""
    quoting: Literal["minimal", "none"] = "minimal"
    """``none``: quotes are text, and each line is a row, as in GLUE's tsv files (``csv.QUOTE_NONE``)."""
    header: bool | tuple[str, ...] = True
    """Whether the first line has the column names; or the names, for files without such a line."""
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Column names by split (``train``, ``validation``, ``test``), for files without a header line."""
    extra: Literal["error", "ignore"] = "error"
    """Whether more fields than the header has are an error; fewer always are."""
    words_column: int = 0
    """conll: the column of words, from 0; -1 is the last."""
    tags_column: int = -1
    """conll: the column of tags."""
    encoding: str = "utf-8"
    """Of text files without a byte order mark, by Python's name: ``cp1252``, ``utf-16-le``."""
    max_row_bytes: int = 1_000_000
    """Longer rows are refused: they nearly always miss a quote or line break."""
    sheet: str | None = field(default=None, metadata=UNSAID)
    """xlsx: the sheet by its name; None: the first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.headers:
            if name not in SPLITS:
                raise RecipeError(
                    f"data.headers: expected names of splits ({', '.join(SPLITS)}), found {name!r}.",
                    fix=f"Write headers={{'test': ('name', ...)}}.{closest(name, SPLITS)}",
                )
        if self.format is not None:
            check_choice("data.format", self.format, get_args(Format))
        check_choice("data.quoting", self.quoting, ("minimal", "none"))
        check_choice("data.extra", self.extra, ("error", "ignore"))
        check_positive("data.max_row_bytes", self.max_row_bytes)

    def describe(self) -> str:
        return "files: " + self._described(lambda value: "+".join(map(shown_address, self.patterns(value))))

    def reading(self, split: str, path: Path, shown: str) -> ReadOptions:
        """Options for reading a file of a split."""
        from hf_trainpipe.data.readers import format_of

        same = ("delimiter", "quoting", "extra", "words_column", "tags_column", "encoding", "max_row_bytes", "sheet")
        return ReadOptions(
            format=self.format or format_of(path, shown=shown),
            header=self.headers.get(split, self.header),
            **{name: getattr(self, name) for name in same},
        )

    def preview(self) -> Preview:
        from hf_trainpipe.data.preview import preview_files

        return preview_files(self)

    def _load(self, wanted: Mapping[str, Any]) -> dict[str, Dataset]:
        from datasets import Dataset

        from hf_trainpipe.data.readers import read_split

        root = self.folder()
        return {
            split: Dataset(read_split(self.patterns(value), root=root, options=partial(self.reading, split)))
            for split, value in wanted.items()
        }


def _as_pandas(table: Any) -> Any:
    """A polars, Dask or Arrow table as a pandas frame; with Arrow types, so that integers with nulls stay integers."""
    import pandas
    import pyarrow

    if hasattr(table, "collect") and not hasattr(table, "to_arrow"):  # polars, lazy
        table = table.collect()
    if hasattr(table, "npartitions"):  # Dask: its partitions in their order
        return table.compute()
    if hasattr(table, "to_arrow"):
        table = table.to_arrow()
    return table.to_pandas(types_mapper=pandas.ArrowDtype) if isinstance(table, pyarrow.Table) else table


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame(Source):
    """pandas data frames, or tables of polars, Dask or Arrow; ``validation`` and ``test`` may be fractions of ``train``."""

    train: pd.DataFrame
    """The training rows."""
    validation: pd.DataFrame | float | None = None
    """Another frame, or a fraction of the training rows; None: no such split."""
    test: pd.DataFrame | float | None = None
    """As ``validation``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in SPLITS:
            value = getattr(self, name)
            if (
                hasattr(value, "npartitions")
                or hasattr(value, "collect_schema")
                or (hasattr(value, "columns") and not hasattr(value, "iloc"))
            ):
                value = _as_pandas(value)
                object.__setattr__(self, name, value)
            if not (hasattr(value, "iloc") or (name != "train" and isinstance(value, float | int | None))):
                raise RecipeError(
                    f"data.{name}: expected a pandas DataFrame, found {type(value).__name__}.",
                    fix="Pass pandas.DataFrame(...), or use Files or HubData.",
                )

    def describe(self) -> str:
        return "frames: " + self._described(lambda value: f"{len(value)} rows")

    def preview(self) -> Preview:
        from hf_trainpipe.data.preview import preview_frame

        return preview_frame(self)

    def _load(self, wanted: Mapping[str, Any]) -> dict[str, Dataset]:
        from datasets import Dataset

        from hf_trainpipe.data.readers_tables import frame_to_table

        return {split: Dataset(frame_to_table(frame, split)) for split, frame in wanted.items()}


@dataclass(frozen=True)
class HubData(Source):
    """A data set from the Hub, or from the cache without a network.

    The revision is pinned to a commit at first use, and later runs use that commit. For newer data,
    set another revision.
    """

    repo: str
    """The data set, such as ``stanfordnlp/sst2``."""
    _: KW_ONLY
    config: str | None = None
    """The configuration (subset), such as ``stsb`` of ``nyu-mll/glue``."""
    revision: str | None = None
    """Branch, tag or commit; None: the default branch."""
    train: str = "train"
    """The Hub's name of the split; ``train[:1000]`` and ``train[:10%]`` take a part of it."""
    validation: str | float | None = "validation"
    """The Hub's name of the split, or a fraction of the training rows; None: no such split."""
    test: str | float | None = None
    """As ``validation``."""
    streaming: bool = False
    """Stream rows from the Hub instead of downloading the data set: the training split window by window."""
    window: int = 16_384
    """With ``streaming``, rows of the training split that are loaded and shuffled at a time."""
    take: int | None = None
    """Maximum rows of each split; with ``streaming`` only these are read, as one window."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.repo or self.repo.startswith((".", "/", "~")) or self.repo.count("/") > 1:
            raise RecipeError(
                f"data.repo: expected an id of the Hub such as 'stanfordnlp/sst2', found {self.repo!r}.",
                fix="For files of your own use Files(train=...).",
            )
        check_positive("data.take", self.take)
        check_positive("data.window", self.window)
        if self.streaming and self.take is None and self.drop_missing:
            raise RecipeError(
                "data.drop_missing: the rows of a stream are counted before any are dropped.",
                fix="Set data.take to read so many rows, or publish the data set without those rows.",
            )
        cut = [name for name in ("validation", "test") if isinstance(getattr(self, name), float | int)]
        if self.streaming and self.take is None and (cut or "[" in self.train):
            raise RecipeError(
                f"data.{cut[0] if cut else 'train'}: a stream cannot be split before all of it was read.",
                fix="Name splits of the Hub, or set data.take to read so many rows and split those.",
            )

    def describe(self) -> str:
        config = f"/{self.config}" if self.config else ""
        return f"Hub: {self.repo}{config}" + (f"@{self.revision}" if self.revision else "")

    def commit(self) -> str:
        """The commit that this machine uses: the pinned one, else the current one of the revision.

        Raises:
            DataError: not pinned, and neither network nor cache.
        """
        from hf_trainpipe.data.sources_hub import pinned_commit

        return pinned_commit(self.repo, config=self.config, revision=self.revision)

    def preview(self) -> Preview:
        from hf_trainpipe.data.preview import preview_hub

        return preview_hub(self)

    def _load(self, wanted: Mapping[str, Any]) -> dict[str, Dataset]:
        from hf_trainpipe.data.sources_hub import load_hub

        return load_hub(self, wanted, commit=self.commit())

    def stream(self) -> TrainStream | None:
        """The rows of the training split after those of ``splits()``, if it is streamed."""
        if not self.streaming or self.take is not None:
            return None
        from hf_trainpipe.data.sources_hub import open_stream
        from hf_trainpipe.data.streaming import TrainStream

        commit = self.commit()
        return TrainStream(
            lambda: open_stream(self.repo, self.train, config=self.config, commit=commit),
            shape=lambda rows: self.shaped({"train": rows})["train"],
        )
