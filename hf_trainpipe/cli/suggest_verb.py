"""The verb that chooses what to label next."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from hf_trainpipe.cli.asking_verbs import READING, WORKER, reading, recipe_of, worker_of
from hf_trainpipe.cli.parser import Argument, UsageError, existing, existing_file, print_result, taken, verb
from hf_trainpipe.cli.study_options import CROSSVAL, out_of_fold
from hf_trainpipe.utils.tables import table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from typing import Any


@verb(
    "suggest",
    "choose which rows of a file to label next",
    "PACKAGE",
    Argument("--input F", "rows without labels, in any format that training reads"),
    Argument("--output F", "a table (.csv, .jsonl, ...), or tasks of an annotation tool", type=Path),
    Argument("--count N", "rows to choose; 100 by default", type=int, default=100),
    Argument("--to table|label-studio|doccano|prodigy", "what to write; .json is label-studio, other endings a table"),
    Argument("--random SHARE", "of the rows, drawn at random: their scores are honest", type=float, default=0.2),
    Argument("--labelled F ...", "a file with texts that are labelled already; may be repeated"),
    Argument("--blind", "leave the model's answers out, so that nobody is led by them"),
    Argument("--seed N", "of the random rows", type=int, default=0),
    Argument("--replay", "instead: whether choosing would have gained anything on the run's own training data"),
    CROSSVAL,
    "--recipe R",
    *READING,
    *WORKER,
    "--json",
)
def suggest(arguments: argparse.Namespace) -> int:
    package = existing(arguments.package, "package")
    if arguments.replay:
        return _replay(package, arguments)
    if arguments.input is None or arguments.output is None:
        raise UsageError(
            "suggest: expected --input and --output.",
            fix=f"hf-trainpipe suggest {package} --input new.csv --output next.csv",
        )
    for file in (arguments.input, *arguments.labelled):
        existing_file(file, "file")
    if not 0 <= arguments.random <= 1:
        raise UsageError(
            f"suggest: --random: expected a share in [0, 1], found {arguments.random:g}.", fix="Write 0.2."
        )
    if arguments.count < 1:
        raise UsageError(f"suggest: --count: expected 1 or more, found {arguments.count}.", fix="Write --count 100.")
    kept = out_of_fold(arguments)
    if kept is not None:  # refused before the package answers
        from hf_trainpipe.package.layout import find_package, read_manifest

        kept.check_recipe(read_manifest(find_package(package))["recipe"], whose=str(package))
    from hf_trainpipe.data.readers_base import ReadOptions
    from hf_trainpipe.package.label_files import tool_of, write
    from hf_trainpipe.package.suggest import RANDOM, UNSURE
    from hf_trainpipe.package.suggest import suggest as choose

    tool = tool_of(arguments.output, arguments.to)
    found = choose(
        package,
        arguments.input,
        random_share=arguments.random,
        reading=ReadOptions(**reading(arguments)),
        **taken(arguments, "count", "labelled", "column", "seed"),
        **worker_of(arguments),
    )
    files = write(found, arguments.output, tool=tool, with_answers=not arguments.blind)
    chosen = [one.uncertainty for one in found.chosen if one.why == UNSURE]
    result = {
        "rows": found.rows,
        "chosen": {why: found.count(why) for why in (UNSURE, RANDOM)},
        "left_out": dict(found.left_out),
        "uncertainty": {"all": found.mean_uncertainty, "unsure": sum(chosen) / len(chosen) if chosen else None},
        "files": [str(file) for file in files],
    }
    if kept is not None and chosen:
        from hf_trainpipe.package.unsure_held_out import wrong_when_unsure

        told = wrong_when_unsure(kept, found.task, least=median(chosen))
        result["held_out"] = {"study": str(kept.folder), **told}
    print_result(result, arguments, _shown)
    return 0


def _replay(path: Path, arguments: argparse.Namespace) -> int:
    recipe, source = recipe_of(path, arguments.recipe)
    from hf_trainpipe.baselines.replay import replay
    from hf_trainpipe.tracking.console import Console
    from hf_trainpipe.utils.resources import use_paths_of_run

    with use_paths_of_run(path, source):
        found = replay(recipe, console=Console(0))
    value, low, high = found.gain
    arms = {"chosen": found.chosen.mean(axis=0), "random": found.random.mean(axis=0)}
    result = {
        "gain": {"value": value, "low": low, "high": high},
        "starts": len(found.chosen),
        "labels": found.labels,
        "accuracy": {name: arm.tolist() for name, arm in arms.items()},
        "verdict": found.verdict,
    }
    print_result(result, arguments, _shown_replay)
    return 0


def _shown_replay(result: Mapping[str, Any]) -> str:
    accuracy = result["accuracy"]
    rows = [
        [f"{labels:,}", f"{chosen:.4f}", f"{random:.4f}"]
        for labels, chosen, random in zip(result["labels"], accuracy["chosen"], accuracy["random"], strict=True)
    ]
    head = f"replayed with logistic regression on frozen vectors, {result['starts']} starts: {result['verdict']}"
    return f"{head}\n\n{table(['labels', 'chosen', 'random'], rows)}"


def _expected(told: Mapping[str, Any]) -> str:
    """What to expect of the rows that the model is unsure of."""
    unsure, every = told["unsure"], told["all"]
    if not unsure["rows"]:
        return f"expected  {told['study']} held out no row as unsure as half of these: they are unlike those that are labelled"
    return (
        f"expected  {unsure['value']:.0%} of the half that is least sure answered wrongly [{unsure['low']:.0%}, {unsure['high']:.0%}], as of "
        f"{unsure['rows']:,} rows as unsure that {told['study']} held out; of all {every['rows']:,} {every['value']:.0%} [{every['low']:.0%}, {every['high']:.0%}]"
    )


def _shown(result: Mapping[str, Any]) -> str:
    chosen, unsure = result["chosen"], result["uncertainty"]["unsure"]
    mean = "" if unsure is None else f" (mean uncertainty {unsure:.2f}, of all rows {result['uncertainty']['all']:.2f})"
    lines = [
        f"{sum(chosen.values()):,} of {result['rows']:,} rows chosen: {chosen['unsure']:,} that the model is unsure of{mean}, "
        f"{chosen['random']:,} at random"
    ]
    if "held_out" in result:
        lines.append(_expected(result["held_out"]))
    lines += [f"left out  {count:,} {reason}" for reason, count in result["left_out"].items()]
    return "\n".join([*lines, *(f"written   {file}" for file in result["files"])])
