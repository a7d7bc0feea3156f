"""Run Python files of users (recipes, their trackers) as modules."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import ModuleType

LOADED = "_hf_trainpipe_recipe_"
"""Prefix of the names of these modules."""


def run_file(file: Path, *, once: bool = False) -> ModuleType:
    """Run a file, which may import modules in its folder. Its errors are not caught.

    Args:
        once: Return the module if the file has run already.
    """
    name = f"{LOADED}{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    if once and name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(file)
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    sys.modules[name] = module  # dataclasses look their module up here while the file runs
    try:
        # Compiled here, not by an import loader, so that recipes get no __pycache__.
        exec(compile(file.read_bytes(), str(file), "exec", dont_inherit=True), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    return module
