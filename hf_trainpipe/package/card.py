"""The model card: README.md of a package, with metadata for the Hub."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_trainpipe.package import card_baselines
from hf_trainpipe.package.card_breakdown import breakdown
from hf_trainpipe.package.card_calibration import calibration
from hf_trainpipe.package.card_merge import block
from hf_trainpipe.package.card_tables import curve, is_number, table
from hf_trainpipe.package.in_words import result
from hf_trainpipe.package.layout import PICTURE

_LISTED_LABELS = 100
_NOTE = "<!-- Text between these marks is rewritten by each push; text outside of them stays. -->"


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """Facts for a card that are not in trainpipe.json. All are optional."""

    language: str | Sequence[str] | None = None
    """ISO 639-1 codes."""
    license: str | None = None
    """A license id of the Hub, such as ``apache-2.0``."""
    base_model: str | None = None
    """Hub id or folder of the base model."""
    base_revision: str | None = None
    data: str | None = None
    """One line: where the examples come from."""
    dataset: str | None = None
    """Hub id of the data set."""
    dataset_config: str | None = None
    dataset_revision: str | None = None
    train_command: str | None = None
    evaluate_command: str | None = None
    seconds: float | None = None
    """Wall-clock time of the training, in seconds, over all attempts."""
    attempts: int = 1
    """Starts of the run: one, and one more after each interruption."""
    hardware: str | None = None
    precision: str | None = None
    """What the training steps computed in."""
    intended_use: Sequence[str] = ()
    """Sentences on what the model is for."""
    limits: Sequence[str] = ()
    """Further sentences for the section on limits."""
    tags: Sequence[str] = ()
    """Further tags for the Hub to find it by."""
    curve: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    """The training curve: name (``train/loss``) to ``(step, value)`` pairs, by step."""
    picture: bool = False
    """Whether the package holds a picture of the curve (:data:`.layout.PICTURE`)."""
    trust_remote_code: bool = False
    report: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Split to the details of its scores (:func:`hf_trainpipe.metrics.breakdown`); texts of errors only if they may be
    shown."""
    baselines: Mapping[str, Any] = field(default_factory=dict)
    """The run's baselines.json; empty where simpler models were not held against it."""
    history: Sequence[Mapping[str, Any]] = ()
    """Changes of settings during the run, from run.json; each entry with ``from_step``, ``extended``, ``command``
    and ``changes`` (field, before, after)."""


def render(manifest: Mapping[str, Any], facts: CardFacts) -> str:
    """The model card of the package that ``manifest`` (its trainpipe.json) describes, as Markdown.

    Every section is between marks (:mod:`hf_trainpipe.package.card_merge`); text written outside of them on the
    Hub survives the next push.
    """
    sections = (
        ("scores", "Scores", _scores(manifest, facts)),
        (card_baselines.NAME, card_baselines.TITLE, card_baselines.section(facts.baselines)),
        ("intended", "Intended use", "\n".join(f"- {line}" for line in facts.intended_use)),
        ("limits", "Limits", _limits(manifest, facts)),
        ("usage", "How to use", _usage(manifest)),
        ("labels", "Labels", _labels(manifest)),
        ("breakdown", "Scores by label", breakdown(facts.report)),
        ("calibration", "Calibration", calibration(facts.report)),
        ("curve", "Training curve", _curve(facts)),
        ("data", "Training data", _data(manifest, facts)),
        ("preprocessing", "Preprocessing", _preprocessing(manifest)),
        ("environment", "Environment", _environment(manifest, facts)),
        ("settings", "Settings", _settings(manifest)),
        ("reproduce", "How to reproduce", _reproduce(manifest, facts)),
        ("resuming", "Resuming", _resuming(manifest)),
    )
    body = "\n".join(block(name, f"## {title}\n\n{text.strip()}") for name, title, text in sections if text.strip())
    head = block("summary", f"{_NOTE}\n# {manifest['name']}\n\n{_summary(manifest, facts)}")
    return f"---\n{_metadata(manifest, facts)}\n---\n\n{head}\n{body}"


def read_curve(run: Path, *, select: str) -> dict[str, list[tuple[int, float]]]:
    """The training loss and the selected validation score of a run, from its ledger."""
    from hf_trainpipe.tracking.ledger import series

    names = ("train/loss", "validation/loss", f"validation/{select}")
    found = {name: series(run / "ledger.jsonl", name) for name in dict.fromkeys(names)}
    return {name: points for name, points in found.items() if points}


