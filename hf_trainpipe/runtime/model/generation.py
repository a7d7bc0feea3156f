"""Texts that a model writes token by token: how it chooses the tokens, and what it thought of them.

The same settings, in the same file, for encoder-decoders and for models that continue a text. A text comes out the same
alone and beside others: beams do not mix, and each text draws from a generator of its own.

Legend: B texts of a batch, L tokens of the longest source, n tokens of the longest written text, V vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import RecipeError
from .inference import bare

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

NOTHING = -1
"""Id behind the end of a written text that is shorter than others of its batch."""
SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "forced_bos_token_id", "bad_words_ids",
           "suppress_tokens", "begin_suppress_tokens")  # fmt: skip
"""What of a model's own generation_config.json counts: tokens that it needs, or must not write. The rest is the task's."""
_SCORED = 1024
"""Tokens of written texts whose logits are held at a time, [_SCORED, V]."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """How texts are written. The settings travel in the package, and an evaluation uses them too."""

    max_new_tokens: int = 128
    """Tokens of a written text at most, its end included."""
    min_new_tokens: int = 0
    """Tokens of a written text at least."""
    beams: int = 1
    """Texts that beam search follows at a time; 1: the most probable token each time."""
    length_penalty: float = 1.0
    """Of beams: the power of its length that the log-probability of a text is divided by; more favours long texts."""
    no_repeat_ngram: int = 0
    """No sequence of so many tokens comes twice in a text; 0: it may."""
    repetition_penalty: float = 1.0
    """Divides the score of tokens that the text has already; above 1 they become rarer."""
    temperature: float = 0.0
    """Above 0: tokens are drawn, from probabilities that are the flatter the higher it is; 0: nothing is drawn."""
    top_k: int = 0
    """Of drawing: only from so many of the most probable tokens; 0: from all."""
    top_p: float = 1.0
    """Of drawing: only from the most probable tokens that together have this probability."""
    drawing_seed: int = 0
    """Of drawing: with the same seed the same input gets the same text, alone or beside others."""

    def check_generation(self) -> None:
        """Refuse settings that cannot be.

        Raises:
            RecipeError: as said.
        """
        least = {
            "max_new_tokens": 1,
            "min_new_tokens": 0,
            "beams": 1,
            "no_repeat_ngram": 0,
            "top_k": 0,
            "temperature": 0,
        }
        for name, low in least.items():
            if getattr(self, name) < low:
                raise _refused(name, f"{low} or more", getattr(self, name), f"Set task.{name} to {low} or more.")
        if not 0 < self.top_p <= 1:
            raise _refused("top_p", "a number above 0, at most 1", self.top_p, "1 leaves no token out.")
        if self.repetition_penalty <= 0:
            raise _refused("repetition_penalty", "a number above 0", self.repetition_penalty, "1 changes nothing.")
        if self.drawing_seed < 0:
            raise _refused("drawing_seed", "0 or more", self.drawing_seed, "Choose another seed.")
        if self.min_new_tokens > self.max_new_tokens:
            fix = "Lower task.min_new_tokens, or raise task.max_new_tokens."
            raise _refused(
                "min_new_tokens", f"at most task.max_new_tokens ({self.max_new_tokens})", self.min_new_tokens, fix
            )
        if self.beams > 1 and self.temperature > 0:
            raise _refused(
                "temperature",
                "0 where task.beams is above 1",
                self.temperature,
                "Search with beams, or draw: not both.",
            )

    def generation_options(self) -> dict[str, Any]:
        """What clients and cards tell of it: what differs from the defaults, and the length."""
        plain = Generation()
        said = {name: getattr(self, name) for name in vars(plain)}
        return {
            name: value for name, value in said.items() if name == "max_new_tokens" or value != getattr(plain, name)
        }


def _refused(name: str, expected: str, found: object, fix: str) -> RecipeError:
    return RecipeError(f"task.{name}: expected {expected}, found {found!r}.", fix=fix)


def check_positions(model: torch.nn.Module, tokens: int, *, setting: str) -> None:
    """Refuse texts that are longer than the model has positions for.

    Raises:
        RecipeError: as said.
    """
    config: Any = bare(model).config
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and tokens > positions:
        raise RecipeError(
            f"task.{setting}: the model has {positions:,} positions for a text that it writes, found {tokens:,}.",
            fix=f"Set task.{setting} to {positions:,} or less.",
        )


def write(
    model: torch.nn.Module,
    settings: Generation,
    *,
    keys: Sequence[bytes] | None = None,
    watch: Callable[[torch.Tensor], None] | None = None,
    **inputs: Any,
) -> torch.Tensor:
    """Tokens that a model writes for each input.

    Args:
        model: Bare, a ``GenerationMixin`` of transformers, in evaluation mode.
        keys: Of each input, what its drawing depends on beside the seed; needed where the temperature is above 0.
        watch: Called with the tokens [B, n] that are written so far, each time one is.
        inputs: What ``generate`` takes: ``input_ids`` and ``attention_mask``; ``encoder_outputs`` in place of ids.

    Returns:
        int64[B, n]: with the token that ends a text, where it came before ``max_new_tokens``; behind it :data:`NOTHING`.
    """
    import torch
    from transformers import LogitsProcessorList

    mixin: Any = model
    processors = LogitsProcessorList()
    if settings.temperature > 0:
        assert keys is not None, "whoever draws names the inputs"
        processors.append(_drawing(settings, keys))
    with _only(mixin, settings) as config:
        found = mixin.generate(
            **inputs,
            generation_config=config,
            logits_processor=processors,
            stopping_criteria=_watched(mixin, inputs, watch),
        )
    is_decoder = not mixin.config.is_encoder_decoder
    given = (
        int(inputs["input_ids"].shape[1]) if is_decoder else 1
    )  # an encoder-decoder begins with one token of its own
    ids_Bn = found[:, given:]
    ends = torch.as_tensor(
        np.atleast_1d(config.eos_token_id if config.eos_token_id is not None else []), device=ids_Bn.device
    )
    is_end = torch.isin(ids_Bn, ends.to(ids_Bn.dtype))
    behind = (is_end.cumsum(dim=1) - is_end.long()) > 0
    tokens: torch.Tensor = ids_Bn.masked_fill(behind, NOTHING)
    return tokens


def _watched(model: Any, inputs: Mapping[str, Any], watch: Callable[[torch.Tensor], None] | None) -> Any:
    """Stopping criteria that stop nothing and tell of each token; None: of nobody."""
    if watch is None:
        return None
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList

    given, told = 1 if model.config.is_encoder_decoder else int(inputs["input_ids"].shape[1]), watch

    class Watched(StoppingCriteria):  # type: ignore[misc]
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
            told(input_ids[:, given:])
            return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    return StoppingCriteriaList([Watched()])


def settle(model: Any, settings: Generation) -> None:
    """Make the settings the model's own ``generation_config``, which it is saved with."""
    config = _config(model, settings)
    if settings.temperature > 0:  # transformers draws from one generator for a whole batch
        narrow = {"top_k": settings.top_k, "top_p": settings.top_p}
        config.update(do_sample=True, temperature=settings.temperature, **narrow)
    model.generation_config = config


