"""What was forecast of a run beside what came, read from its folder: for the end of the run, and for its report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_trainpipe.tracking.views.wording import duration

NAME = "forecast.json"
"""Of the file in a run's folder."""
TITLES = {"seconds": "time", "memory_bytes": "memory", "disk_bytes": "disk"}


def read(run: Path) -> dict[str, Any] | None:
    """The forecast in a run's folder, with its outcome if the run is complete; None where there is none."""
    try:
        found = json.loads((run / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("forecast"), dict) else None


def beside(found: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """What was forecast, its interval and what came, a row each: for the end of a run and its report."""
    rows = []
    outcome = found.get("outcome") or {}
    for name, title in TITLES.items():
        told = found["forecast"].get(name)
        if told is not None:
            came = spelt(name, outcome[name]) if name in outcome else ""
            rows.append(
                (title, spelt(name, told["value"]), f"{spelt(name, told['low'])} to {spelt(name, told['high'])}", came)
            )
    return rows


def line(run: Path) -> str | None:
    """Forecast and outcome of a complete run on one line; None where there was no forecast."""
    found = read(run)
    if found is None or "outcome" not in found:
        return None
    parts = [f"{title} {told}, came {came}" for title, told, _, came in beside(found) if came]
    odd = "" if found["outcome"].get("undisturbed") else " (of a run that neither stops early nor is interrupted)"
    return "; ".join(parts) + odd


def spelt(name: str, value: float) -> str:
    """A number of a forecast for people.

    >>> spelt("seconds", 75.2), spelt("disk_bytes", 3.61e8), spelt("memory_bytes", 1.25e9)
    ('1:15', '361 MB', '1.25 GB')
    """
    if name == "seconds":
        return duration(value) if value >= 10 else f"{value:.1f} s"
    return (
        f"{value / 1e9:,.2f} GB"
        if value >= 1e9
        else f"{value / 1e6:,.0f} MB"
        if value >= 1e7
        else f"{value / 1e6:,.2f} MB"
    )
