"""Further models that a package may hold beside torch's: ONNX's, and TensorFlow's below ``tensorflow/``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_trainpipe.runtime.model.onnx_model import FILES

TENSORFLOW = "tensorflow"
SAVED_MODEL = f"{TENSORFLOW}/saved_model"
LITERT = f"{TENSORFLOW}/model.tflite"
TOKENIZER = f"{TENSORFLOW}/tokenizer.json"
FACTS = f"{TENSORFLOW}/facts.json"


def models_in(manifest: Mapping[str, Any]) -> list[str]:
    """The further models of a package, as the options of ``package`` that add them are called.

    >>> models_in({"backends": {"onnx": {}, "onnx-int8": {}}, "files": {"tensorflow/facts.json": {}}})
    ['onnx', 'int8', 'tensorflow']
    """
    backends, files = manifest["backends"], manifest["files"]
    there = {
        **{backend.removeprefix("onnx-"): backend in backends for backend in FILES},
        "tensorflow": FACTS in files,
        "litert": LITERT in files,
    }
    return [name for name, is_there in there.items() if is_there]
