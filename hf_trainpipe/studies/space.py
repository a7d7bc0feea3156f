"""What a search may change of a recipe, and within which bounds: typed, and checked against the recipe before anything runs.

    def space() -> Space:
        return Space({
            "optim.peak_lr": LogUniform(1e-5, 1e-3),
            "budget.epochs": Integer(1, 5),
            "task.label_smoothing": Choice(0.0, 0.1),
        })

It stands beside the recipe, in its file. A field that is given on the command line is fixed, whatever the space says of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import RecipeError, TrainpipeError, closest
from hf_trainpipe.recipe.settings import refused
from hf_trainpipe.recipe_file import leaves, override
from hf_trainpipe.recipe_file.mistakes import mistakes_in
from hf_trainpipe.utils.user_file import run_file

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.recipe.source import RecipeSource

KEPT = {
    "seed": "every trial has the recipe's, so that trials differ by what is searched; finalists get fresh ones",
    "name": "it names the winner",
    "data": "scores on other rows cannot be compared",
    "evaluation": "scores by another measure cannot be compared",
    "trackers": "they change no number",
    "hub": "it changes no number",
}
"""Fields, with all below them, that a space may not have, and why."""


@dataclass(frozen=True)
class Uniform:
    """Numbers from ``low`` to ``high``, each as likely."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_bounds(self)
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))

    def distribution(self) -> BaseDistribution:
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high)

    def extremes(self) -> tuple[Any, ...]:
        return (self.low, self.high)

    def holds(self, value: object) -> bool:
        return _is_number(value) and self.low <= float(value) <= self.high  # type: ignore[arg-type]

    def chosen(self, parameter: Any) -> Any:
        return float(parameter)

    def parameter(self, value: Any) -> Any:
        return float(value)


