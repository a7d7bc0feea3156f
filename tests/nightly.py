"""Parameters of tests that scripts/nightly alone runs."""

from __future__ import annotations

from typing import Any

import pytest


def at_night(*parameters: Any) -> list[Any]:
    """The same parameters, marked; those of several names are tuples."""
    marks = pytest.mark.nightly
    return [
        pytest.param(*one, marks=marks) if isinstance(one, tuple) else pytest.param(one, marks=marks)
        for one in parameters
    ]
