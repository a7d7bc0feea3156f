"""What ``pipeline emit`` writes. Airflow and Kubeflow themselves run it in scripts/airflow and scripts/kubeflow."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import yaml

from hf_trainpipe.cli.dispatch import dispatch
from hf_trainpipe.errors import EXIT_CODES, RecipeError
from hf_trainpipe.pipelines import emit_airflow, emit_kfp, emit_trainjob
from hf_trainpipe.pipelines.emit import ENGINES, Settings, emit
from hf_trainpipe.pipelines.file import load
from hf_trainpipe.pipelines.lowered import lower
from hf_trainpipe.pipelines.nodes import nodes_of
from hf_trainpipe.pipelines.pipeline import Pipeline

FILE = """
from hf_trainpipe.pipelines import Audit, Pipeline, Train, Verb, Verify


def pipeline():
    return Pipeline(
        "reviews",
        stages=(
            Audit("reviews.py"),
            Train("reviews.py", after=("audit",)),
            Verify("train"),
            Verb("compare", command=("compare", "{train}", "runs/old", "--margin", "0.5")),
            Verb("ship", command=("show", "reviews.py"), after=("verify",), runs_if={"compare": (0,)}),
            Verb("explain", command=("report", "{train}"), runs_if={"compare": (11,)}),
        ),
        interruptions=3,
    )


def only_checks():
    return Pipeline("checks", stages=(Audit("reviews.py"),))
"""
ENDS = "import pathlib, sys; codes = pathlib.Path('codes').read_text().split(); "
ENDS += "pathlib.Path('codes').write_text(' '.join(codes[1:])); sys.exit(int(codes[0]))"
"""A command that ends with the next exit code of the file ``codes``."""


WRITE = {"airflow": emit_airflow.write, "kfp": emit_kfp.write, "trainjob": emit_trainjob.write}


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    (tmp_path / "pipeline.py").write_text(FILE)
    return load(str(tmp_path / "pipeline.py"))


def text(pipeline: Pipeline, engine: str, **chosen: Any) -> str:
    written = WRITE[engine](pipeline, Settings(**{"folder": "/work", "python": "python", **chosen}))
    return next(iter(written.values()))


@pytest.mark.parametrize("engine", ["airflow", "kfp"])
def test_an_emitted_file_imports_the_engine_alone(pipeline: Pipeline, engine: str) -> None:
    found = set()
    for node in ast.walk(ast.parse(text(pipeline, engine))):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    assert found - set(sys.stdlib_module_names) == {engine}


@pytest.mark.parametrize("engine", ["airflow", "kfp"])
def test_every_exit_code_has_one_place_in_an_emitted_file(pipeline: Pipeline, engine: str) -> None:
    said: dict[str, Any] = {}
    for node in ast.walk(ast.parse(text(pipeline, engine))):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                said[node.targets[0].id.lower()] = ast.literal_eval(node.value)
            except ValueError:
                continue
    places = [*said["branches"], *said["failures"], said["interrupted"], said["push_failed"]]
    assert sorted(places) == sorted(EXIT_CODES)
    assert all(
        EXIT_CODES[code].branch and EXIT_CODES[code].meaning == means for code, means in said["branches"].items()
    )
    assert all(EXIT_CODES[code].fails for code in said["failures"])
    assert (said["interrupted"], said["push_failed"]) == (75, 5)


def test_airflow_has_a_task_a_stage_with_the_codes_after_which_it_runs(pipeline: Pipeline) -> None:
    written = text(pipeline, "airflow", python="/opt/venv/bin/python")
    assert written.endswith(
        """\
    Stage(task_id="audit", needs={})
    Stage(task_id="train", needs={"audit": [0]})
    Stage(task_id="verify", needs={"train": [0]})
    Stage(task_id="compare", needs={"train": [0]})
    Stage(task_id="ship", needs={"verify": [0], "compare": [0]})
    Stage(task_id="explain", needs={"train": [0], "compare": [11]})
    for stage in dag.tasks:
        stage.set_upstream([dag.get_task(need) for need in stage.needs])
