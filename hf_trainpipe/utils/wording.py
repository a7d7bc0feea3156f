"""Adapt messages to where they are shown: options on a command line, arguments in Python, ``!`` in a notebook.

Messages are written for the command line. In Python ``--column text`` becomes ``column="text"`` and the run option
``--extend`` becomes ``RunOptions(extend=True)``; in a notebook ``hf-trainpipe push RUN`` becomes
``!hf-trainpipe push RUN``. Of a file that a verb reads without a recipe ``data.quoting='none'`` becomes ``--quoting none``.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

Place = Literal["shell", "python", "notebook"]
_said: Place | None = None
_reads_a_file = False

_NAMES = (
    "allow-change|allow-code|extend|run-dir|resume-from|resume|recipe|split|column|label|format|delimiter|encoding|quoting|"
    "device|backend"
)
_COMMAND = re.compile(r"hf-trainpipe [a-z][^`\n]*")
_OPTION = re.compile(rf"--({_NAMES})(?!-|\w|\.\w)(?:[ =]('[^']*'|[\w./:@{{}}-]*[\w}}]))?")
_FIELD = re.compile(r"--([a-z_]+(?:\.[a-z][a-z_-]*)+)(?: ([A-Z][A-Z]+|[0-9][\w.-]*\w|[0-9]))?")
"""An option of a recipe's field: ``--budget.epochs 5``."""
_READING = re.compile(r"\bdata\.(format|delimiter|encoding|quoting)\b(?:='([^']*)')?")
_FLAGS = {"allow-code": "allow_code=True", "extend": "RunOptions(extend=True)"}
_OF_RUN = frozenset(["allow-change", "resume", "resume-from"])
"""Options of a run, which ``execute`` takes as one object."""
_NO_VALUES = frozenset(
    ["and", "as", "at", "for", "holds", "in", "is", "names", "naming", "never", "or", "starts", "that", "to", "with"]
) - {"never"}
_SEVERAL = {"allow-change": ("{", "}"), "column": ("(", ")")}


def current_place() -> Place:
    """Where messages are shown: ``shell`` while a command runs, else ``notebook`` or ``python``."""
    if _said is not None:
        return _said
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "notebook" if type(shell).__name__ == "ZMQInteractiveShell" else "python"


@contextmanager
def messages_shown_in(place: Place) -> Iterator[None]:
    """Set where messages are shown, inside this context."""
    global _said, _reads_a_file
    before, _said = (_said, _reads_a_file), place
    try:
        yield
    finally:
        _said, _reads_a_file = before


def reads_a_file() -> None:
    """From here on the command reads a file by options of its own, until :func:`messages_shown_in` ends."""
    global _reads_a_file
    _reads_a_file = True


def command_line() -> str:
    """The command that started this process, as a person would type it; in a notebook the call."""
    if current_place() == "notebook":
        return "execute(recipe)"
    arguments = sys.argv[1:]
    if Path(sys.argv[0]).name in ("__main__.py", "hf-trainpipe"):
        return shlex.join(["hf-trainpipe", *arguments])
    return shlex.join(["python", sys.argv[0], *arguments])


def adapt_message(text: str) -> str:
    """A message in the form for the place where it is shown.

    >>> adapt_message("continue with it: --allow-change seed --allow-change budget.epochs")
    'continue with it: RunOptions(allow_change={"seed", "budget.epochs"})'
    """
    place = current_place()
    if place == "shell":
        return _READING.sub(_option, text) if _reads_a_file else text
    mark = "!" if place == "notebook" else ""
    parts, start = [], 0
    for command in _COMMAND.finditer(text):
        parts += [_arguments(text[start : command.start()]), mark, command[0]]
        start = command.end()
    return "".join([*parts, _arguments(text[start:])])


def _option(found: re.Match[str]) -> str:
    return f"--{found[1]}" + ("" if found[2] is None else f" {shlex.quote(found[2])}")


def _arguments(text: str) -> str:
    for name, ends in _SEVERAL.items():
        one = rf"--{name} ('[^']*'|[\w.]*\w)"
        for several in [found[0] for found in re.finditer(rf"{one}(?: {one})+", text)]:
            text = text.replace(several, _joined(several, one, *ends))
    return _FIELD.sub(_field, _OPTION.sub(_argument, text))


def _field(found: re.Match[str]) -> str:
    return found[1].replace("-", "_") + (f"={found[2]}" if found[2] else "")


def _joined(text: str, one: str, left: str, right: str) -> str:
    name = text.split(" ", 1)[0][2:]
    return _keyword(name, f"{left}{', '.join(_quoted(value) for value in re.findall(one, text))}{right}")


def _argument(found: re.Match[str]) -> str:
    name, value = found[1], found[2]
    if name in _FLAGS:
        return _FLAGS[name] + (f" {value}" if value else "")
    if value is None or value in _NO_VALUES:
        return name.replace("-", "_") + (f" {value}" if value else "")
    return _keyword(name, f"{{{_quoted(value)}}}" if name == "allow-change" else _quoted(value))


def _keyword(name: str, value: str) -> str:
    keyword = f"{name.replace('-', '_')}={value}"
    return f"RunOptions({keyword})" if name in _OF_RUN else keyword


def _quoted(value: str) -> str:
    return value if value.startswith("'") else f'"{value}"'
