"""Character spans into tags of the words that the model reads; what becomes of each span is counted by its name."""

from __future__ import annotations

import math
import unicodedata
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.data.columns import names_in_feature
from hf_trainpipe.data.label_ids import explain_unknown
from hf_trainpipe.data.span_forms import Span, UnreadableSpans, read_spans
from hf_trainpipe.data.spelling import entity_types, key
from hf_trainpipe.errors import DataError
from hf_trainpipe.runtime.tasks.columns import Labels
from hf_trainpipe.runtime.tasks.tags import spans_to_tags

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hf_trainpipe.data.cells import Cells
    from hf_trainpipe.runtime.tokens.features import Stream

FATES: Mapping[str, str] = {
    "recounted": "count in bytes or in UTF-16 units, as their own text shows, and were converted to characters",
    "trimmed": "begin or end with white space, which was cut off",
    "widened": "do not fall on word borders and were widened to them",
    "doubled": "are there more than once with one label, and count once",
    "blank": "hold nothing but white space or what makes no word, and are left out",
    "removed": "lie wholly in what preprocessing takes away, and are left out",
    "nested": "lie inside a longer span, which is kept: a word has one tag; they are left out",
    "overlapping": "overlap a longer span, which is kept: a word has one tag; they are left out",
    "contradicting": "have the place of another span and another label: the first one is kept, they are left out",
    "crowded": "share a word with another span, of which the longer is kept: they are left out",
}
"""What may become of a span that is not taken as it is."""
LOST = ("blank", "removed", "nested", "overlapping", "contradicting", "crowded")
"""The fates of spans that nothing is learnt from."""
_EXAMPLES = 3
"""Places shown for each fate."""


Place = tuple[int, int]
"""First character of a word, and the one after its last, in the text as it was given."""


def read_column(cells: Cells) -> list[list[Span]]:
    """The spans of each row, in any of the forms of :mod:`~hf_trainpipe.data.span_forms`.

    Raises:
        DataError: with the place of a cell that is missing or cannot be read.
    """
    cells.refuse_missing("a list of spans (an empty list means none)")
    names = names_in_feature(cells.dataset, cells.name, inner="label")
    found = []
    for row, cell in enumerate(cells.array.to_pylist()):
        try:
            found.append(read_spans(cell, names=names))
        except UnreadableSpans as error:
            raise cells.error(row, error.message, fix=error.fix) from None
    return found


def tags_of_spans(
    cells: Cells,
    texts: Sequence[str],
    labels: Labels,
    *,
    scheme: str,
    places: Stream,
    clean: Callable[[str], str],
) -> tuple[np.ndarray, dict[str, Any]]:
    """Give each word the tag of the span that it belongs to.

    Args:
        places: Of the words of each example, as the features have them: columns ``start`` and ``end``.
        clean: The preprocessing of a text.

    Returns:
        int32[W], and a report: ``spans``, a count for each of :data:`FATES`, and ``places`` of the first of each.

    Raises:
        DataError: with the place of a span that cannot be read, has an unknown label, or lies outside its text.
    """
    spans = read_column(cells)
    known = entity_types(labels)
    name_of = {key(name): name for name in known}
    tag_ids = labels.ids
    starts, ends, first = places["start"].tolist(), places["end"].tolist(), places.starts.tolist()
    ids: list[int] = []
    counted: Counter[str] = Counter()
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, original in enumerate(texts):
        found = [span._replace(label=name_of.get(key(span.label), span.label)) for span in spans[row]]
        placed = [_placed(span, original) for span in found]
        for span in placed:
            if (problem := _wrong(span, original, known)) is not None:
                message, fix = problem
                raise cells.error(row, message, fix=fix)
        words = list(zip(starts[first[row] : first[row + 1]], ends[first[row] : first[row + 1]], strict=True))
        tags, fates = align(original, words, placed, scheme, clean=clean)
        fates += ["recounted" for old, new in zip(found, placed, strict=True) if old[:2] != new[:2]]
        counted.update(fates)
        for fate in {*fates}:
            rows[fate].append(row)
        ids.extend(tag_ids[tag] for tag in tags)
    report = {
        "spans": sum(map(len, spans)),
        **{kind: counted[kind] for kind in FATES if counted[kind]},
        "places": {kind: [str(cells.place(row)) for row in rows[kind][:_EXAMPLES]] for kind in FATES if rows[kind]},
    }
    return np.asarray(ids, dtype=np.int32), report


