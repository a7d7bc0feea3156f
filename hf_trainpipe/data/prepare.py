"""From a recipe to arrays that are ready to train on: audit, labels, token cache, targets, micro-batches.

Shapes: N examples, F features (windows of examples), B features of a micro-batch, L tokens of the longest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.data.audit import audit, check_columns
from hf_trainpipe.data.encode import content_digest, encode_cached, files_digest, tokenizer_digest
from hf_trainpipe.data.rows import Rows
from hf_trainpipe.errors import DataError, RecipeError
from hf_trainpipe.runtime.tasks.base import Requests, Task
from hf_trainpipe.runtime.tasks.draws import Draws
from hf_trainpipe.runtime.tokens.batch import Batch, dense_batch, pad
from hf_trainpipe.runtime.tokens.encoder import Encoder
from hf_trainpipe.runtime.tokens.features import Features, features_of

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

    from hf_trainpipe.augmentation.encoder import AugmentingEncoder
    from hf_trainpipe.recipe import Data, Recipe
    from hf_trainpipe.runtime.tasks.columns import Labels

__all__ = ["Prepared", "PreparedData", "prepare"]

UNLABELLED = "unlabelled"
"""What messages call the rows without targets."""


@dataclass(frozen=True)
class Prepared:
    """A split as flat arrays, with the targets of its examples."""

    name: str
    features: Features
    rows: Rows
    """What the features were made of."""
    digest: str
    """sha256 of inputs and targets."""

    def __len__(self) -> int:
        return self.features.num_examples

    @property
    def lengths(self) -> np.ndarray:
        """int64[F]: tokens of each feature, over all streams."""
        return self.features.lengths

    @cached_property
    def example_lengths(self) -> np.ndarray:
        """int64[N]: tokens of all features of each example."""
        sums = np.bincount(self.features.example, weights=self.lengths, minlength=self.features.num_examples)
        return sums.astype(np.int64)

    @cached_property
    def usable(self) -> np.ndarray:
        """int64[<= N]: the examples that have features."""
        return np.flatnonzero(self.features.windows)

    def features_of(self, examples: np.ndarray) -> np.ndarray:
        """int64[<= F]: the features of some examples, each once."""
        return features_of(self.features, examples)

    def batch(self, features: np.ndarray) -> Batch:
        """The tensors of a micro-batch: the model's inputs, targets, and ``weights`` [B]."""
        return pad(self.features, features, with_targets=True)

    def varied(self, features: np.ndarray, task: Task, *, seed: int, epoch: int) -> Batch:
        """The same of the training, with what the task draws for an epoch."""
        batch = self.batch(features)
        if type(task).vary is Task.vary:
            return batch
        assert self.rows.encoder is not None
        return task.vary(batch, Draws(seed, epoch, features, self.rows.encoder))

    def targets(self, features: np.ndarray) -> dict[str, torch.Tensor]:
        """What a loss over features sees beside their outputs: the dense columns, and ``weights``."""
        return dense_batch(self.features, features)

    def empty_batch(self) -> Batch:
        """A micro-batch of weight 0, for a rank without a share of a short global batch."""
        shortest = np.asarray([int(np.argmin(self.lengths))], dtype=np.int64)
        if self.features.together:
            shortest = self.features_of(self.features.example[shortest])
        return self.batch(shortest).weightless()

    def asked(self, task: Task) -> Requests:
        """The raw inputs of examples, with their features."""
        assert self.rows.encoder is not None
        return Requests(Inputs(self.rows.dataset, task), self.features, self.rows.encoder)


class Inputs(Sequence[Mapping[str, Any]]):
    """Rows by role, read when they are asked for."""

    def __init__(self, dataset: Dataset, task: Task) -> None:
        self._dataset, self._columns = dataset, task.inputs

    def __getitem__(self, row: Any) -> Any:
        found = self._dataset[int(row)]
        return {role: found[column.name] for role, column in self._columns.items()}

    def __len__(self) -> int:
        return len(self._dataset)


