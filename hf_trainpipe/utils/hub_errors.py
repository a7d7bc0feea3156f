"""Why the Hugging Face Hub, or its cache on this machine, failed: each reason by its name.

The clients wrap the first error in others (transformers says "couldn't connect" whatever happened), so the whole chain
of an error is searched, the innermost first.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import NamedTuple

from hf_trainpipe.utils.secrets import scrub

FINAL = frozenset({"gated", "no-repository", "no-revision", "token", "forbidden"})
"""The Hub's answer is about the repository itself: a cached copy is no replacement."""


class Reason(NamedTuple):
    """A reason, as the end of a sentence, and what to do about it."""

    kind: str
    """``gated``, ``no-repository``, ``no-revision``, ``no-file``, ``token``, ``forbidden``, ``busy``, ``server``,
    ``timeout``, ``tls``, ``network``, ``offline``, ``disk``, ``access``, ``damaged``, ``code``, ``pickled``,
    ``unknown-kind`` or ``other``."""
    said: str
    fix: str


_NETWORK = ("httpx", "httpcore", "requests", "urllib3", "aiohttp")
_FOREIGN = (*_NETWORK, "huggingface_hub", "transformers", "datasets", "fsspec")
_FILES = "or name a folder made by save_pretrained."


def chain(error: BaseException) -> list[BaseException]:
    """The error and what it came from, the first cause first."""
    found: list[BaseException] = []
    here: BaseException | None = error
    while here is not None and here not in found:
        found.append(here)
        here = here.__cause__ or here.__context__
    return found[::-1]


def is_hub_error(error: BaseException) -> bool:
    """Whether an error comes from a client of the Hub, the network or the disk, rather than from a fault of ours."""
    return isinstance(error, OSError | ValueError) or type(error).__module__.startswith(_FOREIGN)


def status_of(error: BaseException) -> int | None:
    """The HTTP status of an answer that refused, where there was one."""
    return getattr(getattr(error, "response", None), "status_code", None)


def token_said() -> tuple[str, bool]:
    """Where the access token comes from, in words; whether there is one."""
    from huggingface_hub import get_token

    if os.environ.get("HF_TOKEN"):
        return "the token in HF_TOKEN", True
    return ("the token that `hf auth login` stored", True) if get_token() else ("HF_TOKEN, which is not set", False)


def reason_of(error: BaseException, *, repo: str, revision: str | None = None, kind: str = "model") -> Reason:
    """The first reason in an error's chain that has a name.

    Args:
        repo: ``user/name``.
        revision: The branch, tag or commit that was asked for.
        kind: ``model`` or ``data set``, for the sentence.
    """
    links = chain(error)
    read = [link for link in links if type(link).__module__.split(".")[0] == "huggingface_hub"]
    for link in (*read, *links):  # the client's own errors say more than a bare status
        for found in (_of_status(link, repo, revision, kind), _of_network(link), _of_disk(link)):
            if found is not None:
                return found
    for link in links:
        if (found := _of_text(link, repo, kind)) is not None:
            return found
    said = next(iter(_lines(error)), "")
    return Reason("other", f"{type(error).__name__}: {said:.200}", f"Correct the name, {_FILES}")


def _lines(error: BaseException) -> Iterator[str]:
    return (line.strip() for line in scrub(str(error)).splitlines() if line.strip())


def _of_status(error: BaseException, repo: str, revision: str | None, kind: str) -> Reason | None:
    """The status that the Hub answered."""
    from huggingface_hub import errors

    token, has_token = token_said()
    status = status_of(error)
    page = f"https://huggingface.co/{'datasets/' if kind == 'data set' else ''}{repo}"
    if isinstance(error, errors.GatedRepoError):
        then = f"wait until {token} may read it" if has_token else "set HF_TOKEN to a token that may read it"
        who = token if has_token else f"{token},"
        return Reason("gated", f"the {kind} is gated, and {who} has no access ({status or 403})",
                      f"Accept its terms on {page}, and {then}.")  # fmt: skip
    if isinstance(error, errors.RevisionNotFoundError):
        return Reason(
            "no-revision", f"it has no revision {revision or 'main'!r} (404)", "Name a branch, tag or commit."
        )
    if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
        file = next((line for line in _lines(error) if "url" in line.lower()), "").rstrip(".").rpartition("/")[2]
        return Reason("no-file", f"the repository lacks the file {file or 'that was asked for'} (404)",
                      "Choose a repository (or a revision) that has it.")  # fmt: skip
    if isinstance(error, errors.RepositoryNotFoundError) or status == 404:
        who = f"{token} may not see it" if has_token else "it is private and HF_TOKEN is not set"
        return Reason(
            "no-repository",
            f"the Hub knows no {kind} of that name, or {who} ({status or 404})",
            f"Correct the name (user/name). For a private {kind} set HF_TOKEN to a token that may read it.",
        )
    if status == 401:
        if not has_token:
            return Reason("token", "the Hub wants a token, and HF_TOKEN is not set (401)",
                          "Set HF_TOKEN to a token that may read it.")  # fmt: skip
        return Reason("token", f"the Hub rejected {token} (401)",
                      "Make a new token on https://huggingface.co/settings/tokens and set HF_TOKEN to it; for what is\n"
                      "public, unset it.")  # fmt: skip
    if status == 403:
        return Reason("forbidden", f"the Hub forbids it: {token} has no right to it (403)",
                      "Give the token the right to read this repository, or set HF_TOKEN to another.")  # fmt: skip
    if status == 429:
        after = getattr(getattr(error, "response", None), "headers", {}).get("Retry-After")
        wait = f"in {after} s" if after else "in some minutes"
        return Reason("busy", "the Hub had too many requests from here (429)",
                      f"Try again {wait}{'' if has_token else '; with HF_TOKEN set the limit is higher'}.")  # fmt: skip
    if status is not None and status >= 500:
        return Reason("server", f"the Hub has an internal error ({status})",
                      "Try again later; https://status.huggingface.co tells how it is.")  # fmt: skip
    if status is not None and status >= 400:
        return Reason("other", f"the Hub refused the request ({status})", f"Correct the name, {_FILES}")
    return None


