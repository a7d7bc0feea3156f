"""Completion of the command line for shells, made by shtab from the verbs' own parsers."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hf_trainpipe.cli.parser import Verb

SHELLS = ("bash", "zsh", "fish")


def script(shell: str, verbs: Mapping[str, Verb]) -> str:
    """The script that a shell reads to complete verbs, options, fields of recipes, and names of files."""
    import shtab

    root = argparse.ArgumentParser(prog="hf-trainpipe", add_help=False)
    subparsers = root.add_subparsers()
    for name, verb in verbs.items():
        parser = subparsers.add_parser(name, description=_plain(verb.summary), help=_plain(verb.summary))
        for argument in verb.arguments if not verb.raw else ():
            argument.add_to(parser)
        if verb.takes_fields:
            for option, text in known_fields().items():
                parser.add_argument(option, help=text)
        for action in parser._actions:
            action.help = action.help if action.help is argparse.SUPPRESS else _plain(action.help or "")
            if not action.option_strings and action.choices is None:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    found: str = shtab.complete(root, shell=shell, root_prefix="hf_trainpipe")
    return found


def known_fields() -> dict[str, str]:
    """The options that every recipe has, and what they mean."""
    from hf_trainpipe.recipe import Budget, Evaluation, Hub, Optim, Pretrained, Tokens
    from hf_trainpipe.recipe_file.described import field_texts

    parts: dict[str, type] = {
        "model": Pretrained, "tokens": Tokens, "optim": Optim, "budget": Budget, "evaluation": Evaluation, "hub": Hub,
    }  # fmt: skip
    return {
        f"--{part}.{field.name.replace('_', '-')}": _plain(field_texts(cls)[field.name])
        for part, cls in parts.items()
        for field in dataclasses.fields(cls)
    } | {"--name": "of the run", "--seed": "of everything that is drawn"}


def _plain(text: str) -> str:
    """Up to the first full stop, without what shells and argparse read in their own way."""
    return text.partition(". ")[0].translate(str.maketrans("", "", "`%'\"[]():;$"))
