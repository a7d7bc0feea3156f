"""Vectors of texts: features of several texts an example, losses over pairs, and search."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score
from transformers import AutoModel, BertTokenizerFast

from hf_trainpipe import DataError, RecipeError, SentenceEmbeddings
from hf_trainpipe.data.prepare import Prepared, PreparedData
from hf_trainpipe.data.reference import with_reference
from hf_trainpipe.data.rows import Rows
from hf_trainpipe.package.columns import Chooser, Known, parse_asked
from hf_trainpipe.runtime.model.outputs import Outputs
from hf_trainpipe.runtime.tasks.mining import nearest_strangers
from hf_trainpipe.runtime.tasks.ranking import NAMES, ranking_scores
from hf_trainpipe.runtime.tokens.batch import pad
from hf_trainpipe.runtime.tokens.encoder import Encoder
from hf_trainpipe.runtime.tokens.features import Features
from hf_trainpipe.testing import tiny_model

WORDS = ["anna", "boris", "was", "kind", "film", "good day"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> BertTokenizerFast:
    folder: Path = tiny_model(tmp_path_factory.mktemp("model"))
    return BertTokenizerFast.from_pretrained(folder)


def prepared(
    tokenizer: BertTokenizerFast, task: SentenceEmbeddings, *rows: dict[str, object], **options: object
) -> Features:
    encoder = Encoder(tokenizer, **{"max_length": 8, **options})
    held = Rows(Dataset.from_list(list(rows)), "train", encoder=encoder, is_training=True)
    task.check(held)
    return task.supervise(held, task.encode(held.inputs(task), encoder))


def texts_of(features: Features, tokenizer: BertTokenizerFast) -> list[str]:
    starts, ids = features.input.starts, features.input["input_ids"]
    return [tokenizer.decode(ids[a:b], skip_special_tokens=True) for a, b in pairwise(starts)]


# -- scores of ranked lists -----------------------------------------------------------------------------------------


def reference(scores: list[float], gains: list[float]) -> dict[str, float]:
    """By the definitions, with lists; what cannot be told apart is in the worst order."""
    ranked = [gain for _, gain in sorted(zip(scores, gains, strict=True), key=lambda pair: (-pair[0], pair[1]))]
    relevant = sum(gain > 0 for gain in gains)
    if not relevant:
        return dict.fromkeys(NAMES, float("nan"))
    first = next(rank for rank, gain in enumerate(ranked, 1) if gain > 0)
    gained = sum(gain / np.log2(1 + rank) for rank, gain in enumerate(ranked[:10], 1))
    best = sum(gain / np.log2(1 + rank) for rank, gain in enumerate(sorted(gains, reverse=True)[:10], 1))
    recalls = {f"recall_at_{k}": sum(gain > 0 for gain in ranked[:k]) / relevant for k in (1, 5, 10)}
    return {"mrr": 1 / first, "ndcg_at_10": gained / best, **recalls}


def test_scores_of_ranked_lists_are_those_of_their_definitions() -> None:
    draws, with_ties = np.random.default_rng(4), 0
    for case in range(10_000):
        size = int(draws.integers(1, 25))
        scores = draws.normal(size=size).round(1 if case % 2 else 9)
        gains = draws.choice([0, 0, 0, 1, 2], size=size).astype(float)
        found, expected = ranking_scores(scores, gains), reference(scores.tolist(), gains.tolist())
        assert found == pytest.approx(expected, abs=1e-12, nan_ok=True), (scores, gains)
        if case % 2:
            with_ties += len(set(scores.tolist())) < size
        elif case % 10 == 0 and size > 1 and (gains > 0).any():  # it takes a while
            assert found["ndcg_at_10"] == pytest.approx(ndcg_score([gains], [scores], k=10), abs=1e-9)
    assert with_ties > 1000


def test_equal_scores_are_no_merit() -> None:
    assert ranking_scores(np.zeros(20), np.eye(20)[0])["mrr"] == 1 / 20


# -- features -------------------------------------------------------------------------------------------------------


def test_an_example_has_its_text_its_pair_and_its_negatives(tokenizer: BertTokenizerFast) -> None:
    task = SentenceEmbeddings(negative="negative", prompt="a ", pair_prompt="b ")
    rows = [
        {"text": "anna", "text_pair": "kind", "negative": ["film", "mean"]},
        {"text": "boris", "text_pair": "film", "negative": []},
    ]
    features = prepared(tokenizer, task, *rows)
    assert texts_of(features, tokenizer) == ["a anna", "b kind", "b film", "b mean", "a boris", "b film"]
    assert features.example.tolist() == [0, 0, 0, 0, 1, 1]
    assert features.dense["part"].tolist() == [0, 1, 2, 3, 0, 1]
    same = features.dense["same"]
    assert same[2] == same[5]
    assert len(set(same.tolist())) == 5


def test_an_example_with_a_text_that_is_too_long_is_dropped_whole(tokenizer: BertTokenizerFast) -> None:
    rows = [{"text": "anna", "text_pair": "was " * 20}, {"text": "boris", "text_pair": "kind"}]
    features = prepared(tokenizer, SentenceEmbeddings(), *rows, overflow="drop")
    assert features.example.tolist() == [1, 1]
    assert texts_of(features, tokenizer) == ["boris", "kind"]
    with pytest.raises(RecipeError, match="reads each text as a whole"):
        prepared(tokenizer, SentenceEmbeddings(), *rows, overflow="window", stride=0)


def test_what_is_wrong_is_told_with_its_row(tokenizer: BertTokenizerFast) -> None:
    row = {"text": "anna", "text_pair": "kind", "score": 4.0, "negative": [3]}
    with pytest.raises(DataError, match=r"expected numbers from 0 \(task.low\) to 1 \(task.high\), found 4"):
        prepared(tokenizer, SentenceEmbeddings(score="score"), row)
    with pytest.raises(DataError, match="expected a text or a list of texts"):
        prepared(tokenizer, SentenceEmbeddings(negative="negative"), row)
    for wrong in ({"score": "score", "loss": "in_batch"}, {"loss": "cosine"}, {"low": 1.0}, {"temperature": 0.0}):
        with pytest.raises(RecipeError):
            SentenceEmbeddings(**wrong)


def test_negatives_are_mined_among_texts_that_do_not_belong_together() -> None:
    draws = np.random.default_rng(3)
    for _ in range(30):
        anchors, candidates = (draws.normal(size=(size, 4)).astype(np.float32) for size in (7, 9))
        own = draws.normal(size=7)
        belongs = np.array(sorted(set(map(tuple, draws.integers(0, [7, 9], size=(12, 2)).tolist())))).T
        row, found = nearest_strangers(
            anchors, candidates, own=own, belongs=(belongs[0], belongs[1]), count=3, below=0.9
        )
        for anchor in range(7):
            scores = anchors[anchor] @ candidates.T
            strangers = [
                place
                for place in np.argsort(-scores).tolist()
                if scores[place] < 0.9 * own[anchor] and (anchor, place) not in set(zip(*belongs.tolist(), strict=True))
            ]
            assert found[row == anchor].tolist() == strangers[:3]


def test_mined_negatives_stand_behind_the_texts_of_their_examples(tokenizer: BertTokenizerFast, tmp_path: Path) -> None:
    model = AutoModel.from_pretrained(tiny_model(tmp_path))
    task = SentenceEmbeddings(negative="negative", mined=2, mined_below=2.0)
    pairs = [("anna", "kind"), ("anna", "film"), ("boris", "film"), ("carla", "mean"), ("mean", "day")]
    rows = [{"text": text, "text_pair": pair, "negative": ["story"] * (text == "boris")} for text, pair in pairs]
    before = prepared(tokenizer, task, *rows)
    assert task.keeps(before)
    after = task.completed(task.precompute(model, before))
    assert after.windows.tolist() == [4, 4, 5, 4, 4]
    assert after.dense["part"].tolist() == [*range(4), *range(4), *range(5), *range(4), *range(4)]
    of_text: dict[str, int] = {}
    for text, number in zip(texts_of(after, tokenizer), after.dense["same"].tolist(), strict=True):
        assert of_text.setdefault(text, number) == number
    belongs = {"anna": {"anna", "kind", "film"}, "boris": {"film"}, "carla": {"mean"}, "mean": {"mean", "day"}}
    groups = np.split(np.array(texts_of(after, tokenizer)), np.cumsum(after.windows)[:-1])
    for (text, pair), group in zip(pairs, groups, strict=True):
        assert group[:2].tolist() == [text, pair]
        assert not belongs[text] & set(group[2:].tolist())
        assert len(set(group.tolist())) == len(group)
    assert after.dense["number"].tolist() == after.example.tolist()
    batch = pad(after, np.arange(after.num_features), with_targets=True)
    vectors = torch.randn(after.num_features, 8)
    assert float(task.loss_sum({"embedding": vectors}, batch)) > 0
    validation = replace(before, of_examples={**before.of_examples, "mined": np.zeros(5, dtype=np.int64)})
    assert not task.keeps(validation)
    assert task.completed(task.precompute(model, validation)) is validation


def test_mined_negatives_are_looked_for_once(tokenizer: BertTokenizerFast, tmp_path: Path) -> None:
    model, said = AutoModel.from_pretrained(tiny_model(tmp_path / "model")), list[str]()
    pairs = [("anna", "kind"), ("anna", "film"), ("boris", "film"), ("carla", "mean"), ("mean", "day")]

    def mined(weights: str = "a", *, looks: bool = True, below: float = 2.0, last: str = "day") -> Features:
        task = SentenceEmbeddings(mined=2, mined_below=below)
        rows = [{"text": text, "text_pair": pair} for text, pair in (*pairs[:-1], ("mean", last))]
        split = Prepared("train", prepared(tokenizer, task, *rows), Rows(Dataset.from_list(rows), "train"), "")
        kept = partial(with_reference, weights=weights, precision="fp32", root=tmp_path, say=said.append)
        asked = (lambda: model) if looks else (lambda: None)
        return PreparedData({"train": split}, task, {}).precomputed(split, asked, kept).features  # type: ignore[arg-type]

    first, again = mined(), mined(looks=False)
    assert first.windows.tolist() == [4] * 5
    for name, rows in first.dense.items():
        assert np.array_equal(again.dense[name], rows), name
    assert np.array_equal(again.input["input_ids"], first.input["input_ids"])
    assert said == ["looked at train with the model as it begins: 5 examples; kept"]
    mined("b"), mined(below=0.5), mined(last="kind")
    assert len(said) == 4, "other weights, another limit, and other texts that belong together are looked at anew"
    [*kept] = tmp_path.glob("reference/*/nearest.npy")
    for file in kept:
        file.write_bytes(file.read_bytes()[:-8])
    assert np.array_equal(mined().dense["same"], first.dense["same"])
    assert len(said) == 5, "and so is what is damaged"


# -- losses ---------------------------------------------------------------------------------------------------------


def in_batch(vectors: np.ndarray, rows: list[dict[str, object]], temperature: float) -> float:
    """By definition, text by text; ``vectors`` in the order of the features."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    texts = [text for row in rows for text in (row["text"], row["text_pair"], *row["negative"])]
    starts = np.cumsum([0, *(2 + len(row["negative"]) for row in rows)])
    anchors = set(starts[:-1].tolist())
    total = 0.0
    for start, row in zip(starts[:-1], rows, strict=True):
        belongs = {other["text_pair"] for other in rows if other["text"] == row["text"]} | {row["text"]}
        kept = [at for at in range(len(texts)) if at not in anchors and (texts[at] not in belongs or at == start + 1)]
        scores = unit[kept] @ unit[start] / temperature
        total -= float(unit[start + 1] @ unit[start] / temperature - np.log(np.exp(scores).sum()))
    return total


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "text": st.sampled_from(WORDS),
                "text_pair": st.sampled_from(WORDS),
                "negative": st.lists(st.sampled_from(WORDS), max_size=2),
            }
        ),
        min_size=1,
        max_size=7,
    ),
    seed=st.integers(0, 99),
)
def test_texts_that_belong_together_are_never_negatives(tokenizer: BertTokenizerFast, rows, seed: int) -> None:
    task = SentenceEmbeddings(negative="negative", temperature=0.5)
    dataset = Dataset.from_dict({name: [row[name] for row in rows] for name in rows[0]})
    encoder = Encoder(tokenizer, max_length=8)
    held = Rows(dataset, "train", encoder=encoder)
    features = (
        task.supervise(held, task.encode(held.inputs(task), encoder)) if any(row["negative"] for row in rows) else None
    )
    if features is None:
        return
    draws = np.random.default_rng(seed)
    vectors = draws.normal(size=(features.num_features, 6)).astype(np.float32)
    order = draws.permutation(features.num_features)
    batch = pad(features, order, with_targets=True)
    found = float(task.loss_sum({"embedding": torch.from_numpy(vectors[order])}, batch))
    assert found == pytest.approx(in_batch(vectors, rows, 0.5), rel=1e-4, abs=1e-4)
    merged = task.merge(Outputs(order, {"embedding": vectors[order]}), features)
    outputs, targets = task.merged_batch(merged, features)
    again = task.loss_sum(
        {"embedding": torch.from_numpy(outputs["embedding"])}, {k: torch.from_numpy(v) for k, v in targets.items()}
    )
    assert float(again) == pytest.approx(found, rel=1e-4, abs=1e-4)


