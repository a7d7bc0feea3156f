"""A tiny model, its tokenizer and texts, generated: for tests and experiments without a network."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

GOOD = ("bright", "fine", "good", "kind", "lovely", "warm")
BAD = ("awful", "bad", "cold", "dull", "mean", "poor")
PLAIN = ("a", "and", "day", "film", "it", "of", "people", "story", "the", "this", "very", "was", "with")
NAMES = ("anna", "boris", "carla", "dmitri")
PLACES = ("berlin", "lagos", "lima", "osaka")
_LAYERS = {"layers": 1, "attention_heads": 2, "ffn_dim": 64}
PIECES = ("##s", "##ed", "##ing", "##er", "##ly", "##a", "##b", "##c", "##d", "##e")


def _vocabulary() -> list[str]:
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    digits = [str(digit) for digit in range(10)]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*GOOD, *BAD, *PLAIN, *NAMES, *PLACES]
    return [*special, *words, *PIECES, *letters, *(f"##{c}" for c in letters if f"##{c}" not in PIECES),
            *digits, ".", ",", "!", "?", "'", "-"]  # fmt: skip


def tiny_model(
    folder: Path,
    *,
    kind: Literal["bert", "roberta", "distilbert"] = "bert",
    layers: int = 2,
) -> Path:
    """Write a model with random weights (about 30,000 parameters, from a fixed seed) and its tokenizer.

    Returns:
        ``folder``, which ``from_pretrained`` loads.
    """
    import torch
    from transformers import AutoConfig, AutoModel, BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = _vocabulary()
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    sizes = {"vocab_size": len(vocabulary), "pad_token_id": 0, "hidden_size": 32, "num_attention_heads": 2}
    own: dict[str, dict[str, float]] = {
        "bert": {"intermediate_size": 64, "max_position_embeddings": 66, "type_vocab_size": 2},
        "roberta": {"intermediate_size": 64, "max_position_embeddings": 66, "type_vocab_size": 1},
        "distilbert": {"hidden_dim": 64, "max_position_embeddings": 64, "seq_classif_dropout": 0.1},
    }
    config = AutoConfig.for_model(kind, num_hidden_layers=layers, **sizes, **own[kind])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = AutoModel.from_config(config)
    model.save_pretrained(folder)
    names = ["input_ids", "attention_mask"] + (["token_type_ids"] if kind == "bert" else [])
    tokenizer = BertTokenizerFast(
        str(folder / "vocab.txt"), do_lower_case=True, model_max_length=64, model_input_names=names
    )
    tokenizer.save_pretrained(folder)
    return folder


def tiny_seq2seq(folder: Path, *, kind: Literal["t5", "bart", "marian"] = "t5") -> Path:
    """Write an encoder-decoder with random weights (from a fixed seed) and the tokenizer of :func:`tiny_model`.

    Returns:
        ``folder``, which ``from_pretrained`` loads.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSeq2SeqLM, BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = _vocabulary()
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    tokenizer = BertTokenizerFast(
        str(folder / "vocab.txt"),
        do_lower_case=True,
        model_max_length=64,
        eos_token="[SEP]",
        model_input_names=["input_ids", "attention_mask"],
    )
    tokenizer.save_pretrained(folder)
    end = tokenizer.sep_token_id
    ids = {"pad_token_id": 0, "eos_token_id": end, "bos_token_id": tokenizer.cls_token_id}
    like_bart = {
        **{f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in _LAYERS.items()},
        "d_model": 32,
        "max_position_embeddings": 64,
        "init_std": 0.3,
    }
    own: dict[str, dict[str, float]] = {
        "t5": {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0},
        "bart": {**like_bart, "decoder_start_token_id": end, "forced_bos_token_id": tokenizer.cls_token_id},
        "marian": {**like_bart, "decoder_start_token_id": 0},
    }
    config = AutoConfig.for_model(kind, vocab_size=len(vocabulary), **ids, **own[kind])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = AutoModelForSeq2SeqLM.from_config(config)
    model.save_pretrained(folder)
    return folder


TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ m['content'] }}{% else %}<|{{ m['role'] }}|>{{ m['content'] }}{% endif %}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""The chat template of :func:`tiny_causal_model`."""


def tiny_causal_model(folder: Path, *, layers: int = 2) -> Path:
    """Write a causal model (Llama's architecture, heads that share keys) with random weights and a tokenizer of the same words.

    Returns:
        ``folder``, which ``from_pretrained`` loads.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "</s>", "<unk>", "<|user|>", "<|assistant|>"]
    characters = sorted({*map(chr, range(32, 127)), "\n"})
    words = [f" {word}" for word in (*GOOD, *BAD, *PLAIN, *NAMES, *PLACES)]
    vocabulary = {token: number for number, token in enumerate([*special, *characters])}
    merges: list[tuple[str, str]] = []
    for word in words:  # each word is built letter by letter, from its space on
        for end in range(1, len(word)):
            if word[: end + 1] not in vocabulary:
                vocabulary[word[: end + 1]] = len(vocabulary)
                merges.append((word[:end], word[end]))
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_next")
    backend.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        additional_special_tokens=["<|user|>", "<|assistant|>"], model_max_length=64,
    )  # fmt: skip
    tokenizer.chat_template = TEMPLATE
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        tie_word_embeddings=True,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_rows(count: int, *, seed: int = 0) -> list[dict[str, str]]:
    """``{"text", "label"}`` rows that a tiny model can learn: good words against bad ones."""
    generator = random.Random(seed)
    rows = []
    for _ in range(count):
        label = generator.choice(("negative", "positive"))
        marked = generator.choices(GOOD if label == "positive" else BAD, k=generator.randint(1, 3))
        words = [*generator.choices(PLAIN, k=generator.randint(2, 20)), *marked]
        generator.shuffle(words)
        rows.append({"text": " ".join(words) + ".", "label": label})
    return rows


def write_rows(file: Path, rows: Iterable[Mapping[str, str]]) -> Path:
    """Write ``{"text", "label"}`` rows as a csv file; the file."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["text", "label"])
        writer.writeheader()
        writer.writerows(rows)
    return file


def tiny_tagged(count: int, *, seed: int = 0) -> list[dict[str, list[str]]]:
    """``{"tokens", "tags"}`` rows with persons and places in BIO tags; some names have two words."""
    generator = random.Random(seed)
    rows = []
    for _ in range(count):
        tokens: list[str] = []
        tags: list[str] = []
        for _ in range(generator.randint(2, 6)):
            plain = generator.choices(PLAIN, k=generator.randint(1, 4))
            kind, words = generator.choice((("person", NAMES), ("place", PLACES)))
            entity = generator.choices(words, k=generator.randint(1, 2))
            tokens += [*plain, *entity]
            tags += ["O"] * len(plain) + [f"B-{kind}"] + [f"I-{kind}"] * (len(entity) - 1)
        rows.append({"tokens": tokens, "tags": tags})
    return rows
