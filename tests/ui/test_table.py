"""What is read of runs, without a server."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest

from hf_trainpipe.checkpoint.lock import RunLock
from hf_trainpipe.tracking.ledger import Ledger
from hf_trainpipe.ui.table import RunTable
from tests.ui.making import make_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def look() -> Iterator[Callable[[Path], RunTable]]:
    with ExitStack() as stack:
        yield lambda folder: stack.enter_context(closing(RunTable(folder)))


def test_rows_tell_what_differs_and_are_read_once(
    tmp_path: Path, look: Callable[[Path], RunTable], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        make_run(tmp_path / f"run-{number}", seed=number, score=0.8 + number / 100)
    make_run(tmp_path / "faster", rate=1e-3, seed=0, score=None, ended=False)
    table = look(tmp_path)
    rows = {row["run"]: row for row in table.rows()}
    assert rows["faster"]["changed"] == ["optim.peak_lr"]
    assert rows["faster"]["settings"] == {"optim.peak_lr": 1e-3, "seed": 0}
    assert rows["run-2"]["changed"] == ["seed"]
    assert rows["run-2"]["score"]["value"] == pytest.approx(0.82)
    assert rows["run-2"]["seconds"] == 125
    assert rows["faster"]["state"] == "killed"
    assert rows["faster"]["latest"] == {"name": "validation/f1_macro", "step": 200, "value": 0.95, "last_step": 200}
    document = json.loads((tmp_path / "run-1" / "result.json").read_text())
    document["scores"]["validation"]["f1_macro"]["value"] = 0.5
    (tmp_path / "run-1" / "result.json").write_text(json.dumps(document))
    read: list[str] = []
    monkeypatch.setattr(
        "hf_trainpipe.ui.table.as_row", lambda run: read.append(run.name) or {"state": "x", "score": {}}
    )
    table.rows()
    assert read == ["run-1"], "the others did not change"


def test_curves_follow_a_run_that_trains_and_one_that_resumes(tmp_path: Path, look: Callable[[Path], RunTable]) -> None:
    place = make_run(tmp_path / "run", score=None, ended=False, steps=50)
    table = look(tmp_path)
    assert table.curves(["run", "other"])["run"]["validation/f1_macro"] == [[50, 0.8]]
    with RunLock(place / "run.lock"):
        ledger = Ledger(place / "ledger.jsonl", attempt=2)
        ledger.log({"train/loss": float("nan")}, step=60, epoch=0.6)
        assert table.curves(["run"])["run"]["train/loss"][-1] == [60, None]
        row = table.rows()[0]
        assert (row["state"], row["step"]) == ("running", 60)
        ledger.close()
        ledger = Ledger(place / "ledger.jsonl", attempt=3, last_step=30)
        ledger.log({"train/loss": 0.25}, step=31, epoch=0.31)
        ledger.close()
    found = table.curves(["run"])["run"]
    assert [step for step, _ in found["train/loss"]] == [10, 20, 30, 31]
    assert "validation/f1_macro" not in found, "that point was cut off"


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path, look: Callable[[Path], RunTable]) -> None:
    secret = make_run(tmp_path / "elsewhere" / "secret")
    (secret / "report.html").write_text("secret")
    folder = tmp_path / "runs"
    ours = make_run(folder / "ours")
    (folder / "secret").symlink_to(secret)
    (ours / "report.html").symlink_to(secret / "report.html")
    borrowed = make_run(folder / "borrowed")
    (borrowed / "ledger.jsonl").unlink()
    (borrowed / "ledger.jsonl").symlink_to(secret / "ledger.jsonl")
    table = look(folder)
    assert [row["run"] for row in table.rows()] == ["ours"]
    assert table.rows()[0]["report"] is False
    assert table.report("ours") is None
    assert table.curves(["secret", "borrowed", "../elsewhere/secret"]) == {}
    (ours / "report.html").unlink()
    (ours / "report.html").write_text("ours")
    assert table.report("ours") == b"ours"
    assert table.report("../elsewhere/secret") is None
