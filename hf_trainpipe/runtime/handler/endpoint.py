"""The handler of Hugging Face Inference Endpoints, and the small files that find it inside a package.

Contract of the toolkit: the package's folder is first on ``sys.path``; ``handler.py`` has a class
``EndpointHandler`` that is made with the folder's path and called with the whole body of a request.
SageMaker's containers import ``code/inference.py`` and call its four functions instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .predictor import Predictor
from .requests import read_body

ROOT_HANDLER = '''"""Handler of this package, by the contract of Hugging Face Inference Endpoints.

    from handler import EndpointHandler

    EndpointHandler("/path/of/this/folder")({"inputs": "..."})
"""

import os
import sys

_HERE = os.path.dirname(os.path.realpath(__file__))
# trainpipe_runtime/ is found by its place. Nothing else is imported from here: a torch.py beside this file is nobody's.
sys.path[:] = [place for place in sys.path if os.path.realpath(place) not in (_HERE, os.path.join(_HERE, "code"))]

import hashlib  # noqa: E402
import importlib  # noqa: E402
import importlib.util  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402


def _runtime(module: str) -> Any:
    """A module of trainpipe_runtime/, under a name of this folder's own: packages do not mix."""
    folder = Path(_HERE) / "trainpipe_runtime"
    name = "trainpipe_runtime_" + hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        if spec is None or spec.loader is None:
            raise ImportError(f"{folder} cannot be loaded")
        package = importlib.util.module_from_spec(spec)
        sys.modules[name] = package
        try:
            spec.loader.exec_module(package)
        except BaseException:
            del sys.modules[name]
            raise
    return importlib.import_module(f"{name}.{module}")


class EndpointHandler:
    """``EndpointHandler(path)(body)``; the body is ``{"inputs": ..., "parameters": {...}}``."""

    def __init__(self, path: str = "", **options: Any) -> None:
        self._handler = _runtime("handler").EndpointHandler(path or _HERE, **options)

    def __call__(self, data: dict[str, Any]) -> Any:
        return self._handler(data)
'''
"""The text of a package's ``handler.py``."""

SAGEMAKER_ENTRY = '''"""Entry point of this package for SageMaker: the functions that its Hugging Face and PyTorch containers call.

Requests and answers are those of ``handler.py``: ``{"inputs": ..., "parameters": {...}}``, JSON both ways.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any

_JSON = "application/json"


def model_fn(model_dir: str, context: Any = None) -> Any:
    """The handler of the package in ``model_dir``."""
    spec = importlib.util.spec_from_file_location("trainpipe_root_handler", Path(model_dir) / "handler.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{model_dir}/handler.py cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EndpointHandler(str(model_dir))


def input_fn(request_body: Any, content_type: str = _JSON, context: Any = None) -> Any:
    """The body of a request, read as JSON."""
    if content_type.partition(";")[0].strip().lower() != _JSON:
        raise ValueError(f"Content-Type: expected {_JSON}, found {content_type!r}.")
    return json.loads(request_body)


def predict_fn(data: Any, model: Any, context: Any = None) -> Any:
    """The handler's answer."""
    return model(data)


def output_fn(prediction: Any, accept: str = _JSON, context: Any = None) -> str:
    """The answer as JSON."""
    wanted = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    if not {_JSON, "application/*", "*/*", ""} & set(wanted):
        raise ValueError(f"Accept: expected {_JSON}, found {accept!r}.")
    return json.dumps(prediction, ensure_ascii=False)
'''
"""The text of a package's ``code/inference.py``."""


class EndpointHandler:
    """Answers requests by the model of a package.

    Args:
        path: The folder of the package; empty: the folder that holds this runtime.
        options: Those of :meth:`.predictor.Predictor.load`.

    Raises:
        SchemaError: Not a complete package.
    """

    def __init__(self, path: str = "", **options: Any) -> None:
        self.predictor = Predictor.load(Path(path) if path else Path(__file__).resolve().parents[2], **options)

    def __call__(self, data: Mapping[str, Any]) -> Any:
        """Answer one request.

        Args:
            data: ``{"inputs": one input or a list of them, "parameters": {...}}``. An input is what
                :meth:`.predictor.Predictor.predict` takes, a pair being an object with text and text_pair.

        Returns:
            The answer of the one input, or a list of answers. JSON throughout.

        Raises:
            InputError: The body, an input or a parameter cannot be used.
        """
        inputs, parameters, is_one = read_body(data)
        self.predictor.task.check_parameters(parameters)
        answers = self.predictor.predict(inputs, **parameters)
        return answers[0] if is_one else answers
