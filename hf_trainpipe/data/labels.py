"""Which labels there are, and in which order. docs/labels.md states the rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hf_trainpipe.data.cells import Cells
from hf_trainpipe.data.columns import names_in_feature
from hf_trainpipe.data.label_cells import LabelCells, read_labels
from hf_trainpipe.data.label_ids import UNKNOWN, meanings, vectors_of, vectors_without_names
from hf_trainpipe.data.spans import read_column
from hf_trainpipe.data.spelling import doubled, entity_types, is_integer, key, names_of
from hf_trainpipe.errors import DataError, closest
from hf_trainpipe.runtime.tasks.columns import CLASSES, SPANS, TAGS, Column, Labels
from hf_trainpipe.runtime.tasks.tagging import IGNORED
from hf_trainpipe.utils.brief import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from datasets import Dataset

PREFIXES = {"BIO": "BI", "IOB1": "BI", "BIOES": "BIES"}


def resolve_labels(
    column: Column, splits: Mapping[str, Dataset], *, said: tuple[str, ...] | None, scheme: str | None
) -> Labels:
    """The labels of a column: the recipe's names, else the data's ``ClassLabel``, else the values in train.

    Values are sorted (integers by number; of tags ``O`` first); tags with a scheme are completed, so
    that each type of entity has all its prefixes.

    Args:
        said: Names that the recipe gives, in the order of their ids.
        scheme: Of tags and spans: how entities are spelt; None: tags stand alone.

    Raises:
        DataError: names that repeat, tags that do not fit the scheme, fewer than two labels, or a
            label in another split that train does not have (with its place).
    """
    train = splits["train"]
    of_sets, of_spans = column.cell is CLASSES, column.cell is SPANS
    given = said or names_in_feature(train, column.name, inner="label" if of_spans else None)
    cells = None if of_spans else read_labels(column, train, "train", said=said)
    names = given or (_span_types(Cells(train, "train", column.name)) if cells is None else _names_in(cells))
    if same := doubled(names):
        raise DataError(
            f"task.names repeats {', '.join(' = '.join(map(repr, alike)) if len({*alike}) > 1 else alike[0] for alike in same)}.",
            fix="Give each label a name of its own.",
        )
    if of_spans and "O" not in names:
        names = _complete(names, scheme or "BIO")
    elif column.cell is TAGS:
        names = _check_tags(names, scheme, is_said=given is not None)
    if len(names) < (1 if of_sets else 2):
        found = f"only {names[0]!r}" if names else "none"
        raise DataError(
            f"Column {column.name!r}: expected at least {'one label' if of_sets else 'two labels'} "
            f"in the training data, found {found}.",
            fix="Name another column, or check how the data was cut.",
        )
    labels = Labels(names, is_ordered=given is not None, said=said)
    if cells is None:
        return labels
    if of_sets:
        labels.are_vectors = vectors_of(labels, cells) is not None
    if given is None:
        for split, dataset in splits.items():
            if split != "train":
                _check_known(labels, read_labels(column, dataset, split))
    return labels


def _span_types(cells: Cells) -> tuple[str, ...]:
    labels = {span.label.strip() for spans in read_column(cells) for span in spans}
    return tuple(sorted(names_of(labels)))


def _names_in(cells: LabelCells) -> tuple[str, ...]:
    if cells.column.cell is CLASSES:
        hot = cells.hot() if cells.column.form != "names" else None
        if hot is not None and (hot.shape[1] == 1 or cells.is_surely_hot(hot)):
            raise vectors_without_names(cells, hot.shape[1], "and nothing names them")
        for at, value in enumerate(cells.values):
            if isinstance(value, float) and not value.is_integer():
                raise cells.error(
                    at,
                    f"expected names or ids of labels, or a 0 or 1 a label, found {value!r}.",
                    fix="Shares cannot be learnt as labels: make them 0 or 1. For one number a text use Regression.",
                )
    is_tags = cells.column.cell is TAGS
    spellings = zip(cells.spellings, cells.keys, strict=True)
    return names_of(spelling for spelling, of in spellings if not (is_tags and of == str(IGNORED)))


def _complete(types: Iterable[str], scheme: str) -> tuple[str, ...]:
    return ("O", *(f"{prefix}-{name}" for name in types for prefix in PREFIXES[scheme]))


def _check_tags(names: tuple[str, ...], scheme: str | None, *, is_said: bool) -> tuple[str, ...]:
    if scheme is None:
        return names
    for name in names:
        prefix, dash, kind = name.partition("-")
        if name != "O" and not (dash and kind and prefix in PREFIXES[scheme]):
            raise _not_in_scheme(name, scheme)
    if not is_said:
        return _complete(entity_types(names), scheme)
    if "O" not in names:
        raise DataError(
            f"Expected the tag 'O' among {listed(names)}, for words outside entities; found none.",
            fix="Put 'O' where its id is, or set task.scheme to None, for tags that stand alone.",
        )
    return names


def _not_in_scheme(name: str, scheme: str) -> DataError:
    prefix, dash, _ = name.partition("-")
    if is_integer(key(name)):
        return DataError(
            f"Tags are ids such as {name}, and nothing names them.",
            fix="Set task.names to the tags in the order of their ids: ('O', 'B-PER', ...).",
        )
    fix = "Correct the tag, or set task.scheme to None, for tags that stand alone."
    if dash and prefix in ("E", "S"):
        fix = "Correct the tag, or set task.scheme to 'BIOES'."
    elif dash and prefix in ("L", "U"):
        fix = "Tags of BILOU need rewriting: L- as E-, U- as S-, and task.scheme='BIOES'."
    elif name.upper() == "O" or (dash and prefix.upper() in PREFIXES[scheme]):
        fix = f"Write prefixes and 'O' as capital letters: {name.upper() if name in 'o' else prefix.upper() + name[1:]!r}."
    return DataError(
        f"Tag {name!r} is not written in the scheme {scheme} "
        f"(O, {', '.join(f'{letter}-TYPE' for letter in PREFIXES[scheme])}).",
        fix=fix,
    )


def _check_known(labels: Labels, cells: LabelCells) -> None:
    """Refuse a label that train does not have. Nulls are left to whoever reads the split."""
    if len(unknown := np.flatnonzero(meanings(labels, cells).ids == UNKNOWN)):
        value = cells.values[unknown[0]]
        raise cells.error(
            unknown[0],
            f"the label {value!r} is not in the training data, which has {listed(labels.names)}.",
            fix="Correct the label, add rows of it to the training data, or name all labels in task.names."
            f"{closest(str(value), labels.names)}",
        )
