"""Findings about tags and character spans: broken schemes, spans on white space, outside of their text, or over each other."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from hf_trainpipe.audit.finding import Finding, Level, examples, of_rows
from hf_trainpipe.data.span_forms import UnreadableSpans, read_spans

if TYPE_CHECKING:
    from hf_trainpipe.audit.corpus import Corpus

_SCHEMES = {
    "BIO": {"inside": "BI", "end": ""},
    "BIOES": {"inside": "BI", "end": "E"},
    "BILOU": {"inside": "BI", "end": "L"},
}
"""Of a scheme: after which prefixes an entity goes on, and what has to end one of several words."""
_FAULTS = {
    "blank": "hold nothing but white space",
    "edge": "begin or end with white space",
    "outside": "are empty or lie outside of their text",
    "overlapping": "overlap another span of their text",
    "repeated": "are there more than once",
}


def broken_tags(corpus: Corpus) -> Iterator[Finding]:
    """Rows whose tags are not as many as their words, or break their scheme."""
    if corpus.kind != "tags":
        return
    scheme = corpus.task.fields().get("scheme")
    for split in corpus.names:
        rows = [row for row in corpus.rows_of(split).tolist() if corpus.targets[row] is not None]
        uneven = [row for row in rows if len(corpus.targets[row]) != len(corpus.words[row])]
        if uneven:
            yield of_rows(
                corpus,
                uneven,
                len(rows),
                kind="uneven-tags",
                level=Level.WRONG,
                split=split,
                told="have more words than tags, or fewer: training refuses them",
                fix="Correct the rows; --fix leaves them out.",
            )
        broken = {row: faults for row in rows if (faults := faults_of(corpus.targets[row], scheme))}
        if broken:
            tags = Counter(tag for faults in broken.values() for tag in faults)
            most, count = min(tags.items(), key=lambda item: (-item[1], item[0]))
            yield of_rows(
                corpus,
                list(broken),
                len(rows),
                kind="broken-tags",
                level=Level.COSTS,
                split=split,
                told=f"break the scheme {scheme or 'BIO'}: {tags.total():,} tags, most often {most} ({count:,})",
                fix="An I- that follows nothing of its type begins an entity in scores; --fix writes it as B-.",
                tags=[" ".join(corpus.targets[row]) for row in broken],
                facts={"tags": dict(sorted(tags.items()))},
            )


def faults_of(tags: Sequence[str], scheme: str | None) -> list[str]:
    """The tags of a row that its scheme does not allow where they stand.

    Args:
        scheme: None: BIO, where a tag begins with ``B-`` and another with ``I-``; else any tag is right.

    >>> faults_of(["O", "I-LOC", "B-PER", "I-LOC"], "BIO")
    ['I-LOC', 'I-LOC']
    """
    if scheme is None and not any(tag.startswith(("B-", "I-")) for tag in tags):
        return []
    rules = _SCHEMES.get(scheme or "BIO")
    if rules is None:  # IOB1: I- may begin an entity, and B- only parts two of a type
        return [tag for at, tag in enumerate(tags) if tag.startswith("B-") and (not at or tags[at - 1][2:] != tag[2:])]
    faults, before = [], "O"
    for tag in [*tags, "O"]:
        prefix, _, kind = tag.partition("-")
        goes_on = before[:1] in rules["inside"] and before[1:2] == "-" and before[2:] == kind
        if rules["end"] and before[:2] in ("B-", "I-") and not (prefix in ("I", rules["end"]) and goes_on):
            faults.append(before)
        is_alone = prefix in ("I", rules["end"] or "I") and bool(kind) and not goes_on
        if is_alone or (not kind and tag != "O" and scheme is not None):
            faults.append(tag)
        before = tag
    return faults


def repaired_tags(tags: Sequence[str]) -> list[str]:
    """BIO tags as scores read them: an ``I-`` that follows nothing of its type begins an entity."""
    found: list[str] = []
    for tag in tags:
        follows = bool(found) and found[-1][:2] in ("B-", "I-") and found[-1][2:] == tag[2:]
        found.append(f"B-{tag[2:]}" if tag.startswith("I-") and not follows else tag)
    return found


def broken_spans(corpus: Corpus) -> Iterator[Finding]:
    """Character spans that cannot be used as they are."""
    if corpus.kind != "spans":
        return
    texts = next(iter(corpus.texts.values()))
    for split in corpus.names:
        rows = [row for row in corpus.rows_of(split).tolist() if corpus.targets[row] is not None]
        found: defaultdict[str, list[int]] = defaultdict(list)
        counts: Counter[str] = Counter()
        unreadable = []
        total = 0
        for row in rows:
            try:
                spans = read_spans(corpus.targets[row], names=())
            except UnreadableSpans:
                unreadable.append(row)
                continue
            total += len(spans)
            faults = span_faults(texts[row], spans)
            counts.update(faults)
            for fault in set(faults):
                found[fault].append(row)
        if unreadable:
            yield of_rows(
                corpus, unreadable, len(rows), kind="unreadable-spans", level=Level.WRONG, split=split,
                told="have spans that cannot be read: training refuses them",
                fix="docs/spans.md has the forms that are read.",
            )  # fmt: skip
        for fault, told in _FAULTS.items():
            if counts[fault]:
                yield Finding(
                    kind=f"{fault}-spans",
                    level=Level.WRONG if fault == "outside" else Level.COSTS if fault == "overlapping" else Level.LOOK,
                    split=split,
                    line=f"{counts[fault]:,} of {total:,} character spans {told}",
                    fix="Correct them where they were marked; training says what it makes of each.",
                    count=counts[fault],
                    total=total,
                    rows=examples(corpus, found[fault]),
                )


def span_faults(text: str, spans: Sequence[Any]) -> list[str]:
    """A fault for each span that has one: a key of what is told of them."""
    faults: list[str] = []
    seen: set[tuple[int, int, str]] = set()
    reached, reaching = -1, None
    for span in sorted(spans, key=lambda span: (span.start, span.end, span.label)):
        place = (span.start, span.end, span.label)
        inside = text[max(span.start, 0) : max(span.end, 0)]
        if not 0 <= span.start < span.end <= len(text):
            faults.append("outside")
            continue
        if not inside.strip():
            faults.append("blank")
        elif inside != inside.strip():
            faults.append("edge")
        if place in seen:
            faults.append("repeated")
        elif span.start < reached and reaching != place:
            faults.append("overlapping")
        seen.add(place)
        if span.end > reached:
            reached, reaching = span.end, place
    return faults
