"""A run's ledger as one table: csv, or parquet for frames."""

from __future__ import annotations

import csv
import io
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from hf_trainpipe.errors import DataError
from hf_trainpipe.tracking.ledger import Point, read
from hf_trainpipe.utils.atomic import write_bytes

COLUMNS = [field.name for field in fields(Point)]


def export(run: Path, output: str | Path | None = None) -> dict[str, Any]:
    """Write every number of a run: step, epoch, name, value, attempt, time (seconds since 1970), a row each.

    Args:
        run: The run's directory.
        output: ``FILE.csv`` or ``FILE.parquet``; None: ``ledger.csv`` of the run.

    Returns:
        ``file``, and the numbers of ``points`` and of ``names``.

    Raises:
        DataError: The run has no numbers, or the file has another ending or cannot be written.
    """
    file = Path(output) if output is not None else run / "ledger.csv"
    writers = {".csv": _csv, ".parquet": _parquet}
    if file.suffix not in writers:
        raise DataError(
            f"{file}: expected a file that ends in .csv or .parquet.", fix="Name one: --output ledger.parquet"
        )
    points = list(read(run / "ledger.jsonl"))
    if not points:
        raise DataError(
            f"{run}: expected a run with numbers, found none in ledger.jsonl.",
            fix="Name the folder of a run that has begun to train, such as runs/NAME.",
        )
    try:
        write_bytes(file, writers[file.suffix](points), durable=False)
    except OSError as error:
        raise DataError(
            f"{file} cannot be written: {error.strerror or error}.", fix="Name a file in a folder that exists."
        ) from error
    return {"file": str(file), "points": len(points), "names": len({point.name for point in points})}


def _csv(points: list[Point]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(astuple(point) for point in points)
    return text.getvalue().encode()


def _parquet(points: list[Point]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    columns = {name: [getattr(point, name) for point in points] for name in COLUMNS}
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), buffer)
    return buffer.getvalue()