def _metadata(manifest: Mapping[str, Any], facts: CardFacts) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    task = manifest["about"]["pipeline"]
    dataset = facts.dataset or re.sub(r"[^\w.-]+", "-", str(manifest["name"]))
    on_hub = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", facts.base_model or "") is not None
    results = [
        EvalResult(
            task_type=task,
            dataset_type=dataset,
            dataset_name=facts.dataset or str(manifest["name"]),
            dataset_config=facts.dataset_config,
            dataset_split=split,
            dataset_revision=facts.dataset_revision if facts.dataset else None,
            metric_type=metric,
            metric_name=metric,
            metric_value=score["value"],
            metric_args=_interval_args(score),
        )
        for split, scores in manifest["scores"].items()
        for metric, score in scores.items()
        if is_number(score.get("value"))
    ]
    card = ModelCardData(
        language=facts.language if isinstance(facts.language, str) else list(facts.language or ()) or None,
        license=facts.license,
        library_name="transformers",
        pipeline_tag=task,
        tags=list(dict.fromkeys(["hf-trainpipe", *facts.tags])),
        datasets=[facts.dataset] if facts.dataset else None,
        base_model=facts.base_model if on_hub else None,
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=str(manifest["name"]) if results else None,
        eval_results=results or None,
    )
    return str(card.to_yaml(line_break="\n")).strip()


def _interval_args(score: Mapping[str, Any]) -> dict[str, float] | None:
    known = {name: score.get(name) for name in ("low", "high", "confidence")}
    return {name: float(value) for name, value in known.items() if is_number(value)} or None  # type: ignore[arg-type]


def _summary(manifest: Mapping[str, Any], facts: CardFacts) -> str:
    what = manifest["about"]["does"]
    base = f", fine-tuned from `{facts.base_model}`" if facts.base_model else ""
    revision = f" (revision `{facts.base_revision}`)" if facts.base_model and facts.base_revision else ""
    lora = _lora(manifest)
    how = f" with LoRA of rank {lora['rank']}, merged into the weights" if lora else ""
    how += _taught((manifest["recipe"] or {}).get("distil") or {})
    pair = " It reads pairs of texts." if manifest["about"]["reads"] == "pair" else ""
    said = f"A text model that {what}{base}{revision}{how}.{pair}"
    select = ((manifest["recipe"] or {}).get("evaluation") or {}).get("select")
    scored = result(manifest["scores"], select=select)
    return (
        f"{said}{f' **{scored[:1].upper()}{scored[1:]}.**' if scored else ''} Trained and measured with hf-trainpipe."
    )


