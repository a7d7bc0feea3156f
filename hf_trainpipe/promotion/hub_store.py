"""An alias in a repository of the Hub.

Packages are commits of the branch ``challenger``; the log is a file a record on the branch ``promotions``, each committed upon the one
before, so that the Hub itself refuses a second one under the same number. The tags ``champion`` and ``challenger`` follow:
``from_pretrained("user/name", revision="champion")``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import DataError
from hf_trainpipe.promotion.alias import CHALLENGER, Store

if TYPE_CHECKING:
    from hf_trainpipe.promotion.alias import Record

BRANCH = "promotions"
_FILE = re.compile(r"log/\d{6}\.json")
_MOVED = (409, 412)
"""What the Hub answers where somebody has committed meanwhile."""


class HubStore(Store):
    """A repository, made where it is missing. The token comes from the environment."""

    def __init__(self, repo: str) -> None:
        from huggingface_hub import HfApi

        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
            raise DataError(f"hub:{repo}: expected hub:USER/NAME.", fix="Write hub:user/reviews.")
        self._repo, self._api = repo, HfApi()
        self._known: dict[str, dict[str, Any]] = {}
        """Records that were read: they never change."""

    def describe(self) -> str:
        return f"hub:{self._repo}"

    def records(self) -> list[dict[str, Any]]:
        head = self._head()
        if head is None:
            return []
        names = sorted(
            entry.path
            for entry in self._api.list_repo_tree(self._repo, recursive=True, revision=head)
            if _FILE.fullmatch(entry.path)
        )
        for name in names:
            if name not in self._known:
                file = self._api.hf_hub_download(self._repo, name, revision=head)
                self._known[name] = json.loads(Path(file).read_bytes())
        return [self._known[name] for name in names]

    def append(self, number: int, record: Mapping[str, Any]) -> bool:
        from huggingface_hub import CommitOperationAdd
        from huggingface_hub.errors import HfHubHTTPError

        head, name = self._head(), f"log/{number:06}.json"
        if head is None:
            self._api.create_repo(self._repo, private=True, exist_ok=True)
            self._api.create_branch(self._repo, branch=BRANCH, exist_ok=True)
            head = self._head()
        if len(self.records()) >= number:
            return False
        content = json.dumps(record, ensure_ascii=False, indent=1).encode()
        try:
            self._api.create_commit(
                self._repo,
                [CommitOperationAdd(path_in_repo=name, path_or_fileobj=content)],
                commit_message=f"Record {number}: {record['kind']}",
                revision=BRANCH,
                parent_commit=head,
            )
        except HfHubHTTPError as error:
            if error.response is not None and error.response.status_code in _MOVED:
                return False
            raise
        return True

    def put(self, package: Path) -> str:
        from hf_trainpipe.hub.repository import push

        return str(push(package, self._repo, revision=CHALLENGER, tag=None)["commit"])

    def fetch(self, reference: str) -> Path:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(self._repo, revision=reference))

    def point(self, names: Mapping[str, Record]) -> None:
        tags = {ref.name: ref.target_commit for ref in self._api.list_repo_refs(self._repo).tags}
        for name, record in names.items():
            if tags.get(name) != record.package.reference:
                if name in tags:
                    self._api.delete_tag(self._repo, tag=name)
                self._api.create_tag(self._repo, tag=name, revision=record.package.reference, exist_ok=True)

    def _head(self) -> str | None:
        """The last commit of the log; None: there is no log yet."""
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        try:
            return str(self._api.model_info(self._repo, revision=BRANCH).sha)
        except (RepositoryNotFoundError, RevisionNotFoundError):
            return None
