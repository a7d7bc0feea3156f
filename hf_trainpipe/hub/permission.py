"""Whether a push to a repository of the Hub would be allowed, asked without changing anything there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import PushError
from hf_trainpipe.hub.retry import RetryPolicy, limit_silence

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Hub

WRITES = frozenset({"admin", "write", "contributor"})
"""Roles in an organisation that may write to its repositories, or make one."""
_POLICY = RetryPolicy(attempts=2, wait_s=0.5)


def require_permission(hub: Hub, *, retry: str, seconds: float) -> None:
    """Ask the Hub who the token belongs to, and whether it may write to the recipe's repository.

    Args:
        retry: The command that asks again.
        seconds: Without data after which a request fails.

    Raises:
        PushError: no token, one that is refused or may not write, a name of somebody else, a public repository where a
            private one is asked for, or no answer.
    """
    from huggingface_hub import HfApi, constants, get_token

    repo, owner = hub.repo, hub.repo.partition("/")[0]
    if constants.HF_HUB_OFFLINE:
        raise PushError(
            f"hub.repo: expected to reach the Hub for {repo}, found HF_HUB_OFFLINE set.",
            fix="Unset it, or leave hub out.",
        )
    if not get_token():
        raise PushError(
            f"hub.repo: expected a token that may write to {repo}, found none.",
            fix="Log in with `hf auth login`, or set HF_TOKEN to a token that may write.",
        )
    limit_silence(seconds)
    api = HfApi()

    def ask(what: str, call: Any) -> Any:
        return _POLICY.run(what, call, repo=repo, retry=retry)

    told = ask("tell who the token belongs to", api.whoami)
    _check_owner(told, owner, repo)
    try:
        there = _POLICY.run("look for the repository", lambda: api.model_info(repo), repo=repo, retry=retry)
    except PushError as error:
        if vars(error).get("status") != 404:
            raise
        return  # the push makes it
    if hub.private and not there.private:
        raise PushError(
            f"hub.repo: expected {repo} to be private, found a public repository.",
            fix="Set hub.private to false if everybody may see it, or name another repository.",
        )
    ask("ask for the right to write", lambda: _ask_to_write(api, repo))


def _check_owner(told: dict[str, Any], owner: str, repo: str) -> None:
    """Refuse a token that only reads, and a repository of another user or of an organisation where the token may not write."""
    token = (told.get("auth") or {}).get("accessToken") or {}
    if token.get("role") == "read":
        raise PushError(
            f"hub.repo: expected a token that may write to {repo}, found one that may only read.",
            fix="Make a token with write access at https://huggingface.co/settings/tokens, and set HF_TOKEN to it.",
        )
    organisations = {str(one.get("name")): str(one.get("roleInOrg") or "write") for one in told.get("orgs") or ()}
    user = str(told.get("name"))
    if owner != user and organisations.get(owner) not in WRITES:
        role = f", where {user} may only read" if owner in organisations else ""
        names = ", ".join([user, *(name for name, held in organisations.items() if held in WRITES)])
        raise PushError(
            f"hub.repo: expected a repository of {names}, found {repo}{role}.",
            fix=f"Name it {user}/{repo.partition('/')[2]}, or use a token of {owner}.",
        )


def _ask_to_write(api: Any, repo: str) -> None:
    """What a commit of a small file asks first; nothing is sent."""
    from huggingface_hub import CommitOperationAdd

    api.preupload_lfs_files(repo, [CommitOperationAdd(path_in_repo="README.md", path_or_fileobj=b"card\n")])
