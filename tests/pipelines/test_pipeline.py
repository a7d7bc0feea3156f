"""What a pipeline says of itself: order, what comes before what, mistakes, the lowered form, the picture, the table of exit codes."""

from __future__ import annotations

import re
import signal
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hf_trainpipe import errors
from hf_trainpipe.cli import run
from hf_trainpipe.cli.parser import split_fields
from hf_trainpipe.cli.verbs import VERBS
from hf_trainpipe.errors import DRIFTED, EXIT_CODES, NOT_SHOWN, DataError, RecipeError, TrainpipeError
from hf_trainpipe.pipelines import (
    Audit,
    Deploy,
    Evaluate,
    Ingest,
    Package,
    Pipeline,
    Promote,
    Push,
    Retrain,
    Stage,
    Train,
    Verb,
    Verify,
    Watch,
)
from hf_trainpipe.pipelines.file import load
from hf_trainpipe.pipelines.hashes import content_hashes
from hf_trainpipe.pipelines.local import Engine
from hf_trainpipe.pipelines.lowered import lower, why_left_out
from hf_trainpipe.pipelines.picture import svg
from hf_trainpipe.pipelines.processes import Stopping
from hf_trainpipe.pipelines.recipe_inputs import recipe_hashes
from hf_trainpipe.pipelines.stage_run import standing_of
from hf_trainpipe.pipelines.standing import look
from hf_trainpipe.recipe.source import RecipeSource

