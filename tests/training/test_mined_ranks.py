"""Hard negatives that are found before the first step, on two ranks: those of one, and of a run that was killed."""

from __future__ import annotations

import json

import pytest

from hf_trainpipe.testing import tiny_rows

RECIPE = '''
import os
import signal
from dataclasses import dataclass

from hf_trainpipe import Budget, Evaluation, Files, Optim, Pretrained, Recipe, SentenceEmbeddings, Tokens


@dataclass(frozen=True)
class Mortal(SentenceEmbeddings):
    """Dies on rank 1 in the loss that KILL_AT numbers."""

    def loss_sum(self, outputs, batch):
        count = int(os.environ.get("COUNTED", "0")) + 1
        os.environ["COUNTED"] = str(count)
        if str(count) == os.environ.get("KILL_AT") and os.environ.get("RANK") == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss_sum(outputs, batch)


def recipe():
    return Recipe(
        name="mined",
        model=Pretrained("model", dropout=0.0),
        data=Files(train="searched.jsonl", validation="searched.jsonl"),
        task=Mortal(negative="negative", mined=2, mined_below=2.0),
        tokens=Tokens(max_length=16),
        optim=Optim(peak_lr=1e-2, precision="fp32"),
        budget=Budget(max_steps=8, examples_per_step=16, log_every=1, save_every=2, micro_batch_examples=8),
        evaluation=Evaluation(resamples=20),
    )
'''


@pytest.mark.nightly
@pytest.mark.usefixtures("real_processes")
def test_two_ranks_learn_with_the_negatives_of_one_and_resume(workshop) -> None:
    rows = [
        {"text": row["text"], "text_pair": f"{row['label']} {row['text'].split()[0]}", "negative": ["a story"] * (place % 3)}
        for place, row in enumerate(tiny_rows(60, seed=1))
    ]  # fmt: skip
    (workshop.folder / "searched.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (workshop.folder / "mined.py").write_text(RECIPE)
    caches = {name: str(workshop.folder / f"cache-{name}") for name in ("one", "two")}
    for name, ranks in (("one", 1), ("two", 2)):
        run = f"mined-{name}"
        done = workshop.train("mined.py", "--run-dir", run, ranks=ranks, HF_TRAINPIPE_CACHE=caches[name])
        assert done.code == 0, done.err
    alone = {key: value for key, value in workshop.ledger("mined-one").items() if key[0] == "train/loss"}
    assert len(alone) == 8
    found = workshop.ledger("mined-two")
    assert {key: found[key] for key in alone} == pytest.approx(alone, rel=1e-5)
    one, two = (
        [file.read_bytes() for file in (workshop.folder / f"cache-{name}/reference").glob("*/nearest.npy")]
        for name in caches
    )
    assert one == two != []
    mortal = ["mined.py", "--run-dir", "mined-cut"]
    assert workshop.train(*mortal, ranks=2, HF_TRAINPIPE_CACHE=caches["two"], KILL_AT="5").code != 0
    done = workshop.train(*mortal, ranks=2, HF_TRAINPIPE_CACHE=caches["one"])
    assert done.code == 0, done.err
    assert "continuing after step" in done.err
    assert workshop.weights("mined-cut") == workshop.weights("mined-two")
