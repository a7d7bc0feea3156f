"""Which baselines a task has, and what each learns from and answers with.

Shapes: N examples of a split that have features, C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.baselines import learners, tagging
from hf_trainpipe.baselines.frozen import frozen_texts
from hf_trainpipe.baselines.vectors import TfIdf, Unfit, matching
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.recipe import Scratch
from hf_trainpipe.runtime.tasks.embeddings import SentenceEmbeddings
from hf_trainpipe.runtime.tasks.tagging import TokenClassification
from hf_trainpipe.runtime.tasks.texts import TextTask
from hf_trainpipe.runtime.text.words import WordSplitter
from hf_trainpipe.runtime.tokens.ragged import ends_of, ranges

if TYPE_CHECKING:
    from hf_trainpipe.data.prepare import Prepared
    from hf_trainpipe.recipe import Pretrained
    from hf_trainpipe.runtime.tasks.base import Task

Working = Callable[..., AbstractContextManager[Callable[[int], None]]]
Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Split:
    """A split as a baseline reads it."""

    prepared: Prepared
    task: Task

    @cached_property
    def rows(self) -> Array:
        """int64[N]: the examples that the model has features of, too."""
        return self.prepared.usable

    @property
    def size(self) -> int:
        """Examples that a baseline may learn from."""
        return self.prepared.features.num_examples if isinstance(self.task, TokenClassification) else len(self.rows)

    @cached_property
    def raw(self) -> dict[str, list[Any]]:
        """The inputs by role, as the data have them."""
        found = self.prepared.rows.inputs(self.task)
        return {role: [values[row] for row in self.rows.tolist()] for role, values in found.items()}

    @cached_property
    def texts(self) -> list[list[str]]:
        """The texts after the recipe's preprocessing: one column, or two of pairs."""
        encoder = self.prepared.rows.encoder
        assert encoder is not None
        return [encoder.clean(column) for column in self.raw.values()]

    @cached_property
    def targets(self) -> Array:
        """int64[N] labels, uint8[N, C] or float32[N] numbers."""
        name = "score" if isinstance(self.task, SentenceEmbeddings) else "labels"
        return np.asarray(self.prepared.features.of_examples[name][self.rows])

    @cached_property
    def sentences(self) -> tagging.Sentences:
        """Of tagging the words of all examples after the recipe's preprocessing."""
        within, encoder = self.prepared.features.within, self.prepared.rows.encoder
        assert within is not None
        assert encoder is not None
        assert isinstance(self.task, TokenClassification)
        given = self.prepared.rows.inputs(self.task)
        if "words" in given:
            found: Iterator[Sequence[str]] = iter(encoder.clean_words(given["words"]))
        else:
            cut = encoder.words_of(given["text"], WordSplitter(self.task.splitter))
            found = ([word for word, _, _ in words] for words in cut)
        return tagging.Sentences(words=[word for words in found for word in words], starts=np.asarray(within.starts))

    @cached_property
    def tags(self) -> Array:
        """int32[W]; below 0 of words that are not scored."""
        assert self.prepared.features.within is not None
        return np.asarray(self.prepared.features.within["tags"])


@dataclass(frozen=True, kw_only=True)
class Means:
    """What baselines need beside the data."""

    model: Pretrained
    """Of the recipe, pinned."""
    root: Path
    """The cache folder."""
    working: Working
    say: Callable[[str], None] = lambda line: None
    most_rows: int | None = None
    """Training rows that a baseline learns from; None: as many as it takes in a minute or so."""


Answers = Callable[[Split], Array]
"""A split to logits [N, C], numbers [N, 1], or of tagging a tag for each word [W]."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A simple model."""

    name: str
    title: str
    """For people, without a capital."""
    learn: Callable[[Split, Array | None, Means], Answers]
    """Training split, the rows of it that are learnt from (None: all), what it needs."""
    most: Callable[[Split], int] | None = None
    """Rows that it learns from at most; None: all, at any size."""
    asks_model: bool = False
    """Whether it follows from the recipe's model, too."""


def baselines_of(task: Task, model: Pretrained) -> list[Baseline]:
    """The baselines that fit a fitted task, simplest first.

    Raises:
        RecipeError: there are none for tasks of its kind.
    """
    if isinstance(task, TokenClassification):
        return [
            Baseline(name="majority", title="the most frequent tag", learn=_one_tag),
            Baseline(name="word-tags", title="the most frequent tag of each word", learn=partial(_tagger, tagging.most_frequent)),
            Baseline(name="linear-tagger", title="a linear model of words, shapes and neighbours",
                     learn=partial(_tagger, tagging.linear), most=lambda split: 100_000),
        ]  # fmt: skip
    kind = task.judged_as
    is_scored_pair = isinstance(task, SentenceEmbeddings) and task.score is not None
    if (
        not (isinstance(task, TextTask) and kind in ("single_label", "multi_label", "regression"))
        and not is_scored_pair
    ):
        raise RecipeError(
            f"task: there are no baselines for {type(task).__name__}: expected a task that classifies, scores or tags texts.",
            fix="Hold its runs against each other instead: `hf-trainpipe compare RUN RUN`.",
        )
    learner = {"single_label": "logistic regression", "multi_label": "a logistic regression for each label"}
    by = learner.get(kind or "", "ridge regression")
    frozen = [] if isinstance(model, Scratch) else _of_frozen(task, by)
    found = [
        Baseline(name="majority", title="the mean" if kind == "regression" else "the most frequent answer", learn=_majority),
        Baseline(name="words", title=f"TF-IDF of words, {by}", learn=partial(_tf_idf, False), most=partial(_affordable, 1_000_000, 40_000_000)),
        Baseline(name="characters", title=f"TF-IDF of words and characters, {by}", learn=partial(_tf_idf, True),
                 most=partial(_affordable, 800_000, 8_000_000)),
    ]  # fmt: skip
    if kind == "single_label":
        found.append(Baseline(name="forest", title="a random forest of standardised words", learn=_forest, most=_grown))
    return [*found, *frozen]


