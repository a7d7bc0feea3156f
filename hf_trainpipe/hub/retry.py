"""Calls of the Hub: tried again where that may help, refused in plain words where it cannot."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from hf_trainpipe.errors import PushError
from hf_trainpipe.utils.backoff import backoff
from hf_trainpipe.utils.brief import first_line
from hf_trainpipe.utils.hub_errors import chain, is_hub_error
from hf_trainpipe.utils.secrets import scrub

_T = TypeVar("_T")
_TRANSIENT_STATUS = frozenset({408, 409, 412, 425, 429, 500, 502, 503, 504})
_TRANSIENT_ERRORS = frozenset({"TransportError", "TimeoutException", "NetworkError", "RemoteProtocolError"})
_LONGEST_WAIT_S = 60.0
_SILENCE_S = 120.0


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often a call is tried, and how long to wait in between.

    A wait is drawn from the upper half of ``wait_s`` times a power of two, so that many runs that lost the Hub at the
    same time do not all come back at the same time; a ``Retry-After`` header replaces it.
    """

    attempts: int = 4
    wait_s: float = 1.0
    """Seconds before the second try, doubled each time, 60 at most."""
    pause: Callable[[float], object] = field(default=time.sleep)

    def run(self, what: str, call: Callable[[], _T], *, repo: str, retry: str) -> _T:
        """Call until it works.

        Args:
            what: For the error: "upload", "set the tag".
            retry: The command that tries again later.

        Raises:
            PushError: refused (401, 403, ...: at once), or still failing at the last try. Its text holds no secrets
                and no signed addresses.
        """
        number = 1
        while True:
            try:
                return call()
            except PushError:
                raise
            except Exception as error:
                status, asked = status_of(error)
                transient = status in _TRANSIENT_STATUS if status is not None else _is_connection(error)
                if not (transient or is_hub_error(error) or isinstance(error, RuntimeError)):
                    raise  # a fault of our own
                if not transient or number == self.attempts:
                    raise _explain(what, error, status, repo=repo, retry=retry, tries=number) from None
            drawn = backoff(number, first_s=self.wait_s, longest_s=2 * _LONGEST_WAIT_S) * random.uniform(0.5, 1.0)
            self.pause(min(drawn if asked is None else asked, _LONGEST_WAIT_S))
            number += 1


USUAL = RetryPolicy()


def limit_silence(seconds: float | None = None) -> None:
    """Set a timeout for every request of the Hub's client, which has none by itself.

    Args:
        seconds: That a connection, or the next byte of it, may take; None: HF_TRAINPIPE_HUB_TIMEOUT, or 120.
    """
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    def make() -> Any:
        client = default_client_factory()
        client.timeout = seconds or float(os.environ.get("HF_TRAINPIPE_HUB_TIMEOUT") or _SILENCE_S)
        return client

    set_client_factory(make)


def retry_after(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Seconds that a ``Retry-After`` header (RFC 9110, 10.2.3) asks to wait: a number or a date.

    >>> retry_after({"Retry-After": "7"}), retry_after({}), retry_after({"Retry-After": "soon"})
    (7.0, None, None)
    >>> retry_after({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, now=datetime(2026, 10, 21, 7, 27, 30, tzinfo=UTC))
    30.0
    """
    text = str(headers.get("Retry-After", "")).strip()
    if text.isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (at - (now or datetime.now(UTC))).total_seconds())


def status_of(error: BaseException) -> tuple[int | None, float | None]:
    """The HTTP status behind ``error``, and the seconds that the server asks to wait."""
    for link in reversed(chain(error)):
        if (response := getattr(link, "response", None)) is not None:
            return int(response.status_code), retry_after(response.headers)
    return None, None


def _is_connection(error: BaseException) -> bool:
    return any(
        isinstance(link, (ConnectionError, TimeoutError, json.JSONDecodeError))
        or not _TRANSIENT_ERRORS.isdisjoint(kind.__name__ for kind in type(link).__mro__)
        for link in chain(error)
    )


def _explain(what: str, error: BaseException, status: int | None, *, repo: str, retry: str, tries: int) -> PushError:
    reason = scrub(first_line(error)).rstrip(".")
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
        status=status,
        reason=reason,
    )