@dataclass(frozen=True)
class LogUniform(Uniform):
    """Positive numbers from ``low`` to ``high``, each order of magnitude as likely."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low <= 0:
            raise refused("LogUniform", "a low above 0", self.low, "Choose a small one, or Uniform.")

    def distribution(self) -> BaseDistribution:
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high, log=True)


@dataclass(frozen=True)
class Integer:
    """Whole numbers from ``low`` to ``high``, both included."""

    low: int
    high: int

    def __post_init__(self) -> None:
        for bound in (self.low, self.high):
            if not isinstance(bound, int) or isinstance(bound, bool):
                raise refused("Integer", "whole numbers", bound, "Write Integer(1, 5); for others, Uniform.")
        _check_bounds(self)

    def distribution(self) -> BaseDistribution:
        from optuna.distributions import IntDistribution

        return IntDistribution(self.low, self.high)

    def extremes(self) -> tuple[Any, ...]:
        return (self.low, self.high)

    def holds(self, value: object) -> bool:
        return _is_number(value) and float(value).is_integer() and self.low <= int(value) <= self.high  # type: ignore[arg-type, call-overload]

    def chosen(self, parameter: Any) -> Any:
        return int(parameter)

    def parameter(self, value: Any) -> Any:
        return int(value)


@dataclass(frozen=True, init=False)
class Choice:
    """One of some values, of any type that a field has: ``Choice("linear", "cosine")``."""

    values: tuple[Any, ...]

    def __init__(self, *values: Any) -> None:
        if len(values) < 2:
            raise refused("Choice", "two values or more", values, 'Write Choice("linear", "cosine").')
        if len({_text(value) for value in values}) < len(values):
            raise refused("Choice", "different values", values, "Name each once.")
        object.__setattr__(self, "values", values)

    def __repr__(self) -> str:
        return f"Choice({', '.join(map(repr, self.values))})"

    def distribution(self) -> BaseDistribution:
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(tuple(range(len(self.values))))

    def extremes(self) -> tuple[Any, ...]:
        return self.values

    def holds(self, value: object) -> bool:
        return any(_same(value, known) for known in self.values)

    def chosen(self, parameter: Any) -> Any:
        return self.values[int(parameter)]

    def parameter(self, value: Any) -> Any:
        return next(place for place, known in enumerate(self.values) if _same(value, known))


Dimension = Uniform | LogUniform | Integer | Choice


@dataclass(frozen=True)
class Space:
    """Fields of a recipe by their path, and what each may be."""

    dimensions: Mapping[str, Dimension]

    def __post_init__(self) -> None:
        if not isinstance(self.dimensions, Mapping):
            raise refused(
                "Space", "a mapping of fields", self.dimensions, 'Write {"optim.peak_lr": LogUniform(1e-5, 1e-3)}.'
            )
        for name, dimension in self.dimensions.items():
            if not isinstance(dimension, Uniform | Integer | Choice):
                raise refused(f"Space: {name}", "LogUniform, Uniform, Integer or Choice", dimension,
                              f'Write "{name}": Choice(..., ...).')  # fmt: skip
        named = {_path(name): dimension for name, dimension in self.dimensions.items()}
        object.__setattr__(self, "dimensions", named)

    def to_json(self) -> dict[str, str]:
        """Field to what it may be, as a person writes it."""
        return {name: repr(dimension) for name, dimension in self.dimensions.items()}

    def without(self, fixed: Sequence[str]) -> Space:
        """The same but for fields that are fixed."""
        return Space({name: dimension for name, dimension in self.dimensions.items() if name not in fixed})

    def check(self, recipe: Recipe, *, place: str) -> None:
        """Refuse a field that the recipe does not have, and bounds that it does not take.

        Raises:
            RecipeError: the field, and what is wrong with it.
        """
        known = [_path(leaf.option) for leaf in leaves(recipe)]
        for name, dimension in self.dimensions.items():
            if (kept := name.partition(".")[0]) in KEPT:
                raise RecipeError(f"{place}: {name} is not searched: {KEPT[kept]}.", fix="Leave it out of the space.")
            if name not in known:
                near = [option for option in known if option.startswith(name.partition(".")[0] + ".")]
                raise RecipeError(
                    f"{place}: the recipe has no field {name!r}.{closest(name, known)}",
                    fix=f"Fields: {', '.join(near or known)}",
                )
            for value in dimension.extremes():
                try:
                    override(recipe, options_of({name: value}))
                except TrainpipeError as error:
                    raise RecipeError(f"{place}: {dimension}: {error.message}", fix=error.fix) from None

    def own_values(self, recipe: Recipe) -> dict[str, Any]:
        """What the recipe itself has, of the fields whose value lies within the space."""
        found = {_path(leaf.option): leaf.value for leaf in leaves(recipe)}
        return {name: found[name] for name, dimension in self.dimensions.items() if dimension.holds(found[name])}


def options_of(values: Mapping[str, Any]) -> list[str]:
    """Fields and values as options of ``train``; they read back as the same numbers.

    >>> options_of({"optim.peak_lr": 3e-05, "model.dropout": None})
    ['--optim.peak-lr', '3e-05', '--model.dropout', 'none']
    """
    return [part for name, value in values.items() for part in (f"--{name.replace('_', '-')}", _text(value))]


def named_in(options: Sequence[str]) -> list[str]:
    """The fields that options of a command line set."""
    return [_path(option.partition("=")[0]) for option in options if option.startswith("--") and option != "--"]


def space_of(recipe: Recipe, source: RecipeSource, *, function: str | None) -> tuple[Space, str]:
    """The space beside a recipe, or the default one; and where it stands, in words.

    Args:
        recipe: With the fields that were typed.
        source: Where it came from; a field that was typed is fixed.
        function: Of the recipe's file; None: ``space``, if it is there.

    Raises:
        RecipeError: the function is not there, fails, or returns no space; the space does not fit the recipe or is empty.
    """
    name = function or "space"
    found = None
    if source.path.suffix == ".py":
        with mistakes_in(source.path):
            found = getattr(run_file(source.path, once=True), name, None)
    if found is None and function is not None:
        raise RecipeError(f"{source.path}: there is no function {name!r}.", fix="Write it, or leave --space out.")
    if found is None:
        space, place = default_space(recipe), "the usual space"
    else:
        space, place = _called(found, source, name), f"{name}() in {source.path.name}"
    space.check(recipe, place=place)
    space = space.without(named_in(source.overrides))
    if not space.dimensions:
        raise RecipeError(f"{place}: there is nothing left to search.", fix="Fix fewer fields on the command line.")
    return space, place


def _called(function: Callable[[], object], source: RecipeSource, name: str) -> Space:
    with mistakes_in(source.path):
        found = function()
    if not isinstance(found, Space):
        raise RecipeError(
            f"{source.path}: expected a Space from {name}(), found {type(found).__name__}.",
            fix='End it with: return Space({"optim.peak_lr": LogUniform(1e-5, 1e-3)})',
        )
    return found


def default_space(recipe: Recipe) -> Space:
    """What is searched where a recipe says nothing: around its own rate and length; decay, warm-up, dropout."""
    known = {_path(leaf.option): leaf.value for leaf in leaves(recipe)}
    rate, budget = recipe.optim.peak_lr, recipe.budget
    found: dict[str, Dimension] = {"optim.peak_lr": LogUniform(_rounded(rate / 5), _rounded(rate * 5))}
    if budget.max_steps:
        found["budget.max_steps"] = Integer(max(1, budget.max_steps // 2), budget.max_steps * 2)
    elif budget.epochs >= 2:
        found["budget.epochs"] = Integer(max(1, math.floor(budget.epochs / 2)), math.ceil(budget.epochs * 2))
    else:
        found["budget.epochs"] = Uniform(_rounded(budget.epochs / 2), _rounded(budget.epochs * 2))
    if recipe.optim.schedule != "constant":
        found["optim.warmup"] = Uniform(0.0, max(0.2, recipe.optim.warmup))
    for name, usual in {
        "optim.weight_decay": (0.0, 0.01, 0.1),
        "model.dropout": (None, 0.0, 0.2),
        "task.label_smoothing": (0.0, 0.1),
    }.items():
        if name in known:
            own = known[name]
            found[name] = Choice(own, *(value for value in usual if not _same(value, own)))
    return Space(found)


def describe(space: Space, fixed: Mapping[str, Any] | None = None) -> list[str]:
    """A line a field."""
    width = max(map(len, space.dimensions))
    lines = [f"{name:<{width}}  {dimension!r}" for name, dimension in space.dimensions.items()]
    return lines + [f"{name:<{width}}  {value!r}, fixed" for name, value in (fixed or {}).items()]


def _check_bounds(dimension: Uniform | Integer) -> None:
    kind = type(dimension).__name__
    for bound in (dimension.low, dimension.high):
        if not _is_number(bound) or not math.isfinite(bound):
            raise refused(kind, "numbers as bounds", bound, f"Write {kind}(LOW, HIGH).")
    if not dimension.low < dimension.high:
        raise refused(kind, "a low below the high", (dimension.low, dimension.high), f"Write {kind}(LOW, HIGH).")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(one: object, other: object) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _path(name: str) -> str:
    return name.removeprefix("--").replace("-", "_")


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list | dict):
        return json.dumps(value)
    return repr(value) if isinstance(value, float) else str(value)


def _rounded(value: float) -> float:
    """To two digits: bounds that a person would write."""
    return float(f"{value:.2g}")
