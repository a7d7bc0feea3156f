"""Paths in a recipe: relative paths, ``~``, and folders inside installed packages.

A relative path is looked up in the working directory, then in the folder of the recipe file (:func:`search_folders`). The
folder where it was found is recorded in the run, so that a resume from another directory reads the same files.
"""

from __future__ import annotations

import filecmp
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hf_trainpipe.errors import RecipeError, closest
from hf_trainpipe.utils.atomic import sha256_file
from hf_trainpipe.utils.brief import listed

log = logging.getLogger(__name__)

PREFIX = "package:"
PATTERN = "*?["
"""Paths with one of these are patterns."""


def is_local(name: str) -> bool:
    """Whether a name is a local folder or file, not a Hub id.

    >>> is_local("package:some_model/model"), is_local("./model"), is_local("org/model-that-is-not-here")
    (True, True, False)
    """
    return name.startswith((PREFIX, ".", "/", "~")) or (base_folder(name) / name).exists()


@dataclass
class _Places:
    """Folders to search for relative paths, besides the working directory."""

    folders: tuple[Path, ...] = ()
    recorded: Mapping[str, str] = field(default_factory=dict)
    found: dict[str, str] = field(default_factory=dict)


_places = _Places()
_further: list[Path] = []
"""Folders of recipe files that the recipe of this process is a variant of."""


def also_search(folder: Path) -> None:
    """From now on search this folder too, last: that of a recipe file that another one changes."""
    if folder not in _further:
        _further.append(folder)


@contextmanager
def search_folders(*folders: Path, recorded: Mapping[str, str] | None = None) -> Iterator[dict[str, str]]:
    """Search these folders too for relative paths that the working directory does not have.

    Args:
        recorded: Name to the folder where an earlier attempt of the run found it; that one comes first.

    Yields:
        What was found so far: relative name to its folder.
    """
    global _places
    before, _places = _places, _Places(folders, recorded or {})
    try:
        yield _places.found
    finally:
        _places = before


def folders_of_run(run: Any, source: Any) -> AbstractContextManager[dict[str, str]]:
    """Search the folder of the recipe file, and where an earlier attempt found the recipe's relative paths.

    Args:
        run: What run.json holds, where there is one.
        source: Where the recipe came from; None: as the run recorded it.
    """
    held = run if isinstance(run, dict) else {}
    recorded, places = held.get("source"), held.get("places")
    file = source.path if source is not None else recorded.get("path") if isinstance(recorded, dict) else None
    folders = [Path(file).parent] if isinstance(file, str | Path) else []
    return search_folders(*folders, recorded=places if isinstance(places, dict) else {})


def use_paths_of_run(path: Path, source: Any) -> AbstractContextManager[dict[str, str]]:
    """Look up relative paths where a run found them; ``path`` is the run or its package."""
    files = (folder / "run.json" for folder in (path, path.resolve().parent))
    run: Any = None
    with suppress(ValueError, StopIteration):  # callers that need run.json report a damaged one
        run = json.loads(next(file for file in files if file.is_file()).read_bytes())
    return folders_of_run(run, source)


def base_folder(name: str) -> Path:
    """The folder in which a relative path or glob is found: ``.``, or the folder of the recipe file."""
    if name.startswith(PREFIX) or Path(name).expanduser().is_absolute():
        return Path()
    candidates = [Path(), *_places.folders, *_further]
    if name in _places.recorded:
        candidates.insert(0, Path(_places.recorded[name]))
    there = [folder for folder in candidates if _holds(folder, name)]
    if not there:
        return Path()
    chosen = Path() if there[0].resolve() == Path.cwd() else there[0]
    if name not in _places.found:
        _places.found[name] = str(chosen.resolve())
        if other := next((folder for folder in there[1:] if _differ(chosen / name, folder / name)), None):
            log.warning("%s is read in %s; the one in %s differs", name, chosen.resolve(), other.resolve())
    return chosen


def is_pattern(path: str) -> bool:
    """Whether a path is a pattern of many: it has one of :data:`PATTERN`."""
    return any(mark in path for mark in PATTERN)


def _holds(folder: Path, name: str) -> bool:
    if (folder / name).exists():
        return True
    return is_pattern(name) and any(folder.glob(name))