def test_losses_of_scored_pairs_and_of_shorter_vectors(tokenizer: BertTokenizerFast) -> None:
    rows = [
        {"text": "anna", "text_pair": word, "score": score} for word, score in (("kind", 5), ("film", 1), ("was", 3))
    ]
    vectors = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)

    def cosines(size: int) -> np.ndarray:
        cut = vectors[:, :size] / np.linalg.norm(vectors[:, :size], axis=1, keepdims=True)
        return (cut[0::2] * cut[1::2]).sum(axis=1)

    def loss(**fields: object) -> float:
        task = SentenceEmbeddings(score="score", high=5.0, **fields)
        features = prepared(tokenizer, task, *rows)
        assert features.together is task.separable
        return float(
            task.loss_sum({"embedding": torch.from_numpy(vectors)}, pad(features, np.arange(6), with_targets=True))
        )

    right = np.array([1.0, 0.2, 0.6])
    squared = [float(((cosines(size) - right) ** 2).sum()) for size in (2, 8)]
    assert loss() == pytest.approx(squared[1], rel=1e-5)
    assert loss(dimensions=(2,)) == pytest.approx(sum(squared) / 2, rel=1e-5)
    cosine = cosines(8) / 0.05
    wrong = [cosine[low] - cosine[high] for low in range(3) for high in range(3) if right[low] < right[high]]
    assert loss(loss="cosent") == pytest.approx(3 * np.log1p(np.exp(wrong).sum()), rel=1e-4)


