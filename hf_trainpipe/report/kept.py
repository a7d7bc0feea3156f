"""What is found of a finished run later, kept in its folder by split, and told in its report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_trainpipe.report.page import NAME, write
from hf_trainpipe.utils.atomic import read_json_object, write_json


def keep(run: Path, file: str, found: Mapping[str, Any]) -> list[Path]:
    """Write what was found of a split, ``found["of"]``, beside what is kept of others; and the report again where there is one.

    Returns:
        The files that tell it.

    Raises:
        CheckpointError: what is kept is damaged.
    """
    path = run / file
    told = read_json_object(path, needs={}, fix="Delete it: it is written again.") if path.is_file() else {}
    write_json(path, {**told, found["of"]: found}, sort_keys=False)
    return [path, write(run)] if (run / NAME).is_file() else [path]
