"""Sections of a model card that a person wrote survive a new push.

Each generated section is between two marks (HTML comments):

    <!-- trainpipe:begin scores -->
    ## Scores
    ...
    <!-- trainpipe:end scores -->

Text outside of them is written by people. A new card keeps that text from the card on the Hub, after the same
section. Metadata that only the card on the Hub has (a license, tags) is kept too.
"""

from __future__ import annotations

import re
from typing import Any

_MARK = re.compile(r"^<!-- trainpipe:(begin|end) ([\w-]+) -->[ \t]*\n?", re.MULTILINE)
_FRONT = re.compile(r"\A---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)


def block(name: str, text: str) -> str:
    """``text`` between the marks of the generated section ``name``; marks in the text itself are removed.

    >>> print(block("scores", "## Scores"), end="")
    <!-- trainpipe:begin scores -->
    ## Scores
    <!-- trainpipe:end scores -->
    """
    inside = _MARK.sub("", text).strip("\n")
    return f"<!-- trainpipe:begin {name} -->\n{inside}\n<!-- trainpipe:end {name} -->\n"


def merge(new: str, remote: str) -> str:
    """The card ``new`` with what people wrote into ``remote``, the card that is on the Hub.

    Merging a second time changes nothing. A remote card without marks was written by a person as a whole: it
    goes behind the generated sections.

    Args:
        new: A card of :func:`hf_trainpipe.package.card.render`.
        remote: README.md of the repository, as text.
    """
    new_front, new_body = _split_front(new)
    front, body = _split_front(remote.replace("\r\n", "\n"))
    theirs = _handwritten(body)
    parts: list[str] = []
    if len(theirs) > 1 or _MARK.search(body):
        parts.append(theirs.pop("", ""))  # before all sections, as it was
    for name, text in _sections(new_body):
        parts.append(text if name is None else block(name, text))
        parts.append(theirs.pop(name, "") if name is not None else "")
    parts += theirs.values()
    merged = "\n\n".join(part.strip("\n") for part in parts if part.strip()) + "\n"
    return f"---\n{_merge_front(new_front, front)}\n---\n\n{merged}" if new_front or front else merged


def _split_front(text: str) -> tuple[str, str]:
    match = _FRONT.match(text)
    return (match[1], text[match.end() :]) if match else ("", text)


def _sections(body: str) -> list[tuple[str | None, str]]:
    """Generated sections by name, and the text between them under None, in their order.

    A section whose end mark was deleted ends where the next one begins.
    """
    found: list[tuple[str | None, str]] = []
    position, current = 0, None
    for mark in _MARK.finditer(body):
        text = body[position : mark.start()]
        if text or current is not None:
            found.append((current, text))
        current = mark[2] if mark[1] == "begin" else None
        position = mark.end()
    if body[position:]:
        found.append((current, body[position:]))
    return found


def _handwritten(body: str) -> dict[str, str]:
    """Text by people, by the generated section before it; "" for text before the first section."""
    written: dict[str, str] = {}
    section = ""
    for name, text in _sections(body):
        if name is not None:
            section = name
        elif text.strip():
            written[section] = "\n\n".join(filter(None, (written.get(section), text.strip("\n"))))
    return written


def _merge_front(new: str, remote: str) -> str:
    """The generated metadata, with keys that only the remote has; tags of both."""
    import yaml

    try:
        ours, theirs = (yaml.safe_load(text) or {} for text in (new, remote))
    except yaml.YAMLError:
        return new
    if not isinstance(theirs, dict) or not isinstance(ours, dict):
        return new
    merged: dict[str, Any] = dict(ours)
    for key, value in theirs.items():
        if key == "tags" and isinstance(value, list) and isinstance(ours.get("tags"), list):
            merged["tags"] = [*ours["tags"], *(tag for tag in value if tag not in ours["tags"])]
        elif key not in ours and key not in ("model-index", "metrics", "datasets"):
            merged[key] = value
    if merged == ours:
        return new
    text: str = yaml.dump(merged, sort_keys=False, allow_unicode=True, line_break="\n")
    return text.rstrip("\n")
