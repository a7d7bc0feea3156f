"""The workshop of the training's tests: a tiny model, its data and recipes; and a run of it from start to end."""

from __future__ import annotations

from tests.training.conftest import whole as whole
from tests.training.conftest import workshop as workshop
