"""Push a package to the Hugging Face Hub: whole and verified, or not visible at all."""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from typing import TYPE_CHECKING, Any, TypeVar

from hf_trainpipe.errors import PushError
from hf_trainpipe.package import layout
from hf_trainpipe.package.scan import scan_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from huggingface_hub import HfApi

__all__ = ["push"]

_T = TypeVar("_T")
_TRANSIENT_STATUS = frozenset({408, 409, 412, 425, 429, 500, 502, 503, 504})
_LONGEST_WAIT_S = 60.0
_LISTED_FINDINGS = 10


def push(
    package: Path | str,
    repo: str,
    *,
    private: bool = True,
    revision: str | None = None,
    tag: str | None = None,
    message: str | None = None,
    attempts: int = 4,
    wait_s: float = 1.0,
) -> dict[str, Any]:
    """Upload ``package`` (or the package of a run) to the repository ``repo`` in one commit, and check it.

    The access token comes from the environment (``HF_TOKEN``) or from ``hf auth login``, nowhere else.
    Files of an earlier package that this one lacks are removed in the same commit; files that no package
    holds (``.gitattributes``, images) stay as they are.

    Args:
        repo: ``user/name``; created if it does not exist.
        private: Whether a new repository is private. An existing public one is refused while this is true.
        revision: Branch to commit to, created if needed; None: ``main``.
        tag: Tag to set on the commit once its files are verified.
        message: The commit's first line.
        attempts: How often a step is tried when the Hub is busy or the connection breaks.
        wait_s: Seconds before the second try, doubled each time; a ``Retry-After`` header replaces it.

    Returns:
        ``{"repo", "revision", "commit", "url", "files", "bytes", "removed", "left_out", "private", "tag"}``.

    Raises:
        PackageError: if there is no package.
        PushError: if the package may not leave (secrets, changed or unverified files), or the upload failed;
            ``fix`` then holds the command that tries again.
    """
    path = layout.find_package(package)
    retry = _retry_command(package, repo, private=private, revision=revision)
    names, left_out = _check_local(path)

    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        raise PushError("HF_HUB_OFFLINE is set: nothing can be pushed.", fix=f"Unset it, then:\n{retry}")
    api = HfApi()

    def attempt(what: str, call: Callable[[], _T]) -> _T:
        return _retrying(what, call, attempts=attempts, wait_s=wait_s, repo=repo, retry=retry)

    attempt("create the repository", lambda: api.create_repo(repo, private=private, exist_ok=True))
    is_private = bool(attempt("read the repository", lambda: api.model_info(repo)).private)
    if private and not is_private:
        raise PushError(
            f"{repo} exists and is public, and this push was asked to be private.",
            fix="Push with --public (private=False) if everybody may see it, or name another repository.",
            repo=repo,
        )
    if revision is not None and not revision.startswith("refs/"):
        attempt("create the branch", lambda: api.create_branch(repo, branch=revision, exist_ok=True))
    text = message or f"Package {layout.read_manifest(path)['name']}"
    commit, url, removed = attempt("upload", lambda: _commit(api, repo, path, names, revision=revision, message=text))
    attempt("verify the upload", lambda: _check_remote(api, repo, path, names, commit=commit, retry=retry))
    if tag is not None:
        attempt("set the tag", lambda: _set_tag(api, repo, tag, commit=commit))
    return {
        "repo": repo,
        "revision": revision or "main",
        "commit": commit,
        "url": url,
        "files": names,
        "bytes": sum((path / name).stat().st_size for name in names),
        "removed": removed,
        "left_out": left_out,
        "private": is_private,
        "tag": tag,
    }


def _retry_command(package: Path | str, repo: str, *, private: bool, revision: str | None) -> str:
    words = ["hf-trainpipe", "push", str(package), repo]
    words += [] if private else ["--public"]
    words += ["--revision", revision] if revision else []
    return shlex.join(words)


def _check_local(path: Path) -> tuple[list[str], list[str]]:
    """Names to upload and names left behind; refuses what must not leave."""
    manifest = layout.read_manifest(path)
    if problems := layout.check_files(path, manifest):
        raise PushError(
            f"{path} is not as it was written: {'; '.join(problems[:_LISTED_FINDINGS])}.",
            fix="Write the package again (`hf-trainpipe package RUN`).",
            problems=problems,
        )
    verified = manifest.get("verified")
    if not verified or not verified.get("passed"):
        state = "was never verified" if not verified else "did not reproduce its recorded predictions"
        raise PushError(f"{path} {state}.", fix=f"Run `hf-trainpipe verify {path}` first.")
    names, left_out = layout.list_files(path)
    if findings := scan_files(path, names):
        listed = "; ".join(str(finding) for finding in findings[:_LISTED_FINDINGS])
        more = len(findings) - _LISTED_FINDINGS
        raise PushError(
            f"Nothing was pushed, because the package holds what must not leave: {listed}"
            f"{f'; and {more} more' if more > 0 else ''}.",
            fix="Remove it where it comes from (recipe, data, tokenizer), and write the package again.",
            file=findings[0].file,
            line=findings[0].line,
            findings=[str(finding) for finding in findings],
        )
    return names, left_out


