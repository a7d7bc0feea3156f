"""One stage, as every engine runs it: ``pipeline stage FILE NAME``.

Whoever works on a stage holds the flock of its lock file, and so does the verb that it began: the descriptor is handed on. An engine
that lost sight of its task and starts it again meets the first one there. The second waits; it goes on when the last process of the
first has ended, however it ended, and then finds the stage done, or continues it. Two trainers are never alive.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from hf_trainpipe import __version__
from hf_trainpipe.checkpoint.folder import free_name
from hf_trainpipe.checkpoint.lock import RunLock, is_locked
from hf_trainpipe.errors import EXIT_CODES, INTERRUPTED, DataError, RecipeError
from hf_trainpipe.pipelines.hashes import content_hashes
from hf_trainpipe.pipelines.lock import hold
from hf_trainpipe.pipelines.lowered import why_left_out
from hf_trainpipe.pipelines.nodes import Nodes, nodes_of
from hf_trainpipe.pipelines.pipeline import Pipeline
from hf_trainpipe.pipelines.processes import POLL_SECONDS, Stopping, environment, follow
from hf_trainpipe.pipelines.recipe_inputs import recipe_hashes
from hf_trainpipe.pipelines.record import (
    ANSWER,
    BEGUN,
    OUTPUT,
    STAGE,
    Asked,
    Record,
    is_as_recorded,
    read_begun,
    read_record,
)
from hf_trainpipe.utils.atomic import TEMPORARY, write_json
from hf_trainpipe.utils.brief import listed

Standing = Literal["due", "waits", "left out"]


def run_stage(pipeline: Pipeline, name: str, *, say: Callable[[str], None], stopping: Stopping) -> int:
    """Bring one stage to its end; the working directory is the pipeline's folder.

    Args:
        say: Takes a line about what happens; what the verb itself says goes to standard error.
        stopping: Asks for the end: the verb is asked to save and end.

    Returns:
        The exit code of its verb: now, or when it ran with the same command and content. 75 where a signal ended it. 0 where it is not
        due, since a stage before it ended with another branch.

    Raises:
        RecipeError: a stage before it is not done.
        DataError: something that it reads is not there, or something that it should write.
    """
    stage = pipeline.stage(name)
    standing, why = standing_of(pipeline, name)
    if standing == "waits":
        raise RecipeError(
            f"{name}: {why}",
            fix=f"hf-trainpipe pipeline run {pipeline.folder / pipeline.spelled}\nruns what is missing.",
        )
    if standing == "left out":
        say(f"{name}: left out: {why}")
        return 0
    folder = Path(pipeline.folder_of(name))
    folder.parent.mkdir(parents=True, exist_ok=True)
    nodes = nodes_of() if stage.trains else None
    if nodes is not None and nodes.rank > 0:
        return nodes.lend(asked_of(pipeline, name), folder, say=say, stopping=stopping)
    with hold(folder.with_name(f"{name}.lock"), folder, name=name, say=say, stopping=stopping) as lock:
        if lock is None:
            return INTERRUPTED
        asked = asked_of(pipeline, name)
        record = read_record(folder)
        if record is not None and is_as_recorded(record, asked):
            row = EXIT_CODES[record.exit_code]
            say(f"{name}: as recorded ({row.meaning})")
            return record.exit_code
        _make_room(folder, asked, trains=stage.trains, say=say)
        if stage.trains and not _wait_for_run(folder, name, say=say, stopping=stopping):
            return INTERRUPTED
        return _work(pipeline, name, asked, folder, lock, nodes, say=say, stopping=stopping)


def standing_of(pipeline: Pipeline, name: str) -> tuple[Standing, str]:
    """Whether a stage is due by what is recorded of those before it, and why not."""
    return _standing_of(pipeline, name, {})


def _standing_of(
    pipeline: Pipeline, name: str, known: dict[str, tuple[Standing, str]]
) -> tuple[Standing, str]:  # each stage is looked at once, however many come after it
    if name not in known:
        known[name] = "due", ""
        for need in pipeline.needs_of(name):
            standing, why = _standing_of(pipeline, need, known)
            record = None if standing == "left out" else read_record(Path(pipeline.folder_of(need)))
            if standing == "waits" or (standing == "due" and record is None):
                known[name] = "waits", why or f"expected {need} to be done before, found no {STAGE} of it."
                break
            code = None if record is None else record.exit_code
            if left_out := why_left_out({need: code}, pipeline.stage(name).runs_if):
                known[name] = "left out", f"{left_out}: {why}" if why else left_out
                break
    return known[name]


def asked_of(pipeline: Pipeline, name: str) -> Asked:
    """A stage's command and the content of what it reads, now."""
    stage, whose = pipeline.stage(name), f"{name} reads"
    inputs = content_hashes(stage.reads(pipeline), Path(), whose=whose)
    if (recipe := stage.recipe_of()) is not None:
        inputs |= recipe_hashes(*recipe, Path.cwd(), whose=whose)
    return Asked(command=stage.words(pipeline), inputs=inputs)


