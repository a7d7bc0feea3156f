"""Words hidden anew in each epoch, the same whatever a step is cut into, and the tokens that a mask may stand for."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoModelForMaskedLM, BertTokenizerFast, PreTrainedTokenizerFast

from hf_trainpipe import Lowercase, MaskedLM, RecipeError
from hf_trainpipe.data.prepare import Prepared
from hf_trainpipe.data.rows import Rows
from hf_trainpipe.data.sampler import micro_batches, shares
from hf_trainpipe.runtime.model.inference import known_lengths_of, run
from hf_trainpipe.runtime.model.unpad import unpad
from hf_trainpipe.runtime.tasks.base import Requests
from hf_trainpipe.runtime.tokens.batch import Batch
from hf_trainpipe.runtime.tokens.encoder import Encoder
from hf_trainpipe.testing import tiny_model, tiny_rows

TEXTS = [row["text"] for row in tiny_rows(60, seed=4)]
WORDS = ["film", "unbelievable", "it", "wasn't", "good,", "kindnesses", "北京", "7", "(very)"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return BertTokenizerFast.from_pretrained(folder)


def prepared(tokenizer: Any, texts: list[str], task: MaskedLM, **options: Any) -> Prepared:
    encoder = Encoder(tokenizer, **{"max_length": 64, **options})
    rows = Rows(Dataset.from_dict({"text": texts}), "train", encoder=encoder)
    return Prepared("train", task.supervise(rows, task.encode(rows.inputs(task), encoder)), rows, "")


def drawn(
    split: Prepared, task: MaskedLM, groups: list[np.ndarray], *, seed: int = 3, epoch: int = 1
) -> dict[int, Any]:
    found = {}
    for group in groups:
        batch = split.varied(group, task, seed=seed, epoch=epoch)
        for row, feature in enumerate(group.tolist()):
            length = int(split.lengths[feature])
            found[feature] = [batch[name][row, :length].tolist() for name in ("read", "hidden")]
    return found


def test_masks_follow_from_seed_epoch_and_example_alone(tokenizer: Any) -> None:
    task = MaskedLM()
    split = prepared(tokenizer, TEXTS, task)
    everything = np.arange(60)
    whole = drawn(split, task, [everything])
    for ranks, max_tokens in ((1, 40), (2, 100), (3, 64)):
        dealt = shares(np.random.default_rng(ranks).permutation(60), split.lengths, ranks=ranks)
        groups = [
            group for share in dealt for group in micro_batches(share, split.lengths, max_tokens=max_tokens, cost=None)
        ]
        assert drawn(split, task, groups) == whole
    again = prepared(tokenizer, TEXTS, task)
    assert drawn(again, task, [everything]) == whole
    for other in (drawn(split, task, [everything], seed=4), drawn(split, task, [everything], epoch=2)):
        assert sum(other[feature] != whole[feature] for feature in range(60)) > 50
    restored = np.concatenate([np.where(np.array(h) >= 0, h, ids) for ids, h in whole.values()])
    assert restored.tolist() == split.features.input["input_ids"].tolist()


def test_eighty_ten_ten(tokenizer: Any) -> None:
    task = MaskedLM(whole_words=False)
    split = prepared(tokenizer, [" ".join(TEXTS[:4])] * 40, task)
    ids, hidden = (
        np.concatenate([np.array(pair[place]) for epoch in range(20) for pair in drawn(split, task, [np.arange(40)], epoch=epoch).values()])
        for place in (0, 1)
    )  # fmt: skip
    read, told = ids[hidden >= 0], hidden[hidden >= 0]
    count, mask = len(told), tokenizer.mask_token_id
    masker = Encoder(tokenizer, max_length=64).masker
    same = 1 / len(masker.ordinary)
    seen = [int((read == mask).sum()), int(((read != mask) & (read != told)).sum()), int((read == told).sum())]
    assert chisquare(seen, np.array([0.8, 0.1 * (1 - same), 0.1 + 0.1 * same]) * count).pvalue > 1e-3
    others = np.bincount(read[(read != mask) & (read != told)], minlength=int(masker.ordinary.max()) + 1)
    assert set(np.flatnonzero(others)) <= set(masker.ordinary.tolist())
    pooled = (
        others[masker.ordinary].reshape(-1, 5).sum(axis=1) if len(masker.ordinary) % 5 == 0 else others[masker.ordinary]
    )
    assert chisquare(pooled).pvalue > 1e-4
    places = int((np.asarray(split.features.input["word"]) >= 0).sum()) * 20
    assert chisquare([count, places - count], [0.15 * places, 0.85 * places]).pvalue > 1e-3


def test_each_feature_hides_a_word(tokenizer: Any) -> None:
    task = MaskedLM(share=0.01)
    split = prepared(tokenizer, ["it", "a day", "was"], task)
    assert all(max(hidden) >= 0 for _, hidden in drawn(split, task, [np.arange(3)]).values())


def trained(kind: str) -> PreTrainedTokenizerFast:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    own: dict[str, Any] = {
        "WordPiece": (
            models.WordPiece(unk_token="[UNK]"),
            pre_tokenizers.BertPreTokenizer(),
            trainers.WordPieceTrainer,
        ),
        "BPE": (models.BPE(), pre_tokenizers.ByteLevel(add_prefix_space=False), trainers.BpeTrainer),
        "Unigram": (models.Unigram(), pre_tokenizers.Metaspace(), trainers.UnigramTrainer),
    }
    model, before, trainer = own[kind]
    found = Tokenizer(model)
    found.pre_tokenizer = before
    more = {"unk_token": "[UNK]"} if kind == "Unigram" else {}
    more |= {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet()} if kind == "BPE" else {}
    size = {"WordPiece": 60, "BPE": 275, "Unigram": 45}[kind]
    found.train_from_iterator(
        [" ".join(WORDS)] * 3, trainer(vocab_size=size, special_tokens=special, show_progress=False, **more)
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=found, **names)


@pytest.mark.parametrize("kind", ["WordPiece", "BPE", "Unigram"])
def test_whole_words_are_hidden(kind: str) -> None:
    tokenizer, task = trained(kind), MaskedLM(share=0.3)
    encoder = Encoder(tokenizer, max_length=200)

    @settings(max_examples=30)
    @given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=9))
    def check(words: list[str]) -> None:
        text = " ".join(words)
        features = task._hide(task.encode({"text": [text]}, encoder), encoder)
        encoding = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        assert features.input["input_ids"].tolist() == encoding.ids
        hidden = np.asarray(features.input["hidden"]) >= 0
        for name in set(encoding.word_ids):
            places = [place for place, one in enumerate(encoding.word_ids) if one == name]
            assert len(set(hidden[places].tolist())) == 1 or len(places) > 10
        assert hidden.any()

    check()
    pieces = Counter(tokenizer.backend_tokenizer.encode("film good, it kindnesses").word_ids)
    assert any(1 < count <= 10 for count in pieces.values()), "there are words of several tokens"


def test_a_text_without_spaces_is_hidden_token_by_token(tokenizer: Any) -> None:
    features = Encoder(tokenizer, max_length=64).texts(["abcdefghijklmnopq it was abc"], with_words=True)
    assert features.input["word"].tolist() == [-1, *range(17), 17, 18, 19, 19, 19, -1]


def loss_and_gradients(
    model: Any, task: MaskedLM, batches: list[Batch]
) -> tuple[float, float, dict[str, torch.Tensor]]:
    model.zero_grad()
    total, count = 0.0, 0.0
    for batch in batches:
        with known_lengths_of(batch, task):
            outputs = task.forward(model, batch.inputs)
        loss = task.loss_sum(outputs, batch)
        loss.backward()
        total, count = total + float(loss.detach()), count + float(task.count(batch))
    return total, count, {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_the_head_sees_hidden_tokens_alone_and_gives_transformers_loss(kind: Any, tmp_path: Path) -> None:
    model = AutoModelForMaskedLM.from_pretrained(tiny_model(tmp_path, kind=kind)).eval()
    task, tokenizer = MaskedLM(), BertTokenizerFast.from_pretrained(tmp_path)
    split = prepared(tokenizer, [*TEXTS[:6], "it was a [MASK] day"], task)
    batch = split.varied(np.arange(7), task, seed=1, epoch=0)
    inputs = {name: tensor for name, tensor in batch.inputs.items() if name not in ("hidden", "read")}
    inputs["input_ids"] = batch["read"]
    labels = torch.where(batch["hidden"] >= 0, batch["hidden"], -100)
    stock = model(**inputs, labels=labels)
    (stock.loss * (labels >= 0).sum()).backward()
    expected = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
    assert unpad(model) is None
    with known_lengths_of(batch, task):
        logits, told = task._guessed(model, batch.inputs)
    assert logits.shape == (int((labels >= 0).sum()), model.config.vocab_size)
    assert torch.allclose(logits, stock.logits[labels >= 0], atol=1e-5)
    assert told.tolist() == labels[labels >= 0].tolist()
    for groups in ([np.arange(7)], [np.arange(2), np.arange(2, 7)]):
        total, count, found = loss_and_gradients(
            model, task, [split.varied(one, task, seed=1, epoch=0) for one in groups]
        )
        assert total / count == pytest.approx(float(stock.loss.detach()), abs=1e-5)
        assert max(float((found[name] - one).abs().max()) for name, one in expected.items()) < 1e-5
    assert loss_and_gradients(model, task, [split.empty_batch()])[:2] == (0.0, 0.0)


def test_evaluations_hide_the_same_and_score_every_token_once(folder: Path, tokenizer: Any) -> None:
    task, model = MaskedLM(), AutoModelForMaskedLM.from_pretrained(folder).eval()
    texts = [*TEXTS[:20], "it was a [MASK] day"]
    split = prepared(tokenizer, texts, task, max_length=12, overflow="window", stride=4)
    features = split.features
    backwards = prepared(tokenizer, texts[::-1], task, max_length=12, overflow="window").features
    assert features.input["hidden"].sum() == backwards.input["hidden"].sum()
    chosen = np.random.default_rng(2).permutation(features.num_features)
    found = run(model, features, task=task, chosen=chosen, max_tokens=100, scores_targets=True)
    merged = task.merge(found, features)
    judged = task.judge(merged, features)
    windows = features.input["word"] >= 0
    assert windows.sum() == sum(len(tokenizer.tokenize(text)) for text in texts), (
        "each token once, whatever windows overlap"
    )
    assert judged.total.sum() == (np.asarray(features.input["hidden"]) >= 0).sum()
    mask = np.asarray(features.input["input_ids"]) == tokenizer.mask_token_id
    assert mask.any()
    assert (np.asarray(features.input["hidden"])[mask] == -1).all(), "nobody knows what it hides"
    batch = split.batch(np.arange(features.num_features))
    total, count, _ = loss_and_gradients(model, task, [batch])
    outputs, targets = (
        {k: torch.from_numpy(v) for k, v in part.items()} for part in task.merged_batch(merged, features)
    )
    assert float(task.loss_sum(outputs, targets)) == pytest.approx(total, abs=1e-3)
    assert float(task.count(targets)) == count
    accuracy, perplexity = (one.finish(one.statistic(judged).sum(axis=0)) for one in task.metrics())
    assert perplexity == pytest.approx(np.exp(total / count), rel=1e-5)
    assert accuracy == judged.correct.sum() / count


def test_answers_are_those_of_fill_mask(folder: Path, tokenizer: Any) -> None:
    torch.manual_seed(0)  # its head is new; another seed may guess a special token, which the sequence leaves out
    task, model = MaskedLM(mask_token="[MASK]"), AutoModelForMaskedLM.from_pretrained(folder).eval()
    encoder = Encoder(tokenizer, max_length=64)
    texts = ["the [MASK] was good.", "a [MASK] and a [MASK] day", "no mask here"]
    features = task.asked(task.encode({"text": texts}, encoder), encoder, {"top_k": 3})
    merged = task.merge(run(model, features, task=task, chosen=np.arange(3), max_tokens=999), features)
    asked = Requests([{"text": text} for text in texts], features, encoder)
    one, two, none = task.answers(merged, asked, top_k=3)
    with torch.no_grad():
        logits = model(**tokenizer(texts[0], return_tensors="pt")).logits[0, 2].softmax(dim=-1)
    best = logits.topk(3)
    assert [guess["token"] for guess in one] == best.indices.tolist()
    assert [guess["score"] for guess in one] == pytest.approx(best.values.tolist(), abs=1e-6)
    filled = texts[0].replace("[MASK]", one[0]["token_str"]).replace(" ##", "")
    assert one[0]["sequence"] == filled
    assert [len(guesses) for guesses in two] == [3, 3]
    assert none == []
    assert task.answer_cells(two, {})[0] == f"{two[0][0]['token_str']} {two[1][0]['token_str']}"


def test_blocks_are_all_texts_in_their_order(tokenizer: Any) -> None:
    task = MaskedLM(blocks=True)
    texts = ["it was good", "anna", "", "films boring it was a very warm and lovely day", "the end"]
    rows = Rows(
        Dataset.from_dict({"text": texts}), "train", encoder=Encoder(tokenizer, max_length=10, overflow="truncate")
    )
    features = task.supervise(rows, task.encode({"text": texts}, rows.encoder))
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    ids, starts = features.input["input_ids"], features.input.starts
    blocks = [ids[begin:end].tolist() for begin, end in itertools.pairwise(starts)]
    assert [len(block) for block in blocks[:-1]] == [10] * (len(blocks) - 1)
    assert all(block[0] == first and block[-1] == last for block in blocks)
    flat = [token for block in blocks for token in block[1:-1]]
    whole = tokenizer(f" {tokenizer.sep_token} ".join(text for text in texts if text), add_special_tokens=False)
    assert flat == whole["input_ids"]
    words = features.input["word"]
    assert (words[np.isin(ids, [first, last])] == -1).all()
    assert len(set(words.tolist())) - 1 == sum(len(text.split()) for text in texts)
    assert features.num_examples == features.num_features == len(blocks)
    hidden = np.asarray(features.input["hidden"])
    assert (np.where(hidden >= 0, hidden, features.input["read"]) == ids).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"share": 0.0}, "task.share: expected a share in (0, 1], found 0.0"),
        ({"masked": 1.5}, "task.masked: expected a share in [0, 1]"),
        ({"masked": 0.8, "replaced": 0.3}, "expected a sum of 1 at most, found 1.1"),
    ],
)
def test_wrong_shares_are_refused(options: dict[str, float], said: str) -> None:
    with pytest.raises(RecipeError) as refused:
        MaskedLM(**options)
    assert said in str(refused.value)


def test_preprocessing_must_keep_the_mask(tokenizer: Any) -> None:
    encoder = Encoder(tokenizer, steps=(Lowercase(),), max_length=64)
    with pytest.raises(RecipeError, match=r"expected steps that keep the mask \[MASK\], found 'it \[mask\] so'"):
        MaskedLM().fit(Rows(Dataset.from_dict({"text": ["a"]}), "train", encoder=encoder))


def test_a_tokenizer_without_a_mask_is_refused(folder: Path) -> None:
    plain = BertTokenizerFast(str(folder / "vocab.txt"), mask_token=None)
    with pytest.raises(RecipeError, match="expected a tokenizer with a mask token, found BertTokenizer"):
        prepared(plain, ["a"], MaskedLM())
