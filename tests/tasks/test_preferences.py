"""Preferences: losses are their definitions however a step is cut; the reference is computed once; answers stand alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, get_linear_schedule_with_warmup

import hf_trainpipe as h
from hf_trainpipe import DataError, PreferenceTuning, RecipeError
from hf_trainpipe.data.rows import Rows
from hf_trainpipe.data.sampler import EpochSampler
from hf_trainpipe.errors import ResumeMismatch
from hf_trainpipe.runtime.model.next_token import IGNORED
from hf_trainpipe.runtime.tasks.preference_losses import kto, orpo
from hf_trainpipe.runtime.tokens.encoder import Encoder
from hf_trainpipe.runtime.tokens.features import Features
from hf_trainpipe.training.loop import train
from tests.tasks.preference_runs import assert_same, begun, gradient, recipe_of, write_inputs

Row = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preferences")
    write_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path):
    return AutoTokenizer.from_pretrained(folder / "model")


@pytest.fixture(autouse=True)
def one_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(folder / "cache"))
    monkeypatch.setenv("HF_TRAINPIPE_THREADS", "1")


# -- rows ----------------------------------------------------------------------------------------------------------------


def says(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def rows_of(*rows: Row, tokenizer, **options: object) -> Rows:
    encoder = Encoder(tokenizer, **{"max_length": 60, "overflow": "drop", **options})
    return Rows(Dataset.from_list(list(rows)), "train", encoder=encoder, is_training=True)


def learnt(task: PreferenceTuning, rows: Rows) -> tuple[PreferenceTuning, Features, Features]:
    """The fitted task, what is asked, and what is learnt."""
    task = task.fit(rows)
    task.check(rows)
    assert rows.encoder is not None
    asked = task.encode(rows.inputs(task), rows.encoder)
    return task, asked, task.supervise(rows, asked)


def tokens_of(features: Features, feature: int, column: str = "input_ids") -> np.ndarray:
    stream = features.input
    return np.asarray(stream[column][int(stream.starts[feature]) : int(stream.starts[feature + 1])])


PAIR: Row = {"prompt": "how was it", "chosen": "  a film", "rejected": "very good\n"}
ASKED = says("user", "how was it")
GOOD, BAD = says("assistant", "  a film"), says("assistant", "very good\n")


@pytest.mark.parametrize(
    ("row", "options"),
    [
        (PAIR, {}),
        ({"prompt": [ASKED], "chosen": [GOOD], "rejected": [BAD]}, {}),
        ({"prompt": "how was it", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]}, {}),
        ({"yes": [ASKED, GOOD], "no": [ASKED, BAD]}, {"prompt": None, "chosen": "yes", "rejected": "no"}),
    ],
)
def test_texts_messages_and_whole_conversations_are_the_same_ids_as_in_serving(tokenizer, row, options) -> None:
    rows = rows_of(row, tokenizer=tokenizer)
    task, asked, found = learnt(PreferenceTuning(**options), rows)
    question, ids, labels, branch = (
        tokens_of(asked, 0),
        *(tokens_of(found, 0, name) for name in ("input_ids", "labels", "branch")),
    )
    served = task.encode({"messages": [[ASKED]]}, rows.encoder)
    assert tokens_of(served, 0).tolist() == question.tolist()
    assert ids[branch == 0].tolist() == question[:-1].tolist()
    assert (labels[branch == 0] == IGNORED).all()
    for end, answer in ((1, "  a film"), (2, "very good\n")):
        own = labels[branch == end]
        assert own[-1] == tokenizer.eos_token_id, "the token that ends an answer is learnt"
        assert tokenizer.decode(own[:-1]) == answer
        assert ids[branch == end].tolist() == [question[-1], *own[:-1]]
    assert found.dense["tokens"].tolist() == [[(branch == 1).sum(), (branch == 2).sum()]]


@pytest.mark.parametrize(
    ("row", "options", "expected"),
    [
        ({**PAIR, "prompt": " "}, {}, "column 'prompt': expected what is asked, found an empty text"),
        ({**PAIR, "chosen": [says("user", "a")]}, {}, "the conversation ends with the user, so that there is no answer"),
        ({**PAIR, "rejected": [says("user", "a"), BAD]}, {}, "does not begin with what the column of questions says"),
        ({"chosen": [ASKED, GOOD], "rejected": [says("user", "who"), BAD]}, {"prompt": None}, "part at message 0"),
        ({"chosen": [GOOD], "rejected": [GOOD]}, {"prompt": None}, "before the answer, found none"),
        ({**PAIR}, {"prompt": None}, "column 'chosen': expected a conversation"),
        ({**PAIR, "rejected": None}, {}, "column 'rejected': expected an answer, found nothing"),
        ({**PAIR, "completion": "a", "label": "maybe"}, {"loss": "kto"}, "expected whether the answer is wanted, found 'maybe'"),
    ],
)  # fmt: skip
def test_rows_without_a_question_or_an_answer_are_refused_by_place(tokenizer, row, options, expected) -> None:
    with pytest.raises(DataError, match=expected) as refused:
        PreferenceTuning(**options).check(rows_of(row, tokenizer=tokenizer))
    assert "row 0 of" in str(refused.value)
    assert refused.value.fix


def test_rows_without_a_difference_long_and_empty_ones_are_counted(tokenizer) -> None:
    same, long, empty = {**PAIR, "rejected": "  a film"}, {**PAIR, "chosen": "very " * 60}, {**PAIR, "rejected": ""}
    for overflow, kept in (("drop", [0, 3]), ("truncate", [0, 2, 3])):
        rows = rows_of(PAIR, same, long, empty, tokenizer=tokenizer, overflow=overflow)
        _, _, found = learnt(PreferenceTuning(), rows)
        assert found.example.tolist() == kept
        notes = "\n".join(rows.notes)
        assert "1 of 4 examples have the same answer twice, and are left out: the first is row 1 of" in notes
        assert "1 of 4 examples have an empty answer: the first is row 3 of" in notes
        assert ("longer than 60 tokens and are left out" if overflow == "drop" else "cut at 60 tokens") in notes
        assert found.overflow.dropped == (overflow == "drop")


def test_unequal_numbers_of_wanted_and_other_answers_are_told(tokenizer) -> None:
    good = {"prompt": "how was it", "completion": "a film", "label": "true"}
    rows = rows_of(good, *[{**good, "label": "false"}] * 4, tokenizer=tokenizer)
    learnt(PreferenceTuning(loss="kto"), rows)
    assert any("count 0.25 times as much" in note and "task.desirable_weight=4 would" in note for note in rows.notes)
    rows = rows_of(good, *[{**good, "label": "false"}] * 4, tokenizer=tokenizer)
    learnt(PreferenceTuning(loss="kto", desirable_weight=4.0), rows)
    assert rows.notes == []


def test_fields_that_do_not_fit_are_refused() -> None:
    for wrong in ({"loss": "ipo"}, {"beta": 0.0}, {"label_smoothing": 0.1, "loss": "kto"}, {"desirable_weight": 2.0}):
        with pytest.raises(RecipeError, match=f"task.{next(iter(wrong))}"):
            PreferenceTuning(**wrong)  # type: ignore[arg-type]


# -- losses --------------------------------------------------------------------------------------------------------------


def test_losses_where_a_probability_is_almost_1_have_a_gradient() -> None:
    mean = torch.tensor([[-1e-9, -2.0], [-3.0, -1e-9]], requires_grad=True)
    orpo(mean, beta=0.1).sum().backward()
    assert mean.grad is not None
    assert bool(mean.grad.isfinite().all())
    weighed = kto(torch.zeros(2), torch.tensor([1.0, 0.0]), torch.tensor(0.0), beta=0.1, undesirable_weight=3.0)
    assert weighed.tolist() == [0.5, 1.5]


@pytest.mark.parametrize("loss", ["dpo", "orpo", "kto"])
def test_ten_steps_are_those_of_a_plain_loop_over_two_models(folder: Path, tmp_path: Path, loss: str) -> None:
    smoothing = 0.1 if loss == "dpo" else 0.0
    asked = recipe_of(folder, loss, steps=10, examples_per_step=8, micro_batch_examples=3, label_smoothing=smoothing)
    with begun(asked, tmp_path / "run") as run:
        found = [float(report.loss_sum) / report.count for report in train(run)]
    assert found == pytest.approx(plain_loop(folder, asked), abs=1e-5)
    if loss == "dpo":
        assert found[0] == pytest.approx(math.log(2), abs=1e-6)
    assert max(found[:3]) - min(found) > 0.05, "it learns"


def plain_loop(folder: Path, asked: h.Recipe) -> list[float]:
    """Transformers' padded model with a copy of it as the reference, losses as their papers have them, torch's AdamW."""
    task: Any = asked.task
    model, reference = (AutoModelForCausalLM.from_pretrained(folder / "model") for _ in range(2))
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    rows = [json.loads(line) for line in (folder / asked.data.train).read_text().splitlines()]  # type: ignore[attr-defined]
    groups: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
    for parameter in model.parameters():
        groups[parameter.ndim > 1].append(parameter)
    optimizer = torch.optim.AdamW(
        [{"params": groups[True], "weight_decay": 0.01}, {"params": groups[False], "weight_decay": 0.0}], lr=1e-2
    )
    schedule = get_linear_schedule_with_warmup(optimizer, math.ceil(0.06 * 10), 10)

    def logs(of: Any, asked: list[str], answers: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """The logarithms of the answers' probabilities, and their tokens."""
        before = [
            tokenizer.apply_chat_template([says("user", one)], add_generation_prompt=True, return_dict=False)
            for one in asked
        ]
        behind = [[*tokenizer(one, add_special_tokens=False).input_ids, tokenizer.eos_token_id] for one in answers]
        whole = [torch.tensor(one + other) for one, other in zip(before, behind, strict=True)]
        ids = torch.nn.utils.rnn.pad_sequence(whole, batch_first=True)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(one) for one in whole], batch_first=True)
        chances = (
            of(input_ids=ids, attention_mask=mask).logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        )
        of_answer = mask[:, 1:].clone()
        for row, one in enumerate(before):
            of_answer[row, : len(one) - 1] = 0
        return (chances * of_answer).sum(1), of_answer.sum(1)

    found = []
    for step in range(10):
        order = EpochSampler(num_examples=len(rows), examples_per_step=8, seed=asked.seed)
        chosen = [rows[place] for place in order.global_batch(step)]
        prompts = [row["prompt"] for row in chosen]
        if task.loss == "kto":
            others = [rows[(place - 1) % len(rows)]["completion"] for place in order.global_batch(step)]
            sides = ([row["completion"] for row in chosen], others)
        else:
            sides = ([row["chosen"] for row in chosen], [row["rejected"] for row in chosen])
        (first, n), (second, m) = (logs(model, prompts, answers) for answers in sides)
        with torch.no_grad():
            known, other = (logs(reference, prompts, answers)[0] for answers in sides)
        if task.loss == "dpo":
            margin = task.beta * ((first - known) - (second - other))
            losses = -0.9 * functional.logsigmoid(margin) - 0.1 * functional.logsigmoid(-margin)
        elif task.loss == "orpo":
            (p, q) = ((one / count).exp() for one, count in ((first, n), (second, m)))
            losses = -first / n - task.beta * functional.logsigmoid(torch.log(p / (1 - p)) - torch.log(q / (1 - q)))
        else:
            drift = (second - other).mean().clamp(min=0).detach()
            sign = torch.tensor([1.0 if row["label"] else -1.0 for row in chosen])
            losses = 1 - torch.sigmoid(task.beta * sign * (first - known - drift))
        loss = losses.mean()
        found.append(loss.item())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return found