def test_search_counts_each_text_once_and_each_document_once(tokenizer: BertTokenizerFast) -> None:
    task = SentenceEmbeddings()
    pairs = [("anna", "kind"), ("anna", "film"), ("boris", "film"), ("carla", "mean")]
    features = prepared(tokenizer, task, *({"text": text, "text_pair": pair} for text, pair in pairs))
    at = {
        "anna": [1, 0, 0],
        "boris": [0, 1, 0],
        "carla": [0, 0, 1],
        "kind": [1, 0.1, 0],
        "film": [0, 1, 0.1],
        "mean": [0.3, 1, 0.2],
    }
    vectors = np.array([at[text] for pair in pairs for text in pair], dtype=np.float32)
    judged = task.judge(task.merge(Outputs(np.arange(8), {"embedding": vectors}), features), features)
    # anna: kind, mean, film; boris: film, mean, kind; carla: mean, film, kind.
    assert judged["mrr"].tolist() == pytest.approx([1, np.nan, 1, 1], nan_ok=True)
    assert judged["recall_at_1"].tolist() == pytest.approx([0.5, np.nan, 1, 1], nan_ok=True)
    best, found = 1 + 1 / np.log2(3), 1 + 1 / np.log2(4)
    assert judged["ndcg_at_10"][0] == pytest.approx(found / best)