FILE = """
from hf_trainpipe.pipelines import *

def pipeline() -> Pipeline:
    return Pipeline("support", stages=(
        Verb("promote", command=("completion", "bash"), after=("retrain",)),
        Verb("retrain", command=("completion", "bash"), after=("push",), runs_if={"watch": (10,)}),
        Verb("watch", command=("completion", "{package}"), inputs=("log.jsonl",)),
        Push("verify", repo="me/support"),
        Verify("package"),
        Package("train", after=("evaluate",)),
        Evaluate("train", split="test"),
        Train("support.py", fields=("--seed", "3"), after=("audit",)),
        Audit("support.py", fields=("--seed", "3")),
    ))

def small() -> Pipeline:
    return Pipeline("small", stages=(Train("support.py"),))
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "line.py"
    path.write_text(FILE)
    return path


def test_steps_come_after_their_needs_and_are_commands_of_the_file(file: Path) -> None:
    steps = {step.name: step for step in lower(load(str(file)))}
    assert list(steps) == ["audit", "train", "evaluate", "package", "watch", "verify", "push", "retrain", "promote"]
    assert steps["train"].command == ("python", "-m", "hf_trainpipe", "pipeline", "stage", "line.py", "train")
    assert [name for name, step in steps.items() if step.trains] == ["train"]
    assert steps["retrain"].needs == ("watch", "push")
    assert steps["retrain"].runs_if == {"watch": (10,), "push": (0,)}
    assert steps["package"].needs == ("evaluate", "train")
    (only,) = lower(load(f"{file}:small"))
    assert only.command[-2:] == ("line.py:small", "train")


def test_stages_are_commands_of_the_command_line_over_each_others_folders(file: Path) -> None:
    pipeline = load(str(file))
    words = {stage.name: " ".join(stage.words(pipeline)) for stage in pipeline.stages}
    assert words["train"] == "train support.py --seed 3 --run-dir runs/support/train"
    assert words["evaluate"] == "evaluate runs/support/train --split test --json"
    assert words["push"] == "push runs/support/train me/support --json"
    assert words["verify"] == "verify runs/support/train/package --json"
    assert words["watch"] == "completion runs/support/package"
    assert "runs/support/train/package" in pipeline.stage("verify").reads(pipeline)


EVERY = (
    Ingest(("raw/*.csv", "more.csv"), to="shards", text=("text",), validation=0.1, test="test.csv"),
    Audit("x.py", fields=("--data.root", "d"), no_model=True),
    Train("x.py", fields=("--seed", "3"), options=("--verify-resume",)),
    Package("train", int8=True, recipe="x.py"),
    Evaluate("package", split="test", recipe="x.py"),
    Evaluate("package", name="gold", file="gold.csv"),
    Verify("package", clean=True),
    Push("verify", repo="me/x", public=True, revision="r", tag="none"),
    Deploy("verify", over="aliases/x", recipe="x.py"),
    Watch("deploy", input="log.csv", column="text", window=100),
    Retrain("x.py", labels=("new.csv", "newer.csv"), begin="train", fields=("--seed", "4"), ranks=2, after=("watch",)),
    Promote("retrain", over="aliases/x", test=("t.csv",), fresh=("a.csv", "b.csv"), margin=1.0),
)


@pytest.mark.parametrize("stage", EVERY, ids=lambda stage: stage.name)
def test_the_command_line_takes_what_a_stage_says(stage: Stage) -> None:
    pipeline = Pipeline("p", stages=EVERY)
    name, *rest = stage.words(pipeline)
    if name not in VERBS:
        pytest.skip(f"there is no verb {name} yet")
    parser = VERBS[name].parser()
    fields: list[str] = []
    if VERBS[name].takes_fields:
        rest, fields = split_fields(rest, set(parser._option_string_actions))
    given = vars(parser.parse_args(rest))
    assert given.get("json") is not stage.trains
    recipe = stage.recipe_of()
    assert fields == ([] if recipe is None else list(recipe[1]))
    if isinstance(stage, Retrain):
        assert given["labels"] == ["new.csv", "newer.csv"]
        assert given["begin"] == "runs/p/train"
    if isinstance(stage, Ingest):
        assert given["files"] == ["raw/*.csv", "more.csv"]


def test_a_stage_reads_what_tells_whether_the_run_that_it_uses_is_another_one() -> None:
    again = Retrain("x.py", labels=("new.csv",), begin="./old")
    small = Verb("small", command=("train", "x.py", "--run-dir", "{self}", "--validation-only"))
    users = (Evaluate("retrain"), Watch("retrain", input="log.csv"), Package("./champion"))
    told = Verb("compare", command=("compare", "{retrain}", "{small}"))
    later = Retrain("x.py", labels=("l",), name="later", begin="package", after=("watch",))
    pipeline = Pipeline("p", stages=(again, small, *users, told, later))
    assert later.reads(pipeline) == ("l", "./champion")
    weights = "runs/p/retrain/package/*.safetensors"
    assert {name: pipeline.stage(name).reads(pipeline) for name in ("retrain", "evaluate", "watch", "package", "compare")} == {
        "retrain": ("new.csv", "./old/**/*.safetensors"),
        "evaluate": (weights, "runs/p/retrain/recorded.jsonl"),
        "watch": (weights, "runs/p/retrain/recorded.jsonl", "log.csv"),
        "package": ("./champion/**/*.safetensors",),
        "compare": (weights, "runs/p/retrain/recorded.jsonl", "runs/p/small/run.json"),
    }  # fmt: skip


@pytest.mark.parametrize("folder", ["champion", "champion/package"])
def test_the_weights_of_a_run_and_of_a_package_are_found(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "model.safetensors").write_text("1")
    pipeline = Pipeline("p", stages=(Package("./champion"),))
    assert content_hashes(pipeline.stage("package").reads(pipeline), tmp_path, whose="package reads")


def test_a_request_to_end_is_a_signal_that_is_not_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with Stopping().by_signals() as stopping:
            signal.raise_signal(signal.SIGHUP)
            assert not stopping.asked
            signal.raise_signal(signal.SIGTERM)
            assert stopping.asked
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_is_written_by_one_and_read_by_another_orders_them() -> None:
    shards = Verb("shards", command=("completion", "bash"), outputs=("data/shards",))
    train = Train("x.py", inputs=("data/shards/*.parquet",))
    assert Pipeline("p", stages=(train, shards)).needs_of("train") == ("shards",)


def test_a_pipeline_of_many_ways_is_looked_at_once_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    layers = [
        Verb(f"{side}{n}", command=("completion", "bash"), after=(f"a{n - 1}", f"b{n - 1}") if n else ())
        for n in range(14)
        for side in "ab"
    ]
    pipeline = Pipeline("wide", stages=tuple(layers))
    assert standing_of(pipeline, "a13") == ("waits", "expected a0 to be done before, found no stage.json of it.")
    seen = look(replace(pipeline, source=RecipeSource(tmp_path / "x.py", "pipeline")))
    assert svg("wide", seen).count('<path d="M') == 4 * 13  # 2^13 ways from the last layer to the first


def test_why_a_stage_is_left_out() -> None:
    assert why_left_out({"train": 0, "watch": 10}, {"watch": (10,)}) == ""
    assert why_left_out({"watch": 0}, {"watch": (10, 11)}) == (
        "watch ended with 0 done, and it runs after 10 drifted or 11 not-shown"
    )
    assert why_left_out({"train": 0, "watch": None}, {}) == "watch was left out"


VERB = ("completion", "bash")
ENDS = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(int(sys.argv[1])))
print("at work", file=sys.stderr, flush=True)
signal.pause()
"""
"""A stage that ends with a code where it is asked to."""


