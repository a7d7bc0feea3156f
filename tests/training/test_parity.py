"""Results do not depend on how a global batch is split."""

from __future__ import annotations

import math

import pytest


@pytest.fixture(scope="module")
def one_batch(workshop):
    done = workshop.train("recipes.py:exact", "--run-dir", "one")
    assert done.code == 0, done.err
    return workshop.ledger("one")


def assert_same_losses(found, expected) -> None:
    steps = [step for name, step in expected if name == "train/loss"]
    assert steps == list(range(1, 13))
    for step in steps:
        assert math.isclose(found["train/loss", step], expected["train/loss", step], rel_tol=1e-6), step


def test_four_micro_batches_give_the_losses_of_one(workshop, one_batch) -> None:
    done = workshop.train("recipes.py:exact", "--run-dir", "four", "--budget.micro-batch-examples", "4")
    assert done.code == 0, done.err
    assert_same_losses(workshop.ledger("four"), one_batch)


def test_two_ranks_give_the_losses_and_scores_of_one(workshop, one_batch) -> None:
    head, row = (workshop.folder / "dev.csv").read_text().splitlines()[:2]
    (workshop.folder / "one.csv").write_text(f"{head}\n{row}\n")
    done = workshop.train("recipes.py:exact", "--run-dir", "two", "--data.test", "one.csv", ranks=2)
    assert done.code == 0, done.err
    found = workshop.ledger("two")
    assert_same_losses(found, one_batch)
    # 61 examples on two ranks: none is counted twice, none left out.
    assert found["validation/accuracy", 12] == one_batch["validation/accuracy", 12]
    assert done.result["scores"]["validation"]["accuracy"]["n"] == 61
    assert done.result["scores"]["test"]["accuracy"]["n"] == 1  # a rank without an example


def test_losses_are_those_of_a_plain_loop(workshop, one_batch) -> None:
    """Torch's AdamW, transformers' schedule and model, one padded batch a step; only the order is ours."""
    import csv

    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup

    from hf_trainpipe.data.sampler import EpochSampler
    from hf_trainpipe.engine.randomness import seed_everything
    from hf_trainpipe.training.run import HEAD

    rows = list(csv.DictReader((workshop.folder / "train.csv").read_text().splitlines()))
    folder = workshop.folder / "model"
    seed_everything(17, *HEAD)
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    model.train()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, fused=False, foreach=False)
    schedule = get_linear_schedule_with_warmup(optimizer, math.ceil(0.06 * 12), 12)
    order = EpochSampler(num_examples=len(rows), examples_per_step=16, seed=17)
    for step in range(12):
        chosen = [rows[i] for i in order.global_batch(step)]
        batch = tokenizer(
            [row["text"] for row in chosen], truncation=True, max_length=32, padding=True, return_tensors="pt"
        )
        labels = torch.tensor([["negative", "positive"].index(row["label"]) for row in chosen])
        loss = model(**batch, labels=labels).loss
        assert math.isclose(loss.item(), one_batch["train/loss", step + 1], rel_tol=1e-6), step
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        assert math.isclose(norm.item(), one_batch["train/grad_norm", step + 1], rel_tol=1e-5), step
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def test_tagging_losses_are_those_of_a_plain_loop(workshop, tmp_path, monkeypatch) -> None:
    """transformers' own alignment of words and sub-words: the first sub-word carries the tag."""
    import json

    import torch
    from transformers import AutoModelForTokenClassification, AutoTokenizer, get_linear_schedule_with_warmup

    from hf_trainpipe import Budget, Files, Optim, Pretrained, Recipe, TokenClassification, Tokens, execute
    from hf_trainpipe.data.sampler import EpochSampler
    from hf_trainpipe.engine.randomness import seed_everything
    from hf_trainpipe.tracking.ledger import series
    from hf_trainpipe.training.run import HEAD

    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "cache"))
    folder = workshop.folder / "model"
    names = ("O", "B-person", "I-person", "B-place", "I-place")
    rows = [json.loads(line) for line in (workshop.folder / "train.jsonl").read_text().splitlines()]
    for row in rows:
        row["tokens"] = [word + "ly" if len(word) == 4 else word for word in row["tokens"]]  # two sub-words
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = Recipe(
        name="plain-tags",
        model=Pretrained(str(folder), dropout=0.0),
        data=Files(train="train.jsonl", root=str(tmp_path)),
        task=TokenClassification("tokens", tags="tags", names=names),
        tokens=Tokens(max_length=64),
        optim=Optim(peak_lr=1e-3, precision="fp32"),
        budget=Budget(max_steps=20, examples_per_step=16, log_every=1, micro_batch_tokens=256),
    )
    execute(recipe, run_dir=tmp_path / "run")
    found = dict(series(tmp_path / "run/ledger.jsonl", "train/loss"))

    seed_everything(17, *HEAD)
    model = AutoModelForTokenClassification.from_pretrained(
        folder, num_labels=5, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    model.train()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, fused=False, foreach=False)
    schedule = get_linear_schedule_with_warmup(optimizer, math.ceil(0.06 * 20), 20)
    order = EpochSampler(num_examples=len(rows), examples_per_step=16, seed=17)
    for step in range(20):
        chosen = [rows[i] for i in order.global_batch(step)]
        batch = tokenizer(
            [row["tokens"] for row in chosen], is_split_into_words=True, padding=True, return_tensors="pt"
        )
        labels = torch.full_like(batch["input_ids"], -100)
        for position, row in enumerate(chosen):
            before = None
            for at, word in enumerate(batch.word_ids(position)):
                if word is not None and word != before:
                    labels[position, at] = names.index(row["tags"][word])
                before = word
        loss = model(**batch, labels=labels).loss
        assert math.isclose(loss.item(), found[step + 1], rel_tol=2e-6), step
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
