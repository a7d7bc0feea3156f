"""Runs in a fresh, isolated process: loads a package through a handler and answers recorded inputs.

    python -I -B probe.py REQUEST.json ANSWER.json
    python -I -B probe.py - ANSWER.json MODULE...    import these, then read the request from stdin, one line

The request is ``{"package", "recorded": path or null, "allow_code", "runtime", "backend": name or null}``, the answer
``{"n", "max_abs_diff", "worst", "inputs", "answers", "python", "foreign", "torch"}``, or ``{"refused", "fix"}``. With
``allow_code`` the package's own handler is used, else the one in the folder ``runtime``. This file imports only the
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


def largest(value: Any) -> float:
    """The largest absolute number in nested lists."""
    if isinstance(value, dict):
        return largest(list(value.values()))
    if isinstance(value, list):
        return max(map(largest, value), default=0.0)
    return abs(value) if isinstance(value, (int, float)) else 0.0


def own_handler(package: Path) -> Any:
    """The package's own handler, found as Inference Endpoints finds it. Needs consent."""
    os.environ["TRAINPIPE_ALLOW_CODE"] = "1"
    loader: Any = importlib.machinery.SourceFileLoader
    get_code = loader.get_code

    def from_source(self: Any, name: str) -> Any:
        """Compile the package's source; ignore byte code, which has no hash."""
        path = self.get_filename(name)
        own = path.startswith(f"{package}{os.sep}")
        return self.source_to_code(self.get_data(path), path) if own else get_code(self, name)

    loader.get_code = from_source
    sys.path.insert(0, str(package))
    from handler import EndpointHandler  # type: ignore[import-not-found]

    return EndpointHandler


def handler_of(runtime: Path) -> Any:
    """The handler of a runtime outside the package; imports nothing from the package."""
    spec = importlib.util.spec_from_file_location(
        "trainpipe_runtime_installed", runtime / "__init__.py", submodule_search_locations=[str(runtime)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return importlib.import_module(f"{spec.name}.handler").EndpointHandler


def main(request: dict[str, Any]) -> dict[str, Any]:
    """Load the package and compare; see the module's docstring."""
    package = Path(request["package"])
    make = own_handler(package) if request["allow_code"] else handler_of(Path(request["runtime"]))
    backend = request.get("backend")
    handler = make(str(package), **({"backend": backend} if backend else {}))
    recorded: list[dict[str, Any]] = []
    if request["recorded"]:
        with open(request["recorded"], encoding="utf-8") as stream:
            recorded = [json.loads(line) for line in stream if line.strip()]
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
    gaps = [0.0]
    if recorded:
        rows = (
            predictor.record(inputs)
            if hasattr(predictor, "record")
            else as_lists(predictor.outputs(inputs), len(inputs))
        )
        gaps = [difference(row, line["output"]) for row, line in zip(rows, recorded, strict=True)]
    largest = max(gaps)
    return {
        "n": len(recorded),
        "max_abs_diff": largest if math.isfinite(largest) else None,
        "worst": gaps.index(largest),
        "inputs": len(inputs),
        "answers": len(answers),
        "python": platform.python_version(),
        "foreign": "hf_trainpipe" in sys.modules,
        "torch": "torch" in sys.modules,
    }


if __name__ == "__main__":
    gc.disable()  # a short process, mostly imports
    if sys.argv[1] == "-":
        for name in sys.argv[3:]:
            importlib.import_module(name)
        request = sys.stdin.readline()
        if not request:
            sys.exit(0)  # the caller is gone
    else:
        request = Path(sys.argv[1]).read_text(encoding="utf-8")
    try:
        answer = main(json.loads(request))
    except Exception as error:
        if not isinstance(getattr(error, "message", None), str) or not isinstance(getattr(error, "fix", None), str):
            raise
        answer = {"refused": error.message, "fix": error.fix}  # type: ignore[attr-defined]
    Path(sys.argv[2]).write_text(json.dumps(answer), encoding="utf-8")
