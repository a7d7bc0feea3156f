"""Learn the baselines of a recipe's data and score them as its runs are scored."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe import metrics
from hf_trainpipe.baselines.beside import EVALUATED, best, chosen
from hf_trainpipe.baselines.kept import Kept, Measured
from hf_trainpipe.baselines.listed import Baseline, Means, Split, baselines_of, check_learnable
from hf_trainpipe.baselines.vectors import Unfit
from hf_trainpipe.data.predicted import predicted
from hf_trainpipe.data.prepare import PreparedData, prepare
from hf_trainpipe.engine.evaluation import judge, tune
from hf_trainpipe.errors import DataError
from hf_trainpipe.model.lengths import max_length
from hf_trainpipe.model.limits import model_limits
from hf_trainpipe.model.names import pin_model
from hf_trainpipe.model.scratch import made_from_scratch
from hf_trainpipe.model.tokenizer import load_tokenizer
from hf_trainpipe.recipe import Scratch
from hf_trainpipe.runtime.model.outputs import Outputs
from hf_trainpipe.runtime.tasks.embeddings import SentenceEmbeddings
from hf_trainpipe.runtime.tasks.tagging import TokenClassification
from hf_trainpipe.utils.cache import cache_root

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.runtime.tasks.base import Task
    from hf_trainpipe.tracking.console import Console


@dataclass(frozen=True, kw_only=True)
class Found:
    """The baselines of a recipe's data."""

    measured: list[Measured]
    """Those that could be learnt, simplest first."""
    unfit: dict[str, str]
    """Title to why, of those that could not."""
    data: PreparedData
    recipe: Recipe
    """The model pinned."""

    @property
    def select(self) -> str:
        """The metric that they are held against each other by."""
        return chosen(self.measured, self.recipe.selected_metric)

    @property
    def best(self) -> Measured | None:
        """The best on validation, or without one on test."""
        return best(self.measured, self.select, self.data.task)

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "select": self.select,
            "best": None if self.best is None else self.best.name,
            "baselines": [one.to_json() for one in self.measured],
            "unfit": self.unfit,
            "fingerprints": self.data.fingerprints,
        }


def measure(recipe: Recipe, *, console: Console, folder: Path | None = None, most_rows: int | None = None) -> Found:
    """Read the data of a recipe as training reads them, and learn and score its baselines; what is kept is not learnt again.

    Args:
        folder: Where they are kept; None: in the cache.
        most_rows: Training rows that each learns from at most; None: as many as take a minute or so.

    Raises:
        TrainpipeError: what training would refuse; a task without baselines; no split to score.
    """
    recipe, data = read(recipe, console=console)
    return of_data(recipe, data, console=console, kept=Kept(recipe, data, folder), most_rows=most_rows)


def read(recipe: Recipe, *, console: Console) -> tuple[Recipe, PreparedData]:
    """The recipe with its model pinned, and its data as training reads them.

    Raises:
        TrainpipeError: what training would refuse; a task without baselines.
    """
    with _ready(recipe) as (recipe, tokenizer):
        baselines_of(recipe.task, recipe.model)  # refuses a task before its data are read
        limits = model_limits(recipe.model, recipe.task, tokenizer)
        return recipe, prepare(
            recipe,
            tokenizer=tokenizer,
            max_length=max_length(recipe.tokens, limits.limit),
            vocab_size=limits.rows,
            root=cache_root(),
            say=console.say,
            working=console.working,
        )


def of_data(recipe: Recipe, data: PreparedData, *, console: Console, kept: Kept, most_rows: int | None = None) -> Found:
    """The same of data that are prepared."""
    splits = {name: Split(data.splits[name], data.task) for name in EVALUATED if name in data.splits}
    if not splits:
        raise DataError(
            "There is neither a validation nor a test split to score baselines on.",
            fix="Name one in the data (validation='validation'), or cut one off: validation=0.1.",
        )
    train = Split(data.train, data.task)
    means = Means(model=recipe.model, root=cache_root(), working=console.working, say=console.say, most_rows=most_rows)
    measured, unfit = [], {}
    for baseline in baselines_of(data.task, recipe.model):
        found = kept.get(baseline, most_rows)
        if found is None:
            try:
                with console.working(f"{baseline.title}"):
                    found = learn(baseline, train, splits, means)
            except Unfit as reason:
                unfit[baseline.title] = str(reason)
                continue
            kept.put(baseline, most_rows, found)
        measured.append(kept.scored(found))
    return Found(measured=measured, unfit=unfit, data=data, recipe=recipe)


@contextmanager
def _ready(recipe: Recipe) -> Iterator[tuple[Recipe, Any]]:
    """The recipe with its model pinned, and the tokenizer; of a model from random weights only the tokenizer is made."""
    if not isinstance(recipe.model, Scratch):
        recipe = replace(recipe, model=pin_model(recipe.model))
        yield recipe, load_tokenizer(recipe.model)
        return
    with TemporaryDirectory() as place:
        made = made_from_scratch(recipe, Path(place) / "model", with_weights=False)
        yield recipe, load_tokenizer(made)


def learn(baseline: Baseline, train: Split, splits: Mapping[str, Split], means: Means, *, rows: Any = None) -> Measured:
    """Learn one baseline, and let it answer the splits.

    Args:
        rows: int64[n]: the training rows that it learns from; None: all, or as many as it can afford.

    Raises:
        Unfit: it cannot be learnt from these rows.
    """
    if baseline.name != "majority":
        check_learnable(train)
    begun = time.perf_counter()
    rows = _rows(baseline, train, means.most_rows) if rows is None else rows
    answers = baseline.learn(train, rows, means)
    outputs = {name: answers(split) for name, split in splits.items()}
    seconds = time.perf_counter() - begun
    task = train.task
    if "validation" in outputs:
        task = tune(task, _judged(outputs["validation"], splits["validation"], task))
    told = {
        name: predicted(split.prepared, _judged(outputs[name], split, task), task) for name, split in splits.items()
    }
    return Measured(
        name=baseline.name,
        title=baseline.title,
        seconds=seconds,
        rows=train.size if rows is None else len(rows),
        of=train.size,
        predicted=told,
    )


def _rows(baseline: Baseline, train: Split, most_rows: int | None) -> Any:
    """int64[n]: a sample of the training rows, in their order; None: all of them."""
    limits = [limit for limit in (most_rows, None if baseline.most is None else baseline.most(train)) if limit]
    if not limits or min(limits) >= train.size:
        return None
    random = np.random.Generator(np.random.Philox(0))
    return np.sort(random.choice(train.size, size=min(limits), replace=False))


def _judged(answers: Any, split: Split, task: Task) -> metrics.Predictions:
    """Answers as metrics take them, by the task itself."""
    features = split.prepared.features
    if isinstance(task, SentenceEmbeddings):  # answers are cosines, or numbers in their place
        references = features.of_examples["score"][split.rows]
        return metrics.Predictions("regression", outputs=answers, references=references, examples=split.rows)
    if not isinstance(task, TokenClassification):
        return judge(Outputs(split.rows, {"logits": np.asarray(answers, np.float32)}), features, task)
    assert features.within is not None
    starts = np.asarray(features.within.starts)
    number = np.arange(len(answers), dtype=np.int64) - np.repeat(starts[:-1], np.diff(starts))
    logits = np.zeros((len(answers), len(task.label_names)), dtype=np.int8)
    logits[np.arange(len(answers)), answers] = 1
    examples = np.arange(features.num_examples, dtype=np.int64)
    told = Outputs(examples, {"logits": logits, "words": number}, {"logits": starts, "words": starts})
    return judge(told, features, task)
