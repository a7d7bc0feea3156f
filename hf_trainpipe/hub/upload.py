"""One push, from the queue to the Hub, in steps that can each be repeated.

1. The large files are uploaded. No commit names them yet, so they are not visible; what has arrived is not sent again.
2. One commit puts all files on the branch. It names its parent: the Hub takes it as a whole or not at all, and refuses
   it where somebody else pushed meanwhile (then it is made again on top of theirs). Every hash is compared twice: what
   is uploaded with what was verified here, before the commit; what the Hub lists with the same, after it.
3. The commit is tagged.

So a reader of the branch or of a tag sees the old model or the new one, never parts of both. The files of a pull
request go to its own branch (``refs/pr/N``) in the same way, for somebody to merge.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import PushError
from hf_trainpipe.hub.push_queue import describe_file
from hf_trainpipe.hub.retry import limit_silence
from hf_trainpipe.package import layout
from hf_trainpipe.package.card_merge import merge
from hf_trainpipe.utils.atomic import write_bytes
from hf_trainpipe.utils.brief import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from hf_trainpipe.hub.push_queue import Entry, File, PushQueue
    from hf_trainpipe.hub.retry import RetryPolicy

AUTO_TAG = "auto"
_CARD = "README.md"
_REWRITTEN = (_CARD, layout.MANIFEST)
"""Files that a merge with the card on the Hub may change while the push waits."""
_IGNORE_NOTHING = "# every file of a push is uploaded\n"
"""In place of the repository's .gitignore, which would leave files out of the commit without a word."""


def upload(queue: PushQueue, entry: Entry, *, policy: RetryPolicy) -> Entry:
    """Finish a push, from wherever it is; the caller holds the queue's lock.

    Raises:
        PushError: refused, or the Hub stayed unreachable; the entry says why and stays open.
    """
    work = _Upload(queue, queue.update(entry, tries=entry.tries + 1))
    try:
        return work.run(policy)
    except PushError as error:
        queue.update(work.entry, error=error.message)
        raise


def list_commit(api: Any, repo: str, commit: str) -> dict[str, Any]:
    """The files of a commit: path to what the Hub says of it (size, git's object id, sha256 of a large file)."""
    found = api.list_repo_tree(repo, recursive=True, revision=commit)
    return {entry.path: entry for entry in found if hasattr(entry, "blob_id")}


