"""``scripts/faults``: all rows of the matrix exist; one row and one kill run for real, at night."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def faults(workshop, *arguments: str):
    return workshop.run(str(REPOSITORY / "scripts/faults"), *arguments, timeout=480, PYTHON=sys.executable)


def test_the_matrix_is_whole_and_names_tests_that_exist(workshop) -> None:
    done = faults(workshop, "--list")
    assert done.code == 0, done.err
    assert [int(line.split("|")[0]) for line in done.out.splitlines()] == list(range(1, 35))
    rows = (REPOSITORY / "scripts/fault_injection/rows.py").read_text()
    names = set(re.findall(r"::(test_\w+)", rows))
    assert len(names) > 20
    defined = subprocess.run(
        ["grep", "-rhoE", "def test_[a-z0-9_]+", str(REPOSITORY / "tests")], capture_output=True, text=True, check=True
    )
    assert names <= {line.removeprefix("def ") for line in defined.stdout.splitlines()}


@pytest.mark.nightly
def test_a_row_passes_and_rows_that_are_not_there_are_refused(workshop, tmp_path) -> None:
    done = faults(workshop, "--rows", "33", "--json", str(tmp_path / "rows.json"))
    assert done.code == 0, done.out + done.err
    assert "1 of 1 rows pass" in done.out
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert (row["row"], row["passed"]) == (33, True)
    assert faults(workshop, "--rows", "99").code == 2
    assert faults(workshop).code == 2


@pytest.mark.nightly
def test_a_kill_ends_bit_identical(workshop, tmp_path) -> None:
    done = faults(workshop, "--kills", "1", "--seed", "3", "--json", str(tmp_path / "kills.json"))
    assert done.code == 0, done.out + done.err
    result = json.loads((tmp_path / "kills.json").read_text())
    assert [kill["outcome"] for kill in result["kills"]] == ["identical"]
