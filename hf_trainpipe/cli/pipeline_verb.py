"""The verb of several stages: pipeline run, stage, show, emit."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hf_trainpipe.cli.parser import Argument, UsageError, busy, print_result, taken, verb

if TYPE_CHECKING:
    import argparse

    from hf_trainpipe.pipelines.pipeline import Pipeline


@verb(
    "pipeline",
    "run stages one after the other, continue them anywhere; or hand them to another engine",
    Argument(
        "run|stage|show|emit",
        "run: all stages, here; stage: one, as engines do; show: the stages and how they stand; emit: files for an engine",
        dest="action",
    ),
    Argument("FILE", "of the pipeline, FILE.py or FILE.py:FUNCTION; of emit the engine comes first: emit cron FILE"),
    Argument("[NAME]", "of stage: which one"),
    Argument("--parallel N", "of run: stages at a time, where they do not wait for each other; 1", type=int),
    Argument("--svg FILE", "of show: write the graph as a picture too", type=Path),
    Argument("--output D", "of emit: the folder of what is written; this one by default", type=Path),
    Argument("--folder F", "of emit: the pipeline's folder as the engine's machines see it; as it is here by default"),
    Argument("--python P", "of emit: the interpreter there; the one that runs this by default"),
    Argument("--schedule CRON", "of emit: when it runs, five fields: '0 3 * * *'"),
    Argument("--image I", "of emit, for engines that run containers: with hf-trainpipe in it"),
    Argument("--volume V", "of emit kfp and trainjob: the claim that holds the pipeline's folder; '' mounts none"),
    Argument("--nodes N", "of emit trainjob: machines that train together; 1", type=int),
    Argument("--gpus N", "of emit trainjob: GPUs of each of them; 0", type=int),
    "--json",
)
def pipeline(arguments: argparse.Namespace) -> int:
    from hf_trainpipe.pipelines.file import load

    _check(arguments)
    for name in ("svg", "output"):  # before the folder changes
        if (path := getattr(arguments, name)) is not None:
            setattr(arguments, name, path.absolute())
    if arguments.action == "emit":
        return _emit(load(arguments.name), arguments)
    loaded = load(arguments.file)
    with contextlib.chdir(loaded.folder):
        return {"run": _run, "stage": _stage, "show": _show}[arguments.action](loaded, arguments)


_OWN = {
    "run": ("parallel",),
    "stage": (),
    "show": ("svg",),
    "emit": ("output", "folder", "python", "schedule", "image", "volume", "nodes", "gpus"),
}
"""Options of each action."""


def _check(arguments: argparse.Namespace) -> None:
    action, file, name = arguments.action, arguments.file, arguments.name
    usual = {
        "run": "pipeline run FILE",
        "stage": "pipeline stage FILE NAME",
        "show": "pipeline show FILE",
        "emit": "pipeline emit ENGINE FILE",
    }
    if (action in ("stage", "emit")) != (name is not None):
        found = file if name is None else f"{file} {name}"
        raise UsageError(
            f"expected `{usual[action]}`, found `pipeline {action} {found}`.", fix=f"hf-trainpipe {usual[action]}"
        )
    for owner, options in _OWN.items():
        for option in options:
            if owner != action and getattr(arguments, option) is not None:
                raise UsageError(
                    f"pipeline {action}: --{option} belongs to {owner}.", fix=f"hf-trainpipe {usual[action]}"
                )
    for option, least in (("parallel", 1), ("nodes", 1), ("gpus", 0)):
        if (value := getattr(arguments, option)) is not None and value < least:
            raise UsageError(
                f"pipeline {action}: --{option}: expected {least} or more, found {value}.",
                fix=f"Write --{option} {least + 1}.",
            )


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


def _emit(loaded: Pipeline, arguments: argparse.Namespace) -> int:
    from hf_trainpipe.pipelines.emit import emit

    chosen = taken(arguments, *_OWN["emit"][1:])
    written = [str(path) for path in emit(loaded, arguments.file, arguments.output or Path(), **chosen)]
    told = {"pipeline": loaded.name, "engine": arguments.file, "files": written}
    print_result(told, arguments, lambda _: "\n".join(f"written: {path}" for path in written))
    return 0


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # who read it may be gone; the stage goes on
        print(line, file=sys.stderr, flush=True)
