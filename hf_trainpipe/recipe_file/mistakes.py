"""Turn errors in a recipe file into messages with file and line and the expected fields or types."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hf_trainpipe.codec.fields import conforms, field_types, join, needed, spell
from hf_trainpipe.errors import RecipeError, TrainpipeError, closest
from hf_trainpipe.recipe import Recipe

PACKAGE = __name__.partition(".")[0]
HALF = re.compile("[\ud800-\udfff]")


@contextmanager
def mistakes_in(file: Path) -> Iterator[None]:
    """Turn an error while a recipe file runs into a TrainpipeError with file and line."""
    try:
        yield
    except TrainpipeError as error:
        raise retold(error, f"{_shown(file)}{_line(error, file)}") from None
    except SyntaxError as error:
        place = f"{_shown(Path(error.filename or file))}, line {error.lineno}"
        code = f"\n\n  {error.text.strip()}" if error.text else ""
        raise RecipeError(
            f"{place}: {str(error.msg).rstrip('.?')}.{code}", fix="Correct the line.", file=str(file), line=error.lineno
        ) from None
    except (Exception, SystemExit) as error:
        message, fix = getattr(error, "message", None), getattr(error, "fix", None)  # the runtime's errors
        if not (message and fix):
            message, fix = _explained(error)
        raise RecipeError(f"{_shown(file)}{_line(error, file)}: {message}", fix=fix, file=str(file)) from error


def retold(error: TrainpipeError, place: str) -> TrainpipeError:
    """The same error, prefixed with file and line."""
    return type(error)(f"{place}: {error.message}", fix=error.fix, **error.data)


def check_values(recipe: Recipe) -> None:
    """Refuse values of the wrong type, and invalid text, in parts that are classes of hf_trainpipe.

    Lists are accepted for tuples, and numpy's numbers for Python's.
    """
    _check_part("", recipe)


def _check_part(where: str, part: Any) -> None:
    if isinstance(part, str) and HALF.search(part):
        raise RecipeError(
            f"{where}: {part!r} holds half of an emoji or the like (a lone surrogate), which is no text.",
            fix="Write the text again, uncut.",
        )
    if isinstance(part, list | tuple):
        for position, item in enumerate(part):
            _check_part(f"{where}[{position}]", item)
    elif isinstance(part, Mapping):
        for key, item in part.items():
            _check_part(where, key)
            _check_part(f"{where}[{key!r}]", item)
    elif dataclasses.is_dataclass(part) and not isinstance(part, type):
        wrong = _wrong_field(part, where)
        if wrong is not None:
            raise RecipeError(wrong[0], fix=wrong[1])
        for field in dataclasses.fields(part):
            _check_part(join(where, field.name), getattr(part, field.name))


def _wrong_field(part: Any, where: str) -> tuple[str, str] | None:
    """Message and fix for the first field of the wrong type, for classes of hf_trainpipe only."""
    if type(part).__module__.partition(".")[0] != PACKAGE:
        return None
    cls: type = type(part)
    hints = field_types(cls)
    for field in dataclasses.fields(part):
        value = getattr(part, field.name, dataclasses.MISSING)
        if value is dataclasses.MISSING or conforms(_plain(value), hints[field.name]):
            continue
        if isinstance(value, float) and value.is_integer() and conforms(int(value), hints[field.name]):
            continue
        wanted = spell(hints[field.name])
        one = conforms((value,), hints[field.name])
        fix = f"Write {field.name}=({value!r:.40},): a list of one." if one else f"Write {field.name} as {wanted}."
        return f"{join(where, field.name)}: expected {wanted}, found {value!r:.60}.", fix
    return None


def _plain(value: Any) -> Any:
    """A value with tuples instead of lists and Python's numbers instead of numpy's."""
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value.item() if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0 else value


def _shown(file: Path) -> str:
    return str(file.relative_to(Path.cwd())) if file.is_relative_to(Path.cwd()) else str(file)


def _line(error: BaseException, file: Path) -> str:
    """``, line 12``: the innermost line of the recipe file that the error passed through."""
    names = (str(file), str(file.resolve()))
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename in names]
    return f", line {lines[-1]}" if lines else ""


def _explained(error: BaseException) -> tuple[str, str]:
    """Message and fix for an error that a recipe's line raised: a misspelled keyword, import or name, a wrong type."""
    if isinstance(error, SystemExit):
        return (
            "the recipe file ends the program.",
            "Put what is to run only as a program under: if __name__ == '__main__'.",
        )
    text = str(error)
    # By name, as in the codec: a static import of the package root would tie this module to all others.
    package = importlib.import_module(PACKAGE)
    if found := re.match(r"(?:\w+\.)*?(\w+)\.__init__\(\) (.*)", text):
        cls = vars(package).get(found[1]) or _class_in_traceback(error, found[1])
        if isinstance(cls, type) and dataclasses.is_dataclass(cls):
            return _wrong_arguments(cls, found[2])
    if found := re.match(r"cannot import name '(\w+)' from 'hf_trainpipe'", text):
        hint = closest(found[1], package.__all__)
        return f"{type(error).__name__}: {text.partition(' (')[0]}.{hint}", "Correct the recipe."
    if isinstance(error, NameError) and error.name and not isinstance(error, UnboundLocalError):
        hint = closest(error.name, package.__all__)
        return f"NameError: the name {error.name!r} is not defined.{hint}", "Correct the name, or import it."
    if isinstance(error, TypeError | ValueError | AttributeError):
        part = _part_in_traceback(error)
        wrong = None if part is None else _wrong_field(part, _place_of(type(part)))
        if wrong is not None:
            return wrong
    return f"{type(error).__name__}: {text}".rstrip(".: ") + ".", "Correct the recipe."


