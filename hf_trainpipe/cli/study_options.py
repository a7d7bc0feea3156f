"""Options of verbs that make several runs or read what a cross-validation kept, and times as people write them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from hf_trainpipe.cli.parser import Argument, UsageError, existing

if TYPE_CHECKING:
    import argparse

    from hf_trainpipe.out_of_fold import OutOfFold

_TIME = re.compile(r"(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m)?(?:(?P<s>\d+(?:\.\d+)?)s?)?")
STUDY = (
    Argument(
        "--study-dir D", "folder of the study, which a second call continues; studies/VERB-NAME by default", type=Path
    ),
    Argument("--ranks N", "processes of each run, under launch", type=int, default=1),
)
"""Options of verbs that make several runs."""
CROSSVAL = Argument(
    "--crossval STUDY",
    "a cross-validation of the recipe: what its models answered to rows that they never saw",
    type=Path,
)
"""Of verbs that read :mod:`hf_trainpipe.out_of_fold`."""


def out_of_fold(arguments: argparse.Namespace) -> OutOfFold | None:
    """What :data:`CROSSVAL` names."""
    if arguments.crossval is None:
        return None
    from hf_trainpipe.out_of_fold import OutOfFold

    return OutOfFold.read(existing(str(arguments.crossval), "study"))


def seconds(text: str | None, option: str) -> float | None:
    """``1h30m``, ``90m``, ``45s`` or ``45`` in seconds.

    Args:
        option: Verb and option, for messages: ``tune: --time-limit``.

    >>> seconds("1h30m", "tune: --time-limit"), seconds("45", "tune: --time-limit"), seconds(None, "tune: --time-limit")
    (5400.0, 45.0, None)
    """
    if text is None:
        return None
    found = _TIME.fullmatch(text.strip().lower())
    parts = {unit: float(value) for unit, value in (found.groupdict() if found else {}).items() if value}
    total = parts.get("h", 0.0) * 3600 + parts.get("m", 0.0) * 60 + parts.get("s", 0.0)
    if total <= 0:
        fix = f"Write {option.partition(' ')[2]} 2h, 90m or 45s."
        raise UsageError(f"{option}: expected a time, found {text!r}.", fix=fix)
    return total
