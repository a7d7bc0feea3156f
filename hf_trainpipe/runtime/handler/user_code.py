"""Code of a recipe that travels in a package: its own task and preprocessing steps. Runs only with consent."""

from __future__ import annotations

import ast
import builtins
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import SchemaError
from ..tasks.base import Task
from ..text.preprocessor import Preprocessor

CONSENT_VARIABLE = "TRAINPIPE_ALLOW_CODE"
_HOME = "hf_trainpipe"
_RUNTIME = (__package__ or "").rpartition(".")[0]
_lock = threading.Lock()


def has_consent(allow_code: bool) -> bool:
    """Whether a person agreed to run a package's own code: by argument or ``TRAINPIPE_ALLOW_CODE=1``."""
    return allow_code or os.environ.get(CONSENT_VARIABLE) == "1"


def load_classes(
    folder: Path, code: Mapping[str, Any], *, allow_code: bool
) -> tuple[dict[str, type[Preprocessor]], dict[str, type[Task]]]:
    """The subclasses of Preprocessor and of Task in a package's code, by name.

    The file may import from ``hf_trainpipe``; where the project is not installed, this runtime stands in
    for it, and names that it lacks are empty classes.

    Raises:
        SchemaError: No consent, or the file's sha256 is another.
    """
    path = folder / code["file"]
    if not has_consent(allow_code):
        raise SchemaError(
            f"{folder}: the package carries code of its recipe ({code['file']}), which was not run.",
            fix=f"Read it; if you trust it: --allow-code, allow_code=True or {CONSENT_VARIABLE}=1.",
        )
    source = path.read_bytes()
    found = hashlib.sha256(source).hexdigest()
    if found != code["sha256"]:
        raise SchemaError(f"{path}: expected sha256 {code['sha256']}, found {found}.")
    name = f"trainpipe_code_{hashlib.sha256(source + _RUNTIME.encode()).hexdigest()[:16]}"
    with _lock:
        module = sys.modules.get(name) or _run(name, path, source)
    own = {key: value for key, value in vars(module).items() if isinstance(value, type) and value.__module__ == name}
    steps = {key: value for key, value in own.items() if issubclass(value, Preprocessor)}
    return steps, {key: value for key, value in own.items() if issubclass(value, Task)}


def _run(name: str, path: Path, source: bytes) -> ModuleType:
    spec = importlib.machinery.ModuleSpec(name, None, origin=str(path))
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses look their module up there
    try:
        with _stand_in(wanted_by_star(source)):
            exec(compile(source, str(path), "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def wanted_by_star(source: bytes) -> tuple[str, ...]:
    """What ``from hf_trainpipe import *`` has to bring: names that the file uses and does not make itself."""
    used: set[str] = set()
    made: set[str] = set(vars(builtins))
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                used.add(name)
            case ast.Name(id=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                made.add(name)
            case ast.alias(name=name, asname=asname) if name != "*":
                made.add(asname or name.partition(".")[0])
    return tuple(sorted(used - made))


@contextmanager
def _stand_in(wanted: Sequence[str] = ()) -> Iterator[None]:
    """While it lasts, ``import hf_trainpipe`` gives this runtime. Nothing to do inside the project itself."""
    if _RUNTIME.split(".")[0] == _HOME:
        yield
        return
    is_home = [key for key in sys.modules if key == _HOME or key.startswith(_HOME + ".")]
    hidden = {key: sys.modules.pop(key) for key in is_home}
    finder = _Finder(wanted)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for key in [key for key in sys.modules if key == _HOME or key.startswith(_HOME + ".")]:
            del sys.modules[key]
        sys.modules.update(hidden)


class _StandIn(ModuleType):
    """A module of the project that is not here. A name that the runtime lacks is an empty class."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        from .. import tasks
        from ..text import preprocessing

        known = getattr(tasks, name, None) or getattr(preprocessing, name, None)
        return known or type(name, (_Absent,), {"__module__": self.__name__})


class _Absent:
    """Takes any arguments: a recipe file may make a ``Pretrained(...)`` at its top level."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, wanted: Sequence[str]) -> None:
        self._specs: dict[str, importlib.machinery.ModuleSpec | None] = {}
        self._wanted = list(wanted)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == _HOME or fullname.startswith(_HOME + "."):
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        prefix = f"{_HOME}.runtime"
        if spec.name != prefix and not spec.name.startswith(prefix + "."):
            stand_in = _StandIn(spec.name)
            stand_in.__all__ = self._wanted  # type: ignore[attr-defined]
            return stand_in
        module = importlib.import_module(_RUNTIME + spec.name.removeprefix(prefix))
        self._specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        alias = module.__spec__.name if module.__spec__ is not None else ""
        if alias in self._specs:
            module.__spec__ = self._specs[alias]  # the import system put the alias's there