def _of_frozen(task: Task, by: str) -> list[Baseline]:
    found = [
        Baseline(name="frozen", title=f"the model as it begins, {by}",
                 learn=_frozen, most=lambda split: 20_000, asks_model=True),
    ]  # fmt: skip
    if task.judged_as == "regression" and len(task.inputs) == 2:
        found.append(
            Baseline(name="cosine", title="the cosine of both texts by the model as it begins", learn=_cosine,
                     most=lambda split: 20_000, asks_model=True)
        )  # fmt: skip
    return found


def _num_labels(split: Split) -> int:
    return max(1, len(split.task.label_names))


def _affordable(most_cells: int, most_characters: int, split: Split) -> int:
    """Rows whose texts have so many characters in all, and so many targets."""
    characters = sum(len(text) for column in split.texts for text in column)
    by_text = int(most_characters * len(split.rows) / max(1, characters))
    labels = _num_labels(split)
    return max(1000, min(by_text, 200_000, most_cells if labels < 3 else most_cells // labels))


def _grown(split: Split) -> int:
    """Rows whose trees, with the share of each label in each leaf, stay under a gigabyte."""
    return max(1000, min(20_000, 1_000_000 // _num_labels(split)))


def _picked(columns: Sequence[Sequence[Any]], rows: Array | None) -> list[Sequence[Any]]:
    return list(columns) if rows is None else [[column[row] for row in rows.tolist()] for column in columns]


def _target(split: Split, rows: Array | None) -> Array:
    return split.targets if rows is None else split.targets[rows]


def check_learnable(train: Split) -> None:
    """Refuse training rows of one label, before anything is computed of them.

    Raises:
        Unfit: as said.
    """
    if train.task.judged_as == "single_label" and len(np.unique(train.targets)) < 2:
        raise Unfit("all training rows have the same label")


def _learner(split: Split) -> Callable[..., learners.Answers]:
    kind = split.task.judged_as
    return {"single_label": learners.logistic, "multi_label": learners.one_vs_rest}.get(kind or "", learners.ridge)


def _majority(train: Split, rows: Array | None, means: Means) -> Answers:
    kind = train.task.judged_as or "regression"
    answer = learners.constant(_target(train, rows), kind=kind, num_labels=_num_labels(train))
    return lambda split: np.tile(answer, (len(split.rows), 1))


def _tf_idf(characters: bool, train: Split, rows: Array | None, means: Means) -> Answers:
    labels = _num_labels(train)
    vectors = TfIdf(characters=characters, most=max(2_000, min(500_000, 4_000_000 // labels)))
    features = vectors.fit(_picked(train.texts, rows))
    options = {"tol": 1e-3} if characters and train.task.judged_as != "regression" else {}
    answer = _learner(train)(features, _target(train, rows), num_labels=labels, **options)
    return lambda split: answer(vectors.transform(split.texts))


def _forest(train: Split, rows: Array | None, means: Means) -> Answers:
    vectors = TfIdf(ngrams=(1, 1), min_df=2)
    features = vectors.fit(_picked(train.texts, rows))
    answer = learners.forest(features, _target(train, rows), num_labels=_num_labels(train))
    return lambda split: answer(vectors.transform(split.texts))


def _sides(split: Split, rows: Array | None, means: Means) -> list[Array]:
    """float32[N, W] of each text, by the model as it begins."""
    encoder = split.prepared.rows.encoder
    assert encoder is not None
    columns = _picked(list(split.raw.values()), rows)
    flat = [text for column in columns for text in column]
    found = frozen_texts(
        flat, model=means.model, encoder=encoder, root=means.root, say=means.say, working=means.working
    )
    size = len(columns[0])
    return [found[at : at + size] for at in range(0, len(flat), size)] if flat else [found]


def _frozen(train: Split, rows: Array | None, means: Means) -> Answers:
    features = matching(_sides(train, rows, means))
    answer = _learner(train)(features, _target(train, rows), num_labels=_num_labels(train))
    return lambda split: answer(matching(_sides(split, None, means)))


def _cosine(train: Split, rows: Array | None, means: Means) -> Answers:
    def cosines(split: Split, rows: Array | None) -> Array:
        first, second = _sides(split, rows, means)
        return np.asarray((first * second).sum(axis=1, keepdims=True))

    answer = learners.line(cosines(train, rows), _target(train, rows))
    return lambda split: answer(cosines(split, None))


def _one_tag(train: Split, rows: Array | None, means: Means) -> Answers:
    known = train.tags[train.tags >= 0]
    tag = int(np.bincount(known).argmax()) if len(known) else 0
    return lambda split: np.full(len(split.tags), tag, dtype=np.int64)


def _tagger(learn: Callable[..., Any], train: Split, rows: Array | None, means: Means) -> Answers:
    sentences, tags = train.sentences, train.tags
    if rows is not None:
        lengths = np.diff(sentences.starts)[rows]
        words = ranges(sentences.starts[rows], lengths)
        sentences = tagging.Sentences(words=[sentences.words[at] for at in words], starts=ends_of(lengths))
        tags = tags[words]
    answer: Callable[[tagging.Sentences], Array] = learn(sentences, tags, num_labels=_num_labels(train))
    return lambda split: answer(split.sentences)
