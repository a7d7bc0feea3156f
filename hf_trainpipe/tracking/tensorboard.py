"""TensorBoard: event files that ``tensorboard --logdir`` shows. No server, no account.

Values are 32-bit floats in this format. Steps and times are the ledger's own. What was written is read back from the event
files when a run goes on, so that a process killed at any instant neither repeats a point nor leaves one out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_trainpipe.recipe import RunInfo, Tracker
from hf_trainpipe.tracking.base import ConfirmingSession, missing
from hf_trainpipe.tracking.facts import Outcome, as_markdown, beside, environment_of, flat, last_of, markdown

LONGEST_TEXT = 100_000


@dataclass(frozen=True, kw_only=True)
class TensorBoard(Tracker):
    """Write TensorBoard's event files. Parameters are in its hparams and text tabs.

    >>> TensorBoard().folder
    'tensorboard'
    """

    folder: str = "tensorboard"
    """Folder that holds a folder for each run; a relative one lies beside the run's: ``runs/tensorboard``."""

    def start(self, run: RunInfo) -> ConfirmingSession:
        """Open a further event file of the run.

        Raises:
            MissingExtra: where tensorboard is not installed.
        """
        try:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError as error:
            raise missing("TensorBoard") from error
        place = beside(run, self.folder) / f"{run.name}-{run.uid[:8]}"
        held = last_of(_points(place))
        return _TensorBoardSession(EventFileWriter(str(place), filename_suffix=f".{run.attempt}"), run, place, held)


class _TensorBoardSession(ConfirmingSession):
    def __init__(self, writer: Any, run: RunInfo, place: Path, held: dict[str, int]) -> None:
        self._writer, self._held = writer, held
        self.destination = str(place)
        self.address = f"tensorboard --logdir {place.parent}"
        if not held:
            parameters = dict(flat(run.recipe, separator="."))
            self._add(_hparams(parameters), step=0)
            self._text("parameters", _table(parameters))
        self._text("environment", _table(environment_of(run)), step=run.attempt)

    def log(self, values: Mapping[str, float], *, step: int, time: float) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        found = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._add(Summary(value=found), step=step, time=time)

    def flush(self) -> None:
        self._writer.flush()

    def last_steps(self, names: Iterable[str]) -> dict[str, int]:
        return self._held

    def artifact(self, path: Path) -> None:
        if path.suffix in (".md", ".txt", ".csv"):
            self._text(path.name, path.read_text("utf-8", errors="replace")[:LONGEST_TEXT])

    def conclude(self, outcome: Outcome) -> None:
        self._text("package", outcome.location, step=outcome.best_step)
        for split, (names, matrix) in outcome.confusions.items():
            self._text(f"confusion/{split}", as_markdown(names, matrix), step=outcome.best_step)

    def finish(self) -> None:
        self._writer.close()

    def _text(self, name: str, text: str, step: int = 0) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING
        from tensorboard.plugins.text.metadata import create_summary_metadata

        tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()], tensor_shape=TensorShapeProto())
        about = create_summary_metadata(display_name=None, description="")
        self._add(Summary(value=[Summary.Value(tag=name, tensor=tensor, metadata=about)]), step=step)

    def _add(self, summary: Any, *, step: int, time: float | None = None) -> None:
        import time as clock

        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.add_event(Event(summary=summary, step=step, wall_time=clock.time() if time is None else time))


def _points(place: Path) -> Iterator[tuple[str, int]]:
    """Name and step of each scalar in the event files of a folder; a record that a kill cut short is passed over."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    for file in sorted(place.glob("events.out.tfevents.*")):
        for event in LegacyEventFileLoader(str(file)).Load():
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    yield value.tag, event.step


def _hparams(parameters: Mapping[str, Any]) -> Any:
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    return hparams_pb(parameters)


def _table(values: Mapping[str, Any]) -> str:
    return markdown(["name", "value"], [[name, f"`{value}`"] for name, value in values.items()])
