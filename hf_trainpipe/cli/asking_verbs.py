"""The verbs that use a package: evaluate and predict."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from hf_trainpipe.cli.parser import Argument, UsageError, existing, existing_file, print_result, taken, verb
from hf_trainpipe.cli.shown import show_evaluation
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.utils.wording import reads_a_file

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.recipe_file import RecipeSource
    from hf_trainpipe.report.blocks import Page

READING = (
    Argument("--column NAME ...", "the column that holds the text; twice for a pair; by default those of the recipe"),
    Argument("--format F", "of the file: csv, jsonl, parquet, ...; by its ending"),
    Argument("--delimiter C", "between the fields of csv: ';'"),
    Argument("--encoding E", "of the file: cp1252, latin-1; utf-8 by default"),
    Argument("--quoting minimal|none", "none: quotes are text", default="minimal"),
)
"""Options of verbs that read a file."""
WORKER = (
    Argument("--device D", "cpu, cuda, cuda:1; chosen by itself by default"),
    "--allow-code",
    Argument("--backend torch|onnx|onnx-int8", "what runs the network; the package's own by default"),
)
"""Options of verbs that load a package."""
ANSWERER = (
    *WORKER,
    Argument(
        "--precision fp32|bf16|fp16", "what torch multiplies in; 16 bits if the answers agree with those recorded"
    ),
)
"""Options of verbs whose answers may be in 16 bits."""


def worker_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What :data:`WORKER` or :data:`ANSWERER` gave."""
    return taken(arguments, "device", "allow_code", "backend", *(["precision"] if "precision" in arguments else []))


def reading(arguments: argparse.Namespace) -> dict[str, Any]:
    """What :data:`READING` gave, but for the columns: fields of ``ReadOptions`` and ``Files``. Messages name these options then."""
    reads_a_file()
    delimiter = {"\\t": "\t", "tab": "\t"}.get(arguments.delimiter, arguments.delimiter)
    return {"delimiter": delimiter, **taken(arguments, "format", "encoding", "quoting")}


def check_rows(verb: str, arguments: argparse.Namespace) -> None:
    """Refuse rows of a file and of a split at once, and columns of no file.

    Raises:
        UsageError: as said; or there is no such file.
    """
    if arguments.file is not None:
        existing_file(arguments.file, "file")
        if arguments.split is not None:
            raise UsageError(f"{verb}: expected a file or --split, found both.", fix="Leave one of the two out.")
    elif arguments.column or getattr(arguments, "label", None):
        options = [f"--{name}" for name in ("column", "label") if hasattr(arguments, name)]
        raise UsageError(
            f"{verb}: {' and '.join(options)} {'choose' if len(options) > 1 else 'chooses'} columns of a file, and none is named.",
            fix=f"hf-trainpipe {verb} {arguments.path} FILE {' '.join(f'{option} NAME' for option in options)}",
        )


@verb(
    "evaluate",
    "score a package on labelled rows: a file, or a split of its recipe's data",
    Argument("RUN|PACKAGE", dest="path"),
    Argument("[FILE]", "labelled rows; a split of the recipe's data without it"),
    Argument("--recipe R", "take task, metrics and data from this recipe"),
    Argument("--split validation|test", "of the recipe's data; validation by default"),
    Argument("--label NAME", "the column that holds the labels; the recipe's by default"),
    *READING,
    *ANSWERER,
    "--json",
)
def evaluate(arguments: argparse.Namespace) -> int:
    path = existing(arguments.path, "run or package")
    check_rows("evaluate", arguments)
    recipe = source = None
    if arguments.recipe or arguments.file is None:
        recipe, source = recipe_of(path, arguments.recipe)
    from hf_trainpipe.api.package import load
    from hf_trainpipe.utils.resources import use_paths_of_run

    package = load(path, **worker_of(arguments))
    if arguments.file is not None:
        chosen = {**taken(arguments, "column", "label"), **reading(arguments)}
        result = package.evaluate(arguments.file, recipe=recipe, **chosen)
    else:
        with use_paths_of_run(path, source):
            result = package.evaluate(split=arguments.split or "validation", recipe=recipe)
    print_result(result, arguments, show_evaluation)
    return 0


def named_recipe(arguments: argparse.Namespace) -> tuple[Recipe, RecipeSource]:
    """The recipe that the arguments name, with the fields that they set; of verbs that take ``--added`` and ``--rows``, with further
    rows and on those chosen."""
    from hf_trainpipe.recipe_file import load, override

    recipe, source = (arguments.load or load)(arguments.recipe)
    recipe = override(recipe, arguments.fields, verb_options=arguments.own_options)
    source = replace(source, overrides=tuple(arguments.fields))
    if added := getattr(arguments, "added", None):
        from hf_trainpipe.data.added_rows import AddedRows

        recipe = replace(recipe, data=AddedRows.of(recipe.data, added))
        source = replace(source, overrides=(*source.overrides, "--added", added))
    if rows := getattr(arguments, "rows", None):
        from hf_trainpipe.data.chosen_rows import ChosenRows

        recipe = replace(recipe, data=ChosenRows.of(recipe.data, rows))
        source = replace(source, overrides=(*source.overrides, "--rows", rows))
    return recipe, source


