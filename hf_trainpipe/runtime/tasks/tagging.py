"""Token classification: a tag for each word, from word tags or from character spans.

A word is scored once, by its first sub-word, in the window that gives it the most context.
Shapes: N examples, W words of all examples, T tokens of all features, B features of a micro-batch, L tokens of the longest,
C tags.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ..errors import RecipeError
from ..model.outputs import Output, Outputs
from ..text.words import BUILT_IN_SPLITTERS, WordSplitter, newest
from ..tokens.features import Ragged, Stream
from ..tokens.ragged import ends_of, ranges
from .base import Augmentable, Requests, Task
from .columns import SPANS, TAGS, TEXT, WORDS, Column
from .departures import furthest, of_one
from .merging import softmax
from .schema import Parameter, TaskSchema
from .tags import tags_to_spans
from .texts import SCORE, label_maps, record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from ..tokens.encoder import Encoder
    from ..tokens.features import Features

IGNORED = -100
"""The label of tokens that are not scored: sub-words after the first, special tokens, padding."""

_AGGREGATION = Parameter(
    "'simple' or 'none'",
    lambda value: value in ("simple", "none", None),
    {"enum": ["simple", "none", None], "description": "simple: entities; none: an item a word."},
    "simple",
)


@dataclass(frozen=True)
class TokenClassification(Task):
    """A tag for each word.

    From word tags: ``TokenClassification("tokens", tags="ner_tags")``. From character spans:
    ``TokenClassification(text="text", spans="entities")``. Texts are preprocessed and then cut into words by
    ``splitter``, as the package does it. A word has one tag: spans that do not fall on word borders are widened to
    them, and of overlapping ones the longest is kept; all of this is counted and reported. docs/spans.md has the
    forms of spans that are read.
    """

    words: str = "tokens"
    """The column with the words of a sentence."""
    _: KW_ONLY
    tags: str = "tags"
    """The column with a tag for each word."""
    text: str | None = None
    """The column with the text, where character spans are learnt."""
    spans: str | None = None
    """The column with the spans of a text."""
    names: tuple[str, ...] | None = None
    """Tags in the order of their ids, or types of spans; None: read from the data."""
    scheme: Literal["BIO", "IOB1", "BIOES"] | None = "BIO"
    """How entities are spelt in tags; None for tags that stand alone, such as parts of speech."""
    splitter: str = "regex"
    """How text is cut into words: ``regex``, ``whitespace``, ``blank:xx`` or a spaCy pipeline."""
    lost_spans: float = 0.1
    """The share of a split's character spans, in [0, 1], that may be lost (nested, overlapping, white space only,
    taken away by preprocessing); more are refused before training."""

    learned: ClassVar[tuple[str, ...]] = ("names", "scheme", "splitter")
    augmentable: ClassVar[Augmentable] = "words"
    exportable: ClassVar[bool] = True
    judged_as: ClassVar[str] = "tags"
    departs_in: ClassVar[str] = "of probabilities"
    encodes_by: ClassVar[tuple[str, ...]] = ("splitter",)
    outputs: ClassVar[Mapping[str, Output]] = {"logits": Output("token", where="words")}

    def __post_init__(self) -> None:
        if (self.text is None) != (self.spans is None):
            raise RecipeError(
                f"task.text, task.spans: expected both or neither, found {self.text!r} and {self.spans!r}.",
                fix="Character spans need the text column and the spans column; word tags need neither.",
            )
        if self.scheme not in ("BIO", "IOB1", "BIOES", None):
            raise RecipeError(
                f"task.scheme: expected 'BIO', 'IOB1', 'BIOES' or None, found {self.scheme!r}.",
                fix="Name the scheme that the tags are written in; None for parts of speech and the like.",
            )
        if not 0 <= self.lost_spans <= 1:
            raise RecipeError(
                f"task.lost_spans: expected a share in [0, 1], found {self.lost_spans!r}.",
                fix="Write 0.1 to allow a tenth of the character spans to be lost.",
            )
        if self.spans is not None and self.scheme is None:
            raise RecipeError(
                "task.scheme: character spans need a tagging scheme, found None.", fix="Leave scheme='BIO'."
            )

    def columns(self) -> dict[str, Column]:
        if self.text is None or self.spans is None:
            return {
                "words": Column(self.words, WORDS),
                "tags": Column(self.tags, TAGS, is_target=True, usual=("tags", "ner_tags")),
            }
        return {
            "text": Column(self.text, TEXT),
            "spans": Column(self.spans, SPANS, is_target=True, usual=("spans", "entities")),
        }

    def over(self, role: str) -> TokenClassification:
        if role == "text":
            return replace(self, text=self.text or "text", spans=self.spans or "spans")
        return replace(self, text=None, spans=None)

    def check_preprocessing(self, steps: Sequence[Any]) -> None:
        """Words with tags are preprocessed one by one; texts with character spans whole, by any step."""
        for position, step in enumerate(steps if self.spans is None else ()):
            if not step.word_safe:
                raise RecipeError(
                    f"preprocessing[{position}]: {type(step).__name__} changes which words there are, so tags "
                    "would no longer fit them.",
                    fix="For word tags use steps that keep words apart, such as NormalizeUnicode or CleanUrls, "
                    "or give texts with character spans.",
                    field=f"preprocessing[{position}]",
                )

    def fit(self, rows: Any) -> TokenClassification:
        names = rows.labels(self.target, said=self.names, scheme=self.scheme)
        return replace(self, names=names, splitter=newest(self.splitter))

    @property
    def pipelines(self) -> tuple[str, ...]:
        return () if self.splitter in BUILT_IN_SPLITTERS else (self.splitter,)

    # -- features ------------------------------------------------------------------------------------------------------

    def encode(self, inputs: Mapping[str, Sequence[Any]], encoder: Encoder) -> Features:
        """Words with their places: in the text as it was given, or their numbers where words were given."""
        texts, given = inputs.get("text"), inputs.get("words")
        if texts is None:
            given = given or ()
            counts = np.fromiter(map(len, given), dtype=np.int64, count=len(given))
            begin = ranges(np.zeros_like(counts), counts)
            return _placed(encoder.words(encoder.clean_words(given)), begin, begin + 1, counts)
        read: list[list[str]] = []
        places: list[list[tuple[int, int]]] = []
        splitter = WordSplitter(self.splitter)
        from_text = encoder.words_of([text for text in texts if text is not None], splitter)
        from_words = iter(encoder.clean_words([words for words in given or () if words is not None]))
        for text in texts:
            if text is None:
                words = next(from_words)
                read.append(words)
                places.append([(number, number + 1) for number in range(len(words))])
            else:
                found = next(from_text)
                read.append([word for word, _, _ in found])
                places.append([(start, end) for _, start, end in found])
        counts = np.fromiter(map(len, read), dtype=np.int64, count=len(read))
        flat = np.array([place for found in places for place in found], dtype=np.int64).reshape(-1, 2)
        return _placed(encoder.words(read), flat[:, 0], flat[:, 1], counts)

    def check(self, rows: Any) -> None:
        if self.spans is None:
            columns = self.columns()
            rows.tags(columns["tags"], columns["words"], self.label_names)

    def supervise(self, rows: Any, features: Features) -> Features:
        columns, within = self.columns(), features.within
        assert within is not None
        if self.spans is None:
            tags_W = rows.tags(columns["tags"], columns["words"], self.label_names)
        else:
            tags_W = rows.tags_of_spans(
                columns["spans"],
                columns["text"],
                self.label_names,
                scheme=self.scheme,
                places=within,
                most_lost=self.lost_spans,
            )
        stream = features.input
        words_T = np.asarray(stream["words"])
        example_T = np.repeat(features.example, stream.lengths)
        owned = words_T >= 0
        labels_T = np.full(len(words_T), IGNORED, dtype=np.int32)
        labels_T[owned] = tags_W[within.starts[example_T[owned]] + words_T[owned]]
        labels = Ragged(labels_T, fill=IGNORED, to_model=False, to_loss=True)
        tags = Ragged(tags_W, fill=IGNORED, to_model=False, to_loss=True)
        return replace(
            features.with_stream("input", stream.with_column("labels", labels)),
            within=within.with_column("tags", tags),
        )

    def unknown_labels(self, rows: Any) -> list[tuple[int, str]]:
        return list(rows.unknown(self.target, self.label_names))

    # -- the model -----------------------------------------------------------------------------------------------------

    def model_options(self) -> dict[str, Any]:
        return label_maps(self.label_names)

    def loss_sum(self, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        from torch.nn import functional

        logits_BLC = outputs["logits"].float()
        return functional.cross_entropy(
            logits_BLC.flatten(0, 1), batch["labels"].flatten(), ignore_index=IGNORED, reduction="sum"
        )

    def count(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return (batch["labels"] != IGNORED).double().sum()

    # -- from windows to answers ---------------------------------------------------------------------------------------

    def merge(self, outputs: Outputs, features: Features) -> Outputs:
        """Rows of words in order, each taken from the window that answers for the word.

        Returns:
            ``logits`` [W, C] and ``words`` int32[W], the number of each row's word inside its example; words that were cut
            off have no row.
        """
        chosen, logits = outputs.items, outputs["logits"]
        taken = features.input.take(chosen)
        example, words = np.repeat(features.example[chosen], taken.lengths), np.asarray(taken["words"])
        example, words = example[words >= 0], words[words >= 0]
        assert len(words) == len(logits), (len(words), len(logits))
        order = np.lexsort((words, example))
        examples = np.unique(features.example[chosen]).astype(np.int64)
        counts = np.bincount(np.searchsorted(examples, example), minlength=len(examples))
        starts = ends_of(counts)
        return Outputs(examples, {"logits": logits[order], "words": words[order]}, {"logits": starts, "words": starts})

    def _gold(self, predictions: Outputs, features: Features) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """Tags of all words of the split, and where among them the word of each row stands."""
        assert features.within is not None
        first = np.repeat(features.within.starts[predictions.items], np.diff(predictions.starts["words"]))
        return np.asarray(features.within["tags"]), first + predictions["words"]

    def merged_batch(self, predictions: Outputs, features: Features) -> tuple[dict[str, Any], dict[str, Any]]:
        gold_W, place = self._gold(predictions, features)
        return {"logits": predictions["logits"][None]}, {"labels": gold_W[place].astype(np.int64)[None]}

    def judge(self, predictions: Outputs, features: Features) -> dict[str, Any]:
        """Every word of the gold is there, so that gold is never shortened: a word that the over-length policy cut off has
        the prediction -1, which is wrong and outside any entity."""
        assert features.within is not None
        gold_W, place = self._gold(predictions, features)
        predicted_W = np.full(len(gold_W), -1, dtype=np.int32)
        predicted_W[place] = predictions["logits"].argmax(axis=-1)
        return {
            "outputs": predicted_W,
            "references": gold_W,
            "labels": tuple(self.label_names),
            "word_starts": np.asarray(features.within.starts),
            "scheme": self.scheme or "BIO",
            "has_entities": self.scheme is not None,
            "examples": np.arange(features.num_examples, dtype=np.int64),
        }

    def metrics(self) -> tuple[str, ...]:
        if self.scheme is None:
            return ("tag_accuracy",)
        return ("entity_f1", "entity_precision", "entity_recall", "tag_accuracy")

    def explain(self, error: Mapping[str, Any], asked: Requests, example: int) -> dict[str, list[str]]:
        """What was missed and what was found that is none, with its words; of tags that stand alone, each wrong word."""
        words = [word for word, _, _ in _words_of(asked, example)]
        if self.scheme is None:
            given = dict(error["predicted"])
            return {"wrong": [f"{words[word]!r} {tag} as {given[word]}" for word, tag in error["gold"]]}

        def spelt(kept: list[list[Any]], others: list[list[Any]]) -> list[str]:
            return [
                f"{kind} {' '.join(words[first : last + 1])!r}"
                for kind, first, last in kept
                if [kind, first, last] not in others
            ]

        return {
            "missed": spelt(error["gold"], error["predicted"]),
            "invented": spelt(error["predicted"], error["gold"]),
        }

    def departure(self, found: Sequence[Any], recorded: Sequence[Any]) -> float:
        return furthest(found, recorded, of_one)

    def answers(self, predictions: Outputs, asked: Requests, **parameters: Any) -> list[Any]:
        """Entities (``aggregation="simple"``) or one item a word (``"none"``), of each example.

        An item is ``{"label", "text", "start", "end", "score"}``. ``start`` and ``end`` are characters of
        the example's text; without a text they are word numbers. The score of an entity is the mean of its
        words' probabilities. A word that was cut off has label None in ``"none"``, and belongs to no entity.
        """
        names, logits_WC = self.label_names, predictions["logits"]
        probabilities_WC = softmax(logits_WC)
        best = probabilities_WC.argmax(axis=1) if len(probabilities_WC) else np.zeros(0, dtype=np.int64)
        scores = probabilities_WC[np.arange(len(best)), best]
        joined = self.scheme is not None and parameters.get("aggregation") != "none"
        starts = predictions.starts["words"]
        answers: list[Any] = []
        for position, example in enumerate(predictions.items.tolist()):
            rows = slice(int(starts[position]), int(starts[position + 1]))
            present = predictions["words"][rows].tolist()
            words = _words_of(asked, example)
            tags: list[str | None] = [None] * len(words)
            score = np.zeros(len(words), dtype=np.float64)
            for word, label in zip(present, best[rows].tolist(), strict=True):
                tags[word] = names[label]
            score[present] = scores[rows]
            items: list[tuple[str | None, int, int]]
            if joined:
                items = list(tags_to_spans([tag or "O" for tag in tags], self.scheme or "BIO"))
            else:
                items = [(tag, i, i + 1) for i, tag in enumerate(tags)]
            text = asked.inputs[example].get("text")
            answers.append([_item(*item, score, words, text) for item in items])
        return answers

    tells_all: ClassVar[Mapping[str, Any]] = {"aggregation": "none"}

    def unsure(self, answer: Any) -> float:
        """Of the word whose tag is least probable."""
        return max((1.0 - one["score"] for one in answer if one["label"] is not None), default=0.0)

    def answer_columns(self, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        joined = self.scheme is not None and parameters.get("aggregation") != "none"
        return ("entities" if joined else "tags",)

    def schema(self) -> TaskSchema:
        place = {"type": "integer", "minimum": 0}
        label, text = {"type": ["string", "null"]}, {"type": "string"}
        item = record({"label": label, "text": text, "start": place, "end": place, "score": SCORE})
        name = (self.label_names or ("label",))[-1].split("-", 1)[-1]
        return TaskSchema(
            inputs=({"text": TEXT}, {"words": WORDS}),
            examples=("Anna left Rome.", {"words": ["Anna", "left", "Rome", "."]}),
            reads="words",
            answers="tags",
            answer={"type": "array", "items": item},
            answer_example=[{"label": name, "text": "Anna", "start": 0, "end": 4, "score": 0.98}],
            parameters={"aggregation": _AGGREGATION},
            options={"scheme": self.scheme},
            pipeline="token-classification",
            model="AutoModelForTokenClassification",
            does=f"marks words of a text with {len(self.label_names)} tags",
            notes=(f"Plain texts are split into words by `{self.splitter}`.",),
        )


def _placed(
    features: Features, start: npt.NDArray[np.int64], end: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]
) -> Features:
    """With the places of the words of each example."""
    columns = {
        name: Ragged(values.astype(np.int32), to_model=False) for name, values in (("start", start), ("end", end))
    }
    return replace(features, within=Stream(ends_of(counts), columns))


def _words_of(asked: Requests, example: int) -> list[tuple[str, int, int]]:
    """The words of an input as it was given, with their places in its text, or their numbers."""
    given, within = asked.inputs[example], asked.features.within
    if given.get("text") is None:
        return [(word, number, number + 1) for number, word in enumerate(given["words"])]
    assert within is not None
    rows = slice(int(within.starts[example]), int(within.starts[example + 1]))
    places = zip(within["start"][rows].tolist(), within["end"][rows].tolist(), strict=True)
    return [(given["text"][start:end], start, end) for start, end in places]


def _item(
    label: str | None,
    first: int,
    end: int,
    scores: npt.NDArray[np.float64],
    words: Sequence[tuple[str, int, int]],
    text: str | None,
) -> dict[str, Any]:
    score = float(scores[first:end].mean())
    if text is None:
        joined = " ".join(word for word, _, _ in words[first:end])
        return {"label": label, "text": joined, "start": first, "end": end, "score": score}
    low, high = words[first][1], words[end - 1][2]
    return {"label": label, "text": text[low:high], "start": low, "end": high, "score": score}
