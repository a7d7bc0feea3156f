"""A profile into a package: at the end of a run, or of a file into a package that has none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.data.readers_base import AS_FOUND, ReadOptions
from hf_trainpipe.errors import DataError
from hf_trainpipe.package import layout
from hf_trainpipe.package.replacing import copied, seal
from hf_trainpipe.tracking.console import Console
from hf_trainpipe.watch.logs import Log
from hf_trainpipe.watch.measure import joined, measure
from hf_trainpipe.watch.profile import Profile, make_profile

if TYPE_CHECKING:
    from hf_trainpipe.runtime.handler.predictor import Predictor

MOST = 5_000
"""Texts of a file that a profile is made of; of more, so many are drawn by chance."""


def profile_of(predictor: Predictor, inputs: Sequence[Any], *, source: str) -> Profile:
    """The profile of texts that a predictor answers.

    Args:
        source: Where they come from, for people.

    Raises:
        DataError: too few of them can be measured.
    """
    starts = range(0, max(1, len(inputs)), 1_000)
    parts = [measure(predictor, inputs[start : start + 1_000])[0] for start in starts]
    measured = [part for part in parts if part is not None]
    if not measured:
        raise DataError(
            f"{source}: none of its {len(inputs):,} rows has a text that the package can read.",
            fix="Choose the column that holds the text with --column NAME.",
        )
    labels = tuple(predictor.task.label_names)
    return make_profile(joined(measured), source=source, labels=labels, backend=predictor.backend)


def add_profile(
    package: Path | str,
    input: Path | str,
    *,
    column: Sequence[str] = (),
    reading: ReadOptions = AS_FOUND,
    device: str | None = None,
    allow_code: bool = False,
    backend: str | None = None,
) -> dict[str, Any]:
    """Make a profile of a file's texts and put it into a package, in place of the one that it has; atomically.

    Returns:
        ``profile.json``, and ``package``.

    Raises:
        DataError: the file cannot be read, lacks the columns, or has too few texts.
        PackageError: there is no package, or it is not as it was written.
    """
    from hf_trainpipe.runtime.handler.predictor import Predictor

    path = layout.find_package(package).resolve()
    manifest = layout.read_manifest(path)
    layout.refuse_changed(path, manifest)
    log = Log(input, path, column=column, reading=reading, logs=())
    inputs = [value for chunk in log.chunks() for _, value in chunk]
    if len(inputs) > MOST:
        drawn = np.sort(np.random.default_rng(len(inputs)).choice(len(inputs), MOST, replace=False))
        inputs = [inputs[row] for row in drawn.tolist()]
    with Console(0).working(f"measuring {len(inputs):,} texts of {log.name}"):
        predictor = Predictor.load(path, device=device, allow_code=allow_code, backend=backend, precision="fp32")
        made = profile_of(predictor, inputs, source=Path(log.name).name)
    with copied(path) as stage:
        made.save(stage)
        seal(stage, manifest)
    return {**made.facts, "package": str(path)}