def recipe_of(path: Path, spelled: str | None) -> tuple[Recipe, RecipeSource | None]:
    """The recipe named on the command line, or else the one that a run or a package carries."""
    from hf_trainpipe.codec import from_json
    from hf_trainpipe.recipe_file import load

    if spelled:
        return load(spelled)
    from hf_trainpipe.package.layout import find_package, read_manifest

    run = path / "run.json"
    try:
        recorded = json.loads(run.read_bytes()) if run.is_file() else read_manifest(find_package(path))
        return from_json(recorded.get("recipe") or {}), None
    except (RecipeError, ValueError) as error:
        raise UsageError(
            f"{path}: its recorded recipe cannot be used: {getattr(error, 'message', error)}",
            fix="Name the recipe's file: --recipe recipes/x.py",
        ) from error


@verb(
    "predict",
    "answer the rows of a file",
    "PACKAGE",
    Argument("--input F", "any file that training reads; - is lines of stdin", required=True),
    Argument("--output F", ".jsonl, .csv, .tsv or .parquet, also .gz or .zst; - is stdout", required=True),
    *READING,
    Argument("--param NAME=VALUE ...", "of the answers: top_k=3"),
    Argument(
        "--output-format F",
        "answers, jsonl, csv, tsv, parquet, table; by the output's ending, of - a table or answers",
    ),
    Argument("--only-answers", "as --output-format answers: without the input"),
    *ANSWERER,
    Argument("--json", "tell what was done as JSON, on stderr if --output is -"),
)
def predict(arguments: argparse.Namespace) -> int:
    package = existing(arguments.package, "package")
    if arguments.input != "-":
        existing_file(arguments.input, "input file")
    if arguments.only_answers and arguments.output_format:
        raise UsageError(
            "predict: expected --output-format or --only-answers, found both.", fix="Leave one of the two out."
        )
    params: dict[str, Any] = {}
    for pair in arguments.param:
        name, equals, text = pair.partition("=")
        if not (equals and name.isidentifier()) or name in _NOT_PARAMETERS:
            raise UsageError(f"--param: expected NAME=VALUE, found {pair!r}.", fix="Write --param top_k=3.")
        try:
            params[name] = json.loads(text)
        except ValueError:
            params[name] = text
    from hf_trainpipe.data.readers_base import ReadOptions
    from hf_trainpipe.package.predict import predict_file

    form = "answers" if arguments.only_answers else arguments.output_format
    if arguments.json and arguments.output == "-" and form is None:
        form = "answers"  # no table for a program
    done = predict_file(
        package,
        arguments.input,
        arguments.output,
        column=arguments.column,
        reading=ReadOptions(**reading(arguments)),
        form=form,
        **worker_of(arguments),
        **params,
    )
    if arguments.json:
        facts = {**vars(done), "output": arguments.output, "unanswered": dict(done.unanswered)}
        print(json.dumps(facts, ensure_ascii=False), file=sys.stderr if arguments.output == "-" else sys.stdout)
        return 0
    answered = f" (column {' and '.join(map(repr, done.columns))})" if done.columns else ""
    shown = "standard output" if arguments.output == "-" else arguments.output
    missing = done.unanswered.total()
    print(f"{done.rows - missing:,} of {done.rows:,} rows answered{answered}, written to {shown}", file=sys.stderr)
    if missing:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in done.unanswered.most_common(5))
        more = ", ..." if missing > len(done.places) else ""
        print(f"warning: {missing:,} have no answer: {reasons} ({'; '.join(done.places)}{more})", file=sys.stderr)
    return 0


_NOT_PARAMETERS = ("column", "reading", "form", "device", "allow_code", "backend", "precision")


class FindingsPage(Protocol):
    """A module of pages about what a verb found of a run or a package."""

    def page(self, found: Mapping[str, Any], *, of: str) -> Page: ...

    def screen(self, found: Mapping[str, Any], *, of: str, further: Sequence[tuple[str, str]]) -> str: ...


def leave(
    told: dict[str, Any],
    pages: FindingsPage,
    path: Path,
    arguments: argparse.Namespace,
    *,
    kept_as: str,
    further: Sequence[tuple[str, str]] = (),
) -> None:
    """Print what was found; keep it in the run's folder for its report, and write the page that ``--html`` names.

    Args:
        told: It as JSON.
        pages: Its page and its screen.
        path: The run or the package.
        arguments: Of the verb: ``html``, ``json``, and ``file``, whose rows are not the run's.
        kept_as: Its file in the folder of a run.
        further: Names and values of more lines on the screen.
    """
    lines = list(further)
    if (path / "run.json").is_file() and arguments.file is None:
        from hf_trainpipe.report.kept import keep

        lines += [("told in", str(written)) for written in keep(path, kept_as, told)]
    if arguments.html is not None:
        from hf_trainpipe.report.page import save

        save(pages.page(told, of=str(path)), arguments.html)
        lines.append(("written", str(arguments.html)))
    print_result(told, arguments, lambda _: pages.screen(told, of=str(path), further=lines))
