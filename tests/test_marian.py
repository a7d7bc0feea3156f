"""Fast tokenizers of Marian models cut texts as the slow one does."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from hf_trainpipe import Pretrained, Translation
from hf_trainpipe.data.rows import Rows
from hf_trainpipe.model.tokenizer import load_tokenizer
from hf_trainpipe.runtime.tokens.encoder import Encoder
from hf_trainpipe.testing import tiny_seq2seq

spm = pytest.importorskip("sentencepiece")

ENGLISH = [
    "a",
    "man",
    "and",
    "two",
    "dogs",
    "are",
    "playing",
    "in",
    "the",
    "snow",
    "while",
    "an",
    "old",
    "woman",
    "reads",
    "her",
    "newspaper",
    "on",
    "the",
    "train",
]
GERMAN = [
    "ein",
    "Mann",
    "und",
    "zwei",
    "Hunde",
    "spielen",
    "im",
    "Schnee",
    "während",
    "eine",
    "alte",
    "Frau",
    "im",
    "Zug",
    "ihre",
    "Zeitung",
    "liest",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Marian model as it lies on the Hub: two SentencePiece models, vocab.json, no tokenizer.json."""
    place: Path = tmp_path_factory.mktemp("marian")
    tiny_seq2seq(place, kind="marian")
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (place / name).unlink(missing_ok=True)
    draws, pieces = random.Random(3), ["</s>", "<unk>"]
    for name, words in (("source", ENGLISH), ("target", GERMAN)):
        texts = [" ".join(draws.choices(words, k=8)) for _ in range(300)]
        (place / f"{name}.txt").write_text("\n".join(texts))
        spm.SentencePieceTrainer.train(
            input=str(place / f"{name}.txt"),
            model_prefix=str(place / name),
            vocab_size=60,
            hard_vocab_limit=False,
            minloglevel=2,
        )
        (place / f"{name}.model").rename(place / f"{name}.spm")
        model = spm.SentencePieceProcessor(model_file=str(place / f"{name}.spm"))
        pieces += [model.id_to_piece(number) for number in range(3, model.get_piece_size())]
    known = {piece: number for number, piece in enumerate(dict.fromkeys([*pieces, ">>deu<<", "<pad>"]))}
    (place / "vocab.json").write_text(json.dumps(known, ensure_ascii=False))
    (place / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "MarianTokenizer", "model_max_length": 64})
    )
    return place


@pytest.mark.filterwarnings("ignore:Recommended")
def test_a_fast_marian_is_the_slow_one(folder: Path) -> None:
    from transformers import MarianTokenizer

    slow: Any = MarianTokenizer.from_pretrained(folder)
    fast = load_tokenizer(Pretrained(str(folder)))
    draws = random.Random(5)
    for _ in range(200):
        gaps = draws.choices([" ", "  ", " \u00a0"], k=9)
        english, german = (
            "".join(word + gap for word, gap in zip(draws.choices(words, k=9), gaps, strict=True))
            for words in (ENGLISH, GERMAN)
        )
        assert fast(english).input_ids == slow(english).input_ids
        expected = slow(text_target=german).input_ids
        assert fast.target_tokenizer(german).input_ids == expected
        assert fast.decode(expected, skip_special_tokens=True) == slow.decode(expected, skip_special_tokens=True)
    assert fast(">>deu<< a man").input_ids == slow(">>deu<< a man").input_ids
    assert fast("a </s> man").input_ids.count(slow.eos_token_id) == 1, "an end that a text writes is no end"


def test_targets_are_cut_by_their_own_pieces(folder: Path) -> None:
    fast = load_tokenizer(Pretrained(str(folder)))
    rows = Rows(
        Dataset.from_list([{"source": "a man", "target": "ein Mann"}]), "train", encoder=Encoder(fast, max_length=32)
    )
    task = Translation(target_max_length=32)
    features = task.supervise(rows, task.encode(rows.inputs(task), rows.encoder))
    assert features.streams["source"]["input_ids"].tolist() == fast("a man").input_ids
    assert features.streams["target"]["labels"].tolist() == fast.target_tokenizer("ein Mann").input_ids
