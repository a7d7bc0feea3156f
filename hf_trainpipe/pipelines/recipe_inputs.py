"""What a stage with a recipe depends on: the recipe by its content, its own code, the files of its data and its model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_trainpipe.codec import to_json
from hf_trainpipe.pipelines.hashes import content_hashes, of_json
from hf_trainpipe.recipe_file import load, override, split_function
from hf_trainpipe.utils.resources import PREFIX, is_local, resolve, search_folders


def recipe_hashes(spelled: str, fields: Sequence[str], folder: Path, *, whose: str) -> dict[str, str]:
    """Name to sha256 of everything that a recipe brings. A comment in its file changes nothing; a class of its own does.

    Args:
        spelled: As on the command line, relative to ``folder``.
        fields: Options of fields.
        whose: For errors: ``"train reads"``.

    Raises:
        TrainpipeError: the recipe or a file of its data cannot be read.
    """
    file, function = split_function(spelled)
    path = Path(os.path.relpath(folder / file))  # as a person would type it from here
    recipe, source = load(f"{path}:{function}" if function else str(path))
    recipe = override(recipe, fields)
    written = to_json(recipe)
    found = {spelled: of_json(written)}
    if _has_own_code(written):
        found[f"code of {file}"] = content_hashes([file.as_posix()], folder, whose=whose)[file.as_posix()]
    with search_folders(folder, source.path.parent):
        read, teacher = [*recipe.data.paths()], ""
        if recipe.distil is not None:
            teacher = recipe.distil.teacher
            read += [] if recipe.distil.unlabelled is None else recipe.distil.unlabelled.paths()
        for name in (getattr(recipe.model, "name", ""), teacher):
            if name and not name.startswith(PREFIX) and is_local(name):
                read.append(resolve(name))
        return found | content_hashes([_named(path, folder) for path in read], folder, whose=whose)


def _named(path: Path, folder: Path) -> str:
    """A path relative to the folder where it lies in it, so that the same pipeline elsewhere has the same names."""
    whole = path.resolve()
    return whole.relative_to(folder).as_posix() if whole.is_relative_to(folder) else str(whole)


def _has_own_code(value: Any) -> bool:
    """Whether a recipe in JSON has classes of its own file."""
    if isinstance(value, dict):
        return str(value.get("kind", "")).startswith("custom:") or any(map(_has_own_code, value.values()))
    return isinstance(value, list) and any(map(_has_own_code, value))
