"""Packages of before a task was one file: what ``decoder``, ``inputs`` and ``splitter`` of their trainpipe.json mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .classification import TextClassification
from .multi_label import MultiLabelClassification
from .regression import Regression
from .tagging import TokenClassification

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .base import Task


def task_of_decoder(manifest: Mapping[str, Any]) -> Task:
    """The task that gives the answers of a package of schema 1.

    Args:
        manifest: Its fields, checked.
    """
    decoder, recipe = manifest["decoder"], _task_of_recipe(manifest)
    options: Mapping[str, Any] = decoder.get("options") or {}
    names = tuple(decoder.get("labels") or ()) or None
    recorded = manifest.get("columns") or _columns(recipe)
    text, *pair = recorded.get("inputs") or (("text", "text_pair") if manifest["inputs"] == "pair" else ("text",))
    second = pair[0] if pair else "text_pair" if manifest["inputs"] == "pair" else None
    target = recorded.get("target")
    kind = decoder["kind"]
    if kind == "single_label":
        return TextClassification(text, text_pair=second, names=names, **_named(label=target))
    if kind == "multi_label":
        threshold, parts = options.get("threshold", 0.5), recipe.get("labels")
        limits = tuple(threshold) if isinstance(threshold, list) else threshold
        labels = tuple(parts) if isinstance(parts, list) else target  # columns of 0s and 1s, where the recipe has them
        written = {name: recipe[name] for name in ("separator", "form") if isinstance(recipe.get(name), str)}
        return MultiLabelClassification(
            text, text_pair=second, names=names, threshold=limits, **_named(labels=labels), **written
        )
    if kind == "regression":
        low, high = options.get("low"), options.get("high")
        return Regression(text, text_pair=second, low=low, high=high, **_named(score=target))
    scheme = options.get("scheme")
    told: dict[str, Any] = {
        "names": names,
        "scheme": "BIOES" if scheme == "BILOU" else scheme,  # read alike
        "splitter": manifest.get("splitter") or "regex",
    }
    if recipe.get("text") and recipe.get("spans"):
        return TokenClassification(text=recorded.get("inputs", [recipe["text"]])[0], spans=target or "spans", **told)
    words = (recorded.get("inputs") or ("tokens",))[0]
    return TokenClassification(words, **_named(tags=target), **told)


def has_known_columns(manifest: Mapping[str, Any]) -> bool:
    """Whether the recipe that such a package carries tells which columns it read."""
    return bool(_columns(_task_of_recipe(manifest)))


def _named(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _task_of_recipe(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    return (manifest.get("recipe") or {}).get("task") or {}


def _columns(task: Mapping[str, Any]) -> dict[str, Any]:
    """Columns as the recipe spells them, where a field that is left out has its default."""
    usual = {"TextClassification": "label", "MultiLabelClassification": "labels", "Regression": "score"}
    kind = task.get("kind")
    if kind in usual:
        target = task.get(usual[kind]) or usual[kind]
        pair = [task["text_pair"]] if task.get("text_pair") else []
        named = ", ".join(target) if isinstance(target, list) else target
        return {"inputs": [task.get("text") or "text", *pair], "target": named}
    if kind == "TokenClassification":
        if task.get("text"):
            return {"inputs": [task["text"]], "target": task.get("spans")}
        return {"inputs": [task.get("words") or "tokens"], "target": task.get("tags") or "tags"}
    return {}
