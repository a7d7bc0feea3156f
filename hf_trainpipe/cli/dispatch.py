"""Find the verb that the arguments name, and run it."""

from __future__ import annotations

import argparse
import textwrap
from typing import TYPE_CHECKING

from hf_trainpipe import __version__
from hf_trainpipe.cli.parser import UsageError, split_fields
from hf_trainpipe.cli.verbs import VERBS
from hf_trainpipe.errors import EXIT_CODES, closest
from hf_trainpipe.utils.gc import resume_gc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.recipe_file import RecipeSource

_HELP = """\
usage: hf-trainpipe VERB ...   or   accelerate launch -m hf_trainpipe train ...

Fine-tune a Hugging Face text model from one recipe, measure it, package it, serve it.

{verbs}

VERB --help explains a verb; train RECIPE --help lists the fields of a recipe.
{codes}"""


def dispatch(argv: Sequence[str]) -> int:
    """Find the verb and run it; returns the exit code."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        width = max(map(len, VERBS))
        verbs = "\n".join(f"  {name:<{width}}  {verb.summary}" for name, verb in VERBS.items())
        codes = "; ".join(f"{code} {row.meaning}" for code, row in EXIT_CODES.items())
        print(_HELP.format(verbs=verbs, codes=textwrap.fill(f"Exit codes: {codes}.", 90)))
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
    if verb.raw and argv and argv[0] not in ("-h", "--help"):
        return verb(argparse.Namespace(command=list(argv)))
    parser = verb.parser()
    if verb.takes_fields:
        own_options = tuple(parser._option_string_actions)
        argv, fields = split_fields(argv, set(own_options))
        parser.set_defaults(fields=fields, load=load, own_options=own_options)
        if {"-h", "--help"} & set(argv) and argv[0] not in ("-h", "--help"):
            parser.epilog = _field_help(argv[0], load)
            parser.formatter_class = argparse.RawDescriptionHelpFormatter
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:  # after --help
        return int(stop.code or 0)
    return verb(arguments)


def _field_help(spelled: str, load: Callable[[str], tuple[Recipe, RecipeSource]] | None) -> str:
    from hf_trainpipe.recipe_file import leaves
    from hf_trainpipe.recipe_file import load as load_file

    recipe, source = (load or load_file)(spelled)
    lines = [f"fields of {source}:"]
    for leaf in leaves(recipe):
        lines.append(f"  {leaf.option}  ({leaf.kind}; now {leaf.value!r})")
        about = textwrap.wrap(leaf.text.replace("``", ""), 90)
        lines += [f"      {line}" for line in about]
    return "\n".join(lines)
