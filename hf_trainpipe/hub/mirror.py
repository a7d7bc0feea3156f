"""Checkpoints on a branch of the Hub, and a run that continues from them on another machine.

    step-00000120/...   the newest checkpoint, as it is on disk, and the best one if that is another
    run.json            which run it is; its home folder is written as $HOME, the recipe's file is left out
    ledger.jsonl        up to the offset that the newest checkpoint names
    attempt.json        versions and commit of the attempt, to be compared by the next one

The branch always holds one consistent set: one commit replaces all of it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hf_trainpipe.checkpoint import manifest as manifests
from hf_trainpipe.checkpoint.manifest import MANIFEST, Broken, folder_name
from hf_trainpipe.checkpoint.snapshot import Checkpoint
from hf_trainpipe.errors import CheckpointError, PushError, RecipeError
from hf_trainpipe.hub.push_queue import Entry, PushQueue, describe_file
from hf_trainpipe.hub.retry import USUAL, limit_silence
from hf_trainpipe.hub.upload import differences, list_commit
from hf_trainpipe.utils.atomic import fsync_tree, read_json_object, write_bytes, write_json
from hf_trainpipe.utils.attempts import newest_attempt
from hf_trainpipe.utils.secrets import refuse_secrets

BRANCH = "checkpoints"
RESUMED_FROM = "resumed-from.json"
"""In the run's directory: the repository, commit and step that it was continued from."""
_HOME = "$HOME"
_STEP = re.compile(r"step-(\d{8,})/MANIFEST\.json")
_FILES = ("attempt.json", "ledger.jsonl", "run.json")
_EARLIER = "Name an earlier commit of the branch: --resume-from hub:user/name@COMMIT"
_SOURCE = re.compile(r"hub:([\w.-]+/[\w.-]+)(?:@(\S+))?")


def enqueue_checkpoint(
    run: Path, checkpoints: Mapping[int, Checkpoint], queue: PushQueue, *, repo: str, private: bool
) -> Entry:
    """Queue the newest checkpoint, and the best one.

    Args:
        run: The run's directory.
        checkpoints: By step, verified: the newest one, and the best one.

    Raises:
        PushError: a file holds a secret, or the queue cannot be written.
    """
    newest = checkpoints[max(checkpoints)].manifest
    work = queue.path / "mirror"  # for the files that are made here; replaced
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        sources = _identify(run, work, int(newest["ledger_offset"]))
        refuse_secrets(work, sources, what="run")
        for number, checkpoint in sorted(checkpoints.items()):
            names = [MANIFEST, *checkpoint.manifest["files"]]
            refuse_secrets(checkpoint.path, names, what="checkpoint")
            sources |= {f"{folder_name(number)}/{name}": checkpoint.path / name for name in names}
        entry = Entry(
            kind="checkpoint",
            repo=repo,
            branch=BRANCH,
            private=private,
            message=f"Checkpoint of step {newest['step']}",
            step=newest["step"],
        )
        return queue.add(entry, sources)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _identify(run: Path, work: Path, ledger_bytes: int) -> dict[str, Path]:
    """Which run it is, its ledger up to the checkpoint, and what it ran with, as files in ``work``."""
    identity = read_json_object(run / "run.json", needs={"uid": str}, fix="")
    write_json(work / "run.json", _put_home({**identity, "source": None, "places": {}}, str(Path.home()), _HOME))
    with (run / "ledger.jsonl").open("rb") as stream:
        write_bytes(work / "ledger.jsonl", stream.read(ledger_bytes))
    write_json(work / "attempt.json", _attempt(run))
    return {name: work / name for name in _FILES}


def _attempt(run: Path) -> dict[str, Any]:
    """What the newest attempt ran with, without its host and process."""
    facts = newest_attempt(run)  # if it is damaged, only versions are lost, and differences of these are only warned of
    kept = ("started", "world_size", "versions", "git_commit", "git_dirty")
    return {"attempt": 1, "exit": "mirrored", **{name: facts.get(name) for name in kept}}


def _put_home(value: Any, old: str, new: str) -> Any:
    """``value`` with ``new`` in place of the folder ``old`` at the beginning of its strings."""
    if isinstance(value, dict):
        return {name: _put_home(child, old, new) for name, child in value.items()}
    if isinstance(value, list):
        return [_put_home(child, old, new) for child in value]
    if isinstance(value, str) and len(old) > 3 and (value == old or value.startswith(old + "/")):
        return new + value[len(old) :]
    return value


def parse_source(spelled: str) -> tuple[str, str]:
    """Repository and revision of ``hub:user/name`` or ``hub:user/name@REVISION``.

    >>> parse_source("hub:user/name"), parse_source("hub:user/name@0123abc")
    (('user/name', 'checkpoints'), ('user/name', '0123abc'))

    Raises:
        RecipeError: it is neither.
    """
    match = _SOURCE.fullmatch(spelled)
    if match is None:
        raise RecipeError(
            f"--resume-from: expected hub:user/name, found {spelled!r}.",
            fix="Name the repository that the checkpoints were mirrored to: --resume-from hub:user/name",
        )
    return match[1], match[2] or BRANCH


