"""Documents in the order in which they answer a query: a cross-encoder, which reads each of them beside the query.

Each pair of a query and a document is a feature; an example has any number of them. Shapes: N examples, F features, B features of a
batch, E examples of a batch, M documents of the one with the most.
"""

from __future__ import annotations

import hashlib
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ..errors import RecipeError
from ..model.outputs import Outputs
from ..tokens.batch import members_of
from ..tokens.features import features_of
from ..tokens.ragged import ends_of
from .base import Metric, Requests, Task
from .columns import ANYTHING, TEXT, Cell, Column, Unfit
from .departures import furthest, of_each
from .merging import sigmoid
from .ranking import NAMES, ranking_scores
from .schema import TaskSchema
from .several import behind, owned, places
from .texts import SCORE, TOP_K, record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from ..tokens.encoder import Encoder
    from ..tokens.features import Features

Array = npt.NDArray[Any]

DRAWN = 7
"""Wrong documents beside the right ones of a row, where the data have no scores."""


class _Documents(Cell):
    """A text, or a list of them."""

    def read(self, value: Any, *, allow_empty: bool = False) -> tuple[str, ...]:
        documents = [value] if isinstance(value, str) else value
        if not isinstance(documents, (list, tuple)) or not (documents or allow_empty):
            raise Unfit
        return tuple(TEXT.read(document, allow_empty=allow_empty) for document in documents)

    def characters(self, value: Any) -> int:
        return sum(len(document) or 1 for document in value)

    def spelt(self, value: Any) -> str:
        return str(value) if isinstance(value, str) else " | ".join(value)


_LIST = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}
DOCUMENTS = _Documents("documents", {"anyOf": [{"type": "string", "minLength": 1}, _LIST]})
"""A text, or a list of them."""


