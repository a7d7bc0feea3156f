"""What trackers share: the built-in kinds, sessions that confirm what arrived, and trackers written as JSON.

A tracker lives in the follower process. The trainer describes it there as JSON, in
``tracking/trackers.json`` of the run's directory, which ``track sync`` reads again later.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import json
import threading
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, cast

from hf_trainpipe.errors import MissingExtra, RecipeError, closest
from hf_trainpipe.recipe import Recipe, RunInfo, Session, Tracker
from hf_trainpipe.tracking.facts import Outcome
from hf_trainpipe.utils.atomic import write_bytes
from hf_trainpipe.utils.attempts import read_attempts
from hf_trainpipe.utils.user_file import run_file

KINDS = {
    "Neptune": "hf_trainpipe.tracking.neptune",
    "MLflow": "hf_trainpipe.tracking.mlflow",
    "Comet": "hf_trainpipe.tracking.comet",
    "TensorBoard": "hf_trainpipe.tracking.tensorboard",
    "Trackio": "hf_trainpipe.tracking.trackio",
    "WandB": "hf_trainpipe.tracking.wandb",
}
"""Built-in trackers: kind -> its module, imported where it is used."""
LIBRARIES = {
    "Neptune": "neptune",
    "MLflow": "mlflow",
    "Comet": "comet_ml",
    "TensorBoard": "tensorboard",
    "Trackio": "trackio",
    "WandB": "wandb",
}
"""Kind -> the library that it needs."""


_loading = threading.Lock()


class ConfirmingSession(Session):
    """A session that knows what arrived. Points logged through it count as sent after :meth:`flush`.

    It gets finite numbers only, and the attempt of each step as one more, ``attempt``. With a plain
    :class:`~hf_trainpipe.recipe.Session`, a point counts as sent when ``log`` returns.
    """

    destination: str
    """Where the points go. What was sent is recorded for each destination on its own."""
    address: str | None = None
    """Address of the run, for the user."""
    notice: str | None = None
    """One line for the user when a destination is used for the first time."""

    @abstractmethod
    def flush(self) -> None:
        """Return once the destination holds every point logged so far; raise where it does not."""

    @abstractmethod
    def last_steps(self, names: Iterable[str]) -> Mapping[str, int] | None:
        """The last step the destination holds of each metric that it has, of others than ``names`` too; None: it cannot tell."""

    def conclude(self, outcome: Outcome) -> None:
        """The run is complete: tell what it left. Called once, and again where that was changed."""


def tracking_folder(directory: Path) -> Path:
    """``tracking/`` of a run's directory, created where it does not exist."""
    folder = directory / "tracking"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def artifacts_file(directory: Path) -> Path:
    """The list of files to upload: JSON lines ``{"path": ..., "time": ...}``."""
    return directory / "tracking" / "artifacts.jsonl"


def describe(tracker: Tracker) -> dict[str, Any]:
    """A tracker as JSON: ``{"kind", "settings"}``, and ``"file"`` where a recipe defines its class.

    Raises:
        RecipeError: where the class is not a dataclass, or cannot be found again in a file.
    """
    kind = type(tracker)
    if not hasattr(kind, "__dataclass_fields__"):
        raise RecipeError(
            f"trackers: expected a frozen dataclass, found {kind.__name__}.",
            fix=f"Decorate {kind.__name__} with @dataclass(frozen=True).",
        )
    spec: dict[str, Any] = {"kind": kind.__qualname__, "settings": dataclasses.asdict(cast(Any, tracker))}
    if KINDS.get(kind.__qualname__) == kind.__module__:
        return spec
    try:
        spec["file"] = str(Path(inspect.getfile(kind)).resolve(strict=True))
    except (OSError, TypeError) as error:
        raise RecipeError(
            f"trackers: the file that defines {kind.__name__} cannot be found.",
            fix="Define the tracker's class at the top level of the recipe file.",
        ) from error
    return spec


def tracker_named(name: str) -> Tracker:
    """A built-in tracker with its defaults, by its name on the command line: ``mlflow``.

    Raises:
        RecipeError: where there is none.
        MissingExtra: where its library is not installed.
    """
    known = {kind.lower(): kind for kind in KINDS}
    kind = known.get(name.lower())
    if kind is None:
        raise RecipeError(
            f"trackers: expected one of {', '.join(sorted(known))}, found {name!r}.",
            fix=f"Choose one of them.{closest(name.lower(), known)}",
        )
    if importlib.util.find_spec(LIBRARIES[kind]) is None:
        raise missing(kind)
    return load_spec({"kind": kind, "settings": {}})


def with_trackers(recipe: Recipe, names: Sequence[str]) -> Recipe:
    """A recipe with further trackers by name; one of a kind that it has already is not added."""
    trackers = list(recipe.trackers)
    for name in names:
        tracker = tracker_named(name)
        if not any(type(other) is type(tracker) for other in trackers):
            trackers.append(tracker)
    return dataclasses.replace(recipe, trackers=tuple(trackers))