def _lora(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """The recipe's settings of adapters; empty where it has none."""
    return ((manifest["recipe"] or {}).get("model") or {}).get("lora") or {}


def _taught(distil: Mapping[str, Any]) -> str:
    """From which teacher it learnt too; empty without one."""
    if not distil:
        return ""
    revision = f" (revision `{distil['revision']}`)" if distil.get("revision") else ""
    return (
        f", distilled from `{distil['teacher']}`{revision} with weight {distil['weight']:g} and temperature "
        f"{distil['temperature']:g}"
    )


def _usage(manifest: Mapping[str, Any]) -> str:
    about = manifest["about"]
    handler_inputs = json.dumps(about["examples"][:2], ensure_ascii=False)
    model_class = about.get("model") or "AutoModel"
    max_length = manifest["tokens"].get("max_length")
    limit = f", max_length={max_length}" if max_length else ""
    first = about["examples"][0]
    texts = [first] if isinstance(first, str) else list(first.values())
    model_inputs = ", ".join(json.dumps(text, ensure_ascii=False) for text in texts)
    network = f"""
Or only the model, without this package's preprocessing:

```python
from transformers import AutoTokenizer, {model_class}

tokenizer = AutoTokenizer.from_pretrained(".")
model = {model_class}.from_pretrained(".")
encoded = tokenizer({model_inputs}, truncation=True{limit}, return_tensors="pt")
print(model(**encoded).logits)
```
"""
    network = network if about.get("gives_logits") else ""
    if _lora(manifest).get("save_adapter"):
        network += f"""
The adapter and the head alone are in `adapter/`, for the base model and peft:

```python
import peft
from transformers import {model_class}

base = {model_class}.from_pretrained("BASE"{f", num_labels={len(about['labels'])}" if about["labels"] else ""})
model = peft.PeftModel.from_pretrained(base, "adapter")
```
"""
    consent = allow = ""
    if manifest.get("code"):
        allow = ", allow_code=True"
        consent = (
            f"\nThis package contains Python code (`{manifest['code']['file']}`) that runs when it is loaded."
            " Read it first.\n"
        )
    return f"""
Install `requirements.txt` and run this in this folder. The handler preprocesses, tokenizes and decodes as in the
evaluation above; Inference Endpoints uses the same one:
{consent}
```python
import sys

sys.path.insert(0, ".")  # the folder of this package
from handler import EndpointHandler

handler = EndpointHandler("."{allow})
for answer in handler({{"inputs": {handler_inputs}}}):
    print(answer)
```

{network}"""


def _joined(*parts: str) -> str:
    """The parts that are not empty, a paragraph each."""
    return "\n\n".join(part for part in parts if part)


def _labels(manifest: Mapping[str, Any]) -> str:
    about = manifest["about"]
    labels = about["labels"]
    more = len(labels) - _LISTED_LABELS
    options = ", ".join(f"{name} {_code(value)}" for name, value in about["options"].items() if value is not None)
    return _joined(
        table(("id", "label"), enumerate(labels[:_LISTED_LABELS])) if labels else f"None: it {about['does']}.",
        f"and {more} more, in `config.json`." if more > 0 else "",
        f"Decoding: {options}." if options else "",
    )


def _code(value: object) -> str:
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _data(manifest: Mapping[str, Any], facts: CardFacts) -> str:
    lines = [facts.data] if facts.data else []
    if facts.dataset:
        config = f", {facts.dataset_config}" if facts.dataset_config else ""
        lines.append(f"Data set: `{facts.dataset}`{config}.")
    if facts.dataset_revision:
        lines.append(f"Revision: `{facts.dataset_revision}`.")
    told = manifest["data"] or {}
    rows, overflow = told.get("rows") or {}, told.get("overflow") or {}
    splits = [
        (split, count, *(overflow.get(split, {}).get(name, "") for name in ("tokens", "over_length", "dropped")))
        for split, count in rows.items()
    ]
    rest = {name: value for name, value in told.items() if name not in ("rows", "overflow")}
    known = [(name, value) for name, value in flatten(rest) if value is not None]
    return _joined(
        "\n".join(lines),
        table(("split", "examples", "tokens", "longer than the limit", "dropped"), splits) if splits else "",
        table(("", "value"), known) if known else "",
    )


def flatten(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """``{"a": {"b": 1}}`` as ``[("a.b", 1)]``."""
    if isinstance(value, Mapping) and value:
        return [pair for name, child in value.items() for pair in flatten(child, f"{prefix}.{name}".lstrip("."))]
    return [(prefix, value)]


def _curve(facts: CardFacts) -> str:
    """The picture, with the numbers folded; without one the numbers, drawn as blocks."""
    numbers = curve(facts.curve)
    if not facts.picture or not numbers:
        return numbers
    return f"![Losses and scores by step]({PICTURE})\n\n<details><summary>Numbers</summary>\n\n{numbers}\n\n</details>"


def _settings(manifest: Mapping[str, Any]) -> str:
    chosen = ("model", "task", "tokens", "optim", "budget", "evaluation", "seed")
    recipe = manifest["recipe"] or {}
    rows = [
        (setting, value)
        for name in chosen
        if name in recipe
        for setting, value in flatten(recipe[name], name)
        if value is not None and not setting.endswith(".kind")
    ]
    if not rows:
        return ""
    return f"<details><summary>{len(rows)} settings</summary>\n\n{table(('setting', 'value'), rows)}\n\n</details>"


def _scores(manifest: Mapping[str, Any], facts: CardFacts) -> str:
    rows = []
    for split, scores in manifest["scores"].items():
        for metric, score in scores.items():
            value, low, high, level = (score.get(name) for name in ("value", "low", "high", "confidence"))
            percent = f" ({100 * level:g} %)" if is_number(level) else ""
            interval = f"{low:.4f} to {high:.4f}{percent}" if is_number(low) and is_number(high) else "-"
            rows.append((split, metric, f"{value:.4f}" if is_number(value) else "-", interval, score.get("n", "-")))
    if not rows:
        return "None were computed."
    command = facts.evaluate_command or "hf-trainpipe evaluate PACKAGE"
    return (
        f"{table(('split', 'metric', 'value', 'interval', 'examples'), rows)}\n\n"
        f"Intervals are percentiles of a bootstrap over the examples. Computed by `{command}`."
    )


def _preprocessing(manifest: Mapping[str, Any]) -> str:
    lines = []
    for number, step in enumerate(manifest["preprocessing"], start=1):
        options = ", ".join(
            f"{name}={_code(value)}" for name, value in step.items() if name != "kind" and value is not None
        )
        lines.append(f"{number}. {step['kind']}{f' ({options})' if options else ''}")
    tokens = manifest["tokens"]
    length = f"at most {tokens['max_length']}" if tokens.get("max_length") else "at most the model's maximum"
    lines.append(f"\nTokens: {length}; longer texts: {tokens.get('overflow', 'truncate')}.")
    lines += manifest["about"].get("notes", ())
    return "\n".join(lines)


def _limits(manifest: Mapping[str, Any], facts: CardFacts) -> str:
    has_labels = bool(manifest["about"]["labels"])
    is_calibrated = bool(manifest["about"]["options"].get("temperature"))
    told = (
        (True, "The scores hold for texts like those of the evaluated splits; measure again on other sources."),
        (has_labels, "It knows only the labels listed below; a text that fits none of them gets one all the same."),
        (
            has_labels and not is_calibrated,
            "Its scores per answer are outputs of the network and are not calibrated.",
        ),
        (manifest["tokens"].get("overflow") == "truncate", "Texts beyond the maximum length are truncated."),
        (True, "It may repeat biases of its training data and of its base model."),
        (facts.trust_remote_code, "The base model has custom code (trust_remote_code), which ran in training."),
    )
    return "\n".join(f"- {line}" for line in (*(line for holds, line in told if holds), *facts.limits))


def _environment(manifest: Mapping[str, Any], facts: CardFacts) -> str:
    attempts = f", in {facts.attempts} attempts" if facts.attempts > 1 else ""
    return _joined(
        table(("", "version"), manifest["versions"].items()) if manifest["versions"] else "",
        f"Hardware: {facts.hardware}." if facts.hardware else "",
        f"Training steps: {facts.precision}. Scores and packages: fp32." if facts.precision else "",
        f"Training and final scoring took {facts.seconds:.0f} s{attempts}." if facts.seconds is not None else "",
    )


def _resuming(manifest: Mapping[str, Any]) -> str:
    proof = manifest.get("resumed")
    if not proof:
        return ""
    killed = f"A copy of this run, from step {proof['from_step']} on"
    if proof.get("error"):
        return f"{killed}, was to be killed and resumed; it could not be compared: {proof['error']}"
    outcome = "was the same, bit for bit" if proof["identical"] else f"differed in {', '.join(proof['differing'])}"
    return (
        f"{killed}, was killed with SIGKILL after step {proof['killed_after']} and resumed by the same command "
        f"({proof['ranks']} x {proof['device']}). At step {proof['compared_at']} its checkpoint (weights, optimizer, "
        f"state) {outcome}."
    )


def _history(history: Sequence[Mapping[str, Any]]) -> str:
    """Changes of settings during training, a line each."""
    lines = ["The settings above are those of the last steps. They changed during training:", ""]
    for entry in history:
        changes = ", ".join(f"`{field}` {_code(old)} to {_code(new)}" for field, old, new in entry["changes"])
        how = " (the run was extended with the same optimizer state)" if entry.get("extended") else ""
        lines.append(f"- from step {int(entry['from_step']) + 1:,} on: {changes}{how}")
    return "\n".join(lines)


def _reproduce(manifest: Mapping[str, Any], facts: CardFacts) -> str:
    commands, changes = [facts.train_command or "hf-trainpipe train RECIPE"], ""
    if facts.history:
        ends = [int(entry["from_step"]) for entry in facts.history]
        commands += (str(entry["command"]) for entry in facts.history)
        stretches = [f"up to step {ends[0]:,}", *(f"from step {end + 1:,} on" for end in ends)]
        width = max(map(len, commands))
        commands = [f"{one:<{width}}  # {when}" for one, when in zip(commands, stretches, strict=True)]
        changes = f"\n{_history(facts.history)}\n"
    listed = "\n".join(commands)
    return f"""
```
{listed}
```
{changes}
The recipe as JSON, with its seed, is in `trainpipe.json`; `requirements.txt` pins the versions above.
`hf-trainpipe verify` checks the files' hashes and that the answers are those recorded after training.
"""
