"""Nothing outside the tasks knows which task it has."""

from __future__ import annotations

import ast
from pathlib import Path

import hf_trainpipe
from hf_trainpipe.runtime.tasks.registry import BUILT_IN

ROOT = Path(hf_trainpipe.__file__).parent
KINDS = {"single_label", "multi_label", "regression"}
EXEMPT = {
    "runtime/tasks": "the tasks themselves",
    "runtime/safety/older.py": "packages of before a task was one file name their decoder",
    "metrics": "predictions are of a kind, whatever task they come from",
    "baselines": "simple models learn by the kind of predictions, whatever task they come from; embeddings are made by the task for them",
    "model/linear_probe.py": "so do linear models on the vectors of an encoder",
    "audit/leaked.py": "and those that score splits with and without leaked rows",
    "audit/guess.py": "files without a recipe get a task by their columns",
    "behaviour": "answers before and after a change are compared by the kind of predictions",
    "promotion/gate.py": "and so are those of two models on a slice",
    "watch/measure.py": "what is counted of answers goes by their kind",
    "watch/vectors.py": "the mean of an encoder's last states is what the task for embeddings computes",
    "package/probe.py": "runtimes of older packages are asked in their own words",
}
NAMES = {"__init__.py", "tasks.py"}
"""Modules that only pass the public classes on."""


def modules() -> list[tuple[str, ast.Module]]:
    found = [(path.relative_to(ROOT).as_posix(), path) for path in sorted(ROOT.rglob("*.py"))]
    return [
        (name, ast.parse(path.read_text(encoding="utf-8")))
        for name, path in found
        if name not in NAMES and not any(name.startswith(exempt) for exempt in EXEMPT)
    ]


def test_no_module_compares_the_kind_of_a_task() -> None:
    wrong = []
    for name, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, (ast.Compare, ast.Dict, ast.Match)):
                texts = {inner.value for inner in ast.walk(node) if isinstance(inner, ast.Constant)}
                wrong += [f"{name}:{node.lineno}: {text}" for text in sorted(texts & KINDS, key=str)]
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass"):
                asked = {inner.id for inner in ast.walk(node.args[1]) if isinstance(inner, ast.Name)}
                wrong += [f"{name}:{node.lineno}: isinstance {cls}" for cls in sorted(asked & set(BUILT_IN))]
    assert wrong == []


def test_no_module_asks_a_task_for_an_attribute_by_name() -> None:
    wrong = []
    for name, tree in modules():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or getattr(node.func, "id", "") not in ("getattr", "hasattr"):
                continue
            of = node.args[0]
            called = of.attr if isinstance(of, ast.Attribute) else of.id if isinstance(of, ast.Name) else ""
            if called == "task":
                wrong.append(f"{name}:{node.lineno}")
    assert wrong == []


def test_the_built_in_tasks_are_imported_by_name_nowhere_else() -> None:
    wrong = []
    for name, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                wrong += [f"{name}: {alias.name}" for alias in node.names if alias.name in BUILT_IN]
    assert wrong == []
