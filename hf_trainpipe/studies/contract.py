"""What a person chooses about a search; what of it makes it another search; that its trials saw the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hf_trainpipe.errors import ResumeMismatch
from hf_trainpipe.studies.proposals import Pruning
from hf_trainpipe.training.run_files import read_identity

ENCODED = ("tokens.", "preprocessing.", "model.", "task.")
"""Fields that change how rows are encoded: with one of them in the space, the digests of a trial's data are its own."""
FREE = ("trials", "finalists", "seeds", "time_limit")
"""Settings that may change between two calls: none of them changes what a trial is."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The choices of a person about a search."""

    trials: int = 20
    finalists: int = 3
    seeds: int = 3
    """Fresh ones for each finalist."""
    seed: int = 17
    parallel: int = 1
    """Trials at a time."""
    ranks: int = 1
    """Of each trial."""
    launch: tuple[str, ...] = ()
    """Further options of ``accelerate launch``."""
    pruning: Pruning = "median"
    time_limit: float | None = None
    """Seconds of the whole search, over all its sessions."""
    trial_limit: float | None = None
    """Seconds of one trial."""

    @property
    def kept(self) -> dict[str, Any]:
        """Those that make another search."""
        return {name: value for name, value in asdict(self).items() if name not in FREE}


def check_same_rows(first: Path, run: Path, space: Mapping[str, Any]) -> None:
    """Refuse a trial whose data are not those of the first one.

    Args:
        first: The folder of a trial that ended before.
        run: That of the trial.

    Raises:
        ResumeMismatch: the fingerprints that differ.
    """
    compared = ["labels"] if any(name.startswith(ENCODED) for name in space) else ["labels", "data"]
    earlier, now = (read_identity(place)["fingerprints"] for place in (first, run))
    if differing := [name for name in compared if earlier.get(name) != now.get(name)]:
        raise ResumeMismatch(
            f"The data have changed since the first trial: {' and '.join(differing)} of {run} differ from those of {first}.",
            fix="Bring the earlier data back, or begin another study: --study-dir OTHER",
        )
