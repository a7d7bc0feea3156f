from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_trainpipe.checkpoint import plainjson

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
keys = st.text(max_size=5).filter(lambda key: not key.startswith("$"))
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=12,
)


def typed(value):
    """Equality that distinguishes 1, 1.0 and True, and lists from tuples."""
    if isinstance(value, (list, tuple)):
        return (type(value), [typed(item) for item in value])
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    return (type(value), repr(value))


@settings(max_examples=50, deadline=None)
@given(values)
def test_values_come_back_as_they_were(value):
    assert typed(plainjson.loads(plainjson.dumps(value))) == typed(value)


def test_nan_comes_back_and_the_file_is_strict_json():
    data = plainjson.dumps({"loss": math.nan, "best": -math.inf})
    assert b"NaN" not in data
    assert math.isnan(plainjson.loads(data)["loss"])


@pytest.mark.parametrize(
    ("value", "place"),
    [({"a": [{1: 2}]}, r"state\.a\[0\]"), ({"$x": 1}, "state"), ({"a": {1, 2}}, r"state\.a"), (b"x", "state")],
)
def test_what_json_would_change_is_refused_with_its_place(value, place):
    with pytest.raises(TypeError, match=place):
        plainjson.dumps(value)
