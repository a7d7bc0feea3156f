"""Options of verbs that make several runs, and times as people write them."""

from __future__ import annotations

import re
from pathlib import Path

from hf_trainpipe.cli.parser import Argument, UsageError

_TIME = re.compile(r"(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m)?(?:(?P<s>\d+(?:\.\d+)?)s?)?")
STUDY = (
    Argument(
        "--study-dir D", "folder of the study, which a second call continues; studies/VERB-NAME by default", type=Path
    ),
    Argument("--ranks N", "processes of each run, under launch", type=int, default=1),
)
"""Options of verbs that make several runs."""


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
