"""Where a package is weak, and whether its answers hold: :func:`slices` and :func:`behave`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hf_trainpipe.codec import from_json
from hf_trainpipe.tracking.console import Console

if TYPE_CHECKING:
    from hf_trainpipe.api.package import Package
    from hf_trainpipe.behaviour.behave import Behaviour
    from hf_trainpipe.behaviour.sliced import Sliced
    from hf_trainpipe.recipe import Recipe

Split = Literal["validation", "test"]


def slices(
    package: Package,
    data: Any = None,
    *,
    split: Split = "validation",
    column: str | Sequence[str] = (),
    label: str | None = None,
    recipe: Recipe | None = None,
    reading: Mapping[str, Any] | None = None,
    **options: Any,
) -> Sliced:
    """Look for parts of labelled rows in which a package is worse than in the rest (docs/slices.md).

    Args:
        data: As of :meth:`.package.Package.evaluate`, whose further arguments these are, too.
        reading: Options for a file: ``format``, ``delimiter``, ``encoding``, ``quoting``.
        options: Of :func:`hf_trainpipe.metrics.slice_search.weak_slices`: ``level``, ``least``, ``most``, ``confidence``, ``seed``.

    Raises:
        DataError: The data cannot be read, or lacks a column.
        RecipeError: The task has no score of single rows.
    """
    from hf_trainpipe.behaviour.sliced import sliced
    from hf_trainpipe.data.readers_base import ReadOptions
    from hf_trainpipe.package.labelled import labelled, read_table
    from hf_trainpipe.package.scoring import judged_rows, rows_of_split
    from hf_trainpipe.recipe import Evaluation

    predictor = package.predictor
    name: str = split
    if data is None:
        chosen = recipe or from_json(predictor.info.recipe)
        dataset, task = rows_of_split(predictor, recipe=chosen, split=split, name=str(package.path))
        select, model = chosen.evaluation.select, chosen.model
        left_out: Mapping[str, int] = {}
        further = None
    else:
        table, name = read_table(data, ReadOptions(**(reading or {})))
        rows = labelled(predictor, table, name=name, **package.read_as(column, label, recipe))
        dataset, task, left_out = rows.dataset, rows.task, rows.left_out
        used = {*rows.columns, *(task.target.columns if task.target else ()), rows.label}
        further = table.take(rows.positions).drop_columns([one for one in table.column_names if one in used])
        evaluation = package.recorded("evaluation", Evaluation()) if recipe is None else recipe.evaluation
        select, model = evaluation.select, package.beginning() if recipe is None else recipe.model
    with Console(0).working(f"answering {name}", total=len(dataset)) as work:
        found = judged_rows(predictor, dataset, task=task, split=name, model=model, progress=work)
    result = sliced(
        found.predictions,
        dataset,
        task=task,
        name=name,
        source="answers of the package",
        lengths=found.lengths if len(found.lengths) == len(dataset) else None,
        further=further,
        select=select or task.metric_names[0],
        **options,
    )
    result.left_out.update(left_out)
    if found.longer:
        result.left_out["longer than the package takes"] += found.longer
    return result


def behave(
    package: Package,
    data: Path | str | None = None,
    *,
    split: Split = "validation",
    column: str | Sequence[str] = (),
    recipe: Recipe | None = None,
    reading: Mapping[str, Any] | None = None,
    output: Path | None = None,
    **options: Any,
) -> Behaviour:
    """Whether answers hold under small changes of the inputs (docs/behave.md).

    Args:
        data: A file, labelled or not; None: the ``split`` of the recipe's data.
        column: As of :meth:`.package.Package.evaluate`.
        recipe: Its data are used; None: the recipe in the package.
        reading: Options for a file.
        output: Where the changed rows are written, with their labels, as JSON lines.
        options: Of :func:`hf_trainpipe.behaviour.behave.behave`: ``perturbations``, ``most_rows``, ``tolerance``, ``seed``.

    Raises:
        DataError: The data cannot be read, or no row can be answered.
        RecipeError: Answers of such a task cannot be compared.
    """
    from hf_trainpipe.behaviour.asked import Writer, label_columns, rows_of_file, rows_of_split
    from hf_trainpipe.behaviour.behave import behave
    from hf_trainpipe.data.readers_base import ReadOptions
    from hf_trainpipe.package import scoring

    predictor = package.predictor
    name: str = split
    if data is None:
        chosen = recipe or from_json(predictor.info.recipe)
        dataset, task = scoring.rows_of_split(predictor, recipe=chosen, split=split, name=str(package.path))
        rows, columns = rows_of_split(task, dataset, split=split)
        target = None if task.target is None else task.target.name
    else:
        name, target = str(data), package.known.target
        options_of_file = ReadOptions(**(reading or {}))
        rows, columns = rows_of_file(data, package.known, asked=package.asked(column), reading=options_of_file)
    has_scheme = predictor.task.fields().get("scheme") is not None
    writer = Writer(columns, label_columns(predictor.task, target), has_scheme)
    with Console(0).working(f"answering {name}, changed") as work:
        found = behave(predictor, rows, name=name, write=writer if output else None, progress=work, **options)
    if output is not None:
        writer.save(output)
    return found
