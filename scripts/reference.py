"""docs/reference.md from the docstrings of the public classes and from the verbs' own help; see scripts/reference."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import hf_trainpipe
from hf_trainpipe import pipelines
from hf_trainpipe.cli.verbs import VERBS
from hf_trainpipe.codec.fields import field_types, spell
from hf_trainpipe.recipe_file.described import field_texts

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference.md"
CHAPTERS = {
    "The recipe": ("Recipe", "Pretrained", "Lora", "Scratch", "Distil", "Tokens", "Optim", "Budget", "Evaluation", "Hub"),
    "Tasks": (
        "TextClassification", "MultiLabelClassification", "Calibration", "Regression", "InstructionTuning", "PreferenceTuning", "TokenClassification", "QuestionAnswering",
        "SentenceEmbeddings", "Reranking",
        "Summarization", "Translation",
        "MultipleChoice",
        "CausalLM", "MaskedLM",
    ),
    "Data": ("Files", "ParallelFiles", "Frame", "HubData", "Sql", "Shards", "ChosenRows", "AddedRows", "SupportMessages"),
    "Preprocessing": (
        "NormalizeSpace", "NormalizeUnicode", "StripHtml", "CleanUrls", "Lowercase",
        "SpacySentences", "SpacyTokens", "SpacyLemmas", "SpacyMaskEntities",
        "NltkSentences", "NltkTokens", "NltkStopwords", "NltkStem", "NltkLemmas",
    ),
    "Augmentation": ("WordDropout", "WordSwap", "Typos", "SynonymReplacement", "WordNetReplacement", "TokenMask"),
    "Trackers": ("Neptune", "MLflow", "Comet", "TensorBoard", "Trackio", "WandB"),
    "Options of a run, in Python": ("RunOptions",),
    "Pipelines": (
        "Pipeline", "Ingest", "Audit", "Train", "Evaluate", "Package", "Verify", "Push", "Deploy", "Watch", "Retrain", "Promote", "Verb",
    ),
}  # fmt: skip
HEAD = """# Reference

Every field of a recipe, and every option of a verb. Made from the source by `scripts/reference`. A field of the recipe
is an option of `train` and `show` too: `--optim.peak-lr 1e-5`, `--budget.epochs 5`, `--preprocessing.0.keep-first 4`.
"""


def page() -> str:
    """The whole page, as Markdown."""
    parts = [HEAD]
    for title, names in CHAPTERS.items():
        parts.append(f"## {title}\n")
        parts += [part(vars(pipelines).get(name) or getattr(hf_trainpipe, name)) for name in names]
    parts.append("## Verbs\n")
    parts += [verb(name) for name in VERBS]
    return "\n".join(parts)


def part(cls: Any) -> str:
    """One class: what it is, then a row a field."""
    about = prose(inspect.getdoc(cls) or "")
    hints, texts = field_types(cls), field_texts(cls)
    rows = [
        f"| `{field.name}` | {cell(spell(hints[field.name]))} | {default(field)} | {cell(prose(texts[field.name]))} |"
        for field in dataclasses.fields(cls)
        if field.init
    ]
    table = (
        ["| field | type | default | meaning |", "| --- | --- | --- | --- |", *rows] if rows else ["It has no fields."]
    )
    return "\n".join([f"### {cls.__name__}\n", about, "", *table, ""])


def default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return cell(f"`{field.default!r}`")
    if field.default_factory is not dataclasses.MISSING:
        return (
            cell(f"`{field.default_factory()!r}`") if field.default_factory in (dict, list, tuple) else "its defaults"
        )
    return "needed"


def verb(name: str) -> str:
    """One verb: what it does, how it is typed, a row an option."""
    rows = [
        f"| `{cell(', '.join(action.option_strings) or str(action.metavar or action.dest))}` | {cell(prose(action.help or ''))} |"
        for action in VERBS[name].parser()._actions
        if action.help is not argparse.SUPPRESS and action.dest != "help"
    ]
    usage = f"```\nhf-trainpipe {name} {VERBS[name].usage}\n```\n"
    table = ["| argument | meaning |", "| --- | --- |", *rows] if rows else []
    return "\n".join(
        [f"### {name}\n", f"{VERBS[name].summary[:1].upper()}{VERBS[name].summary[1:]}.\n", usage, *table, ""]
    )


def prose(text: str) -> str:
    """A docstring as Markdown: its doctests are left out, roles become code."""
    text = re.split(r"\n\s*(?=>>>)|\n\s*Example", text)[0]
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    return text.replace("``", "`").strip()


def cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def main() -> int:
    text = page()
    if "--check" in sys.argv[1:]:
        if PAGE.read_text(encoding="utf-8") == text:
            return 0
        print(f"{PAGE.name} is not up to date: run scripts/reference", file=sys.stderr)
        return 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
