"""Features of examples with several texts each, or several pairs of them: one feature a text.

N examples, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import RecipeError
from ..tokens.features import Features, concatenate

if TYPE_CHECKING:
    from ..tokens.encoder import Encoder

Array = npt.NDArray[Any]


def owned(encoder: Encoder, owners: Array, number: int, *columns: Sequence[str]) -> Features:
    """Texts, or pairs of them, that are preprocessed, as features of the examples that own them.

    Args:
        owners: [texts] ascending, the example of each; some may have none.
        number: N

    Raises:
        RecipeError: long texts are to become windows.
        InputError: as :meth:`.encoder.Encoder.texts`.
    """
    refuse_windows(encoder)
    there, places = np.unique(owners, return_inverse=True)
    features = encoder.but(steps=()).texts(*columns, owners=places.astype(np.int64))
    return replace(features, example=there[features.example].astype(np.int32), num_examples=number)


def refuse_windows(encoder: Encoder) -> None:
    """Refuse to cut the texts of an example into windows.

    Raises:
        RecipeError: as said.
    """
    if encoder.overflow == "window":
        raise RecipeError(
            "tokens.overflow: the model reads each text as a whole, found 'window'.",
            fix="Set tokens.overflow to 'truncate', 'drop' or 'error'.",
        )


def side_by_side(features: Features) -> Features:
    """Examples with a feature for each of two texts as examples with one feature: streams ``input`` and ``pair``, whose columns are
    ``input_ids`` and ``pair_input_ids``, with masks of such names."""
    stream = features.input
    both = np.arange(features.num_features).reshape(-1, 2)
    streams = {}
    for side, (name, prefix) in enumerate((("input", ""), ("pair", "pair_"))):
        taken = stream.take(both[:, side])
        columns = {f"{prefix}input_ids": taken.columns["input_ids"]}
        streams[name] = replace(taken, columns=columns, mask=f"{prefix}attention_mask")
    return replace(features, streams=streams, example=features.example[both[:, 0]])


def behind(features: Features, more: Features) -> Features:
    """Features with further ones behind those of the same example; an example without features gets none."""
    joined = concatenate([replace(one, of_examples={}) for one in (features, more)])
    example = np.concatenate([features.example, more.example])
    kept = np.flatnonzero(features.windows[more.example] > 0)
    chosen = np.concatenate([np.arange(features.num_features), features.num_features + kept])
    order = chosen[np.argsort(example[chosen], kind="stable")]
    streams = {name: stream.take(order) for name, stream in joined.streams.items()}
    dense = {name: rows[order] for name, rows in joined.dense.items()}
    return replace(features, streams=streams, example=example[order], dense=dense)


def places(features: Features) -> Array:
    """int64[F]: which text of its example a feature is, from 0 on."""
    example = np.asarray(features.example)
    return np.arange(len(example), dtype=np.int64) - np.searchsorted(example, example)
