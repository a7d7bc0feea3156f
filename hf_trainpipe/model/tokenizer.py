"""Load the tokenizer of a model and check it against the model's embedding."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import RecipeError
from hf_trainpipe.model.marian import fast_marian
from hf_trainpipe.model.names import from_pretrained, load_config, load_options, text_config
from hf_trainpipe.utils.brief import listed

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Pretrained

FEW = 16
"""Minimum number of tokens that are not special. transformers makes up a tokenizer of special tokens alone for a folder
without one."""


def load_tokenizer(model: Pretrained) -> Any:
    """The fast tokenizer of a model; without a padding token it pads with another special token.

    If it has no special tokens either, it pads with id 0: attention masks cover it, which is checked when the weights are
    loaded.

    Raises:
        RecipeError: there is no tokenizer, its vocabulary is empty, or it is a slow one.
    """
    from transformers import AutoTokenizer

    field = "model.tokenizer" if model.tokenizer else "model.name"
    name = model.tokenizer or model.name
    options = load_options(model) if model.tokenizer is None else {}
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Recommended: pip install sacremoses"
        )  # Marian's, for what nothing here calls
        tokenizer = from_pretrained(AutoTokenizer, name, what="tokenizer", field=field, **options)
    if type(tokenizer).__name__ == "MarianTokenizer":
        tokenizer = fast_marian(tokenizer)
    if not tokenizer.is_fast:
        raise RecipeError(
            f"model.tokenizer: expected a fast tokenizer, found the slow {type(tokenizer).__name__}.",
            fix="Convert it to tokenizer.json, or choose a model that has one.",
        )
    _refuse_empty(tokenizer, name=name, field=field)
    if tokenizer.pad_token is None:
        own = getattr(load_config(model), "pad_token_id", None) if model.tokenizer is None else None
        known = tokenizer.convert_ids_to_tokens(own) if isinstance(own, int) and 0 <= own < len(tokenizer) else None
        special = next(iter(tokenizer.all_special_tokens), None)
        chosen = tokenizer.eos_token or tokenizer.unk_token or known or special
        if chosen is not None:
            tokenizer.pad_token = chosen
    if getattr(load_config(model), "is_encoder_decoder", False):
        # BART, T5 and others classify at the end token and refuse batches with different numbers of it. So an end token
        # written in a text is encoded as ordinary text; the package saves this setting with the tokenizer.
        tokenizer.split_special_tokens = tokenizer.init_kwargs["split_special_tokens"] = True
        tokenizer.backend_tokenizer.encode_special_tokens = True
    return tokenizer


def _refuse_empty(tokenizer: Any, *, name: str, field: str) -> None:
    backend = tokenizer.backend_tokenizer
    special = set(tokenizer.all_special_tokens)
    words = [
        token
        for token in backend.get_vocab(with_added_tokens=False)
        if token not in special and len(token.strip("▁")) > 0
    ]
    if len(words) >= FEW:
        return
    found = f"only {len(tokenizer)} special tokens" if not words else f"{len(words)} tokens that are not special"
    raise RecipeError(
        f"{field}: {name!r} has no tokenizer: its vocabulary has {found}, so that every word would be unknown.",
        fix="Put tokenizer.json and tokenizer_config.json into the model folder (tokenizer.save_pretrained(FOLDER)), or set\n"
        "model.tokenizer to the model that the tokenizer comes from.",
    )


def check_tokenizer(tokenizer: Any, config: Any, *, rows: int | None) -> list[str]:
    """Check a tokenizer against the model's embedding.

    Args:
        rows: Rows of the word embedding; None: unknown.

    Returns:
        Warnings.

    Raises:
        RecipeError: an id of its vocabulary, or of a special token that it adds to texts, has no row.
    """
    warnings: list[str] = []
    if rows is not None:
        vocabulary = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False)
        largest = max(vocabulary.values(), default=0)
        around = list(tokenizer.backend_tokenizer.encode("").ids)  # special tokens added to every text
        around = [*around, *([tokenizer.pad_token_id] if tokenizer.pad_token_id is not None else [])]
        beyond = {token: number for token, number in tokenizer.get_vocab().items() if number >= rows}
        if largest >= rows or any(number >= rows for number in around):
            raise RecipeError(
                f"model.tokenizer: the model's embedding has {rows:,} rows, the tokenizer has ids up to "
                f"{max([largest, *around]):,} ({len(beyond):,} tokens have no row, such as {next(iter(beyond))!r}).",
                fix="The tokenizer belongs to another model: set model.tokenizer to the right one. If you added tokens,\n"
                "call model.resize_token_embeddings(len(tokenizer)) and save both.",
            )
        if beyond:  # added tokens
            shown = listed(sorted(beyond, key=lambda token: beyond[token]), 5, quoted=True)
            warnings.append(f"tokens without a row in the model's embedding, which must not occur in texts: {shown}")
    own = getattr(text_config(config), "pad_token_id", None)
    if own is not None and tokenizer.pad_token_id is not None and own != tokenizer.pad_token_id:
        warnings.append(
            f"padding is id {own} in the model's config.json and {tokenizer.pad_token_id} in its tokenizer: they may "
            "belong to different models"
        )
    return warnings
