"""The verbs that use a package: evaluate and predict."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from hf_trainpipe.cli.parser import UsageError, Verb, existing, print_result
from hf_trainpipe.errors import RecipeError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.recipe_file import RecipeSource

BACKENDS = ("torch", "onnx", "onnx-int8")


def worker_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of verbs that load a package."""
    parser.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1; chosen by itself by default")
    consent_argument(parser)
    parser.add_argument("--backend", choices=BACKENDS, help="what runs the network; the package's own by default")


def worker_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What :func:`worker_arguments` gave."""
    return {name: getattr(arguments, name) for name in ("device", "allow_code", "backend")}


def consent_argument(parser: argparse.ArgumentParser) -> None:
    """The option that allows a package's own code to run."""
    parser.add_argument("--allow-code", action="store_true", help="run code that the package brings; read it first")


def _reading_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--column",
        metavar="NAME",
        action="append",
        default=[],
        help="the column that holds the text; twice for a pair; by default those of the recipe",
    )
    parser.add_argument("--format", metavar="F", help="of the file: csv, jsonl, parquet, ...; by its ending")
    parser.add_argument("--delimiter", metavar="C", help="between the fields of csv: ';'")
    parser.add_argument("--encoding", metavar="E", help="of the file: cp1252, latin-1; utf-8 by default")
    parser.add_argument("--quoting", choices=("minimal", "none"), default="minimal", help="none: quotes are text")


def _reading(arguments: argparse.Namespace) -> dict[str, Any]:
    delimiter = {"\\t": "\t", "tab": "\t"}.get(arguments.delimiter, arguments.delimiter)
    return {
        "format": arguments.format,
        "delimiter": delimiter,
        "encoding": arguments.encoding,
        "quoting": arguments.quoting,
    }


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="RUN|PACKAGE")
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help="labelled rows; a split of the recipe's data without it"
    )
    parser.add_argument("--recipe", metavar="R", help="take task, metrics and data from this recipe")
    parser.add_argument("--split", choices=("validation", "test"), help="of the recipe's data; validation by default")
    parser.add_argument("--label", metavar="NAME", help="the column that holds the labels; the recipe's by default")
    _reading_arguments(parser)
    worker_arguments(parser)
    parser.add_argument("--json", action="store_true")


def _evaluate(arguments: argparse.Namespace) -> int:
    path = existing(arguments.path, "run or package")
    from hf_trainpipe.cli.shown import show_evaluation

    if arguments.file is not None:
        existing(arguments.file, "file")
        if arguments.split is not None:
            raise UsageError("evaluate: expected a file or --split, found both.", fix="Leave one of the two out.")
        recipe = recipe_of(path, arguments.recipe)[0] if arguments.recipe else None
        from hf_trainpipe.api.package import load

        package = load(path, **worker_of(arguments))
        result = package.evaluate(
            arguments.file, column=arguments.column, label=arguments.label, recipe=recipe, **_reading(arguments)
        )
    else:
        if arguments.column or arguments.label:
            raise UsageError(
                "evaluate: --column and --label choose columns of a file, and none is named.",
                fix=f"hf-trainpipe evaluate {path} FILE --column NAME --label NAME",
            )
        recipe, source = recipe_of(path, arguments.recipe)
        from hf_trainpipe.api.package import load
        from hf_trainpipe.utils.resources import use_paths_of_run

        package = load(path, **worker_of(arguments))
        with use_paths_of_run(path, source):
            result = package.evaluate(split=arguments.split or "validation", recipe=recipe)
    print_result(result, as_json=arguments.json, show=show_evaluation)
    return 0


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


def _predict_arguments(parser: argparse.ArgumentParser) -> None:
    from hf_trainpipe.package.answers import FORMS

    parser.add_argument("package", metavar="PACKAGE")
    parser.add_argument("--input", required=True, metavar="F", help="any file that training reads; - is lines of stdin")
    parser.add_argument(
        "--output", required=True, metavar="F", help=".jsonl, .csv, .tsv or .parquet, also .gz or .zst; - is stdout"
    )
    _reading_arguments(parser)
    parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="of the answers: top_k=3")
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--output-format", metavar="F", help=f"{', '.join(FORMS)}; by the output's ending, of - a table or answers"
    )
    form.add_argument("--only-answers", action="store_true", help="as --output-format answers: without the input")
    worker_arguments(parser)
    parser.add_argument("--json", action="store_true", help="tell what was done as JSON, on stderr if --output is -")


def _predict(arguments: argparse.Namespace) -> int:
    package = existing(arguments.package, "package")
    if arguments.input != "-":
        existing(arguments.input, "input file")
    params: dict[str, Any] = {}
    for pair in arguments.param:
        name, equals, text = pair.partition("=")
        if not (equals and name.isidentifier()) or name in _NOT_PARAMETERS:
            raise UsageError(f"--param: expected NAME=VALUE, found {pair!r}.", fix="Write --param top_k=3.")
        try:
            params[name] = json.loads(text)
        except ValueError:
            params[name] = text
    from hf_trainpipe.package.predict import predict_file
    from hf_trainpipe.package.records import Reading

    form = "answers" if arguments.only_answers else arguments.output_format
    if arguments.json and arguments.output == "-" and form is None:
        form = "answers"  # no table for a program
    done = predict_file(
        package,
        arguments.input,
        arguments.output,
        column=arguments.column,
        reading=Reading(**_reading(arguments)),
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


_NOT_PARAMETERS = ("column", "reading", "form", "device", "allow_code", "backend")
_READING = "[--column NAME ...] [--format F] [--delimiter C] [--encoding E]"
_WORKER = "[--device D] [--backend B] [--allow-code]"

ASKING_VERBS: dict[str, Verb] = {
    "evaluate": Verb(
        "score a package on labelled rows: a file, or a split of its recipe's data",
        f"RUN|PACKAGE [FILE|--split validation|test] [--label NAME] [--recipe R]\n       {_READING}\n"
        f"       {_WORKER} [--json]",
        _evaluate_arguments,
        _evaluate,
    ),
    "predict": Verb(
        "answer the rows of a file",
        f"PACKAGE --input F --output F {_READING}\n"
        f"       [--output-format F|--only-answers] [--param NAME=VALUE ...] {_WORKER} [--json]",
        _predict_arguments,
        _predict,
    ),
}
