"""Which rows of a file to label next: those that the package is least sure of, unlike each other, and some at random.

The random ones are drawn first, from all rows, so that their labels tell how good the model is on such texts and, trained on
alone, whether choosing gains anything. The others are chosen by :mod:`hf_trainpipe.baselines.choosing`.

Shapes: S rows of the shortlist, W numbers of a vector.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.audit.normal import PARTS, normal
from hf_trainpipe.baselines.choosing import diverse
from hf_trainpipe.data.readers_base import AS_FOUND, ReadOptions
from hf_trainpipe.errors import DataError, RecipeError
from hf_trainpipe.package.columns import Chooser, known_columns, parse_asked
from hf_trainpipe.package.inputs import Record, read_records
from hf_trainpipe.package.layout import find_package, read_manifest
from hf_trainpipe.package.predict import answer_rows
from hf_trainpipe.tracking.console import Console

if TYPE_CHECKING:
    from hf_trainpipe.runtime.handler.predictor import Predictor
    from hf_trainpipe.runtime.tasks.base import Task

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_CHUNK = 1_000
UNSURE, RANDOM = "unsure", "random"
"""Why a row was chosen."""


@dataclass(frozen=True)
class Chosen:
    """A row to label."""

    row: int
    """From 1, in the file."""
    record: Record
    given: Any
    """As a client sends it."""
    answer: Any
    why: str
    """:data:`UNSURE` or :data:`RANDOM`."""
    uncertainty: float
    """From 0 to 1: 1 less the margin between the two likeliest labels."""


@dataclass(kw_only=True)
class Suggestions:
    """What :func:`suggest` found, the unsure ones before the random ones, each in the order of the file."""

    task: Task
    columns: tuple[str, ...]
    """Of the input; empty for a file of lines."""
    target: str | None
    """The recipe's column of labels."""
    name: str
    """Of the package."""
    chosen: list[Chosen]
    rows: int
    """Of the file."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Rows that were not candidates, by reason."""
    mean_uncertainty: float
    """Over the candidates."""

    def count(self, why: str) -> int:
        """Rows that were chosen for this reason."""
        return sum(one.why == why for one in self.chosen)


def suggest(
    package: Path | str,
    input: Path | str,
    *,
    count: int,
    random_share: float = 0.2,
    labelled: Sequence[Path | str] = (),
    column: Sequence[str] = (),
    reading: ReadOptions = AS_FOUND,
    seed: int = 0,
    device: str | None = None,
    allow_code: bool = False,
    backend: str | None = None,
) -> Suggestions:
    """Choose rows of a file to label. All rows are held in memory, their outputs are not.

    Args:
        count: Rows to choose, the random ones among them.
        random_share: The share of them that is drawn at random.
        labelled: Files whose rows are labelled already: the same texts are not chosen.
        column: The column of the input, or two of a pair; none: those of the recipe.
        seed: Of the random rows, and of the clusters.

    Raises:
        DataError: a file cannot be read, lacks the columns, or no row of it can be chosen.
        RecipeError: the task has no probabilities of labels.
    """
    from hf_trainpipe.runtime.handler.predictor import Predictor

    path = find_package(package)
    manifest = read_manifest(path)
    known = known_columns(manifest)
    chooser = Chooser(known, parse_asked(column, known), name=str(input))
    records = list(read_records(input, reading))
    inputs = [_input(chooser, record) for record in records]
    done: set[str] = set()
    for file in labelled:
        other = Chooser(known, parse_asked(column, known), name=str(file))
        done.update(_same(_input(other, record)) for record in read_records(file, reading))
    console = Console(0)
    with console.working("loading the package"):
        predictor = Predictor.load(path, device=device, allow_code=allow_code, backend=backend)
    left_out: Counter[str] = Counter()
    candidates = list(_candidates(inputs, done, left_out))
    with console.working("measuring how sure the model is", total=len(candidates)) as work:
        uncertain, rows = _measured(predictor, inputs, candidates, left_out, work)
    if not rows:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in left_out.items()) or "it has no rows"
        raise DataError(
            f"{input}: none of its {len(records):,} rows can be chosen: {reasons}.",
            fix="Check the file, or choose the column that holds the text with --column NAME.",
            file=str(input),
        )
    count = min(count, len(rows))
    drawn = np.random.default_rng(seed).permutation(len(rows))[: round(count * random_share)]
    free = uncertain.copy()
    free[drawn] = -1.0
    place = np.array(rows)
    vectors = _vectors(predictor, path, inputs)
    with console.working("choosing rows that differ"):
        unsure = diverse(lambda short: vectors(place[short]), free, count - len(drawn), seed)
    chosen = []
    for why, places in ((UNSURE, np.sort(unsure)), (RANDOM, np.sort(drawn))):
        answers = answer_rows(predictor, [inputs[rows[at]] for at in places], {})
        chosen += [
            Chosen(rows[at] + 1, records[rows[at]], inputs[rows[at]], answer, why, float(uncertain[at]))
            for at, (answer, _) in zip(places, answers, strict=True)
        ]
    return Suggestions(
        task=predictor.task,
        columns=chooser.columns,
        target=known.target,
        name=predictor.info.name,
        chosen=chosen,
        rows=len(records),
        left_out=left_out,
        mean_uncertainty=float(uncertain.mean()),
    )


