"""Runs in a fresh, isolated process: loads a package through a handler and answers recorded inputs.

    python -I -B probe.py ANSWER.json MODULE...    import these, then read the request from stdin, one line

The request is ``{"package", "recorded": lines of a run's, "runtime": folder or null, "backend": name}`` (without ``backend``
the package's own), the answer ``{"n", "max_abs_diff", "worst", "inputs", "answers", "python", "foreign", "torch"}``, or
``{"refused", "fix"}``. The handler of ``runtime`` is used, without one the package's own. This file imports only the
standard library and that handler, so it runs where hf_trainpipe is not installed.
"""

from __future__ import annotations

import gc
import importlib
import importlib.machinery
import importlib.util
import json
import math
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

EXAMPLES: dict[str, list[Any]] = {
    "text": ["A short text.", "Another one, a little longer than the first."],
    "pair": [{"text": "A short text.", "text_pair": "Another one."}],
    "words": ["A short text.", {"words": ["Another", "one", "."]}],
}
"""Of packages whose own runtime is of before a task was one file."""


def as_lists(outputs: Any, count: int) -> list[Any]:
    """Outputs of an older predictor as JSON, one entry for each of ``count`` inputs; None without output.

    ``[C]`` numbers for a text, ``[words][C]`` for tags.
    """
    rows: list[Any] = [None] * count
    starts = outputs.word_starts
    for position, example in enumerate(outputs.examples):
        if starts is None:
            rows[int(example)] = outputs.outputs[position].tolist()
        else:
            rows[int(example)] = outputs.outputs[int(starts[position]) : int(starts[position + 1])].tolist()
    return rows


def difference(left: Any, right: Any) -> float:
    """The largest absolute difference of two nested lists; infinite where their shapes, or whole numbers, differ."""
    if isinstance(left, dict) and isinstance(right, dict):
        return max((difference(left.get(name), right.get(name)) for name in {*left, *right}), default=0.0)
    if isinstance(left, list) and isinstance(right, list):
        if len(left) != len(right):
            return math.inf
        return max((difference(*pair) for pair in zip(left, right, strict=True)), default=0.0)
    if isinstance(left, int) and isinstance(right, int):
        return 0.0 if left == right else math.inf
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        gap = abs(left - right)
        return gap if gap == gap else math.inf
    return 0.0 if left is None and right is None else math.inf


def gaps(predictor: Any, recorded: Sequence[Mapping[str, Any]]) -> list[float]:
    """How far a predictor's outputs are from recorded ones, of each ``{"input", "output"}``."""
    inputs = [line["input"] for line in recorded]
    if hasattr(predictor, "record"):
        rows = predictor.record(inputs)
    else:
        rows = as_lists(predictor.outputs(inputs), len(inputs))
    own = getattr(getattr(predictor, "task", None), "gap", None)
    found = []
    for row, line in zip(rows, recorded, strict=True):
        gap = own(row, line["output"]) if own is not None and row is not None else None
        found.append(difference(row, line["output"]) if gap is None else gap)
    return found


def largest(value: Any) -> float:
    """The largest absolute number in nested lists."""
    if isinstance(value, dict):
        return largest(list(value.values()))
    if isinstance(value, list):
        return max(map(largest, value), default=0.0)
    return abs(value) if isinstance(value, (int, float)) else 0.0


def compile_sources(folder: Path) -> None:
    """From now on compile modules below ``folder`` from their source; byte code, which has no hash, is ignored there."""
    loader: Any = importlib.machinery.SourceFileLoader
    get_code = loader.get_code

    def from_source(self: Any, name: str) -> Any:
        path = self.get_filename(name)
        own = path.startswith(f"{folder}{os.sep}")
        return self.source_to_code(self.get_data(path), path) if own else get_code(self, name)

    loader.get_code = from_source


def import_folder(folder: Path, name: str) -> None:
    """Import the package of modules in a folder under the name ``name``; nothing beside it can be imported from there."""
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def handler_class(package: Path, runtime: str | None) -> Any:
    """The handler of a runtime outside the package, which imports nothing from the package; without one the package's own,
    found as Inference Endpoints finds it: needs consent."""
    if runtime is not None:
        import_folder(Path(runtime), "trainpipe_runtime_installed")
        return importlib.import_module("trainpipe_runtime_installed.handler").EndpointHandler
    os.environ["TRAINPIPE_ALLOW_CODE"] = "1"
    compile_sources(package)
    sys.path.insert(0, str(package))
    return importlib.import_module("handler").EndpointHandler


def main(request: dict[str, Any]) -> dict[str, Any]:
    """Load the package and compare; see the module's docstring."""
    package = Path(request["package"])
    make = handler_class(package, request["runtime"])
    backend = request.get("backend")
    handler = make(str(package), **({"backend": backend} if backend else {}))
    recorded: list[dict[str, Any]] = request["recorded"]
    predictor = getattr(handler, "_handler", handler).predictor
    inputs = [line["input"] for line in recorded]
    if not inputs:
        manifest = json.loads((package / "trainpipe.json").read_text(encoding="utf-8"))
        inputs = list(getattr(predictor, "examples", ())) or EXAMPLES[manifest["inputs"]]
    try:
        answers = handler({"inputs": inputs})
    except ValueError as error:
        if not recorded:
            raise
        message = getattr(error, "message", error)
        return {
            "refused": f"The recorded inputs are not for this package: {message}",
            "fix": "Name the recorded.jsonl of the run that the package was trained in, with --recorded.",
        }
    found = gaps(predictor, recorded) if recorded else [0.0]
    return {
        "n": len(recorded),
        "max_abs_diff": max(found) if math.isfinite(max(found)) else None,
        "worst": found.index(max(found)),
        "inputs": len(inputs),
        "answers": len(answers),
        "python": platform.python_version(),
        "foreign": "hf_trainpipe" in sys.modules,
        "torch": "torch" in sys.modules,
    }


if __name__ == "__main__":
    gc.disable()  # a short process, mostly imports
    for name in sys.argv[2:]:
        importlib.import_module(name)
    request = sys.stdin.readline()
    if not request:
        sys.exit(0)  # the caller is gone
    try:
        answer = main(json.loads(request))
    except Exception as error:
        if not isinstance(getattr(error, "message", None), str) or not isinstance(getattr(error, "fix", None), str):
            raise
        answer = {"refused": error.message, "fix": error.fix}  # type: ignore[attr-defined]
    Path(sys.argv[1]).write_text(json.dumps(answer), encoding="utf-8")
