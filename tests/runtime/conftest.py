"""A tiny BERT and its WordPiece tokenizer, made by code, and package folders around them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    PreTrainedTokenizerFast,
)

import hf_trainpipe.runtime
from hf_trainpipe.runtime.handler.endpoint import ROOT_HANDLER
from hf_trainpipe.runtime.safety import files, schema
from hf_trainpipe.runtime.tasks.about import about
from hf_trainpipe.runtime.tasks.older import task_of_decoder

os.environ["TOKENIZERS_PARALLELISM"] = "false"

PIECES = ["the", "cat", "dog", "sat", "good", "bad", "anna", "rome", "left", ".", ",", "!", "[", "]", "url"]
LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
MakePackage = Callable[..., Path]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *PIECES, *LETTERS, *(f"##{x}" for x in LETTERS)]
    vocab = {name: number for number, name in enumerate(dict.fromkeys(names))}
    backend = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=1000))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


@pytest.fixture(scope="session")
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Like RoBERTa's: byte-level BPE, no space put before the first word, no token types."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {name: number for number, name in enumerate(["<s>", "<pad>", "</s>", "<unk>", *alphabet, "ca", "cat"])}
    vocab["\u0120c"] = len(vocab)
    backend = Tokenizer(models.BPE(vocab, [("c", "a"), ("ca", "t"), ("\u0120", "c")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.RobertaProcessing(
        ("</s>", vocab["</s>"]), ("<s>", vocab["<s>"]), add_prefix_space=False
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        model_input_names=["input_ids", "attention_mask"],
    )


def tiny_config(vocab_size: int, labels: list[str]) -> BertConfig:
    return BertConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        num_labels=len(labels) or 1,
        initializer_range=0.5,  # outputs that differ
        id2label=dict(enumerate(labels or ["score"])),
    )


@pytest.fixture(scope="session")
def make_model(tokenizer: PreTrainedTokenizerFast) -> Callable[..., Any]:
    def make(labels: list[str], *, level: str = "sequence") -> Any:
        torch.manual_seed(0)
        kind = BertForTokenClassification if level == "token" else BertForSequenceClassification
        return kind(tiny_config(len(tokenizer), labels)).eval()

    return make


@pytest.fixture
def make_package(tmp_path: Path, tokenizer: PreTrainedTokenizerFast, make_model: Callable[..., Any]) -> MakePackage:
    """Write a package folder by hand, with a copy of the runtime and the root handler."""

    def make(
        *,
        kind: str = "single_label",
        labels: tuple[str, ...] = ("negative", "positive"),
        options: dict[str, Any] | None = None,
        inputs: str = "text",
        name: str = "package",
        **fields: Any,
    ) -> Path:
        folder = tmp_path / name
        make_model(list(labels), level="token" if kind == "tags" else "sequence").save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        runtime = Path(str(hf_trainpipe.runtime.__file__)).parent
        shutil.copytree(runtime, folder / "trainpipe_runtime", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "handler.py").write_text(ROOT_HANDLER, encoding="utf-8")
        decoder = {"kind": kind, "labels": list(labels), "options": options or {}}
        task = task_of_decoder({"decoder": decoder, "inputs": inputs, "splitter": fields.pop("splitter", None)})
        info = schema.PackageInfo(
            name=name,
            task=task.to_json(),
            about=about(task),
            tokens=fields.pop("tokens", {"max_length": 32, "overflow": "truncate", "stride": 4}),
            **fields,
        )
        schema.write(folder, info)
        seal(folder)
        return folder

    return make


def seal(folder: Path) -> None:
    """List what is in the package, with its hashes: what an attacker would do, too."""
    content = json.loads((folder / schema.FILE_NAME).read_text())
    names = [name for name, _ in files.walk(folder) if name != schema.FILE_NAME]
    content["files"] = {
        name: {"size": (folder / name).stat().st_size, "sha256": files.hash_file(folder / name)} for name in names
    }
    (folder / schema.FILE_NAME).write_text(json.dumps(content))
