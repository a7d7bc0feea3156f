"""Fast tokenizers of Marian's translation models, which come with two SentencePiece models and a vocabulary of their own.

A text is cut by the source's pieces, a target by the target's; the ids of both are those of vocab.json. The source's tokenizer
travels in the package and decodes too; the target's is needed by the training alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hf_trainpipe.errors import RecipeError

_UNIGRAM = 1
"""``model_type`` of a SentencePiece model."""
_NEVER = -1e4
"""The score of a piece that only the other language has."""


def fast_marian(slow: Any) -> Any:
    """The fast form of a slow ``MarianTokenizer``, with that of its targets as ``target_tokenizer``.

    Raises:
        RecipeError: its two languages have vocabularies of their own, or its pieces are no unigram model.
    """
    if slow.separate_vocabs:
        raise RecipeError(
            "model.tokenizer: expected one vocabulary for both languages, found one each.",
            fix="Choose a Marian model with a shared vocabulary, such as most of Helsinki-NLP/opus-mt.",
        )
    source, target = (_fast(slow, Path(path)) for path in slow.spm_files)
    target.backend_tokenizer.encode_special_tokens = True  # an end that a text writes is no end
    source.target_tokenizer = target
    return source


def _fast(slow: Any, spm: Path) -> Any:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import import_protobuf

    proto = import_protobuf().ModelProto()
    proto.ParseFromString(spm.read_bytes())
    if proto.trainer_spec.model_type != _UNIGRAM:
        raise RecipeError(
            f"model.tokenizer: {spm.name} is no unigram model of SentencePiece, and cannot be made a fast tokenizer.",
            fix="Choose another model, or convert its tokenizer to tokenizer.json.",
        )
    scores = {piece.piece: piece.score for piece in proto.pieces if piece.type == piece.NORMAL}
    ids: dict[str, int] = slow.encoder
    vocabulary = [(f"<unused {number}>", _NEVER) for number in range(max(ids.values()) + 1)]
    for token, number in ids.items():
        vocabulary[number] = (token, scores.get(token, _NEVER))
    backend = Tokenizer(models.Unigram(vocabulary, unk_id=ids[slow.unk_token], byte_fallback=False))
    charsmap = proto.normalizer_spec.precompiled_charsmap
    special = (slow.eos_token, slow.pad_token, slow.unk_token)
    backend.normalizer = normalizers.Sequence([
        *(normalizers.Replace(token, f"{token[0]} {token[1:]}") for token in special),  # in a text it is no such token
        *([normalizers.Precompiled(charsmap)] if charsmap else []),
        normalizers.Strip(),
        normalizers.Replace(Regex(" {2,}"), " "),
    ])  # fmt: skip
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    end = slow.eos_token
    backend.post_processor = processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, ids[end])])
    # ``>>fr<<`` before a text names the language to translate into; it is no special token, which texts may not have.
    languages = [AddedToken(code, rstrip=True, normalized=False) for code in slow.supported_language_codes]
    backend.add_tokens(languages)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token=slow.unk_token,
        eos_token=end,
        pad_token=slow.pad_token,
        model_max_length=slow.model_max_length,
        clean_up_tokenization_spaces=False,
    )