def _of_disk(error: BaseException) -> Reason | None:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Reason("disk", f"the disk of the cache is full ({error.filename or _cache()})",
                      "Make room, or set HF_HOME to a folder on a larger disk.")  # fmt: skip
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return Reason("access", f"the cache cannot be written ({error.filename or _cache()})",
                      "Set HF_HOME to a folder that you may write.")  # fmt: skip
    name = type(error).__name__
    if isinstance(error, UnicodeDecodeError) or name in ("JSONDecodeError", "SafetensorError"):
        return Reason("damaged", f"a file of it in the cache is damaged ({name}: {next(_lines(error), ''):.120})",
                      f"Remove its folder below {_cache()} and run again: it is downloaded again.")  # fmt: skip
    return None


def _cache() -> str:
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)


_OFFLINE = Reason("offline", "HF_HUB_OFFLINE is set and the cache does not hold it",
                  f"Unset HF_HUB_OFFLINE once, on a network, to fill the cache; {_FILES}")  # fmt: skip


def _unreachable(why: str) -> Reason:
    said = f"the Hub cannot be reached{why} and the cache does not hold it"
    return Reason("network", said, f"Connect to the network; {_FILES}")


def _of_network(error: BaseException) -> Reason | None:
    """No answer came."""
    import ssl

    module, name, said = type(error).__module__.split(".")[0], type(error).__name__, str(error)
    if name == "OfflineModeIsEnabled":
        return _OFFLINE
    if isinstance(error, ssl.SSLError) or "CERTIFICATE_VERIFY_FAILED" in said or "SSLError" in name:
        return Reason("tls", f"the Hub's certificate is not trusted here ({next(_lines(error), name):.120})",
                      "Behind a proxy with its own certificate set SSL_CERT_FILE to it; check the clock too.")  # fmt: skip
    if isinstance(error, TimeoutError) or (module.startswith(_FOREIGN) and "Timeout" in name):
        return Reason(
            "timeout", f"the Hub did not answer in time ({name})", f"Try again, or check the network; {_FILES}"
        )
    connects = isinstance(error, ConnectionError) or (
        module.startswith(_NETWORK)
        and any(word in name for word in ("Connect", "Network", "Read", "Write", "Protocol", "Proxy"))
    )
    if connects:
        return _unreachable(f" ({name})")
    return None


def pickled(repo: str) -> Reason:
    """The reason of a repository that has its weights only as pickles."""
    return Reason(
        "pickled",
        "it has no weights in safetensors format",
        "Pickle files can run code when they are loaded, so they are refused. Convert them once, where you trust them:\n"
        f"python -c \"from transformers import AutoModel as M, AutoTokenizer as T; r, p = {repo!r}, 'FOLDER'; "
        'M.from_pretrained(r, use_safetensors=False).save_pretrained(p); T.from_pretrained(r).save_pretrained(p)"\n'
        "and name that folder; or choose a revision that has model.safetensors (often refs/pr/1).",
    )


def _of_text(error: BaseException, repo: str, kind: str) -> Reason | None:
    """Errors of transformers and datasets that only their text tells apart."""
    said = str(error)
    if "trust_remote_code" in said:
        return Reason("code", f"the {kind} has custom code ({repo}), which was not run",
                      "Read that code; if you trust it, set model.trust_remote_code=True and pin model.revision."
                      if kind == "model" else "Choose a data set without a script, or save it to files and use Files.")  # fmt: skip
    if "does not recognize this architecture" in said or "Unrecognized model" in said:
        return Reason("unknown-kind", f"its config.json is of a kind that this version of transformers does not know"
                      f" ({next(_lines(error), ''):.160})", "Update transformers, or choose another model.")  # fmt: skip
    if "use_safetensors" in said or "pytorch_model.bin" in said or "no file named model.safetensors" in said:
        return pickled(repo)
    if isinstance(error, OSError) and type(error).__name__ == "LocalEntryNotFoundError":
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
        return _OFFLINE if offline else _unreachable("")
    if "is not a local folder and is not a valid model identifier" in said:
        return Reason("no-repository", f"the Hub knows no {kind} of that name", "Correct the name (user/name).")
    return None
