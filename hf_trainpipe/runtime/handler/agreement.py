"""Before a package answers in 16 bits, it has to agree with what it answered in fp32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import InputError, NotReproduced, SchemaError
from ..model.precision import keep_in
from ..recorded import RECORDED, read_recorded

_LARGEST = 256 << 20
_FIX = "Put the recorded.jsonl of its run beside the package, or remove the file."


def take(predictor: Any, precision: str, *, folder: Path) -> None:
    """Let a predictor answer in 16 bits, if it agrees with its recorded predictions; where there are none beside the package,
    with what it answers in fp32 to inputs that are made up.

    Args:
        predictor: A :class:`.predictor.Predictor` in fp32, whose model is changed in place.
        folder: Of its package.

    Raises:
        NotReproduced: It does not agree.
        SchemaError: The recorded predictions cannot be read, or are not for this package.
    """
    file = folder.parent / RECORDED
    if file.is_file():
        inputs, expected = _read(file)
        told = f"its {len(inputs)} recorded predictions ({file})"
    else:
        inputs = list(predictor.examples)
        expected = predictor.record(inputs)
        told = f"what it answers in fp32 to {len(inputs)} made-up inputs (no {RECORDED} is beside it)"
    keep_in(predictor.model, precision)
    predictor.precision = precision
    try:
        found = predictor.record(inputs)
    except InputError as error:
        raise SchemaError(f"{file}: the recorded inputs are not for this package: {error.message}", fix=_FIX) from None
    task = predictor.task
    gap = task.departure(found, expected)
    if not gap <= task.most_departure:
        raise NotReproduced(
            f"{folder}: in {precision} it does not agree with {told}: expected a difference of at most "
            f"{task.most_departure:g} ({task.departs_in}), found {gap:.3g}.",
            fix=f"Answer in fp32: leave precision={precision} out."
            + (
                " bf16 has the range of fp32, which fp16 has not: precision=bf16 may do." if precision == "fp16" else ""
            ),
        )


def _read(file: Path) -> tuple[list[Any], list[Any]]:
    if file.stat().st_size > _LARGEST:
        raise SchemaError(
            f"{file}: expected at most {_LARGEST >> 20} MB of recorded predictions.", fix="Remove the file."
        )
    lines = read_recorded(file, fix=_FIX)
    if all(line["output"] is None for line in lines):
        raise SchemaError(f"{file}: expected an answer to hold others against, found none.", fix=_FIX)
    return [line["input"] for line in lines], [line["output"] for line in lines]
