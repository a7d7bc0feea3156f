"""The verb of several stages: pipeline run, stage, show, emit."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hf_trainpipe.cli.parser import Argument, UsageError, busy, print_result, verb

if TYPE_CHECKING:
    import argparse

    from hf_trainpipe.pipelines.pipeline import Pipeline

ACTIONS = ("run", "stage", "show")


@verb(
    "pipeline",
    "run stages one after the other, continue them anywhere; or hand them to another engine",
    Argument(
        "|".join(ACTIONS),
        "run: all stages, here; stage: one, as engines do; show: the stages and how they stand",
        dest="action",
    ),
    Argument("FILE", "of the pipeline: FILE.py or FILE.py:FUNCTION"),
    Argument("[NAME]", "of stage: which one"),
    Argument(
        "--parallel N", "of run: stages at a time, where they do not wait for each other; 1", type=int, default=None
    ),
    Argument("--svg FILE", "of show: write the graph as a picture too", type=Path),
    Argument("--json", "print one line of JSON, last"),
)
def pipeline(arguments: argparse.Namespace) -> int:
    from hf_trainpipe.pipelines.file import load

    if (arguments.action == "stage") != (arguments.name is not None):
        what = "which stage" if arguments.action == "stage" else f"nothing behind the file, found {arguments.name!r}"
        raise UsageError(
            f"pipeline {arguments.action}: expected {what}.",
            fix=f"hf-trainpipe pipeline run {arguments.file}\nhf-trainpipe pipeline stage {arguments.file} NAME",
        )
    if arguments.parallel is not None and (arguments.action != "run" or arguments.parallel < 1):
        raise UsageError(
            f"pipeline {arguments.action}: --parallel belongs to run, and is 1 or more.",
            fix=f"hf-trainpipe pipeline run {arguments.file} --parallel 2",
        )
    if arguments.svg is not None:
        if arguments.action != "show":
            raise UsageError(f"pipeline {arguments.action}: --svg belongs to show.", fix="Leave it out.")
        arguments.svg = arguments.svg.absolute()
    loaded = load(arguments.file)
    with contextlib.chdir(loaded.folder):
        return {"run": _run, "stage": _stage, "show": _show}[arguments.action](loaded, arguments)


def _stage(loaded: Pipeline, arguments: argparse.Namespace) -> int:
    from hf_trainpipe.pipelines.processes import Stopping
    from hf_trainpipe.pipelines.stage_run import run_stage

    with Stopping().by_signals() as stopping:
        code = run_stage(loaded, arguments.name, say=_say, stopping=stopping)
    if arguments.json:
        print_result({"stage": arguments.name, "exit_code": code}, arguments, str)
    return code


def _run(loaded: Pipeline, arguments: argparse.Namespace) -> int:
    from hf_trainpipe.pipelines.local import Engine
    from hf_trainpipe.pipelines.processes import Stopping

    with Stopping().by_signals() as stopping:
        engine = Engine(loaded, parallel=arguments.parallel or 1, say=_say)
        code = engine.run(stopping)
    told = {
        "pipeline": loaded.name,
        "exit_code": code,
        "stages": {name: ran.to_json() for name, ran in engine.ran.items()},
    }
    print_result(told, arguments, lambda _: engine.summary())
    return code


def _show(loaded: Pipeline, arguments: argparse.Namespace) -> int:
    from hf_trainpipe.pipelines.standing import look, screen

    with busy("looking at what is done"):
        seen = look(loaded)
    if arguments.svg is not None:
        from hf_trainpipe.pipelines.picture import svg
        from hf_trainpipe.utils.atomic import write_bytes

        write_bytes(arguments.svg, svg(loaded.name, seen).encode(), durable=False)
    told = {"pipeline": loaded.name, "folder": str(loaded.folder), "stages": [one.to_json() for one in seen]}
    print_result(told, arguments, lambda _: screen(loaded, seen))
    return 0


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # who read it may be gone; the stage goes on
        print(line, file=sys.stderr, flush=True)
