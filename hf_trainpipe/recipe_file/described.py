"""Docstrings of a recipe's fields from the source, for ``--help`` and the reference page."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import textwrap
from functools import cache


@cache
def field_texts(part: type) -> dict[str, str]:
    """Field to the docstring below it, in its class or an inherited one; empty if there is none.

    >>> from hf_trainpipe.recipe import Optim
    >>> field_texts(Optim)["weight_decay"]
    'Not applied to biases and normalisation weights.'
    """
    texts: dict[str, str] = {}
    for cls in reversed(part.__mro__):
        if dataclasses.is_dataclass(cls) and isinstance(cls, type):
            texts.update(_own_texts(cls))
    return {field.name: texts.get(field.name, "") for field in dataclasses.fields(part)}


def _own_texts(cls: type) -> dict[str, str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):  # a class that was typed into a notebook has no file
        return {}
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    texts = {}
    for line, below in itertools.pairwise(body):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            text = below.value if isinstance(below, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                texts[line.target.id] = " ".join(text.value.split())
    return texts
