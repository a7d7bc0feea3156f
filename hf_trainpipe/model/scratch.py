"""A model from random weights, with a tokenizer trained here: a folder that is then loaded as any other model's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import RecipeError, closest
from hf_trainpipe.recipe import Pretrained, Scratch
from hf_trainpipe.runtime.handler.predictor import quiet
from hf_trainpipe.runtime.tasks.columns import TEXT, TEXTS
from hf_trainpipe.runtime.text.preprocessing import apply
from hf_trainpipe.utils.brief import one_line

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_trainpipe.recipe import Recipe

PAD, BEGIN, END, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"
_CHUNK = 1000
"""Rows read at a time."""


def made_from_scratch(
    recipe: Recipe, folder: Path, *, rows: Dataset | None = None, with_weights: bool = True
) -> Pretrained:
    """The model that a recipe's :class:`~hf_trainpipe.recipe.Scratch` describes, written into a folder.

    The weights follow from the recipe's seed, the tokenizer from its training rows. A folder that is there stays.

    Args:
        rows: What the tokenizer is trained on; None: the training split.
        with_weights: Whether weights are drawn too; a plan does without.

    Raises:
        RecipeError: no such architecture, or a field of its configuration that it does not take.
    """
    model = recipe.model
    assert isinstance(model, Scratch)
    made = Pretrained(str(folder.resolve()), dropout=model.dropout)
    if (folder / "config.json").is_file():
        return made
    building = folder.with_name(f".{folder.name}-{os.getpid()}")
    shutil.rmtree(building, ignore_errors=True)
    try:
        config = _config(model)
        tokenizer = _tokenizer(recipe, model, rows, is_encoder_decoder=bool(config.is_encoder_decoder))
        config = _config(model, **_ids(config, tokenizer))
        if with_weights:
            with quiet():
                _draw(recipe, config).save_pretrained(building)
        config.save_pretrained(building)
        tokenizer.save_pretrained(building)
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return made


def _config(model: Scratch, **more: Any) -> Any:
    from transformers import CONFIG_MAPPING, AutoConfig

    if model.name not in CONFIG_MAPPING:
        raise RecipeError(
            f"model.name: expected an architecture of transformers, found {model.name!r}.",
            fix=f"Name one such as gpt2, llama or t5.{closest(model.name, list(CONFIG_MAPPING))}",
        )
    known = vars(CONFIG_MAPPING[model.name]()) | dict.fromkeys(CONFIG_MAPPING[model.name].attribute_map)
    for name in model.config:
        if name not in known:
            raise RecipeError(
                f"model.config: {model.name} has no field {name!r}.",
                fix=f"Correct the name.{closest(name, [known_name for known_name in known if known_name[0] != '_'])}",
            )
    try:
        return AutoConfig.for_model(model.name, **{**more, **model.config})
    except (TypeError, ValueError) as error:
        raise RecipeError(f"model.config: {one_line(error, 300)}", fix="Correct the field.") from error


def _ids(config: Any, tokenizer: Any) -> dict[str, Any]:
    """What of a configuration follows from its tokenizer."""
    found = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    if config.is_encoder_decoder:
        found["decoder_start_token_id"] = tokenizer.pad_token_id
    if getattr(config, "forced_eos_token_id", None) is not None:  # of BART and Marian: an id of their own tokenizers
        found["forced_eos_token_id"] = tokenizer.eos_token_id
    return found


def _draw(recipe: Recipe, config: Any) -> Any:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        try:
            return recipe.task.model_class().from_config(config)
        except (TypeError, ValueError, KeyError) as error:
            raise RecipeError(
                f"model: {type(recipe.task).__name__} cannot have a {config.model_type}: {one_line(error, 300)}",
                fix="Choose another architecture, or correct model.config.",
            ) from error


def _texts(recipe: Recipe, rows: Dataset) -> Iterator[str]:
    """The training texts as the tokenizer will see them."""
    columns = [column for column in recipe.task.columns().values() if column.cell in (TEXT, TEXTS)]
    for column in columns:
        for begin in range(0, len(rows), _CHUNK):
            cells = rows[begin : begin + _CHUNK][column.name]
            several = chain.from_iterable(cell if isinstance(cell, list) else [cell] for cell in cells)
            texts = [text for text in several if isinstance(text, str)]
            yield from texts if column.is_target else apply(recipe.preprocessing, texts)
    if between := recipe.task.fields().get("between"):
        yield between


def _tokenizer(recipe: Recipe, model: Scratch, rows: Dataset | None, *, is_encoder_decoder: bool) -> Any:
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    if model.tokenizer not in ("bpe", "characters", None):
        from hf_trainpipe.model.tokenizer import load_tokenizer

        return load_tokenizer(Pretrained(model.tokenizer))
    texts = _texts(recipe, recipe.data.splits()["train"] if rows is None else rows)
    backend = _characters(texts) if model.tokenizer == "characters" else _pairs(texts, model.vocabulary)
    single, pair = (f"$A {END}", f"$A $B {END}") if is_encoder_decoder else (f"{BEGIN} $A", f"{BEGIN} $A $B")
    known = [(token, backend.token_to_id(token)) for token in (BEGIN, END)]
    backend.post_processor = TemplateProcessing(single=single, pair=pair, special_tokens=known)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        bos_token=BEGIN,
        eos_token=END,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
    )


def _characters(texts: Iterable[str]) -> Any:
    """Each character of the texts a token, in the order of Unicode."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    found = sorted(set().union(*texts))
    vocabulary = {token: number for number, token in enumerate((PAD, BEGIN, END, UNKNOWN, *found))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens([AddedToken(token, special=True) for token in (PAD, BEGIN, END, UNKNOWN)])
    return backend


def _pairs(texts: Iterable[str], size: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[PAD, BEGIN, END, UNKNOWN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return backend
