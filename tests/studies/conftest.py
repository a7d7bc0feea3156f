"""The workshop of the training's tests: a tiny model, its data and recipes."""

from __future__ import annotations

from tests.training.conftest import workshop as workshop
