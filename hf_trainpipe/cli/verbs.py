"""The verbs. Each is a small function that imports its worker when it runs."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hf_trainpipe.cli.asking_verbs import ASKING_VERBS
from hf_trainpipe.cli.package_verbs import PACKAGE_VERBS
from hf_trainpipe.cli.parser import UsageError, Verb, busy, existing, is_main_process, print_result
from hf_trainpipe.cli.run_verbs import RUN_VERBS
from hf_trainpipe.cli.shown import show_machine, show_sync
from hf_trainpipe.errors import PushError

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.recipe_file import RecipeSource


def _recipe(arguments: argparse.Namespace) -> tuple[Recipe, RecipeSource]:
    from hf_trainpipe.recipe_file import load, override

    recipe, source = (arguments.load or load)(arguments.recipe)
    recipe = override(recipe, arguments.fields, verb_options=arguments.own_options)
    return recipe, replace(source, overrides=tuple(arguments.fields))


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="FILE.py, FILE.py:FUNCTION or FILE.json")
    parser.add_argument("--run-dir", metavar="D", type=Path, help="folder of the run; runs/NAME by default")
    parser.add_argument(
        "--resume",
        choices=("auto", "never", "must"),
        default="auto",
        help="auto continues an interrupted run or starts one; must fails where there is none",
    )
    parser.add_argument(
        "--resume-from",
        metavar="hub:USER/NAME",
        help="take run and checkpoints from the Hub, where the run's folder is empty; @COMMIT names an earlier state",
    )
    parser.add_argument(
        "--allow-change",
        metavar="FIELD",
        nargs="+",
        action="extend",
        default=[],
        help="fields a resume may change",
    )
    parser.add_argument(
        "--extend",
        action="store_true",
        help="train the run that is there longer, to a larger budget: --extend --budget.epochs 5",
    )
    parser.add_argument(
        "--verify-resume",
        action="store_true",
        help="before packaging, kill a copy of the run, resume it and compare bit for bit; the model card tells",
    )
    parser.add_argument("--planned-stop", metavar="kill:STEP|stop:STEP", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print the result as one line of JSON, last")


def _train(arguments: argparse.Namespace) -> int:
    recipe, source = _recipe(arguments)
    with busy("starting"):
        from hf_trainpipe.training.execute import execute
        from hf_trainpipe.training.options import RunOptions
        from hf_trainpipe.training.signals import PlannedStop

    if arguments.planned_stop:  # a copy of a run: no trackers, no pushes
        recipe = replace(recipe, trackers=(), hub=None)
    if arguments.extend and (arguments.resume == "never" or arguments.allow_change):
        raise UsageError(
            "train: --extend goes on with a run and changes its budget alone; it does not go with --resume never or "
            "--allow-change.",
            fix="Leave one of the two out.",
        )
    if arguments.resume_from and arguments.resume == "never":
        raise UsageError(
            "train: --resume-from continues a run, and --resume never starts one.", fix="Leave one of the two out."
        )
    options = RunOptions(
        source=source,
        resume=arguments.resume,
        allow_change=frozenset(arguments.allow_change),
        resume_from=arguments.resume_from,
        extend=arguments.extend,
        verify_resume=arguments.verify_resume,
        planned_stop=PlannedStop.parse(arguments.planned_stop) if arguments.planned_stop else None,
    )
    result = execute(recipe, run_dir=arguments.run_dir, options=options)
    if is_main_process():
        print(json.dumps(result.to_json(), ensure_ascii=False) if arguments.json else result.summary())
    if result.push.get("state") == "failed":
        raise PushError(f"The run is complete, its push is not: {result.push['error']}", fix=result.push["fix"])
    return 0


def _launch_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("command", metavar="...", help="what accelerate launch takes: its options, then the command")


def _launch(arguments: argparse.Namespace) -> int:
    from hf_trainpipe.cli.launch import launch

    return launch(arguments.command)


def _show_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="FILE.py, FILE.py:FUNCTION or FILE.json")
    parser.add_argument("--json", action="store_true")


def _show(arguments: argparse.Namespace) -> int:
    recipe, source = _recipe(arguments)
    from hf_trainpipe.training.show import look
    from hf_trainpipe.utils.resources import search_folders

    with search_folders(source.path.parent):
        found = look(recipe)
    if arguments.json:
        print_result(found.to_json(), as_json=True)
    else:
        print(found)
    return 0


def _track_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("sync",), help="sync: send what a tracker has not received yet")
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    parser.add_argument("--json", action="store_true")


def _track(arguments: argparse.Namespace) -> int:
    run = existing(arguments.run, "run")
    from hf_trainpipe.tracking.follower import sync

    report = sync(run)
    print_result({"complete": report.complete, **asdict(report)}, as_json=arguments.json, show=show_sync)
    return 0 if report.complete else PushError.exit_code


def _doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true")


def _doctor(arguments: argparse.Namespace) -> int:
    from hf_trainpipe.cli.doctor import examine

    print_result(examine(), as_json=arguments.json, show=show_machine)
    return 0


def _completion_arguments(parser: argparse.ArgumentParser) -> None:
    from hf_trainpipe.cli.completion import SHELLS

    parser.add_argument("shell", choices=SHELLS, help='for: eval "$(hf-trainpipe completion bash)" in ~/.bashrc')


def _completion(arguments: argparse.Namespace) -> int:
    from hf_trainpipe.cli.completion import script

    print(script(arguments.shell, VERBS))
    return 0


_FIELDS = "[--FIELD VALUE ...]"
VERBS: dict[str, Verb] = {
    "train": Verb(
        "train, evaluate and package; the same command continues an interrupted run",
        f"RECIPE [--run-dir D] [--resume auto|never|must] [--resume-from hub:USER/NAME] [--allow-change FIELD ...] [--extend] [--verify-resume] [--json] {_FIELDS}",
        _train_arguments,
        _train,
        takes_fields=True,
    ),
    "launch": Verb(
        "accelerate launch that forwards signals, reaps, and exits with 75 when a run can be resumed",
        "[ACCELERATE OPTIONS] RECIPE.py ... | -m hf_trainpipe train RECIPE ...",
        _launch_arguments,
        _launch,
        raw=True,
    ),
    "show": Verb(
        "print a recipe and what follows from it; loads no weights",
        f"RECIPE [--json] {_FIELDS}",
        _show_arguments,
        _show,
        takes_fields=True,
    ),
    **ASKING_VERBS,
    **PACKAGE_VERBS,
    "track": Verb("track sync RUN: bring trackers up to date", "sync RUN [--json]", _track_arguments, _track),
    **RUN_VERBS,
    "completion": Verb(
        "what a shell reads to complete this command", "bash|zsh|fish", _completion_arguments, _completion
    ),
    "doctor": Verb("versions, threads, devices, free space", "[--json]", _doctor_arguments, _doctor),
}
