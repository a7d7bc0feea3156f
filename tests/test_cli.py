"""The command line in process: dispatch, arguments, errors and exit codes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from hf_trainpipe.cli import guarded, main, run
from hf_trainpipe.cli.parser import split_fields
from hf_trainpipe.cli.verbs import VERBS
from hf_trainpipe.errors import PushError, TrainingDiverged, TrainpipeError
from hf_trainpipe.runtime.errors import InputError, MissingPipeline

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = """
from hf_trainpipe import HubData, Pretrained, Recipe, TextClassification, main

def recipe() -> Recipe:
    return Recipe(name="x", model=Pretrained("m"), data=HubData("a/b"), task=TextClassification())

if __name__ == "__main__":
    main(recipe)
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "r.py"
    path.write_text(RECIPE)
    return path


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in VERBS)
    assert all(len(line) <= 110 for line in shown.splitlines())
    assert run([]) == 2
    assert run(["--version"]) == 0


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: hf-trainpipe {verb} ")
    parser_options = {word for word in shown.split() if word.startswith("--")}
    assert "--help" in parser_options


def test_help_of_a_recipe_lists_its_fields(recipe_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", str(recipe_file), "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--optim.peak-lr  (a number; now 5e-05)" in shown
    assert "--resume" in shown


@pytest.mark.parametrize(
    ("argv", "messages"),
    [
        (["trian"], ["there is no verb 'trian'. Did you mean 'train'?", "Verbs: train, launch, show"]),
        (
            ["train"],
            ["train: the following arguments are required: RECIPE", "usage: hf-trainpipe train RECIPE"],
        ),
        (["train", "--seed", "3"], ["arguments are required: RECIPE"]),
        (["train", "{r}", "--resume", "sometimes"], ["--resume", "'auto', 'never', 'must'"]),
        (["train", "{r}", "--run-dir"], ["--run-dir: expected one argument"]),
        (
            ["train", "{r}", "--run-dri", "x"],
            ["--run-dri: the recipe has no such option. Did you mean '--run-dir'?"],
        ),
        (["train", "{r}", "--optim.peek-lr", "1"], ["Did you mean '--optim.peak-lr'?", "--optim.warmup"]),
        (["show", "{r}", "--seed", "three"], ["--seed: expected a whole number, found 'three'."]),
        (["show", "{r}", "again"], ["show: unrecognized arguments: again"]),
        (["doctor", "--jsno"], ["unrecognized arguments: --jsno. Did you mean '--json'?"]),
        (["evaluate", "{d}/runz"], ["there is no such run or package. Did you mean '{d}/runs'?"]),
        (["evaluate", "{d}/runs", "--split", "train"], ["--split", "'validation', 'test'"]),
        (["verify", "{d}/nothing"], ["{d}/nothing: there is no such package"]),
        (
            ["predict", "{d}/runs", "--input", "{d}/no.txt", "--output", "-"],
            ["no.txt: there is no such input file"],
        ),
        (["predict", "{d}/runs", "--input", "-"], ["the following arguments are required: --output"]),
        (["predict", "{d}/runs", "--input", "-", "--ouput", "-"], ["no option --ouput. Did you mean '--output'?"]),
        (["{r}"], ["expected a verb before {r}", "hf-trainpipe train {r}"]),
        (
            ["predict", "{d}/runs", "--input", "-", "--output", "-", "--param", "x"],
            ["expected NAME=VALUE, found 'x'"],
        ),
        (["push", "{d}/runs"], ["expected either a repository or --retry"]),
        (["track", "snyc", "{d}/runs"], ["invalid choice: 'snyc'"]),
    ],
)
def test_mistakes_are_one_screen_and_exit_2(
    argv: list[str], messages: list[str], recipe_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = recipe_file.parent
    (folder / "runs").mkdir()
    names = {"r": recipe_file, "d": folder}
    assert run([argument.format(**names) for argument in argv]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    for message in messages:
        assert message.format(**names) in shown.err
    assert "Traceback" not in shown.err
    assert len(shown.err.splitlines()) < 40


def test_the_verb_s_own_options_and_the_recipe_s() -> None:
    argv = [
        "r.py",
        "--task.names",
        "a",
        "b",
        "--json",
        "--seed",
        "-1",
        "--run-dir",
        "d",
        "--x=1",
        "--allow-change",
        "p",
    ]
    own, fields = split_fields([*argv, "q"], {"--json", "--run-dir", "--allow-change"})
    assert own == ["r.py", "--json", "--run-dir", "d", "--allow-change", "p", "q"]
    assert fields == ["--task.names", "a", "b", "--seed", "-1", "--x=1"]


def fail(error: BaseException) -> Any:
    def action() -> int:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (TrainpipeError("bad", fix="do this\nor that"), 2, "error: bad\n\n  do this\n  or that\n"),
        (TrainpipeError("bad", fix=""), 2, "error: bad\n"),
        (TrainingDiverged("nan", fix="lower it"), 4, "error: nan\n\n  lower it\n"),
        (PushError("no", fix="again"), 5, "error: no\n\n  again\n"),
        (InputError("what", fix="this"), 2, "error: what\n\n  this\n"),
        (MissingPipeline("gone", fix="install"), 2, "error: gone\n\n  install\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_exit_codes(error: BaseException, code: int, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(fail(error)) == code
    assert capsys.readouterr().err == shown


def test_our_own_fault_shows_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(fail(ZeroDivisionError("x"))) == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "Please report it" in shown


def test_only_rank_0_speaks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANK", "1")
    assert guarded(fail(TrainpipeError("bad", fix="x"))) == 2
    assert capsys.readouterr().err == ""
    assert guarded(fail(ZeroDivisionError("x"))) == 1
    assert "Traceback" in capsys.readouterr().err


def test_main_of_a_recipe_file(recipe_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__file__": str(recipe_file), "__name__": "not_main"}
    exec(compile(RECIPE, str(recipe_file), "exec"), names)
    with pytest.raises(SystemExit) as caught:
        main(names["recipe"], ["--optim.peek-lr", "1"])
    assert caught.value.code == 2
    assert "Did you mean '--optim.peak-lr'?" in capsys.readouterr().err
    main(names["recipe"], ["--help"])  # 0 does not raise
    assert f"fields of {recipe_file}:" in capsys.readouterr().out


def test_doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_canary0123456789")
    assert run(["doctor", "--json"]) == 0
    shown = capsys.readouterr().out
    facts = json.loads(shown)
    assert "cpu" in facts["devices"]
    assert facts["versions"]["torch"]
    assert facts["hub_token_in_environment"] is True
    assert "canary" not in shown
    assert run(["doctor"]) == 0
    assert "torch uses" in capsys.readouterr().out


def test_evaluate_uses_the_recorded_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"recipe": {"kind": "Recipe", "name": 3}}))
    assert run(["evaluate", str(tmp_path)]) == 2
    shown = capsys.readouterr().err
    assert "its recorded recipe cannot be used: name: expected text, found 3." in shown
    assert "--recipe" in shown
    (tmp_path / "run.json").write_text("{")
    for verb in ("evaluate", "package"):
        assert run([verb, str(tmp_path)]) == 2
        assert "its recorded recipe cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["evaluate", "verify", "predict", "push"])
def test_a_folder_that_is_no_package(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.txt").write_text("a text\n")
    more = {"predict": ["--input", str(tmp_path / "in.txt"), "--output", "-"], "push": ["me/x"]}.get(verb, [])
    code = run([verb, str(tmp_path), *more])
    shown = capsys.readouterr().err
    assert code == 2
    assert "is not a package" in shown
    assert "Traceback" not in shown


def test_a_run_without_trackers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["track", "sync", str(tmp_path)]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_errors_are_events_where_json_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", str(tmp_path / "none.py"), "--log", "json"]) == 2
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert events[-1]["event"] == "error"
    assert (events[-1]["exit_code"], "none.py" in events[-1]["message"]) == (2, True)
    assert run(["train", str(tmp_path / "none.py")]) == 2
    assert capsys.readouterr().err.startswith("error: "), "the next command is as before"
