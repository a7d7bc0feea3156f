"""Split validation and test rows off the training data: by fraction, stratified or grouped.

The result depends only on the number of rows, the seed and the values of the column. Rows get keys from
SplitMix64 (Steele, Lea, Flood 2014), so it does not change with a library's random generator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.errors import DataError, closest
from hf_trainpipe.recipe.settings import refused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datasets import Dataset


def row_keys(num_rows: int, *, seed: int) -> np.ndarray:
    """uint64[num_rows]: a pseudo-random key for each row."""
    with np.errstate(over="ignore"):
        x = np.arange(1, num_rows + 1, dtype=np.uint64) + np.uint64(seed % 2**32) * np.uint64(0x100000001B3)
        x = x * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def check_fraction(where: str, fraction: float) -> None:
    """Refuse a fraction outside (0, 1)."""
    if not 0.0 < fraction < 1.0:
        fix = f"Set {where} to a fraction of the training rows such as 0.1, or name a split or file."
        raise refused(where, "a fraction between 0 and 1", fraction, fix)


def cut(
    num_rows: int,
    fraction: float,
    *,
    seed: int,
    stratify: Sequence[Any] | None = None,
    group: Sequence[Any] | None = None,
    from_end: bool = False,
    where: str = "",
) -> tuple[np.ndarray, np.ndarray]:
    """Choose a fraction of the rows for another split.

    Args:
        num_rows: Rows to choose from.
        fraction: Fraction of rows to choose, in (0, 1).
        seed: Another seed chooses other rows.
        stratify: A value for each row; the fraction is chosen within each value, to the nearest row.
        group: A value for each row; rows of a value stay together.
        from_end: Choose the last rows.
        where: The field that has the fraction, for messages.

    Returns:
        Row numbers that stay and row numbers that are chosen, both int64 and ascending.

    Raises:
        DataError: one of the parts would be empty.
    """
    assert stratify is None or group is None
    keys = row_keys(num_rows, seed=seed)
    if group is not None:
        chosen = _choose_groups(as_codes(group), round(num_rows * fraction), seed=seed)
    elif stratify is not None:
        chosen = _choose_stratified(keys, as_codes(stratify), fraction)
    elif from_end:
        chosen = np.arange(num_rows) >= num_rows - round(num_rows * fraction)
    else:
        chosen = np.zeros(num_rows, dtype=bool)
        chosen[np.argsort(keys, kind="stable")[: round(num_rows * fraction)]] = True
    if not chosen.any() or chosen.all():
        kept, found = ("nothing", "all") if chosen.all() else ("all", "no")
        by = " in groups" if group is not None else ""
        raise DataError(
            f"{where}{': ' if where else ''}a fraction of {fraction:g} of {num_rows:,} rows{by} takes {found} rows and leaves {kept}.",
            fix="Choose another fraction, add rows, or name a separate split or file.",
        )
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def as_codes(values: Sequence[Any]) -> np.ndarray:
    """int64[N]: equal values get equal codes, numbered by first appearance. NaN is equal to None here."""
    seen: dict[Any, int] = {}
    known = (None if value != value else value for value in values)
    hashable = (tuple(value) if isinstance(value, list) else value for value in known)
    return np.fromiter((seen.setdefault(value, len(seen)) for value in hashable), dtype=np.int64, count=len(values))


def _choose_stratified(keys: np.ndarray, codes: np.ndarray, fraction: float) -> np.ndarray:
    """The rows with the smallest keys in each stratum; remaining rows go to the largest fractional parts."""
    chosen = np.zeros(len(codes), dtype=bool)
    exact = np.bincount(codes) * fraction
    quota = np.floor(exact).astype(np.int64)
    missing = round(len(codes) * fraction) - int(quota.sum())
    quota[np.argsort(-(exact - quota), kind="stable")[:missing]] += 1
    order = np.lexsort((keys, codes))
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes))])
    for code, rows in enumerate(quota):
        chosen[order[starts[code] : starts[code] + rows]] = True
    return chosen


def _choose_groups(codes: np.ndarray, rows: int, *, seed: int) -> np.ndarray:
    """Whole groups in pseudo-random order, each taken if it brings the total nearer to ``rows``."""
    sizes = np.bincount(codes)
    taken, total = np.zeros(len(sizes), dtype=bool), 0
    for code in np.argsort(row_keys(len(sizes), seed=seed), kind="stable"):
        if abs(total + sizes[code] - rows) < abs(total - rows):
            taken[code] = True
            total += int(sizes[code])
    return np.asarray(taken[codes])


def check_column(train: Dataset, column: str | None) -> None:
    """Refuse to stratify or group by a column that the training data does not have.

    Raises:
        DataError: as said.
    """
    if column is not None and column not in train.column_names:
        raise DataError(
            f"Expected the column {column!r} to split by, found {', '.join(train.column_names)}.",
            fix=f"Name a column of the training data.{closest(column, train.column_names)}",
        )


def cut_splits(splits: Mapping[str, Dataset], fractions: Mapping[str, float], source: Any) -> dict[str, Dataset]:
    """Split the parts of ``fractions`` off ``train``, each a fraction of its original rows.

    Raises:
        DataError: the column of the Source's ``stratify`` or ``group`` is missing.
    """
    result = dict(splits)
    train = result["train"]
    column = source.stratify or source.group
    if fractions:
        check_column(train, column)
    total = len(train)
    for position, (name, fraction) in enumerate(fractions.items()):
        values = None if column is None else list(train.with_format(None)[column])
        rest, chosen = cut(
            len(train),
            fraction * total / len(train),
            seed=source.seed + position,
            stratify=values if source.stratify else None,
            group=values if source.group else None,
            from_end=source.cut == "end",
            where=f"data.{name}",
        )
        result[name] = train.select(chosen)
        train = train.select(rest)
    result["train"] = train
    return result
