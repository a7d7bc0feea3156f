"""How the stages of a pipeline stand, by what lies in their folders: looked at, never changed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hf_trainpipe.checkpoint.lock import is_locked
from hf_trainpipe.errors import TrainpipeError
from hf_trainpipe.pipelines.lowered import DONE, Step, codes_in_words, lower
from hf_trainpipe.pipelines.pipeline import Pipeline
from hf_trainpipe.pipelines.record import Record, is_as_recorded, read_begun, read_record
from hf_trainpipe.pipelines.stage_run import asked_of, standing_of
from hf_trainpipe.utils.brief import listed
from hf_trainpipe.utils.tables import table

State = Literal["done", "changed", "at work", "interrupted", "left out", "to do"]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One stage as it stands."""

    step: Step
    verb: str
    state: State
    about: str
    """What is told beside the state: how it ended, what changed."""
    record: Record | None

    def to_json(self) -> dict[str, object]:
        """For programs."""
        return {
            "stage": self.step.name,
            "verb": self.verb,
            "needs": list(self.step.needs),
            "runs_if": {need: list(codes) for need, codes in self.step.runs_if.items()},
            "command": list(self.step.command),
            "trains": self.step.trains,
            "state": self.state,
            "about": self.about,
            "exit_code": None if self.record is None else self.record.exit_code,
        }


def look(pipeline: Pipeline) -> list[Seen]:
    """Every stage, those that come first first; the working directory is the pipeline's folder."""
    found: dict[str, Seen] = {}
    for step in lower(pipeline):
        record = read_record(Path(pipeline.folder_of(step.name)))
        stale = [need for need in step.needs if found[need].state not in ("done", "left out")]
        state, about = _state(pipeline, step, record, stale)
        verb = pipeline.stage(step.name).words(pipeline)[0]
        found[step.name] = Seen(step=step, verb=verb, state=state, about=about, record=record)
    return list(found.values())


def screen(pipeline: Pipeline, seen: list[Seen]) -> str:
    """The graph as text: a line a stage, with what it comes after."""
    rows = [[one.step.name, one.verb, _after(one.step), one.state, one.about] for one in seen]
    head = f"{pipeline.name}: {len(seen)} stages of {pipeline.folder / pipeline.spelled}, state in {pipeline.folder / pipeline.runs / pipeline.name}"
    return f"{head}\n\n{table(['stage', 'verb', 'after', 'state', ''], rows)}"


def _after(step: Step) -> str:
    """``train, watch (10 drifted)``: what a step comes after, with the codes that are not the usual one."""
    return ", ".join(
        need + (f" ({codes_in_words(step.runs_if[need])})" if step.runs_if[need] != DONE else "") for need in step.needs
    )


def _state(pipeline: Pipeline, step: Step, record: Record | None, stale: list[str]) -> tuple[State, str]:
    folder = Path(pipeline.folder_of(step.name))
    if is_locked(folder.with_name(f"{step.name}.lock")):
        return "at work", ""
    if stale:
        return ("changed", f"{', '.join(stale)} comes first") if record is not None else ("to do", "")
    standing, why = standing_of(pipeline, step.name)
    if standing == "left out":
        return "left out", why
    try:
        asked = asked_of(pipeline, step.name)
    except TrainpipeError as error:
        return "to do", error.message
    if record is None:
        begun = read_begun(folder)
        if begun and not asked.differs(begun):
            return "interrupted", f"attempt {begun.get('attempts')}"
        return "to do", ""
    if is_as_recorded(record, asked):
        ended = time.strftime("%Y-%m-%d %H:%M", time.localtime(record.ended))
        how = "" if record.exit_code == 0 else f"{codes_in_words((record.exit_code,))}, "
        return "done", f"{how}{ended}, {record.seconds:,.1f} s"
    changed = asked.differs(record.asked.to_json()) or ["its outputs"]
    return "changed", listed(changed, 3)
