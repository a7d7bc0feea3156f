"""What the recipe file that travels in a package imports: pins for requirements.txt, and neighbours that stay behind."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from hf_trainpipe.errors import PackageError

_HOME = "hf_trainpipe"


def pins_of(code_file: Path) -> list[str]:
    """Requirement lines for the packages that a file imports when it is run, or that its classes import.

    What a function at its top level imports is left out: ``recipe()`` is not called where a package is served.

    Raises:
        PackageError: it imports a file that lies beside it, which does not travel.
    """
    names = dict.fromkeys(_imported(ast.parse(code_file.read_bytes())))
    distributions = metadata.packages_distributions()
    pins = []
    for name in names:
        if name in sys.stdlib_module_names or name == _HOME:
            continue
        if name not in distributions and _is_beside(code_file, name):
            raise PackageError(
                f"{code_file.name} imports {name!r}, a file beside it: the package holds the classes of the recipe's file "
                "alone, and could not be loaded elsewhere.",
                fix=f"Move what the preprocessing needs of {name} into {code_file.name}, or install {name} as a package;\n"
                "what only the training needs can be imported inside the function that returns the recipe.",
            )
        for found in distributions.get(name, ())[:1]:
            pins.append(f"{found}=={metadata.version(found).partition('+')[0]}")
    return pins


def _is_beside(code_file: Path, name: str) -> bool:
    return (code_file.parent / f"{name}.py").is_file() or (code_file.parent / name).is_dir()


def _imported(tree: ast.AST) -> Iterator[str]:
    """The packages of imports outside functions, and inside classes; not those that are allowed to fail."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name.partition(".")[0] for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.partition(".")[0]
            case ast.Try() | ast.If(test=ast.Name(id="TYPE_CHECKING")):
                continue
            case ast.ClassDef():
                for inner in ast.walk(node):
                    if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                        yield from _imported(inner)
            case ast.FunctionDef() | ast.AsyncFunctionDef() if isinstance(tree, ast.Module):
                continue
            case ast.stmt() | ast.ExceptHandler():
                yield from _imported(node)
