"""A package ready to answer: its predictor and what the server needs to know of it."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import PackageError
from hf_trainpipe.package.layout import RUNTIME, find_package

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["Engine", "load"]


@dataclass(frozen=True)
class Engine:
    """The predictor of a package, beside the parts of its runtime that a server uses."""

    predictor: Any
    """``open``, ``encode``, ``run`` and ``answer`` of :class:`hf_trainpipe.runtime.predictor.Predictor`."""
    read_body: Any
    """``{"inputs", "parameters"}`` -> inputs as a list, parameters, whether it was one input."""
    input_error: type[Exception]
    runtime: str
    """``installed``, or ``package`` where the package's own copy runs."""

    @property
    def call_tokens(self) -> int | None:
        """As the predictor has it; a package's own runtime may be older than this."""
        found: int | None = getattr(self.predictor, "call_tokens", 48)
        return found

    @property
    def info(self) -> dict[str, Any]:
        """What a client may know: name, kind of inputs and of answers, labels, options, parameters, scores."""
        info, decoder = self.predictor.info, self.predictor.decoder
        return {
            "name": info.name,
            "inputs": info.inputs,
            "answers": decoder.kind,
            "labels": list(decoder.labels),
            "options": dict(decoder.options),
            "parameters": list(decoder.parameters),
            "scores": info.scores,
            "max_length": info.tokens["max_length"],
            "overflow": info.tokens["overflow"],
        }


def load(
    package: Path | str, *, device: str | None = None, allow_code: bool = False, backend: str | None = None
) -> Engine:
    """Load a package, or the package of a run.

    Where the runtime inside the package is the installed one, file by file, the installed one runs. Where it
    differs, the package's own runs if ``allow_code`` consents, since it is code that came with the package;
    else the installed one, which reads the same trainpipe.json. ``backend`` is what runs the network
    (``torch``, ``onnx``, ``onnx-int8``); None: what the environment or the package says.

    Raises:
        PackageError: No package, or its runtime is too old for a server.
        InputError: The package is incomplete, or carries code without consent.
    """
    folder = find_package(package).resolve()
    own = _differs(folder / RUNTIME)
    root = _own_runtime(folder / RUNTIME) if own and allow_code else "hf_trainpipe.runtime"
    predictor: ModuleType = importlib.import_module(f"{root}.predictor")
    requests: ModuleType = importlib.import_module(f"{root}.requests")
    errors: ModuleType = importlib.import_module(f"{root}.errors")
    if not hasattr(predictor.Predictor, "open") or not hasattr(requests, "read_body"):
        raise PackageError(
            f"{folder}: its own runtime cannot share the model between requests.",
            fix="Write the package again (`hf-trainpipe package RUN`), or leave --allow-code away.",
            exit_code=2,
        )
    return Engine(
        predictor=predictor.Predictor.load(folder, device=device, allow_code=allow_code, backend=backend),
        read_body=requests.read_body,
        input_error=errors.InputError,
        runtime="package" if own and allow_code else "installed",
    )


def runtime_differs(package: Path | str) -> bool:
    """Whether the runtime inside a package is another than the installed one."""
    return _differs(find_package(package).resolve() / RUNTIME)


def _differs(folder: Path) -> bool:
    from hf_trainpipe import runtime

    return _sources(folder) != _sources(Path(str(runtime.__file__)).parent)


def _sources(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.py")}


def _own_runtime(folder: Path) -> str:
    """Import the runtime in a package under a name of its own; returns the name."""
    name = "trainpipe_runtime_" + hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        if spec is None or spec.loader is None or not (folder / "__init__.py").is_file():
            raise PackageError(f"{folder} is no runtime.", fix="Write the package again.", exit_code=2)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return name
