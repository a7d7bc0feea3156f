"""Push a package to a repository of the Hugging Face Hub: whole and verified, or not visible at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hf_trainpipe.errors import CheckpointError, PushError, TrainpipeError
from hf_trainpipe.hub.push_queue import Entry, PushQueue
from hf_trainpipe.hub.retry import USUAL, RetryPolicy
from hf_trainpipe.hub.upload import AUTO_TAG, upload
from hf_trainpipe.package import layout
from hf_trainpipe.utils.atomic import read_json_object, write_json
from hf_trainpipe.utils.secrets import refuse_secrets

RECORDED = ("repo", "state", "revision", "commit", "url", "tag", "private", "bytes")
"""What result.json keeps of :func:`shown`."""


def push(
    package: Path | str,
    repo: str,
    *,
    private: bool = True,
    revision: str | None = None,
    tag: str | None = AUTO_TAG,
    pull_request: bool = False,
    message: str | None = None,
    policy: RetryPolicy = USUAL,
) -> dict[str, Any]:
    """Queue ``package`` (or the package of a run) and upload it to ``repo``, whole and checked.

    The access token comes from the environment (``HF_TOKEN``) or from ``hf auth login``, nowhere else.
    Files of an earlier package that this one lacks are removed in the same commit; files that no package
    holds (``.gitattributes``, images) stay as they are, and so do hand-written sections of the card.

    Args:
        repo: ``user/name``; created if it does not exist.
        private: Whether a new repository is private. An existing public one is refused while this is true.
        revision: Branch to commit to, created if needed; None: ``main``.
        tag: Tag to set on the commit once its files are verified; "auto": ``v1``, ``v2``, ...; None: no tag.
        pull_request: Open a pull request with the files instead, for somebody to merge.
        message: The commit's first line.
        policy: How often a step is tried when the Hub is busy or the connection breaks.

    Returns:
        See :func:`shown`, and ``left_out``: files beside the package that no package holds.

    Raises:
        PackageError: if there is no package.
        PushError: if the package may not be uploaded (secrets, changed or unverified files), or the upload failed;
            then it waits in the queue, and ``fix`` holds the command that tries again.
    """
    path = layout.find_package(package)
    asked = Entry(
        kind="package",
        repo=repo,
        branch=revision or "main",
        private=private,
        tag=None if pull_request else tag,
        pull_request=pull_request,
        message=message or f"Package {layout.read_manifest(path)['name']}",
    )
    queue = PushQueue.of(package)
    with queue.lock():
        entry, left_out = enqueue(path, asked, queue)
        entry = upload(queue, entry, policy=policy)
    return {**shown(entry), "left_out": left_out}


def enqueue(package: Path, asked: Entry, queue: PushQueue) -> tuple[Entry, list[str]]:
    """Check a package and queue its push; the caller holds the queue's lock. Nothing is sent.

    Returns:
        The entry, and the files beside the package that no package holds.

    Raises:
        PushError: the package may not be uploaded.
    """
    names, left_out = _check_local(package, interim=asked.step is not None)
    return queue.add(asked, {name: package / name for name in names}), left_out


def retry(path: Path | str, *, policy: RetryPolicy = USUAL) -> list[dict[str, Any]]:
    """Continue every push of a run, or of a package, that is not done.

    Returns:
        :func:`shown` of each; empty where nothing was left.

    Raises:
        PushError: the first that failed again, after all were tried.
    """
    queue = PushQueue.of(path)
    done, failed = upload_waiting(queue, policy=policy)
    if failed:
        raise failed[0]
    pushed = [shown(entry) for entry in done]
    if pushed:
        _record_result(queue, pushed)
    return pushed


def upload_waiting(queue: PushQueue, *, policy: RetryPolicy) -> tuple[list[Entry], list[TrainpipeError]]:
    """Upload all that waits in a queue, the oldest first: what is done now, and why the others are not."""
    done: list[Entry] = []
    failed: list[TrainpipeError] = []
    for waiting in queue.open_entries():
        try:
            with queue.lock():
                for entry in queue.open_entries():  # read again: another process may have uploaded it meanwhile
                    if entry.id == waiting.id:
                        done.append(upload(queue, entry, policy=policy))
        except TrainpipeError as error:
            failed.append(error)
    return done, failed


def _record_result(queue: PushQueue, done: list[dict[str, Any]]) -> None:
    """Write into the result.json of a complete run that its push, which had failed, is done."""
    place = queue.path.parent / "result.json"
    if not place.is_file():
        return
    try:
        result = read_json_object(place, needs={"push": dict}, fix="")
    except CheckpointError:
        return  # `train` writes it again; the push itself is done
    pushed = result["push"]
    final = [sent for sent in done if sent["repo"] == pushed.get("repo") and sent["step"] is None]
    if pushed.get("state") == "failed" and final:
        write_json(place, {**result, "push": {name: final[-1][name] for name in RECORDED}})


def shown(entry: Entry) -> dict[str, Any]:
    """What became of a push: repo, revision, commit, url, files, bytes, removed, private, tag, state, tries, step."""
    same = ("repo", "state", "commit", "url", "tag", "private", "tries", "step")
    return {name: getattr(entry, name) for name in same} | {
        "revision": entry.branch,
        "files": list(entry.files),
        "bytes": sum(file.size for file in entry.files.values()),
        "removed": list(entry.removed),
    }


def _check_local(path: Path, *, interim: bool) -> tuple[list[str], list[str]]:
    """Names to upload and names left out; refuses what may not be uploaded.

    A package of weights that are still being trained has no recorded predictions: it must have loaded and answered.
    """
    manifest = layout.read_manifest(path)
    layout.refuse_changed(path, manifest, error=PushError, strangers=True)
    verified = manifest.get("verified")
    if not verified or not (verified.get("passed") or (interim and verified.get("loaded"))):
        state = "was never verified" if not verified else "did not reproduce its recorded predictions"
        raise PushError(f"{path} {state}.", fix=f"Run `hf-trainpipe verify {path}` first.")
    names, left_out = layout.list_files(path)
    refuse_secrets(path, names, what="package")
    return names, left_out
