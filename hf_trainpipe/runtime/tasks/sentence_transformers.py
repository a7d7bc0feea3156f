"""The files by which sentence-transformers loads a folder as a bi-encoder."""

from __future__ import annotations

import json


def folder_files(
    *, size: int, max_length: int, pooling: str, normalize: bool, query: str, document: str
) -> dict[str, str]:
    """Names and texts of the files.

    Args:
        size: Numbers of a vector.
        max_length: Tokens of a text.
        pooling: ``mean`` or ``cls``.
        normalize: Whether vectors get length 1.
        query: The prompt before a text; ``document`` the one before its pair.
    """
    modules = [("Transformer", ""), ("Pooling", "1_Pooling"), *([("Normalize", "2_Normalize")] if normalize else [])]
    files = {
        "modules.json": [
            {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{name}"}
            for place, (name, path) in enumerate(modules)
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": size,
            "pooling_mode_cls_token": pooling == "cls",
            "pooling_mode_mean_tokens": pooling == "mean",
        },
        "sentence_bert_config.json": {"max_seq_length": max_length, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": {"query": query, "document": document},
            "default_prompt_name": "query" if query and document == query else None,
            "similarity_fn_name": "cosine",
        },
    }
    return {name: json.dumps(value, indent=2) + "\n" for name, value in files.items()}
