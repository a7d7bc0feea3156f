"""A package ready to answer: its predictor and what the server needs to know of it."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import PackageError
from hf_trainpipe.package.layout import RUNTIME, find_package
from hf_trainpipe.package.own_code import changed_code, import_runtime
from hf_trainpipe.runtime.model.onnx_model import choose_backend
from hf_trainpipe.runtime.safety import schema, trust
from hf_trainpipe.runtime.tasks.registry import task_from_json

if TYPE_CHECKING:
    from types import ModuleType

    from hf_trainpipe.runtime.tasks.schema import TaskSchema


@dataclass(frozen=True)
class Engine:
    """The predictor of a package, beside the parts of its runtime that a server uses."""

    predictor: Any
    """``open``, ``encode``, ``run`` and ``answer`` of :class:`hf_trainpipe.runtime.handler.predictor.Predictor`."""
    read_body: Any
    """``{"inputs", "parameters"}`` -> inputs as a list, parameters, whether it was one input."""
    input_error: type[Exception]
    task: Any
    """As the package was fitted: of the installed runtime, or of its own code."""
    runtime: str
    """``installed``, or ``package`` where the package's own copy runs."""
    folder: Path = Path()
    """Of the package."""
    backend: str = "torch"
    """What runs its network: ``torch``, ``onnx`` or ``onnx-int8``."""
    differs: bool = False
    """Whether the runtime inside the package is another than the installed one."""

    @cached_property
    def schema(self) -> TaskSchema:
        """What the task takes and gives."""
        found: TaskSchema = self.task.schema()
        return found

    @cached_property
    def info(self) -> dict[str, Any]:
        """What a client may know: name, kind of inputs and of answers, labels, options, parameters, scores."""
        info, told = self.predictor.info, self.schema
        return {
            "name": info.name,
            "inputs": told.reads,
            "forms": [list(form) for form in told.inputs],
            "answers": told.answers,
            "labels": list(self.task.label_names),
            "options": dict(told.options),
            "parameters": list(told.parameters),
            "scores": info.scores,
            "max_length": info.tokens["max_length"],
            "overflow": info.tokens["overflow"],
            "device": str(self.predictor.device),
            "precision": getattr(self.predictor, "precision", "fp32"),
        }


def load(
    package: Path | str,
    *,
    device: str | None = None,
    allow_code: bool = False,
    backend: str | None = None,
    precision: str | None = None,
) -> Engine:
    """Load a package, or the package of a run.

    Where the runtime inside the package is the installed one, file by file, the installed one runs. Where it
    differs, the package's own runs if ``allow_code`` consents, since it is code that came with the package;
    else the installed one, which reads the same trainpipe.json. ``backend`` is what runs the network
    (``torch``, ``onnx``, ``onnx-int8``), ``precision`` what torch multiplies in (``fp32``, ``bf16``, ``fp16``); None: what the
    environment or the package says, fp32.

    Raises:
        PackageError: No package, or its runtime is too old for a server, or for that precision.
        NotReproduced: It does not agree with its recorded predictions in that precision.
        InputError: The package is incomplete or not as it was written, or carries code without consent.
    """
    folder = find_package(package).resolve()
    info = schema.read(folder)
    own = any(name.startswith(f"{RUNTIME}/") for name in changed_code(folder, info.to_json()))
    root = "hf_trainpipe.runtime"
    if own and allow_code:
        trust.check(folder, info, allow_code=True)  # the package's own may be older than these checks
        root = import_runtime(folder / RUNTIME)
    flat = root != "hf_trainpipe.runtime" and not (folder / RUNTIME / "handler").is_dir()  # of older versions
    home = root if flat else f"{root}.handler"
    predictor: ModuleType = importlib.import_module(f"{home}.predictor")
    requests: ModuleType = importlib.import_module(f"{home}.requests")
    errors: ModuleType = importlib.import_module(f"{root}.errors")
    if not hasattr(predictor.Predictor, "open") or not hasattr(requests, "read_body"):
        raise PackageError(
            f"{folder}: its own runtime cannot share the model between requests.",
            fix="Write the package again (`hf-trainpipe package RUN`), or leave --allow-code away.",
            exit_code=2,
        )
    backend = choose_backend(backend, default=info.backend, there=info.backends)
    options = {"device": device, "allow_code": allow_code, "backend": backend}
    if precision is not None:
        options["precision"] = precision
        if "precision" not in inspect.signature(predictor.Predictor.load).parameters:
            raise PackageError(
                f"{folder}: its own runtime knows no precision but fp32, found {precision!r}.",
                fix="Write the package again (`hf-trainpipe package RUN`), or leave --allow-code or --precision away.",
                exit_code=2,
            )
    made = predictor.Predictor.load(folder, **options)
    return Engine(
        predictor=made,
        task=made.task if hasattr(made, "task") else task_from_json(info.task),
        read_body=requests.read_body,
        input_error=errors.InputError,
        runtime="package" if own and allow_code else "installed",
        folder=folder,
        backend=backend,
        differs=own,
    )
