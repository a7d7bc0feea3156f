"""Where a recipe came from: its file, its function, and what was set on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RecipeSource:
    """Where a recipe came from."""

    path: Path
    """The file, absolute."""
    function: str | None
    """The function that returned it; None for a JSON file."""
    overrides: tuple[str, ...] = ()
    """Fields that were set on the command line, as they were typed: ``("--optim.peak-lr", "1e-5")``."""

    @property
    def arguments(self) -> list[str]:
        """What ``hf-trainpipe train`` takes to train the same recipe again."""
        return [str(self), *self.overrides]

    def __str__(self) -> str:
        return str(self.path) if self.function in (None, "recipe") else f"{self.path}:{self.function}"
