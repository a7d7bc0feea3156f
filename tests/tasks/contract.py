"""What every task promises, asked of one task after the other: built-in ones and those of a recipe file alike.

A run is trained, killed, resumed and packaged as a person's is, on models that are made by code.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import hf_trainpipe as h
from hf_trainpipe import RunOptions, execute
from hf_trainpipe.data.prepare import Inputs
from hf_trainpipe.data.rows import Rows
from hf_trainpipe.recipe_file import load
from hf_trainpipe.runtime.errors import SchemaError
from hf_trainpipe.runtime.handler.endpoint import EndpointHandler
from hf_trainpipe.runtime.handler.predictor import Predictor
from hf_trainpipe.serve import engine as engines
from hf_trainpipe.serve.app import make_app
from hf_trainpipe.serve.settings import Settings
from hf_trainpipe.testing import tiny_causal_model, tiny_model, tiny_rows, tiny_seq2seq, tiny_tagged
from hf_trainpipe.training.signals import PlannedStop
from hf_trainpipe.watch.measure import measure
from hf_trainpipe.watch.profile import read_profile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hf_trainpipe.data.prepare import PreparedData
    from hf_trainpipe.recipe.source import RecipeSource
    from hf_trainpipe.runtime.model.outputs import Outputs
    from hf_trainpipe.runtime.tokens.features import Features

__all__ = ["MORE", "TASKS", "Trained", "answers_in_16_bits", "features_are_those_of_serving", "more_ranks_than_examples", "own_code_needs_consent", "predict_is_evaluate",
           "recipe_of", "resumes_after_a_kill", "serves", "train", "watches", "write_inputs"]  # fmt: skip

TASKS = (
    "classification",
    "multi_label",
    "regression",
    "instructions",
    "preferences",
    "wanted",
    "tags",
    "answers",
    "embeddings",
    "summaries",
    "choices",
    "documents",
    "ranking",
    "masks",
    "spans",
)
"""The last is of tests/tasks/foreign.py."""
MORE = ("conversations", "spans_of_words", "translations", "blocks", "masks_in_blocks", "odds", "rewriting")
"""Further forms of the same tasks; the last is of tests/tasks/foreign.py."""
WHOLE = ("embeddings", "summaries", "translations", "ranking")
"""Those that have no windows."""
STEPS = 4
TALKS = ("instructions", "conversations", "preferences", "odds", "wanted")


@dataclass(frozen=True)
class Trained:
    """A finished run, with the recipe that it came from."""

    recipe: h.Recipe
    result: h.training.result.Result  # type: ignore[name-defined]
    folder: Path
    source: RecipeSource | None


def write_inputs(folder: Path) -> None:
    """Models and data of all tasks."""
    import torch
    from transformers import BertTokenizerFast, T5Config, T5ForConditionalGeneration

    tiny_model(folder / "bert")
    tokenizer = BertTokenizerFast.from_pretrained(folder / "bert")
    ids = {"pad_token_id": 0, "decoder_start_token_id": 0, "eos_token_id": tokenizer.sep_token_id}
    sizes = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = T5ForConditionalGeneration(T5Config(vocab_size=max(tokenizer.get_vocab().values()) + 1, **sizes, **ids))
    model.save_pretrained(folder / "t5")
    tokenizer.save_pretrained(folder / "t5")
    for kind in ("bart", "marian"):
        tiny_seq2seq(folder / kind, kind=kind)
    tiny_causal_model(folder / "llama")
    texts = [row["text"] for row in tiny_rows(24, seed=1)]
    moods = ["kind" if row["label"] == "positive" else "mean" for row in tiny_rows(24, seed=1)]
    rows: dict[str, list[dict[str, Any]]] = {
        "classification": [{"text": text, "label": mood} for text, mood in zip(texts, moods, strict=True)],
        "multi_label": [
            {"text": text, "labels": sorted({mood, "long" if len(text) > 60 else "short"})}
            for text, mood in zip(texts, moods, strict=True)
        ],
        "regression": [
            {"text": text, "text_pair": mood, "score": len(text) / 50} for text, mood in zip(texts, moods, strict=True)
        ],
        "tags": list(tiny_tagged(24, seed=2)),
        "spans_of_words": [_with_spans(row) for row in tiny_tagged(24, seed=3)],
        "answers": [_as_squad(place, _with_answer(row)) for place, row in enumerate(tiny_tagged(24, seed=5))],
        "embeddings": [
            {"text": text, "text_pair": f"{mood} {text.split()[0]}", "negative": ["a story"] * (place % 3)}
            for place, (text, mood) in enumerate(zip(texts, moods, strict=True))
        ],
        "summaries": [{"text": text, "summary": f"it was {mood}"} for text, mood in zip(texts, moods, strict=True)],
        "translations": [
            {"source": text, "target": [text[:20], f"a {mood} day"]} for text, mood in zip(texts, moods, strict=True)
        ],
        "choices": [_with_choices(place, text) for place, text in enumerate(texts)],
        "masks_in_blocks": [{"text": text} for text in texts],
        "documents": [{"text": text} for text in texts],
        "instructions": [
            {"instruction": f"how was {text[:12]}", "input": "" if place % 2 else "a film", "output": f"it was {mood}"}
            for place, (text, mood) in enumerate(zip(texts, moods, strict=True))
        ],
        "conversations": [
            _with_turns(place, text, mood) for place, (text, mood) in enumerate(zip(texts, moods, strict=True))
        ],
        "preferences": [
            _with_turns(place, text, mood, ("chosen", "rejected"))
            for place, (text, mood) in enumerate(zip(texts, moods, strict=True))
        ],
        "wanted": [
            {"prompt": f"how was  {text[:12]}", "completion": f"it was {mood}", "label": place % 3 > 0}
            for place, (text, mood) in enumerate(zip(texts, moods, strict=True))
        ],
        "odds": [
            {"prompt": f"how was {text[:12]}", "chosen": f"it was {mood}", "rejected": "a day" if place % 4 else ""}
            for place, (text, mood) in enumerate(zip(texts, moods, strict=True))
        ],
        "blocks": [{"text": text} for text in texts],
        "ranking": [
            {"query": mood, "documents": texts[place : place + 1 + place % 3], "scores": [2, 0, 1][: 1 + place % 3]}
            for place, mood in enumerate(moods[:22])
        ]
        + [{"query": "kind", "documents": texts[:2], "scores": [0, 1]}] * 2,
        "masks": [
            {"text": f"it was {text}" if place % 5 else "anna saw the [MASK] ."} for place, text in enumerate(texts)
        ],
        "spans": [_with_answer(row) for row in tiny_tagged(24, seed=4)],
        "rewriting": [{"source": text, "target": f"it was {mood}"} for text, mood in zip(texts, moods, strict=True)],
    }
    for name, found in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))


def _with_spans(row: dict[str, Any]) -> dict[str, Any]:
    """Words as a text with marks, and character spans."""
    text, spans = "", []
    for word, tag in zip(row["tokens"], row["tags"], strict=True):
        text += " " if text else ""
        if tag != "O":
            spans.append({"start": len(text) + 3, "end": len(text) + 3 + len(word), "label": tag[2:]})
            text += f"<b>{word}</b>"
        else:
            text += word
    return {"text": f"{text} https://x.org/a", "entities": spans}


def _with_answer(row: dict[str, Any]) -> dict[str, Any]:
    context, at = " ".join(row["tokens"]), next(place for place, tag in enumerate(row["tags"]) if tag != "O")
    start = len(" ".join(row["tokens"][:at])) + (at > 0)
    return {"question": "who ?", "context": context, "answer": {"start": start, "text": row["tokens"][at]}}


def _with_choices(place: int, text: str) -> dict[str, Any]:
    """The last word of a text, among two to ten; the right one by its letter."""
    *words, last = text.split()
    choices = [
        "it <b>was</b> so " * (other % 3) + other_word for other, other_word in enumerate(words[: 1 + place % 9])
    ]
    at = place % (len(choices) + 1)
    return {
        "prompt": " ".join(words),
        "choices": [*choices[:at], last, *choices[at:]],
        "label": "ABCDEFGHIJ"[at],
    }


def _with_turns(place: int, text: str, mood: str, columns: tuple[str, ...] = ("messages",)) -> dict[str, Any]:
    """Conversations of one or two turns, which differ in their last answers."""
    turns = [("user", text[:9]), ("assistant", "a day"), ("user", "how ?"), ("assistant", f"  {mood}")]
    messages = [{"role": role, "content": content} for role, content in turns[2 * (place % 2) :]]
    return {
        name: [*messages[:-1], {**messages[-1], "content": messages[-1]["content"] + " a film" * number}]
        for number, name in enumerate(columns)
    }


def _as_squad(place: int, row: dict[str, Any]) -> dict[str, Any]:
    """In SQuAD's form; of every third question the answer is taken out."""
    answer = row.pop("answer")
    none = place % 3 == 0
    return {
        **row,
        "answers": {"text": [] if none else [answer["text"]], "answer_start": [] if none else [answer["start"]]},
    }


