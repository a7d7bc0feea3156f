"""The page on writing a task shows the task that the contract is run over."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_shows_the_task_as_it_is() -> None:
    code = (ROOT / "tests/tasks/foreign.py").read_text()
    shown = code.partition("# [span selection]\n")[2].partition("# [end]")[0].rstrip()
    assert shown in (ROOT / "docs/tasks.md").read_text()
