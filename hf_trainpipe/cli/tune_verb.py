"""The verb that searches: tune."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.cli.asking_verbs import named_recipe
from hf_trainpipe.cli.parser import Argument, UsageError, busy, print_result, verb
from hf_trainpipe.cli.study_options import seconds

if TYPE_CHECKING:
    import argparse


@verb(
    "tune",
    "search settings by trials, choose among the best on fresh seeds, write the winner's recipe",
    "RECIPE",
    Argument("--study-dir D", "folder of the search; studies/tune-NAME by default", type=Path),
    Argument("--space FUNCTION", "of the recipe's file, which returns the Space; space() by default, or a usual one"),
    Argument("--trials N", "20 by default; more of them continue the search", type=int, default=20),
    Argument("--finalists N", "best trials that run again on fresh seeds; 3", type=int, default=3),
    Argument("--seeds N", "fresh seeds of each finalist; 3", type=int, default=3),
    Argument("--study-seed N", "of what is proposed; 17", type=int, default=17),
    Argument("--prune median|halving|none", "end a trial early that is behind the others", default="median"),
    Argument("--time-limit T", "of the whole search: 2h, 90m, 45s", default=None),
    Argument("--trial-limit T", "of one trial", default=None),
    Argument("--parallel N", "trials at a time; one a GPU by default, one on a CPU", type=int, default=None),
    Argument("--ranks N", "processes of each trial; 1", type=int, default=1),
    Argument("--launch OPTIONS", "of accelerate launch, for each trial: --launch='--config_file FILE'"),
    "--json",
    takes_fields=True,
)
def tune(arguments: argparse.Namespace) -> int:
    for name, least in (
        ("trials", 1),
        ("finalists", 1),
        ("seeds", 1),
        ("ranks", 1),
        ("parallel", 1),
        ("study_seed", 0),
    ):
        value = getattr(arguments, name)
        if value is not None and value < least:
            option = name.replace("_", "-")
            raise UsageError(
                f"tune: --{option}: expected {least} or more, found {value}.", fix=f"Write --{option} {least}."
            )
    time_limit, trial_limit = (
        seconds(getattr(arguments, name), f"tune: --{name.replace('_', '-')}") for name in ("time_limit", "trial_limit")
    )
    recipe, source = named_recipe(arguments)
    from hf_trainpipe.studies.space import space_of

    space, place = space_of(recipe, source, function=arguments.space)
    with busy("starting"):
        from hf_trainpipe.studies.study import Asked, tune

    settings: dict[str, Any] = {
        name: getattr(arguments, name) for name in ("trials", "finalists", "seeds", "parallel", "ranks")
    }
    asked = Asked(
        space=space,
        place=place,
        folder=arguments.study_dir or Path("studies") / f"tune-{recipe.name}",
        launch=tuple(shlex.split(arguments.launch or "")),
        seed=arguments.study_seed,
        pruning=arguments.prune,
        time_limit=time_limit,
        trial_limit=trial_limit,
        **settings,
    )
    done = tune(recipe, source, asked)
    print_result(done.document, arguments, lambda _: done.screen)
    return 0
