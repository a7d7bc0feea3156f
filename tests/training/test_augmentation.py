"""A run whose texts are changed anew in each epoch."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace

import pytest

from hf_trainpipe import Augmentation, Budget, Interrupted, RunOptions, TokenMask, Typos, WordDropout, execute
from hf_trainpipe.runtime.text.edits import Edit
from hf_trainpipe.training.signals import PlannedStop

SEEN: list[str] = []


@dataclass(frozen=True, kw_only=True)
class Seen(Augmentation):
    """Changes the first letter, and remembers the text."""

    def edits(self, text, draws):
        SEEN.append(text)
        return [Edit(0, 1, "abcdefgh"[int(draws.integers(8))])]


def test_a_run_that_stops_in_its_second_epoch_ends_bit_identical(recipe, tmp_path, capfd) -> None:
    chosen = replace(
        recipe,
        augmentation=(Seen(), WordDropout(share=0.3), Typos(share=0.5), TokenMask(share=0.2)),
        budget=Budget(max_steps=6, examples_per_step=80, log_every=1, save_every=3),
    )
    brief = RunOptions(validation_only=True)
    whole = execute(chosen, run_dir=tmp_path / "whole", options=brief)
    assert len(SEEN) == 200 * 2  # six steps are two epochs of 200 texts; no evaluation and no package changes one
    assert "augmented   Seen(), WordDropout(share=0.3)" in capfd.readouterr().err
    assert not (tmp_path / "whole" / "augmented").exists()
    with pytest.raises(Interrupted):
        execute(chosen, run_dir=tmp_path / "cut", options=replace(brief, planned_stop=PlannedStop(stop_at=4)))
    shutil.rmtree(tmp_path / "cut" / "augmented")  # made again
    resumed = execute(chosen, run_dir=tmp_path / "cut", options=brief)
    last = [max((tmp_path / run / "checkpoints").glob("step-*")) for run in ("whole", "cut")]
    assert last[0].name == last[1].name
    assert (last[0] / "model.safetensors").read_bytes() == (last[1] / "model.safetensors").read_bytes()
    assert whole.scores == resumed.scores