# -- how a step is computed ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def at_once(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {
        loss: gradient(recipe_of(folder, loss), folder / f"whole-{loss}", pieces=False)
        for loss in ("dpo", "orpo", "kto")
    }


@pytest.mark.parametrize("loss", ["dpo", "orpo", "kto"])
def test_a_step_in_pieces_and_questions_computed_twice_give_its_gradient(
    folder: Path, tmp_path: Path, at_once, loss: str
) -> None:
    cut = recipe_of(folder, loss, micro_batch_examples=3, shared_prompt=loss == "orpo")
    assert_same(gradient(cut, tmp_path / "cut", pieces=True), at_once[loss])


# -- the reference -------------------------------------------------------------------------------------------------------


def entries(folder: Path) -> set[Path]:
    return {*(folder / "cache" / "reference").glob("*/entry.json")}


def test_the_reference_is_computed_once_with_adapters_too_and_again_where_it_must_be(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "cache"))
    calls = []
    compute = PreferenceTuning.precompute
    monkeypatch.setattr(PreferenceTuning, "precompute", lambda *args: calls.append(1) or compute(*args))

    def reference(name: str, **more: Any) -> np.ndarray:
        with begun(recipe_of(folder, "dpo", **more), tmp_path / name) as run:
            if name == "adapters":
                assert float(run.loss_sum(run.feed.micro_batches(0)[0]).detach()) / 20 == pytest.approx(
                    math.log(2), abs=1e-6
                )
            return np.asarray(run.data.train.features.dense["reference"])

    first = reference("first")
    assert len(calls) == 1
    assert np.array_equal(reference("adapters", lora=h.Lora(rank=2), beta=0.3), first)
    assert len(calls) == 1, "kept for another beta, and for adapters of the same weights"
    [entry] = entries(tmp_path)
    kept = entry.with_name("reference.npy")
    kept.write_bytes(kept.read_bytes()[:-8] + b"\1" * 8)
    assert np.array_equal(reference("damaged"), first)
    assert len(calls) == 2
    reference("other-template", system="be kind")
    assert len(calls) == 3
    weights = load_file(folder / "model" / "model.safetensors")
    moved = tmp_path / "moved"
    write_inputs(moved)
    name = next(iter(weights))
    save_file({**weights, name: weights[name] * 1.01}, moved / "model" / "model.safetensors", metadata={"format": "pt"})
    with begun(recipe_of(moved, "dpo"), tmp_path / "moved-run") as run:
        assert not np.array_equal(run.data.train.features.dense["reference"], first)
    assert len(calls) == 4
    save_file(weights, moved / "model" / "model.safetensors", metadata={"format": "pt"})
    with (
        pytest.raises(ResumeMismatch, match=r"fingerprints\.base"),
        begun(recipe_of(moved, "dpo"), tmp_path / "moved-run"),
    ):
        pytest.fail("it went on with another reference")