def _config(model: Any, settings: Generation) -> Any:
    """The settings as transformers has them, with the model's own special tokens; nothing is drawn."""
    from transformers import GenerationConfig

    special = {name: getattr(model.generation_config, name, None) for name in SPECIAL}
    if special["decoder_start_token_id"] is None:
        special["decoder_start_token_id"] = getattr(model.config, "decoder_start_token_id", None)
    if special["pad_token_id"] is None:  # behind the end of a shorter text
        special["pad_token_id"] = getattr(model.config, "pad_token_id", None) or 0
    beams = {"length_penalty": settings.length_penalty} if settings.beams > 1 else {}
    return GenerationConfig(
        **{name: value for name, value in special.items() if value is not None},
        max_new_tokens=settings.max_new_tokens,
        min_new_tokens=settings.min_new_tokens or None,
        num_beams=settings.beams,
        no_repeat_ngram_size=settings.no_repeat_ngram,
        repetition_penalty=settings.repetition_penalty,
        do_sample=False,
        **beams,
    )


@contextmanager
def _only(model: Any, settings: Generation) -> Iterator[Any]:
    """The settings as transformers has them; of the model's own only its special tokens count meanwhile."""
    own, config = model.generation_config, _config(model, settings)
    model.generation_config = config
    try:
        yield config
    finally:
        model.generation_config = own


