"""The part of a context that answers a question, or that there is none.

Shapes: N examples, F features (windows of a context), B features of a micro-batch, L tokens of the longest, n tokens of a
context in one window.
"""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import RecipeError
from ..model.outputs import Output, Outputs
from ..tokens.characters import characters_of, texts_of
from .base import Augmentable, Metric, Requests, Task
from .columns import ANYTHING, TEXT, Column
from .departures import furthest
from .schema import TaskSchema
from .squad import squad_scores
from .texts import SCORE, record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from ..tokens.encoder import Encoder
    from ..tokens.features import Features

Array = npt.NDArray[Any]
Answers = list[list[tuple[int, str]]]
"""Of each row: where an answer starts in the context, and its text."""

_NOWHERE = 1e6
"""The gap of an example of whose context nothing is left."""


class _Scored(NamedTuple):
    """A span of a window, or none."""

    logit: float
    """The sum of the logits of its first and its last token."""
    norm: float
    """Of all pairs of tokens of the window: the logarithm of the sum of their exponentials."""
    start: int = 0
    end: int = 0

    @property
    def probability(self) -> float:
        return float(np.exp(self.logit - self.norm))


class Judged(NamedTuple):
    """Scores of N examples by SQuAD's definition, for the answer as it is given and for the best span."""

    exact: Array
    f1: Array
    span_exact: Array
    span_f1: Array
    none_exact: Array
    none_f1: Array
    has_answer: Array
    """bool[N]"""
    gap: Array
    """[N] how far the score of no answer is above the best span's, in logits."""


