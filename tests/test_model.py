"""Model and tokenizer of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformers import AutoConfig, AutoTokenizer

from hf_trainpipe.model.tokenizer import load_tokenizer
from hf_trainpipe.recipe import Pretrained
from hf_trainpipe.runtime.tokens.encoding import TextEncoder
from hf_trainpipe.testing import tiny_model

if TYPE_CHECKING:
    from pathlib import Path


def test_an_end_token_inside_a_text_is_text_where_the_end_token_decides(tmp_path: Path) -> None:
    """BART and T5 answer at it and refuse batches with unequal numbers of it. The package's tokenizer keeps the rule."""
    folder = tiny_model(tmp_path / "model")
    assert (
        len(TextEncoder(load_tokenizer(Pretrained(str(folder))), max_length=9).texts(["good [SEP]"]).input["input_ids"])
        == 4
    )
    AutoConfig.for_model("bart").save_pretrained(folder)
    ours = load_tokenizer(Pretrained(str(folder)))
    ours.save_pretrained(tmp_path / "package")
    packaged = AutoTokenizer.from_pretrained(tmp_path / "package")
    for tokenizer in (ours, packaged):
        [*ids] = TextEncoder(tokenizer, max_length=20).texts(["good [SEP]"]).input["input_ids"]
        assert ids.count(tokenizer.sep_token_id) == 1
