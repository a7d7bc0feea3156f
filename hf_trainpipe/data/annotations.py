"""Convert exports of annotation tools (Label Studio, Prodigy) and SQuAD's articles to plain rows (docs/spans.md)."""

from __future__ import annotations

import json
import logging
from typing import Any

from hf_trainpipe.data.readers_base import Rows, empty_file

log = logging.getLogger(__name__)

_ANSWERS = ("accept", "reject", "ignore")
_HASHES = ("_task_hash", "_input_hash")
_VALUES = ("choices", "number", "rating")
"""Types of Label Studio's results other than spans, and the keys of their values."""


def flat_rows(rows: Rows, shown: str) -> Rows:
    """Tasks of Label Studio and Prodigy, and questions of SQuAD's articles, as rows; other rows unchanged.

    Label Studio's full JSON becomes what its JSON-MIN holds: the fields of ``data``, and a column for each control
    tag, named as in the labelling interface; a row for each annotation that was not cancelled, or only for the
    ground truth if there is one. Prodigy's ignored tasks are dropped, and rejected ones too if they have spans or several
    choices. Dropped tasks are counted in a warning.

    Raises:
        DataError: no task remains.
    """
    if _is_label_studio(rows):
        return _of_label_studio(rows, shown)
    if _is_prodigy(rows):
        return _of_prodigy(rows, shown)
    if _is_squad(rows):
        return _of_squad(rows, shown)
    for name, values in rows.columns.items():
        if any(_choices(value) is not None for value in values):
            rows.columns[name] = [_as_list(value) if (list_ := _choices(value)) is None else list_ for value in values]
    return rows


def _is_squad(rows: Rows) -> bool:
    paragraphs = rows.columns.get("paragraphs", [])
    return bool(paragraphs) and all(
        isinstance(one, list) and all(isinstance(part, dict) and {"context", "qas"} <= set(part) for part in one)
        for one in paragraphs
    )


def _of_squad(rows: Rows, shown: str) -> Rows:
    """Articles with paragraphs as a row a question, with answers in the form of the Hub's ``squad``."""
    titles = rows.columns.get("title") or [None] * len(rows.lines)
    numbers: list[int] = []
    found: dict[str, list[Any]] = {name: [] for name in ("id", "title", "context", "question", "answers")}
    for number, (title, paragraphs) in enumerate(zip(titles, rows.columns["paragraphs"], strict=True)):
        for part in paragraphs:
            for asked in part["qas"]:
                answers = asked.get("answers") or []
                columns = {name: [answer.get(name) for answer in answers] for name in ("text", "answer_start")}
                row = (asked.get("id"), title, part["context"], asked.get("question"), columns)
                for values, value in zip(found.values(), row, strict=True):
                    values.append(value)
                numbers.append(number)
    if not numbers:
        raise empty_file(shown, "articles without a question")
    return _chosen(rows, numbers, found)


def _choices(value: Any) -> list[Any] | None:
    """Several choices as Label Studio writes them: ``{"choices": [...]}``, in a csv as text."""
    if isinstance(value, str) and value.startswith('{"choices"'):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if isinstance(value, dict) and set(value) == {"choices"} and isinstance(value["choices"], list):
        return value["choices"]
    return None


def _as_list(value: Any) -> Any:
    """One choice as a list of it; an empty cell has none."""
    return ([value] if value else []) if isinstance(value, str) else value


def _is_annotation(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("result"), list)


def _annotations(rows: Rows) -> list[Any]:
    """The annotations of each task; older versions call them completions."""
    return rows.columns.get("annotations") or rows.columns.get("completions") or []


def _is_label_studio(rows: Rows) -> bool:
    annotations = _annotations(rows)
    return (
        bool(annotations)
        and all(isinstance(data, dict) for data in rows.columns.get("data", [None]))
        and all(value is None or (isinstance(value, list) and all(map(_is_annotation, value))) for value in annotations)
        and any(annotations)
    )


def _is_prodigy(rows: Rows) -> bool:
    return any(name in rows.columns for name in _HASHES) and all(
        answer in _ANSWERS for answer in rows.columns.get("answer", [None])
    )


def _chosen(rows: Rows, numbers: list[int], columns: dict[str, list[Any]]) -> Rows:
    files = [rows.files[number] for number in numbers] if rows.files else None
    return Rows(columns=columns, lines=[rows.lines[number] for number in numbers], files=files)


def _of_prodigy(rows: Rows, shown: str) -> Rows:
    answers = rows.columns["answer"]
    is_whole = "spans" in rows.columns or "accept" in rows.columns  # else the task may learn from rejected labels
    kept = [
        number for number, answer in enumerate(answers) if answer == "accept" or (answer == "reject" and not is_whole)
    ]
    if left := len(answers) - len(kept):
        what = "rejected or ignored" if is_whole else "ignored"
        log.warning("%s: %d of %d tasks were %s and are dropped", shown, left, len(answers), what)
    if not kept:
        raise empty_file(shown, "only tasks whose answer is reject or ignore")
    if not is_whole and (rejected := answers.count("reject")):
        log.warning(
            "%s: %d of %d tasks were rejected, so their label is wrong: remove them, or use the "
            "column 'answer' as the label",
            shown,
            rejected,
            len(answers),
        )
    columns = {name: [values[number] for number in kept] for name, values in rows.columns.items()}
    for name in ("spans", "accept"):
        if name in columns:
            columns[name] = [value if value is not None else [] for value in columns[name]]
    return _chosen(rows, kept, columns)


def _of_label_studio(rows: Rows, shown: str) -> Rows:
    ids = rows.columns.get("id") or [None] * len(rows.lines)
    numbers: list[int] = []
    found: list[dict[str, Any]] = []
    kinds: dict[str, str] = {}
    unannotated = 0
    for number, task in enumerate(_annotations(rows)):
        done = [one for one in task or () if not one.get("was_cancelled")]
        done = [one for one in done if one.get("ground_truth")] or done
        unannotated += not done
        for annotation in done:
            results = _results(annotation["result"], kinds)
            numbers.append(number)
            found.append({"id": ids[number], **rows.columns["data"][number], **results})
    if unannotated:
        log.warning("%s: %d of %d tasks have no annotation and are dropped", shown, unannotated, len(ids))
    if not found:
        raise empty_file(shown, "only tasks without an annotation")
    names = dict.fromkeys(name for row in found for name in row)
    columns = {name: [row.get(name) for row in found] for name in names}
    for name, kind in kinds.items():
        columns[name] = _column(columns[name], kind)
    return _chosen(rows, numbers, columns)


def _results(results: list[Any], kinds: dict[str, str]) -> dict[str, list[Any]]:
    """The values of an annotation by control tag. Relations and the like are skipped."""
    by_tag: dict[str, list[Any]] = {}
    for result in results:
        value = result.get("value") if isinstance(result, dict) else None
        if not isinstance(value, dict) or not isinstance(result.get("from_name"), str):
            continue
        kind = str(result.get("type"))
        if kind == "labels":
            part = [value]
        elif kind in _VALUES and value.get(kind) is not None:
            part = value[kind] if kind == "choices" else [value[kind]]
        else:
            continue
        kinds[result["from_name"]] = kind
        by_tag.setdefault(result["from_name"], []).extend(part)
    return by_tag


def _column(values: list[Any], kind: str) -> list[Any]:
    """Spans as lists; one choice or number as it is, several choices as a list."""
    if kind == "labels":
        return [[] if value is None else value for value in values]
    if kind == "choices" and any(value is not None and len(value) > 1 for value in values):
        return values
    return [value[0] if value else None for value in values]
