"""Vectors for texts, so that texts of like meaning lie close: a bi-encoder for similarity, search and clustering.

Each text is a feature of its own: an example has one for its text, one for its pair, and one for each negative. Shapes: N
examples, F features, B features of a batch, L tokens of the longest, H size of a vector, E examples of a batch.
"""

from __future__ import annotations

import hashlib
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ..errors import RecipeError
from ..model.outputs import Output, Outputs
from ..tokens.features import features_of
from ..tokens.ragged import ends_of
from .base import LOOKED_TOKENS, Metric, Requests, Task
from .columns import ANYTHING, NUMBER, TEXT, Column
from .departures import furthest, numbers, one_less_cosine
from .embedding_losses import cosent, in_batch, squared
from .mining import hard_negatives
from .ranking import NAMES, search_scores
from .schema import Parameter, TaskSchema
from .sentence_transformers import folder_files
from .several import behind, owned, places
from .texts import record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch

    from ..tokens.encoder import Encoder
    from ..tokens.features import Features

Array = npt.NDArray[Any]

_LOSSES = ("cosine", "cosent", "in_batch")


@dataclass(frozen=True)
class SentenceEmbeddings(Task):
    """A vector for each text, learnt from pairs: with a score each, or of texts that belong together.

    Pairs without a score learn by the other pairs of the step (in-batch negatives); ``budget.examples_per_step`` is how many
    they are, whatever the memory and the ranks.
    """

    text: str = "text"
    """The column with the text: a question, a query, an anchor."""
    text_pair: str = "text_pair"
    """The column with the text that belongs to it, or is scored beside it: an answer, a document, a positive."""
    _: KW_ONLY
    score: str | None = None
    """The column with how alike the pair is; None: all pairs belong together."""
    low: float = 0.0
    """The score of pairs that have nothing in common: cosine 0."""
    high: float = 1.0
    """The score of pairs that mean the same: cosine 1."""
    negative: str | None = None
    """The column with a text that does not belong to ``text``, or a list of them (hard negatives)."""
    mined: int = 0
    """Hard negatives that each training example gets before the first step: the pairs of others that the model, as it is then,
    finds nearest to its text."""
    mined_below: float = 0.95
    """Texts whose cosine is at least this share of the own pair's are not taken: they may well belong to the text."""
    loss: Literal["cosine", "cosent", "in_batch"] | None = None
    """``cosine``: squared error of the cosine; ``cosent``: the order of all scores of the step; ``in_batch``: softmax over the
    texts of the step. None: ``cosine`` with scores, ``in_batch`` without."""
    temperature: float = 0.05
    """What cosines are divided by in ``cosent`` and ``in_batch``."""
    dimensions: tuple[int, ...] = ()
    """Sizes at which the first numbers of a vector have to be good vectors as well (Matryoshka); the loss is the mean over them
    and the whole."""
    pooling: Literal["mean", "cls"] = "mean"
    """Of the vectors of a text's tokens: their mean, or that of the first token."""
    normalize: bool = True
    """Whether answers have length 1."""
    prompt: str = ""
    """What is put before each text, such as ``"query: "``; preprocessing does not see it."""
    pair_prompt: str | None = None
    """The same before each ``text_pair`` and ``negative``; None: as ``prompt``."""

    outputs: ClassVar[Mapping[str, Output]] = {"embedding": Output()}
    recorded: ClassVar[tuple[str, ...]] = ("embedding",)
    most_departure: ClassVar[float] = 0.001
    departs_in: ClassVar[str] = "from 1, of the cosine"
    encodes_by: ClassVar[tuple[str, ...]] = ("prompt", "pair_prompt")

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise RecipeError(
                f"task.low, task.high: expected low < high, found {self.low} and {self.high}.",
                fix="Set them to the smallest and the largest score, such as 0 and 5.",
            )
        if self.loss not in (None, *_LOSSES) or (self.score is None) != (self.kind == "in_batch"):
            raise RecipeError(
                f"task.loss: expected {'cosine or cosent' if self.score else 'in_batch'} "
                f"{'with' if self.score else 'without'} a column of scores, found {self.loss!r}.",
                fix="Leave task.loss out, or name the column in task.score.",
            )
        if self.score is not None and self.negative is not None:
            raise RecipeError(
                "task.negative: pairs with a score need no negatives.", fix="Leave task.negative or task.score out."
            )
        if self.mined < 0 or (self.mined and self.score is not None):
            raise RecipeError(
                f"task.mined: expected 0 or more, and 0 for pairs with a score, found {self.mined}.",
                fix="Leave task.mined out, or task.score.",
            )
        if self.temperature <= 0:
            raise RecipeError(
                f"task.temperature: expected more than 0, found {self.temperature}.", fix="Set it to 0.05 or so."
            )
        if self.pooling not in ("mean", "cls"):
            raise RecipeError(
                f"task.pooling: expected mean or cls, found {self.pooling!r}.",
                fix="Choose what the model was trained with.",
            )
        if any(size < 1 for size in self.dimensions):
            raise RecipeError(
                f"task.dimensions: expected sizes of 1 or more, found {self.dimensions}.", fix="Set such as (64, 128)."
            )

    @property
    def kind(self) -> str:
        """The loss that is used."""
        return self.loss or ("in_batch" if self.score is None else "cosine")

    @property
    def separable(self) -> bool:
        return self.kind == "cosine"

    @property
    def judged_as(self) -> str | None:
        return None if self.score is None else "regression"

    @property
    def _pair_prompt(self) -> str:
        return self.prompt if self.pair_prompt is None else self.pair_prompt

    def columns(self) -> dict[str, Column]:
        columns = {"text": Column(self.text, TEXT), "text_pair": Column(self.text_pair, TEXT)}
        if self.score is not None:
            columns["score"] = Column(self.score, NUMBER, is_target=True, usual=("score", "label"))
        if self.negative is not None:
            columns["negative"] = Column(self.negative, ANYTHING, is_target=True, usual=("negative", "negatives"))
        return columns

    # -- features and targets ------------------------------------------------------------------------------------------

    def encode(self, inputs: Mapping[str, Sequence[Any]], encoder: Encoder) -> Features:
        first = inputs.get("text", ())
        number = max(len(first), len(inputs.get("text_pair", ())))
        columns = [(list(first) or [None] * number, self.prompt)]
        columns.append((list(inputs.get("text_pair", ())) or [None] * number, self._pair_prompt))
        owners = np.array(
            [row for row in range(number) for texts, _ in columns if texts[row] is not None], dtype=np.int64
        )
        cleaned = [
            iter([prompt + text for text in encoder.clean([text for text in texts if text is not None])])
            for texts, prompt in columns
        ]
        flat = [
            next(said)
            for row in range(number)
            for (texts, _), said in zip(columns, cleaned, strict=True)
            if texts[row] is not None
        ]
        return owned(encoder, owners, number, flat)

    def check(self, rows: Any) -> None:
        if self.score is not None:
            self._scores(rows)
        self._negatives(rows)

    def _scores(self, rows: Any) -> Array:
        scores = np.asarray(rows.numbers(self.columns()["score"]))
        wrong = np.flatnonzero((scores < self.low) | (scores > self.high))
        if len(wrong):
            raise rows.refuse(
                int(wrong[0]),
                f"column {self.score!r}: expected numbers from {self.low:g} (task.low) to {self.high:g} (task.high), found "
                f"{scores[wrong[0]]:g}.",
                fix="Set task.low and task.high to the smallest and the largest score.",
            )
        return scores

    def _negatives(self, rows: Any) -> list[list[str]]:
        """The negatives of each row; none where no column is named."""
        if self.negative is None:
            return [[] for _ in range(len(rows))]
        found: list[list[str]] = rows.once(("negatives", self.negative), lambda: self._read_negatives(rows))
        return found

    def _read_negatives(self, rows: Any) -> list[list[str]]:
        found = []
        for row, cell in enumerate(rows.values(self.columns()["negative"])):
            texts = [cell] if isinstance(cell, str) else list(cell) if isinstance(cell, list | tuple) else None
            if texts is None or not all(isinstance(text, str) and text.strip() for text in texts):
                raise rows.refuse(
                    row,
                    f"column {self.negative!r}: expected a text or a list of texts, found {cell!r:.80}.",
                    fix="Correct the row; one without negatives has an empty list.",
                )
            found.append(texts)
        return found

    def supervise(self, rows: Any, features: Features) -> Features:
        columns, negatives = self.columns(), self._negatives(rows)
        texts, pairs = rows.values(columns["text"]), rows.values(columns["text_pair"])
        if any(negatives):
            features = self._with_negatives(negatives, features, rows.encoder)
        numbers: dict[str, int] = {}
        ids = [
            [numbers.setdefault(text, len(numbers)) for text in (anchor, pair, *others)]
            for anchor, pair, others in zip(texts, pairs, negatives, strict=True)
        ]
        part = places(features)
        of_features = np.array(
            [ids[row][place] for row, place in zip(features.example, part, strict=True)], dtype=np.int64
        )
        dense = {
            "part": part,
            "number": features.example.astype(np.int64),
            "same": of_features,
            "anchor": np.array([ids[row][0] for row in features.example], dtype=np.int64),
        }
        of_examples: dict[str, Array] = {"texts": np.array([row[:2] for row in ids], dtype=np.int64).reshape(-1, 2)}
        if self.score is not None:
            of_examples["score"] = ((self._scores(rows) - self.low) / (self.high - self.low)).astype(np.float32)
            dense["labels"] = of_examples["score"][features.example]
        if self.mined:
            of_examples["mined"] = np.full(len(rows), self.mined if rows.is_training else 0, dtype=np.int64)
        if self.negative is not None:  # so that a run knows other negatives
            of_examples["negatives"] = np.array([_digest(row) for row in negatives], dtype=np.uint64)
        features = replace(features, together=self.kind == "cosine")
        return features.with_targets(of_examples=of_examples, **dense)

    def _with_negatives(self, negatives: list[list[str]], features: Features, encoder: Encoder) -> Features:
        """Negatives behind the texts of their examples."""
        flat = [text for row in negatives for text in row]
        owners = np.repeat(np.arange(len(negatives)), [len(row) for row in negatives])
        flat = [self._pair_prompt + text for text in encoder.clean(flat)]
        return behind(features, owned(encoder.but(overflow="truncate"), owners, len(negatives), flat))

    def keeps(self, features: Features) -> bool:
        wanted = features.of_examples.get("mined")
        return wanted is not None and bool(wanted.any())

    def precompute(self, model: torch.nn.Module, features: Features) -> Features:
        """``nearest`` int64[F, mined]: of each text the features that are hard negatives, the nearest first; -1 where there is none."""
        if not self.keeps(features):
            return features
        from ..model.exact import exact_products
        from ..model.inference import run

        everything = np.arange(features.num_features, dtype=np.int64)
        device = next(model.parameters()).device
        with exact_products():
            found = run(model, features, task=self, chosen=everything, max_tokens=LOOKED_TOKENS, device=device)
        nearest = hard_negatives(
            _unit(found["embedding"]),
            part=features.dense["part"],
            same=features.dense["same"],
            count=self.mined,
            below=self.mined_below,
        )
        return features.with_targets(nearest=nearest)

    def completed(self, features: Features) -> Features:
        """Hard negatives behind the texts of their examples."""
        if "nearest" not in features.dense:
            return features
        nearest = features.dense["nearest"]
        features = replace(features, dense={name: rows for name, rows in features.dense.items() if name != "nearest"})
        anchor, place = np.nonzero(nearest >= 0)
        chosen, example = nearest[anchor, place], features.example[anchor]
        dense = {
            **{name: rows[chosen] for name, rows in features.dense.items()},
            "part": features.windows[example] + place,
            "number": example.astype(np.int64),
            "anchor": features.dense["anchor"][anchor],
        }
        streams = {name: stream.take(chosen) for name, stream in features.streams.items()}
        return behind(features, replace(features, streams=streams, example=example, dense=dense))

    # -- the model -----------------------------------------------------------------------------------------------------

    def prepare_model(self, model: torch.nn.Module) -> None:
        pooler = getattr(model, "pooler", None)  # of BERT's next sentence: what it gives is not used
        if pooler is not None:
            pooler.requires_grad_(False)

    def forward(self, model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        from ..model.pooling import pooled

        return {"embedding": pooled(model(**inputs)[0].float(), inputs["attention_mask"], self.pooling)}

    def loss_sum(self, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        import torch
        from torch.nn import functional

        whole_BH = outputs["embedding"]
        order = torch.argsort(batch["number"] * (int(_MOST_PARTS)) + batch["part"])
        ordered = {name: batch[name][order] for name in ("part", "number", "same", "anchor", "weights")}
        losses: dict[str, Callable[..., torch.Tensor]] = {
            "cosine": squared,
            "cosent": partial(cosent, temperature=self.temperature),
            "in_batch": partial(in_batch, temperature=self.temperature),
        }
        loss = losses[self.kind]
        if "labels" in batch:
            ordered["labels"] = batch["labels"][order]
        sizes = (*(size for size in self.dimensions if size < whole_BH.shape[1]), whole_BH.shape[1])
        parts = [loss(functional.normalize(whole_BH[order, :size], dim=1), ordered) for size in sizes]
        return torch.stack(parts).mean()

    # -- from vectors to answers ---------------------------------------------------------------------------------------

    def merge(self, outputs: Outputs, features: Features) -> Outputs:
        """``embedding``: one row for each text of an example; ``negative``: those of its negatives, in training."""
        found = outputs.take(np.argsort(outputs.items, kind="stable"))
        vectors = found["embedding"]
        if self.normalize:
            vectors = _unit(vectors)
        is_own = places(features)[found.items] < 2
        examples, row = np.unique(features.example[found.items], return_inverse=True)
        arrays, starts = {}, {}
        for name, which in (("embedding", is_own), ("negative", ~is_own)):
            arrays[name] = vectors[which]
            starts[name] = ends_of(np.bincount(row[which], minlength=len(examples)).astype(np.int64))
        return Outputs(examples.astype(np.int64), arrays, starts)

    def merged_batch(self, predictions: Outputs, features: Features) -> tuple[dict[str, Any], dict[str, Any]]:
        chosen = features_of(features, predictions.items)
        is_own = places(features)[chosen] < 2
        vectors = np.empty((len(chosen), predictions["embedding"].shape[1]), dtype=np.float32)
        vectors[is_own], vectors[~is_own] = predictions["embedding"], predictions["negative"]
        targets = {name: np.asarray(rows[chosen]) for name, rows in features.dense.items()}
        weights = (1.0 / features.windows[features.example[chosen]]).astype(np.float32)
        return {"embedding": vectors}, {**targets, "weights": weights}

    def judge(self, predictions: Outputs, features: Features) -> Any:
        """Of scored pairs cosines and what they should be; of others the rank of each text's pair among all pairs of the split."""
        first, second = predictions["embedding"][0::2], predictions["embedding"][1::2]
        if self.score is not None:
            references = features.of_examples["score"][predictions.items]
            return {"outputs": (_unit(first) * _unit(second)).sum(axis=1), "references": references}
        texts = features.of_examples["texts"][predictions.items]
        return search_scores(_unit(first), _unit(second), texts)

    def metrics(self) -> tuple[str | Metric, ...]:
        if self.score is not None:
            return ("spearman", "pearson")
        return tuple(Metric(name, lambda judged, name=name: judged[name]) for name in ("ndcg_at_10", *_OTHERS))  # type: ignore[misc]

    def departure(self, found: Sequence[Any], recorded: Sequence[Any]) -> float:
        return furthest(found, recorded, numbers, one_less_cosine)

    def answers(self, predictions: Outputs, asked: Requests, **parameters: Any) -> list[Any]:
        """``{"embedding": [...]}`` of a text, ``{"similarity": 0.8}``, the cosine, of a pair."""
        found: list[Any] = []
        size = parameters.get("dimensions")
        for position in range(len(predictions)):
            rows = predictions.rows("embedding", position)[:, :size]
            if size is not None and self.normalize:
                rows = _unit(rows)
            if len(rows) == 1:
                found.append({"embedding": rows[0].tolist()})
            else:
                first, second = _unit(rows)
                found.append({"similarity": float(first @ second)})
        return found

    def answer_columns(self, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        return ("embedding", "similarity")

    def answer_cells(self, answer: Any, parameters: Mapping[str, Any]) -> tuple[Any, ...]:
        return (answer.get("embedding"), answer.get("similarity"))

    def package_files(self, model: Any, tokens: Mapping[str, Any]) -> dict[str, str]:
        """What sentence-transformers loads a folder by."""
        return folder_files(
            size=int(model.config.hidden_size),
            max_length=int(tokens["max_length"]),
            pooling=self.pooling,
            normalize=self.normalize,
            query=self.prompt,
            document=self._pair_prompt,
        )

    def schema(self) -> TaskSchema:
        size = Parameter(
            "a whole number of 1 or more, or null",
            lambda value: value is None or (type(value) is int and value >= 1),
            {
                "type": ["integer", "null"],
                "minimum": 1,
                "description": "How many numbers of each vector, from the first on.",
            },
            self.dimensions[0] if self.dimensions else 128,
        )
        vector = {"type": "array", "items": {"type": "number"}}
        return TaskSchema(
            inputs=({"text": TEXT}, {"text_pair": TEXT}, {"text": TEXT, "text_pair": TEXT}),
            examples=(
                "How do I return a parcel?",
                {"text_pair": "Parcels are taken back within 30 days."},
                {"text": "How do I return a parcel?", "text_pair": "Parcels are taken back within 30 days."},
            ),
            answers="embedding",
            answer={"anyOf": [record({"embedding": vector}), record({"similarity": {"type": "number"}})]},
            answer_example={"embedding": [0.12, -0.03, 0.05]},
            parameters={"dimensions": size},
            options={
                "pooling": self.pooling,
                "normalize": self.normalize,
                "prompt": self.prompt,
                "pair_prompt": self._pair_prompt,
                "dimensions": list(self.dimensions),
            },
            pipeline="sentence-similarity",
            does="gives each text a vector, and each pair of texts the cosine of theirs",
            model="AutoModel",
            notes=("sentence-transformers loads this folder too, without the preprocessing.",),
        )


_OTHERS = tuple(name for name in NAMES if name != "ndcg_at_10")
_MOST_PARTS = 1 << 20
"""More than an example has texts."""


def _unit(vectors: Array) -> Array:
    """[n, H] of length 1."""
    unit: Array = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit


def _digest(texts: list[str]) -> int:
    return int.from_bytes(hashlib.sha256("\0".join(texts).encode()).digest()[:8], "little")
