"""What MLflow runs to load a package as a model. This file is copied into the MLflow model and imports nothing of hf_trainpipe.

The package's own handler answers: ``load_model("models:/NAME@champion").predict(["a text"])``.
"""

import importlib.util
from pathlib import Path
from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class PackageModel(PythonModel):  # type: ignore[misc]
    """A package behind MLflow's interface."""

    def load_context(self, context: Any) -> None:
        """Load the handler of the package in the model's artifacts."""
        folder = Path(context.artifacts["package"])
        spec = importlib.util.spec_from_file_location("package_handler", folder / "handler.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.handler = module.EndpointHandler(str(folder))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # MLflow would read them
        """Answers, one an input.

        Args:
            model_input: A list of what the package takes; a series; or a frame, of one column, or with a column for each part
                of an input.
            params: What the package takes beside its inputs: ``top_k``, ``threshold``.
        """
        if hasattr(model_input, "columns"):
            columns = list(model_input.columns)
            model_input = model_input[columns[0]] if len(columns) == 1 else model_input.to_dict("records")
        inputs = model_input.tolist() if hasattr(model_input, "tolist") else list(model_input)
        return self.handler({"inputs": inputs, "parameters": params or {}})


set_model(PackageModel())
