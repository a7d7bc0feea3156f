"""Load ``recipes/sst2.py:large`` as a :class:`~hf_trainpipe.recipe.Recipe`.

A recipe in a Python file is code, and loading it runs it. A recipe in a JSON file is data: see
:mod:`hf_trainpipe.codec`. Overrides of single fields are in :mod:`hf_trainpipe.recipe_file.options`.
"""

from __future__ import annotations

import inspect
import json
import os
import types
from collections.abc import Callable
from pathlib import Path

from hf_trainpipe.codec import from_json
from hf_trainpipe.errors import RecipeError, TrainpipeError, closest
from hf_trainpipe.recipe import Recipe
from hf_trainpipe.recipe.source import RecipeSource
from hf_trainpipe.recipe_file.mistakes import check_values, mistakes_in, retold
from hf_trainpipe.recipe_file.options import leaves, override
from hf_trainpipe.utils.resources import also_search
from hf_trainpipe.utils.user_file import run_file

__all__ = [
    "RecipeSource", "call", "existing_file", "leaves", "load", "mistakes_in", "override", "source_of", "split_function", "variant"
]  # fmt: skip


def load(spelled: str) -> tuple[Recipe, RecipeSource]:
    """Load ``FILE.py``, ``FILE.py:FUNCTION`` or ``FILE.json``. The function is ``recipe`` by default.

    The file runs as its own module. Its folder is last on ``sys.path``: it can import local modules, but they cannot
    shadow a library.

    Raises:
        RecipeError: the file or function does not exist, does not run, or returns something else.
    """
    path, function = split_function(spelled)
    path = existing_file(path)
    if path.suffix == ".json":
        if function is not None:
            raise RecipeError(f"{spelled}: a JSON file has no functions.", fix=f"Name the file alone: {path}")
        return _load_json(path), RecipeSource(path.resolve(), None)
    if path.suffix != ".py":
        raise RecipeError(
            f"{path}: expected a recipe in a .py or .json file, found {path.suffix or 'no suffix'!r}.",
            fix="Name a recipe file, such as recipes/sst2.py.",
        )
    with mistakes_in(path.resolve()):
        module = run_file(path.resolve())
    name = function or "recipe"
    source = RecipeSource(path.resolve(), name)
    found = vars(module).get(name)
    if not inspect.isfunction(found):
        known = _recipe_functions(module)
        listed = "\n".join(f"{path}:{other}" for other in known)
        raise RecipeError(
            f"{path} has no function {name!r} that returns a recipe.{closest(name, known)}",
            fix=f"It has:\n{listed}" if known else "Add `def recipe() -> Recipe:` to it.",
        )
    return call(found, source), source


def variant(spelled: str, *options: str, file: str) -> Recipe:
    """The recipe of another file with fields set as on a command line: what ``tune`` writes for the winner of a search.

    Relative paths in that recipe are looked up in the folder of its file too.

    Args:
        spelled: As for :func:`load`, from the folder of ``file``.
        options: ``"--optim.peak-lr", "3e-5"``, ...
        file: ``__file__`` of the recipe file that calls this.
    """
    recipe, source = load(os.path.normpath(Path(file).resolve().parent / spelled))
    also_search(source.path.parent)
    return override(recipe, options)


def call(function: Callable[[], object], source: RecipeSource) -> Recipe:
    """Call a recipe function; an error in it becomes a RecipeError with file and line."""
    needed = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if needed:
        raise RecipeError(
            f"{source}: a recipe function takes no arguments, found {', '.join(needed)}.",
            fix="Give each parameter a default, or write a function without parameters that calls this one.",
        )
    with mistakes_in(source.path):
        recipe = function()
    if not isinstance(recipe, Recipe):
        raise RecipeError(
            f"{source}: expected a Recipe from {source.function}(), found {type(recipe).__name__}.",
            fix="End the function with `return Recipe(...)`.",
        )
    with mistakes_in(source.path):
        check_values(recipe)
    return recipe


def source_of(function: Callable[..., object]) -> RecipeSource:
    """The file that defines a function."""
    file = function.__globals__.get("__file__") or function.__code__.co_filename
    return RecipeSource(Path(file).resolve(), function.__name__)


def split_function(spelled: str) -> tuple[Path, str | None]:
    """``FILE.py:FUNCTION`` as both; the function is None where none is named."""
    head, colon, tail = spelled.rpartition(":")
    if colon and not Path(spelled).exists() and (head.endswith((".py", ".json")) or tail.isidentifier()):
        if not tail.isidentifier():
            raise RecipeError(
                f"{spelled}: {tail!r} is not the name of a function.",
                fix=f"Write {head}, or {head}:FUNCTION.",
            )
        return Path(head), tail
    return Path(spelled), None


def existing_file(path: Path, what: str = "recipe") -> Path:
    """The path, if there is such a file; ``what`` names it in the error."""
    if path.is_file():
        return path
    folder = path if path.is_dir() else path.parent
    if not folder.is_dir():
        raise RecipeError(
            f"{path}: there is no such {what} file, and no folder {folder}.",
            fix=f"Name an existing {what} file. Paths start from the current folder.",
        )
    known = [str(file) for file in sorted(folder.iterdir()) if file.suffix in (".py", ".json")]
    listed = "\n".join(known[:20])
    if path.is_dir():
        raise RecipeError(
            f"{path} is a folder, not a {what} file.",
            fix=f"Name one of its files:\n{listed}" if known else "Name a .py file.",
        )
    raise RecipeError(
        f"{path}: there is no such {what} file.{closest(str(path), known)}",
        fix=f"{folder} has:\n{listed}" if known else f"{folder} has no {what} files.",
    )


def _load_json(path: Path) -> Recipe:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise RecipeError(
            f"{path}, line {error.lineno}: not valid JSON: {error.msg}.",
            fix="Correct the file.",
            line=error.lineno,
        ) from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 text: {error.reason}.", fix="Save the file as UTF-8.") from None
    try:
        return from_json(value)
    except TrainpipeError as error:
        raise retold(error, str(path)) from None


def _recipe_functions(module: types.ModuleType) -> list[str]:
    own = {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }
    annotated = [name for name, f in own.items() if f.__annotations__.get("return") in ("Recipe", Recipe)]
    return annotated or [name for name, f in own.items() if not inspect.signature(f).parameters]
