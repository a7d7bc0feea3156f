"""Checks of the model with encoded texts and weights."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from hf_trainpipe.errors import DataError, RecipeError
from hf_trainpipe.model.proof import prove_forward, unknown_lines
from hf_trainpipe.runtime.tokens.features import Features, Ragged, Stream

TOKENIZER = SimpleNamespace(unk_token_id=1, eos_token_id=None, unk_token="[UNK]", num_special_tokens_to_add=lambda _: 2)


def split(*ids: int) -> SimpleNamespace:
    stream = Stream(np.array([0, len(ids) + 2]), {"input_ids": Ragged(np.array([8, *ids, 9]))})
    return SimpleNamespace(features=Features({"input": stream}, np.zeros(1, np.int32), 1))


def test_the_share_of_unknown_tokens_is_reported_by_split() -> None:
    line, warnings = unknown_lines(TOKENIZER, {"train": split(5, 6, 7, 1), "test": split(5, 6)})
    assert line == "unknown     train 25.00%, test 0.00% of the tokens"
    assert warnings == ["train: 25.0% of the tokens are unknown to the tokenizer ([UNK])"]
    with pytest.raises(DataError, match="100% of its tokens are unknown"):
        unknown_lines(TOKENIZER, {"train": split(1, 1, 1)})


def model(kind: str, **more: int) -> torch.nn.Module:
    sizes = {"vocab_size": 40, "num_labels": 2, "bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
    torch.manual_seed(0)
    found: torch.nn.Module = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(kind, **sizes, **more))
    return found


def test_padding_with_a_word_is_safe_where_a_mask_covers_it() -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    bert = model("bert", max_position_embeddings=20, **sizes).train()
    prove_forward(bert, length=20, pad_id=0, pads_with_a_word=True)
    assert bert.training
    with pytest.raises(RecipeError, match="does not take a text of 21 tokens"):
        prove_forward(bert, length=21, pad_id=0, pads_with_a_word=False)
    gpt2 = model("gpt2", n_positions=20, n_embd=16, n_layer=1, n_head=2)
    prove_forward(gpt2, length=20, pad_id=0, pads_with_a_word=False)
    with pytest.raises(RecipeError, match="no padding token"):
        prove_forward(gpt2, length=20, pad_id=0, pads_with_a_word=True)
