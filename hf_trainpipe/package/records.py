"""A row of a file to predict or score, and options for reading the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from hf_trainpipe.data.readers_base import Format


@dataclass(frozen=True, slots=True)
class Record:
    """One row. ``value`` is a whole line of text, or a bare JSON value; ``fields`` a row of named cells."""

    line: int
    """Where the row starts, from 1; of parquet and arrow the row."""
    value: Any = None
    fields: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a file is read; what is None follows from the file."""

    format: Format | None = None
    delimiter: str | None = None
    encoding: str | None = None
    quoting: Literal["minimal", "none"] = "minimal"