"""
    )
    assert 'COMMAND = ["/opt/venv/bin/python", "-m", "hf_trainpipe", "pipeline", "stage", "pipeline.py"]' in written
    assert "INTERRUPTIONS = 3 " in written
    assert "RETRIES = 5 " in written


class Ended(Exception):
    """How Airflow is told: the names of its exceptions."""


def airflow_module(pipeline: Pipeline, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The emitted file as a module, with as much of Airflow's SDK as it names."""

    class Task:
        def __init__(self, *, task_id: str) -> None:
            self.task_id, self.downstream_list, self.log = task_id, [], types.SimpleNamespace(info=lambda *_: None)
            dag.tasks.append(self)

        def set_upstream(self, needs: list[Any]) -> None:
            for need in needs:
                need.downstream_list.append(self)

        def skip(self, ti: Any, tasks: list[Any]) -> None:
            self.skipped = [task.task_id for task in tasks]

    class Dag:
        def __init__(self, **_: Any) -> None:
            self.tasks: list[Any] = []
            nonlocal dag
            dag = self

        def __enter__(self) -> Dag:
            return self

        def __exit__(self, *_: object) -> None: ...

        def get_task(self, name: str) -> Any:
            return next(task for task in self.tasks if task.task_id == name)

    dag: Any = None
    sdk, errors = types.ModuleType("airflow.sdk"), types.ModuleType("airflow.sdk.exceptions")
    vars(sdk).update(DAG=Dag, BaseOperator=Task, SkipMixin=type("SkipMixin", (), {}))
    for name in ("AirflowException", "AirflowFailException", "AirflowRescheduleException"):
        setattr(errors, name, type(name, (Ended,), {}))
    monkeypatch.setitem(sys.modules, "airflow", types.ModuleType("airflow"))
    monkeypatch.setitem(sys.modules, "airflow.sdk", sdk)
    monkeypatch.setitem(sys.modules, "airflow.sdk.exceptions", errors)
    module: dict[str, Any] = {"__name__": "emitted"}
    exec(text(pipeline, "airflow", folder=str(folder)), module)
    module["COMMAND"] = [sys.executable, "-c", ENDS]
    monkeypatch.setattr(module["time"], "sleep", lambda _: None)
    return module


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        *((code, "AirflowFailException") for code in (1, 2, 3, 4, 6, 7)),
        (5, "AirflowException"),
        (75, "AirflowRescheduleException"),
        (0, ["explain"]),
        (11, ["ship"]),
        (10, ["ship", "explain"]),
    ],
)
def test_airflows_operator_does_what_the_code_says(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, ending: str | list[str]
) -> None:
    module = airflow_module(pipeline, tmp_path, monkeypatch)
    compare = module["dag"].get_task("compare")
    (tmp_path / "codes").write_text(f"{code} ")
    if isinstance(ending, list):
        compare.execute({"ti": None})
        assert compare.skipped == ending
        return
    with pytest.raises(Ended) as raised:
        compare.execute({"ti": None})
    assert type(raised.value).__name__ == ending


