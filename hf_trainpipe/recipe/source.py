"""Where a recipe came from: its file, its function, and the options on the command line."""

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
    """Options of fields, as typed on the command line: ``("--optim.peak-lr", "1e-5")``; and ``--rows``, which replaces the
    data."""

    @property
    def arguments(self) -> list[str]:
        """Arguments of ``hf-trainpipe train`` for the same recipe."""
        return [str(self), *self.overrides]

    def __str__(self) -> str:
        return str(self.path) if self.function in (None, "recipe") else f"{self.path}:{self.function}"
