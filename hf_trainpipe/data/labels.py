"""Which labels there are, and in which order. docs/labels.md states the rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_trainpipe.data.columns import names_in_feature
from hf_trainpipe.data.label_cells import LabelCells, Target, read_labels
from hf_trainpipe.data.label_ids import IGNORED, by_name, listed, vectors_of, vectors_without_names
from hf_trainpipe.data.place import error_at, place
from hf_trainpipe.data.spelling import doubled, is_integer, key, names_of
from hf_trainpipe.errors import DataError, closest
from hf_trainpipe.runtime.tasks.columns import CLASSES, SPANS, TAGS, Labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from datasets import Dataset

PREFIXES = {"BIO": "BI", "IOB1": "BI", "BIOES": "BIES"}


def resolve_labels(target: Target, splits: Mapping[str, Dataset]) -> Labels:
    """The labels of a column: the recipe's names, else the data's ``ClassLabel``, else the values in train.

    Values are sorted (integers by number; of tags ``O`` first); tags with a scheme are completed, so
    that each type of entity has all its prefixes.

    Raises:
        DataError: names that repeat, tags that do not fit the scheme, fewer than two labels, or a
            label in another split that train does not have (with its place).
    """
    column, scheme = target.column, target.scheme
    of_sets, of_spans = column.cell is CLASSES, column.cell is SPANS
    said = target.said or names_in_feature(splits["train"], column.name, inner="label" if of_spans else None)
    cells = None if of_spans else read_labels(target, splits["train"], "train")
    names = said or (_span_types(splits["train"], column.name) if cells is None else _names_in(target, cells))
    if same := doubled(names):
        raise DataError(
            f"task.names repeats {', '.join(' = '.join(map(repr, alike)) if len({*alike}) > 1 else alike[0] for alike in same)}.",
            fix="Give each label a name of its own.",
        )
    if of_spans and "O" not in names:
        names = _complete(names, scheme or "BIO")
    elif column.cell is TAGS:
        names = _check_tags(names, scheme, is_said=said is not None)
    if len(names) < (1 if of_sets else 2):
        found = f"only {names[0]!r}" if names else "none"
        raise DataError(
            f"Column {column.name!r}: expected at least {'one label' if of_sets else 'two labels'} "
            f"in the training data, found {found}.",
            fix="Name another column, or check how the data was cut.",
        )
    labels = Labels(names, is_ordered=said is not None, said=target.said)
    if cells is None:
        return labels
    if of_sets:
        labels.are_vectors = vectors_of(target, labels, cells) is not None
    if said is None:
        for split, dataset in splits.items():
            if split != "train":
                _check_known(target, labels, read_labels(target, dataset, split))
    return labels


def _span_types(dataset: Dataset, column: str) -> tuple[str, ...]:
    from hf_trainpipe.data.spans import read_column

    labels = {span.label.strip() for spans in read_column(dataset, "train", column) for span in spans}
    return tuple(sorted(names_of(labels)))


def _names_in(target: Target, cells: LabelCells) -> tuple[str, ...]:
    cell = target.column.cell
    if cell is CLASSES and target.form != "names":
        hot = cells.hot()
        if hot is not None and (hot.shape[1] == 1 or cells.is_surely_hot(hot)):
            raise vectors_without_names(cells, hot.shape[1], "and nothing names them")
    spellings = cells.spellings
    if cell is CLASSES:
        _refuse_probabilities(cells)
    if cell is TAGS:
        spellings = [spelling for spelling in spellings if key(spelling) != str(IGNORED)]
    return names_of(spellings)


def _refuse_probabilities(cells: LabelCells) -> None:
    for at, value in enumerate(cells.values):
        if isinstance(value, float) and not value.is_integer():
            raise error_at(
                place(cells.dataset, cells.split, cells.first_row(at)),
                f"column {cells.column!r}: expected names or ids of labels, or a 0 or 1 a label, found {value!r}.",
                fix="Shares cannot be learnt as labels: make them 0 or 1. For one number a text use Regression.",
            )


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
        return _complete(sorted({name.partition("-")[2] for name in names if name != "O"}), scheme)
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


def _check_known(target: Target, labels: Labels, cells: LabelCells) -> None:
    """Refuse a label that train does not have. Nulls are left to whoever reads the split."""
    known = {key(name): position for position, name in enumerate(labels.names)}
    ignored = str(IGNORED) if target.column.cell is TAGS else None
    for at, spelling in enumerate(cells.spellings):
        of = key(spelling)
        if by_name(of, known) is None and of != ignored:
            value = cells.values[at]
            raise error_at(
                place(cells.dataset, cells.split, cells.first_row(at)),
                f"the label {value!r} is not in the training data, which has "
                f"{', '.join(labels.names[:12])}{' ...' if len(labels) > 12 else ''}.",
                fix="Correct the label, add rows of it to the training data, or name all labels in task.names."
                f"{closest(str(value), labels.names)}",
            )