def _differ(one: Path, other: Path) -> bool:
    if one.is_file() and other.is_file():
        return not filecmp.cmp(one, other, shallow=False)
    return one.resolve() != other.resolve()


def resolve(name: str) -> Path:
    """The path of a name.

    Args:
        name: ``package:NAME/folder`` (``NAME`` as in ``import NAME``), or a path, also with ``~``.

    Raises:
        RecipeError: the package is not installed, or the path does not exist.
    """
    if name.startswith(PREFIX):
        return _resolve_in_package(name)
    path = base_folder(name) / Path(name).expanduser()
    if not path.exists():
        others = "".join(f", nor in {folder}" for folder in _places.folders if not path.is_absolute())
        raise RecipeError(
            f"{name}: expected a file or folder, found nothing there{others}.", fix=f"Correct the path.{_near(path)}"
        )
    return path


def _near(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f" The folder {str(folder)!r} does not exist either."
    return closest(path.name, sorted(entry.name for entry in folder.iterdir()))


def _resolve_in_package(name: str) -> Path:
    package, _, inner = name.removeprefix(PREFIX).partition("/")
    if not package.isidentifier():
        raise RecipeError(
            f"{name}: expected {PREFIX}NAME/folder, found the package name {package!r}.",
            fix="Write the name that is imported: package:my_model/model, with '_' instead of '-'.",
        )
    if find_spec(package) is None:
        raise RecipeError(
            f"{name}: the package {package!r} is not installed.",
            fix=f"Install it: pip install {package.replace('_', '-')}",
        )
    root = resources.files(package)
    if not isinstance(root, Path):
        raise RecipeError(
            f"{name}: the package {package!r} is not a plain folder on disk.",
            fix=f"Reinstall it unzipped: pip install --force-reinstall {package.replace('_', '-')}",
        )
    path = (root / inner).resolve()
    if not path.is_relative_to(root.resolve()):
        raise RecipeError(f"{name}: the path leaves the package.", fix="Name a folder inside the package.")
    if not path.exists():
        inside = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith(("_", ".")))
        raise RecipeError(
            f"{name}: expected {inner!r} in the package {package!r}, found {', '.join(inside) or 'nothing'}.",
            fix=f"Correct the folder.{closest(inner, inside)}",
        )
    return path


def check_sha256(path: Path, expected: str) -> None:
    """Compare a file with the digest that a recipe expects.

    Raises:
        RecipeError: they differ; the message holds both digests.
    """
    found = sha256_file(path)
    if found != expected.strip().lower():
        raise RecipeError(
            f"{path.name}: expected sha256 {expected}, found {found}.",
            fix="The file is not the one that the recipe was written for. Download it again, or put the new digest into "
            "the recipe if you meant to change it.",
        )


def require_weights(folder: Path) -> Path:
    """Check that a model folder holds weights in safetensors format, and return their file.

    Returns:
        ``model.safetensors``, the index of a sharded model, or the only ``*.safetensors`` file.

    Raises:
        RecipeError: no folder, no weights, or pickled weights only.
    """
    if not folder.is_dir():
        raise RecipeError(
            f"{folder}: expected a model folder, found no folder.", fix=f"Correct the path.{_near(folder)}"
        )
    for name in ("model.safetensors", "model.safetensors.index.json"):
        if (folder / name).is_file():
            return folder / name
    indices = sorted(folder.glob("*.safetensors.index.json"))
    weights = indices or sorted(folder.glob("*.safetensors"))
    if weights:
        return weights[0]
    there = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    holds = listed(there) or "nothing"
    if any(name.endswith((".bin", ".pt", ".pth", ".ckpt")) for name in there):
        raise RecipeError(
            f"{folder}: expected model.safetensors, found pickled weights only ({holds}).",
            fix="Pickle files can run code when they are loaded, so they are refused. "
            "Convert them once, where you trust them:\n"
            f'python -c "from transformers import AutoModel as M; p={str(folder)!r}; '
            'M.from_pretrained(p, use_safetensors=False).save_pretrained(p)"',
        )
    raise RecipeError(
        f"{folder}: expected a model folder with weights (model.safetensors), found {holds}.",
        fix="Name the folder that holds config.json and model.safetensors.",
    )