def test_a_stage_that_fails_while_all_are_asked_to_end_has_failed(tmp_path: Path) -> None:
    codes = {"saves": 75, "fails": 2}
    stages = tuple(Verb(name, command=VERB) for name in codes)
    source = RecipeSource(tmp_path / "x.py", "pipeline")
    stopping = Stopping()
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        stopping.asked = len(said) == len(codes)  # all are at work

    engine = Engine(Pipeline("p", stages=stages, source=source), parallel=2, say=say)
    engine.steps = tuple(replace(step, command=("python", "-c", ENDS, str(codes[step.name]))) for step in engine.steps)
    assert engine.run(stopping) == 2
    assert [(ran.outcome, ran.code) for ran in engine.ran.values()] == [("interrupted", 75), ("failed", 2)]


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        ([Train("x.py"), Evaluate("trian")], "evaluate: expected the name of another stage, found 'trian'. Did you mean 'train'?"),
        ([Train("x.py"), Train("y.py")], "two stages are called 'train'"),
        ([Verb("a", command=VERB, after=("b",)), Verb("b", command=VERB, after=("a",))], "in a circle: a, b"),
        ([Train("x.py"), Verify("evaluate"), Evaluate("verify"), Push("verify", repo="me/x")], "in a circle: verify, evaluate, verify."),
        ([Package("train"), Retrain("x.py", labels=("l",), begin="package", name="train")], "in a circle: package, train, package."),
        ([Verb("a", command=VERB), Verify("a")], "a leaves no run that another stage could use"),
        ([Train("x.py"), Package("train"), Verify("train")], "package writes runs/p/train/package, which verify uses, and neither"),
        ([], "expected one stage or more"),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_anything_runs(stages: list[Stage], told: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(told)):
        Pipeline("p", stages=tuple(stages))


def test_mistakes_in_a_stage() -> None:
    with pytest.raises(RecipeError, match=re.escape("train.after: expected a tuple of texts, found 'audit'")):
        Train("x.py", after="audit")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="exit codes that are no failures, found \\(2,\\)"):
        Train("x.py", runs_if={"watch": (2,)})
    for name in ("Train me", "train-"):
        with pytest.raises(RecipeError, match="lower-case letters"):
            Train("x.py", name=name)
    with pytest.raises(RecipeError, match="a folder without"):
        Pipeline("p", stages=(Train("x.py"),), runs="runs[1]")