@dataclass(frozen=True)
class PreparedData:
    """All splits of a run, with its fitted task and fingerprints."""

    splits: dict[str, Prepared]
    task: Task
    """The recipe's task with what follows from the training data filled in."""
    fingerprints: dict[str, str]
    """sha256 of ``data``, ``tokenizer`` and ``labels``; of what ``preprocessing`` and ``augmentation`` read beside their code."""
    warnings: list[str] = field(default_factory=list)
    unlabelled: Prepared | None = None
    """Further rows of the training without targets, of which a teacher tells what is right."""
    prepare_split: Callable[[str, Dataset, Path], Prepared] | None = None
    """Encodes further rows as the splits were: name, rows, cache folder."""
    prepare_again: Callable[[Prepared, AugmentingEncoder, Path], Prepared] | None = None
    """Encodes a split by another encoder, with the same targets: split, encoder, cache folder."""

    @property
    def labels(self) -> Labels:
        return self.task.label_names

    @property
    def train(self) -> Prepared:
        return self.splits["train"]

    @property
    def learnt(self) -> tuple[Prepared, ...]:
        """What the steps are drawn from, before it is one: the training split, and rows without targets."""
        return (self.train,) if self.unlabelled is None else (self.train, self.unlabelled)

    def precomputed(
        self, split: Prepared, model: Callable[[], torch.nn.Module], kept: Callable[..., Features] | None = None
    ) -> Prepared:
        """A split with what the task asks of the model before its first step, if it asks anything.

        Args:
            kept: :func:`.reference.with_reference`, which knows the weights.
        """
        if type(self.task).precompute is Task.precompute:
            return split
        there = model()  # with FSDP2 all ranks put it together

        compute = partial(self.task.precompute, there)
        if kept is None or not self.task.keeps(split.features):
            features = compute(split.features)
        else:
            features = kept(split.features, self.task, compute=compute, split=split.name)
        return replace(split, features=self.task.completed(features))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _digest_of_targets(features: Features) -> str:
    """sha256 of what is right, of all examples."""
    digest = hashlib.sha256()
    within = {} if features.within is None else features.within.columns
    targets = [column.values for column in within.values() if column.to_loss]
    for array in (*features.of_examples.values(), *targets):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _lost(name: str, features: Features, policy: str) -> list[str]:
    """What the over-length policy did to a split, and how many examples have no token; nothing where all is kept."""
    report, lines = features.overflow, []
    if report.dropped or report.tokens_lost:
        lost = report.tokens_lost / max(1, report.tokens)
        lines.append(
            f"{name}: {report.over_length:,} of {report.examples:,} examples are longer than max_length "
            f"({policy}): {report.dropped:,} dropped, {lost:.2%} of all tokens lost"
        )
    if report.empty:
        lines.append(
            f"{name}: {report.empty:,} of {report.examples:,} examples have no token (nothing is left of them after "
            "preprocessing); they are kept, and read as an empty text"
        )
    return lines


