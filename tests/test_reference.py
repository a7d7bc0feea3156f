"""The reference page, the help of fields, and shell completion."""

from __future__ import annotations

import dataclasses
import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hf_trainpipe
from hf_trainpipe import pipelines
from hf_trainpipe.cli.completion import SHELLS, script
from hf_trainpipe.cli.verbs import VERBS
from hf_trainpipe.recipe_file.described import field_texts

REPOSITORY = Path(__file__).resolve().parents[1]
PARTS = [
    found
    for found in (getattr(hf_trainpipe, name) for name in hf_trainpipe.__all__)
    if isinstance(found, type) and dataclasses.is_dataclass(found) and found.__name__ != "Result"
]


def test_the_reference_page_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/reference.py", "--check"],
        cwd=REPOSITORY,
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_part_of_a_recipe_and_every_stage_has_its_section() -> None:
    page = (REPOSITORY / "docs/reference.md").read_text(encoding="utf-8")
    headings = {line.removeprefix("### ") for line in page.splitlines() if line.startswith("### ")}
    own = {"Column", "RunInfo"}  # of a task or a tracker of one's own
    named = {part.__name__ for part in PARTS if not inspect.isabstract(part)} - own
    stages = {name for name, found in vars(pipelines).items() if dataclasses.is_dataclass(found) and name != "Stage"}
    assert named | stages <= headings


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_every_field_is_documented(part: type) -> None:
    assert [name for name, text in field_texts(part).items() if not text] == []


def test_a_field_that_is_inherited_keeps_its_text() -> None:
    assert field_texts(hf_trainpipe.HubData)["drop_missing"].startswith(
        "Drop rows in which one of these columns is null"
    )


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_knows_verbs_and_fields(shell: str) -> None:
    text = script(shell, VERBS)
    for name in ("train", "serve", "--run-dir" if shell != "fish" else "run-dir", "optim.peak-lr"):
        assert name in text


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_a_field(tmp_path: Path) -> None:
    (tmp_path / "completion.bash").write_text(script("bash", VERBS))
    typed = "source completion.bash; COMP_WORDS=(hf-trainpipe train x.py --optim.pe); COMP_CWORD=3; "
    typed += '_shtab_hf_trainpipe hf-trainpipe --optim.pe x.py; echo "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", typed], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "--optim.peak-lr"
