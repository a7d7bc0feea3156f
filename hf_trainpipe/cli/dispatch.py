"""Find the verb that the arguments name, and run it."""

from __future__ import annotations

import argparse
import textwrap
from typing import TYPE_CHECKING

from hf_trainpipe import __version__
from hf_trainpipe.cli.parser import Parser, UsageError, Verb, split_fields
from hf_trainpipe.cli.verbs import VERBS
from hf_trainpipe.errors import closest
from hf_trainpipe.utils.gc import resume_gc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.recipe_file import RecipeSource


def dispatch(argv: Sequence[str]) -> int:
    """Find the verb and run it; returns the exit code."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        print(f"hf-trainpipe {__version__}")
        return 0
    name, *rest = argv
    if name not in VERBS and name.partition(":")[0].endswith((".py", ".json")):
        raise UsageError(f"expected a verb before {name}.", fix=f"hf-trainpipe show {name}\nhf-trainpipe train {name}")
    if name not in VERBS:
        raise UsageError(
            f"there is no verb {name!r}.{closest(name, VERBS)}",
            fix=f"Verbs: {', '.join(VERBS)}\nMore: hf-trainpipe --help",
        )
    return _run_verb(name, rest)


def train_function(function: Callable[[], Recipe], argv: Sequence[str]) -> int:
    """``train`` with a recipe function instead of a file; for :func:`hf_trainpipe.cli.main`."""
    from hf_trainpipe.recipe_file import call, source_of

    source = source_of(function)
    return _run_verb("train", [str(source), *argv], lambda _: (call(function, source), source))


def _run_verb(name: str, argv: Sequence[str], load: Callable[[str], tuple[Recipe, RecipeSource]] | None = None) -> int:
    verb = VERBS[name]
    if name != "train":  # training resumes it by itself, once everything is loaded
        resume_gc()
    parser = Parser(
        prog=f"hf-trainpipe {name}",
        usage=f"hf-trainpipe {name} {verb.usage}",
        description=verb.summary,
        allow_abbrev=False,
    )
    verb.arguments(parser)
    if verb.raw and argv and argv[0] not in ("-h", "--help"):
        return verb.act(argparse.Namespace(command=list(argv)))
    if not verb.takes_fields:
        return _act(verb, parser, argv)
    own, fields = split_fields(argv, {option for action in parser._actions for option in action.option_strings})
    parser.set_defaults(fields=fields, load=load, own_options=tuple(parser._option_string_actions))
    if {"-h", "--help"} & set(own) and own[0] not in ("-h", "--help"):
        parser.epilog = _field_help(own[0], load)
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
    return _act(verb, parser, own)


def _act(verb: Verb, parser: argparse.ArgumentParser, argv: Sequence[str]) -> int:
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:  # after --help
        return int(stop.code or 0)
    return verb.act(arguments)


def _help() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {verb.summary}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            "usage: hf-trainpipe VERB ...   or   accelerate launch -m hf_trainpipe train ...",
            "",
            "Fine-tune a Hugging Face text model from one recipe, measure it, package it, serve it.",
            "",
            *lines,
            "",
            "VERB --help explains a verb; train RECIPE --help lists the fields of a recipe.",
            "Exit codes: 0 done, 1 a bug in hf-trainpipe, 2 wrong input, 3 no valid checkpoint,",
            "4 diverged, 5 a push failed, 6 a package does not reproduce its predictions,",
            "75 interrupted and resumable.",
        ]
    )


def _field_help(spelled: str, load: Callable[[str], tuple[Recipe, RecipeSource]] | None) -> str:
    from hf_trainpipe.recipe_file import leaves
    from hf_trainpipe.recipe_file import load as load_file
    from hf_trainpipe.recipe_file.described import option_texts

    recipe, source = (load or load_file)(spelled)
    texts = option_texts(recipe)
    lines = [f"fields of {source}:"]
    for option, kind, value in leaves(recipe):
        lines.append(f"  {option}  ({kind}; now {value!r})")
        about = textwrap.wrap(texts.get(option, "").replace("``", ""), 90)
        lines += [f"      {line}" for line in about]
    return "\n".join(lines)