def prepare(
    recipe: Recipe,
    *,
    tokenizer: Any,
    max_length: int,
    vocab_size: int | None,
    root: Path,
    say: Callable[[str], None],
    splits: Mapping[str, Dataset] | None = None,
    working: Callable[[str], AbstractContextManager[object]] = nullcontext,
) -> PreparedData:
    """Load, audit and encode every split of a recipe.

    Args:
        tokenizer: A fast tokenizer.
        max_length: Tokens a feature holds at most.
        vocab_size: Rows of the model's embedding; token ids beyond it are refused. None: unchecked.
        root: The cache folder.
        say: Called with progress lines.
        splits: Already loaded splits; None: ``recipe.data.splits()``.
        working: Around what takes long, with what it is.

    Raises:
        DataError: with file and line where they are known.
    """
    recipe.task.check_preprocessing(recipe.preprocessing)
    of_files, of_drawing = files_digest(recipe.preprocessing), files_digest(recipe.augmentation or ())
    for step in recipe.augmentation or ():
        step.check(tokenizer)
    with working("reading and checking the data"):
        loaded: Any = recipe.data.splits() if splits is None else splits
        warnings = list(audit(recipe.task, loaded))
    encoder = Encoder(
        tokenizer,
        steps=recipe.preprocessing,
        max_length=max_length,
        overflow=recipe.tokens.overflow,
        stride=recipe.tokens.stride,
    )
    train = Rows(loaded["train"], "train", encoder=encoder, others=loaded, is_training=True)
    task = recipe.task.fit(train)
    of_tokenizer = tokenizer_digest(tokenizer)

    def prepare_split(name: str, dataset: Dataset, root: Path) -> Prepared:
        return prepare_rows(Rows(dataset, name, encoder=encoder), root)

    def prepare_rows(rows: Rows, root: Path, *, labelled: bool = True) -> Prepared:
        inputs = rows.inputs(task)
        if labelled:
            task.check(rows)
        content = content_digest(inputs)
        encoded = encode_cached(
            inputs,
            task=task,
            encoder=encoder,
            split=rows.split,
            content=content,
            root=root,
            place=rows.place,
            say=say,
            digest=of_tokenizer,
            files=of_files,
        )
        if vocab_size is not None:
            _check_ids(encoded, rows, vocab_size)
        features = task.supervise(rows, encoded) if labelled else encoded
        return Prepared(rows.split, features, rows, _digest([content, _digest_of_targets(features)]))

    def prepare_again(split: Prepared, encoder: AugmentingEncoder, root: Path) -> Prepared:
        rows = split.rows
        encoded = encode_cached(
            rows.inputs(task),
            task=task,
            encoder=encoder,
            split=rows.split,
            content=split.digest,
            root=root,
            place=rows.place,
            say=lambda line: None,
            digest=of_tokenizer,
            files=of_files,
            drawn=[[repr(step) for step in encoder.augmentation], encoder.seed, encoder.epoch, of_drawing],
        )
        if len(split.usable) < len(split):  # what is left out stays out
            encoded = encoded.keep(np.flatnonzero(np.isin(encoded.example, split.usable)))
        return replace(split, features=task.supervise(rows, encoded))

    prepared: dict[str, Prepared] = {}
    for name, dataset in loaded.items():
        rows = train if name == "train" else Rows(dataset, name, encoder=encoder)
        with working(f"encoding {name}, {len(dataset):,} rows"):
            split = prepared[name] = prepare_rows(rows, root)
        warnings += [*rows.notes, *_lost(name, split.features, recipe.tokens.overflow), *rows.warnings()]
        rows.check_lost()
        if len(split.usable) == 0:
            raise DataError(
                f"split {name!r}: every example is longer than {max_length} tokens and was dropped.",
                fix="Raise tokens.max_length, or choose tokens.overflow='window' or 'truncate'.",
            )
    unlabelled = None
    if recipe.distil is not None and recipe.distil.unlabelled is not None:
        with working("encoding the rows without labels"):
            further = _without_labels(recipe, recipe.distil.unlabelled)
            unlabelled = prepare_rows(Rows(further, UNLABELLED, encoder=encoder), root, labelled=False)
        warnings += _lost(UNLABELLED, unlabelled.features, recipe.tokens.overflow)
    digests = {**prepared, **({} if unlabelled is None else {UNLABELLED: unlabelled})}
    fingerprints = {
        "data": _digest({name: split.digest for name, split in digests.items()}),
        "tokenizer": of_tokenizer,
        "labels": _digest(list(task.label_names)),
    }
    if of_files is not None:
        fingerprints["preprocessing"] = of_files
    if of_drawing is not None:
        fingerprints["augmentation"] = of_drawing
    return PreparedData(prepared, task, fingerprints, warnings, unlabelled, prepare_split, prepare_again)


def _without_labels(recipe: Recipe, source: Data) -> Dataset:
    """The rows of ``distil.unlabelled``.

    Raises:
        DataError: there are none, or they lack a column.
        RecipeError: the labelled rows are a stream.
    """
    if recipe.data.stream() is not None:
        raise RecipeError(
            "distil.unlabelled: expected None beside a stream, whose windows are the rows of an epoch.",
            fix="Leave distil.unlabelled out, or set data.streaming=False.",
        )
    rows: Dataset = source.splits()["train"]
    if len(rows) == 0:
        raise DataError("distil.unlabelled: expected rows, found none.", fix="Name a file with rows, or leave it out.")
    check_columns(rows, UNLABELLED, [column.name for column in recipe.task.inputs.values()])
    return rows


def _check_ids(features: Features, rows: Rows, vocab_size: int) -> None:
    """Refuse token ids that the model has no row for."""
    for stream in features.streams.values():
        ids = None if stream.ids is None else stream[stream.ids]
        if ids is not None and len(ids) and int(ids.max()) >= vocab_size:
            at = int(np.argmax(np.asarray(ids) >= vocab_size))
            row = int(features.example[np.searchsorted(stream.starts, at, side="right") - 1])
            raise DataError(
                f"{rows.place(row)}: token id {int(ids[at])} is outside the model's vocabulary of {vocab_size:,}.",
                fix="The tokenizer does not belong to the model: set model.tokenizer, or resize the model.",
            )
