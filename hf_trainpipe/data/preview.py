"""Check the first rows of a recipe's data before anything large is read or downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hf_trainpipe import metrics
from hf_trainpipe.data.audit import audit, check_columns, check_selection, read_by
from hf_trainpipe.data.readers_base import COMPRESSIONS, ReadOptions
from hf_trainpipe.data.rows import Rows
from hf_trainpipe.data.splits import check_column
from hf_trainpipe.data.unread import UnreadEncoder
from hf_trainpipe.errors import DataError
from hf_trainpipe.recipe.interfaces import Preview, Size
from hf_trainpipe.runtime.tasks.columns import Labels
from hf_trainpipe.runtime.text.preprocessing import data_files

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_trainpipe.data.sources import Files, FilesSource, Frame, HubData, Source
    from hf_trainpipe.data.sources_shards import Shards
    from hf_trainpipe.recipe import Recipe

WHOLE_BYTES = 8 << 20
"""Files of a smaller total size are read completely."""
HEAD_BYTES = 1 << 20
"""Bytes to read of a larger file."""
HEAD_FILES = 4
HEAD_ROWS = 2_000
UNPACKED = 4
"""Approximate compression ratio of text."""


def all_of(splits: Mapping[str, Dataset]) -> Preview:
    """A preview of complete splits."""
    return Preview(splits, {name: Size(len(rows), exact=True) for name, rows in splits.items()}, whole=True)


class Checked(NamedTuple):
    """Findings in the first rows."""

    warnings: list[str]
    """Of the audit."""
    labels: Labels = Labels()
    """As far as they are known; empty for numbers."""
    counts: Mapping[str, int] | None = None
    """Examples (of tags words) of each label in train, if all rows were checked."""


def check(recipe: Recipe, preview: Preview) -> Checked:
    """Refuse what training would refuse, as far as the first rows show.

    Raises:
        TrainpipeError: with file and line where they are known.
    """
    task, chosen = recipe.task, recipe.evaluation
    metrics.check_for(task, chosen.named)
    task.check_preprocessing(recipe.preprocessing)
    data_files((*recipe.preprocessing, *(recipe.augmentation or ())))
    if "train" in preview.rows:
        check_selection(chosen.select, preview.sizes)
    if not preview.rows:
        return Checked([])
    warnings: list[str] = []
    if preview.whole:
        warnings = audit(task, preview.rows)
    else:
        for split, rows in preview.rows.items():
            check_columns(rows, split, read_by(task))
    is_slow = any(
        step.needs or hasattr(step, "pipeline") for step in recipe.preprocessing
    )  # spaCy and NLTK take longer than all the rest
    encoder = UnreadEncoder(steps=() if is_slow else recipe.preprocessing)
    others = preview.rows if preview.whole else {}
    train = Rows(preview.rows["train"], "train", encoder=encoder, others=others, is_training=preview.whole)
    try:
        fitted = task.fit(train)
    except DataError as error:
        if preview.whole or error.data.get("line") is not None:
            raise
        return Checked(warnings)  # such as one label only, in a file that is sorted by them
    labels = fitted.label_names
    metrics.check_for(fitted, chosen.named, is_fitted=True)
    known = preview.whole or labels.said is not None
    for split, dataset in preview.rows.items():
        if known or split == "train":
            rows = train if split == "train" else Rows(dataset, split, encoder=encoder)
            inputs = rows.inputs(fitted)
            fitted.check(rows)
            fitted.supervise(rows, fitted.encode(inputs, encoder))
            if preview.whole:
                warnings += rows.warnings()
                rows.check_lost()
                warnings += rows.notes
    counts = train.report.get("counts") if preview.whole else None
    return Checked(warnings, labels if preview.whole or labels.is_ordered else Labels(), counts)


def _first_rows(
    data: Source, rows: dict[str, Dataset], sizes: dict[str, Size], fractions: Mapping[str, float]
) -> Preview:
    shaped = data.shaped(rows)
    if fractions:
        check_column(shaped["train"], data.stratify or data.group)
    return Preview(shaped, _cut(sizes, fractions))


def _cut(sizes: dict[str, Size], fractions: Mapping[str, float]) -> dict[str, Size]:
    """Sizes with the splits that are cut from train."""
    total = sizes["train"]
    for name, fraction in fractions.items():
        sizes[name] = Size(round(total.rows * fraction), total.exact)
    taken = sum(sizes[name].rows for name in fractions)
    return {**sizes, "train": Size(max(1, total.rows - taken), total.exact)}


def not_here(data: FilesSource) -> Preview | None:
    """Nothing of files that lie elsewhere; None: all are on this machine."""
    if not (listed := ", ".join(data.elsewhere())):
        return None
    return Preview(
        unchecked=(f"{listed}: not on this machine, and show fetches nothing: columns and labels are not checked.",)
    )


def preview_files(data: Files) -> Preview:
    """Small files whole; of larger ones the first megabyte, from which the rows of the rest are judged."""
    from datasets import Dataset

    from hf_trainpipe.data.readers import expand, read_files

    if (elsewhere := not_here(data)) is not None:
        return elsewhere
    said, fractions = data.named_splits()
    files = {split: expand(data.patterns(value), data.folder()) for split, value in said.items()}
    sizes = {path: _bytes(path) for found in files.values() for path, _ in found}
    if sum(sizes.values()) <= WHOLE_BYTES:
        return all_of(data.splits())

    def reading(split: str, path: Path, shown: str) -> ReadOptions:
        packed = path.suffix.lower() in COMPRESSIONS or path.is_dir()
        large = packed or _covered(path, sizes) < sizes.get(path, 0)
        return replace(data.reading(split, path, shown), most=HEAD_BYTES if large else None)

    rows: dict[str, Dataset] = {}
    counts: dict[str, Size] = {}
    for split, found in files.items():
        table = read_files(found[:HEAD_FILES], options=partial(reading, split))
        counts[split] = _count([path for path, _ in found], sizes, len(table))
        rows[split] = Dataset(table.slice(0, HEAD_ROWS))
    return _first_rows(data, rows, counts, fractions)


def _bytes(path: Path) -> int:
    """Bytes of text that a file holds, about; of a folder of texts those of a page each."""
    try:
        if path.is_dir():
            return sum(1 for _ in path.glob("*/*.txt*")) * 4096
        return path.stat().st_size * (UNPACKED if path.suffix.lower() in COMPRESSIONS else 1)
    except OSError:
        return 0


def _covered(path: Path, sizes: Mapping[Path, int]) -> int:
    """How many bytes of a file are read: its beginning, or all of JSON that is one object, whose columns end with it."""
    size = sizes.get(path, 0)
    if size <= HEAD_BYTES or path.is_dir():
        return size
    with path.open("rb") as stream:
        is_object = path.suffix == ".json" and stream.read(64).lstrip().startswith(b"{")
    return size if is_object else HEAD_BYTES


def _count(files: list[Path], sizes: Mapping[Path, int], rows: int) -> Size:
    """Rows of all files, judged by ``rows`` of the first ones; parquet says them."""
    if all(path.suffix == ".parquet" for path in files):
        import pyarrow.parquet as pq

        return Size(sum(pq.ParquetFile(path).metadata.num_rows for path in files), exact=True)
    read = sum(_covered(path, sizes) for path in files[:HEAD_FILES])
    if any(path.is_dir() for path in files):
        return Size(sum(sizes[path] for path in files) // 4096, exact=True)
    return Size(max(1, round(rows * sum(sizes[path] for path in files) / max(1, read))), exact=False)


def preview_frame(data: Frame) -> Preview:
    """Small frames whole, the first rows of larger ones."""
    from datasets import Dataset

    from hf_trainpipe.data.readers_tables import frame_to_table

    frames, fractions = data.named_splits()
    if sum(map(len, frames.values())) <= 10 * HEAD_ROWS:
        return all_of(data.splits())
    rows = {split: Dataset(frame_to_table(frame.head(HEAD_ROWS), split)) for split, frame in frames.items()}
    sizes = {split: Size(len(frame), exact=True) for split, frame in frames.items()}
    return _first_rows(data, rows, sizes, fractions)


def preview_hub(data: HubData) -> Preview:
    """The first rows of a data set that this machine has; nothing is fetched."""
    from hf_trainpipe.data.sources_hub import cached_commit, load_hub

    if data.streaming:
        return Preview(
            sizes={"train": Size(data.take or data.window, exact=True)},
            streamed=data.take is None,
            unchecked=(f"{data.describe()} is streamed: its columns and labels are seen when it is read.",),
        )
    commit = cached_commit(data.repo, config=data.config, revision=data.revision)
    if commit is None:
        return Preview(
            unchecked=(
                f"{data.describe()} is not in this machine's cache, and show fetches nothing: its columns, labels and "
                "number of rows are not checked.",
            )
        )
    named, fractions = data.named_splits()
    loaded = load_hub(data, named, commit=commit)
    counts = {split: Size(len(rows), exact=not data.drop_missing) for split, rows in loaded.items()}
    first = {split: rows.select(range(min(len(rows), HEAD_ROWS))) for split, rows in loaded.items()}
    return _first_rows(data, first, counts, fractions)


def preview_shards(data: Shards) -> Preview:
    """Few shards whole, the first rows of more."""
    import pyarrow as pa
    from datasets import Dataset

    from hf_trainpipe.data.shards import batches, shards_of

    named, fractions = data.named_splits()
    _, shards, folder = data.read()
    chosen = {split: shards_of(shards, name, field=f"data.{split}") for split, name in named.items()}
    sizes = {split: Size(sum(shard.rows for shard in parts), exact=True) for split, parts in chosen.items()}
    if sum(size.rows for size in sizes.values()) <= 10 * HEAD_ROWS:
        return all_of(data.splits())
    rows = {
        split: Dataset(pa.Table.from_batches([next(batches(folder, parts))]).slice(0, HEAD_ROWS))
        for split, parts in chosen.items()
    }
    return _first_rows(data, rows, sizes, fractions)
