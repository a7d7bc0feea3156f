"""Load ``recipes/pipeline.py`` or ``FILE.py:FUNCTION`` as a :class:`~hf_trainpipe.pipelines.pipeline.Pipeline`. Loading it runs it."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

from hf_trainpipe.errors import RecipeError, closest
from hf_trainpipe.pipelines.pipeline import FUNCTION, Pipeline
from hf_trainpipe.recipe.source import RecipeSource
from hf_trainpipe.recipe_file import existing_file, mistakes_in, split_function
from hf_trainpipe.utils.user_file import run_file


def load(spelled: str) -> Pipeline:
    """Load ``FILE.py`` or ``FILE.py:FUNCTION``; the function is ``pipeline`` by default. Its folder can be imported from.

    Raises:
        RecipeError: the file or function does not exist, does not run, or returns something else.
    """
    path, function = split_function(spelled)
    path = existing_file(path, "pipeline")
    if path.suffix != ".py":
        raise RecipeError(
            f"{path}: expected a pipeline in a .py file, found {path.suffix or 'no suffix'!r}.",
            fix="Name the file of a pipeline, such as recipes/pipeline.py.",
        )
    path = path.resolve()
    with mistakes_in(path):
        module = run_file(path)
    name = function or FUNCTION
    found = vars(module).get(name)
    if not inspect.isfunction(found):
        known = [
            other
            for other, value in vars(module).items()
            if inspect.isfunction(value) and value.__annotations__.get("return") in ("Pipeline", Pipeline)
        ]
        raise RecipeError(
            f"{spelled}: it has no function {name!r} that returns a pipeline.{closest(name, known)}",
            fix="It has:\n" + "\n".join(f"{Path(spelled)}:{other}" for other in known)
            if known
            else "Add `def pipeline() -> Pipeline:` to it.",
        )
    with mistakes_in(path):
        made = found()
    if not isinstance(made, Pipeline):
        raise RecipeError(
            f"{spelled}: expected a Pipeline from {name}(), found {type(made).__name__}.",
            fix="End the function with `return Pipeline(...)`.",
        )
    return replace(made, source=RecipeSource(path, name))
