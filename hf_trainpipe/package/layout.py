"""The files of a package, their hashes, and ``trainpipe.json``."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_trainpipe.errors import PackageError
from hf_trainpipe.runtime.recorded import RECORDED as RECORDED
from hf_trainpipe.runtime.safety import files, trust
from hf_trainpipe.runtime.safety.files import MANIFEST as MANIFEST
from hf_trainpipe.runtime.safety.files import hash_file as hash_file
from hf_trainpipe.runtime.safety.files import is_package_file as is_package_file
from hf_trainpipe.utils import atomic
from hf_trainpipe.utils.atomic import finite as finite

RUNTIME = "trainpipe_runtime"
ADAPTER = "adapter"
"""An adapter and the head alone, for peft: nothing that answers reads it."""
PICTURE = "curves.png"
"""The training curve, shown by the card."""


def find_package(path: Path | str) -> Path:
    """Return the package at ``path``: a package itself, or the ``package`` folder of a run.

    Raises:
        PackageError: where there is none; its exit code is 2, since nothing failed to reproduce.
    """
    path = Path(path)
    for candidate in (path, path / "package"):
        recover(candidate)
        if (candidate / MANIFEST).is_file():
            return candidate
    if not path.exists():
        raise PackageError(f"{path} does not exist.", fix="Name the folder of a package or of a run.", exit_code=2)
    raise PackageError(
        f"{path} is not a package: neither {MANIFEST} nor package/{MANIFEST} is in it.",
        fix="Name the folder of a package, or of a finished run; `hf-trainpipe package RUN` writes one.",
        exit_code=2,
    )


def aside_of(package: Path) -> Path:
    """Where a package lies between the two renames of a replacement."""
    return package.with_name(f".old-{package.name}")


def recover(package: Path) -> None:
    """Bring a package back whose replacement was killed between its two renames. Nothing is removed: whoever reads calls it."""
    if package.name and not package.exists() and ((aside := aside_of(package)) / MANIFEST).is_file():
        with contextlib.suppress(OSError):  # a folder that may only be read
            aside.rename(package)


def read_manifest(package: Path) -> dict[str, Any]:
    """Read and validate the ``trainpipe.json`` of ``package``.

    Raises:
        PackageError: if it is missing, not JSON, or of another schema.
    """
    from hf_trainpipe.runtime.errors import SchemaError
    from hf_trainpipe.runtime.safety import schema

    try:
        return schema.read(package).to_json()
    except SchemaError as error:
        raise PackageError(error.message, fix=error.fix) from error


def list_files(package: Path) -> tuple[list[str], list[str]]:
    """List the files below ``package`` as ``(allowed, others)``, each sorted, with ``/``.

    Byte code that Python leaves behind is in neither list. A link counts among the others: it may point
    at anything.
    """
    allowed: list[str] = []
    others: list[str] = []
    for path in sorted(package.rglob("*")):
        name = path.relative_to(package).as_posix()
        if "__pycache__" in path.parts or (path.is_dir() and not path.is_symlink()):
            continue
        regular = path.is_file() and not path.is_symlink()
        (allowed if regular and is_package_file(name) else others).append(name)
    return allowed, others


def hash_files(package: Path) -> dict[str, dict[str, Any]]:
    """``{name: {"size", "sha256"}}`` of every file that a package holds, but ``trainpipe.json`` itself."""
    return {
        name: {"size": (package / name).stat().st_size, "sha256": hash_file(package / name)}
        for name in list_files(package)[0]
        if name != MANIFEST
    }


def refuse_changed(
    package: Path, manifest: Mapping[str, Any], *, error: type[PackageError] = PackageError, strangers: bool = False
) -> None:
    """Compare all files of ``package`` with the hashes in its manifest, without stamps.

    Args:
        error: What is raised.
        strangers: Pass over what is not listed and has no name that a package holds: a push leaves it behind.

    Raises:
        PackageError: (or ``error``) a file differs, is missing, is not listed, or is a link.
    """
    found = [p for p in files.problems(package, manifest["files"]) if not (strangers and p.is_stranger)]
    if found:
        refusal = trust.refusal(package, found)
        raise error(refusal.message, fix=refusal.fix, problems=refusal.data["problems"])


def with_section(card: str, heading: str, text: str) -> str:
    """A model card with the section ``heading`` (``## Title``) at its end, in place of an earlier one of that name.

    >>> with_section("# A\\n\\n## B\\n\\nold\\n\\n## C\\n\\nc\\n", "## B", "new")
    '# A\\n\\n## C\\n\\nc\\n\\n## B\\n\\nnew\\n'
    """
    rest = re.sub(rf"(?ms)^{re.escape(heading)}\n.*?(?=^## |\Z)", "", card).rstrip()
    return f"{rest}\n\n{heading}\n\n{text.strip()}\n"


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file of a package, keeping the order of its keys."""
    atomic.write_json(path, content, indent=2, sort_keys=False)
