"""One push, from the outbox to the Hub, in steps that can each be repeated.

1. The files go to a branch of their own, ``incoming-*``, in one commit; every hash there is compared.
2. One commit brings them to the target branch, with the commit that it is built upon named as its parent: the Hub
   takes it as a whole or not at all, and refuses it if somebody else pushed in between (then it is done again
   on top of theirs). Large files are there already by then. Every hash is compared once more.
3. The commit is tagged, and the branch of step 1 is removed.

So a reader of the target branch or of a tag never sees half a model. A pull request stops after its own step 1.
The Hub has no call that moves a branch to a given commit; a commit with a parent is its atomic operation.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hf_trainpipe.checkpoint.atomic import write_bytes
from hf_trainpipe.errors import PushError
from hf_trainpipe.hub.push_queue import describe_file
from hf_trainpipe.hub.retry import limit_silence
from hf_trainpipe.package import layout
from hf_trainpipe.package.card_merge import merge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hf_trainpipe.hub.push_queue import Entry, File, PushQueue
    from hf_trainpipe.hub.retry import Patience

__all__ = ["AUTO_TAG", "upload", "differences"]

_T = TypeVar("_T")
AUTO_TAG = "auto"
_CARD = "README.md"
_REWRITTEN = (_CARD, layout.MANIFEST)
"""Files that a merge with the card on the Hub may change while the entry waits."""


def upload(queue: PushQueue, entry: Entry, *, patience: Patience) -> Entry:
    """Bring an entry to its end, from where it is; the caller holds the outbox's lock.

    Raises:
        PushError: refused, or the Hub stayed unreachable; the entry says why and stays open.
    """
    work = _Upload(queue, queue.update(entry, tries=entry.tries + 1), patience)
    try:
        return work.run()
    except PushError as error:
        queue.update(work.entry, error=error.message)
        raise


class _Upload:
    def __init__(self, queue: PushQueue, entry: Entry, patience: Patience) -> None:
        self.queue = queue
        self.entry = entry
        self.patience = patience

    def run(self) -> Entry:
        from huggingface_hub import HfApi, constants

        entry, retry = self.entry, self.queue.retry_command
        if constants.HF_HUB_OFFLINE:
            raise PushError("HF_HUB_OFFLINE is set: nothing can be pushed.", fix=f"Unset it, then:\n{retry}")
        limit_silence()
        self.api = HfApi()
        self._check_files()
        self._attempt("create the repository", self._repository)
        published = entry.state == "published"
        if entry.pull_request:
            if not published:
                self._attempt("open the pull request", self._pull_request)
        else:
            if entry.branch != "main":
                self._attempt("create the branch", lambda: self._create_branch(entry.branch, None))
            if not published:
                self._attempt("upload", self._publish)
            self._attempt("set the tag", self._tag)
            self._remove_staging()
        return self.queue.close(self.entry, "done")

    # -- steps -----------------------------------------------------------------------------

    def _repository(self) -> None:
        repo = self.entry.repo
        self.api.create_repo(repo, private=self.entry.private, exist_ok=True)
        if self.entry.private and not self.api.model_info(repo).private:
            raise PushError(
                f"{repo} exists and is public, and this push was asked to be private.",
                fix="Push with --public (private=False) if everybody may see it, or name another repository.",
                repo=repo,
            )

    def _publish(self) -> None:
        """One commit on the target branch; safe to repeat, also where only its answer was lost."""
        head = self._head(self.entry.branch)
        self._prepare_card(head)
        commit = head
        if not self._fits(head):
            if self.entry.staged_commit is None or self.entry.base != head:
                self._stage(head)
            commit = self._commit(self.entry.branch, head)
            self._verify(commit)
        url = f"{self.api.endpoint}/{self.entry.repo}/commit/{commit}"
        self._record(state="published", commit=commit, url=url)

    def _stage(self, base: str) -> None:
        staging = self.entry.staging or f"incoming-{self._key()}"
        self._record(staging=staging)
        self._create_branch(staging, base)
        self._stage_on(staging, base)

    def _stage_on(self, reference: str, base: str) -> None:
        commit = self._head(reference)
        if not self._fits(commit):
            commit = self._commit(reference, commit)
        self._verify(commit)
        self._record(state="staged", staged_commit=commit, base=base)

    def _pull_request(self) -> None:
        """Open one (once, also where the answer was lost), put the files there, and mark it as ready."""
        repo = self.entry.repo
        title = f"{self.entry.message} ({self._key()})"
        known = self.api.get_repo_discussions(repo, discussion_type="pull_request")
        request = next((found for found in known if found.title == title), None)
        if request is None:
            request = self.api.create_pull_request(repo, title=title, description="Pushed by hf-trainpipe.")
        base = self._head("main")
        self._prepare_card(base)
        self._record(staging=f"refs/pr/{request.num}")
        self._stage_on(f"refs/pr/{request.num}", base)
        if request.status == "draft":
            self.api.change_discussion_status(repo, request.num, "open")
        url = f"{self.api.endpoint}/{repo}/discussions/{request.num}"
        self._record(state="published", commit=self.entry.staged_commit, url=url)

    def _tag(self) -> None:
        """Set the tag on the published commit; "auto" takes the version that it has, or the next one."""
        repo, commit, tag = self.entry.repo, self.entry.commit, self.entry.tag
        if tag is None:
            return
        if tag == AUTO_TAG:
            tags = {ref.name: ref.target_commit for ref in self.api.list_repo_refs(repo).tags}
            versions = {int(match[1]): name for name in tags if (match := re.fullmatch(r"v(\d+)", name))}
            mine = [name for _, name in sorted(versions.items()) if tags[name] == commit]
            tag = mine[-1] if mine else f"v{max(versions, default=0) + 1}"
        self.api.create_tag(repo, tag=tag, revision=commit, exist_ok=True)
        target = next((ref.target_commit for ref in self.api.list_repo_refs(repo).tags if ref.name == tag), None)
        if target != commit:
            raise PushError(
                f"The tag {tag} of {repo} exists already and points to {str(target)[:12]}, not to {str(commit)[:12]}.",
                fix="The files are pushed and verified. Choose another tag, or delete that one on the Hub.",
                repo=repo,
                commit=commit,
            )
        self._record(tag=tag)

    def _remove_staging(self) -> None:
        if self.entry.staging is not None:
            with contextlib.suppress(Exception):  # a branch that is left over harms nobody
                self.api.delete_branch(self.entry.repo, branch=self.entry.staging)

    # -- the Hub's side --------------------------------------------------------------------

    def _head(self, reference: str) -> str:
        return str(self.api.model_info(self.entry.repo, revision=reference).sha)

    def _create_branch(self, branch: str, base: str | None) -> None:
        self.api.create_branch(self.entry.repo, branch=branch, revision=base, exist_ok=True)

    def _tree(self, commit: str) -> dict[str, Any]:
        entries = self.api.list_repo_tree(self.entry.repo, recursive=True, revision=commit)
        return {entry.path: entry for entry in entries if hasattr(entry, "blob_id")}

    def _fits(self, commit: str) -> bool:
        """Whether a commit holds these files and nothing of an older push beside them."""
        tree = self._tree(commit)
        return not differences(tree, self.entry.files) and not self._superfluous(tree)

    def _superfluous(self, tree: Mapping[str, Any]) -> list[str]:
        """Files of an older push. On the branch of checkpoints that is everything else; elsewhere what a package holds."""
        others = [name for name in tree if name not in self.entry.files]
        if self.entry.kind == "checkpoint":
            return [name for name in others if name != ".gitattributes"]
        return [name for name in others if layout.is_package_file(name)]

    def _commit(self, reference: str, parent: str) -> str:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        folder, removed = self.queue.folder(self.entry), self._superfluous(self._tree(parent))
        operations: list[Any] = [
            CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(folder / name)) for name in self.entry.files
        ]
        operations += [CommitOperationDelete(path_in_repo=name, is_folder=False) for name in removed]
        if reference == self.entry.branch or self.entry.pull_request:
            self._record(removed=tuple(removed))
        done = self.api.create_commit(
            self.entry.repo,
            operations,
            commit_message=self.entry.message,
            revision=reference,
            parent_commit=parent,
        )
        return str(done.oid)

    def _verify(self, commit: str) -> None:
        if problems := differences(self._tree(commit), self.entry.files):
            raise PushError(
                f"The commit {commit[:12]} of {self.entry.repo} differs from the package: {'; '.join(problems)}.",
                fix=f"Push again:\n{self.queue.retry_command}",
                repo=self.entry.repo,
                commit=commit,
                problems=problems,
            )

    # -- this side -------------------------------------------------------------------------

    def _attempt(self, what: str, call: Callable[[], _T]) -> _T:
        return self.patience.run(what, call, repo=self.entry.repo, retry=self.queue.retry_command)

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
        if changed:
            self.entry = self.queue.close(self.entry, "superseded")  # it cannot end well any more
            raise PushError(
                f"{folder} is not as it was written: {', '.join(changed[:10])} changed or went missing.",
                fix=f"Push again: hf-trainpipe push {self.queue.owner} {self.entry.repo}",
                files=changed,
            )

    def _prepare_card(self, head: str) -> None:
        """Take what people wrote into the card on the Hub into the card that goes there."""
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
            self._record(files=files, staged_commit=None)


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
