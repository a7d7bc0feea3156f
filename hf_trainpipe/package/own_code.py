"""Code in a package that differs from this version's. Every command runs it only with consent."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_trainpipe.errors import PackageError
from hf_trainpipe.package import probe
from hf_trainpipe.package.layout import RUNTIME
from hf_trainpipe.runtime.handler.endpoint import ROOT_HANDLER, SAGEMAKER_ENTRY
from hf_trainpipe.runtime.safety.files import read_limited

CONSENT = "Read it; if you trust it, allow it with --allow-code (allow_code=True, or TRAINPIPE_ALLOW_CODE=1)."


def runtime_folder() -> Path:
    """The folder of the installed runtime."""
    from hf_trainpipe import runtime

    return Path(str(runtime.__file__)).parent


def written_code() -> dict[str, bytes]:
    """Python files that this version writes into a package, by name: runtime, handler, SageMaker's entry point."""
    folder = runtime_folder()
    files = {f"{RUNTIME}/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in folder.rglob("*.py")}
    return {**files, "handler.py": ROOT_HANDLER.encode(), "code/inference.py": SAGEMAKER_ENTRY.encode()}


def changed_code(package: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Python files of a package that differ from what this version writes: handler, SageMaker entry, runtime, others.

    The recipe file (``code``) is left out: it has its own consent. Files that an older package lacks are listed too.
    """
    ours = written_code()
    code = {name for name in manifest["files"] if name.endswith(".py")} - {(manifest.get("code") or {}).get("file")}
    return sorted(name for name in code | set(ours) if ours.get(name) != _content(package / name))


def _content(path: Path) -> bytes | None:
    try:
        return read_limited(path)
    except (OSError, ValueError):
        return None


def import_runtime(folder: Path) -> str:
    """Import a package's own runtime (with consent) under a module name of its own, and return the name."""
    name = "trainpipe_runtime_" + hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    if name not in sys.modules:
        if not (folder / "__init__.py").is_file():
            raise PackageError(f"{folder} is not a runtime.", fix="Write the package again.", exit_code=2)
        probe.compile_sources(folder)
        probe.import_folder(folder, name)
    return name
