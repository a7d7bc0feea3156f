"""Summaries and translations: what is learnt, what is written, and their scores."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import hf_trainpipe as h
from hf_trainpipe import DataError, RecipeError, Summarization, Translation, execute
from hf_trainpipe.data.rows import Rows
from hf_trainpipe.data.sampler import EpochSampler, micro_batches
from hf_trainpipe.engine.kept import FOLDER
from hf_trainpipe.metrics import intervals, score
from hf_trainpipe.metrics.base import Predictions
from hf_trainpipe.package.card_breakdown import breakdown
from hf_trainpipe.runtime.model import generation
from hf_trainpipe.runtime.model.inference import run
from hf_trainpipe.runtime.model.outputs import Outputs
from hf_trainpipe.runtime.tasks import text_scores
from hf_trainpipe.runtime.tokens.batch import pad, token_budget_batches
from hf_trainpipe.runtime.tokens.encoder import Encoder
from hf_trainpipe.runtime.tokens.features import Features
from hf_trainpipe.testing import tiny_rows, tiny_seq2seq

KINDS = ("t5", "bart", "marian")
WORDS = ["the", "cat", "sat", "runs", "running", "on", "mat", "Mat.", "a", "dog", "dogs", ",", "it's", "sch\u00f6n", ""]
texts = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        tiny_seq2seq(folder / kind, kind=kind)
    return folder


def loaded(models: Path, kind: str) -> tuple[Any, Encoder]:
    model = AutoModelForSeq2SeqLM.from_pretrained(models / kind).eval()
    return model, Encoder(AutoTokenizer.from_pretrained(models / kind), max_length=32)


def rows_of(encoder: Encoder, *pairs: tuple[str, Any], split: str = "train") -> Rows:
    dataset = Dataset.from_list([{"source": text, "target": right} for text, right in pairs])
    return Rows(dataset, split, encoder=encoder, is_training=True)


def supervised(task: Any, rows: Rows) -> Features:
    task.check(rows)
    return task.supervise(rows, task.encode(rows.inputs(task), rows.encoder))


PAIRS = [(row["text"], f"it was a {row['label'][0]} day of {row['text'][:n]}") for n, row in enumerate(tiny_rows(9), 1)]


# -- what is written ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "said",
    [{}, {"beams": 3, "length_penalty": 2.0, "no_repeat_ngram": 2}, {"temperature": 1.5, "top_k": 30, "top_p": 0.9}],
    ids=["greedy", "beams", "drawn"],
)
def test_a_text_is_written_alone_as_beside_others(models: Path, kind: str, said: dict[str, Any]) -> None:
    model, encoder = loaded(models, kind)
    task = Translation(max_new_tokens=10, **said)
    features = task.encode({"text": [text for text, _ in PAIRS]}, encoder)
    everyone = np.arange(len(PAIRS))
    together, alone = (run(model, features, task=task, chosen=everyone, max_tokens=budget) for budget in (1 << 20, 1))
    for item in range(len(PAIRS)):
        assert together.rows("ids", item).tolist() == alone.rows("ids", item).tolist()
        found, expected = (one.rows("log_probabilities", item) for one in (together, alone))
        np.testing.assert_allclose(np.exp(found), np.exp(expected), atol=1e-5)
    if "temperature" in said:
        other = run(model, features, task=replace(task, drawing_seed=1), chosen=everyone, max_tokens=1 << 20)
        assert other["ids"].tolist() != together["ids"].tolist()
        return
    options = {"num_beams": said.get("beams", 1), "max_new_tokens": 10, "do_sample": False}
    options |= {"length_penalty": 2.0, "no_repeat_ngram_size": 2} if said else {}
    model.generation_config.forced_eos_token_id = None  # of BART: it would hide that a text was cut
    for item, (text, _) in enumerate(PAIRS[:4]):
        asked = encoder.tokenizer(text, return_tensors="pt", truncation=True, max_length=32)
        [written] = model.generate(**asked, **options)
        kept = written[1:].tolist()
        assert together.rows("ids", item).tolist() == kept[: len(together.rows("ids", item))]
        assert set(kept[len(together.rows("ids", item)) :]) <= {encoder.tokenizer.pad_token_id}


def test_the_settings_of_the_model_do_not_count_and_stay(models: Path) -> None:
    model, encoder = loaded(models, "bart")
    model.generation_config.update(num_beams=4, max_length=3, min_length=2, no_repeat_ngram_size=1)
    task = Translation(max_new_tokens=9, min_new_tokens=9)
    features = task.encode({"text": ["it was a day"]}, encoder)
    assert len(run(model, features, task=task, chosen=np.arange(1), max_tokens=64)["ids"]) == 9
    assert model.generation_config.num_beams == 4


def test_a_batch_holds_no_more_tokens_than_it_may() -> None:
    encoder = Encoder(AutoTokenizer.from_pretrained(tiny_seq2seq(Path("/dev/shm") / "t5-bounds")), max_length=32)
    task = Translation(max_new_tokens=20, beams=2)
    features = task.encode({"text": [text for text, _ in PAIRS]}, encoder)
    widths = task.widths(features)
    assert widths.tolist() == [[2 * length, 40] for length in features.lengths.tolist()]
    for batch in token_budget_batches(widths, max_tokens=200):
        assert len(batch) == 1 or len(batch) * int(widths[batch].max(axis=0).sum()) <= 200


def test_where_two_answers_part_their_tokens_must_have_been_as_probable() -> None:
    def answer(ids: list[int], chances: list[float]) -> dict[str, Any]:
        return {"ids": ids, "log_probabilities": [math.log(chance) for chance in chances]}

    greedy, beams = Translation(), Translation(beams=2)
    one = answer([5, 6, 7], [0.5, 0.25, 0.9])
    assert greedy.gap(one, answer([5, 6, 7], [0.5, 0.25 + 4e-6, 0.9])) == pytest.approx(4e-6)
    assert greedy.gap(one, answer([5, 8], [0.5, 0.25 - 2e-6])) == pytest.approx(2e-6)
    assert greedy.gap(one, answer([5, 8], [0.5, 0.2])) == pytest.approx(0.05)
    assert greedy.gap(one, answer([5, 6], [0.5, 0.25])) == math.inf
    assert beams.gap(one, answer([5, 8], [0.5, 0.25])) < 1e-4
    assert beams.gap(one, answer([5, 8], [0.49, 0.25])) == pytest.approx(0.01)
    for task in (greedy, beams):
        for ids in ([5, 6, 7], [0, 0, 0]):
            broken = answer(ids, [math.nan] * 3)
            assert task.gap(broken, one) == math.inf, "what overflows in fp16"
            assert task.departure([one, broken], [one, one]) == math.inf


# -- what is learnt ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_the_architecture(models: Path, kind: str) -> None:
    model, encoder = loaded(models, kind)
    task = Translation(target_max_length=32)
    features = supervised(task, rows_of(encoder, *PAIRS))
    batch = pad(features, np.arange(len(PAIRS)), with_targets=True)
    end = encoder.tokenizer.eos_token_id
    assert [row[row != -100][-1].item() for row in batch["labels"]] == [end] * len(PAIRS)
    asked = encoder.tokenizer(
        [text for text, _ in PAIRS], return_tensors="pt", padding=True, truncation=True, max_length=32
    )
    labels = encoder.tokenizer([right for _, right in PAIRS], return_tensors="pt", padding=True).input_ids
    labels[labels == encoder.tokenizer.pad_token_id] = -100
    expected = model(**asked, labels=labels).loss
    found = task.loss_sum(task.forward(model, batch.inputs), batch) / task.count(batch)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    smooth = replace(task, label_smoothing=0.1)
    log_probs = -torch.log_softmax(task.forward(model, batch.inputs)["logits"], dim=-1)
    nll = log_probs.gather(2, labels.clamp(min=0)[..., None])[..., 0]
    each = 0.9 * nll + 0.1 * log_probs.mean(dim=-1)  # as transformers' LabelSmoother
    expected = (each * (labels != -100)).sum() / (labels != -100).sum()
    found = smooth.loss_sum(task.forward(model, batch.inputs), batch) / task.count(batch)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_do_not_depend_on_how_a_batch_is_cut(models: Path, kind: str) -> None:
    model, encoder = loaded(models, kind)
    task = Translation(target_max_length=32, label_smoothing=0.1)
    features = supervised(task, rows_of(encoder, *PAIRS))

    def gradient(groups: list[np.ndarray]) -> torch.Tensor:
        model.zero_grad()
        batches = [pad(features, group, with_targets=True) for group in groups]
        count = sum(float(task.count(batch)) for batch in batches)
        for batch in batches:
            (task.loss_sum(task.forward(model, batch.inputs), batch) / count).backward()
        return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])

    everyone = np.arange(len(PAIRS))
    whole = gradient([everyone])
    for tokens in (1, 60, 200):
        groups = micro_batches(everyone, features.widths, max_tokens=tokens, cost=8)
        assert len(groups) > 1
        torch.testing.assert_close(gradient(groups), whole, rtol=0, atol=1e-5)
    nothing = pad(features, everyone[:1], with_targets=True).weightless()
    assert task.loss_sum(task.forward(model, nothing.inputs), nothing).item() == 0
    assert task.count(nothing).item() == 0


def test_long_targets_are_counted_and_named(models: Path) -> None:
    _, encoder = loaded(models, "t5")
    pairs = [("it was good", "a day"), ("it was bad", "a very very very cold day"), ("a film", "the day")]
    rows = rows_of(encoder, *pairs)
    features = supervised(Translation(target_max_length=6), rows)
    assert features.streams["target"].lengths.tolist() == [4, 6, 4]
    [line] = rows.notes
    assert "1 of 3 targets have more than 6 tokens" in line
    assert "cut, 20.00% of all tokens" in line
    assert str(rows.place(1)) in line
    rows = rows_of(encoder, *pairs)
    features = supervised(Translation(target_max_length=6, target_overflow="drop"), rows)
    assert features.example.tolist() == [0, 2]
    assert features.streams["target"]["labels"].tolist() == [i for i in features.streams["target"]["labels"] if i >= 0]
    assert "left out of the training" in rows.notes[0]
    kept = supervised(Translation(target_max_length=6, target_overflow="drop"), rows_of(encoder, *pairs, split="test"))
    assert kept.example.tolist() == [0, 1, 2], "an evaluation leaves nothing out"
    with pytest.raises(DataError, match="target_overflow is 'error'") as refused:
        supervised(Translation(target_max_length=6, target_overflow="error"), rows_of(encoder, *pairs))
    assert str(rows.place(1)) in str(refused.value)


@pytest.mark.parametrize("cell", [None, " ", [], ["a", ""], 3, {"a": "b"}])
def test_what_is_no_target_is_refused_with_its_row(models: Path, cell: Any) -> None:
    _, encoder = loaded(models, "t5")
    with pytest.raises(DataError, match=r"row|train"):
        Translation().check(rows_of(encoder, ("it was good", cell)))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"max_new_tokens": 0}, "task.max_new_tokens: expected 1 or more"),
        ({"beams": 2, "temperature": 0.5}, "task.temperature: expected 0 where task.beams is above 1"),
        ({"min_new_tokens": 9, "max_new_tokens": 8}, "task.min_new_tokens: expected at most"),
        ({"label_smoothing": 1.0}, "task.label_smoothing"),
        ({"target_overflow": "window"}, "task.target_overflow"),
        ({"top_p": 0.0}, "task.top_p"),
    ],
)
def test_settings_that_cannot_be_are_refused(said: dict[str, Any], expected: str) -> None:
    with pytest.raises(RecipeError, match=expected):
        Summarization(**said)


def test_windows_and_missing_positions_are_refused(models: Path) -> None:
    model, encoder = loaded(models, "bart")
    windows = Encoder(encoder.tokenizer, max_length=32, overflow="window", stride=4)
    with pytest.raises(RecipeError, match="found 'window'"):
        Translation().check(rows_of(windows, ("it was good", "a day")))
    encoder.tokenizer.set_tgt_lang_special_tokens = None  # as mBART's and NLLB's have
    with pytest.raises(RecipeError, match="marks texts with their languages"):
        Translation().check(rows_of(encoder, ("it was good", "a day")))
    task = Translation(max_new_tokens=65)
    with pytest.raises(RecipeError, match="the model has 64 positions"):
        run(model, task.encode({"text": ["it"]}, encoder), task=task, chosen=np.arange(1), max_tokens=64)


def test_the_prefix_is_read_behind_preprocessing(models: Path) -> None:
    _, encoder = loaded(models, "t5")
    steps = Encoder(encoder.tokenizer, steps=(h.StripHtml(),), max_length=32)
    found = Summarization(prefix="<it> say : ").encode({"text": ["<b>a</b> day"]}, steps)
    assert found.streams["source"]["input_ids"].tolist() == encoder.tokenizer("<it> say : a day").input_ids


# -- batches over two sides ----------------------------------------------------------------------------------------------


@given(
    widths=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=9),
    budget=st.integers(1, 150),
)
def test_both_sides_count_in_a_budget(widths: list[tuple[int, int]], budget: int) -> None:
    sizes = np.asarray(widths)
    cut = [micro_batches(np.arange(len(sizes)), sizes, max_tokens=budget, cost=5)]
    cut.append(list(token_budget_batches(sizes, max_tokens=budget)))
    for groups in cut:
        assert sorted(int(item) for group in groups for item in group) == list(range(len(sizes)))
        for group in groups:
            assert len(group) == 1 or len(group) * int(sizes[group].max(axis=0).sum()) <= budget


# -- scores --------------------------------------------------------------------------------------------------------------

CASES = st.lists(st.tuples(texts, st.lists(texts, min_size=1, max_size=3)), min_size=1, max_size=6)


@settings(max_examples=60)
@given(CASES)
def test_scores_are_those_of_the_libraries(cases: list[tuple[str, list[str]]]) -> None:
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU, CHRF

    written, references = zip(*cases, strict=True)
    streams = [[right[n] if n < len(right) else None for right in references] for n in range(max(map(len, references)))]
    bleu, chrf = BLEU(), CHRF()
    expected = {"bleu": bleu.corpus_score(written, streams).score, "chrf": chrf.corpus_score(written, streams).score}
    found_bleu = text_scores.bleu_statistics(written, references, tokenizer="13a")
    found_chrf = text_scores.chrf_statistics(written, references)
    assert found_bleu.signature == str(bleu.get_signature())
    assert found_chrf.signature == str(chrf.get_signature())
    finishes = {"bleu": text_scores.bleu, "chrf": text_scores.chrf}
    columns = {"bleu": found_bleu.statistics, "chrf": found_chrf.statistics}
    predictions = Predictions.of_own(columns, examples=np.arange(len(written)), finishes=finishes)
    assert score(predictions, ["bleu", "chrf"]) == expected
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=True)
    rouge = text_scores.rouge_scores(written, references)
    for row, (text, right) in zip(rouge, cases, strict=True):
        best = {name: max(scorer.score(one, text)[name].fmeasure for one in right) for name in text_scores.ROUGE}
        assert dict(zip(text_scores.ROUGE, row, strict=True)) == best


def test_an_interval_resamples_texts_and_not_scores() -> None:
    from sacrebleu.metrics import BLEU

    draws = np.random.default_rng(3)
    written = [" ".join(draws.choice(WORDS, size=8)) for _ in range(12)]
    references = [[text.replace("cat", "dog")] for text in written]
    held = text_scores.bleu_statistics(written, references, tokenizer="13a")
    predictions = Predictions.of_own(
        {"bleu": held.statistics}, examples=np.arange(12), finishes={"bleu": text_scores.bleu}
    )
    found = intervals(predictions, ["bleu"], resamples=30, seed=5)["bleu"]
    random = np.random.Generator(np.random.Philox(5))
    drawn = [random.integers(0, 12, size=12) for _ in range(30)]
    scores = [BLEU().corpus_score([written[i] for i in one], [[references[i][0] for i in one]]).score for one in drawn]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(scores, (0.025, 0.975))), abs=1e-9)


def test_no_padding_is_ever_decoded(models: Path) -> None:
    _, encoder = loaded(models, "t5")
    task = Translation(max_new_tokens=4)
    ids = encoder.tokenizer.convert_tokens_to_ids(["a", "day", "[SEP]", "the", "film", "was", "good"])
    merged = Outputs(
        np.arange(2),
        {"ids": np.array(ids), "log_probabilities": np.zeros(7, dtype=np.float32)},
        {"ids": np.array([0, 3, 7]), "log_probabilities": np.array([0, 3, 7])},
    )
    decoded = task.decode(merged, encoder)
    assert task.answers(decoded, None) == [{"translation_text": "a day"}, {"translation_text": "the film was good"}]
    features = supervised(task, rows_of(encoder, ("it", ["a day", "one day"]), ("this", ["the film"])))
    judged = task.judge(decoded, features)
    assert judged.references == (("a day", "one day"), ("the film",))
    assert judged.has_end.tolist() == [True, False]


# -- runs ----------------------------------------------------------------------------------------------------------------


def recipe(models: Path, folder: Path, **budget: Any) -> h.Recipe:
    lines = [json.dumps({"source": text, "target": right}) for text, right in PAIRS * 4]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return h.Recipe(
        name="tiny",
        model=h.Pretrained(str(models / "marian"), dropout=0.0),
        data=h.Files(train="rows.jsonl", validation="rows.jsonl", root=str(folder)),
        task=Translation(max_new_tokens=6, target_max_length=24),
        tokens=h.Tokens(max_length=24),
        optim=h.Optim(peak_lr=1e-2, precision="fp32"),
        budget=h.Budget(max_steps=10, examples_per_step=8, log_every=1, micro_batch_tokens=100, **budget),
        evaluation=h.Evaluation(resamples=20),
    )


@pytest.fixture(autouse=True)
def one_cache(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(models / "cache"))


class Killed(BaseException):
    """What SIGKILL is to a test: nothing of the process lives on."""


def ledger(folder: Path, name: str) -> dict[int, float]:
    lines = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    return {line["step"]: line["value"] for line in lines if line.get("name") == name}


def test_an_evaluation_that_was_killed_goes_on_and_losses_are_those_of_a_plain_loop(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = recipe(models, tmp_path, evaluate_every=5, save_every=10)
    monkeypatch.setattr("hf_trainpipe.training.run.EVALUATION_TOKENS", 64)
    whole, written, calls = tmp_path / "whole", generation.write, []

    def counted(*args: Any, **options: Any) -> torch.Tensor:
        calls.append(len(options["attention_mask"]))
        if limit is not None and len(calls) > limit:
            raise Killed
        return written(*args, **options)

    limit = None
    monkeypatch.setattr("hf_trainpipe.runtime.tasks.text_to_text.write", counted)
    result = execute(asked, run_dir=whole)
    assert result.verified["passed"]
    assert not (whole / FOLDER).exists()
    [worst, *_] = result.report["validation"]["errors"]
    assert {worst["text"]: worst["right"]}.items() <= dict(PAIRS).items()
    [line] = breakdown(
        {"validation": {**result.report["validation"], "errors": [{**worst, "written": "`<b>"}]}}
    ).splitlines()[4:]
    assert line.startswith("- `'<b>` where `it was a"), "what a model writes stays text in a card"
    told = json.loads((whole / "package/generation_config.json").read_text())
    assert (told["max_new_tokens"], told["num_beams"]) == (6, 1)
    needed, calls = len(calls), []

    killed, limit = tmp_path / "killed", 8
    with pytest.raises(Killed):
        execute(asked, run_dir=killed)
    assert [path.name for path in (killed / "checkpoints").glob("step-*")] == ["step-00000005"], "behind step 5"
    done = len(list((killed / FOLDER).glob("validation-*/*.npz")))
    assert done >= 1
    limit, calls = None, []
    again = execute(asked, run_dir=killed, options=h.RunOptions(resume="must"))
    assert len(calls) < needed - done, "what was written is not written again"
    assert again.scores == result.scores
    assert ledger(killed, "validation/bleu") == ledger(whole, "validation/bleu")

    expected = plain_loop(models, tmp_path)
    for step in range(1, 11):
        assert ledger(whole, "train/loss")[step] == pytest.approx(expected[step - 1], abs=1e-5), step


def plain_loop(models: Path, folder: Path) -> list[float]:
    """Transformers' model and schedule, torch's AdamW, one padded batch a step; only the order is ours."""
    from transformers import get_linear_schedule_with_warmup

    model = AutoModelForSeq2SeqLM.from_pretrained(
        models / "marian", dropout=0.0, attention_dropout=0.0, activation_dropout=0.0
    ).train()
    tokenizer = AutoTokenizer.from_pretrained(models / "marian")
    groups: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
    for parameter in model.parameters():
        groups[parameter.ndim > 1].append(parameter)
    optimizer = torch.optim.AdamW(
        [{"params": groups[True], "weight_decay": 0.01}, {"params": groups[False], "weight_decay": 0.0}], lr=1e-2
    )
    schedule = get_linear_schedule_with_warmup(optimizer, math.ceil(0.06 * 10), 10)
    rows = PAIRS * 4
    losses = []
    for step in range(10):
        chosen = [
            rows[i] for i in EpochSampler(num_examples=len(rows), examples_per_step=8, seed=17).global_batch(step)
        ]
        batch = tokenizer(
            [text for text, _ in chosen], padding=True, truncation=True, max_length=24, return_tensors="pt"
        )
        labels = tokenizer(
            [right for _, right in chosen], padding=True, truncation=True, max_length=24, return_tensors="pt"
        )
        ids = labels.input_ids.masked_fill(labels.attention_mask == 0, -100)
        loss = model(**batch, labels=ids).loss
        losses.append(loss.item())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return losses