@dataclass(frozen=True)
class QuestionAnswering(Task):
    """Finds the part of a context that answers a question; over long contexts by windows (``tokens.overflow``)."""

    question: str = "question"
    """The column with the question."""
    context: str = "context"
    """The column with the text in which the answer stands."""
    _: KW_ONLY
    answer: str = "answers"
    """The column with the answers: ``{"text": [...], "answer_start": [...]}`` as in SQuAD, a list of ``{"text", "start"}``, or
    texts alone, which are looked for. Several: all are right, the first is learnt. None: the question has no answer."""
    most_tokens: int = 30
    """Tokens of an answer at most."""
    no_answer: bool | None = None
    """Whether a question may have no answer; None: if the training data has such questions."""
    no_answer_threshold: float | None = None
    """By how much the score of no answer has to be above the best span's, in logits; None: the value with the largest F1 on
    validation."""

    outputs: ClassVar[Mapping[str, Output]] = {"start": Output("token"), "end": Output("token")}
    recorded: ClassVar[tuple[str, ...]] = ("start", "end", "score")
    departs_in: ClassVar[str] = "of probabilities"
    augmentable: ClassVar[Augmentable] = "words"
    learned: ClassVar[tuple[str, ...]] = ("no_answer", "no_answer_threshold")
    encodes_by: ClassVar[tuple[str, ...]] = ()
    kept: ClassVar[tuple[str, ...]] = ("span_exact", "span_f1", "none_exact", "none_f1", "has_answer", "gap")

    def __post_init__(self) -> None:
        if self.most_tokens < 1:
            raise RecipeError(
                f"task.most_tokens: expected 1 or more, found {self.most_tokens}.",
                fix="Set task.most_tokens to the tokens of the longest answer, such as 30.",
            )

    def columns(self) -> dict[str, Column]:
        return {
            "question": Column(self.question, TEXT),
            "context": Column(self.context, TEXT),
            "answers": Column(self.answer, ANYTHING, is_target=True, usual=("answers", "answer")),
        }

    # -- features and targets ------------------------------------------------------------------------------------------

    def encode(self, inputs: Mapping[str, Sequence[Any]], encoder: Encoder) -> Features:
        return encoder.texts(inputs["question"], inputs["context"], with_places=True)

    def fit(self, rows: Any) -> QuestionAnswering:
        """Whether there are questions without an answer."""
        if self.no_answer is not None:
            return self
        return replace(self, no_answer=any(not found for found in self._answers(rows)))

    def check(self, rows: Any) -> None:
        self._answers(rows)

    def _answers(self, rows: Any) -> Answers:
        found: Answers = rows.once((self.answer, self.context), lambda: self._read_answers(rows))
        return found

    def _read_answers(self, rows: Any) -> Answers:
        """The answers of each row: where they start in the context, and their text.

        Raises:
            DataError: with the place of a cell that holds something else, or of an answer that is not in its context.
        """
        columns = self.columns()
        found, moved = [], 0
        cells, contexts = rows.values(columns["answers"]), rows.values(columns["context"])
        for row, (cell, context) in enumerate(zip(cells, contexts, strict=True)):
            try:
                said = _read(cell)
            except (TypeError, ValueError, KeyError):
                raise rows.refuse(
                    row,
                    f"column {self.answer!r}: expected answers, found {cell!r:.80}.",
                    fix='Write {"text": ["..."], "answer_start": [0]}, a list of {"text", "start"}, or a list of texts.',
                ) from None
            placed = [(_place(context, start, text), start, text) for start, text in said]
            missing = next((text for place, _, text in placed if place is None), None)
            if missing is not None:
                raise rows.refuse(
                    row,
                    f"column {self.answer!r}: the answer {missing!r:.60} is not in column {self.context!r}.",
                    fix="Correct the answer, or the context; a question without an answer has an empty list.",
                )
            moved += any(start is not None and start != place for place, start, _ in placed)
            found.append([(place, text) for place, _, text in placed if place is not None])
        if moved:
            rows.note(
                f"{moved:,} of {len(cells):,} rows have an answer that is not where it is said to start; the nearest is taken"
            )
        return found

    def supervise(self, rows: Any, features: Features) -> Features:
        answers = self._answers(rows)
        contexts = rows.values(self.columns()["context"])
        gold = np.array([(found[0][0], found[0][0] + len(found[0][1])) if found else (-1, -1) for found in answers])
        gold = gold.reshape(-1, 2)
        labels, is_whole = _targets(features, gold)
        held = np.bincount(features.example[is_whole], minlength=features.num_examples) > 0
        if lost := int(((gold[:, 0] >= 0) & ~held).sum()):
            rows.note(
                f"{lost:,} of {len(answers):,} answers are whole in no feature and cannot be learnt: "
                "see tokens.overflow='window', tokens.stride and tokens.max_length"
            )
        texts = [[context, *(text for _, text in found)] for context, found in zip(contexts, answers, strict=True)]
        return replace(features.with_targets(labels=labels), within=characters_of(texts))

    # -- the model -----------------------------------------------------------------------------------------------------

    def forward(self, model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        out = model(**inputs)
        padding = inputs["attention_mask"] == 0  # a softmax over tokens must not see it
        return {name: out[f"{name}_logits"].float().masked_fill(padding, -1e4) for name in ("start", "end")}

    def loss_sum(self, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Of first and last token the mean; a window without the answer points at its first token."""
        from torch.nn import functional

        start_B, end_B = (
            functional.cross_entropy(outputs[name], batch["labels"][:, place], reduction="none")
            for place, name in enumerate(("start", "end"))
        )
        return ((start_B + end_B) / 2 * batch["weights"]).sum()

    # -- from windows to answers ---------------------------------------------------------------------------------------

    def merge(self, outputs: Outputs, features: Features) -> Outputs:
        """The best span of each example over its windows: ``start`` and ``end`` in characters of the context, ``score``, its
        probability in its window, ``none``, that of no answer, and ``gap`` (:class:`Judged`)."""
        stream = features.input
        best: dict[int, _Scored] = {}
        lowest: dict[int, _Scored] = {}
        for position, feature in enumerate(outputs.items.tolist()):
            start, end = outputs.rows("start", position), outputs.rows("end", position)
            tokens = slice(int(stream.starts[feature]), int(stream.starts[feature + 1]))
            norm = _log_sum(start) + _log_sum(end)
            none, span = _Scored(float(start[0] + end[0]), norm), _Scored(-np.inf, norm)
            [inside] = np.nonzero(np.asarray(stream["part"][tokens]) == 1)
            if len(inside):
                first, last, logit = _best_span(start[inside], end[inside], self.most_tokens)
                places = stream["start"][tokens][inside[first]], stream["end"][tokens][inside[last]]
                span = _Scored(logit, norm, int(places[0]), int(places[1]))
            example = int(features.example[feature])
            best[example] = max(best.get(example, span), span, key=lambda one: one.logit)
            lowest[example] = min(lowest.get(example, none), none, key=lambda one: one.logit)
        items = sorted(best)
        arrays: dict[str, Array] = {
            "start": np.array([best[item].start for item in items], dtype=np.int64),
            "end": np.array([best[item].end for item in items], dtype=np.int64),
            "score": np.array([best[item].probability for item in items], dtype=np.float32),
            "none": np.array([lowest[item].probability for item in items], dtype=np.float32),
            "gap": np.array([min(lowest[item].logit - best[item].logit, _NOWHERE) for item in items], dtype=np.float32),
        }
        return Outputs(np.array(items, dtype=np.int64), arrays)

    def _says_nothing(self, gap: Array) -> Array:
        """bool[N]: where the answer is that there is none."""
        said: Array = gap > ((self.no_answer_threshold or 0.0) if self.no_answer else _NOWHERE / 2)
        return said

    def judge(self, predictions: Outputs, features: Features) -> Judged:
        assert features.within is not None
        spans, none, has_answer = [], [], []
        for position, item in enumerate(predictions.items.tolist()):
            context, *gold = texts_of(np.asarray(features.within.part(item, item + 1)["characters"]))
            span = context[int(predictions["start"][position]) : int(predictions["end"][position])]
            spans.append(squad_scores(span, gold))
            none.append(squad_scores("", gold))
            has_answer.append(bool(gold))
        gap = predictions["gap"].astype(np.float64)
        [span_exact, span_f1], [none_exact, none_f1] = (
            np.array(one, dtype=float).reshape(-1, 2).T for one in (spans, none)
        )
        return self.judged_again({
            "span_exact": span_exact, "span_f1": span_f1, "none_exact": none_exact, "none_f1": none_f1,
            "has_answer": np.array(has_answer, dtype=bool), "gap": gap,
        })  # fmt: skip

    def judged_again(self, kept: Mapping[str, Array]) -> Judged:
        nothing = self._says_nothing(kept["gap"])
        return Judged(
            exact=np.where(nothing, kept["none_exact"], kept["span_exact"]),
            f1=np.where(nothing, kept["none_f1"], kept["span_f1"]),
            **kept,
        )

    def metrics(self) -> tuple[Metric, ...]:
        parts = (
            Metric("f1_with_answer", lambda judged: np.where(judged.has_answer, judged.f1, np.nan)),
            Metric("f1_without_answer", lambda judged: np.where(judged.has_answer, np.nan, judged.f1)),
        )
        whole = (Metric("f1", lambda judged: judged.f1), Metric("exact_match", lambda judged: judged.exact))
        return (*whole, *(parts if self.no_answer else ()))

    def tune(self, judged: Judged) -> QuestionAnswering:
        """The threshold that makes F1 largest; between two gaps, so that the last bits of a score decide nothing."""
        if not self.no_answer or self.no_answer_threshold is not None:
            return self
        order = np.argsort(judged.gap, kind="stable")
        gap, right_none = judged.gap[order], (~judged.has_answer[order]).astype(float)
        # With k examples answered, the k smallest gaps, the rest gets no answer.
        total = np.concatenate([[0.0], np.cumsum(judged.span_f1[order])]) + right_none.sum()
        total -= np.concatenate([[0.0], np.cumsum(right_none)])
        edges = np.concatenate([[gap[0] - 2.0], gap, [gap[-1] + 2.0]])
        may_cut = np.diff(edges) > 0
        answered = int(np.argmax(np.where(may_cut, total, -np.inf)))
        return replace(self, no_answer_threshold=float((edges[answered] + edges[answered + 1]) / 2))

    def departure(self, found: Sequence[Any], recorded: Sequence[Any]) -> float:
        """Of the best span's probability; another span has to be as probable."""
        return furthest(found, recorded, lambda row: np.asarray(row["score"], dtype=np.float64))

    def answers(self, predictions: Outputs, asked: Requests, **parameters: Any) -> list[Any]:
        """As transformers' pipeline did: ``{"score", "start", "end", "answer"}``; no answer is an empty one."""
        nothing = self._says_nothing(predictions["gap"])
        found = []
        for position, example in enumerate(predictions.items.tolist()):
            start, end = int(predictions["start"][position]), int(predictions["end"][position])
            score = predictions["score"][position]
            if nothing[position]:
                start, end, score = 0, 0, predictions["none"][position]
            text = asked.inputs[example]["context"][start:end]
            found.append({"score": float(score), "start": start, "end": end, "answer": text})
        return found

    def answer_columns(self, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        return ("answer", "score", "start", "end")

    def answer_cells(self, answer: Any, parameters: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(answer[name] for name in self.answer_columns(parameters))

    def schema(self) -> TaskSchema:
        place = {"type": "integer", "minimum": 0}
        options: dict[str, Any] = {"most_tokens": self.most_tokens, "no_answer": bool(self.no_answer)}
        if self.no_answer:
            options["no_answer_threshold"] = self.no_answer_threshold or 0.0
        return TaskSchema(
            inputs=({"question": TEXT, "context": TEXT},),
            examples=({"question": "Who found it?", "context": "Nobody was there when Anna found the letter."},),
            reads="question",
            answers="span",
            answer=record({"score": SCORE, "start": place, "end": place, "answer": {"type": "string"}}),
            answer_example={"score": 0.97, "start": 22, "end": 26, "answer": "Anna"},
            options=options,
            best=lambda answer: (answer["answer"], answer["score"]),
            pipeline="question-answering",
            does="marks the part of a text that answers a question"
            + (", or says that none does" if self.no_answer else ""),
            model="AutoModelForQuestionAnswering",
        )


def _read(cell: Any) -> list[tuple[int | None, str]]:
    """Answers in any of the forms of ``answer``."""
    if isinstance(cell, str):
        return [(None, cell)]
    if isinstance(cell, dict):
        texts = cell["text"]
        starts = next((cell[name] for name in ("answer_start", "start") if cell.get(name) is not None), None)
        if isinstance(texts, str):
            return [(None if starts is None else int(starts), texts)]
        starts = [None] * len(texts) if starts is None else starts
        return [(None if at is None else int(at), _nonempty(text)) for at, text in zip(starts, texts, strict=True)]
    return [answer for one in cell for answer in _read(one)]


def _nonempty(text: Any) -> str:
    if not isinstance(text, str) or not text.strip():
        raise ValueError("an empty answer")
    return text


def _place(context: str, start: int | None, text: str) -> int | None:
    """Where an answer starts: where it is said to, or else the nearest place that has it; None: nowhere."""
    if start is not None and context.startswith(text, start) and start >= 0:
        return start
    places = [found.start() for found in re.finditer(f"(?={re.escape(text)})", context)]
    return min(places, key=lambda place: abs(place - (start or 0)), default=None)


def _targets(features: Features, gold: Array) -> tuple[Array, Array]:
    """int64[F, 2]: the first and the last token of the answer, 0, 0 in a window that does not hold all of it; bool[F]: which do."""
    stream = features.input
    feature_T = np.repeat(np.arange(features.num_features), stream.lengths)
    gold_T = gold[features.example[feature_T]]
    begin, end = np.asarray(stream["start"]), np.asarray(stream["end"])
    touches = (np.asarray(stream["part"]) == 1) & (end > gold_T[:, 0]) & (begin < gold_T[:, 1])
    labels, is_whole = np.zeros((features.num_features, 2), dtype=np.int64), np.zeros(features.num_features, dtype=bool)
    [at] = np.nonzero(touches)
    if not len(at):
        return labels, is_whole
    held, first = np.unique(feature_T[at], return_index=True)
    last = np.append(first[1:], len(at)) - 1
    whole = (begin[at[first]] <= gold[features.example[held], 0]) & (end[at[last]] >= gold[features.example[held], 1])
    places = np.stack([at[first], at[last]], axis=1) - stream.starts[held][:, None]
    labels[held[whole]], is_whole[held[whole]] = places[whole], True
    return labels, is_whole


def _log_sum(logits: Array) -> float:
    most = float(logits.max())
    return most + float(np.log(np.exp(logits.astype(np.float64) - most).sum()))


def _best_span(start: Array, end: Array, most: int) -> tuple[int, int, float]:
    """First and last token [n] of the span of at most ``most`` tokens with the largest sum of its logits, and that sum."""
    most = min(most, len(start))
    beyond = np.concatenate([end, np.full(most - 1, -np.inf, dtype=end.dtype)])
    sums = start[:, None] + np.lib.stride_tricks.sliding_window_view(
        beyond, most
    )  # [n, most]: by first token and length
    first, more = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(first), int(first + more), float(sums[first, more])
