"""Weights & Biases: online, or in files that ``wandb sync`` sends later.

Environment, read by wandb itself:
    WANDB_API_KEY, WANDB_BASE_URL      credentials, and a server of one's own
    WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY      where the recipe says nothing

A row holds the numbers of a step and ``step``, which is the axis of all charts: wandb's own counter takes no step twice and
none that is late. What a run holds is read back when it goes on: online by wandb's API, offline from its files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import struct
import time as clock
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hf_trainpipe.recipe import Destination, RunInfo, Tracker
from hf_trainpipe.tracking.base import ConfirmingSession, check_mode, check_tags, missing
from hf_trainpipe.tracking.facts import Outcome, as_csv, beside, environment_of, flat, last_of, state_of

MODES = ("auto", "online", "offline")
START_SECONDS = 20.0
STEP = "step"
BLOCK, HEADER, FILE_HEADER = 32768, 7, 7


@dataclass(frozen=True, kw_only=True)
class WandB(Tracker):
    """Log to Weights & Biases. A resumed run continues the one with its id.

    >>> WandB(project="reviews").mode
    'auto'
    """

    project: str | None = None
    """None: WANDB_PROJECT, else ``hf-trainpipe``."""
    entity: str | None = None
    """A user or team; None: WANDB_ENTITY, else the key's own."""
    mode: Literal["auto", "online", "offline"] = "auto"
    """``auto`` is WANDB_MODE, else ``online`` with WANDB_API_KEY and ``offline`` without."""
    folder: str = "."
    """Folder that holds ``wandb/`` with the offline runs; a relative one is seen from beside the run's: ``runs/wandb``."""
    tags: tuple[str, ...] = ()
    """Tags of the run."""

    def __post_init__(self) -> None:
        check_mode(self, self.mode, MODES)
        check_tags(self, self.tags)

    def start(self, run: RunInfo) -> ConfirmingSession:
        """Begin or continue the run.

        Raises:
            MissingExtra: where wandb is not installed.
        """
        os.environ.setdefault("WANDB_SILENT", "true")
        try:
            import wandb
        except ImportError as error:
            raise missing("WandB") from error
        mode = self._mode()
        folder = beside(run, self.folder).resolve()
        uid = re.sub(r"[^\w-]", "", run.uid)[:64] or hashlib.sha256(run.uid.encode()).hexdigest()[:32]
        held = _held_offline(folder, uid) if mode == "offline" else {}
        opened = wandb.init(
            id=uid,
            project=self.project or os.environ.get("WANDB_PROJECT") or "hf-trainpipe",
            entity=self.entity,
            name=run.name,
            dir=str(folder),
            mode=mode,
            resume="allow",
            tags=list(self.tags),
            config={**dict(flat(run.recipe, separator=".")), "environment": environment_of(run)},
            allow_val_change=True,
            reinit="create_new",
            settings=wandb.Settings(
                init_timeout=START_SECONDS,
                console="off",
                silent=True,
                disable_git=True,
                disable_code=True,
                x_disable_stats=True,
                x_disable_meta=True,
            ),
        )
        if mode == "online" and opened.resumed:
            held = _held_online(wandb, opened)
        return _WandBSession(wandb, opened, run, mode, held)

    def destination(self) -> Destination:
        """The server, with a key from the environment or from ``wandb login``."""
        if self._mode() != "online":
            return Destination()
        if "WANDB_API_KEY" not in os.environ and not (Path.home() / ".netrc").is_file():
            return Destination(lacks="WANDB_API_KEY", fix="Set it to a key of your account, or mode to 'offline'.")
        return Destination(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai")

    def _mode(self) -> Literal["online", "offline"]:
        asked = os.environ.get("WANDB_MODE") if self.mode == "auto" else self.mode
        if asked == "online" or (asked != "offline" and "WANDB_API_KEY" in os.environ):
            return "online"
        return "offline"


class _WandBSession(ConfirmingSession):
    def __init__(self, wandb: Any, opened: Any, run: RunInfo, mode: str, held: Mapping[str, int]) -> None:
        self._wandb, self._opened, self._run, self._held = wandb, opened, run, dict(held)
        self.destination = f"{mode} {opened.project}"
        if mode == "online":
            self.address = opened.url
        else:
            where = Path(opened.dir).parent.parent
            self.address = f"wandb sync {where}/offline-run-*-{opened.id}*"
            self.notice = f"offline; the run is kept in {where}. `wandb sync` sends it."
        opened.define_metric(STEP, hidden=True)
        opened.define_metric("*", step_metric=STEP)

    def log(self, values: Mapping[str, float], *, step: int, time: float) -> None:
        self._opened.log({**values, STEP: step, "_timestamp": time})

    def flush(self) -> None:
        """Rows are on their way in wandb's own process; what arrived is asked when the run goes on."""

    def last_steps(self, names: Iterable[str]) -> dict[str, int]:
        return self._held

    def artifact(self, path: Path) -> None:
        inside = path.is_relative_to(self._run.directory)
        base = self._run.directory if inside else path.parent
        self._opened.save(str(path), base_path=str(base), policy="now")

    def conclude(self, outcome: Outcome) -> None:
        self._opened.summary.update({"package": outcome.location, "best_step": outcome.best_step})
        place = self._run.directory / "tracking"
        for split, (names, matrix) in outcome.confusions.items():
            file = place / f"confusion-{split}.csv"
            file.write_text(as_csv(names, matrix))
            self._opened.save(str(file), base_path=str(place), policy="now")

    def finish(self) -> None:
        self._opened.finish(exit_code=0 if state_of(self._run) == "complete" else 1)


def _held_online(wandb: Any, opened: Any) -> dict[str, int]:
    found = wandb.Api(timeout=int(START_SECONDS)).run(f"{opened.entity}/{opened.project}/{opened.id}")
    return _last(dict(row) for row in found.scan_history(page_size=10_000))


def _held_offline(folder: Path, uid: str) -> dict[str, int]:
    files = sorted(folder.glob(f"wandb/offline-run-*/run-{uid}.wandb"))  # two of one second: ...-ID and ...-ID-1
    end = clock.monotonic() + START_SECONDS
    while any(map(_is_open, files)):  # wandb's own process outlives a killed one for a moment, and writes what it has
        if clock.monotonic() > end:
            raise ConnectionError(f"another process of wandb still writes a run in {folder}/wandb")
        clock.sleep(0.1)
    return _last(row for file in files for row in read_rows(file))


def _is_open(file: Path) -> bool:
    """Whether a process has the file open; where /proc does not tell, whether it was written in the last three seconds."""
    processes = Path("/proc")
    if not (processes / "self/fd").is_dir():
        return clock.time() - file.stat().st_mtime < 3
    wanted = os.path.realpath(file)
    for descriptor in processes.glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(descriptor) == wanted:
                return True
    return False


def _last(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    return last_of((name, row.get(STEP)) for row in rows for name, value in row.items() if value is not None)


def read_rows(file: Path) -> Iterator[dict[str, Any]]:
    """The history of an offline run: records in blocks of 32 KiB, as LevelDB's log has them, each a protobuf."""
    from wandb.proto import wandb_internal_pb2

    content, position, parts = file.read_bytes(), FILE_HEADER, b""
    while position + HEADER <= len(content):
        if BLOCK - position % BLOCK < HEADER:
            position += BLOCK - position % BLOCK
            continue
        _, size, kind = struct.unpack("<IHB", content[position : position + HEADER])
        data = content[position + HEADER : position + HEADER + size]
        position += HEADER + size
        if len(data) < size:
            return  # cut off by a kill
        parts = data if kind in (1, 2) else parts + data  # whole, first; middle, last
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            if record.WhichOneof("record_type") == "history":
                yield {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
                }
