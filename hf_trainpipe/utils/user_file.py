"""Python files of a person (recipes, their trackers), run as modules of their own."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import ModuleType

LOADED = "_hf_trainpipe_recipe_"
"""How the name of such a module starts."""


def run_file(file: Path, *, once: bool = False) -> ModuleType:
    """Run a file; what it imports may lie beside it. Whatever it raises comes through.

    Args:
        once: Where it has run already, give that module.
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
        # Compiled here, not by an import loader, so that no __pycache__ appears beside recipes.
        exec(compile(file.read_bytes(), str(file), "exec", dont_inherit=True), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    return module
