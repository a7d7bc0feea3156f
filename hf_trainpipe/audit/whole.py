"""The audit of a data set: everything that is looked at, the worst first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.audit import balance, columns, leaked, lengths, repeats, tags, texts
from hf_trainpipe.audit.answered import answered_suspects
from hf_trainpipe.audit.corpus import Corpus
from hf_trainpipe.audit.finding import Finding, Level
from hf_trainpipe.audit.suspects import Suspects, suspects
from hf_trainpipe.audit.twins import Twins
from hf_trainpipe.audit.vectors import Reader
from hf_trainpipe.baselines.vectors import Unfit
from hf_trainpipe.data.audit import check_columns
from hf_trainpipe.errors import DataError, TrainpipeError

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_trainpipe.out_of_fold import OutOfFold
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.runtime.tasks.base import Task


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What was found in a data set."""

    corpus: Corpus
    twins: Twins
    findings: tuple[Finding, ...]
    """The worst first."""
    assumed: tuple[str, ...] = ()
    """What nobody said, a sentence each."""
    unchecked: tuple[str, ...] = ()
    """What could not be looked at, and why."""
    suspects: Suspects | None = None
    """Labels that are probably wrong."""
    scores: tuple[dict[str, Any], ...] = ()
    """Scores with and without leaked rows (:mod:`.leaked`)."""

    @property
    def worst(self) -> Level | None:
        """The level of the worst finding; None: there is none."""
        return max((finding.level for finding in self.findings), default=None)

    def to_json(self) -> dict[str, Any]:
        """As JSON; the same for any order of the rows but for their numbers."""
        corpus = self.corpus
        return {
            "rows": {split: len(corpus.rows_of(split)) for split in corpus.names},
            "task": type(corpus.task).__name__,
            "inputs": [column.name for column in corpus.task.inputs.values()],
            "target": None if corpus.task.target is None else corpus.task.target.name,
            "labels": sorted({*balance.label_counts(corpus, corpus.names[0])}) if corpus.kind in _LABELLED else [],
            "assumed": list(self.assumed),
            "unchecked": list(self.unchecked),
            "findings": [finding.to_json() for finding in self.findings],
            "near": {
                "similarity": 0.8,
                "recall": 1.0 if not self.twins.skipped else None,
                "skipped": self.twins.skipped,
            },
            "clusters": int(self.twins.component.max(initial=-1)) + 1,
            "scores": list(self.scores),
        }


_LABELLED = ("class", "set", "tags")


def audit(
    task: Task,
    splits: Mapping[str, Dataset],
    *,
    recipe: Recipe | None = None,
    run: Path | None = None,
    learns: bool = True,
    crossval: OutOfFold | None = None,
    assumed: tuple[str, ...] = (),
    working: Callable[[str], AbstractContextManager[object]] = nullcontext,
) -> Audit:
    """Look at the rows of all splits.

    Args:
        recipe: Whose tokenizer and ``max_length`` tell what is cut off, and whose encoder reads texts; None: that is not looked at.
        run: The folder of a run of the recipe, whose scores are told without leaked rows too.
        learns: Whether a simple model is learnt, which finds wrong labels and scores splits without leaked rows.
        crossval: What the recipe's own models answered to rows that they never saw: wrong labels are told by it, not by a simple model.
        assumed: What of the task was guessed.
        working: Around what takes long, with what it is.

    Raises:
        DataError: there are no rows, or a column of the task is missing.
    """
    filled = {split: dataset for split, dataset in splits.items() if len(dataset)}
    if not filled:
        raise DataError("Expected rows, found none in any split.", fix="Name a file that has rows.")
    for split, dataset in filled.items():
        check_columns(dataset, split, [column.name for column in task.inputs.values() if not column.parts])
    corpus = Corpus(task, filled)
    with working(f"reading {len(corpus):,} rows"):
        _ = corpus.same, corpus.raw, corpus.targets
    with working("looking for rows that repeat each other"):
        twins = Twins.of(corpus)
    found: list[Finding] = list(_empty_splits(splits))
    unchecked: list[str] = []
    if twins.skipped:
        unchecked.append(
            f"{twins.skipped:,} pairs of rows that share their rarest words were not compared: too many are alike"
        )
    looks: dict[str, Callable[[], Iterator[Finding]]] = {
        "repetitions": partial(repeats.within, twins),
        "leaks": partial(repeats.across, twins),
        "conflicts": partial(repeats.conflicts, twins),
        "crossed labels": partial(repeats.crossed, twins),
        "texts": partial(texts.odd, corpus),
        "scripts": partial(texts.scripts, corpus),
        "labels": partial(balance.balance, corpus),
        "columns": partial(columns.leaking_columns, corpus),
        "tokens": partial(columns.leaking_tokens, corpus),
        "tags": partial(tags.broken_tags, corpus),
        "spans": partial(tags.broken_spans, corpus),
    }
    if recipe is not None:
        looks["length"] = partial(lengths.truncated, corpus, recipe)
    for name, look in looks.items():
        with working(f"looking at {name}"):
            try:
                found += look()
            except TrainpipeError as error:
                unchecked.append(f"{name}: {error.message}")
    doubted, scores, reader = None, list[dict[str, Any]](), Reader(corpus, recipe)
    try:
        if learns or crossval is not None:
            with working("looking for wrong labels"):
                doubted = suspects(twins, reader) if crossval is None else answered_suspects(corpus, crossval)
                found += () if doubted is None else doubted.findings()
        if learns:
            with working("scoring without leaked rows"):
                scores += leaked.of_model(twins, reader)
    except Unfit as reason:
        unchecked.append(f"wrong labels: {reason}")
    if run is not None and recipe is not None:
        try:
            scores += leaked.of_run(twins, run, recipe)
        except TrainpipeError as error:
            unchecked.append(f"the run's scores: {error.message}")
    return Audit(
        corpus=corpus,
        twins=twins,
        suspects=doubted,
        scores=tuple(scores),
        findings=tuple(sorted(found, key=lambda finding: finding.order)),
        assumed=assumed,
        unchecked=tuple(unchecked),
    )


def _empty_splits(splits: Mapping[str, Dataset]) -> Iterator[Finding]:
    for split, dataset in splits.items():
        if not len(dataset):
            line, fix = "the split has no rows: training refuses it", f"Check data.{split}, or leave the split out."
            yield Finding(kind="no-rows", level=Level.WRONG, split=split, line=line, fix=fix, count=1, total=1)