def align(
    text: str,
    words: Sequence[Place],
    spans: Sequence[Span],
    scheme: str = "BIO",
    *,
    clean: Callable[[str], str] = lambda text: text,
) -> tuple[list[str], list[str]]:
    """Tags of the words of a text from spans of it as it was given.

    White space at the ends of a span is cut off. A word belongs to a span if it holds any of what preprocessing
    left of it. Of spans that share a word the longest is kept, of equally long ones the first in the text.

    Args:
        words: The places of its words.
        clean: The preprocessing: asked whether it is why a span has no word.

    Returns:
        The tags, and one of :data:`FATES` for each span that was not taken as it is.
    """
    fates: list[str] = []
    solid: list[Span] = []
    for span in spans:
        inside = text[span.start : span.end]
        start = span.start + len(inside) - len(inside.lstrip())
        end = start + len(inside.strip())
        if start >= end:
            fates.append("blank")
            continue
        if (start, end) != (span.start, span.end):
            fates.append("trimmed")
        solid.append(span._replace(start=start, end=end))
    owners: list[tuple[Span, int, int] | None] = [None] * len(words)
    kept: list[tuple[str, int, int]] = []
    for span in sorted(solid, key=lambda span: (span.start - span.end, span.start)):
        first = bisect_right(words, span.start, key=lambda word: word[1])
        after = bisect_left(words, span.end, key=lambda word: word[0])
        if first >= after:
            fates.append("blank" if clean(text) == text else "removed")
            continue
        owner = next((owner for owner in owners[first:after] if owner is not None), None)
        if owner is not None:
            fates.append(_shared(span, (first, after), owner))
            continue
        if words[first][0] < span.start or words[after - 1][1] > span.end:
            fates.append("widened")
        owners[first:after] = [(span, first, after)] * (after - first)
        kept.append((span.label, first, after))
    return spans_to_tags(kept, len(words), scheme), fates


def _shared(span: Span, words: tuple[int, int], owner: tuple[Span, int, int]) -> str:
    """What becomes of a span some of whose words belong to a longer one."""
    other = owner[0]
    if words == owner[1:] and span.label == other.label:
        return "doubled"
    if (span.start, span.end) == (other.start, other.end):
        return "contradicting"
    if other.start <= span.start and span.end <= other.end:
        return "nested"
    return "overlapping" if span.start < other.end and other.start < span.end else "crowded"


def _placed(span: Span, text: str) -> Span:
    """The span in characters, where its own text shows that it was counted otherwise."""
    if not span.said or _squeezed(text[max(span.start, 0) : max(span.end, 0)]) == _squeezed(span.said):
        return span
    for encoding, width in (("utf-16-le", 2), ("utf-8", 1)):
        units = text.encode(encoding, "surrogatepass")
        start, end = (len(units[: width * max(at, 0)].decode(encoding, "ignore")) for at in (span.start, span.end))
        if _squeezed(text[start:end]) == _squeezed(span.said):
            return span._replace(start=start, end=end)
    return span


def _squeezed(text: str) -> str:
    """Without white space, case and forms of characters, which tools write in several ways."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().replace("\\n", " ").split())


def _wrong(span: Span, text: str, known: list[str]) -> tuple[str, str] | None:
    """Message and fix for a span that does not fit its text."""
    if not 0 <= span.start < span.end <= len(text):
        return (
            f"the span {span.start} to {span.end} is empty or outside the text of {len(text)} characters.",
            "Count characters from 0; 'end' is the one after the last. Byte offsets need converting.",
        )
    if span.label not in known:
        return explain_unknown(span.label, Labels(tuple(known)))
    there = text[span.start : span.end]
    if span.said and _squeezed(there) != _squeezed(span.said):
        return (
            f"the span {span.start} to {span.end} says that it is {span.said!r:.60}, but the text has {there!r:.60} there.",
            "Give the text that the spans were made on, unchanged, or count their places again.",
        )
    return None


def span_lines(split: str, report: Mapping[str, Any]) -> list[str]:
    """What became of the spans of a split, a sentence for each fate."""
    return [
        f"{split}: {report[kind]:,} of {report['spans']:,} character spans {_told(kind, report)}"
        for kind in FATES
        if report.get(kind)
    ]


def _told(kind: str, report: Mapping[str, Any]) -> str:
    return f"{FATES[kind]} (first: {'; '.join(report['places'][kind])})"


def check_lost(split: str, report: Mapping[str, Any], *, limit: float) -> None:
    """Refuse a split of which too many spans are lost.

    Args:
        limit: The largest share of its spans, in [0, 1].

    Raises:
        DataError: with the count and the first places of each fate.
    """
    lost = [kind for kind in LOST if report.get(kind)]
    total, count = report.get("spans", 0), sum(report[kind] for kind in lost)
    if count > limit * total:
        told = "\n".join(f"  {report[kind]:,} {_told(kind, report)}" for kind in lost)
        raise DataError(
            f"split {split!r}: {count:,} of {total:,} character spans would be lost, more than {limit:.0%}:\n{told}",
            fix="Correct the spans, keep one level of nested ones, "
            f"or allow it: task.lost_spans={math.ceil(20 * count / total) / 20:g}.",
        )