def test_a_file_of_texts_alone_and_one_of_pairs_are_read() -> None:
    task = SentenceEmbeddings("question", text_pair="answer")
    forms = tuple(tuple(form) for form in task.schema().inputs)
    known = Known(forms=forms, columns={role: column.name for role, column in task.inputs.items()})

    def read(row: dict[str, str], *asked: str) -> object:
        return Chooser(known, parse_asked(asked, known), name="f").input_of(row)

    assert read({"question": "a", "answer": "b", "more": "c"}) == {"text": "a", "text_pair": "b"}
    assert read({"question": "a", "more": "c"}) == "a"
    assert read({"answer": "b", "more": "c"}) == {"text_pair": "b"}
    assert read({"text": "a", "text_pair": "b"}) == {"text": "a", "text_pair": "b"}
    assert read({"text": "a", "more": "c"}) == "a"
    assert read({"x": "a", "y": "b"}, "y") == "b"
    assert read({"x": "a", "y": "b"}, "y", "x") == {"text": "b", "text_pair": "a"}
    with pytest.raises(DataError, match="found the columns 'x'"):
        read({"x": "a"})


def test_a_package_says_how_sentence_transformers_loads_it(tmp_path: Path) -> None:
    """The vectors of the loaded package are compared in tests/training/test_recipes.py."""

    class Model:
        class config:
            hidden_size = 32

    files = SentenceEmbeddings(pooling="cls", normalize=False, prompt="q: ").package_files(Model, {"max_length": 64})
    told = {name: json.loads(text) for name, text in files.items()}
    assert [module["path"] for module in told["modules.json"]] == ["", "1_Pooling"]
    assert told["1_Pooling/config.json"]["pooling_mode_cls_token"] is True
    assert told["sentence_bert_config.json"]["max_seq_length"] == 64
    assert told["config_sentence_transformers.json"]["default_prompt_name"] == "query"