def test_a_file_without_the_function_says_what_it_has(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pipeline", "show", f"{file}:smal"]) == 2
    said = capsys.readouterr().err
    assert "no function 'smal'" in said
    assert "Did you mean 'small'?" in said


def test_the_picture_is_xml_with_every_stage_and_branch(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    pipeline = load(str(file))
    root = ElementTree.fromstring(svg(pipeline.name, look(pipeline)))
    texts = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {stage.name for stage in pipeline.stages} <= set(texts)
    assert "10 drifted" in texts
    boxes = [
        {side: float(node.attrib[side]) for side in ("x", "y", "width", "height")}
        for node in root.iter("{http://www.w3.org/2000/svg}rect")
    ]
    assert len(boxes) == len(pipeline.stages)
    for number, one in enumerate(boxes):
        for two in boxes[:number]:
            beside = one["x"] + one["width"] <= two["x"] or two["x"] + two["width"] <= one["x"]
            assert beside or one["y"] + one["height"] <= two["y"] or two["y"] + two["height"] <= one["y"]


def test_a_folders_hash_follows_names_and_content(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a.csv").write_text("1")

    def now() -> tuple[str, str]:
        found = content_hashes(["d", "d/*.csv"], tmp_path, whose="x reads")
        return found["d"], found["d/*.csv"]

    first = now()
    (tmp_path / "d/.hidden").write_text("1")
    assert now() == first
    (tmp_path / "d/a.csv").write_text("2")
    second = now()
    (tmp_path / "d/a.csv").rename(tmp_path / "d/b.csv")
    assert len({first, second, now()}) == 3
    with pytest.raises(DataError, match="x reads e: expected a file or a folder"):
        content_hashes(["e"], tmp_path, whose="x reads")


RECIPE = """
from hf_trainpipe import Files, Pretrained, Recipe, TextClassification

def recipe() -> Recipe:
    return Recipe(name="x", model=Pretrained("m"), data=Files(train="train*.csv", validation=0.1), task=TextClassification())
"""


def test_a_stage_depends_on_what_its_recipe_says_its_own_code_and_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.py").write_text(RECIPE)
    (tmp_path / "train.csv").write_text("text,label\na,b\n")

    def now(*fields: str) -> dict[str, str]:
        return recipe_hashes("r.py", fields, tmp_path, whose="train reads")

    first = now()
    assert list(first) == ["r.py", "train.csv"]
    (tmp_path / "r.py").write_text("# A comment.\n" + RECIPE)
    assert now() == first
    assert now("--seed", "3")["r.py"] != first["r.py"]
    (tmp_path / "train.csv").write_text("text,label\na,c\n")
    assert now()["train.csv"] != first["train.csv"]
    own = RECIPE.replace("TextClassification())", "Own())").replace(
        "\ndef recipe",
        "\nfrom dataclasses import dataclass\n@dataclass(frozen=True)\nclass Own(TextClassification):\n    pass\n\ndef recipe",
    )
    (tmp_path / "r.py").write_text(own)
    before = now()
    (tmp_path / "r.py").write_text("# A comment.\n" + own)
    assert now() != before


def test_one_table_of_exit_codes() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TrainpipeError)]
    assert {getattr(kind, "exit_code", 2) for kind in kinds} <= set(EXIT_CODES)
    assert {code for code, row in EXIT_CODES.items() if row.branch} == {0, DRIFTED, NOT_SHOWN}
    assert {code for code, row in EXIT_CODES.items() if row.fails} == {1, 2, 3, 4, 6}
    section = (Path(__file__).parents[2] / "ARCHITECTURE.md").read_text().partition("\n## Exit codes\n")[2]
    rows = re.findall(r"^\| (\d+) \| `([\w-]+)` \| (.+?) \| (.+?) \|$", section.partition("\n## ")[0], re.MULTILINE)
    expected = [
        (str(code), row.name, row.meaning, {"again": "continues", "push": "the push alone"}.get(row.retried, "branch" if row.branch else "fails"))
        for code, row in EXIT_CODES.items()
    ]  # fmt: skip
    assert rows == expected
