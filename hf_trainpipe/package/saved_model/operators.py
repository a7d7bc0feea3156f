"""ONNX operators, as transformers' exporter writes them, in TensorFlow.

Each function gets the node's attributes and its inputs, None where an optional one is left out, and gives the node's
output, or a tuple of them. What each has to do: https://onnx.ai/onnx/operators. Imports TensorFlow and NumPy alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

Attributes = Mapping[str, Any]
Operator = Callable[..., Any]
_INT = tf.int64
_NO_BOUND = 2**31 - 1
"""No axis is that long: exporters write it for the end."""


def types_of(code: int) -> Any:
    """The TensorFlow type of a number of onnx.TensorProto.DataType."""
    import onnx

    return tf.as_dtype(onnx.helper.tensor_dtype_to_np_dtype(code))


def _plain(function: Callable[..., Any]) -> Operator:
    """An operator without attributes, with inputs in the same order."""
    return lambda attributes, *inputs: function(*inputs)


def _whole(values: Any) -> list[int]:
    """Axes and sizes, which must be known when the graph is written."""
    known = tf.get_static_value(values)
    if known is None:
        raise NotImplementedError("its axes are computed by the graph itself")
    return [int(value) for value in np.atleast_1d(known)]


def _axes(attributes: Attributes, given: Any, rank: int) -> list[int]:
    axes = attributes.get("axes") if given is None else _whole(given)
    return list(range(rank)) if axes is None else [axis % rank for axis in axes]


def _shape(attributes: Attributes, data: Any) -> Any:
    chosen = slice(attributes.get("start", 0), attributes.get("end"))
    static = data.shape[chosen]
    return static.as_list() if static.is_fully_defined() else tf.shape(data, out_type=_INT)[chosen]


def _reshape(attributes: Attributes, data: Any, shape: Any) -> Any:
    known = tf.get_static_value(shape)
    copies = not attributes.get("allowzero", 0) and (known is None or 0 in known)
    if copies:  # a 0 stands for the size that is there
        num = min(int(shape.shape[0]), data.shape.rank)
        there = tf.pad(tf.shape(data, out_type=_INT)[:num], [[0, int(shape.shape[0]) - num]])
        shape = tf.where(tf.equal(shape, 0), there, shape)
    return tf.reshape(data, shape)


def _expand(attributes: Attributes, data: Any, shape: Any) -> Any:
    rank = max(data.shape.rank, int(shape.shape[0]))
    wide = tf.broadcast_to(data, tf.broadcast_dynamic_shape(tf.shape(data, out_type=_INT), shape))
    return tf.ensure_shape(wide, [None] * rank)


def _gather(attributes: Attributes, data: Any, places: Any) -> Any:
    axis = attributes.get("axis", 0) % data.shape.rank
    return tf.gather(data, _from_start(places, tf.shape(data, out_type=places.dtype)[axis]), axis=axis)


def _from_start(places: Any, size: Any) -> Any:
    """Places that may count from the end, as negative numbers."""
    known = tf.get_static_value(places)
    return places if known is not None and np.all(known >= 0) else tf.where(places < 0, places + size, places)


def _gather_elements(attributes: Attributes, data: Any, places: Any) -> Any:
    rank = data.shape.rank
    axis = attributes.get("axis", 0) % rank
    last = [*(other for other in range(rank) if other != axis), axis]
    back = np.argsort(last)
    data, places = tf.transpose(data, last), tf.transpose(places, last)
    around = tf.shape(places)[:-1]
    data = tf.slice(data, [0] * rank, tf.concat([around, tf.shape(data)[-1:]], 0))
    places = _from_start(places, tf.shape(data, out_type=places.dtype)[-1])
    flat = tf.reshape(data, [-1, tf.shape(data)[-1]])
    found = tf.gather(flat, tf.reshape(places, [-1, tf.shape(places)[-1]]), batch_dims=1, axis=1)
    return tf.transpose(tf.reshape(found, tf.shape(places)), back)


def _bound(values: Any, place: int) -> Any:
    """A bound of a slice: a number where it is known, and none where it stands for the end, as the largest of int64 does,
    which LiteRT would read as -1."""
    known = tf.get_static_value(values)
    if known is None:
        return values[place]
    return None if abs(int(known[place])) >= _NO_BOUND else int(known[place])


def _slice(attributes: Attributes, data: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    rank = data.shape.rank
    chosen = [slice(None)] * rank
    for place, axis in enumerate(range(int(starts.shape[0])) if axes is None else _whole(axes)):
        step = None if steps is None else _whole(steps)[place]
        chosen[axis % rank] = slice(_bound(starts, place), _bound(ends, place), step)
    return data[tuple(chosen)]


def _squeeze(attributes: Attributes, data: Any, axes: Any = None) -> Any:
    given = attributes.get("axes") if axes is None else _whole(axes)
    return tf.squeeze(data, given)


def _unsqueeze(attributes: Attributes, data: Any, axes: Any = None) -> Any:
    given = attributes["axes"] if axes is None else _whole(axes)
    for axis in sorted(axis % (data.shape.rank + len(given)) for axis in given):
        data = tf.expand_dims(data, axis)
    return data


def _split(attributes: Attributes, data: Any, sizes: Any = None) -> Any:
    axis = attributes.get("axis", 0)
    if sizes is not None:
        return tuple(tf.split(data, _whole(sizes), axis=axis))
    num, size = attributes["num_outputs"], data.shape[axis]
    if size is None:
        raise NotImplementedError("it splits an axis whose length is not known")
    each = math.ceil(size / num)
    return tuple(tf.split(data, [each] * (num - 1) + [size - each * (num - 1)], axis=axis))


def _reduce_sum(attributes: Attributes, data: Any, axes: Any = None) -> Any:
    if attributes.get("noop_with_empty_axes", 0) and axes is None and "axes" not in attributes:
        return data
    return tf.reduce_sum(data, _axes(attributes, axes, data.shape.rank), keepdims=bool(attributes.get("keepdims", 1)))


def _matmul(attributes: Attributes, left: Any, right: Any) -> Any:
    if min(left.shape.rank, right.shape.rank) < 2:
        raise NotImplementedError("it multiplies by a vector")
    if right.shape.rank == 2 and left.shape.rank > 2:  # one product of all rows is faster than one a text
        rows = tf.matmul(tf.reshape(left, [-1, right.shape[0]]), right)
        shape = tf.concat([tf.shape(left)[:-1], [right.shape[-1]]], 0)
        return tf.ensure_shape(tf.reshape(rows, shape), [*left.shape[:-1], right.shape[-1]])
    return tf.matmul(left, right)


def _gemm(attributes: Attributes, left: Any, right: Any, added: Any = None) -> Any:
    product = tf.matmul(
        left, right, transpose_a=bool(attributes.get("transA", 0)), transpose_b=bool(attributes.get("transB", 0))
    )
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    product = product if alpha == 1 else alpha * product
    if added is None:
        return product
    return product + (added if beta == 1 else beta * added)


def _layer_norm(attributes: Attributes, data: Any, scale: Any, bias: Any = None) -> Any:
    axes = list(range(attributes.get("axis", -1) % data.shape.rank, data.shape.rank))
    centred = data - tf.reduce_mean(data, axes, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), axes, keepdims=True)
    normal = centred * tf.math.rsqrt(variance + attributes.get("epsilon", 1e-5)) * scale
    return normal if bias is None else normal + bias


def _div(attributes: Attributes, left: Any, right: Any) -> Any:
    return tf.truncatediv(left, right) if left.dtype.is_integer else tf.divide(left, right)


def _clip(attributes: Attributes, data: Any, low: Any = None, high: Any = None) -> Any:
    data = data if low is None else tf.maximum(data, low)
    return data if high is None else tf.minimum(data, high)


def _cast(attributes: Attributes, data: Any) -> Any:
    return tf.cast(data, types_of(attributes["to"]))


def _fold(function: Callable[[Any, Any], Any]) -> Operator:
    def fold(attributes: Attributes, first: Any, *others: Any) -> Any:
        for other in others:
            first = function(first, other)
        return first

    return fold


OPERATORS: dict[str, Operator] = {
    "Abs": _plain(tf.abs),
    "Add": _plain(tf.add),
    "And": _plain(tf.logical_and),
    "Cast": _cast,
    "Ceil": _plain(tf.math.ceil),
    "Clip": _clip,
    "Concat": lambda attributes, *parts: tf.concat(parts, attributes["axis"]),
    "Cos": _plain(tf.cos),
    "CumSum": lambda attributes, data, axis: tf.cumsum(
        data,
        _whole(axis)[0],
        exclusive=bool(attributes.get("exclusive", 0)),
        reverse=bool(attributes.get("reverse", 0)),
    ),
    "Div": _div,
    "Equal": _plain(tf.equal),
    "Expand": _expand,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": lambda attributes, data, places: tf.gather_nd(data, places, batch_dims=attributes.get("batch_dims", 0)),
    "Gelu": lambda attributes, data: tf.nn.gelu(data, approximate=attributes.get("approximate", b"none") == b"tanh"),
    "Gemm": _gemm,
    "Greater": _plain(tf.greater),
    "GreaterOrEqual": _plain(tf.greater_equal),
    "LayerNormalization": _layer_norm,
    "Less": _plain(tf.less),
    "LessOrEqual": _plain(tf.less_equal),
    "Log": _plain(tf.math.log),
    "MatMul": _matmul,
    "Max": _fold(tf.maximum),
    "Min": _fold(tf.minimum),
    "Mul": _plain(tf.multiply),
    "Neg": _plain(tf.negative),
    "Not": _plain(tf.logical_not),
    "Range": _plain(tf.range),
    "ReduceSum": _reduce_sum,
    "Relu": _plain(tf.nn.relu),
    "Reshape": _reshape,
    "Shape": _shape,
    "Sign": _plain(tf.sign),
    "Sin": _plain(tf.sin),
    "Slice": _slice,
    "Softmax": lambda attributes, data: tf.nn.softmax(data, attributes.get("axis", -1)),
    "Split": _split,
    "Squeeze": _squeeze,
    "Sub": _plain(tf.subtract),
    "Tanh": _plain(tf.tanh),
    "Tile": _plain(tf.tile),
    "Transpose": lambda attributes, data: tf.transpose(data, attributes.get("perm")),
    "Unsqueeze": _unsqueeze,
    "Where": _plain(tf.where),
}
"""By ``op_type``, of the domain of ONNX itself."""


def unknown(nodes: Sequence[Any]) -> list[str]:
    """Operators of a graph that are not in :data:`OPERATORS`, each once, with its domain where it is not ONNX's own."""
    names = {node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}" for node in nodes}
    return sorted(names - set(OPERATORS) - {"Constant"})