def _wrong_arguments(cls: type, said: str) -> tuple[str, str]:
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    unknown = re.match(r"got an unexpected keyword argument '(\w+)'", said)
    order = list(fields)
    if unknown:
        order.sort(key=lambda name: -difflib.SequenceMatcher(None, unknown[1], name).ratio())
        message = f"{cls.__name__} has no field {unknown[1]!r}.{closest(unknown[1], fields)}"
    elif missing := re.findall(r"'(\w+)'", said if said.startswith("missing") else ""):
        message = f"{cls.__name__} needs {' and '.join(map(repr, missing))}."
    elif "positional" in said:
        by_position = [name for name, field in fields.items() if not field.kw_only]
        takes = f"only {', '.join(by_position)} without its name" if by_position else "its fields by name"
        message = f"{cls.__name__} takes {takes}: {order[0]}=..."
    else:
        message = f"{cls.__name__} {said}."
    listed = ", ".join(f"{name} (needed)" if name in needed(cls) else name for name in order)
    return message, f"{cls.__name__} takes: {listed}."


def _place_of(cls: type) -> str:
    """The field of a part, such as ``budget``; else the name of its class."""
    if issubclass(cls, Recipe):
        return ""
    hints = field_types(Recipe)
    names = (
        name for name, hint in hints.items() if isinstance(hint, type) and hint is not str and issubclass(cls, hint)
    )
    return next(names, cls.__name__)


def _frames(error: BaseException) -> list[Any]:
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)]


def _part_in_traceback(error: BaseException) -> Any:
    """The part whose ``__post_init__`` raised the error."""
    own = (frame.f_locals.get("self") for frame in _frames(error) if frame.f_code.co_name == "__post_init__")
    return next((part for part in own if dataclasses.is_dataclass(part)), None)


def _class_in_traceback(error: BaseException, name: str) -> Any:
    spaces = (names for frame in _frames(error) for names in (frame.f_locals, frame.f_globals))
    return next((names[name] for names in spaces if name in names), None)