class _Upload:
    def __init__(self, queue: PushQueue, entry: Entry) -> None:
        self.queue = queue
        self.entry = entry
        self._trees: dict[str, dict[str, Any]] = {}

    def run(self, policy: RetryPolicy) -> Entry:
        from huggingface_hub import HfApi, constants

        entry, retry = self.entry, self.queue.retry_command
        if constants.HF_HUB_OFFLINE:
            raise PushError("HF_HUB_OFFLINE is set: nothing can be pushed.", fix=f"Unset it, then:\n{retry}")
        limit_silence()
        self.api = HfApi()

        def attempt(what: str, step: Callable[[], None]) -> None:
            policy.run(what, step, repo=entry.repo, retry=retry)

        if entry.state != "published":
            self._check_files()
            attempt("create the repository", self._create_repository)
            if entry.pull_request:
                attempt("open the pull request", self._open_pull_request)
            else:
                attempt("upload", self._publish)
        attempt("set the tag", self._tag)
        self._remove_staging()
        return self.queue.close(self.entry, "done")

    # -- steps -----------------------------------------------------------------------------

    def _create_repository(self) -> None:
        repo, branch = self.entry.repo, self.entry.branch
        self.api.create_repo(repo, private=self.entry.private, exist_ok=True)
        if self.entry.private and not self.api.model_info(repo).private:
            raise PushError(
                f"{repo} exists and is public, and this push is to be private.",
                fix="Push with --public (private=False) if everybody may see it, or name another repository.",
            )
        if branch != "main":
            self.api.create_branch(repo, branch=branch, exist_ok=True)

    def _publish(self) -> None:
        commit = self._bring_files_to(self.entry.branch)
        self._record(state="published", commit=commit, url=f"{self.api.endpoint}/{self.entry.repo}/commit/{commit}")

    def _open_pull_request(self) -> None:
        """Open one (once, also where the answer was lost), put the files there, and mark it as ready."""
        repo = self.entry.repo
        title = f"{self.entry.message} ({self._key()})"
        known = self.api.get_repo_discussions(repo, discussion_type="pull_request")
        request = next((found for found in known if found.title == title), None)
        if request is None:
            request = self.api.create_pull_request(repo, title=title, description="Pushed by hf-trainpipe.")
        commit = self._bring_files_to(f"refs/pr/{request.num}")
        if request.status == "draft":
            self.api.change_discussion_status(repo, request.num, "open")
        url = f"{self.api.endpoint}/{repo}/discussions/{request.num}"
        self._record(state="published", commit=commit, url=url)

    def _bring_files_to(self, reference: str) -> str:
        """The commit with which ``reference`` holds the files, and no others of an older push.

        Safe to repeat, also where only the answer was lost: if the files are there already, nothing is committed.
        """
        head = self._head(reference)
        self._prepare_card(self._head("main") if self.entry.pull_request else head)
        removed = self._superfluous(self._tree(head))
        if not removed and not differences(self._tree(head), self.entry.files):
            return head
        self._record(removed=tuple(removed))
        commit = self._commit(reference, parent=head, removed=removed)
        if problems := differences(self._tree(commit), self.entry.files):
            raise PushError(
                f"The commit {commit[:12]} of {self.entry.repo} differs from the package: {'; '.join(problems)}. "
                f"It has no tag; the commit before it is {head[:12]}.",
                fix=f"Push again:\n{self.queue.retry_command}",
                commit=commit,
                problems=problems,
            )
        return commit

    def _commit(self, reference: str, *, parent: str, removed: Iterable[str]) -> str:
        """Upload the large files, and commit all at once upon ``parent``."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        folder, repo = self.queue.folder(self.entry), self.entry.repo
        added = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(folder / name)) for name in self.entry.files]
        self.api.preupload_lfs_files(
            repo, added, revision=reference, free_memory=False, gitignore_content=_IGNORE_NOTHING
        )
        hashes = {operation.path_in_repo: operation.upload_info.sha256.hex() for operation in added}
        self._refuse_changed([name for name, file in self.entry.files.items() if hashes[name] != file.sha256])
        done = self.api.create_commit(
            repo,
            [*added, *(CommitOperationDelete(path_in_repo=name, is_folder=False) for name in removed)],
            commit_message=self.entry.message,
            revision=reference,
            parent_commit=parent,
        )
        return str(done.oid)

    def _tag(self) -> None:
        """Set the tag on the published commit; "auto" takes the version that it has, or the next one."""
        repo, commit, tag = self.entry.repo, self.entry.commit, self.entry.tag
        if tag is None:
            return
        if tag == AUTO_TAG:
            tags = self._tags()
            versions = {int(match[1]): name for name in tags if (match := re.fullmatch(r"v(\d+)", name))}
            mine = [name for _, name in sorted(versions.items()) if tags[name] == commit]
            tag = mine[-1] if mine else f"v{max(versions, default=0) + 1}"
        self.api.create_tag(repo, tag=tag, revision=commit, exist_ok=True)
        target = self._tags().get(tag)
        if target == commit:
            self._record(tag=tag)
        elif target is not None and self.entry.tag == AUTO_TAG:  # another push took this version at the same time
            self._tag()
        else:
            raise PushError(
                f"The tag {tag} of {repo} exists already and points to {str(target)[:12]}, not to {str(commit)[:12]}.",
                fix="The files are pushed and verified. Choose another tag, or delete that one on the Hub.",
                commit=commit,
            )

    def _remove_staging(self) -> None:
        """Remove the branch that an earlier version uploaded to first."""
        if (self.entry.staging or "").startswith("incoming-"):
            with contextlib.suppress(Exception):  # a leftover branch does no harm
                self.api.delete_branch(self.entry.repo, branch=str(self.entry.staging))

    # -- the Hub's side --------------------------------------------------------------------

    def _head(self, reference: str) -> str:
        return str(self.api.model_info(self.entry.repo, revision=reference).sha)

    def _tree(self, commit: str) -> dict[str, Any]:
        if commit not in self._trees:
            self._trees[commit] = list_commit(self.api, self.entry.repo, commit)
        return self._trees[commit]

    def _tags(self) -> dict[str, str]:
        return {ref.name: ref.target_commit for ref in self.api.list_repo_refs(self.entry.repo).tags}

    def _superfluous(self, tree: Iterable[str]) -> list[str]:
        """Files of an older push: on the branch of checkpoints everything else, elsewhere what a package may hold."""
        others = [name for name in tree if name not in self.entry.files]
        if self.entry.kind == "checkpoint":
            return [name for name in others if name != ".gitattributes"]
        return [name for name in others if layout.is_package_file(name)]

    # -- this side -------------------------------------------------------------------------

    def _record(self, **changes: Any) -> None:
        self.entry = self.queue.update(self.entry, **changes)

    def _key(self) -> str:
        """Twelve digits that no other push has."""
        stated = json.dumps([self.entry.id, self.entry.created, str(self.queue.path.resolve())])
        return hashlib.sha256(stated.encode()).hexdigest()[:12]

    def _check_files(self) -> None:
        """Refuse files that changed while they waited: what is uploaded is what was scanned and verified."""
        folder, changed = self.queue.folder(self.entry), []
        for name, expected in self.entry.files.items():
            rewritten = self.entry.kind == "package" and name in _REWRITTEN
            if not (folder / name).is_file() or (not rewritten and describe_file(folder / name) != expected):
                changed.append(name)
        self._refuse_changed(changed)

    def _refuse_changed(self, names: list[str]) -> None:
        if names:
            self.entry = self.queue.close(self.entry, "superseded")  # it cannot end well any more
            raise PushError(
                f"{self.queue.folder(self.entry)} is not as it was written: {listed(names)} changed or went missing.",
                fix=f"Push again: hf-trainpipe push {self.queue.owner} {self.entry.repo}",
            )

    def _prepare_card(self, head: str) -> None:
        """Merge hand-written sections of the card on the Hub, at commit ``head``, into the card of this push."""
        if self.entry.kind != "package" or _CARD not in self.entry.files:
            return
        folder = self.queue.folder(self.entry)
        original = self.queue.card(self.entry)
        if not original.exists():
            write_bytes(original, (folder / _CARD).read_bytes())
        card = original.read_text(encoding="utf-8")
        if _CARD in self._tree(head):
            with tempfile.TemporaryDirectory(dir=self.queue.path, prefix=".tmp-card-") as place:
                found = self.api.hf_hub_download(self.entry.repo, _CARD, revision=head, local_dir=place)
                card = merge(card, Path(found).read_text(encoding="utf-8", errors="replace"))
        if (folder / _CARD).read_text(encoding="utf-8") != card:
            write_bytes(folder / _CARD, card.encode())
        described = describe_file(folder / _CARD)
        manifest = json.loads((folder / layout.MANIFEST).read_bytes())
        facts = {"size": described.size, "sha256": described.sha256}
        if manifest["files"].get(_CARD) != facts:
            layout.write_json(folder / layout.MANIFEST, {**manifest, "files": {**manifest["files"], _CARD: facts}})
        files = {**self.entry.files, **{name: describe_file(folder / name) for name in _REWRITTEN}}
        if files != self.entry.files:
            self._record(files=files)


def differences(tree: Mapping[str, Any], files: Mapping[str, File]) -> list[str]:
    """How what the Hub lists differs from what was to arrive; one phrase a file."""
    problems = []
    for name, file in files.items():
        entry = tree.get(name)
        if entry is None:
            problems.append(f"{name} is missing")
        elif entry.size != file.size:
            problems.append(f"{name} has {entry.size} bytes instead of {file.size}")
        elif entry.lfs is not None:
            if entry.lfs.sha256 != file.sha256:
                problems.append(f"{name} has another sha256")
        elif entry.blob_id != file.blob:
            problems.append(f"{name} has another git hash")
    return problems
