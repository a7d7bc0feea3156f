"""Lines of requirements.txt: pins of what is installed, and of what the recipe file in a package imports."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from hf_trainpipe.errors import PackageError

SERVED_WITH = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "huggingface_hub")
"""What every package needs."""
_HOME = "hf_trainpipe"


def pin_of(name: str) -> str:
    """The requirement of the installed version, without a local suffix."""
    return f"{name}=={metadata.version(name).partition('+')[0]}"


def distribution_of(line: str) -> str:
    """The distribution that a requirement line names, as it is spelled there."""
    return re.split(r"[\s=<>!~@\[;]", line, maxsplit=1)[0]


def name_of(line: str) -> str:
    """The normalized name of that distribution."""
    return re.sub(r"[-_.]+", "-", distribution_of(line)).lower()


def requirements_of(code_file: Path) -> list[str]:
    """Requirement lines for the imports of a file at module level and inside its classes.

    Imports inside top-level functions are left out: a package never calls ``recipe()``.

    Raises:
        PackageError: it imports a local module, which would be missing from the package.
    """
    names = dict.fromkeys(_imported(ast.parse(code_file.read_bytes())))
    distributions = metadata.packages_distributions()
    pins: list[str] = []
    for name in names:
        if name in sys.stdlib_module_names or name == _HOME:
            continue
        if name not in distributions and _is_local(code_file, name):
            raise PackageError(
                f"{code_file.name} imports {name!r}, a local file: a package contains only the recipe file and could not be "
                "loaded elsewhere.",
                fix=f"Move what the preprocessing needs of {name} into {code_file.name}, or install {name} as a package;\n"
                "what only the training needs can be imported inside the function that returns the recipe.",
            )
        pins += map(pin_of, distributions.get(name, ())[:1])
    return pins


def _is_local(code_file: Path, name: str) -> bool:
    return (code_file.parent / f"{name}.py").is_file() or (code_file.parent / name).is_dir()


def _imported(tree: ast.AST) -> Iterator[str]:
    """Packages imported at module level or inside classes, except in try blocks and for type checkers."""
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
