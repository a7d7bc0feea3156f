"""The handler of Hugging Face Inference Endpoints, and the small file that finds it inside a package.

Contract of the toolkit: the package's folder is first on ``sys.path``; ``handler.py`` has a class
``EndpointHandler`` that is made with the folder's path and called with the whole body of a request.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .predictor import Predictor
from .requests import read_body

__all__ = ["ROOT_HANDLER", "EndpointHandler"]

ROOT_HANDLER = '''"""Handler of this package, by the contract of Hugging Face Inference Endpoints.

    from handler import EndpointHandler

    EndpointHandler("/path/of/this/folder")({"inputs": "..."})
"""

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent


def _runtime(module: str) -> Any:
    """A module of trainpipe_runtime/, under a name of this folder's own: packages do not mix."""
    folder = _HERE / "trainpipe_runtime"
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
        self._handler = _runtime("handler").EndpointHandler(path or str(_HERE), **options)

    def __call__(self, data: dict[str, Any]) -> Any:
        return self._handler(data)
'''
"""The text of a package's ``handler.py``."""


class EndpointHandler:
    """Answers requests by the model of a package.

    Args:
        path: The folder of the package; empty: the folder that holds this runtime.
        options: Those of :meth:`.predictor.Predictor.load`.

    Raises:
        SchemaError: Not a complete package.
    """

    def __init__(self, path: str = "", **options: Any) -> None:
        self.predictor = Predictor.load(Path(path) if path else Path(__file__).resolve().parent.parent, **options)

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
        self.predictor.decoder.check_parameters(parameters)
        answers = self.predictor.predict(inputs, **parameters)
        return answers[0] if is_one else answers
