"""Windows to examples, and logits to probabilities.

Legend: n features, N examples, C outputs of the model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..model.outputs import Outputs

if TYPE_CHECKING:
    from ..tokens.features import Features

Floats = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]
Pool = Callable[[npt.NDArray[Any], npt.NDArray[np.int64], int], npt.NDArray[Any]]


def by_example(outputs: Outputs, features: Features, pool: Pool) -> Outputs:
    """One row an example of each array, from the rows of its windows.

    Args:
        pool: Rows [n, ...], the example of each counted from 0, and how many there are, to rows [N, ...].
    """
    examples, row = np.unique(features.example[outputs.items], return_inverse=True)
    arrays = {}
    for name, rows in outputs.arrays.items():
        if len(examples) == len(row):
            arrays[name] = np.empty_like(rows)
            arrays[name][row] = rows
        else:
            arrays[name] = pool(rows, row, len(examples))
    return Outputs(examples.astype(np.int64), arrays)


def mean_rows(logits: Floats, row: npt.NDArray[np.int64], num_examples: int) -> Floats:
    sums = np.zeros((num_examples, *logits.shape[1:]), dtype=np.float64)
    np.add.at(sums, row, logits)
    means: Floats = (sums / np.bincount(row, minlength=num_examples)[:, None]).astype(np.float32)
    return means


def largest_rows(logits: Floats, row: npt.NDArray[np.int64], num_examples: int) -> Floats:
    """What one window shows holds for the text."""
    largest = np.full((num_examples, *logits.shape[1:]), -np.inf, dtype=np.float32)
    np.maximum.at(largest, row, logits)
    return largest


def softmax(logits: Floats) -> Wide:
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=1, keepdims=True, initial=-np.inf)) if wide.size else wide
    result: Wide = powers / powers.sum(axis=1, keepdims=True) if wide.size else wide
    return result


def sigmoid(logits: Floats) -> Wide:
    wide = logits.astype(np.float64)
    result: Wide = 0.5 * (1.0 + np.tanh(0.5 * wide))
    return result
