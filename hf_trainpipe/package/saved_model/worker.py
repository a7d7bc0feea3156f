"""Runs in the environment of TensorFlow: writes a SavedModel from an ONNX graph, or answers with what was written.

Requests and answers are lines of JSON on stdin and stdout. ``write`` gets one request::

    {"onnx": FILE, "saved_model": FOLDER, "litert": FILE or null, "lengths": [tokens, ...]}

and answers ``{"inputs": [names], "operators": [names], "tensorflow": version, "litert": null or {"lengths", "refused"}}``, or
``{"unknown": [operators]}``. ``answer`` gets ``{"saved_model": FOLDER}`` or ``{"litert": FILE}``,
and then for each batch ``{"batch": FILE.npz, "logits": FILE.npy}``; it answers each line with ``{}``.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SIGNATURE = "serving_default"
Answer = Callable[[Mapping[str, Any]], Any]


def main(mode: str) -> None:
    """Serve ``write`` or ``answer``; the first words of TensorFlow on stdout go to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(found: Mapping[str, Any]) -> None:
        print(json.dumps(found), file=answers, flush=True)

    request = json.loads(sys.stdin.readline())
    if mode == "write":
        say(write(**request))
        return
    answer = _saved_model(request["saved_model"]) if "saved_model" in request else _litert(request["litert"])
    say({})
    for line in sys.stdin:
        given = json.loads(line)
        with np.load(given["batch"]) as batch:
            np.save(given["logits"], answer(dict(batch)))
        say({})


def write(*, onnx: str, saved_model: str, litert: str | None, lengths: Sequence[int]) -> dict[str, Any]:
    """See the module."""
    import tensorflow as tf

    from .graph import Graph, UnknownOperators

    try:
        graph = Graph(Path(onnx))
        module = tf.Module()
        open_shapes = {name: tf.TensorSpec([None, None], tf.int64, name=name) for name in graph.names}
        module.logits = tf.function(lambda **inputs: {"logits": graph(inputs)}, autograph=False)
        traced = module.logits.get_concrete_function(**open_shapes)
        module.weights = graph.weights
        tf.saved_model.save(module, saved_model, signatures={SIGNATURE: traced})
        told = None if litert is None else {"lengths": list(lengths), "refused": _write_litert(graph, litert, lengths)}
    except UnknownOperators as error:
        return {"unknown": error.names}
    return {"inputs": graph.names, "operators": graph.kinds, "tensorflow": tf.__version__, "litert": told}


def _write_litert(graph: Any, target: str, lengths: Sequence[int]) -> str | None:
    """Write one file with a signature for each length, ``tokens_64``; what LiteRT lacks, where it cannot."""
    import tensorflow as tf

    module = tf.Module()
    signatures = {}
    for length in lengths:
        shapes = {name: tf.TensorSpec([1, length], tf.int32, name=name) for name in graph.names}

        def logits(**inputs: Any) -> Any:
            return {"logits": graph({name: tf.cast(given, tf.int64) for name, given in inputs.items()})}

        signatures[f"tokens_{length}"] = tf.function(logits, autograph=False).get_concrete_function(**shapes)
    module.weights = graph.weights
    with tempfile.TemporaryDirectory(prefix="trainpipe-litert-") as folder:
        tf.saved_model.save(module, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(signatures))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            content = converter.convert()
        except Exception as error:  # of many kinds, each stage of the converter its own
            return str(error).strip()[:2000]
    Path(target).write_bytes(content)
    return None


def _saved_model(folder: str) -> Answer:
    import tensorflow as tf

    loaded = tf.saved_model.load(folder)
    signature = loaded.signatures[SIGNATURE]

    def answer(batch: Mapping[str, Any]) -> Any:
        found = signature(**{name: tf.constant(array, tf.int64) for name, array in batch.items()})
        return found["logits"].numpy()

    answer.keep = loaded  # type: ignore[attr-defined]  # a signature alone does not keep its variables
    return answer


def _litert(file: str) -> Answer:
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(model_path=file)
    runners = {
        int(name.removeprefix("tokens_")): interpreter.get_signature_runner(name)
        for name in interpreter.get_signature_list()
    }

    def answer(batch: Mapping[str, Any]) -> Any:
        rows = []
        longest = batch["input_ids"].shape[1]
        for row in range(len(batch["input_ids"])):
            here = int(batch["attention_mask"][row].sum())
            length = min(length for length in runners if length >= here)
            padded = {name: np.zeros((1, length), np.int32) for name in batch}
            for name, array in batch.items():
                padded[name][0, :here] = array[row, :here]
            logits = runners[length](**padded)["logits"][0]
            if logits.ndim == 2:
                logits = np.pad(logits, ((0, max(0, longest - length)), (0, 0)))[:longest]
            rows.append(logits)
        return np.stack(rows)

    return answer