def _same(given: Any) -> str:
    """What an input is compared by."""
    parts = given.values() if isinstance(given, dict) else given if isinstance(given, list | tuple) else (given,)
    return PARTS.join(normal(str(part)) for part in parts)


def _input(chooser: Chooser, record: Record) -> Any:
    return chooser.input_of(record.fields) if record.fields is not None else chooser.line(record.value)


def _candidates(inputs: Sequence[Any], done: set[str], left_out: Counter[str]) -> Iterator[int]:
    """Rows with a text that is not labelled and did not come before."""
    seen: set[str] = set()
    for row, given in enumerate(inputs):
        key = "" if given is None or given != given else _same(given)
        if not key.strip():
            left_out["without a text"] += 1
        elif key in done:
            left_out["labelled already"] += 1
        elif key in seen:
            left_out["repeats of another row"] += 1
        else:
            seen.add(key)
            yield row


def _measured(
    predictor: Predictor,
    inputs: Sequence[Any],
    candidates: Sequence[int],
    left_out: Counter[str],
    work: Callable[[int], None],
) -> tuple[Floats, list[int]]:
    """How unsure the model is of each row that it can answer, and these rows."""
    uncertain: list[float] = []
    kept: list[int] = []
    for start in range(0, len(candidates), _CHUNK):
        rows = candidates[start : start + _CHUNK]
        answers = answer_rows(predictor, [inputs[row] for row in rows], dict(predictor.task.tells_all))
        for row, (answer, error) in zip(rows, answers, strict=True):
            if error is not None:
                left_out[f"without an answer ({error})"] += 1
                continue
            if (found := predictor.task.unsure(answer)) is None:
                raise RecipeError(
                    f"suggest needs answers that tell how sure they are, and those of {type(predictor.task).__name__} do not.",
                    fix="Use it with packages that classify texts or tag words.",
                )
            uncertain.append(found)
            kept.append(row)
        work(start + len(rows))
    return np.array(uncertain), kept


def _vectors(predictor: Predictor, folder: Path, inputs: Sequence[Any]) -> Callable[[Ints], NDArray[np.float32]]:
    """Vectors of rows by the encoder of the package."""

    def found(rows: Ints) -> NDArray[np.float32]:
        from hf_trainpipe.baselines.frozen import frozen
        from hf_trainpipe.recipe import Pretrained
        from hf_trainpipe.utils.cache import cache_root

        features = predictor.features([inputs[row] for row in rows])
        return frozen(features, model=Pretrained(str(folder)), root=cache_root())

    return found
