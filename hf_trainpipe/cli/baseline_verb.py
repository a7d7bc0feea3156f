"""The verb that holds simple models against a recipe's: baseline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hf_trainpipe.cli.asking_verbs import named_recipe, recipe_of
from hf_trainpipe.cli.parser import Argument, UsageError, busy, print_result, verb

if TYPE_CHECKING:
    import argparse

    from hf_trainpipe.baselines.measure import Found


@verb(
    "baseline",
    "score simple models on a recipe's data, in seconds: what fine-tuning has to beat",
    Argument("RECIPE|RUN", "FILE.py, FILE.py:FUNCTION or FILE.json; or the folder of a finished run", dest="recipe"),
    Argument("--output D", "keep them there, with what each answered to every row; the cache by default", type=Path),
    Argument("--recipe R", "of a run whose recipe file has classes of its own: that file", dest="file"),
    Argument("--rows FILE", "on chosen rows of the data, as train takes them"),
    Argument(
        "--most-rows N", "training rows that each learns from at most; as many as take a minute by default", type=int
    ),
    "--json",
    takes_fields=True,
)
def baseline(arguments: argparse.Namespace) -> int:
    if arguments.most_rows is not None and arguments.most_rows < 2:
        raise UsageError(
            f"baseline: --most-rows: expected 2 or more, found {arguments.most_rows}.", fix="Write --most-rows 5000."
        )
    run = Path(arguments.recipe)
    if (run / "run.json").is_file():
        return _of_run(run, arguments)
    recipe, source = named_recipe(arguments)
    with busy("starting"):
        from hf_trainpipe.baselines.measure import measure
        from hf_trainpipe.tracking.console import Console
        from hf_trainpipe.utils.resources import search_folders

    console = Console(0)
    with search_folders(source.path.parent):
        found = measure(recipe, console=console, folder=arguments.output, most_rows=arguments.most_rows)
    console.close()
    print_result(found.to_json() if arguments.json else None, arguments, lambda _: show(found))
    return 0


def _of_run(run: Path, arguments: argparse.Namespace) -> int:
    """Hold a finished run against the baselines of its data."""
    if arguments.fields or arguments.rows:
        raise UsageError(
            f"baseline: {next(iter(arguments.fields), '--rows')} goes with a recipe, and {run} is a run, which has recorded its own.",
            fix="Leave it out, or name a recipe.",
        )
    from hf_trainpipe.report.beside import finished

    finished(run)
    recipe, source = recipe_of(run, arguments.file)
    with busy("starting"):
        from hf_trainpipe.package.in_words import beside_baselines
        from hf_trainpipe.report.beside import hold
        from hf_trainpipe.tracking.console import Console
        from hf_trainpipe.utils.resources import use_paths_of_run

    console = Console(0)
    with use_paths_of_run(run, source):
        found, told = hold(run, recipe, console=console, folder=arguments.output, most_rows=arguments.most_rows)
    console.close()
    verdict = beside_baselines(told) or "No difference could be tested"
    places = ", ".join(str(run / name) for name in ("report.html", "package/README.md") if (run / name).is_file())
    print_result(told, arguments, lambda _: f"{show(found)}\n\n{verdict}.\nTold in {places}.")
    return 0


def show(found: Found) -> str:
    """A table of the baselines, by the metric that selects the best model."""
    from hf_trainpipe.package.in_words import interval, number
    from hf_trainpipe.utils.tables import facts, table

    name, splits = found.select, list(found.measured[0].scores) if found.measured else []
    main = splits[-1] if splits else ""
    rows = []
    for one in found.measured:
        scores = {split: one.scores[split].get(name) or {} for split in splits}
        cells = [number(scores[split].get("value")) for split in splits]
        rows.append([one.name, *cells, interval(scores[main]), f"{one.rows:,}", f"{one.seconds:.1f}"])
    whole = max((one.of for one in found.measured), default=0)
    lines = [f"{found.recipe.name}: {name}, learnt from the training split ({whole:,} rows)", ""]
    lines += [table(["baseline", *splits, f"interval on {main}", "rows", "seconds"], rows), ""]
    lines.append(facts((one.name, one.title) for one in found.measured))
    lines += [f"not learnt: {title}: {why}" for title, why in found.unfit.items()]
    if found.best is not None:
        lines += ["", f"What a fine-tuned model has to beat: {found.best.title}."]
    return "\n".join(lines)
