"""The verb that looks at all that train would do, before it does it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from hf_trainpipe.cli.asking_verbs import named_recipe
from hf_trainpipe.cli.parser import Argument, UsageError, print_result, verb
from hf_trainpipe.errors import TrainpipeError


@verb(
    "check",
    "try all that train does at its ends, forecast time, memory, disk and cost",
    "RECIPE",
    Argument("--run-dir D", "folder of the run to come; runs/NAME by default", type=Path),
    Argument("--rows FILE", "on chosen rows of the data, as train takes them"),
    Argument("--track NAME ...", "a further tracker, as train takes it; may be repeated"),
    Argument("--cost-per-hour X", "what an hour of this machine costs, for a forecast in money", type=float),
    Argument("--rehearse FOLDER", argparse.SUPPRESS, type=Path),
    "--json",
    takes_fields=True,
)
def check(arguments: argparse.Namespace) -> int:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            f"check: expected one process, found {os.environ['WORLD_SIZE']} ranks.",
            fix="Run it without a launcher: `hf-trainpipe check RECIPE` tries one rank; its forecast is not for several.",
        )
    if arguments.cost_per_hour is not None and not arguments.cost_per_hour >= 0:
        raise UsageError(
            f"check: --cost-per-hour: expected 0 or more, found {arguments.cost_per_hour:g}.", fix="Write 2.50."
        )
    recipe, source = named_recipe(arguments)
    if arguments.rehearse is not None:
        from hf_trainpipe.training.check.rehearsal import rehearse

        rehearse(recipe, source, folder=arguments.rehearse)
        return 0
    from hf_trainpipe.tracking.console import Console, redraws
    from hf_trainpipe.training.check import supervise
    from hf_trainpipe.training.check.screen import screen

    fields = [str(part) for part in arguments.fields]
    fields += [] if arguments.rows is None else ["--rows", arguments.rows]
    where = [] if arguments.run_dir is None else ["--run-dir", str(arguments.run_dir)]
    found = supervise.check(
        recipe,
        [arguments.recipe, *fields],
        run_dir=arguments.run_dir or Path("runs") / recipe.name,
        tracked=arguments.track,
        console=Console(0),
        live=redraws(sys.stderr),
        command=" ".join(["hf-trainpipe check", arguments.recipe, *fields]),
    )
    supervise.keep_forecast(found, recipe, cost_per_hour=arguments.cost_per_hour)
    following = " ".join(["hf-trainpipe train", arguments.recipe, *fields, *where])
    print_result(
        {"ok": not found.problems, **found.to_json()},
        arguments,
        lambda _: screen(found, name=recipe.name, next_command=following),
    )
    return TrainpipeError.exit_code if found.problems else 0
