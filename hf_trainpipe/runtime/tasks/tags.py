"""Word tags and the spans they stand for.

Schemes: ``BIO`` (also called IOB2), ``IOB1`` (B only where two entities of a type touch), ``BIOES``,
``BILOU``. Tags are read as leniently as seqeval 1.2.2 does by default (``get_entities`` in
``seqeval.metrics.sequence_labeling``): an ``I-`` that follows nothing of its type begins an entity.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import InputError

Span = tuple[str, int, int]
"""Label, first word, word after the last."""

SCHEMES = ("BIO", "IOB1", "BIOES", "BILOU")

_AS_BIOES = {"B": "B", "I": "I", "E": "E", "S": "S", "L": "E", "U": "S"}


def _parts(tag: str) -> tuple[str, str]:
    """``"B-LOC"`` -> ``("B", "LOC")``, with L and U read as E and S; ``"O"`` -> ``("O", "")``."""
    if tag == "O":
        return "O", ""
    prefix, separator, label = tag.partition("-")
    if not separator or prefix not in _AS_BIOES:
        raise InputError(
            f"tags: expected 'O' or a prefix of B, I, E, S, L, U and a label, found {tag!r}.",
            fix="Write tags as 'B-LOC', or train without a scheme.",
        )
    return _AS_BIOES[prefix], label


def tags_to_spans(tags: Sequence[str], scheme: str = "BIO") -> list[Span]:
    """Read the entities of one sentence.

    >>> tags_to_spans(["B-LOC", "I-LOC", "O", "I-PER"])
    [('LOC', 0, 2), ('PER', 3, 4)]

    Raises:
        InputError: A tag is not of any scheme.
    """
    _check_scheme(scheme)
    spans: list[Span] = []
    before, label, start = "O", "", 0
    for position, tag in enumerate([*tags, "O"]):
        prefix, current = _parts(tag)
        if prefix == "I" or prefix == "E":
            continues = before in ("B", "I") and current == label
        else:
            continues = False
        if not continues:
            if before != "O":
                spans.append((label, start, position))
            start = position
        before, label = prefix, current
    return spans


def spans_to_tags(spans: Iterable[Span], n: int, scheme: str = "BIO") -> list[str]:
    """Tags of a sentence of ``n`` words. Spans must not overlap.

    >>> spans_to_tags([("LOC", 0, 2)], 3, "BIOES")
    ['B-LOC', 'E-LOC', 'O']

    Raises:
        InputError: Two spans overlap, or one is empty or reaches outside the sentence.
    """
    _check_scheme(scheme)
    tags = ["O"] * n
    last, only = {"BIOES": ("E", "S"), "BILOU": ("L", "U")}.get(scheme, ("I", "B"))
    before: Span = ("", -1, -1)
    for span in sorted(spans, key=lambda item: item[1]):
        label, start, end = span
        if not 0 <= start < end <= n or start < before[2]:
            raise InputError(
                f"spans: expected stretches of {n} words that do not overlap, found {span} after {before}.",
                fix="Correct the span, or remove one of the two.",
            )
        tags[start:end] = [f"I-{label}"] * (end - start)
        tags[end - 1] = f"{last}-{label}"
        if end - start == 1:
            tags[start] = f"{only}-{label}"
        else:
            tags[start] = f"B-{label}"
        if scheme == "IOB1" and (before[0], before[2]) != (label, start):
            tags[start] = f"I-{label}"
        before = span
    return tags


def _check_scheme(scheme: str) -> None:
    if scheme not in SCHEMES:
        raise InputError(f"scheme: expected one of {', '.join(SCHEMES)}, found {scheme!r}.", fix="Choose one of them.")
