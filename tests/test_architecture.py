"""ARCHITECTURE.md's paths are true to the code, and no two files import each other."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

import hf_trainpipe

PACKAGE = Path(hf_trainpipe.__file__).parent
PAGE = (PACKAGE.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")
ROW = re.compile(r"\| (\d+) \| (\d*) *\| `([\w.]+):([\w.]+)` \|")
MODULES = {
    ".".join(("hf_trainpipe", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): file
    for file in sorted(PACKAGE.rglob("*.py"))
}


def imports_of(module: str, *, in_functions: bool = False) -> set[str]:
    """Files of the package that a file imports at its top level, for types, and if asked inside of functions."""
    found: set[str] = set()
    pending: list[ast.AST] = [ast.parse(MODULES[module].read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".") + [""] * (MODULES[module].name == "__init__.py")
                base = ".".join([*parts[: -node.level], *filter(None, [base])])
            found |= {name if (name := f"{base}.{alias.name}") in MODULES else base for alias in node.names}
        elif in_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            pending += ast.iter_child_nodes(node)
    return {name for name in found if name in MODULES and name not in (module, "hf_trainpipe")}


def path_of(title: str) -> list[tuple[int, int | None, str, str]]:
    """Rows of a table in ARCHITECTURE.md: the stop, the stop that calls it, its module and name."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return [
        (int(stop), int(caller) if caller else None, module, name)
        for stop, caller, module, name in ROW.findall(section)
    ]


@pytest.mark.parametrize("title", re.findall(r"^## (The path of .*)$", PAGE, re.MULTILINE))
def test_a_path_has_at_most_15_stops_and_each_is_used_by_the_one_that_it_names(title: str) -> None:
    stops = path_of(title)
    assert [stop for stop, *_ in stops] == list(range(1, len(stops) + 1))
    assert 8 <= len(stops) <= 15
    modules = {stop: module for stop, _, module, _ in stops}
    for stop, caller, module, name in stops:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        assert callable(found)
        if caller is None:
            assert stop == 1
            continue
        assert caller < stop
        known = imports_of(modules[caller], in_functions=True) | {modules[caller]}
        assert module in known, f"stop {caller} does not import stop {stop}"
        nodes = ast.walk(ast.parse(MODULES[modules[caller]].read_text(encoding="utf-8")))
        used = {getattr(node, "id", getattr(node, "attr", "")) for node in nodes}
        assert name.rpartition(".")[2] in used, f"stop {caller} does not use stop {stop}"


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {module: imports_of(module) for module in MODULES}
    done: set[str] = set()
    while free := {module for module in graph if module not in done and graph[module] <= done}:
        done |= free
    circles = {module for module in graph if module not in done}
    while above := {module for module in circles if not any(module in graph[other] for other in circles)}:
        circles -= above
    assert not circles, {module: sorted(graph[module] & circles) for module in circles}
