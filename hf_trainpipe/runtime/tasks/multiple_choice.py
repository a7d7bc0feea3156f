"""The right one of several choices, any number of them.

Shapes: N examples, F features (one a choice, or several windows), E examples of a micro-batch with B features, M features of the
largest of them, C choices.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import RecipeError
from ..model.inference import of_choices
from ..model.outputs import Output, Outputs
from ..tokens.batch import members_of
from ..tokens.ragged import ends_of
from .base import Augmentable, Metric, Requests, Task
from .columns import ANYTHING, CHOICES, TEXT, Column
from .departures import furthest, of_one
from .merging import softmax
from .schema import TaskSchema
from .texts import SCORE, record

if TYPE_CHECKING:
    import torch

    from ..tokens.encoder import Encoder
    from ..tokens.features import Features

Array = npt.NDArray[Any]
Form = Literal["key", "text", "letter", "index", "number"]


class Row(NamedTuple):
    """The choices of a row, and what stands in its column of labels."""

    texts: tuple[str, ...]
    keys: tuple[str, ...]
    """What the row calls its choices; empty where it does not."""
    said: str


def _place(name: str, names: Sequence[str]) -> int | None:
    """Where a name stands; None: nowhere, or more than once."""
    return names.index(name) if names.count(name) == 1 else None


def _whole(said: str, *, first: int, row: Row) -> int | None:
    number = said.removesuffix(".0")
    place = int(number) - first if number.isascii() and number.isdigit() and len(number) < 6 else -1
    return place if 0 <= place < len(row.texts) else None


FORMS: Mapping[Form, tuple[str, Callable[[Row], int | None]]] = {
    "key": ("what the row calls the choice", lambda row: _place(row.said, row.keys)),
    "text": ("the text of a choice", lambda row: _place(row.said, [text.strip() for text in row.texts])),
    "letter": ("a letter, A for the first choice", lambda row: _place(row.said.upper(), string.ascii_uppercase[: len(row.texts)])),
    "index": ("a number, 0 for the first choice", lambda row: _whole(row.said, first=0, row=row)),
    "number": ("a number, 1 for the first choice", lambda row: _whole(row.said, first=1, row=row)),
}  # fmt: skip
"""How a label names a choice: in words, and the place of the choice; None where it does not."""


class Judged(NamedTuple):
    """Of N examples."""

    is_right: Array
    """bool[N]"""
    num_choices: Array
    """[N]"""


@dataclass(frozen=True)
class MultipleChoice(Task):
    """The one of several choices that continues or answers a text; examples may differ in how many they have."""

    prompt: str = "prompt"
    """The column with the text that the choices continue or answer."""
    choices: str = "choices"
    """The column with the choices: a list of texts, or ``{"text": [...], "label": [...]}``. A column for each choice:
    ``data.lists`` makes one of them."""
    _: KW_ONLY
    stem: str | None = None
    """The column with what stands before each choice, where the prompt is a text beside it: the question about a passage, the
    beginning of the last sentence."""
    label: str = "label"
    """The column with the right choice; ``label_form`` says how it is named."""
    label_form: Form | None = None
    """How labels name the right choice. ``index``: its place, from 0. ``number``: from 1. ``letter``: A, B, ... ``text``: the
    choice itself. ``key``: what the row calls it (``label`` of the choices). None: the one way that fits the training data."""

    outputs: ClassVar[Mapping[str, Output]] = {"logits": Output()}
    departs_in: ClassVar[str] = "of probabilities"
    augmentable: ClassVar[Augmentable] = "text"
    learned: ClassVar[tuple[str, ...]] = ("label_form",)
    encodes_by: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.label_form is not None and self.label_form not in FORMS:
            raise RecipeError(
                f"task.label_form: expected {', '.join(FORMS)}, found {self.label_form!r}.",
                fix="Choose one of them, or leave it out.",
            )

    def columns(self) -> dict[str, Column]:
        stem = {} if self.stem is None else {"stem": Column(self.stem, TEXT)}
        return {
            "prompt": Column(self.prompt, TEXT),
            **stem,
            "choices": Column(self.choices, CHOICES),
            "label": Column(self.label, ANYTHING, is_target=True, usual=("label", "answer")),
        }

    # -- features and targets ------------------------------------------------------------------------------------------

    def encode(self, inputs: Mapping[str, Sequence[Any]], encoder: Encoder) -> Features:
        """A feature a choice: the prompt, and the choice behind its stem."""
        choices = [CHOICES.read(cell, allow_empty=True) for cell in inputs["choices"]]
        counts = np.array([len(texts) for texts in choices], dtype=np.int64)
        owners = np.repeat(np.arange(len(choices), dtype=np.int64), counts)
        stems = inputs.get("stem")
        seconds = [
            text if stems is None else f"{stems[row]} {text}" for row, texts in enumerate(choices) for text in texts
        ]
        prompts = chain.from_iterable(
            [text] * len(texts) for text, texts in zip(inputs["prompt"], choices, strict=True)
        )
        return encoder.texts(list(prompts), seconds, owners=owners)

    def fit(self, rows: Any) -> MultipleChoice:
        """The form of the labels, where the recipe does not say it.

        Raises:
            DataError: no form fits all labels, or several do and name different choices.
        """
        if self.label_form is not None:
            return self
        return replace(self, label_form=_form_of(self._rows(rows), rows, self.label))

    def check(self, rows: Any) -> None:
        self._labels(rows)

    def _rows(self, rows: Any) -> list[Row]:
        found: list[Row] = rows.once((self.choices, self.label), lambda: self._read(rows))
        return found

    def _read(self, rows: Any) -> list[Row]:
        pairs = zip(rows.inputs(self)["choices"], rows.values(self.columns()["label"]), strict=True)
        return [Row(CHOICES.read(cell, allow_empty=True), _keys(cell), str(said).strip()) for cell, said in pairs]

    def _labels(self, rows: Any) -> Array:
        """int64[N]: the place of the right choice.

        Raises:
            DataError: with the place of a row whose label names none of its choices.
        """
        told, place_of = FORMS[self.label_form or "index"]
        found = []
        for number, row in enumerate(self._rows(rows)):
            place = place_of(row)
            if place is None:
                raise rows.refuse(
                    number,
                    f"column {self.label!r}: expected {told}, found {row.said!r:.60} for {len(row.texts)} choices "
                    f"({', '.join(repr(text[:20]) for text in row.texts[:4])}).",
                    fix=f"Correct the row, or set task.label_form to {', '.join(FORMS)}.",
                )
            found.append(place)
        return np.array(found, dtype=np.int64)

    def unknown_labels(self, rows: Any) -> list[tuple[int, str]]:
        place_of = FORMS[self.label_form or "index"][1]
        return [(number, row.said) for number, row in enumerate(self._rows(rows)) if place_of(row) is None]

    def supervise(self, rows: Any, features: Features) -> Features:
        labels_N = self._labels(rows)
        choice_F = np.asarray(features.input["text"])[features.input.starts[:-1]].astype(np.int64)
        found = features.with_targets(
            labels=labels_N[features.example], choice=choice_F, of_examples={"labels": labels_N}
        )
        return replace(found, together=True)

    # -- the model -----------------------------------------------------------------------------------------------------

    def forward(self, model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"logits": model(**of_choices(model, inputs)).logits[:, 0]}

    def loss_sum(self, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Cross-entropy over the choices of each example; the logit of a choice is the mean over its windows."""
        import torch

        logits_B, members_EM = outputs["logits"].float(), batch["members"]
        is_there_EM, at_EM = members_EM >= 0, members_EM.clamp(min=0)
        places_C = torch.arange(members_EM.shape[1], device=members_EM.device)
        is_of_EMC = (batch["choice"][at_EM][..., None] == places_C) & is_there_EM[..., None]
        windows_EC = is_of_EMC.sum(dim=1)
        sums_EC = (logits_B[at_EM][..., None] * is_of_EMC).sum(dim=1)
        logits_EC = (sums_EC / windows_EC.clamp(min=1)).masked_fill(windows_EC == 0, -torch.inf)
        labels_E = batch["labels"][members_EM[:, 0]]
        losses_E = torch.nn.functional.cross_entropy(logits_EC, labels_E, reduction="none")
        weights_E = (batch["weights"][at_EM] * is_there_EM).sum(dim=1)
        return (losses_E * weights_E).sum()

    # -- from features to answers --------------------------------------------------------------------------------------

    def merge(self, outputs: Outputs, features: Features) -> Outputs:
        """``logits`` with a row a choice, in the order of the choices: of its windows the mean."""
        starts = features.input.starts[outputs.items]
        choice = np.asarray(features.input["text"])[starts].astype(np.int64)
        key = features.example[outputs.items].astype(np.int64) << 32 | choice
        known, row = np.unique(key, return_inverse=True)
        sums = np.zeros(len(known), dtype=np.float64)
        np.add.at(sums, row, outputs["logits"])
        logits = (sums / np.bincount(row, minlength=len(known))).astype(np.float32)
        items, counts = np.unique(known >> 32, return_counts=True)
        return Outputs(items.astype(np.int64), {"logits": logits}, {"logits": ends_of(counts.astype(np.int64))})

    def merged_batch(self, predictions: Outputs, features: Features) -> tuple[dict[str, Any], dict[str, Any]]:
        counts = np.diff(predictions.starts["logits"])
        owners = np.repeat(np.arange(len(predictions), dtype=np.int64), counts)
        return dict(predictions.arrays), {
            "labels": features.of_examples["labels"][predictions.items][owners],
            "choice": np.arange(len(owners), dtype=np.int64) - predictions.starts["logits"][owners],
            "members": members_of(owners),
            "weights": (1.0 / counts[owners]).astype(np.float32),
        }

    def judge(self, predictions: Outputs, features: Features) -> Judged:
        labels_N = features.of_examples["labels"][predictions.items]
        chosen = np.array([predictions.rows("logits", at).argmax() for at in range(len(predictions))], dtype=np.int64)
        return Judged(chosen == labels_N, np.diff(predictions.starts["logits"]))

    def metrics(self) -> tuple[Metric, ...]:
        return (Metric("accuracy", lambda judged: judged.is_right.astype(float)),)

    def departure(self, found: Sequence[Any], recorded: Sequence[Any]) -> float:
        return furthest(found, recorded, of_one)

    def answers(self, predictions: Outputs, asked: Requests, **parameters: Any) -> list[Any]:
        """``{"label", "choice", "scores"}``: the place of the best choice, the choice, and the probability of each."""
        found = []
        for position, example in enumerate(predictions.items.tolist()):
            scores = softmax(predictions.rows("logits", position)[None])[0]
            label = int(scores.argmax())
            text = CHOICES.read(asked.inputs[example]["choices"], allow_empty=True)[label]
            found.append({"label": label, "choice": text, "scores": scores.tolist()})
        return found

    def answer_columns(self, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        return ("label", "choice", "score", "scores")

    def answer_cells(self, answer: Any, parameters: Mapping[str, Any]) -> tuple[Any, ...]:
        return (answer["label"], answer["choice"], max(answer["scores"]), answer["scores"])

    def schema(self) -> TaskSchema:
        stem, said = ({}, {}) if self.stem is None else ({"stem": TEXT}, {"stem": "Anna then"})
        begins = "" if self.stem else "She "
        example = {
            "prompt": "Anna heard the kettle.",
            **said,
            "choices": [f"{begins}made tea.", f"{begins}fell asleep."],
        }
        return TaskSchema(
            inputs=({"prompt": TEXT, **stem, "choices": CHOICES},),
            examples=(example, {**example, "choices": [*example["choices"], f"{begins}sang."]}),
            reads="choices",
            answers="choice",
            answer=record(
                {
                    "label": {"type": "integer", "minimum": 0},
                    "choice": {"type": "string"},
                    "scores": {"type": "array", "items": dict(SCORE)},
                }
            ),
            answer_example={"label": 0, "choice": example["choices"][0], "scores": [0.97, 0.03]},
            best=lambda answer: (answer["choice"], max(answer["scores"])),
            pipeline="multiple-choice",
            does="chooses the text that fits best, of any number of choices",
            model="AutoModelForMultipleChoice",
        )


def _keys(cell: Any) -> tuple[str, ...]:
    """What the choices of a row are called, where the row says so."""
    if isinstance(cell, str):
        cell = json.loads(cell)
    found: Any = cell.get("label") if isinstance(cell, Mapping) else None
    if found is None and not isinstance(cell, Mapping) and all(isinstance(one, Mapping) for one in cell):
        found = [one.get("label") for one in cell]
    return () if found is None or any(one is None for one in found) else tuple(str(one).strip() for one in found)


def _form_of(found: Sequence[Row], rows: Any, column: str) -> Form:
    """The one form in which all labels name a choice; of several that name the same choices, the first."""
    fitting: dict[Form, list[int | None]] = {}
    most = 0
    for form, (_, place_of) in FORMS.items():
        places = [place_of(row) for row in found]
        if None not in places:
            fitting[form] = places
        elif (reached := places.index(None)) > most:
            most = reached
    if not fitting:
        row = found[most]
        raise rows.refuse(
            most,
            f"column {column!r}: expected labels that name a choice in one way: {'; '.join(told for told, _ in FORMS.values())}; "
            f"found {row.said!r:.60} for {len(row.texts)} choices.",
            fix="Correct the row, or set task.label_form, which then tells the row that does not fit.",
        )
    first, *others = fitting
    if other := next((form for form in others if fitting[form] != fitting[first]), None):
        at = next(
            place for place, pair in enumerate(zip(fitting[first], fitting[other], strict=True)) if len(set(pair)) > 1
        )
        raise rows.refuse(
            at,
            f"column {column!r}: {found[at].said!r:.60} may be {FORMS[first][0]}, or {FORMS[other][0]}, as all labels may.",
            fix=f"Set task.label_form to {first!r} or {other!r}.",
        )
    return first