def recipe_of(name: str, folder: Path, foreign: Path) -> tuple[h.Recipe, RecipeSource | None]:
    """The recipe of a task, over the files of :func:`write_inputs`."""
    own: dict[str, Any] = {
        "classification": (h.TextClassification(class_weights="balanced"), (h.NormalizeSpace(),)),
        "multi_label": (h.MultiLabelClassification(), (h.StripHtml(),)),
        "regression": (h.Regression(text_pair="text_pair", low=0.0), ()),
        "tags": (h.TokenClassification(), (h.NormalizeUnicode(),)),
        "spans_of_words": (h.TokenClassification(text="text", spans="entities"), (h.StripHtml(), h.CleanUrls())),
        "answers": (h.QuestionAnswering(), (h.NormalizeSpace(),)),
        "embeddings": (
            h.SentenceEmbeddings(negative="negative", mined=2, prompt="it ", pair_prompt="was "),
            (h.Lowercase(),),
        ),
        "summaries": (
            h.Summarization(prefix="say : ", max_new_tokens=8, beams=2, no_repeat_ngram=2, target_max_length=32),
            (h.Lowercase(),),
        ),
        "translations": (h.Translation(max_new_tokens=8, label_smoothing=0.1, target_max_length=6), ()),
        "choices": (h.MultipleChoice(), (h.StripHtml(),)),
        "instructions": (h.InstructionTuning(input="input", max_new_tokens=5), (h.NormalizeSpace(),)),
        "conversations": (h.InstructionTuning(messages="messages", system="be kind", max_new_tokens=5), ()),
        "preferences": (h.PreferenceTuning(prompt=None, system="be kind", max_new_tokens=5), ()),
        "wanted": (h.PreferenceTuning(loss="kto", max_new_tokens=5), (h.NormalizeSpace(),)),
        "odds": (h.PreferenceTuning(loss="orpo", shared_prompt=False, max_new_tokens=5), (h.Lowercase(),)),
        "documents": (h.CausalLM(max_new_tokens=5), (h.NormalizeSpace(),)),
        "blocks": (h.CausalLM(blocks=True, max_new_tokens=5), ()),
        "ranking": (h.Reranking(score="scores", high=2.0, drawn=1, loss="list"), (h.Lowercase(),)),
        "masks": (h.MaskedLM(), (h.NormalizeSpace(),)),
        "masks_in_blocks": (h.MaskedLM(blocks=True), ()),
    }
    models = {"summaries": "bart", "translations": "marian", "documents": "llama", "blocks": "llama"}
    models |= dict.fromkeys(TALKS, "llama")
    if name not in own:
        recipe, source = load(f"{foreign}:{name}")
        model = folder / recipe.model.name
        return replace(recipe, model=h.Pretrained(str(model)), data=_files(name, folder)), source
    task, steps = own[name]
    recipe = h.Recipe(
        name=name,
        model=h.Pretrained(str(folder / models.get(name, "bert"))),
        data=_files(name, folder),
        task=task,
        preprocessing=steps,
        tokens=h.Tokens(
            max_length=60 if name in TALKS else 16,
            overflow="truncate" if name in (*WHOLE, *TALKS) else "window",
            stride=4,
        ),
        optim=h.Optim(peak_lr=1e-2, precision="fp32"),
        budget=h.Budget(max_steps=STEPS, examples_per_step=8, log_every=1, save_every=2, micro_batch_tokens=128),
        evaluation=h.Evaluation(resamples=20),
    )
    return recipe, None