class Killed(BaseException):
    """What SIGKILL is to a test."""


@pytest.mark.parametrize("loss", ["dpo", "kto"])
def test_a_reference_that_was_interrupted_goes_on_and_has_the_same_bits(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], loss: str
) -> None:
    for place in ("hf_trainpipe.data.reference", "hf_trainpipe.runtime.tasks.preferences"):
        monkeypatch.setattr(f"{place}.LOOKED_TOKENS", 96)  # more than one batch
    compute, asked = PreferenceTuning.precompute, list[int]()
    last = 99

    def mortal(task: PreferenceTuning, model: torch.nn.Module, features: Features) -> Features:
        if len(asked) == last:
            raise Killed
        asked.append(features.num_features)
        return compute(task, model, features)

    monkeypatch.setattr(PreferenceTuning, "precompute", mortal)

    def reference(cache: str) -> np.ndarray:
        monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / cache))
        with begun(recipe_of(folder, loss), tmp_path / f"{cache}-run") as run:
            return np.asarray(run.data.train.features.dense["reference"])

    monkeypatch.setattr("hf_trainpipe.engine.kept._BATCHES", 99)
    whole = reference("undisturbed")
    assert asked == [20]
    monkeypatch.setattr("hf_trainpipe.engine.kept._BATCHES", 1)
    asked, last = [], 3
    with pytest.raises(Killed):
        reference("cut")
    done, asked, last = sum(asked), [], 99
    [pieces] = (tmp_path / "cut/reference").glob("*.pieces")
    damaged, *_ = sorted(pieces.glob("*.npz"), key=lambda one: one.stat().st_mtime)
    lost = len(np.load(damaged)["reference"])
    damaged.write_bytes(damaged.read_bytes()[:-30])
    capfd.readouterr()
    assert reference("cut").tobytes() == whole.tobytes()
    assert sum(asked) == 20 - done + lost
    assert f"20 examples, {done - lost} of them before; kept" in " ".join(capfd.readouterr().err.split())
    assert not pieces.exists()
