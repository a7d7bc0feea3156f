"""How long a run took."""

from __future__ import annotations

from pathlib import Path

from hf_trainpipe.utils.attempts import read_attempts


def seconds_of(run: Path) -> float:
    """Seconds that all attempts at a run took, as far as they recorded their end."""
    found = read_attempts(run).values()
    return float(sum(one["ended"] - one["started"] for one in found if one.get("ended") and one.get("started")))
