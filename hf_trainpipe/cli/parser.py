"""A verb of the command line: parsing its arguments, printing its result."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hf_trainpipe.errors import TrainpipeError, closest
from hf_trainpipe.utils.tables import facts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hf_trainpipe.tracking.working import Working


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
        options = [option for action in self._actions for option in action.option_strings]
        unknown = [given.partition("=")[0] for given in self.given if given.startswith("--")]
        wrong = next((given for given in unknown if given not in options and given != "--"), "")
        if wrong and "unrecognized" not in message:  # --ouput, where --output is missed
            message = f"there is no option {wrong}"
        hint = closest(wrong, options) if wrong else ""
        raise UsageError(f"{verb}: {message}.{hint}", fix=f"{self.format_usage().strip()}\nMore: {self.prog} --help")


@dataclass(frozen=True)
class Verb:
    """A verb: its line in the help, its arguments, and what it does with them."""

    summary: str
    usage: str
    arguments: Callable[[argparse.ArgumentParser], None]
    act: Callable[[argparse.Namespace], int]
    takes_fields: bool = False
    """Whether options that are not its own are fields of the recipe."""
    raw: bool = False
    """Whether everything after the verb is passed on as it is, in ``command``."""


def split_fields(argv: Sequence[str], own_options: set[str]) -> tuple[list[str], list[str]]:
    """The verb's own arguments, and the recipe's; values follow the option before them."""
    own: list[str] = []
    fields: list[str] = []
    target = own
    for argument in argv:
        if argument.partition("=")[0] in own_options:
            target = own
        elif argument.startswith("--") and argument != "--":
            target = fields
        target.append(argument)
    return own, fields


def existing(spelled: str, what: str) -> Path:
    """The path, if it exists; ``what`` names it in the error."""
    path = Path(spelled)
    if path.exists():
        return path
    known = [str(other) for other in path.parent.iterdir()] if path.parent.is_dir() else []
    raise UsageError(f"{path}: there is no such {what}.{closest(str(path), known)}", fix=f"Name an existing {what}.")


def is_main_process() -> bool:
    """Whether this is rank 0, or the only process."""
    return os.environ.get("RANK", "0") == "0"


def busy(what: str) -> Working:
    """Show progress on standard error for as long as a block lasts; rank 0 only."""
    from hf_trainpipe.tracking.console import Console

    return Console(0, is_main_process()).working(what)


def print_result(
    result: Mapping[str, Any], *, as_json: bool, show: Callable[[Mapping[str, Any]], str] | None = None
) -> None:
    """Print what a verb found: one line of JSON for programs; for the user the text of ``show``, or a line a fact."""
    if as_json:
        print(json.dumps(result, ensure_ascii=False, default=str))
    elif show is not None:
        print(show(result))
    else:
        print(facts((name, _spelled(value)) for name, value in result.items()))


def _spelled(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_spelled(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_spelled, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "none" if value is None else str(value)