def _files(name: str, folder: Path) -> h.Files:
    return h.Files(train=f"{name}.jsonl", validation=f"{name}.jsonl", root=str(folder))


def train(
    name: str,
    inputs: Path,
    folder: Path,
    foreign: Path,
    *,
    lora: h.Lora | None = None,
    change: Callable[[h.Recipe], h.Recipe] = lambda recipe: recipe,
) -> Trained:
    """Train, evaluate, package and verify in a fresh process."""
    recipe, source = recipe_of(name, inputs, foreign)
    recipe = change(replace(recipe, model=replace(recipe.model, lora=lora)))
    result = execute(recipe, run_dir=folder, options=RunOptions(source=source))
    assert result.verified["passed"]
    assert result.verified["n"] == min(24, recipe.task.num_recorded)
    assert {f"predictions/{split}.npz" for split in result.scores} | {"report.html"} <= {
        str(path.relative_to(folder)) for path in folder.rglob("*")
    }
    return Trained(recipe, result, folder, source)


class _Killed(BaseException):
    """What SIGKILL is to a test: nothing of the process lives on."""


def resumes_after_a_kill(trained: Trained, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that dies behind its checkpoint ends at the same weights and losses."""

    def die(*_: Any, **__: Any) -> None:
        raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr("hf_trainpipe.training.signals.os.kill", die)
        options = RunOptions(source=trained.source, planned_stop=PlannedStop(kill_after=3))
        with pytest.raises(_Killed):
            execute(trained.recipe, run_dir=folder, options=options)
    with monkeypatch.context() as patch:
        patch.setattr("hf_trainpipe.training.execute.export", die)
        with pytest.raises(_Killed):
            execute(trained.recipe, run_dir=folder, options=RunOptions(source=trained.source, resume="must"))
    assert _weights(folder) == _weights(trained.folder)
    assert _losses(folder) == _losses(trained.folder)


def _weights(run: Path) -> str:
    [path] = run.glob(f"checkpoints/step-*{STEPS}/model.safetensors")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _losses(run: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]
    return {line["step"]: line["value"] for line in lines if line.get("name") == "train/loss"}


def own_code_needs_consent(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task of a recipe file runs in a package when somebody agrees, and no built-in one brings code."""
    with monkeypatch.context() as patch:
        patch.delenv("TRAINPIPE_ALLOW_CODE")
        if trained.source is None:
            assert h.load(trained.folder).predictor.info.code is None
            return
        with pytest.raises(SchemaError, match="carries code of its recipe"):
            h.load(trained.folder)


def features_are_those_of_serving(trained: Trained) -> None:
    """What training encoded is what the package makes of the same inputs as a client sends them; but of a task that is
    scored by its targets, which cut and extend them."""
    package = h.load(trained.folder).predictor
    data = _prepared(trained, package.tokenizer)
    if data.task.scored is not None:
        return
    rows = Rows(data.train.rows.dataset, "train").inputs(data.task)
    values = [dict(zip(rows, cells, strict=True)) for cells in zip(*rows.values(), strict=True)]
    served = package.features([data.task.as_input(one) for one in values])
    assert_same_features(_first_of_each(data.train.features, served), served)


def _prepared(trained: Trained, tokenizer: Any) -> PreparedData:
    from hf_trainpipe.data.prepare import prepare

    return prepare(
        trained.recipe,
        tokenizer=tokenizer,
        max_length=16,
        vocab_size=None,
        root=trained.folder / "cache",
        say=lambda _: None,
    )


class _Rank:
    """A rank of a process that is all of them, the last one first: it gathers its part and those of the ranks before it."""

    def __init__(self, rank: int, *, of: int, parts: list[Any]) -> None:
        import torch

        self.rank, self.size, self._parts = rank, of, parts
        self.accelerator = SimpleNamespace(device=torch.device("cpu"))

    def gather(self, part: Any) -> list[Any]:
        self._parts.insert(0, part)
        return self._parts


def more_ranks_than_examples(trained: Trained) -> None:
    """A rank without an example of a split adds nothing, and takes nothing away, whatever a task's outputs look like."""
    from hf_trainpipe.engine.evaluation import predict_split

    package = h.load(trained.folder, allow_code=True).predictor
    data = _prepared(trained, package.tokenizer)
    split, parts = data.splits["validation"], []

    def predicted(ranks: Any) -> Outputs:
        first = split.usable[:1]
        return predict_split(package.model, split, ranks, task=package.task, max_tokens=128, examples=first)

    nothing, found = predicted(_Rank(1, of=2, parts=parts)), predicted(_Rank(0, of=2, parts=parts))
    alone = predicted(_Rank(0, of=1, parts=[]))
    assert (len(nothing), len(found), len(alone)) == (0, 1, 1)
    assert found.arrays.keys() == alone.arrays.keys()
    for name, array in alone.arrays.items():
        assert np.array_equal(found[name], array), name
        assert found[name].dtype == array.dtype, name


def _first_of_each(learnt: Features, served: Features) -> Features:
    """Without what only training has behind the features of an example: negatives."""
    place = np.arange(learnt.num_features) - np.searchsorted(learnt.example, learnt.example)
    kept = np.flatnonzero(place < served.windows[learnt.example])
    streams = {name: stream.take(kept) for name, stream in learnt.streams.items()}
    return replace(learnt, streams=streams, example=learnt.example[kept])


def assert_same_features(learnt: Features, asked: Features) -> None:
    """Whatever serving has, training has too, bit for bit."""
    assert np.array_equal(learnt.example, asked.example)
    streams = {**asked.streams, **({} if asked.within is None else {"within": asked.within})}
    for name, stream in streams.items():
        other = learnt.within if name == "within" else learnt.streams[name]
        assert other is not None
        assert np.array_equal(other.starts, stream.starts), name
        for column in stream.columns:
            assert np.array_equal(other[column], stream[column]), column


def answers_in_16_bits(trained: Trained) -> None:
    """Within what the task allows, on the same inputs; answers of another form are further off."""
    package = trained.result.package
    halved = Predictor.load(package, precision="bf16", allow_code=True)
    lines = [json.loads(line) for line in (package.parent / "recorded.jsonl").read_text("utf-8").splitlines()]
    expected = [line["output"] for line in lines]
    found = halved.record([line["input"] for line in lines])
    assert halved.task.departure(found, expected) <= halved.task.most_departure
    assert halved.task.departure([None] * len(lines), expected) > halved.task.most_departure


def serves(trained: Trained) -> None:
    """The examples of the schema are answered by the server as by ``predict``, and described."""
    package = h.load(trained.folder, allow_code=True)
    engine = engines.load(trained.folder / "package", allow_code=True)
    middleware, server = make_app(engine, Settings(), batch_tokens=64)
    examples = list(package.predictor.examples)

    async def ask() -> Any:
        server.batcher.start()
        try:
            return await server.batcher.ask(examples, {})
        finally:
            await asyncio.to_thread(server.batcher.close)

    answers = asyncio.run(ask())
    assert [_rounded(answer) for answer in answers] == [_rounded(answer) for answer in package.predict(examples)]
    described = middleware._app.current.app.openapi()["paths"]["/predict"]["post"]["requestBody"]  # type: ignore[attr-defined]
    shown = next(iter(described["content"].values()))["examples"]
    assert shown["several"]["value"]["inputs"] == json.loads(json.dumps(examples))
    assert EndpointHandler(str(trained.folder / "package"), allow_code=True)({"inputs": examples[0]}) is not None


def _rounded(answer: Any) -> Any:
    """Answers of batches of other sizes, which differ in the last bits."""
    if isinstance(answer, list):
        return [_rounded(item) for item in answer]
    if isinstance(answer, dict):
        return {name: _rounded(value) for name, value in answer.items()}
    return pytest.approx(answer, abs=1e-4) if isinstance(answer, float) else answer


def predict_is_evaluate(trained: Trained) -> None:
    """The package scores the file as the run did, and answers every row of it."""
    package = h.load(trained.folder, allow_code=True)
    found = package.evaluate(recipe=trained.recipe)["scores"]
    for name, score in trained.result.scores["validation"].items():
        assert found[name]["value"] == pytest.approx(score["value"], abs=1e-5, nan_ok=True), name
    lines = [json.loads(line) for line in (trained.folder / "recorded.jsonl").read_text().splitlines()]
    expected = min(24, trained.recipe.task.num_recorded)
    assert len(package.predict([line["input"] for line in lines])) == len(lines) == expected
    by_file = package.evaluate(str(trained.recipe.data.root) + f"/{trained.recipe.name}.jsonl", recipe=trained.recipe)
    assert by_file["rows"] == 24
    assert by_file["n"] == trained.result.scores["validation"][trained.recipe.selected_metric]["n"]
    for name, score in found.items():
        assert by_file["scores"][name]["value"] == pytest.approx(score["value"], abs=1e-5, nan_ok=True), name


def watches(trained: Trained) -> None:
    """The profile that the run left is what the package measures of the same requests."""
    package = h.load(trained.folder)
    profile, task = read_profile(package.path), package.predictor.task
    rows = Inputs(_prepared(trained, package.predictor.tokenizer).train.rows.dataset, task)
    asked = [task.as_input(task.as_request(rows[row])) for row in range(len(rows))]
    measured, _ = measure(package.predictor, asked)
    assert measured is not None
    readings = profile.read(measured)
    assert set(readings) == set(profile.signals) >= {"embeddings", "novelty", "vocabulary", "length"}
    for name, held in profile.pool.items():
        found = readings[name].reshape(len(readings[name]), -1).astype(float)
        for text in held.reshape(len(held), -1).astype(float):
            assert np.abs(found - text).max(axis=1).min() < 2e-2, name
