"""A tokenizer that does not match the model is refused before data is read; maximum lengths come from the model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from hf_trainpipe import Pretrained, TextClassification, replace
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.model.lengths import look_up, usable_length
from hf_trainpipe.model.limits import FIRST_POSITIONS, model_limits, plainly_takes
from hf_trainpipe.model.tokenizer import load_tokenizer
from hf_trainpipe.testing import tiny_model

TASK = TextClassification("text", label="label")
SMALL = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
         "max_position_embeddings": 66, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}  # fmt: skip


class Unlimited:
    model_max_length = int(1e30)


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("bert", {}, 66),
        ("roberta", {}, 64),
        ("xlm-roberta", {}, 64),
        ("camembert", {}, 64),
        ("data2vec-text", {}, 64),
        ("roberta-prelayernorm", {}, 64),
        ("ibert", {}, 64),
        ("longformer", {"attention_window": 8}, 64),
        ("luke", {"entity_vocab_size": 10, "entity_emb_size": 8}, 64),
        ("mpnet", {}, 64),  # positions from a table, and relative ones in buckets
        ("nystromformer", {}, 66),  # counts from 2, and its table has two rows more
        ("albert", {"embedding_size": 16}, 66),
        ("gpt2", {"n_positions": 66, "n_embd": 32, "n_layer": 2, "n_head": 2}, 66),
        ("opt", {"ffn_dim": 64, "word_embed_proj_dim": 32}, 66),
        (
            "xlnet",
            {"max_position_embeddings": None, "d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64},
            512,
        ),  # says -1: no limit
        ("t5", {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 2, "n_positions": None}, 66),
        ("modernbert", {"cls_token_id": 3, "sep_token_id": 4}, 66),  # rotary
    ],
)
def test_the_usable_length_is_read_off_the_model(kind: str, options: dict[str, Any], expected: int) -> None:
    config = AutoConfig.for_model(kind, **{k: v for k, v in {**SMALL, **options}.items() if v is not None})
    if kind == "xlnet":
        assert config.max_position_embeddings == -1
    tables = look_up(Pretrained("x"), TASK, config)
    assert usable_length(config, Unlimited(), tables.positions) == expected
    assert tables.words == 100


def copy_of(folder: Path, *names: str, to: Path) -> str:
    to.mkdir()
    for name in names:
        shutil.copy(folder / name, to / name)
    return str(to)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("bert"))


def test_what_a_model_plainly_takes_is_what_its_tokenizer_and_its_positions_allow(bert: Path, tmp_path: Path) -> None:
    model = Pretrained(copy_of(bert, "config.json", "model.safetensors", "tokenizer.json", to=tmp_path / "model"))
    told = json.loads((bert / "tokenizer_config.json").read_text())
    by_positions = AutoConfig.from_pretrained(bert).max_position_embeddings - FIRST_POSITIONS
    for longest, most in ((20, 20), (10_000, by_positions)):
        (tmp_path / "model/tokenizer_config.json").write_text(json.dumps({**told, "model_max_length": longest}))
        assert plainly_takes(model, most)
        assert not plainly_takes(model, most + 1)
        assert model_limits(model, TASK, load_tokenizer(model)).limit >= most
    assert not plainly_takes(replace(model, tokenizer=str(bert)), 1)
    bare = copy_of(bert, "config.json", "model.safetensors", to=tmp_path / "bare")
    assert not plainly_takes(Pretrained(bare), 1)  # the tokenizer is looked at, and refused


def test_a_folder_without_tokenizer_files_is_refused(bert: Path, tmp_path: Path) -> None:
    bare = copy_of(bert, "config.json", "model.safetensors", to=tmp_path / "bare")
    with pytest.raises(RecipeError, match=r"model.name: .*bare' has no tokenizer: .* only 5 special tokens"):
        load_tokenizer(Pretrained(bare))
    with pytest.raises(RecipeError, match=r"model.tokenizer: .*bare' has no tokenizer"):
        load_tokenizer(Pretrained(str(bert), tokenizer=bare))
    AutoConfig.for_model("gpt2").save_pretrained(tmp_path / "gpt2")
    with pytest.raises(RecipeError, match="has no tokenizer"):
        load_tokenizer(Pretrained(str(tmp_path / "gpt2")))


def test_a_tokenizer_of_another_model_is_refused(bert: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    AutoModel.from_config(
        AutoConfig.for_model("bert", **{**SMALL, "vocab_size": 60, "pad_token_id": 0})
    ).save_pretrained(small)
    model = Pretrained(str(small), tokenizer=str(bert))
    with pytest.raises(RecipeError, match=r"the model's embedding has 60 rows, the tokenizer has ids up to \d+"):
        model_limits(model, TASK, load_tokenizer(model))


def test_added_tokens_without_a_row(bert: Path) -> None:
    model = Pretrained(str(bert))
    tokenizer = load_tokenizer(model)
    tokenizer.add_tokens(["<one row is free>", "<image>"])
    (line,) = model_limits(model, TASK, tokenizer).warnings
    assert "'<image>'" in line
    tokenizer.add_special_tokens({"pad_token": "<new pad>"})
    with pytest.raises(RecipeError, match="'<"):
        model_limits(model, TASK, tokenizer)


def plain(folder: Path, **tokens: str) -> Pretrained:
    """A model of words whose tokenizer has only these special tokens."""
    words = {word: number for number, word in enumerate(["<a>", "<b>", *(f"w{i}" for i in range(30))])}
    backend = Tokenizer(models.WordLevel(words, unk_token=tokens.get("unk_token")))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=backend, **tokens).save_pretrained(folder)
    options = {"n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2}
    AutoConfig.for_model("gpt2", vocab_size=32, bos_token_id=None, eos_token_id=None, **options).save_pretrained(folder)
    return Pretrained(str(folder))


def test_padding_takes_another_special_token_or_id_0(tmp_path: Path) -> None:
    assert load_tokenizer(plain(tmp_path / "eos", eos_token="<b>")).pad_token == "<b>"
    assert load_tokenizer(plain(tmp_path / "bos", bos_token="<b>")).pad_token == "<b>"
    model = plain(tmp_path / "none")
    assert load_tokenizer(model).pad_token is None
    path = tmp_path / "none" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pad_token_id": 1}))
    assert load_tokenizer(model).pad_token == "<b>"
