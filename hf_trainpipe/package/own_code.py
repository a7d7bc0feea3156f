"""The code in a package that this version did not write. It runs with consent only, whatever the verb."""

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
    """Where the installed runtime lies."""
    from hf_trainpipe import runtime

    return Path(str(runtime.__file__)).parent


def differing(package: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Names of code in a package that is not what this version writes: handler, SageMaker's entry, runtime, other modules.

    The recipe's file (``code``) is not among them: it has a consent of its own. What an older version lacks counts too.
    """
    from hf_trainpipe.runtime.handler.endpoint import ROOT_HANDLER, SAGEMAKER_ENTRY

    installed = runtime_folder()
    ours = {
        f"{RUNTIME}/{name.relative_to(installed).as_posix()}": name.read_bytes() for name in installed.rglob("*.py")
    }
    ours |= {"handler.py": ROOT_HANDLER.encode(), "code/inference.py": SAGEMAKER_ENTRY.encode()}
    held = {name for name in manifest["files"] if name.endswith(".py")} - {(manifest.get("code") or {}).get("file")}
    return sorted(name for name in held | set(ours) if ours.get(name) != _content(package / name))


def differs(package: Path) -> bool:
    """Whether the runtime in a package is another than the installed one, file by file."""
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
    """Compiles what was compared with its hash: byte code beside it is listed nowhere, and not read."""

    def get_code(self, fullname: str) -> Any:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def import_runtime(folder: Path) -> str:
    """Import the runtime in a package, with the consent of a person, under a name of its own; returns the name."""
    import hashlib

    name = "trainpipe_runtime_" + hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    if name not in sys.modules:
        if not (folder / "__init__.py").is_file():
            raise PackageError(f"{folder} is no runtime.", fix="Write the package again.", exit_code=2)
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
