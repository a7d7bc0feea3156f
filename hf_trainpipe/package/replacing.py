"""The folder of a package gets new content: written beside it, and taking its place whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hf_trainpipe.errors import PackageError
from hf_trainpipe.package import layout
from hf_trainpipe.package.own_code import written_code
from hf_trainpipe.utils.atomic import TEMPORARY, exchange, fsync_dir, fsync_tree


@contextmanager
def beside(package: Path, *, durable: bool = True) -> Iterator[Path]:
    """An empty folder to write a package into, which takes the place of ``package`` when the block has ended; after an error
    the old one stays. Where a kill stopped an earlier one between two renames, that is undone first; behind them, it is finished."""
    layout.recover(package)
    stage = package.with_name(f"{TEMPORARY}{package.name}-{os.getpid()}")
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir()
    try:
        yield stage
        if durable:
            fsync_tree(stage)
        _replace(package, stage)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def remove_unfinished(package: Path) -> None:
    """Remove what killed processes have written beside a package."""
    for path in package.parent.glob(f"{TEMPORARY}{package.name}-*"):
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def copied(package: Path, *, without: str | None = None) -> Iterator[Path]:
    """As :func:`beside`, with a copy of the package to add files to: :func:`seal` has to list them.

    Args:
        without: A folder that is left out: it is written anew.

    Raises:
        PackageError: the package became another one while files were added.
    """
    ignored = shutil.ignore_patterns("__pycache__", *(() if without is None else (without,)))
    before = (package / layout.MANIFEST).read_bytes()
    with beside(package) as stage:
        shutil.copytree(package, stage, symlinks=True, ignore=ignored, dirs_exist_ok=True)
        yield stage
        if (package / layout.MANIFEST).read_bytes() != before:
            raise PackageError(
                f"{package} was written by another process while files were added to it.",
                fix="Run the same command again.",
            )


def seal(stage: Path, manifest: dict[str, Any]) -> None:
    """List the files of a copied package in its manifest, and write that.

    The runtime becomes that of this version: an older package's own may not know what was added.
    """
    copy_runtime(stage)
    manifest["files"] = layout.hash_files(stage)
    layout.write_json(stage / layout.MANIFEST, manifest)


def copy_runtime(directory: Path) -> None:
    """Copy the installed runtime and handler into a package, replacing older ones."""
    shutil.rmtree(directory / layout.RUNTIME, ignore_errors=True)
    for name, content in written_code().items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)


def _replace(package: Path, stage: Path) -> None:
    """Let a folder take the place of a package: at once where the file system can, else by two renames, between which a kill
    leaves the old one aside until :func:`.layout.recover`."""
    if not exchange(stage, package):
        while True:
            if package.exists():
                shutil.rmtree(aside := layout.aside_of(package), ignore_errors=True)
                package.rename(aside)
            try:
                stage.rename(package)
                break
            except OSError:  # somebody who looked for it has brought the old one back
                if not package.exists():
                    raise
    shutil.rmtree(layout.aside_of(package), ignore_errors=True)  # also that of one which was killed behind its renames
    fsync_dir(package.parent)
