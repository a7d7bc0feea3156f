"""Pages of docs/results with a part that a script writes: a table, often of a record of JSON lines beside the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- table -->\n", "<!-- end of table -->\n"


def recorded(file: Path) -> list[dict[str, Any]]:
    """The lines of a record; none where there is no file yet."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def in_percent(score: dict[str, Any]) -> tuple[str, str]:
    """A score in percent, and its interval."""
    return f"{100 * score['value']:.2f}", f"[{100 * score['low']:.2f}, {100 * score['high']:.2f}]"


def beside_baseline(name: str, held: dict[str, Any]) -> str:
    """The best baseline, and what the paired test says of a model beside it."""
    verdict = {True: "beaten", False: "**better**", None: "no difference shown"}[held["beats"]]
    return f"{name} {100 * held['baseline']:.2f}: {verdict}"


def put_between(page: Path, text: str, *, begin: str = BEGIN, end: str = END) -> None:
    """Replace what stands between two marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    page.write_text(f"{before}{begin}{text}{end}{rest.partition(end)[2]}", encoding="utf-8")
