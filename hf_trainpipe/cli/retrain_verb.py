"""The verb that trains a challenger on new labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.cli.asking_verbs import named_recipe
from hf_trainpipe.cli.parser import Argument, UsageError, busy, existing, print_result, taken, verb

if TYPE_CHECKING:
    import argparse


@verb(
    "retrain",
    "train a challenger: new labels merged with the training rows, never with the test rows",
    "RECIPE",
    Argument("--labels FILE ...", "new labels, in any format that training reads", nargs="+", action="extend"),
    Argument("--from RUN|PACKAGE|ALIAS", "begin with its weights; with the recipe's model by default", dest="begin"),
    Argument("--hold-out SHARE", "of the new labels, for the gate of promote", default=0.2, type=float),
    Argument("--conflicts old|new", "whose label counts where a new one contradicts a training row", default="old"),
    Argument("--test FILE ...", "further frozen test rows, such as those of promote --test", type=Path),
    Argument("--run-dir D", "folder of the run; runs/NAME-DIGEST of the labels by default", type=Path),
    Argument("--ranks N", "processes of the run, under launch", type=int, default=1),
    "--json",
    takes_fields=True,
)
def retrain(arguments: argparse.Namespace) -> int:
    if not arguments.labels:
        raise UsageError(
            "retrain: expected new labels.", fix=f"hf-trainpipe retrain {arguments.recipe} --labels new.csv"
        )
    if not 0 <= arguments.hold_out < 1:
        raise UsageError(
            f"retrain: --hold-out: expected a share in [0, 1), found {arguments.hold_out:g}.", fix="Write 0.2."
        )
    files = tuple(existing(file, "file") for file in arguments.labels)
    recipe, source = named_recipe(arguments)
    with busy("starting"):
        from hf_trainpipe.promotion.retrain import Labels, folder_of, retrain
        from hf_trainpipe.studies.runs import Launch
        from hf_trainpipe.tracking.console import Console

    labels = Labels(files=files, test=tuple(arguments.test), **taken(arguments, "hold_out", "conflicts"))
    folder = arguments.run_dir or folder_of(recipe, labels)
    found = retrain(
        recipe,
        source,
        folder,
        labels=labels,
        begin=arguments.begin,
        launch=Launch(ranks=arguments.ranks),
        say=Console(0).say,
    )
    print_result(found, arguments, lambda _: _shown(found))
    return 0


def _shown(found: dict[str, Any]) -> str:
    from hf_trainpipe.promotion.retrain import merge_lines

    run = Path(found["run"])
    lines = [f"trained     {run} from {found['began']}", *merge_lines(found["merge"], run)]
    return "\n".join([*lines, f"next        hf-trainpipe promote {run} --over ALIAS"])