def _make_room(folder: Path, asked: Asked, *, trains: bool, say: Callable[[str], None]) -> None:
    """Prepare the folder of a stage that is to run; a run that was begun for something else is moved aside whole."""
    changed = asked.differs(read_begun(folder))
    if trains and changed and any((folder / name).exists() for name in ("run.json", BEGUN)):
        aside = free_name(folder.parent, f"{folder.name}.earlier")
        folder.rename(aside)
        say(f"{folder.name}: {listed(changed, 3)} changed; the run that was there is kept as {aside}")
    folder.mkdir(exist_ok=True)
    (folder / STAGE).unlink(missing_ok=True)


def _wait_for_run(folder: Path, name: str, *, say: Callable[[str], None], stopping: Stopping) -> bool:
    """Wait until nobody else has the run, such as a rank that outlives its launcher; False: stopped before."""
    told = False
    while is_locked(folder / "run.lock"):
        if stopping.asked:
            return False
        if not told:
            say(f"{name}: waits for the process that still has {folder / 'run.lock'}")
            told = True
        time.sleep(POLL_SECONDS)
    return True


def _work(
    pipeline: Pipeline,
    name: str,
    asked: Asked,
    folder: Path,
    lock: RunLock,
    nodes: Nodes | None,
    *,
    say: Callable[[str], None],
    stopping: Stopping,
) -> int:
    """Run the verb; write stage.json where it ended with a branch."""
    stage = pipeline.stage(name)
    begun = read_begun(folder)
    attempts = begun.get("attempts") if not asked.differs(begun) else 0
    attempt = (attempts if isinstance(attempts, int) else 0) + 1
    words = asked.command if nodes is None else nodes.command(asked.command)
    since = time.monotonic()
    printed = folder / f"{TEMPORARY}{ANSWER}"
    with (folder / OUTPUT).open("ab") as output, printed.open("wb") as answer:
        said_before = output.tell()
        begins = {**asked.to_json(), "attempts": attempt, "began": time.time()}
        write_json(folder / BEGUN, begins)
        process = subprocess.Popen(
            [sys.executable, "-m", "hf_trainpipe", *words],
            env=environment(launched=words[0] == "launch") if nodes is None else nodes.environment(),
            stdin=subprocess.DEVNULL,
            stdout=answer if stage.tells else output,
            stderr=output,
            pass_fds=[lock.fileno()],
            start_new_session=True,  # Ctrl-C is for this process, which asks the verb to end
        )
        write_json(folder / BEGUN, {**begins, "child": process.pid}, durable=False)
    code = follow(process, folder / OUTPUT, said_before, stopping=stopping)
    seconds = time.monotonic() - since
    row = EXIT_CODES.get(code)
    told = printed.stat().st_size > 0
    if told:
        printed.replace(folder / ANSWER)
    printed.unlink(missing_ok=True)
    if row is None or not row.branch:
        if code == INTERRUPTED:
            say(f"{name}: interrupted after {seconds:.1f} s; the same command continues it")
        elif told:
            say(f"{name}: what it found is in {folder / ANSWER}")
        return code
    record = Record(
        command=asked.command,
        inputs=asked.inputs,
        outputs=_outputs(stage.writes(pipeline), name),
        exit_code=code,
        ended=time.time(),
        seconds=round(seconds, 3),
        attempts=attempt,
        host=socket.gethostname(),
        version=__version__,
    )
    record.write(folder)
    say(f"{name}: {row.meaning}, in {seconds:.1f} s")
    return code


def _outputs(paths: Iterable[str], name: str) -> dict[str, str]:
    try:
        return content_hashes(paths, Path(), whose=f"{name} writes")
    except DataError as error:
        raise DataError(
            f"{error.message} Its verb ended well.",
            fix="Correct the stage's outputs. Where a file was deleted, delete the stage's folder too, so that it is made again.",
        ) from None
