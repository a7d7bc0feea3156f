"""An ONNX graph as a TensorFlow module: traced once with shapes that are open, or with fixed ones.

What does not depend on the inputs is computed when the graph is traced; arrays that then meet an input become variables,
which several traces share. Imports TensorFlow, NumPy and onnx alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from onnx import numpy_helper

from hf_trainpipe.utils.brief import first_line

from .operators import OPERATORS, unknown

_LARGE = 64
"""Elements from which on a constant is a variable: it then lies in the file of weights, once, and not in the graph."""


class UnknownOperators(Exception):
    """Operators that have no counterpart here, or are used in a way that theirs does not know; ``names`` say which."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(", ".join(names))
        self.names = list(names)


class Graph:
    """The network of an ONNX file.

    Args:
        path: The ``.onnx`` file; its ``.data`` beside it.

    Raises:
        UnknownOperators: before anything else is done; of uses that are not known, when it is traced.
    """

    def __init__(self, path: Path) -> None:
        model = onnx.load(str(path))
        nodes = list(model.graph.node)
        if names := unknown(nodes):
            raise UnknownOperators(names)
        self.names = [item.name for item in model.graph.input]
        """Names of the inputs, in order: int64 [texts, tokens] each."""
        self._nodes = [(node.op_type, list(node.input), list(node.output), _attributes(node)) for node in nodes]
        self._fixed = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
        self._output = model.graph.output[0].name
        self._weights: dict[str, Any] = {}

    @property
    def kinds(self) -> list[str]:
        """Its operators, each once."""
        return sorted({kind for kind, *_ in self._nodes})

    @property
    def weights(self) -> list[Any]:
        """The variables of all traces so far."""
        return list(self._weights.values())

    def __call__(self, inputs: Mapping[str, Any]) -> Any:
        """The logits, float32 [texts, C] or [texts, tokens, C]; called where a ``tf.function`` is traced."""
        values: dict[str, Any] = {"": None, **self._fixed, **inputs}
        for kind, takes, gives, attributes in self._nodes:
            given = [values[name] for name in takes]
            if kind == "Constant":
                found: Any = _constant(attributes)
            elif all(value is None or isinstance(value, np.ndarray) for value in given):
                found = _computed(kind, attributes, given)
            else:
                found = _applied(kind, attributes, [self._graphed(value) for value in given])
                if isinstance(found, list):  # a shape that is known
                    found = np.asarray(found, np.int64)
            outputs = found if isinstance(found, tuple) else (found,)
            values.update(zip(gives, outputs, strict=False))
        return values[self._output]

    def _graphed(self, value: Any) -> Any:
        """A value as a tensor of the graph that is traced."""
        if not isinstance(value, np.ndarray):
            return value
        if value.size < _LARGE or value.dtype != np.float32:
            return tf.constant(value)
        key = f"{value.shape} {hashlib.sha256(np.ascontiguousarray(value).data).hexdigest()}"
        if key not in self._weights:
            with tf.init_scope():
                self._weights[key] = tf.Variable(value, trainable=False, name=f"weight_{len(self._weights)}")
        return tf.convert_to_tensor(self._weights[key])


def _applied(kind: str, attributes: Mapping[str, Any], given: Sequence[Any]) -> Any:
    """What an operator makes of its inputs.

    Raises:
        UnknownOperators: it is used in a way that is not known here.
    """
    try:
        return OPERATORS[kind](attributes, *given)
    except Exception as error:  # of any kind: TensorFlow's own, or of an attribute or input that is not looked for
        said = first_line(error, named=not isinstance(error, NotImplementedError))[:200]
        raise UnknownOperators([f"{kind} ({said})"]) from error


def _attributes(node: Any) -> dict[str, Any]:
    found = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    return {
        name: numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
        for name, value in found.items()
    }


def _constant(attributes: Mapping[str, Any]) -> Any:
    [(name, value)] = attributes.items()
    return value if name == "value" else np.asarray(value, np.float32 if "float" in name else np.int64)


def _computed(kind: str, attributes: Mapping[str, Any], given: Sequence[Any]) -> Any:
    """What an operator makes of arrays alone, as arrays."""
    with tf.init_scope():
        found = _applied(kind, attributes, [None if value is None else tf.constant(value) for value in given])
        parts = found if isinstance(found, tuple) else (found,)
        arrays = tuple(np.asarray(part, np.int64) if isinstance(part, list) else part.numpy() for part in parts)
    return arrays if isinstance(found, tuple) else arrays[0]
