"""From a recipe to arrays that are ready to train on: audit, targets, token cache, micro-batches.

Shapes: N examples, F features (windows of examples), T tokens of all features, B features of a
micro-batch, L tokens of the longest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.data.audit import audit
from hf_trainpipe.data.encode import Columns, content_digest, encode_cached, tokenizer_digest
from hf_trainpipe.data.label_notes import label_notes
from hf_trainpipe.data.place import place
from hf_trainpipe.data.spans import check_lost, span_lines
from hf_trainpipe.data.targets import Targets, build_targets, resolve_labels
from hf_trainpipe.errors import DataError, RecipeError
from hf_trainpipe.runtime.tokens.encoding import Encoded, features_of, pad
from hf_trainpipe.runtime.tokens.ragged import ranges
from hf_trainpipe.tasks.base import Labels, Task
from hf_trainpipe.tasks.tagging import IGNORED

if TYPE_CHECKING:
    import torch
    from datasets import Dataset, DatasetDict

    from hf_trainpipe.recipe import Recipe

__all__ = ["Prepared", "PreparedData", "check_preprocessing", "prepare"]


@dataclass(frozen=True)
class Prepared:
    """A split as flat arrays, with the targets of its examples."""

    name: str
    encoded: Encoded
    targets: Targets
    digest: str
    """sha256 of texts and targets."""

    def __len__(self) -> int:
        return self.encoded.num_examples

    @cached_property
    def lengths(self) -> np.ndarray:
        """int64[F]: tokens of each feature."""
        return np.diff(self.encoded.starts)

    @cached_property
    def windows(self) -> np.ndarray:
        """int64[N]: how many features each example has; 0 where the policy dropped it."""
        return np.bincount(self.encoded.example, minlength=self.encoded.num_examples)

    @cached_property
    def example_lengths(self) -> np.ndarray:
        """int64[N]: tokens of all features of each example."""
        sums = np.bincount(self.encoded.example, weights=self.lengths, minlength=self.encoded.num_examples)
        return sums.astype(np.int64)

    @cached_property
    def usable(self) -> np.ndarray:
        """int64[<= N]: the examples that have features."""
        return np.flatnonzero(self.windows)

    def features_of(self, examples: np.ndarray) -> np.ndarray:
        """int64[<= F]: the features of some examples, each once."""
        return features_of(self.encoded, examples)

    def batch(self, features: np.ndarray, *, pad_id: int) -> dict[str, torch.Tensor]:
        """The tensors of a micro-batch: the model's inputs [B, L], ``labels`` and ``weights`` [B].

        ``weights`` is what share of its example a feature stands for, so that an example cut into
        k windows counts once.
        """
        import torch

        batch = pad(self.encoded, features, pad_id)
        examples = np.asarray(self.encoded.example[features])
        batch["weights"] = torch.from_numpy((1.0 / self.windows[examples]).astype(np.float32))
        values = self.targets.values
        if self.targets.kind == "tags":
            batch["labels"] = torch.from_numpy(self._tag_labels(features, examples, batch["input_ids"].shape))
        else:
            kind = np.int64 if self.targets.kind == "class" else np.float32
            batch["labels"] = torch.from_numpy(np.asarray(values[examples], dtype=kind))
        return batch

    def _tag_labels(self, features: np.ndarray, examples: np.ndarray, shape: Any) -> np.ndarray:
        words, starts, first = self.encoded.words, self.encoded.starts, self.targets.word_starts
        assert words is not None
        assert first is not None
        lengths = self.lengths[features]
        source = ranges(np.asarray(starts[features]), lengths)
        rows = np.repeat(np.arange(len(features)), lengths)
        columns = ranges(np.zeros(len(features), dtype=np.int64), lengths)
        words_T = np.asarray(words[source])
        owned = words_T >= 0
        labels = np.full(tuple(shape), IGNORED, dtype=np.int64)
        labels[rows[owned], columns[owned]] = self.targets.values[first[examples[rows[owned]]] + words_T[owned]]
        return labels

    def empty_batch(self, *, pad_id: int) -> dict[str, torch.Tensor]:
        """A micro-batch of weight 0, for a rank without a share of a short global batch."""
        shortest = np.asarray([int(np.argmin(self.lengths))], dtype=np.int64)
        batch = self.batch(shortest, pad_id=pad_id)
        batch["weights"] = batch["weights"] * 0.0
        if self.targets.kind == "tags":
            batch["labels"] = batch["labels"] * 0 + IGNORED
        return batch


@dataclass(frozen=True)
class PreparedData:
    """All splits of a run, with its labels and fingerprints."""

    splits: dict[str, Prepared]
    labels: Labels
    task: Task
    """The recipe's task with what follows from the training data filled in."""
    fingerprints: dict[str, str]
    """sha256 of ``data``, ``tokenizer`` and ``labels``."""
    warnings: list[str] = field(default_factory=list)
    raw: DatasetDict | None = None
    prepare_split: Callable[[str, Dataset, Path], Prepared] | None = None
    """Encodes further rows as the splits were: name, rows, cache folder."""

    @property
    def train(self) -> Prepared:
        return self.splits["train"]


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def columns_of(task: Task, dataset: Dataset, targets: Targets) -> Columns:
    """The input columns of a split; where targets are character spans the preprocessed words of their texts."""
    inputs = task.inputs()
    if targets.words is not None:
        return Columns("words", targets.words, is_preprocessed=True)
    first = dataset[inputs[0].name][:]
    if inputs[0].kind == "words":
        return Columns("words", first)
    if len(inputs) == 2:
        return Columns("pair", first, dataset[inputs[1].name][:])
    return Columns("text", first)


