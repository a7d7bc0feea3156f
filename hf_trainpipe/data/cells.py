"""A column of a split, whose errors name the place of a row, and checks of what its cells hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.data.columns import column_of, is_list, is_text
from hf_trainpipe.data.place import Place, error_at, place
from hf_trainpipe.errors import DataError
from hf_trainpipe.runtime.tasks.columns import CHOICES, Unfit

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa
    from datasets import Dataset


@dataclass(frozen=True)
class Cells:
    """The cells of a column, one after the other."""

    dataset: Dataset
    split: str
    name: str
    rows: np.ndarray | None = None
    """int64: the row of each cell, where some are left out; None: every row has its cell."""

    @cached_property
    def array(self) -> pa.Array:
        """What they hold."""
        cells = column_of(self.dataset, self.name)
        return cells if self.rows is None else cells.take(self.rows)

    @property
    def is_missing(self) -> np.ndarray:
        """bool: which are null or NaN."""
        missing: np.ndarray = self.array.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
        return missing

    @cached_property
    def lengths(self) -> np.ndarray:
        """int64: how many items each cell of a column of lists has."""
        import pyarrow.compute as pc

        lengths: np.ndarray = pc.list_value_length(self.array).to_numpy(zero_copy_only=False).astype(np.int64)
        return lengths

    def held(self) -> Cells:
        """Those that are not missing."""
        missing = self.is_missing
        return replace(self, rows=np.flatnonzero(~missing)) if missing.any() else self

    def place(self, at: int) -> Place:
        """Where a cell comes from."""
        return place(self.dataset, self.split, at if self.rows is None else int(self.rows[at]))

    def error(self, at: int, message: str, *, fix: str) -> DataError:
        """The error of a cell, to be raised."""
        return error_at(self.place(at), f"column {self.name!r}: {message}", fix=fix)

    def refuse_first(self, mask: Any, message: Callable[[int], str], *, fix: str) -> None:
        """Refuse the first cell for which a numpy or Arrow mask is true.

        Raises:
            DataError: with its place.
        """
        wrong = np.flatnonzero(mask if isinstance(mask, np.ndarray) else mask.to_numpy(zero_copy_only=False))
        if len(wrong):
            raise self.error(int(wrong[0]), message(int(wrong[0])), fix=fix)

    def refuse_item(self, mask: Any, message: str) -> None:
        """The same with a mask over the items of cells that are lists."""
        wrong = np.flatnonzero(mask.to_numpy(zero_copy_only=False))
        if len(wrong):
            at = int(np.searchsorted(np.cumsum(self.lengths), wrong[0], side="right"))
            raise self.error(at, message, fix="Correct the row.")

    def refuse_missing(self, what: str) -> None:
        """Refuse the first cell that is null or NaN; ``what`` is expected there."""
        self.refuse_first(
            self.is_missing, lambda at: f"expected {what}, found nothing (null or NaN).", fix=self.fill_or_drop
        )

    @property
    def fill_or_drop(self) -> str:
        """What to do about a cell that holds nothing."""
        return f"Fill it in, remove the row, or drop such rows: data.drop_missing=({self.name!r},)."


def check_text(cells: Cells) -> None:
    """Refuse cells that are missing, no text, or empty."""
    import pyarrow.compute as pc

    cells.refuse_missing("text")
    held = cells.array
    if not is_text(held.type):
        raise cells.error(
            0,
            f"expected text, found {held.type} ({held[0].as_py()!r:.60}).",
            fix="Name a column of text, or write the values as text.",
        )
    is_empty = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(held)), 0)
    cells.refuse_first(is_empty, lambda at: "expected text, found an empty one.", fix=cells.fill_or_drop)


def check_choices(cells: Cells) -> None:
    """Refuse cells that are missing, or are not two texts or more."""
    cells.refuse_missing("choices")
    for at, cell in enumerate(cells.array.to_pylist()):
        try:
            CHOICES.read(cell)
        except Unfit as unfit:
            raise cells.error(
                at,
                f"expected a list of choices, found {unfit.found or repr(cell)[:60]}.",
                fix=unfit.fix or 'Write a list of texts, or {"text": [...]}; data.lists makes one of several columns.',
            ) from None


def check_words(cells: Cells) -> None:
    """Refuse cells that are missing, no list of words, or empty."""
    cells.refuse_missing("words")
    held = cells.array
    if not is_list(held.type) or not is_text(held.type.value_type):
        raise cells.error(
            0,
            f"expected word lists, found {held.type} ({held[0].as_py()!r:.60}).",
            fix="Name a column of lists of text; for plain text use a task over text.",
        )
    cells.refuse_first(cells.lengths == 0, lambda at: "expected words, found none.", fix=cells.fill_or_drop)
    cells.refuse_item(held.flatten().is_null(), "expected words, found a null.")
