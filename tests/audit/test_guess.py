"""What files without a recipe are taken for."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_trainpipe import TextClassification
from hf_trainpipe.audit.guess import guess
from hf_trainpipe.cli import run
from hf_trainpipe.tasks import CausalLM

PAIRS = 'pair\tsentence_A\tsentence_B\tjudgment\n1\tA "dog" runs\tA dog is out\tyes\n2\tNobody "runs\tA man runs\tno\n'


def test_lines_with_tabs_are_a_table(tmp_path: Path) -> None:
    for name in ("pairs_train.txt", "pairs_trial.txt", "pairs_test.txt"):
        (tmp_path / name).write_text(PAIRS)
    found = guess([str(path) for path in sorted(tmp_path.iterdir())])
    assert {split: len(rows) for split, rows in found.splits.items()} == {"train": 2, "validation": 2, "test": 2}
    assert found.task == TextClassification("sentence_A", text_pair="sentence_B", label="judgment")
    assert found.splits["train"]["sentence_A"][:] == ['A "dog" runs', 'Nobody "runs']
    assert any("4 columns with tabs between them" in line for line in found.assumed)


@pytest.mark.parametrize("text", ["A dog\nA cat\n", "A dog\t1\nA cat\n"])
def test_other_lines_are_texts(tmp_path: Path, text: str) -> None:
    (tmp_path / "lines.txt").write_text(text)
    found = guess([str(tmp_path / "lines.txt")])
    assert found.task == CausalLM("text")
    assert len(found.splits["train"]) == 2


def test_tabs_in_a_cell_are_text(tmp_path: Path) -> None:
    (tmp_path / "cells.csv").write_text("text\na\tb\nc\td\n")
    found = guess([str(tmp_path / "cells.csv")])
    assert found.splits["train"]["text"][:] == ["a\tb", "c\td"]


def test_what_to_do_is_said_in_options_of_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "Collection").write_text("ham\tGo on\nspam\tCall now\n")
    assert run(["audit", str(tmp_path / "Collection")]) == 2
    assert "Set --format to one of csv, tsv" in capsys.readouterr().err
    (tmp_path / "glue.tsv").write_text('text\tlabel\na film\t1\n"quoted" film\t0\n')
    assert run(["audit", str(tmp_path / "glue.tsv")]) == 2
    assert "set --quoting none" in capsys.readouterr().err
    assert run(["audit", str(tmp_path / "glue.tsv"), "--quoting", "none"]) == 0
