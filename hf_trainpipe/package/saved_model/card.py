"""What the model card says about a package's SavedModel: figures, and a loader to copy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HEADING = "## TensorFlow"
_LOADER = '''\
import json
import tensorflow as tf
from tokenizers import Tokenizer

facts = json.load(open("tensorflow/facts.json"))
tokenizer = Tokenizer.from_file("tensorflow/tokenizer.json")
tokenizer.enable_truncation(facts["max_length"])
tokenizer.enable_padding(pad_id=facts["pad_token_id"])
loaded = tf.saved_model.load("tensorflow/saved_model")


def logits(texts):
    """Float32 [texts, labels] (of a tagger [texts, tokens, labels]); a text may be a pair (a, b)."""
    encoded = tokenizer.encode_batch(texts)
    columns = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    inputs = {name: [getattr(one, columns[name]) for one in encoded] for name in facts["inputs"]}
    serve = loaded.signatures["serving_default"]
    return serve(**{name: tf.constant(rows, tf.int64) for name, rows in inputs.items()})["logits"].numpy()
'''
_LITERT = '''\
import numpy as np

interpreter = tf.lite.Interpreter("tensorflow/model.tflite")


def litert_logits(text):
    """Logits of one text, padded to the shortest signature that holds it."""
    tokenizer.no_padding()
    encoded = tokenizer.encode(text) if isinstance(text, str) else tokenizer.encode(*text)
    tokens = len(encoded.ids)
    length = min(one for one in facts["litert"]["lengths"] if one >= tokens)
    columns = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    inputs = {name: np.zeros((1, length), np.int32) for name in facts["inputs"]}
    for name, row in inputs.items():
        row[0, :tokens] = getattr(encoded, columns[name])
    return interpreter.get_signature_runner(f"tokens_{length}")(**inputs)["logits"][0]
'''


def section(facts: Mapping[str, Any]) -> str:
    """The section below :data:`HEADING`, of what ``facts.json`` holds."""
    whole = facts["saved_model"]
    lines = [
        f"`tensorflow/saved_model` is this model for TensorFlow ({facts['tensorflow']} wrote it), any batch and length. It needs "
        "neither torch nor transformers:",
        "",
        "```python",
        *_LOADER.splitlines(),
        "```",
        "",
        _figures("SavedModel", whole),
    ]
    if steps := [step["kind"] for step in facts["preprocessing"]]:
        lines += [f"- Texts must be prepared first as in training: {', '.join(steps)}. The loader does not."]
    if litert := facts.get("litert"):
        lengths = ", ".join(map(str, litert["lengths"]))
        lines += [
            _figures("LiteRT", litert) + f" One text a call, padded to {lengths} tokens.",
            "",
            "`tensorflow/model.tflite`, further with the loader above:",
            "",
            "```python",
            *_LITERT.splitlines(),
            "```",
        ]
    return "\n".join(lines)


def _figures(name: str, item: Mapping[str, Any]) -> str:
    most = max(item["shapes"])
    return (
        f"- {name}: logits of {item['n']} inputs differ from the evaluated ones by {item['max_abs_diff']:.2g} at most "
        f"({item['tolerance']:.2g} is allowed), at batches up to {most[0]} x {most[1]} tokens from the torch model by "
        f"{item['shapes_max_abs_diff']:.2g}."
    )