def check_mode(tracker: Tracker, mode: str, known: Sequence[str]) -> None:
    """Refuse a mode that the tracker does not have.

    Raises:
        RecipeError: as said.
    """
    if mode not in known:
        raise RecipeError(
            f"{type(tracker).__name__}.mode: expected one of {', '.join(known)}, found {mode!r}.",
            fix="Choose one of them.",
        )


def check_tags(tracker: Tracker, tags: object) -> None:
    """Refuse one string in place of several: each of its letters would be a tag.

    Raises:
        RecipeError: as said.
    """
    if isinstance(tags, str):
        raise RecipeError(
            f"{type(tracker).__name__}.tags: expected a tuple of strings, found {tags!r}.", fix=f"Write ({tags!r},)."
        )


def missing(kind: str) -> MissingExtra:
    """The error where a tracker's library is not installed."""
    return MissingExtra(
        f"{kind} needs {LIBRARIES[kind]}, which is not installed.", fix=f"pip install 'hf-trainpipe[{kind.lower()}]'"
    )


def load_spec(spec: Mapping[str, Any]) -> Tracker:
    """The reverse of :func:`describe`. The file of a recipe's own class is imported, that is, run.

    Raises:
        RecipeError: where the kind is unknown.
    """
    kind = str(spec["kind"])
    if "file" in spec:
        with _loading:  # each tracker has a thread, and they may share a recipe file
            module = run_file(Path(spec["file"]), once=True)
    elif kind in KINDS:
        module = importlib.import_module(KINDS[kind])
    else:
        raise RecipeError(
            f"trackers: expected one of {', '.join(sorted(KINDS))}, found {kind!r}.",
            fix=f"Choose one of them.{closest(kind, KINDS)}",
        )
    settings = {name: tuple(v) if isinstance(v, list) else v for name, v in spec["settings"].items()}
    tracker: Tracker = attrgetter(kind)(module)(**settings)
    return tracker


def write_spec(run: RunInfo, trackers: Sequence[Tracker]) -> None:
    """Write ``tracking/trackers.json``: who the run is, and which trackers follow it. No secrets."""
    content = {
        "run": {"name": run.name, "uid": run.uid, "attempt": run.attempt, "recipe": dict(run.recipe)},
        "trackers": [describe(tracker) for tracker in trackers],
    }
    text = json.dumps(content, indent=2, default=str)
    write_bytes(tracking_folder(run.directory) / "trackers.json", text.encode() + b"\n")


def read_spec(directory: Path) -> tuple[RunInfo, list[dict[str, Any]]]:
    """The reverse of :func:`write_spec`; the run is where the directory is now.

    Raises:
        RecipeError: where the directory holds no run with trackers.
    """
    path = directory / "tracking" / "trackers.json"
    try:
        content = json.loads(path.read_bytes())
        run = content["run"]
        info = RunInfo(run["name"], run["uid"], directory, int(run["attempt"]), run["recipe"])
        return info, list(content["trackers"])
    except FileNotFoundError as error:
        raise RecipeError(
            f"{directory}: expected a run with trackers, found no tracking/trackers.json.",
            fix="Name the tracker: `hf-trainpipe track sync RUN --to NAME`; "
            "or the directory of a run whose recipe has trackers, such as runs/NAME.",
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise RecipeError(
            f"{path}: expected the description of a run's trackers, found {error!r}.",
            fix="Train the run once more (it continues where it was): the file is written again.",
        ) from error


def read_run(directory: Path) -> RunInfo:
    """Who a run is, from its run.json; also of one that had no trackers.

    Raises:
        RecipeError: where the directory holds no run.
    """
    path = directory / "run.json"
    try:
        content = json.loads(path.read_bytes())
        name = str(content.get("name") or directory.name)
        return RunInfo(
            name, str(content["uid"]), directory, max(read_attempts(directory), default=1), content["recipe"]
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise RecipeError(
            f"{directory}: expected a run, found no run.json that can be read ({error!r}).",
            fix="Name the directory of a run, such as runs/NAME.",
        ) from error


def specs_for(directory: Path, to: str | None) -> tuple[RunInfo, dict[int, dict[str, Any]]]:
    """A run, and the trackers to send it to, by their place in the recipe: all of the recipe; or those of the kind ``to``,
    and where the recipe has none this tracker with its defaults.

    Raises:
        RecipeError: where there is no run, or no such tracker.
    """
    if to is None:
        run, specs = read_spec(directory)
        return run, dict(enumerate(specs))
    wanted = describe(tracker_named(to))
    if not (directory / "tracking" / "trackers.json").is_file():
        return read_run(directory), {0: wanted}
    run, specs = read_spec(directory)
    same = {place: spec for place, spec in enumerate(specs) if spec["kind"] == wanted["kind"]}
    return run, same or {len(specs): wanted}
