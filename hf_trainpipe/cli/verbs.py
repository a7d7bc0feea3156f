"""The verbs. Each is a small function that imports its worker when it runs."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from hf_trainpipe.cli.asking_verbs import evaluate, named_recipe, predict
from hf_trainpipe.cli.audit_verb import audit
from hf_trainpipe.cli.auto_verb import auto
from hf_trainpipe.cli.baseline_verb import baseline
from hf_trainpipe.cli.behave_verb import behave
from hf_trainpipe.cli.check_verb import check
from hf_trainpipe.cli.completion import SHELLS
from hf_trainpipe.cli.crossval_verb import crossval
from hf_trainpipe.cli.ingest_verb import ingest
from hf_trainpipe.cli.learn_curve_verb import learn_curve
from hf_trainpipe.cli.package_verbs import package, push, serve, verify
from hf_trainpipe.cli.parser import Argument, UsageError, busy, existing, is_main_process, print_result, taken, verb
from hf_trainpipe.cli.pipeline_verb import pipeline
from hf_trainpipe.cli.promote_verb import promote
from hf_trainpipe.cli.report_verbs import compare, report
from hf_trainpipe.cli.retrain_verb import retrain
from hf_trainpipe.cli.rollback_verb import rollback
from hf_trainpipe.cli.run_verbs import runs, ui, verify_resume
from hf_trainpipe.cli.shown import show_exported, show_imported, show_machine, show_sync
from hf_trainpipe.cli.slices_verb import slices
from hf_trainpipe.cli.suggest_verb import suggest
from hf_trainpipe.cli.tune_verb import tune
from hf_trainpipe.cli.watch_verb import watch
from hf_trainpipe.errors import PushError
from hf_trainpipe.tracking.console import choose_form


@verb(
    "train",
    "train, evaluate and package; the same command continues an interrupted run",
    "RECIPE",
    Argument("--run-dir D", "folder of the run; runs/NAME by default", type=Path),
    Argument(
        "--rows FILE",
        "train, select and test on chosen rows of the data: a JSON file, for each split a list of [split of the data, [rows]]",
    ),
    Argument(
        "--added FILE",
        "further rows, as retrain writes them: a split called added, of which --rows may choose",
    ),
    Argument(
        "--resume auto|never|must",
        "auto continues an interrupted run or starts one; must fails where there is none",
        default="auto",
    ),
    Argument(
        "--resume-from hub:USER/NAME",
        "take run and checkpoints from the Hub, where the run's folder is empty; @COMMIT names an earlier state",
    ),
    Argument("--allow-change FIELD ...", "fields a resume may change", nargs="+", action="extend"),
    Argument("--extend", "train the run that is there longer, to a larger budget: --extend --budget.epochs 5"),
    Argument(
        "--verify-resume",
        "before packaging, kill a copy of the run, resume it and compare bit for bit; the model card tells",
    ),
    Argument(
        "--log auto|live|plain|json",
        "how progress is shown on standard error: auto redraws a few lines on a terminal and writes plain ones elsewhere; "
        "json writes an object a line",
        default="auto",
    ),
    Argument("--track NAME ...", "a further tracker: mlflow, tensorboard, ...; may be repeated"),
    Argument("--validation-only", "score validation alone and write no package, as trials of a search do"),
    Argument("--planned-stop kill:STEP|stop:STEP", argparse.SUPPRESS),
    Argument("--json", "print the result as one line of JSON, last"),
    takes_fields=True,
)
def train(arguments: argparse.Namespace) -> int:
    if is_main_process():
        choose_form(arguments.log)
    recipe, source = named_recipe(arguments)
    with busy("starting"):
        from hf_trainpipe.training.execute import execute
        from hf_trainpipe.training.options import RunOptions
        from hf_trainpipe.training.signals import PlannedStop

    if arguments.track:
        from hf_trainpipe.tracking.base import with_trackers

        recipe = with_trackers(recipe, arguments.track)
    if arguments.planned_stop or arguments.validation_only:  # a copy of a run, or a trial: no trackers, no pushes
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
        allow_change=frozenset(arguments.allow_change),
        **taken(arguments, "resume", "resume_from", "extend", "verify_resume", "validation_only"),
        planned_stop=PlannedStop.parse(arguments.planned_stop) if arguments.planned_stop else None,
    )
    result = execute(recipe, run_dir=arguments.run_dir, options=options)
    if is_main_process():
        print_result(result.to_json(), arguments, lambda _: result.summary())
    if result.push.get("state") == "failed":
        raise PushError(f"The run is complete, its push is not: {result.push['error']}", fix=result.push["fix"])
    return 0


@verb(
    "launch",
    "accelerate launch that forwards signals and exits with 75 to be resumed; --on spark|dask|ray",
    Argument("COMMAND", "what accelerate launch takes: its options, then the command; or --on and its options first"),
    raw="[ACCELERATE OPTIONS | --on spark|dask|ray ...] RECIPE.py ... | -m hf_trainpipe train RECIPE ...",
)
def launch(arguments: argparse.Namespace) -> int:
    from hf_trainpipe.cli.launch_on import is_asked, launch_on

    if is_asked(arguments.command):
        return launch_on(arguments.command)
    from hf_trainpipe.cli.launch import launch

    return launch(arguments.command)


@verb("show", "print a recipe and what follows from it; loads no weights", "RECIPE", "--json", takes_fields=True)
def show(arguments: argparse.Namespace) -> int:
    recipe, source = named_recipe(arguments)
    from hf_trainpipe.training.show import look
    from hf_trainpipe.utils.resources import search_folders

    with search_folders(source.path.parent):
        found = look(recipe)
    print_result(found.to_json() if arguments.json else None, arguments, lambda _: str(found))
    return 0


@verb(
    "track",
    "track sync RUN: bring trackers up to date; export RUN; import FOLDER of Neptune",
    Argument(
        "sync|export|import",
        "sync: send what a tracker has not received yet; export: write every number as a table; import: make runs of "
        "an offline Neptune folder",
        dest="action",
    ),
    Argument("RUN", "a run's folder; for import, a .neptune folder or one that holds it"),
    Argument("--to NAME", "of sync: this tracker, whether the recipe has it or not: mlflow, tensorboard, ..."),
    Argument(
        "--output F", "of export: FILE.csv or FILE.parquet, RUN/ledger.csv by default; of import: a folder for runs"
    ),
    "--json",
)
def track(arguments: argparse.Namespace) -> int:
    run = existing(arguments.run, "folder" if arguments.action == "import" else "run")
    if arguments.to and arguments.action != "sync":
        raise UsageError(
            f"track {arguments.action}: --to belongs to sync.", fix=f"hf-trainpipe track sync {run} --to ..."
        )
    if arguments.output and arguments.action == "sync":
        raise UsageError("track sync: --output belongs to export and import.", fix="Leave it out.")
    if arguments.action == "export":
        from hf_trainpipe.tracking.table import export

        print_result(export(run, arguments.output), arguments, show_exported)
        return 0
    if arguments.action == "import":
        from hf_trainpipe.tracking.neptune_files import import_runs

        print_result(import_runs(run, arguments.output), arguments, show_imported)
        return 0
    from hf_trainpipe.tracking.follower import sync

    report = sync(run, to=arguments.to)
    print_result(report, arguments, show_sync)
    return 0 if report["complete"] else PushError.exit_code


@verb(
    "completion",
    "what a shell reads to complete this command",
    Argument("|".join(SHELLS), 'for: eval "$(hf-trainpipe completion bash)" in ~/.bashrc', dest="shell"),
)
def completion(arguments: argparse.Namespace) -> int:
    from hf_trainpipe.cli.completion import script

    print(script(arguments.shell, VERBS))
    return 0


@verb("doctor", "versions, threads, devices, free space", "--json")
def doctor(arguments: argparse.Namespace) -> int:
    from hf_trainpipe.cli.doctor import examine

    print_result(examine(), arguments, show_machine)
    return 0


VERBS = {
    listed.name: listed
    for listed in (
        train, launch, show, check, auto, audit, baseline, tune, crossval, learn_curve, report, compare, evaluate, slices, behave, predict, suggest,
        ingest,
        package, verify,
        retrain, promote, rollback,
        serve, watch, push, track, verify_resume, runs, ui,
        pipeline,
        completion, doctor,
    )
}  # fmt: skip
