"""The verbs about runs that are there: list them, free their space, verify that one resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.cli.asking_verbs import named_recipe, recipe_of
from hf_trainpipe.cli.parser import Argument, UsageError, existing, print_result, verb
from hf_trainpipe.errors import CheckpointError

if TYPE_CHECKING:
    import argparse


@verb(
    "runs",
    "list runs with their state, score and size; free the space of those that are complete",
    Argument("[FOLDER]", "a folder of runs, or one run; runs", default="runs"),
    Argument("--clean", "name what complete runs need neither to serve nor to verify; with --yes remove it"),
    Argument("--yes", "with --clean: remove it"),
    "--json",
)
def runs(arguments: argparse.Namespace) -> int:
    from hf_trainpipe.api.run import as_row, clean, find_runs, removable
    from hf_trainpipe.utils.tables import table

    folder = Path(arguments.folder)
    if arguments.yes and not arguments.clean:
        raise UsageError("runs: --yes goes with --clean.", fix="Write --clean --yes.")
    if not folder.is_dir():
        raise UsageError(
            f"{folder}: there is no such folder.", fix="Name the folder that runs are in, or train a recipe first."
        )
    listed = find_runs(folder)
    rows: list[dict[str, Any]] = [as_row(run) for run in listed]
    for run, row in zip(listed, rows, strict=True):
        if arguments.clean:
            found = removable(run) if row["state"] == "complete" else []
            row["spare"] = [path.name for path in found]
            row["spare_bytes"] = sum(_size(path) for path in found)
            row["freed"] = clean(run) if arguments.yes and row["spare"] else 0
    if arguments.json:
        print(json.dumps(rows, ensure_ascii=False))
        return 0
    if not rows:
        print(f"{folder} holds no run.")
        return 0
    cells = [[str(row["run"]), row["state"], f"{row['step']:,}", _score(row), _mebibytes(row["bytes"])] for row in rows]
    print(table(["run", "state", "step", "score", "MiB"], cells))
    if arguments.clean:
        print()
        print(_cleaned(rows, done=arguments.yes))
    return 0


def _score(row: dict[str, Any]) -> str:
    score = row["score"]
    if not score or score.get("value") is None:
        return ""
    low, high = score.get("low"), score.get("high")
    interval = f" [{low:.3f}, {high:.3f}]" if low is not None and high is not None else ""
    return f"{row['metric']} {score['value']:.4f}{interval}"


def _cleaned(rows: list[dict[str, Any]], *, done: bool) -> str:
    found = [row for row in rows if row["spare"]]
    if not found:
        return "Nothing to clean: complete runs hold only what serving and verifying need."
    if done:
        freed = sum(row["freed"] for row in found)
        return f"{_mebibytes(freed)} MiB are free now. What was cleaned can be served and verified, and no longer extended."
    lines = [f"{row['run']}: {', '.join(row['spare'])} ({_mebibytes(row['spare_bytes'])} MiB)" for row in found]
    return "\n".join([*lines, "", "runs --clean --yes removes this. The runs can then no longer be extended."])


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if not file.is_dir())


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.1f}"


@verb(
    "verify-resume",
    "kill a copy of a finished run, resume it and compare the last checkpoints bit for bit",
    Argument("RUN", "the folder of a finished run"),
    "--recipe R",
    "--json",
    takes_fields=True,
)
def verify_resume(arguments: argparse.Namespace) -> int:
    path = existing(arguments.run, "run")
    if arguments.fields and not arguments.recipe:
        raise UsageError(
            f"verify-resume: {arguments.fields[0]} is a field of a recipe, and no recipe file is named.",
            fix="Leave it out: the run recorded its recipe. Or name the file, with the fields that were set in training: "
            "--recipe FILE.py --FIELD VALUE",
        )
    recipe, source = named_recipe(arguments) if arguments.recipe else recipe_of(path, None)
    from hf_trainpipe.tracking.console import Console
    from hf_trainpipe.training.verify_resume import describe, verify_finished

    console = Console(0)
    with console.working("verifying that the run resumes"):
        proof = verify_finished(path, recipe, source=source, say=console.say)
    print_result(proof, arguments, describe)
    return 0 if proof["identical"] else CheckpointError.exit_code


@verb(
    "ui",
    "a local page over a folder of runs: scores, settings, curves while they train",
    Argument("[FOLDER]", "a folder of runs, or one run; runs", default="runs"),
    Argument("--host H", "another than loopback needs HF_TRAINPIPE_TOKEN", default="127.0.0.1"),
    Argument("--port P", "0: any free one; 8100 by default", type=int, default=8100),
    Argument("--json", "say where it is in a line of JSON on stdout"),
)
def ui(arguments: argparse.Namespace) -> int:
    from hf_trainpipe.serve.run import from_environment, require_extra

    require_extra()
    folder = Path(arguments.folder)
    if not folder.is_dir():
        raise UsageError(
            f"{folder}: there is no such folder.", fix="Name the folder that runs are in, or train a recipe first."
        )
    from hf_trainpipe.ui.app import serve_page

    settings = from_environment(host=arguments.host, port=arguments.port)
    return serve_page(folder, settings, as_json=arguments.json)
