"""Files for Actions, cron and Slurm: valid, and true to the table of exit codes when a shell runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
import yaml

from hf_trainpipe.cli import run
from hf_trainpipe.errors import EXIT_CODES

FILE = """
from hf_trainpipe.pipelines import Pipeline, Verb

def pipeline() -> Pipeline:
    return Pipeline("line", interruptions=2, push_retries=1, stages=(
        Verb("make", command=("completion", "bash"), outputs=("made/file",)),
        Verb("watch", command=("completion", "bash"), after=("make",)),
        Verb("train-again", command=("train", "x.py"), runs_if={"watch": (10,)}),
    ))
"""
PYTHON = """#!/bin/sh
# In place of the interpreter: `-m hf_trainpipe pipeline stage FILE NAME` ends with the next code that NAME.codes has.
echo "$6" >> told
read -r code < "$6.codes"
sed -i 1d "$6.codes"
[ "$code" = kill ] && kill -9 $$
exit "$code"
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "line.py").write_text(FILE)
    for name, text in {"python": PYTHON, "sleep": "#!/bin/sh\n", "scontrol": '#!/bin/sh\necho "$@" >> told\n'}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def emitted(engine: str, *options: str) -> None:
    assert run(["pipeline", "emit", engine, "line.py", *options]) == 0


def test_the_workflow_is_valid_and_has_every_stage_with_its_branches(place: Path) -> None:
    import jsonschema  # here: a second and more, which each process that collects would take

    emitted("actions", "--schedule", "0 3 * * 1")
    workflow = yaml.safe_load((place / "line.yml").read_text())
    workflow["on"] = workflow.pop(True)  # as YAML 1.1 reads the key
    schema = json.loads(
        (resources.files("check_jsonschema") / "builtin_schemas/vendor/github-workflows.json").read_text("utf-8")
    )
    jsonschema.validate(workflow, schema)
    assert workflow["on"]["schedule"] == [{"cron": "0 3 * * 1"}]
    steps = workflow["jobs"]["line"]["steps"]
    stages = {step["id"]: step.get("if") for step in steps if "id" in step}
    assert stages == {
        "make": None,
        "watch": "steps.make.outputs.code == '0'",
        "train-again": "steps.watch.outputs.code == '10'",
    }
    assert steps[-1]["with"]["path"].split() == ["runs/line", "made/file"]
    steps[-1]["wiht"] = steps[-1].pop("with")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(workflow, schema)


@pytest.mark.parametrize(
    ("codes", "ended", "starts"),
    [
        (["0"], 0, 1),
        (["10"], 0, 1),
        (["75", "kill", "11"], 0, 3),
        (["75", "75", "75"], 75, 3),
        (["5", "0"], 0, 2),
        (["5", "75", "5"], 5, 3),
        *(([str(code)], code, 1) for code, row in EXIT_CODES.items() if row.fails),
        (["42"], 42, 1),
    ],
)
def test_actions_treats_codes_by_the_table(place: Path, codes: list[str], ended: int, starts: int) -> None:
    emitted("actions", "--python", "./python")
    steps = yaml.safe_load((place / "line.yml").read_text())["jobs"]["line"]["steps"]
    blocks = [step["run"] for step in steps if step.get("name") in ("What the exit codes mean", "watch")]
    (place / "watch.codes").write_text("\n".join(codes) + "\n")
    environment = {**os.environ, "RUNNER_TEMP": str(place), "GITHUB_OUTPUT": str(place / "output")}
    done = [subprocess.run(["bash", "-eo", "pipefail", "-c", block], env=environment, check=False) for block in blocks]
    assert [one.returncode for one in done] == [0, ended]
    assert (place / "told").read_text().split() == ["watch"] * starts
    if ended == 0:
        assert (place / "output").read_text() == f"code={codes[-1]}\n"


def test_slurm_gets_a_job_a_stage_and_queues_one_again_that_was_interrupted(place: Path) -> None:
    emitted("slurm", "--python", "./python")
    (place / "sbatch").write_text('#!/bin/sh\necho "$@" >> jobs\nwc -l < jobs\n')
    (place / "sbatch").chmod(0o755)
    subprocess.run(
        ["bash", "line.slurm.sh"], check=True, env={**os.environ, "TRAIN_OPTIONS": "--gpus=1 --time=9:00:00"}
    )
    first, second, third = (place / "jobs").read_text().splitlines()
    assert "--dependency" not in first
    assert "--dependency=afterok:1" in second
    assert third.endswith(f"--dependency=afterok:2 --gpus=1 --time=9:00:00 {place}/line.slurm.sh train-again")
    for codes, ended, told in (("75", 75, ["watch", "requeue", "7"]), ("11", 0, ["watch"]), ("2", 2, ["watch"])):
        (place / "told").unlink(missing_ok=True)
        (place / "watch.codes").write_text(f"{codes}\n")
        environment = {**os.environ, "SLURM_JOB_ID": "7"}
        assert subprocess.run(["bash", "line.slurm.sh", "watch"], env=environment, check=False).returncode == ended
        assert (place / "told").read_text().split() == told


def test_crons_line_runs_the_pipeline_in_its_folder_with_a_bare_environment(place: Path) -> None:
    (place / "line.py").write_text(
        "from hf_trainpipe.pipelines import Pipeline, Verb\n\n"
        "def pipeline() -> Pipeline:\n"
        '    return Pipeline("line", stages=(Verb("make", command=("runs", "{self}"), json=True),))\n'
    )
    emitted("cron", "--schedule", "17 4 * * *")
    lines = (place / "line.crontab").read_text().splitlines()
    assert [line.split(" cd ")[0] for line in lines if " cd " in line] == ["17 4 * * *", "@reboot"]
    command = next(line for line in lines if line.startswith("17 4")).split(maxsplit=5)[5]
    packages = os.pathsep.join(path for path in sys.path if path)
    bare = {"PATH": "/usr/bin:/bin", "PYTHONPATH": packages}
    done = subprocess.run(["/bin/sh", "-c", command], env=bare, cwd="/", check=False)
    assert done.returncode == 0, (place / "runs/line/cron.log").read_text()
    assert json.loads((place / "runs/line/make/answer.json").read_text()) == []
    assert (place / "runs/line/make/stage.json").is_file()
