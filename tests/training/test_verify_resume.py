"""--verify-resume: a copy of a real run is killed, resumed and compared."""

from __future__ import annotations

import json

import pytest

from hf_trainpipe.package.layout import read_manifest
from hf_trainpipe.training.verify_resume import start_of_copy


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_copy_is_killed_and_resumed_and_the_package_tells(workshop, ranks) -> None:
    run = workshop.folder / f"verified-{ranks}"
    done = workshop.train("recipes.py", "--run-dir", run.name, "--verify-resume", ranks=ranks)
    assert done.code == 0, done.err
    assert "bit-identical at step 26" in done.err
    proof = json.loads((run / "resume-proof.json").read_text())
    assert proof["identical"], proof
    assert proof["from_step"] < proof["killed_after"] < proof["compared_at"] == 26
    assert proof["ranks"] == ranks
    assert read_manifest(run / "package")["resumed"] == proof
    card = (run / "package/README.md").read_text()
    assert f"killed with SIGKILL after step {proof['killed_after']}" in card
    assert "was the same, bit for bit" in card
    assert not (run / "rehearsal").exists()
    assert len(list((run / "attempts").glob("*.json"))) == 1


def test_a_run_that_cannot_be_repeated_says_so(workshop) -> None:
    """The losses of this task depend on the number of its process."""
    file = workshop.folder / "fickle.py"
    file.write_text(
        (workshop.folder / "recipes.py").read_text().replace(
            "        return super().loss_sum(model, batch)",
            "        return super().loss_sum(model, batch) * (1.0 + os.getpid() % 1009 / 1e4)",
        )
    )  # fmt: skip
    done = workshop.train("fickle.py", "--run-dir", "fickle", "--verify-resume", "--budget.max-steps", "12")
    assert done.code == 0, done.err
    assert "differs at step 12 in model.safetensors" in done.err
    assert not read_manifest(workshop.folder / "fickle/package")["resumed"]["identical"]
    assert "differed in model.safetensors" in (workshop.folder / "fickle/package/README.md").read_text()


def test_the_copy_is_short_where_runs_are_long() -> None:
    assert start_of_copy([500, 1000, 1500], 1500) == 1000
    assert start_of_copy([500, 1499, 1500], 1500) == 500
    assert start_of_copy([1499, 1500], 1500) == 1499
    assert start_of_copy([1500], 1500) == 0
    assert start_of_copy([5, 10, 13, 26], 26) == 13
    assert start_of_copy([25, 26], 26) == 0
