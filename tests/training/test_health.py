"""Warnings of loss spikes and slow ranks."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np

from hf_trainpipe.training.health import LossSpikeDetector, straggler


def test_a_falling_and_noisy_loss_is_no_spike() -> None:
    usual = LossSpikeDetector()
    noise = np.random.default_rng(1)
    losses = [2.0 * math.exp(-step / 40) + 0.05 + 0.05 * noise.random() for step in range(300)]
    assert [usual.spike(loss) for loss in losses] == [None] * 300


def test_a_hundredfold_loss_is_a_spike_whatever_its_scale_and_is_not_remembered() -> None:
    for scale in (1e-3, 1.0, 1e3):
        usual = LossSpikeDetector()
        for step in range(20):
            assert usual.spike(scale * (1.0 + 0.1 * (step % 3))) is None
        before = asdict(usual)
        assert 85 <= usual.spike(100 * scale) <= 100
        assert asdict(usual) == before


def test_what_is_usual_survives_a_resume() -> None:
    usual = LossSpikeDetector()
    for loss in (0.5, 0.4, 0.6):
        usual.spike(loss)
    assert LossSpikeDetector(**json.loads(json.dumps(asdict(usual)))) == usual


def test_the_slowest_of_ranks_is_named_only_where_it_is_far_behind() -> None:
    assert straggler([1.0, 1.0, 1.0, 2.5]) == (3, 2.5)
    assert straggler([1.0, 1.5, 1.2]) is None
    assert straggler([0.0, 0.0]) is None