def check_preprocessing(recipe: Recipe) -> None:
    """Words with tags are preprocessed one by one; texts with character spans whole, by any step."""
    if recipe.task.target().kind != "tags":
        return
    for position, step in enumerate(recipe.preprocessing):
        if not step.word_safe:
            raise RecipeError(
                f"preprocessing[{position}]: {type(step).__name__} changes which words there are, so tags "
                "would no longer fit them.",
                fix="For word tags use steps that keep words apart, such as NormalizeUnicode or CleanUrls, "
                "or give texts with character spans.",
            )


def overflow_line(name: str, encoded: Encoded, policy: str) -> str | None:
    """What the over-length policy did to a split, or None where nothing was lost."""
    report = encoded.overflow
    if report.dropped == 0 and report.tokens_lost == 0:
        return None
    lost = report.tokens_lost / max(1, report.tokens)
    return (
        f"{name}: {report.over_length:,} of {report.examples:,} examples are longer than max_length "
        f"({policy}): {report.dropped:,} dropped, {lost:.2%} of all tokens lost"
    )


def empty_line(name: str, encoded: Encoded) -> str | None:
    """How many examples of a split have no token, or None where all have some."""
    report = encoded.overflow
    if report.empty == 0:
        return None
    return (
        f"{name}: {report.empty:,} of {report.examples:,} examples have no token (nothing is left of them after "
        "preprocessing); they are kept, and read as an empty text"
    )


def prepare(
    recipe: Recipe,
    *,
    tokenizer: Any,
    max_length: int,
    vocab_size: int | None,
    root: Path,
    say: Callable[[str], None],
    splits: Mapping[str, Dataset] | None = None,
) -> PreparedData:
    """Load, audit and encode every split of a recipe.

    Args:
        tokenizer: A fast tokenizer.
        max_length: Tokens a feature holds at most.
        vocab_size: Rows of the model's embedding; token ids beyond it are refused. None: unchecked.
        root: The cache folder.
        say: Called with progress lines.
        splits: Already loaded splits; None: ``recipe.data.splits()``.

    Raises:
        DataError: with file and line where they are known.
    """
    check_preprocessing(recipe)
    loaded: Any = recipe.data.splits() if splits is None else splits
    warnings = list(audit(recipe.task, loaded))
    labels = resolve_labels(recipe.task, loaded)

    of_tokenizer = tokenizer_digest(tokenizer)

    def prepare_split(name: str, dataset: Dataset, root: Path) -> Prepared:
        targets = build_targets(recipe.task, labels, dataset, name, steps=recipe.preprocessing)
        columns = columns_of(recipe.task, dataset, targets)
        content = content_digest(columns)

        def where(row: int) -> str:
            return place(dataset, name, row)

        encoded = encode_cached(
            columns,
            split=name,
            content=content,
            preprocessing=recipe.preprocessing,
            tokenizer=tokenizer,
            tokens=recipe.tokens,
            max_length=max_length,
            root=root,
            place=where,
            say=say,
            digest=of_tokenizer,
        )
        if vocab_size is not None and len(encoded.ids) and int(encoded.ids.max()) >= vocab_size:
            at = int(np.argmax(np.asarray(encoded.ids) >= vocab_size))
            row = int(encoded.example[np.searchsorted(encoded.starts, at, side="right") - 1])
            raise DataError(
                f"{where(row)}: token id {int(encoded.ids[at])} is outside the model's vocabulary of {vocab_size:,}.",
                fix="The tokenizer does not belong to the model: set model.tokenizer, or resize the model.",
            )
        target_digest = hashlib.sha256(np.ascontiguousarray(targets.values).tobytes()).hexdigest()
        return Prepared(name, encoded, targets, _digest([content, target_digest]))

    prepared: dict[str, Prepared] = {}
    for name, dataset in loaded.items():
        split = prepared[name] = prepare_split(name, dataset, root)
        if name == "train":
            warnings.extend(label_notes(recipe.task, labels, dataset, split.targets))
        line = overflow_line(name, split.encoded, recipe.tokens.overflow)
        if line is not None:
            warnings.append(line)
        if (line := empty_line(name, split.encoded)) is not None:
            warnings.append(line)
        warnings.extend(span_lines(name, split.targets.report))
        check_lost(name, split.targets.report, limit=getattr(recipe.task, "lost_spans", 1.0))
        if len(split.usable) == 0:
            raise DataError(
                f"split {name!r}: every example is longer than {max_length} tokens and was dropped.",
                fix="Raise tokens.max_length, or choose tokens.overflow='window' or 'truncate'.",
            )
    task = recipe.task.fit(labels, prepared["train"].targets.values)
    fingerprints = {
        "data": _digest({name: split.digest for name, split in prepared.items()}),
        "tokenizer": of_tokenizer,
        "labels": _digest(list(labels.names)),
    }
    return PreparedData(prepared, labels, task, fingerprints, warnings, loaded, prepare_split)
