from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from hf_trainpipe.package.card import CardFacts
from hf_trainpipe.package.layout import RECORDED
from hf_trainpipe.package.verify import record
from hf_trainpipe.package.write import write
from hf_trainpipe.runtime.tasks.older import task_of_decoder

if TYPE_CHECKING:
    from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

WORDS = [
    "the",
    "parcel",
    "arrived",
    "on",
    "time",
    "nobody",
    "answers",
    "phone",
    "ada",
    "lovelace",
    "lived",
    "in",
    "london",
    "she",
    "wrote",
    "programs",
    ".",
    ",",
    "!",
]
TEXTS = [
    "The parcel arrived on time.",
    "Nobody answers the phone!",
    "  spaces   and UNKNOWN words ",
    "ada " * 40,
]
SENTENCES = [
    "Ada Lovelace lived in London.",
    {"words": ["She", "wrote", "programs", "."]},
    {"words": ["Ada"] * 30},
]


def tiny_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [
        *special,
        *WORDS,
        *"abcdefghijklmnopqrstuvwxyz",
        *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"),
    ]
    vocabulary = {piece: position for position, piece in enumerate(dict.fromkeys(pieces))}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def tiny_model(labels: tuple[str, ...], *, tagging: bool = False, seed: int = 0) -> Any:
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.5,
        num_labels=max(1, len(labels)),
    )
    return (BertForTokenClassification if tagging else BertForSequenceClassification)(config).eval()


def write_package(
    run: Path, *, kind: str = "single_label", inputs: list[Any] | None = None, seed: int = 0, **changes: Any
) -> Path:
    """A run's folder with its package and recorded predictions of ``inputs``; returns the package."""
    from hf_trainpipe.runtime.handler.predictor import Predictor

    tagging = kind == "tags"
    labels = ("O", "B-PER", "I-PER") if tagging else ("calm", "angry", "sad")
    decoder = {"kind": kind, "labels": list(labels), "options": {"scheme": "BIO"} if tagging else {}}
    run.mkdir(parents=True, exist_ok=True)
    arguments: dict[str, Any] = {
        "model": tiny_model(labels, tagging=tagging, seed=seed),
        "tokenizer": tiny_tokenizer(),
        "task": task_of_decoder({"decoder": decoder, "inputs": "words" if tagging else "text"}),
        "preprocessing_json": [] if tagging else [{"kind": "NormalizeSpace"}],
        "tokens": {"max_length": 16, "overflow": "window", "stride": 4},
        "scores": {
            "validation": {
                "accuracy": {"value": 0.91, "low": 0.88, "high": 0.94, "confidence": 0.95, "n": 400},
                "mcc": {"value": float("nan"), "low": float("nan"), "high": float("nan"), "n": 400},
            }
        },
        "recipe_json": {
            "name": "tiny",
            "data": {"kind": "Files", "train": "/home/somebody/data/train.csv"},
            "optim": {"peak_lr": 5e-5},
            "seed": 17,
        },
        "data_info": {"fingerprint": "f" * 64, "rows": {"train": 100, "validation": 400}},
        "card": CardFacts(
            language="en", license="apache-2.0", dataset="user/messages", dataset_revision="c" * 40,
            train_command="hf-trainpipe train recipes/tiny.py",
        ),
    }  # fmt: skip
    package = write(run / "package", **{**arguments, **changes})
    inputs = inputs or (SENTENCES if tagging else TEXTS)
    record(Predictor.load(package).record(inputs), inputs, run / RECORDED)
    return package


@pytest.fixture(scope="session")
def classifier_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("classifier") / "run"
    write_package(run)
    return run


@pytest.fixture(scope="session")
def tagger_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("tagger") / "run"
    write_package(run, kind="tags")
    return run
