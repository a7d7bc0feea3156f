"""Code in a package that differs from this version's. Every command runs it only with consent."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_trainpipe.errors import PackageError
from hf_trainpipe.package.layout import RUNTIME
from hf_trainpipe.runtime.safety.files import read_limited

CONSENT = "Read it; if you trust it, allow it with --allow-code (allow_code=True, or TRAINPIPE_ALLOW_CODE=1)."
_LIMIT = 32 << 20


def runtime_folder() -> Path:
    """The folder of the installed runtime."""
    from hf_trainpipe import runtime

    return Path(str(runtime.__file__)).parent


def changed_code(package: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Python files of a package that differ from what this version writes: handler, SageMaker entry, runtime, others.

    The recipe file (``code``) is left out: it has its own consent. Files that an older package lacks are listed too.
    """
    from hf_trainpipe.runtime.handler.endpoint import ROOT_HANDLER, SAGEMAKER_ENTRY

    installed = runtime_folder()
    ours = {
        f"{RUNTIME}/{name.relative_to(installed).as_posix()}": name.read_bytes() for name in installed.rglob("*.py")
    }
    ours |= {"handler.py": ROOT_HANDLER.encode(), "code/inference.py": SAGEMAKER_ENTRY.encode()}
    code = {name for name in manifest["files"] if name.endswith(".py")} - {(manifest.get("code") or {}).get("file")}
    return sorted(name for name in code | set(ours) if ours.get(name) != _content(package / name))


def has_other_runtime(package: Path) -> bool:
    """Whether any file of a package's runtime differs from the installed runtime."""
    installed, own = runtime_folder(), package / RUNTIME
    names = {path.relative_to(installed).as_posix() for path in installed.rglob("*.py")}
    if names != {path.relative_to(own).as_posix() for path in own.rglob("*.py")}:
        return True
    return any(_content(own / name) != (installed / name).read_bytes() for name in names)


def _content(path: Path) -> bytes | None:
    try:
        return read_limited(path, _LIMIT)
    except (OSError, ValueError):
        return None


class _Source(importlib.machinery.SourceFileLoader):
    """Compiles the source file, whose hash was checked; ignores cached byte code, which has no hash."""

    def get_code(self, fullname: str) -> Any:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def import_runtime(folder: Path) -> str:
    """Import a package's own runtime (with consent) under a module name of its own, and return the name."""
    import hashlib

    name = "trainpipe_runtime_" + hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    if name not in sys.modules:
        if not (folder / "__init__.py").is_file():
            raise PackageError(f"{folder} is not a runtime.", fix="Write the package again.", exit_code=2)
        find = importlib.machinery.FileFinder.path_hook((_Source, [".py"]))

        def hook(path: str) -> Any:
            if folder not in (Path(path), *Path(path).parents):
                raise ImportError(path)
            return find(path)

        sys.path_hooks.insert(0, hook)
        for known in [known for known in sys.path_importer_cache if folder in (Path(known), *Path(known).parents)]:
            del sys.path_importer_cache[known]
        spec = importlib.util.spec_from_file_location(
            name,
            folder / "__init__.py",
            loader=_Source(name, str(folder / "__init__.py")),
            submodule_search_locations=[str(folder)],
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return name
