"""The verb that changes inputs a little and looks whether answers hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hf_trainpipe.cli.asking_verbs import READING, WORKER, check_rows, leave, reading, recipe_of, worker_of
from hf_trainpipe.cli.parser import Argument, UsageError, existing, taken, verb

if TYPE_CHECKING:
    import argparse

    from hf_trainpipe.behaviour.perturbations import Perturbation


@verb(
    "behave",
    "change inputs a little (typos, case, names, negation, ...) and tell how often answers hold",
    Argument("RUN|PACKAGE", dest="path"),
    Argument("[FILE]", "rows, labelled or not; a split of the recipe's data without it"),
    Argument("--recipe R", "take the data from this recipe"),
    Argument("--split validation|test", "of the recipe's data; validation by default"),
    Argument("--only NAME ...", "this perturbation; may be repeated"),
    Argument("--perturbations FILE", "further ones: a JSON list of name, find, replace, expect", type=Path),
    Argument("--expect NAME=WHAT ...", "of a perturbation: same, changes, falls, rises"),
    Argument("--rows N", "to change at most, drawn by the seed; 1,000 by default", type=int, default=1_000),
    Argument("--tolerance X", "by how much scores and numbers may move; 0.05, or a tenth of their range", type=float),
    Argument("--confidence P", "of intervals", type=float, default=0.95),
    Argument("--seed N", "of the changes", type=int, default=0),
    Argument("--output F", "write the changed rows too, their labels where they belong: .jsonl", type=Path),
    Argument("--html FILE", "write a page too", type=Path),
    *READING,
    *WORKER,
    "--json",
)
def behave(arguments: argparse.Namespace) -> int:
    path = existing(arguments.path, "run or package")
    _check(arguments)
    perturbations = _perturbations(arguments)
    recipe = source = None
    if arguments.recipe or arguments.file is None:
        recipe, source = recipe_of(path, arguments.recipe)
    from hf_trainpipe.api.behaviour import behave as ask
    from hf_trainpipe.api.package import load
    from hf_trainpipe.report import behave_page
    from hf_trainpipe.report.facts import BEHAVIOUR
    from hf_trainpipe.utils.resources import use_paths_of_run

    package = load(path, **worker_of(arguments))
    options = {
        "perturbations": perturbations,
        "most_rows": arguments.rows,
        **taken(arguments, "tolerance", "confidence", "seed", "output"),
    }
    if arguments.file is not None:
        found = ask(package, arguments.file, column=arguments.column, reading=reading(arguments), **options)
    else:
        with use_paths_of_run(path, source):
            found = ask(package, split=arguments.split or "validation", recipe=recipe, **options)
    written = [] if arguments.output is None else [("written", str(arguments.output))]
    leave(found.to_json(), behave_page, path, arguments, kept_as=BEHAVIOUR, further=written)
    return 0


def _perturbations(arguments: argparse.Namespace) -> tuple[Perturbation, ...]:
    from hf_trainpipe.behaviour.behave import chosen_perturbations
    from hf_trainpipe.behaviour.given import read_perturbations
    from hf_trainpipe.behaviour.perturbations import EXPECTATIONS

    further: tuple[Perturbation, ...] = ()
    if arguments.perturbations is not None:
        further = read_perturbations(existing(str(arguments.perturbations), "file"))
    expect: dict[str, str] = {}
    for pair in arguments.expect:
        name, equals, what = pair.partition("=")
        if not equals or what not in EXPECTATIONS:
            raise UsageError(
                f"behave: --expect: expected NAME={'|'.join(EXPECTATIONS)}, found {pair!r}.",
                fix="Write --expect negation=changes.",
            )
        expect[name] = what
    return chosen_perturbations(arguments.only, further, expect)


def _check(arguments: argparse.Namespace) -> None:
    """Refuse options that do not go together, and wrong values.

    Raises:
        UsageError: as said.
    """
    check_rows("behave", arguments)
    if arguments.rows < 1:
        raise UsageError(f"behave: --rows: expected 1 or more, found {arguments.rows}.", fix="Write --rows 1000.")
    if arguments.seed < 0:
        raise UsageError(f"behave: --seed: expected 0 or more, found {arguments.seed}.", fix="Write --seed 0.")
    if not 0.5 <= arguments.confidence < 1:
        raise UsageError(
            f"behave: --confidence: expected a number in [0.5, 1), found {arguments.confidence:g}.", fix="Write 0.95."
        )
    if arguments.tolerance is not None and not arguments.tolerance >= 0:
        raise UsageError(
            f"behave: --tolerance: expected 0 or more, found {arguments.tolerance:g}.", fix="Write --tolerance 0.05."
        )
    if arguments.output is not None and arguments.output.suffix != ".jsonl":
        raise UsageError(
            f"behave: --output: expected a file that ends with .jsonl, found {arguments.output}.",
            fix=f"Write --output {arguments.output.with_suffix('.jsonl')}.",
        )
