"""What was sent to a tracker, so that after a resume nothing is sent twice.

``tracking/<kind>-<n>.json`` of the run's directory:

    {"schema": 1, "kind": "Neptune", "destinations": {"offline": {"address": null,
     "steps": {"train/loss": 120}, "artifacts": {"report.html": [4096, 1767225600000000000]}}}}

A destination is a server's project, or ``offline``: a run kept offline is sent whole to a server later.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hf_trainpipe.utils.atomic import write_json


@dataclass
class Sent:
    """What one destination holds."""

    address: str | None = None
    steps: dict[str, int] = field(default_factory=dict)
    """Metric -> highest step sent."""
    artifacts: dict[str, list[int]] = field(default_factory=dict)
    """File -> its size in bytes and modification time in nanoseconds when it was sent."""

    def has(self, name: str, step: int) -> bool:
        """Whether this point was sent."""
        return step <= self.steps.get(name, -1)


def read_sent(path: Path) -> dict[str, Sent]:
    """What each destination holds; an unreadable file counts as empty."""
    try:
        rows: Mapping[str, Any] = json.loads(path.read_bytes())["destinations"]
        return {name: Sent(**row) for name, row in rows.items()}
    except (OSError, KeyError, TypeError, ValueError):
        return {}


def write_sent(path: Path, destinations: Mapping[str, Sent], *, kind: str) -> None:
    """Replace the file; a reader finds the old one or the new one."""
    rows = {name: asdict(sent) for name, sent in destinations.items()}
    write_json(path, {"schema": 1, "kind": kind, "destinations": rows}, durable=False)
