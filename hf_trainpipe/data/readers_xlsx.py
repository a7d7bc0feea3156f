"""Reader of Excel workbooks: a sheet whose first row names its columns. Needs openpyxl."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from hf_trainpipe.data.readers_base import ReadOptions, Rows, empty_file, opened, wrong_file, wrong_line
from hf_trainpipe.errors import MissingExtra, closest

ERRORS = ("#NULL!", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#N/A", "#SPILL!", "#CALC!")
"""What a formula leaves in its cell where it fails (ECMA-376, 18.18.11)."""


def read_xlsx(path: Path, *, shown: str, options: ReadOptions) -> Rows:
    """The rows of a sheet, the first one or ``options.sheet``; a row's number is the one that Excel shows.

    Empty rows, and empty columns without a name, are left out. A column that holds text and numbers becomes text.

    Raises:
        DataError: with file and row: no workbook, no such sheet, a formula's error, names that repeat.
        MissingExtra: openpyxl is not installed.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise MissingExtra(
            f"{shown}: workbooks need openpyxl: {error}.", fix="pip install 'hf-trainpipe[xlsx]'"
        ) from None
    try:
        with opened(path, shown=shown) as stream:
            book = openpyxl.load_workbook(stream, read_only=True, data_only=True)
            try:
                sheet = _sheet(book, shown, options)
                grid = [list(row) for row in sheet.iter_rows(values_only=True)]
            finally:
                book.close()
    except (zipfile.BadZipFile, KeyError, openpyxl.utils.exceptions.InvalidFileException) as error:
        raise wrong_file(
            shown,
            f"expected a workbook (.xlsx), found something else: {str(error).rstrip('.')}.",
            fix="Save it again from Excel as .xlsx, or as 'CSV UTF-8'.",
        ) from None
    there = [(number, row) for number, row in enumerate(grid, 1) if any(map(_is_filled, row))]
    if not there:
        raise empty_file(shown, f"the empty sheet {sheet.title!r}")
    names, there = _named(there, shown, options)
    if not there:
        raise empty_file(shown, f"only the names {', '.join(filter(None, names))}")
    columns: dict[str, list[Any]] = {}
    for position, name in enumerate(names):
        cells = [row[position] if position < len(row) else None for _, row in there]
        for (number, _), cell in zip(there, cells, strict=True):
            if cell in ERRORS:
                raise wrong_line(
                    shown,
                    number,
                    f"column {name!r}: a formula failed, {cell}.",
                    fix="Correct the cell, or write its value.",
                )
        if name:
            columns[name] = _of_one_type(cells)
        elif filled := [number for (number, _), cell in zip(there, cells, strict=True) if _is_filled(cell)]:
            raise wrong_line(
                shown,
                filled[0],
                f"column {position + 1} has a value and no name.",
                fix="Name the columns in the first row. If that is no header, set data.header=('name', ...).",
            )
    return Rows(columns, [number for number, _ in there])


def _sheet(book: Any, shown: str, options: ReadOptions) -> Any:
    if options.sheet is None:
        return book.worksheets[0]
    if options.sheet not in book.sheetnames:
        raise wrong_file(
            shown,
            f"data.sheet: there is no sheet {options.sheet!r}, but {', '.join(book.sheetnames)}.",
            fix=f"Name one of them.{closest(options.sheet, book.sheetnames)}",
        )
    return book[options.sheet]


def _named(
    there: list[tuple[int, list[Any]]], shown: str, options: ReadOptions
) -> tuple[list[str], list[tuple[int, list[Any]]]]:
    """The names of the columns, and the rows below them."""
    width = max(len(row) for _, row in there)
    if options.header is not True:
        named = list(options.header or ())
        return [*named, *("" if named else f"column{at}" for at in range(len(named), width))], there
    (number, first), *rest = there
    names = ["" if cell is None else str(cell).strip() for cell in first]
    if repeated := sorted({name for name in names if name and names.count(name) > 1}):
        raise wrong_line(
            shown,
            number,
            f"the header repeats {', '.join(map(repr, repeated))}.",
            fix="Rename the columns. If the sheet has no header, give data.header=('name', ...).",
        )
    return names + [""] * (width - len(names)), rest


def _is_filled(cell: Any) -> bool:
    return cell is not None and bool(str(cell).strip())


def _of_one_type(cells: list[Any]) -> list[Any]:
    """Cells as they are; where some are text, all as text: 2 and 2.0 are ``"2"``."""
    kinds = {type(cell) for cell in cells if cell is not None}
    if len(kinds) < 2 or kinds == {int, float}:
        return cells
    return [None if cell is None else _text(cell) for cell in cells]


def _text(cell: Any) -> str:
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)