def _commit(
    api: HfApi, repo: str, path: Path, names: list[str], *, revision: str | None, message: str
) -> tuple[str, str, list[str]]:
    """One commit that makes the repository hold exactly this package: ``(commit, url, removed names)``.

    Safe to repeat: files that arrived before are skipped, and an unchanged repository gets no new commit.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    remote = [entry.path for entry in _remote_files(api, repo, revision)]
    removed = [name for name in remote if layout.is_package_file(name) and name not in set(names)]
    operations: list[Any] = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(path / name)) for name in names]
    operations += [CommitOperationDelete(path_in_repo=name, is_folder=False) for name in removed]
    info = api.create_commit(repo, operations, commit_message=message, revision=revision)
    return str(info.oid), str(info.commit_url), removed


def _remote_files(api: HfApi, repo: str, revision: str | None) -> Iterator[Any]:
    for entry in api.list_repo_tree(repo, recursive=True, revision=revision):
        if hasattr(entry, "blob_id"):
            yield entry


def _check_remote(api: HfApi, repo: str, path: Path, names: list[str], *, commit: str, retry: str) -> None:
    remote = {entry.path: entry for entry in _remote_files(api, repo, commit)}
    problems = []
    for name in names:
        entry = remote.get(name)
        if entry is None:
            problems.append(f"{name} is missing")
        elif entry.size != (path / name).stat().st_size:
            problems.append(f"{name} has {entry.size} bytes instead of {(path / name).stat().st_size}")
        elif entry.lfs is not None:
            if entry.lfs.sha256 != layout.hash_file(path / name):
                problems.append(f"{name} has another sha256")
        elif entry.blob_id != _git_blob(path / name):
            problems.append(f"{name} has another git hash")
    if problems:
        raise PushError(
            f"The commit {commit[:12]} of {repo} differs from the package: {'; '.join(problems)}.",
            fix=f"Push again:\n{retry}",
            repo=repo,
            commit=commit,
            problems=problems,
        )


def _git_blob(path: Path) -> str:
    """The object id that git gives a file: sha1 over ``blob SIZE\\0`` and its bytes."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _set_tag(api: HfApi, repo: str, tag: str, *, commit: str) -> None:
    api.create_tag(repo, tag=tag, revision=commit, exist_ok=True)
    target = next((ref.target_commit for ref in api.list_repo_refs(repo).tags if ref.name == tag), None)
    if target != commit:
        raise PushError(
            f"The tag {tag} of {repo} exists already and points to {str(target)[:12]}, not to {commit[:12]}.",
            fix="The files are pushed and verified. Choose another tag, or delete that one on the Hub.",
            repo=repo,
            commit=commit,
        )


def _retrying(what: str, call: Callable[[], _T], *, attempts: int, wait_s: float, repo: str, retry: str) -> _T:
    for number in range(1, attempts + 1):
        try:
            return call()
        except PushError:
            raise
        except Exception as error:
            status, wait = _status(error)
            transient = status in _TRANSIENT_STATUS if status is not None else _is_connection(error)
            if not transient and not _is_foreign(error):
                raise
            if not transient or number == attempts:
                raise _explain(what, error, status, repo=repo, retry=retry, tries=number) from error
            time.sleep(min(wait_s * 2 ** (number - 1) if wait is None else wait, _LONGEST_WAIT_S))
    raise AssertionError("attempts is at least 1")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> tuple[int | None, float | None]:
    """The HTTP status behind ``error``, and the seconds that the server asks to wait."""
    for link in _chain(error):
        response = getattr(link, "response", None)
        if response is not None:
            after = str(response.headers.get("Retry-After", ""))
            return int(response.status_code), float(after) if after.isdigit() else None
    return None, None


def _is_connection(error: BaseException) -> bool:
    names = {"TransportError", "TimeoutException", "NetworkError", "RemoteProtocolError"}
    return any(
        isinstance(link, (ConnectionError, TimeoutError, json.JSONDecodeError))
        or any(kind.__name__ in names for kind in type(link).__mro__)
        for link in _chain(error)
    )


def _is_foreign(error: BaseException) -> bool:
    """Whether the Hub's client refused something, rather than our own code failing."""
    return isinstance(error, (OSError, ValueError, RuntimeError))


def _explain(what: str, error: BaseException, status: int | None, *, repo: str, retry: str, tries: int) -> PushError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    found = f"the Hub answered {status}" if status is not None else reason
    times = f" after {tries} tries" if tries > 1 else ""
    first = {
        401: "Log in with `hf auth login`, or set HF_TOKEN to a token that may write.",
        403: f"The token may not write to {repo}: use one with write access, or a repository of your own.",
        404: f"{repo} is not visible to this token: use one with write access, or a repository of your own.",
    }.get(status or 0, "Everything before the push is done and kept.")
    return PushError(
        f"Could not {what} at {repo}{times}: {found}.",
        fix=f"{first} This command tries again:\n{retry}",
        repo=repo,
        status=status,
        reason=reason,
    )