def test_airflow_ends_a_stage_that_is_interrupted_too_often(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = airflow_module(pipeline, tmp_path, monkeypatch)
    (tmp_path / "codes").write_text("75 75")
    for before, ending in ((2, "AirflowRescheduleException"), (3, "AirflowFailException")):
        with pytest.raises(Ended) as raised:
            module["dag"].get_task("train").execute({"ti": None, "task_reschedule_count": before})
        assert type(raised.value).__name__ == ending


def test_what_a_command_says_ends_no_airflow_task_whatever_bytes_it_has(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = airflow_module(pipeline, tmp_path, monkeypatch)
    module["COMMAND"] = [
        sys.executable,
        "-c",
        "import sys; sys.stdout.buffer.write(b'\\xe2\\x96')",
    ]  # two bytes of three
    said: list[Any] = []
    train = module["dag"].get_task("train")
    train.log.info = lambda *told: said.append(told)
    train.execute({"ti": None})
    assert said[0] == ("\ufffd",)


def kfp_component(pipeline: Pipeline, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The function of the component, which KFP sends by its source."""
    tree = ast.parse(text(pipeline, "kfp", folder=str(folder), python=sys.executable))
    stage = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "stage")
    stage.decorator_list = []
    for node in ast.walk(stage):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "command":
            assert ast.unparse(node.value).endswith("'hf_trainpipe', 'pipeline', 'stage', 'pipeline.py'] + [name]")
            node.value = ast.parse(repr([sys.executable, "-c", ENDS]), mode="eval").body
    module: dict[str, Any] = {}
    exec(compile(ast.Module([stage], []), "component", "exec"), module)
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    return module["stage"]


@pytest.mark.parametrize(
    ("codes", "ending", "left"),
    [
        ("0", 0, ""),
        ("10", 10, ""),
        ("75 75 75 11", 11, ""),
        ("75 75 75 75 0", SystemExit(75), "0"),
        ("5 75 5 0", 0, ""),
        ("2 0", SystemExit(2), "0"),
        ("7 0", SystemExit(7), "0"),
    ],
)
def test_kfps_component_starts_the_command_again_where_the_table_says_so(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codes: str, ending: int | SystemExit, left: str
) -> None:
    stage = kfp_component(pipeline, tmp_path, monkeypatch)
    (tmp_path / "codes").write_text(codes)
    if isinstance(ending, int):
        assert stage("train", ["0.0"], [[0.0]]) == ending  # KFP hands a list over as floats, or as their texts
    else:
        with pytest.raises(SystemExit) as raised:
            stage("train", [], [])
        assert raised.value.code == ending.code
    assert (tmp_path / "codes").read_text() == left


def test_kfps_component_leaves_its_command_out_after_another_branch(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = kfp_component(pipeline, tmp_path, monkeypatch)
    assert stage("explain", ["0.0", "0.0"], [[0.0], [11.0]]) == -1  # and finds no file `codes`
    assert stage("next", ["-1.0"], [[0.0]]) == -1
    assert '    run("explain", {"train": [0], "compare": [11]})\n' in text(pipeline, "kfp")


def test_a_trainjob_is_a_chain_of_jobs_that_fail_by_exit_code(pipeline: Pipeline) -> None:
    written = text(pipeline, "trainjob", nodes=2, gpus=4, image="mine:1", volume="claim")
    runtime, job = yaml.safe_load_all(written)
    jobs = {one["name"]: one for one in runtime["spec"]["template"]["spec"]["replicatedJobs"]}
    assert list(jobs) == ["audit", "node", "verify"]  # what compare answers decides
    assert "jobs have no branches: compare, ship, explain." in " ".join(written.replace("#", "").split())
    assert [one.get("dependsOn") for one in jobs.values()] == [
        None,
        [{"name": "audit", "status": "Complete"}],
        [{"name": "node", "status": "Complete"}],
    ]
    for name, one in jobs.items():
        spec = one["template"]["spec"]
        rules = spec["podFailurePolicy"]["rules"]
        assert rules[0] == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
        again = set(rules[1]["onExitCodes"]["values"])
        assert (rules[1]["action"], rules[1]["onExitCodes"]["operator"]) == ("FailJob", "NotIn")
        assert {code for code in EXIT_CODES if code in again} == {5, 75}
        assert spec["backoffLimit"] == (6 if name == "node" else 3)
        assert spec["template"]["spec"]["restartPolicy"] == "Never"
    steps = {step.name: step for step in lower(pipeline)}
    assert jobs["audit"]["template"]["spec"]["template"]["spec"]["containers"][0]["command"] == list(
        steps["audit"].command
    )
    assert job["spec"]["trainer"] == {
        "image": "mine:1",
        "command": list(steps["train"].command),
        "numNodes": 2,
        "numProcPerNode": 4,
        "resourcesPerNode": {"limits": {"nvidia.com/gpu": "4"}},
    }
    assert "ttl" not in str(runtime)


def test_a_pipeline_that_trains_nothing_is_no_trainjob(pipeline: Pipeline) -> None:
    checks = load(f"{pipeline.folder / 'pipeline.py'}:only_checks")
    with pytest.raises(RecipeError, match=r"of the stages that it can run \(audit\) none does"):
        text(checks, "trainjob")
    assert '"pipeline.py:only_checks"' in text(checks, "airflow")  # the command names the function


def test_machines_are_told_by_the_environment() -> None:
    told = {
        "PET_NNODES": "2",
        "PET_NODE_RANK": "1",
        "PET_NPROC_PER_NODE": "4",
        "PET_MASTER_ADDR": "a",
        "PET_MASTER_PORT": "29500",
    }
    nodes = nodes_of(told)
    assert nodes is not None
    expected = "launch --multi_gpu --mixed_precision no --dynamo_backend no --num_machines 2 --num_processes 8 --machine_rank 1 "
    expected += "--main_process_ip a --main_process_port 29500 -m hf_trainpipe train r.py --seed 3"
    assert nodes.command(("train", "r.py", "--seed", "3")) == tuple(expected.split())
    launched = nodes.command(("launch", "--config_file", "c.yaml", "-m", "hf_trainpipe", "train", "r.py"))
    assert launched[:3] == ("launch", "--config_file", "c.yaml")
    assert launched[-4:] == (
        "-m",
        "hf_trainpipe",
        "train",
        "r.py",
    )
    assert nodes.command(("tune", "r.py")) == ("tune", "r.py")
    assert nodes_of({}) is None
    assert nodes_of({**told, "PET_NNODES": "1", "PET_NPROC_PER_NODE": "1"}) is None
    with pytest.raises(RecipeError, match="PET_MASTER_ADDR=''"):
        nodes_of({**told, "PET_MASTER_ADDR": ""})


HOSTILE = """it's a "file" \\n $(id) $HOME `id` %d \u00e9\U0001f600 # : -.py"""
"""The name of a pipeline's file, and of its folder."""
RUNS = "to % 'run' $0"


def words_of(line: str) -> list[str]:
    return shlex.split(line.replace("\\%", "%"))


@pytest.mark.parametrize("engine", ENGINES)
def test_hostile_names_stay_what_they_are_in_what_is_emitted(tmp_path: Path, engine: str) -> None:
    folder = tmp_path / HOSTILE
    folder.mkdir()
    reserved = FILE.replace('"reviews",', f'"null", runs={RUNS!r},', 1).replace('("audit",)', '("on",)')
    (folder / HOSTILE).write_text(reserved.replace('Audit("reviews.py")', 'Audit("reviews.py", name="on")'))
    python = f"{folder}/a python"
    (file,) = emit(load(str(folder / HOSTILE)), engine, tmp_path, folder=str(folder), python=python)
    written = file.read_text()
    command = [python, "-m", "hf_trainpipe", "pipeline", "stage", HOSTILE]
    state = f"{RUNS}/null"
    if engine in ("airflow", "kfp"):
        tree = ast.parse(written)
        lists = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.List)]
        assert repr(command) in lists
        assert str(folder) in [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
        assert f"emit {engine} {shlex.quote(HOSTILE)}`" in (ast.get_docstring(tree, clean=False) or "")
    elif engine == "trainjob":
        runtime, job = yaml.safe_load_all(written)
        one, *_ = runtime["spec"]["template"]["spec"]["replicatedJobs"]
        container = one["template"]["spec"]["template"]["spec"]["containers"][0]
        assert (one["name"], container["workingDir"]) == ("on", str(folder))
        for name, given in (("on", container["command"]), ("train", job["spec"]["trainer"]["command"])):
            assert [word.replace("$$", "$") for word in given] == [*command, name]  # which Kubernetes does
            assert not any("$(" in word.replace("$$", "") for word in given)
    elif engine == "actions":
        workflow = yaml.safe_load(written)
        job = workflow["jobs"]["null"]
        assert (workflow["name"], job["defaults"]["run"]["working-directory"]) == ("null", str(folder))
        steps = {step.get("name", ""): step for step in job["steps"]}
        assert steps["on"]["id"] == "on"
        assert shlex.split(steps["Install"]["run"])[0] == python
        assert steps["Keep the state"]["with"]["path"].splitlines()[0] == f"{folder}/{state}"
        script = steps["What the exit codes mean"]["run"]
        assert [*command, "$1", "&"] in [shlex.split(line) for line in script.splitlines() if "hf_trainpipe" in line]
    elif engine == "slurm":
        subprocess.run(["bash", "-n", file], check=True)
        lines = [words_of(line) for line in written.splitlines() if line.strip().startswith(("cd ", "mkdir "))]
        assert lines == [["cd", str(folder)], ["mkdir", "-p", state]]
        assert [*command, "$1", "&"] in [words_of(line) for line in written.splitlines() if "hf_trainpipe" in line]
        assert f"--output={RUNS.replace('%', '%%')}/null/$1.slurm.log" in words_of(written.partition("--job-name")[2])
    else:
        line = next(line for line in written.splitlines() if line.startswith("@reboot"))
        assert not re.search(r"(?<!\\)%", line)
        assert words_of(line)[1:10] == ["cd", str(folder), "&&", "mkdir", "-p", state, "&&", "flock", "-n"]
        assert words_of(line)[11:16] == [*command[:4], "run"]
        assert words_of(line)[16] == HOSTILE


@pytest.mark.parametrize(
    ("engine", "given", "told"),
    [
        ("cron", {"gpus": 4}, "--gpus: a file for cron has none"),
        (
            "kfp",
            {"schedule": "0 3 * * *"},
            "of kfp, make a recurring run. Engines that take it: actions, airflow, cron.",
        ),
        ("airflow", {"folder": "/two\nlines"}, "expected names and paths of one line, found '/two\\nlines'"),
    ],
)
def test_what_an_engine_cannot_take_is_said(pipeline: Pipeline, engine: str, given: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError) as raised:
        emit(pipeline, engine, pipeline.folder, **given)
    assert told in f"{raised.value.message} {raised.value.fix}"
    assert [path.name for path in pipeline.folder.iterdir() if path.is_file()] == ["pipeline.py"]


def test_a_trainjob_without_a_volume_mounts_none_and_its_names_fit(pipeline: Pipeline, tmp_path: Path) -> None:
    runtime, _ = yaml.safe_load_all(text(pipeline, "trainjob", volume=""))
    for job in runtime["spec"]["template"]["spec"]["replicatedJobs"]:
        pod = job["template"]["spec"]["template"]["spec"]
        assert not {"volumes", "volumeMounts"} & {*pod, *pod["containers"][0]}
    long = FILE.replace('"reviews"', f'"{"r" * 40}"').replace('("audit",)', f'("{"a" * 30}",)')
    (tmp_path / "long.py").write_text(long.replace('("reviews.py"),', f'("reviews.py", name="{"a" * 30}"),'))
    with pytest.raises(RecipeError, match=r"in at most 63 letters; of a{30} it would need 73"):
        text(load(str(tmp_path / "long.py")), "trainjob")


def test_emit_fills_in_where_commands_run(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    folder = pipeline.folder
    for engine, *options in (["airflow", "--schedule", "0 3 * * 1"], ["trainjob", "--folder", "/mnt/reviews"]):
        assert (
            dispatch(["pipeline", "emit", engine, str(folder / "pipeline.py"), "--output", str(folder), *options]) == 0
        )
    assert str(folder / "reviews_airflow.py") in capsys.readouterr().out
    written = (folder / "reviews_airflow.py").read_text()
    assert f'FOLDER = "{folder}"' in written
    assert f'COMMAND = ["{sys.executable}"' in written
    assert "schedule='0 3 * * 1'" in written
    job = (folder / "reviews_trainjob.yaml").read_text()
    assert "workingDir: /mnt/reviews\n" in job
    assert "command: [python, -m, hf_trainpipe" in job
