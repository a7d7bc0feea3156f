"""Rows to label: as a table, or as tasks of Label Studio, doccano and Prodigy, whose exports training reads (docs/suggest.md).

Each has the columns of its row, the model's answer for a start, and why it was chosen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal
from xml.sax.saxutils import quoteattr

from hf_trainpipe.data.written_lists import is_written_list
from hf_trainpipe.errors import DataError
from hf_trainpipe.package.answers import Answered, form_of, written
from hf_trainpipe.package.inputs import Record
from hf_trainpipe.package.suggest import Chosen, Suggestions
from hf_trainpipe.runtime.tasks.columns import CLASSES
from hf_trainpipe.utils.atomic import write_bytes

Tool = Literal["table", "label-studio", "doccano", "prodigy"]


def tool_of(output: Path, said: Tool | None) -> Tool:
    """What is written to a file: what was said, else tasks of Label Studio for .json, and a table for other endings.

    Raises:
        DataError: a table with another ending than tables have.
    """
    tool: Tool = said or ("label-studio" if output.suffix.lower() == ".json" else "table")
    if tool == "table":
        form_of(output)
    return tool


def write(found: Suggestions, output: Path, *, tool: Tool, with_answers: bool = True) -> list[Path]:
    """Write the rows; of Label Studio the labelling interface too.

    Args:
        with_answers: Whether annotators see the model's answer; without it they are not led by it.

    Returns:
        The files.

    Raises:
        DataError: the tool labels one text a task, and the input has several; or words without their text.
    """
    if tool == "table":
        _write_table(found, output, with_answers)
        return [output]
    if tool == "label-studio":
        tasks = [_of_label_studio(found, one, with_answers) for one in found.chosen]
        write_bytes(output, (json.dumps(tasks, ensure_ascii=False, indent=1) + "\n").encode())
        interface = output.with_suffix(".xml")
        write_bytes(interface, _interface(found).encode())
        return [output, interface]
    _check_one_text(found, tool)
    make: Callable[[Suggestions, Chosen, bool], dict[str, Any]] = _of_doccano if tool == "doccano" else _of_prodigy
    lines = [json.dumps(make(found, one, with_answers), ensure_ascii=False) for one in found.chosen]
    write_bytes(output, ("\n".join(lines) + "\n").encode())
    return [output]


def _write_table(found: Suggestions, output: Path, with_answers: bool) -> None:
    items = []
    for one in found.chosen:
        record = Record(
            one.record.line, fields={**_fields(one), "why": one.why, "uncertainty": _why(one)["uncertainty"]}
        )
        items.append(Answered(one.row, record, one.answer if with_answers else None))
    with written(output, form_of(output), found.task, {}) as put:
        put(items)


def _check_one_text(found: Suggestions, tool: Tool) -> None:
    if len(found.columns) > 1:
        raise DataError(
            f"{tool} labels one text a task, and the input has the columns {' and '.join(found.columns)}.",
            fix="Write tasks of Label Studio: --to label-studio.",
        )


def _fields(one: Chosen) -> dict[str, Any]:
    return {"text": one.record.value} if one.record.fields is None else dict(one.record.fields)


def _text(found: Suggestions, one: Chosen) -> str:
    """The text that is labelled, as the file has it.

    Raises:
        DataError: it is a list of words, so that no character of it has a place.
    """
    cell = _fields(one)[found.columns[0] if found.columns else "text"]
    if not isinstance(cell, str) or (cell[:1] == "[" and is_written_list(cell) and _is_tagger(found)):
        raise DataError(
            f"row {one.row}: annotation tools mark characters of a text, found a list of words.",
            fix="Give a file with a column of texts: --column text.",
        )
    return cell


def _is_tagger(found: Suggestions) -> bool:
    return found.task.schema().answers == "tags"


def _is_several(found: Suggestions) -> bool:
    return found.task.target is not None and found.task.target.cell == CLASSES


def _labels(found: Suggestions, one: Chosen) -> list[str]:
    """The labels of an answer: the likeliest of one label, all of several."""
    names = [str(item["label"]) for item in one.answer]
    return names if _is_several(found) else names[:1]


def _spans(one: Chosen) -> list[dict[str, Any]]:
    return [item for item in one.answer if item["label"] is not None]


def _types(found: Suggestions) -> list[str]:
    """Labels that annotators choose from; of a tagger with a scheme its types."""
    names = found.task.label_names
    if not _is_tagger(found) or found.task.fields().get("scheme") is None:
        return list(names)
    return list(dict.fromkeys(name.split("-", 1)[1] for name in names if "-" in name))


def _why(one: Chosen) -> dict[str, Any]:
    return {"row": one.row, "why": one.why, "uncertainty": round(one.uncertainty, 4)}


def _control(found: Suggestions) -> str:
    """The name of the column that comes back: the recipe's."""
    return "label" if _is_tagger(found) or not found.target else found.target


def _of_label_studio(found: Suggestions, one: Chosen, with_answers: bool) -> dict[str, Any]:
    task: dict[str, Any] = {"data": {**_fields(one), **_why(one)}}
    if not with_answers:
        return task
    column = found.columns[0] if found.columns else "text"
    place = {"from_name": _control(found), "to_name": column}
    if _is_tagger(found):
        _text(found, one)
        result = [
            {
                **place,
                "type": "labels",
                "value": {"start": at["start"], "end": at["end"], "text": at["text"], "labels": [at["label"]]},
            }
            for at in _spans(one)
        ]
    else:
        result = [{**place, "type": "choices", "value": {"choices": _labels(found, one)}}]
    score = round(1.0 - one.uncertainty, 4)
    return {**task, "predictions": [{"model_version": found.name, "score": score, "result": result}]}


def _interface(found: Suggestions) -> str:
    """Label Studio's labelling interface, to be pasted into the settings of a project."""
    columns = found.columns or ("text",)
    texts = [f"  <Text name={quoteattr(name)} value={quoteattr('$' + name)}/>" for name in columns]
    to_name, name = quoteattr(columns[0]), quoteattr(_control(found))
    if _is_tagger(found):
        kind, item, more = "Labels", "Label", ""
    else:
        kind, item, more = "Choices", "Choice", f' choice="{"multiple" if _is_several(found) else "single"}"'
    labels = [f"    <{item} value={quoteattr(label)}/>" for label in _types(found)]
    control = [f"  <{kind} name={name} toName={to_name}{more}>", *labels, f"  </{kind}>"]
    return "\n".join(["<View>", *texts, *control, "</View>", ""])


def _of_doccano(found: Suggestions, one: Chosen, with_answers: bool) -> dict[str, Any]:
    text = _text(found, one)
    label: Sequence[Any] = []
    if with_answers:
        label = (
            [[at["start"], at["end"], at["label"]] for at in _spans(one)] if _is_tagger(found) else _labels(found, one)
        )
    others = {name: cell for name, cell in _fields(one).items() if name not in ("text", "label", *found.columns)}
    return {"text": text, "label": label, **others, **_why(one)}


def _of_prodigy(found: Suggestions, one: Chosen, with_answers: bool) -> dict[str, Any]:
    text = _text(found, one)
    others = {name: cell for name, cell in _fields(one).items() if name not in ("text", *found.columns)}
    task: dict[str, Any] = {"text": text, "meta": {**others, **_why(one)}}
    if _is_tagger(found):
        spans = [{"start": at["start"], "end": at["end"], "label": at["label"]} for at in _spans(one)]
        return {**task, "spans": spans if with_answers else []}
    options = [{"id": label, "text": label} for label in _types(found)]
    return {**task, "options": options, "accept": _labels(found, one) if with_answers else []}
