"""Heads and adapters of every architecture and kind of task come back exactly, and merged weights answer as they do."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from hf_trainpipe import Lora, Pretrained
from hf_trainpipe.model import lora as adapters
from hf_trainpipe.model.adapter import Adapter

_ENCODER = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 24}
_BOTH = {f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in
         {"layers": 1, "attention_heads": 2, "ffn_dim": 24}.items()}  # fmt: skip
SIZES: dict[str, dict[str, Any]] = {
    "bert": _ENCODER,
    "roberta": _ENCODER,
    "distilbert": {"dim": 16, "n_heads": 2, "n_layers": 1, "hidden_dim": 24},
    "mpnet": _ENCODER,
    "modernbert": {**_ENCODER, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1},
    "llama": {**_ENCODER, "tie_word_embeddings": True},
    "gpt2": {"n_embd": 16, "n_head": 2, "n_layer": 1},
    "t5": {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0},
    "bart": {"d_model": 16, **_BOTH},
}
ENCODERS = ("bert", "roberta", "distilbert", "mpnet", "modernbert")
KINDS = {
    "SequenceClassification": (*ENCODERS, "llama", "gpt2", "t5", "bart"),
    "TokenClassification": (*ENCODERS, "llama", "t5"),
    "QuestionAnswering": (*ENCODERS, "t5", "bart"),
    "MultipleChoice": ENCODERS,
    "MaskedLM": ENCODERS,
    "CausalLM": ("llama", "gpt2"),
    "Seq2SeqLM": ("t5", "bart"),
}
SETTINGS = {
    "plain": Lora(rank=2),
    "rank-stabilised": Lora(rank=3, rank_stabilised=True, alpha=4),
    "dora": Lora(rank=2, dora=True),
}


def made(architecture: str, kind: str) -> Any:
    config = transformers.AutoConfig.for_model(
        architecture,
        vocab_size=40,
        max_position_embeddings=32,
        pad_token_id=0,
        num_labels=2,
        eos_token_id=2,
        **SIZES[architecture],
    )
    return getattr(transformers, f"AutoModelFor{kind}").from_config(config).eval()


def outputs(model: Any, kind: str) -> torch.Tensor:
    ids = torch.arange(4, 24).view(2, 10)
    ids[:, -1] = 2
    asked = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if kind == "MultipleChoice":
        asked = {name: tensor[None] for name, tensor in asked.items()}
    if kind == "Seq2SeqLM":
        asked["decoder_input_ids"] = ids[:, :4]
    with torch.no_grad():
        found: torch.Tensor = model(**asked)[0]
    return found


CASES = [(kind, one) for kind, some in KINDS.items() for one in some]
VARIED = [(*case, variant) for place, case in enumerate(CASES) for variant in ("plain", [*SETTINGS][1 + place % 2])]


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize(("kind", "architecture", "variant"), VARIED)
def test_heads_and_adapters_come_back(kind: str, architecture: str, variant: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    lora = SETTINGS[variant]
    base = made(architecture, kind)
    model, other = copy.deepcopy(base), copy.deepcopy(base)
    adapters.adapt(model, lora)
    head = adapters.head_of(base)
    assert bool(head) is (kind not in ("MaskedLM", "CausalLM", "Seq2SeqLM"))
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name for name in trained if not adapters.is_of_adapter(name)} == head
    with torch.no_grad():
        for parameter in trained.values():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
        for name, parameter in other.named_parameters():
            if name in head:
                parameter.normal_()  # the head of another run
    expected = outputs(model, kind)

    save_file(adapters.held(model), tmp_path / "held.safetensors")
    again = copy.deepcopy(other)
    adapters.adapt(again, lora)
    again.load_state_dict(load_file(tmp_path / "held.safetensors"), strict=False)
    assert torch.equal(outputs(again, kind), expected), "what a checkpoint holds is all that was learnt"

    assert float((outputs(adapters.merged(model), kind) - expected).abs().max()) < 1e-5
    Adapter.of(model, Pretrained("base", lora=lora)).write(tmp_path / "adapter")
    by_peft = peft.PeftModel.from_pretrained(copy.deepcopy(other), tmp_path / "adapter").eval()
    assert float((outputs(by_peft, kind) - expected).abs().max()) < 1e-5
    assert float((outputs(other, kind) - expected).abs().max()) > 1e-3
