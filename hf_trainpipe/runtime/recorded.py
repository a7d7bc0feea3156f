"""Recorded predictions, which a package has to give again: lines of ``{"input", "output"}``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import SchemaError

RECORDED = "recorded.jsonl"
"""Beside a package, in the folder of its run; they contain texts and are never packaged."""


def read_recorded(file: Path, *, fix: str) -> list[dict[str, Any]]:
    """The lines of a file; blank ones are passed over.

    Args:
        fix: Of its errors, what to do.

    Raises:
        SchemaError: It cannot be read, has no line, or one that is something else, which the error names.
    """
    found: list[dict[str, Any]] = []
    number = 0
    try:
        with file.open(encoding="utf-8") as stream:  # str.splitlines would end a line at U+2028, which a text may hold
            for number, line in enumerate(stream, 1):  # noqa: B007  an error names it
                if not line.strip():
                    continue
                value = json.loads(line)
                if not isinstance(value, dict) or not {"input", "output"} <= set(value):
                    raise ValueError(f"expected an object with input and output, found {line.strip()[:60]!r}")
                found.append(value)
    except (OSError, ValueError, RecursionError) as error:
        raise SchemaError(f"{file}, line {number}: no recorded prediction: {error}.", fix=fix) from error
    if not found:
        raise SchemaError(f"{file} has no recorded predictions, so nothing could be compared.", fix=fix)
    return found
