"""A verb of the command line: its arguments, and what is printed of its result."""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from hf_trainpipe.errors import TrainpipeError, closest


class UsageError(TrainpipeError):
    """The command line itself is wrong: an unknown verb or option, a missing argument."""


class Parser(argparse.ArgumentParser):
    """argparse with errors in the form of all others."""

    given: Sequence[str] = ()
    """The arguments that are parsed."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.given = [] if args is None else list(args)
        return super().parse_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        verb = self.prog.removeprefix("hf-trainpipe ")
        options = list(self._option_string_actions)
        unknown = [given.partition("=")[0] for given in self.given if given.startswith("--")]
        wrong = next((given for given in unknown if given not in options and given != "--"), "")
        if wrong and "unrecognized" not in message:  # --ouput, where --output is missed
            message = f"there is no option {wrong}"
        hint = closest(wrong, options) if wrong else ""
        raise UsageError(f"{verb}: {message}.{hint}", fix=f"{self.format_usage().strip()}\nMore: {self.prog} --help")


USUAL = {
    "RECIPE": "FILE.py, FILE.py:FUNCTION or FILE.json",
    "PACKAGE": "the folder of a package, or of a run",
    "RUN|PACKAGE": "the folder of a run, or of a package",
    "--recipe R": "needed where the recipe file has classes of its own",
    "--allow-code": "run code that the package brings; read it first",
    "--json": "print one line of JSON, for programs",
}
"""Arguments that several verbs have, and their line of help."""


class Argument:
    """An argument of a verb.

    Args:
        spelled: As the usage spells it: ``RECIPE`` is needed and ``[FILE]`` is not; ``--json`` is a switch,
            ``--run-dir D`` takes a value, ``--resume auto|never`` one of these, ``--column NAME ...`` may be repeated.
        about: Its line of help; empty: the usual one.
        further: What argparse takes further.
    """

    def __init__(self, spelled: str, about: str = "", **further: Any) -> None:
        name, _, value = spelled.strip("[]").partition(" ")
        settings: dict[str, Any] = {"help": about or USUAL[spelled]}
        if not name.startswith("-"):
            name, value = further.pop("dest", name.lower()), name
            settings["nargs"] = "?" if spelled.startswith("[") else None
        if not value:
            settings["action"] = "store_true"
        elif value.islower():
            settings["choices"] = value.split("|")
        else:
            settings["metavar"] = value.removesuffix(" ...")
        if value.endswith(" ..."):
            settings |= {"action": "append", "default": []}
        self.name, self.settings = name, settings | further
        self.usage = f"[{spelled}]" if spelled.startswith("-") and not further.get("required") else spelled

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Let a parser take it."""
        parser.add_argument(self.name, **self.settings)


@dataclass(frozen=True, kw_only=True)
class Verb:
    """A verb: its line in the help, its arguments, and what it does with them."""

    name: str
    summary: str
    arguments: tuple[Argument, ...]
    act: Callable[[argparse.Namespace], int]
    takes_fields: bool = False
    """Whether options that are not its own are fields of the recipe."""
    raw: str = ""
    """The usage, where everything after the verb is passed on as it is, in ``command``."""

    def __call__(self, arguments: argparse.Namespace) -> int:
        """Do it; returns the exit code."""
        return self.act(arguments)

    @property
    def usage(self) -> str:
        """What follows the verb's name."""
        shown = [given.usage for given in self.arguments if given.settings["help"] != argparse.SUPPRESS]
        parts = [*shown, "[--FIELD VALUE ...]"] if self.takes_fields else shown
        whole = [part.replace(" ", "\0") for part in parts]
        filled = textwrap.fill(" ".join(whole), 100, subsequent_indent=" " * 7, break_on_hyphens=False)
        return self.raw or filled.replace("\0", " ")

    def parser(self) -> Parser:
        """What reads its arguments."""
        prog = f"hf-trainpipe {self.name}"
        parser = Parser(prog=prog, usage=f"{prog} {self.usage}", description=self.summary, allow_abbrev=False)
        for given in self.arguments:
            given.add_to(parser)
        return parser


def verb(
    name: str, summary: str, *arguments: Argument | str, **further: Any
) -> Callable[[Callable[[argparse.Namespace], int]], Verb]:
    """Make a verb of the function that follows: a usual argument by its spelling alone; ``further`` are fields of
    :class:`Verb`."""
    made = tuple(Argument(given) if isinstance(given, str) else given for given in arguments)
    return lambda act: Verb(name=name, summary=summary, arguments=made, act=act, **further)


def taken(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Arguments that a worker takes under the same names."""
    return {name: getattr(arguments, name) for name in names}


def split_fields(argv: Sequence[str], own_options: set[str]) -> tuple[list[str], list[str]]:
    """The verb's own arguments, and the recipe's; values follow the option before them."""
    own: list[str] = []
    fields: list[str] = []
    target = own
    for given in argv:
        if given.partition("=")[0] in own_options:
            target = own
        elif given.startswith("--") and given != "--":
            target = fields
        target.append(given)
    return own, fields


def existing(spelled: str, what: str) -> Path:
    """The path, if it exists; ``what`` names it in the error."""
    path = Path(spelled)
    if path.exists():
        return path
    known = [str(other) for other in path.parent.iterdir()] if path.parent.is_dir() else []
    raise UsageError(f"{path}: there is no such {what}.{closest(str(path), known)}", fix=f"Name an existing {what}.")


def existing_file(spelled: str, what: str) -> None:
    """The same of a file of rows, which may lie elsewhere: of an address its reader tells whether it is there."""
    from hf_trainpipe.data.credentials import is_remote

    if not is_remote(spelled):
        existing(spelled, what)


def is_main_process() -> bool:
    """Whether this is rank 0, or the only process."""
    return os.environ.get("RANK", "0") == "0"


def busy(what: str) -> AbstractContextManager[object]:
    """Show progress on standard error for as long as a block lasts; rank 0 only."""
    from hf_trainpipe.tracking.console import Console

    return Console(0, is_main_process()).working(what)


def print_result(result: Any, arguments: argparse.Namespace, show: Callable[[Any], str]) -> None:
    """Print what a verb found: with ``--json`` one line of JSON for programs, else the text of ``show``."""
    if arguments.json:
        print(json.dumps(result, ensure_ascii=False, default=str))
        return
    from hf_trainpipe.tracking.console import fitted

    print(fitted(show(result), sys.stdout))
