"""Perturbations from a person's JSON file.

A list of objects::

    [{"name": "brands", "find": "Acme", "replace": ["Globex", "Initech"]},
     {"name": "praise", "find": "$", "regex": true, "replace": " Thanks a lot!", "expect": "rises", "label": "positive"}]

``find`` is text, found as it is written where it is a word or several; with ``regex`` a pattern of Python's ``re``. ``replace`` is what
stands there instead, or a list of which one is drawn a row; with ``regex`` it may name groups, ``\\1``. ``expect`` is one of
``same`` (as it is by default), ``changes``, ``falls``, ``rises``; the last two go by the score of ``label``, or of the label that was
answered before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hf_trainpipe.behaviour.perturbations import BUILT_IN, EXPECTATIONS, Draws, Perturbation
from hf_trainpipe.errors import DataError, closest
from hf_trainpipe.runtime.text.edits import Edit

EXAMPLE = '[{"name": "brands", "find": "Acme", "replace": ["Globex", "Initech"], "expect": "same"}]'
_KEYS = {"name": str, "find": str, "replace": (str, list), "expect": str, "label": str, "regex": bool}
_NEEDED = ("name", "find", "replace")


def read_perturbations(file: Path) -> tuple[Perturbation, ...]:
    """The perturbations of a file.

    Raises:
        DataError: it is no JSON, or not of this form; with the line or the entry.
    """
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{file}, line {error.lineno}: expected JSON, found: {error.msg}.",
            fix=f"Write {EXAMPLE}",
            file=str(file),
            line=error.lineno,
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{file}: expected a JSON file, found: {error}.", fix=f"Write {EXAMPLE}", file=str(file)
        ) from None
    if not isinstance(told, list) or not told:
        raise _wrong(file, "", f"expected a list of perturbations, found {type(told).__name__}")
    found = tuple(_read(one, f"[{at}]", file) for at, one in enumerate(told))
    taken = [one.name for one in BUILT_IN]
    for at, one in enumerate(found):
        if one.name in taken:
            raise _wrong(file, f"[{at}]", f"expected a name of its own, found {one.name!r} a second time")
        taken.append(one.name)
    return found


def _read(told: Any, where: str, file: Path) -> Perturbation:
    if not isinstance(told, dict):
        raise _wrong(file, where, f"expected an object, found {told!r:.60}")
    for key in told:
        if key not in _KEYS:
            raise _wrong(file, where, f"expected {', '.join(_KEYS)}, found {key!r}.{closest(key, _KEYS)}")
        if not isinstance(told[key], _KEYS[key]):  # type: ignore[arg-type]  # a type or several
            raise _wrong(file, where, f"{key}: found {told[key]!r:.60}")
    if missing := [key for key in _NEEDED if not told.get(key) and told.get(key) != ""]:
        raise _wrong(file, where, f"expected {', '.join(_NEEDED)}, found no {missing[0]}")
    if told.get("expect", "same") not in EXPECTATIONS:
        raise _wrong(file, where, f"expect: expected {', '.join(EXPECTATIONS)}, found {told['expect']!r}")
    new = told["replace"] if isinstance(told["replace"], list) else [told["replace"]]
    if not new or not all(isinstance(one, str) for one in new):
        raise _wrong(file, where, f"replace: expected a text or a list of texts, found {told['replace']!r:.60}")
    is_regex = bool(told.get("regex"))
    try:
        pattern = re.compile(told["find"] if is_regex else _as_written(told["find"]))
        for one in new if is_regex else ():
            re.compile(f"(?:{told['find']})|").sub(one, "")  # the groups that it names are there
    except (re.error, IndexError) as error:
        raise _wrong(
            file, where, f"find, replace: expected a pattern and groups of it, found {told['find']!r}: {error}"
        ) from None
    if not told["find"]:
        raise _wrong(file, where, "find: expected something to look for, found nothing")
    return Perturbation(
        name=told["name"],
        about=f"{told['find']} becomes {' or '.join(new[:3])}{' or ...' if len(new) > 3 else ''}",
        edits=partial(_replaced, pattern, new, is_regex),
        expect=told.get("expect", "same"),
        label=told.get("label"),
    )


def _as_written(text: str) -> str:
    begins, ends = (r"(?<!\w)" if text[:1].isalnum() else ""), (r"(?!\w)" if text[-1:].isalnum() else "")
    return f"{begins}{re.escape(text)}{ends}"


def _replaced(pattern: re.Pattern[str], new: Sequence[str], is_regex: bool, text: str, draws: Draws) -> list[Edit]:
    """One of ``new`` where the pattern is found, the same everywhere in the row."""
    chosen = draws.names.setdefault("", draws.one_of(new))
    put: Callable[[re.Match[str]], str] = (lambda match: match.expand(chosen)) if is_regex else (lambda _: chosen)
    return [Edit(*match.span(), put(match)) for match in pattern.finditer(text)]


def _wrong(file: Path, where: str, problem: str) -> DataError:
    return DataError(
        f"{file}{where and f', entry {where}'}: {problem.rstrip('.')}.", fix=f"Write {EXAMPLE}", file=str(file)
    )