@dataclass(frozen=True)
class Reranking(Task):
    """A score for each document beside a query, and the documents in that order.

    Rows hold a query with one document or with a list of them; rows of the same query are one ranking in evaluation.
    """

    query: str = "query"
    """The column with the query."""
    documents: str = "documents"
    """The column with a document, or a list of them."""
    _: KW_ONLY
    score: str | None = None
    """The column with how well the document answers, a number, or a list with one a document; None: all of them do."""
    low: float = 0.0
    """The score of a document that does not answer."""
    high: float = 1.0
    """The score of one that answers best."""
    drawn: int | None = None
    """Documents of other queries that each row gets as wrong ones, drawn from its split; None: 7 without scores, none with."""
    loss: Literal["binary", "list"] = "binary"
    """``binary``: each document by itself (cross-entropy of its score); ``list``: softmax over the documents of a row."""

    recorded: ClassVar[tuple[str, ...]] = ("logits",)
    departs_in: ClassVar[str] = "of probabilities"
    encodes_by: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise RecipeError(
                f"task.low, task.high: expected low < high, found {self.low} and {self.high}.",
                fix="Set them to the smallest and the largest score.",
            )
        if self.loss not in ("binary", "list"):
            raise RecipeError(f"task.loss: expected binary or list, found {self.loss!r}.", fix="Choose one of them.")
        if (self.drawn is not None and self.drawn < 0) or (self.score is None and self.drawn == 0):
            raise RecipeError(
                f"task.drawn: expected {'1' if self.score is None else '0'} or more, found {self.drawn}.",
                fix="Without a column of scores, wrong documents have to be drawn.",
            )

    @property
    def num_drawn(self) -> int:
        """Documents that each row gets as wrong ones."""
        return self.drawn if self.drawn is not None else DRAWN if self.score is None else 0

    def columns(self) -> dict[str, Column]:
        columns = {"query": Column(self.query, TEXT), "documents": Column(self.documents, DOCUMENTS)}
        if self.score is not None:
            columns["score"] = Column(
                self.score, ANYTHING, is_target=True, usual=("scores", "score", "labels", "label")
            )
        return columns

    # -- features and targets ------------------------------------------------------------------------------------------

    def encode(self, inputs: Mapping[str, Sequence[Any]], encoder: Encoder) -> Features:
        documents = [_listed(cell) for cell in inputs["documents"]]
        return _pairs(inputs["query"], documents, encoder)

    def check(self, rows: Any) -> None:
        self._labels(rows)

    def _documents(self, rows: Any) -> list[list[str]]:
        found: list[list[str]] = rows.once(("documents", self.documents), lambda: self._read_documents(rows))
        return found

    def _read_documents(self, rows: Any) -> list[list[str]]:
        found = []
        for row, cell in enumerate(rows.values(self.columns()["documents"])):
            try:
                found.append(list(DOCUMENTS.read(cell)))
            except Unfit:
                raise rows.refuse(
                    row,
                    f"column {self.documents!r}: expected a text or a list of texts, found {cell!r:.80}.",
                    fix="Correct the row, or remove it.",
                ) from None
        return found

    def _labels(self, rows: Any) -> list[Array]:
        """float32 of each document of each row, in [0, 1]."""
        documents = self._documents(rows)
        if self.score is None:
            return [np.ones(len(row), dtype=np.float32) for row in documents]
        found: list[Array] = rows.once(("scores", self.score), lambda: self._read_labels(rows, documents))
        return found

    def _read_labels(self, rows: Any, documents: list[list[str]]) -> list[Array]:
        found = []
        for row, (cell, texts) in enumerate(zip(rows.values(self.columns()["score"]), documents, strict=True)):
            try:
                scores = np.array(cell if isinstance(cell, (list, tuple)) else [cell], dtype=np.float64)
            except (TypeError, ValueError):
                scores = np.full(len(texts), np.nan)
            if scores.shape != (len(texts),) or not ((scores >= self.low) & (scores <= self.high)).all():
                raise rows.refuse(
                    row,
                    f"column {self.score!r}: expected a number from {self.low:g} (task.low) to {self.high:g} (task.high) for "
                    f"each of {len(texts)} documents, found {cell!r:.80}.",
                    fix="Correct the row, or set task.low and task.high to the smallest and the largest score.",
                )
            found.append(((scores - self.low) / (self.high - self.low)).astype(np.float32))
        return found

    def supervise(self, rows: Any, features: Features) -> Features:
        queries, documents, labels = rows.values(self.columns()["query"]), self._documents(rows), self._labels(rows)
        drawn = _draw(queries, documents, self.num_drawn)
        if any(drawn):
            features = behind(features, _pairs(queries, drawn, rows.encoder.but(overflow="truncate")))
        of_rows = [
            np.concatenate([right, np.zeros(len(wrong), dtype=np.float32)])
            for right, wrong in zip(labels, drawn, strict=True)
        ]
        of_features = [of_rows[row][place] for row, place in zip(features.example, places(features), strict=True)]
        totals = np.array([max(float(row.sum()), 1e-12) for row in of_rows], dtype=np.float32)
        labels_F = np.array(of_features, dtype=np.float32)
        numbers: dict[str, int] = {}
        features = replace(features, together=self.loss == "list")
        return features.with_targets(
            labels=labels_F,
            shares=labels_F / totals[features.example],
            of_examples={
                "own": np.array([len(row) for row in documents], dtype=np.int64),
                "query": np.array([numbers.setdefault(query, len(numbers)) for query in queries], dtype=np.int64),
                "labels": np.array(
                    [_digest(row) for row in of_rows], dtype=np.uint64
                ),  # so that a run knows other ones
            },
        )

    # -- the model -----------------------------------------------------------------------------------------------------

    def model_options(self) -> dict[str, Any]:
        return {"num_labels": 1}

    def loss_sum(self, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        import torch
        from torch.nn import functional

        logits_B = outputs["logits"].float()[:, 0]
        if self.loss == "binary":
            of_each = functional.binary_cross_entropy_with_logits(logits_B, batch["labels"], reduction="none")
            return (of_each * batch["weights"]).sum()
        is_none_EM, at_EM = batch["members"] < 0, batch["members"].clamp(min=0)
        of_all_E = torch.logsumexp(logits_B[at_EM].masked_fill(is_none_EM, -torch.inf), dim=1)
        shares_EM = (batch["shares"] * (batch["weights"] > 0))[at_EM].masked_fill(is_none_EM, 0.0)
        return ((of_all_E[:, None] - logits_B[at_EM]) * shares_EM).sum()

    # -- from pairs to answers -----------------------------------------------------------------------------------------

    def merge(self, outputs: Outputs, features: Features) -> Outputs:
        """``logits``: a row for each document of an example; ``drawn``: of those that only training has."""
        found = outputs.take(np.argsort(outputs.items, kind="stable"))
        examples, row = np.unique(features.example[found.items], return_inverse=True)
        own = features.of_examples.get("own")
        is_own = np.ones(len(row), dtype=bool) if own is None else places(features)[found.items] < own[examples[row]]
        arrays, starts = {}, {}
        for name, which in (("logits", is_own), ("drawn", ~is_own)):
            arrays[name] = found["logits"][which]
            starts[name] = ends_of(np.bincount(row[which], minlength=len(examples)).astype(np.int64))
        return Outputs(examples.astype(np.int64), arrays, starts)

    def _of_features(self, predictions: Outputs, features: Features) -> tuple[Array, Array]:
        """Features of examples, and the logit of each."""
        chosen = features_of(features, predictions.items)
        is_own = places(features)[chosen] < features.of_examples["own"][features.example[chosen]]
        logits = np.empty((len(chosen), 1), dtype=np.float32)
        logits[is_own], logits[~is_own] = predictions["logits"], predictions["drawn"]
        return chosen, logits

    def merged_batch(self, predictions: Outputs, features: Features) -> tuple[dict[str, Any], dict[str, Any]]:
        chosen, logits = self._of_features(predictions, features)
        counts = features.windows[features.example[chosen]]
        targets = {name: rows[chosen] for name, rows in features.dense.items()}
        members = members_of(features.example[chosen])
        return {"logits": logits}, {**targets, "members": members, "weights": (1.0 / counts).astype(np.float32)}

    def judge(self, predictions: Outputs, features: Features) -> dict[str, Array]:
        """The scores of each query, at its first row; NaN where it stands again."""
        chosen, logits = self._of_features(predictions, features)
        query = features.of_examples["query"][features.example[chosen]]
        order = np.argsort(query, kind="stable")
        queries, begins = np.unique(query[order], return_index=True)
        first = {
            number: place
            for place, number in reversed([*enumerate(features.of_examples["query"][predictions.items].tolist())])
        }
        found = {name: np.full(len(predictions), np.nan) for name in NAMES}
        for number, group in zip(queries.tolist(), np.split(order, begins[1:]), strict=True):
            for name, score in ranking_scores(logits[group, 0], features.dense["labels"][chosen[group]]).items():
                found[name][first[number]] = score
        return found

    def metrics(self) -> tuple[Metric, ...]:
        names = ("ndcg_at_10", *(name for name in NAMES if name != "ndcg_at_10"))
        return tuple(Metric(name, lambda judged, name=name: judged[name]) for name in names)  # type: ignore[misc]

    def departure(self, found: Sequence[Any], recorded: Sequence[Any]) -> float:
        return furthest(found, recorded, of_each)

    def answers(self, predictions: Outputs, asked: Requests, **parameters: Any) -> list[Any]:
        """``[{"index": 1, "score": 0.98}, ...]``, the best document first; ``index`` is its place in the request, from 0 on."""
        found = []
        for position in range(len(predictions)):
            scores = sigmoid(predictions.rows("logits", position)[:, 0])
            order = np.argsort(-scores, kind="stable")[: parameters.get("top_k")]
            found.append([{"index": int(place), "score": float(scores[place])} for place in order])
        return found

    def answer_columns(self, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        return ("indices", "scores")

    def answer_cells(self, answer: Any, parameters: Mapping[str, Any]) -> tuple[Any, ...]:
        return [item["index"] for item in answer], [item["score"] for item in answer]

    def schema(self) -> TaskSchema:
        item = record({"index": {"type": "integer", "minimum": 0}, "score": SCORE})
        documents = ["Our shop opens at nine.", "Parcels are taken back within 30 days."]
        return TaskSchema(
            inputs=({"query": TEXT, "documents": DOCUMENTS},),
            examples=({"query": "How do I return a parcel?", "documents": documents},),
            reads="query",
            answers="ranking",
            answer={"type": "array", "items": item},
            answer_example=[{"index": 1, "score": 0.97}, {"index": 0, "score": 0.02}],
            parameters={"top_k": TOP_K},
            pipeline="text-ranking",
            does="puts documents in the order in which they answer a query",
            model="AutoModelForSequenceClassification",
            notes=("CrossEncoder of sentence-transformers loads this folder too, without the preprocessing.",),
        )


def _digest(labels: Array) -> int:
    return int.from_bytes(hashlib.sha256(labels.tobytes()).digest()[:8], "little")


def _listed(cell: Any) -> list[str]:
    return [cell] if isinstance(cell, str) else list(cell)


def _pairs(queries: Sequence[str], documents: Sequence[Sequence[str]], encoder: Encoder) -> Features:
    """A feature for each document beside its query."""
    owners = np.repeat(np.arange(len(documents)), [len(row) for row in documents])
    cleaned = encoder.clean(queries)
    first = [cleaned[owner] for owner in owners.tolist()]
    return owned(encoder, owners, len(documents), first, encoder.clean([text for row in documents for text in row]))


def _draw(queries: Sequence[str], documents: Sequence[Sequence[str]], count: int) -> list[list[str]]:
    """Other documents of the split for each row, none of them a document of the same query: always the same ones."""
    if not count:
        return [[] for _ in documents]
    known = list(dict.fromkeys(text for row in documents for text in row))
    right: dict[str, set[str]] = {}
    for query, row in zip(queries, documents, strict=True):
        right.setdefault(query, set()).update(row)
    draws, found = np.random.default_rng(len(known)), []
    for query in queries:
        room = min(count, len(known) - len(right[query]))
        wrong: dict[str, None] = {}
        while len(wrong) < room:
            text = known[int(draws.integers(len(known)))]
            if text not in right[query]:
                wrong[text] = None
        found.append(list(wrong))
    return found