def _drawing(settings: Generation, keys: Sequence[bytes]) -> Any:
    """A logits processor that leaves of each row the one token that was drawn.

    One uniform number a token picks from the probabilities in the order of the vocabulary (inverse transform sampling), by
    a generator of each input's own, so that neighbours in a batch do not matter.
    """
    import torch
    from transformers import LogitsProcessor
    from transformers.generation import TopKLogitsWarper, TopPLogitsWarper

    seeds = [int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") for key in keys]
    generators = [np.random.Generator(np.random.Philox(key=[settings.drawing_seed, seed])) for seed in seeds]
    narrow: list[Any] = [TopKLogitsWarper(settings.top_k)] if settings.top_k else []
    narrow += [TopPLogitsWarper(settings.top_p)] if settings.top_p < 1 else []

    class Drawing(LogitsProcessor):  # type: ignore[misc]
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            scores_BV = scores.float() / settings.temperature
            for step in narrow:
                scores_BV = step(input_ids, scores_BV)
            reached = scores_BV.softmax(dim=-1).double().cumsum(dim=-1)
            uniform = torch.tensor([generator.random() for generator in generators], dtype=torch.float64)
            wanted = uniform.to(reached.device)[:, None] * reached[:, -1:]
            drawn = torch.searchsorted(reached, wanted, right=True).clamp(max=scores.shape[1] - 1)
            return torch.full_like(scores, -torch.inf).scatter(1, drawn, 0.0)

    return Drawing()


def log_probabilities(model: torch.nn.Module, ids_Bn: torch.Tensor, **inputs: Any) -> torch.Tensor:
    """float32[B, n]: the log-probability that an encoder-decoder gives to each written token behind those before it; 1 where
    there is none.

    Args:
        ids_Bn: As :func:`write` gives them.
        inputs: ``encoder_outputs`` and ``attention_mask``.
    """
    import torch
    from transformers.modeling_outputs import BaseModelOutput

    mixin: Any = model
    config = mixin.generation_config
    start = next(
        found
        for holder in (config, mixin.config)
        if (found := getattr(holder, "decoder_start_token_id", None)) is not None
    )
    is_text = ids_Bn != NOTHING
    written = ids_Bn.masked_fill(~is_text, int(getattr(mixin.config, "pad_token_id", None) or 0))
    before = torch.cat([torch.full_like(written[:, :1], start), written[:, :-1]], dim=1)
    size, parts = max(1, _SCORED // max(1, ids_Bn.shape[1])), []
    for at in range(0, len(written), size):
        rows = slice(at, at + size)
        logits = mixin(
            encoder_outputs=BaseModelOutput(last_hidden_state=inputs["encoder_outputs"].last_hidden_state[rows]),
            attention_mask=inputs["attention_mask"][rows],
            decoder_input_ids=before[rows],
            use_cache=False,
        ).logits.float()
        chosen = logits.gather(2, written[rows, :, None])[:, :, 0]
        parts.append(chosen - logits.logsumexp(dim=-1))
    chosen_Bn: torch.Tensor = torch.cat(parts).clamp(max=0.0).masked_fill(~is_text, 1.0)
    return chosen_Bn
