"""Files that a recipe names: folders, ``~``, and folders inside installed packages."""

from __future__ import annotations

import hashlib
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from hf_trainpipe.errors import RecipeError, closest

__all__ = ["check_sha256", "is_local", "require_weights", "resolve", "sha256_of"]

PREFIX = "package:"
CHUNK_BYTES = 1 << 20


def is_local(name: str) -> bool:
    """Whether a name stands for a folder or file here, rather than for an id on the Hub.

    >>> is_local("package:some_model/model"), is_local("./model"), is_local("org/model-that-is-not-here")
    (True, True, False)
    """
    return name.startswith((PREFIX, ".", "/", "~")) or Path(name).exists()


def resolve(name: str) -> Path:
    """The path that a name stands for.

    Args:
        name: ``package:NAME/folder`` (``NAME`` as in ``import NAME``), or a path, also with ``~``.

    Raises:
        RecipeError: the package is not installed, or nothing is at the path.
    """
    if name.startswith(PREFIX):
        return _resolve_in_package(name)
    path = Path(name).expanduser()
    if not path.exists():
        raise RecipeError(
            f"{name}: expected a file or folder, found nothing there.",
            fix=f"Correct the path.{_near(path)}",
            path=str(path),
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
            package=package,
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


def sha256_of(path: Path) -> str:
    """The sha256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def check_sha256(path: Path, expected: str) -> None:
    """Compare a file with the digest that a recipe expects.

    Raises:
        RecipeError: they differ; the message holds both digests.
    """
    found = sha256_of(path)
    if found != expected.strip().lower():
        raise RecipeError(
            f"{path.name}: expected sha256 {expected}, found {found}.",
            fix="The file is not the one that the recipe was written for. Fetch it again, or, if the change "
            "is meant, put the new digest into the recipe.",
            expected=expected,
            found=found,
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
    listed = ", ".join(there[:12]) + (f" and {len(there) - 12} more" if len(there) > 12 else "") or "nothing"
    if any(name.endswith((".bin", ".pt", ".pth", ".ckpt")) for name in there):
        raise RecipeError(
            f"{folder}: expected model.safetensors, found pickled weights only ({listed}).",
            fix="Pickle files can run code when they are loaded, so they are refused. "
            "Convert them once, where you trust them:\n"
            f'python -c "from transformers import AutoModel as M; p={str(folder)!r}; '
            'M.from_pretrained(p, use_safetensors=False).save_pretrained(p)"',
        )
    raise RecipeError(
        f"{folder}: expected a model folder with weights (model.safetensors), found {listed}.",
        fix="Name the folder that holds config.json and model.safetensors.",
    )
