"""Push a package to the Hugging Face Hub: whole and verified, or not visible at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_trainpipe.checkpoint.atomic import read_object, write_json
from hf_trainpipe.errors import CheckpointError, PushError
from hf_trainpipe.hub.push_queue import Entry, PushQueue
from hf_trainpipe.hub.retry import Patience
from hf_trainpipe.hub.secrets import scan_files
from hf_trainpipe.hub.upload import AUTO_TAG, upload
from hf_trainpipe.package import layout

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["RECORDED", "enqueue", "push", "refuse_secrets", "retry", "shown"]

_LISTED_FINDINGS = 10
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
    queue: PushQueue | None = None,
    attempts: int = 4,
    wait_s: float = 1.0,
) -> dict[str, Any]:
    """Put ``package`` (or the package of a run) into the outbox and upload it to ``repo``, whole and checked.

    The access token comes from the environment (``HF_TOKEN``) or from ``hf auth login``, nowhere else.
    Files of an earlier package that this one lacks are removed in the same commit; files that no package
    holds (``.gitattributes``, images) stay as they are, and so do hand-written sections of the card.

    Args:
        repo: ``user/name``; created if it does not exist.
        private: Whether a new repository is private. An existing public one is refused while this is true.
        revision: Branch to commit to, created if needed; None: ``main``.
        tag: Tag to set on the commit once its files are verified; "auto": ``v1``, ``v2``, ...; None: no tag.
        pull_request: Open a pull request with the files instead, and leave it to a person to merge it.
        message: The commit's first line.
        outbox: Where it is written down; None: in the run of the package, or beside it.
        attempts: How often a step is tried when the Hub is busy or the connection breaks.
        wait_s: Seconds before the second try, doubled each time; a ``Retry-After`` header replaces it.

    Returns:
        See :func:`shown`, and ``left_out``: files beside the package that no package holds.

    Raises:
        PackageError: if there is no package.
        PushError: if the package may not leave (secrets, changed or unverified files), or the upload failed;
            then it waits in the outbox, and ``fix`` holds the command that tries again.
    """
    layout.find_package(package)
    queue = queue or PushQueue.of(package)
    with queue.lock():
        entry, left_out = enqueue(
            package,
            repo,
            private=private,
            revision=revision,
            tag=tag,
            pull_request=pull_request,
            message=message,
            queue=queue,
        )
        entry = upload(queue, entry, patience=Patience(attempts=attempts, wait_s=wait_s))
    return {**shown(entry), "left_out": left_out}


def enqueue(
    package: Path | str,
    repo: str,
    *,
    queue: PushQueue,
    private: bool = True,
    revision: str | None = None,
    tag: str | None = AUTO_TAG,
    pull_request: bool = False,
    message: str | None = None,
    step: int | None = None,
) -> tuple[Entry, list[str]]:
    """Check a package and put its push into the outbox, whose lock the caller holds; nothing is sent.

    Returns:
        The entry, and the files beside the package that no package holds.

    Raises:
        PushError: the package may not leave.
    """
    path = layout.find_package(package)
    names, left_out = _check_local(path, interim=step is not None)
    entry = Entry(
        id="",
        kind="package",
        repo=repo,
        branch=revision or "main",
        private=private,
        tag=None if pull_request else tag,
        pull_request=pull_request,
        message=message or f"Package {layout.read_manifest(path)['name']}",
        step=step,
    )
    return queue.add(entry, {name: path / name for name in names}), left_out


def retry(path: Path | str, *, attempts: int = 4, wait_s: float = 1.0) -> list[dict[str, Any]]:
    """Go on with every push of a run, or of a package, that did not come to its end.

    Returns:
        :func:`shown` of each; empty where nothing was left.

    Raises:
        PushError: the first that failed again, after all were tried.
    """
    queue = PushQueue.of(path)
    if not queue.open_entries():
        return []
    done, failed = [], []
    with queue.lock():
        for entry in queue.open_entries():
            try:
                uploaded = upload(queue, entry, patience=Patience(attempts=attempts, wait_s=wait_s))
                done.append(shown(uploaded))
            except PushError as error:
                failed.append(error)
    if failed:
        raise failed[0]
    _record_result(queue, done)
    return done


def _record_result(queue: PushQueue, done: list[dict[str, Any]]) -> None:
    """The result.json of a complete run whose push had failed says now that it is done."""
    place = queue.path.parent / "result.json"
    if not place.is_file():
        return
    try:
        result = read_object(place, needs={"push": dict}, fix="")
    except CheckpointError:
        return  # the run ends once more when it is asked to; the push itself is done
    pushed = result["push"]
    final = [sent for sent in done if sent["repo"] == pushed.get("repo") and sent["step"] is None]
    if pushed.get("state") == "failed" and final:
        write_json(place, {**result, "push": {name: final[-1][name] for name in RECORDED}})


def shown(entry: Entry) -> dict[str, Any]:
    """What became of a push: repo, revision, commit, url, files, bytes, removed, private, tag, state, tries, step."""
    return {
        "repo": entry.repo,
        "revision": entry.branch,
        "state": entry.state,
        "commit": entry.commit,
        "url": entry.url,
        "tag": entry.tag,
        "private": entry.private,
        "files": list(entry.files),
        "bytes": sum(file.size for file in entry.files.values()),
        "removed": list(entry.removed),
        "tries": entry.tries,
        "step": entry.step,
    }


def refuse_secrets(path: Path, names: Iterable[str], *, what: str) -> None:
    """Refuse to upload files that hold tokens, keys, values of secret variables or home paths.

    Raises:
        PushError: file and line of each, without the secret itself.
    """
    findings = scan_files(path, names)
    if not findings:
        return
    listed = "; ".join(str(finding) for finding in findings[:_LISTED_FINDINGS])
    more = len(findings) - _LISTED_FINDINGS
    raise PushError(
        f"Nothing was pushed, because the {what} holds what must not leave: {listed}"
        f"{f'; and {more} more' if more > 0 else ''}.",
        fix="Remove it where it comes from (recipe, data, tokenizer), and write the package again.",
        file=findings[0].file,
        line=findings[0].line,
        findings=[str(finding) for finding in findings],
    )


def _check_local(path: Path, *, interim: bool) -> tuple[list[str], list[str]]:
    """Names to upload and names left behind; refuses what must not leave.

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
