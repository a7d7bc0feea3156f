"""The verb that looks at data before anything is trained: audit."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.cli.asking_verbs import READING, named_recipe, reading, recipe_of
from hf_trainpipe.cli.parser import Argument, UsageError, busy, existing, existing_file, print_result, verb
from hf_trainpipe.cli.study_options import CROSSVAL, out_of_fold

if TYPE_CHECKING:
    import argparse

    from hf_trainpipe.audit.guess import Guess
    from hf_trainpipe.audit.whole import Audit

LEVELS = {"never": 4, "wrong": 3, "costs": 2, "look": 1}
"""By ``--fail-on``: the lowest level at which the verb ends with :data:`FOUND`."""
FOUND = 2


FILES = (
    Argument("--text NAME ...", "of files: the column of texts; twice for a pair; guessed by default"),
    Argument("--label NAME", "of files: the column of labels; guessed by default"),
    *READING[1:],
    Argument("--header A,B,...", "of files without a header line: the names of their columns"),
)
"""Options of verbs that read files without a recipe."""


@verb(
    "audit",
    "look at data before training: what repeats, leaks, contradicts itself or is broken",
    Argument(
        "RECIPE|FILE", "a recipe, or a file of rows: .csv, .jsonl, .parquet, ...; or a run's folder", dest="recipe"
    ),
    Argument("[FILE ...]", "further files: test.csv is the split test by its name", dest="files", nargs="*"),
    *FILES,
    Argument("--html FILE", "write a page too", type=Path),
    Argument(
        "--fix DIR", "write cleaned files, group ids and a list of changes there; nothing is overwritten", type=Path
    ),
    Argument("--run DIR", "of a recipe: a run of it, whose scores are told without leaked rows too", type=Path),
    CROSSVAL,
    Argument("--no-model", "learn nothing: wrong labels are not looked for"),
    Argument(
        "--fail-on never|wrong|costs|look", "exit with 2 where a finding is as bad as this, for CI", default="never"
    ),
    "--json",
    takes_fields=True,
)
def audit(arguments: argparse.Namespace) -> int:
    if arguments.fix is not None and arguments.fix.exists():
        raise UsageError(f"audit: --fix {arguments.fix}: it exists.", fix="Name a new folder: nothing is overwritten.")
    found = _audited(arguments)
    fixed = None
    if arguments.fix is not None:
        from hf_trainpipe.audit.fix import write

        fixed = write(found, arguments.fix)
    if arguments.html is not None:
        from hf_trainpipe.report import audit_page
        from hf_trainpipe.report.page import save

        save(audit_page.page(found), arguments.html)
    from hf_trainpipe.audit.shown import screen

    if arguments.json:
        result = {**found.to_json(), **({} if fixed is None else {"fixed": fixed.to_json()})}
        print_result(result, arguments, str)
    else:
        print_result(None, arguments, lambda _: screen(found, further=() if fixed is None else fixed.lines()))
    return FOUND if (found.worst or 0) >= LEVELS[arguments.fail_on] else 0


def _audited(arguments: argparse.Namespace) -> Audit:
    from hf_trainpipe.audit.whole import audit

    if arguments.run is not None:
        existing(str(arguments.run), "run")
    if not _is_recipe(arguments):
        for name in ("run", "crossval"):
            if getattr(arguments, name) is not None:
                raise UsageError(
                    f"audit: --{name} belongs to a recipe.", fix="Name the recipe, or a run of it, not files."
                )
        if arguments.fields:
            raise UsageError(
                f"audit: {arguments.fields[0]} belongs to a recipe, and {arguments.recipe} is a file of rows.",
                fix="Leave it out. Of files: --text NAME, --label NAME, --format F.",
            )
        return _of_files(arguments)
    if arguments.files or arguments.text or arguments.label:
        raise UsageError(
            f"audit: {arguments.recipe} says which data and columns it reads.",
            fix="Name the recipe alone, or files alone; fields of a recipe are --task.text NAME, --data.train FILE.",
        )
    recipe, folders = _recipe(arguments)
    with folders, busy("auditing"):
        run = arguments.run or (Path(arguments.recipe) if (Path(arguments.recipe) / "run.json").is_file() else None)
        learns = not arguments.no_model
        kept = out_of_fold(arguments)
        return audit(
            recipe.task, recipe.data.splits(), recipe=recipe, run=run, learns=learns, crossval=kept, working=busy
        )


def _is_recipe(arguments: argparse.Namespace) -> bool:
    """Whether the first argument is a recipe or a run; of a JSON file its content decides."""
    spelled = arguments.recipe
    path = Path(spelled)
    if arguments.load is not None or (path / "run.json").is_file():
        return True
    if path.suffix == ".json" and path.is_file() and not arguments.files:
        with path.open("rb") as file:
            start = file.read(1 << 20).lstrip()
        if start[:1] != b"{":
            return False
        try:
            return "task" in json.loads(path.read_bytes())
        except ValueError:
            return False
    head, _, function = spelled.rpartition(":")
    return path.suffix == ".py" or (head.endswith(".py") and function.isidentifier())


def _recipe(arguments: argparse.Namespace) -> tuple[Any, AbstractContextManager[object]]:
    from hf_trainpipe.utils.resources import search_folders, use_paths_of_run

    path = Path(arguments.recipe)
    if arguments.load is None and (path / "run.json").is_file():
        if arguments.fields:
            raise UsageError("audit: a run's recipe is as it was trained.", fix="Name the recipe to change a field.")
        return recipe_of(path, None)[0], use_paths_of_run(path, None)
    recipe, source = named_recipe(arguments)
    return recipe, search_folders(source.path.parent) if source is not None else nullcontext()


def _of_files(arguments: argparse.Namespace) -> Audit:
    from hf_trainpipe.audit.whole import audit

    found = guessed(arguments, [arguments.recipe, *arguments.files])
    with busy("auditing"):
        return audit(found.task, found.splits, learns=not arguments.no_model, assumed=found.assumed, working=busy)


def guessed(arguments: argparse.Namespace, paths: list[str]) -> Guess:
    """Files and the task that their columns suggest, by the options of :data:`FILES`."""
    from hf_trainpipe.audit.guess import guess
    from hf_trainpipe.utils.resources import is_pattern

    for path in paths:
        if not is_pattern(path):
            existing_file(path, "file, recipe or run")
    options = {name: value for name, value in reading(arguments).items() if value is not None}
    header = tuple(name.strip() for name in arguments.header.split(",")) if arguments.header else ()
    with busy("reading"):
        return guess(paths, texts=arguments.text, label=arguments.label, header=header, **options)