def fetch(spelled: str, run: Path, *, say: Callable[[str], None]) -> None:
    """Download a mirrored run, whole, into the empty directory ``run``; a run that is there already is left alone.

    Everything comes from one commit. Its hashes are compared with what the Hub lists and with the manifests of the
    checkpoints. run.json is written last, so that an interrupted download begins again.

    Raises:
        RecipeError: ``spelled`` names no repository.
        CheckpointError: nothing is there, it is damaged, or the Hub cannot be reached.
    """
    repo, revision = parse_source(spelled)
    if (run / "run.json").exists():
        say(f"{run}: continuing the run that is here; --resume-from is for an empty directory")
        return
    work = run / ".tmp-resume"
    commit, tree = _download(repo, revision, work, spelled=spelled, say=say)
    _compare(work, tree, spelled)
    identity = _read(work / "run.json", uid=str, recipe=dict, fingerprints=dict)
    steps = _verified(work, uid=identity["uid"], say=say, spelled=spelled)
    attempt = _read(work / "attempt.json")
    place = run / "checkpoints"
    if any(place.glob("step-*")) and not (run / RESUMED_FROM).exists():
        raise CheckpointError(
            f"{run} has checkpoints but no run.json; they are not overwritten.",
            fix="Choose an empty directory with --run-dir.",
        )
    write_json(run / RESUMED_FROM, {"repo": repo, "revision": revision, "commit": commit, "step": max(steps)})
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for step in steps:
        os.rename(work / folder_name(step), place / folder_name(step))
    fsync_tree(place)
    (run / "attempts").mkdir(exist_ok=True)
    write_json(run / "attempts" / "0001.json", attempt)
    write_bytes(run / "ledger.jsonl", (work / "ledger.jsonl").read_bytes())
    write_json(run / "run.json", _put_home(identity, _HOME, str(Path.home())))
    shutil.rmtree(work, ignore_errors=True)


def _download(
    repo: str, revision: str, work: Path, *, spelled: str, say: Callable[[str], None]
) -> tuple[str, dict[str, Any]]:
    """Download into ``work``: the commit that ``revision`` means, and what the Hub lists of it."""
    from huggingface_hub import HfApi, snapshot_download

    limit_silence()
    api, patterns = HfApi(), [*_FILES, "step-*/*"]

    def find() -> tuple[str, dict[str, Any]]:
        commit = str(api.model_info(repo, revision=revision).sha)
        return commit, list_commit(api, repo, commit)

    def download() -> str:
        return snapshot_download(repo, revision=commit, allow_patterns=patterns, local_dir=work)

    try:
        commit, tree = USUAL.run("read the checkpoints", find, repo=repo, retry="the same command")
        say(f"{repo}: downloading the checkpoints of commit {commit[:12]}")
        USUAL.run("download the checkpoints", download, repo=repo, retry="the same command")
    except PushError as error:
        raise CheckpointError(
            f"--resume-from {spelled}: {error.message}", fix="Run the same command again once it can be reached."
        ) from error
    return commit, tree


def _read(path: Path, **needs: type) -> dict[str, Any]:
    return read_json_object(path, needs=needs, fix=_EARLIER)


def _compare(work: Path, tree: Mapping[str, Any], spelled: str) -> None:
    missing = sorted(name for name in _FILES if name not in tree or not (work / name).is_file())
    if missing or not any(_STEP.fullmatch(name) for name in tree):
        raise CheckpointError(
            f"--resume-from {spelled}: expected the mirror of a run, found no "
            f"{', '.join(missing) or 'step-*/MANIFEST.json'} there.",
            fix="Name a repository that a run mirrored its checkpoints to: hub=Hub(..., checkpoints=True).",
        )
    if problems := differences(tree, {name: describe_file(work / name) for name in _FILES}):
        raise CheckpointError(
            f"--resume-from {spelled}: the download differs from the Hub: {'; '.join(problems)}.",
            fix="Run the same command again.",
        )


def _verified(work: Path, *, uid: str, say: Callable[[str], None], spelled: str) -> list[int]:
    """Steps of the checkpoints that are whole and of this run."""
    steps = []
    for folder in sorted(work.glob("step-*")):
        try:
            steps.append(int(manifests.verify(folder, run_uid=uid)["step"]))
        except Broken as error:
            say(f"warning: the mirrored {folder.name} is damaged and left out: {error}")
    if not steps:
        raise CheckpointError(f"--resume-from {spelled}: no checkpoint there is valid.", fix=_EARLIER)
    return steps
