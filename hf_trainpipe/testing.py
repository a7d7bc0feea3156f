"""A tiny model, its tokenizer and texts, generated: for tests and experiments without a network."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Literal

GOOD = ("bright", "fine", "good", "kind", "lovely", "warm")
BAD = ("awful", "bad", "cold", "dull", "mean", "poor")
PLAIN = ("a", "and", "day", "film", "it", "of", "people", "story", "the", "this", "very", "was", "with")
NAMES = ("anna", "boris", "carla", "dmitri")
PLACES = ("berlin", "lagos", "lima", "osaka")
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
