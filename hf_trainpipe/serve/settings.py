"""Settings of a server, with safe defaults."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, fields
from pathlib import Path

from hf_trainpipe.errors import TrainpipeError

TOKEN_VARIABLE = "HF_TRAINPIPE_TOKEN"
"""Environment variable with the bearer token that requests must carry."""
_SHORTEST_TOKEN = 16


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of one request, and of all that are queued. A request beyond them is refused, never shortened."""

    body_bytes: int = 2 << 20
    """Counted while the body streams in; more: 413."""
    bodies_bytes: int = 64 << 20
    """Of all large bodies in memory at a time; more: 429."""
    inputs: int = 256
    """Inputs of a request; more: 413."""
    characters: int = 200_000
    """Characters of a request, counted before tokenising; more: 413."""
    tokens: int = 32_768
    """Tokens of a request, those of overlapping windows included; more: 413."""
    queue: int = 256
    """Inputs that are queued for the model; a request beyond them: 429."""
    deadline_s: float = 10.0
    """Seconds from the whole request to its answer; later: 503."""
    body_s: float = 10.0
    """Seconds that a head may take to arrive, a body after it, and a client to take its answer; later: 408."""
    header_bytes: int = 32 << 10
    """Request line and headers of a request; more: 431."""
    headers: int = 100
    """Headers of a request, those behind its body included; more: 431."""
    connections: int = 512
    """Connections at a time; for one more, the one that sends or idles for longest is closed."""
    idle_s: float = 30.0
    """Seconds that a connection may be idle between two requests."""

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if not value > 0:
                raise TrainpipeError(f"{limit.name}: expected more than 0, found {value}.", fix="Raise it.")


@dataclass(frozen=True, kw_only=True)
class Watching:
    """What a server watches of its texts."""

    folder: Path
    """Of the state; a server that starts again goes on with it."""
    share: float = 0.1
    """Of the texts, drawn by chance."""
    keeps_texts: bool = False
    """Whether the texts that moved an alarm are written into the folder."""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise TrainpipeError(f"watch-share: expected a share in (0, 1], found {self.share:g}.", fix="Write 0.1.")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where and how a server listens."""

    host: str = "127.0.0.1"
    port: int = 8000
    """0: any free port; the first line on stderr names it."""
    token: str | None = field(default=None, repr=False)
    """Bearer token that requests must carry. Needed for any interface but loopback."""
    limits: Limits = field(default_factory=Limits)
    batch_tokens: int | None = None
    """Tokens of a batch, padding included; None: 512 on a CPU, 16,384 on a GPU."""
    notice_s: float = 0.5
    """After SIGTERM: seconds in which new requests are still answered; each closes its connection."""
    drain_s: float = 30.0
    """Seconds after that for accepted requests to end."""
    watching: Watching | None = None
    """Whether drifts are watched for; None: no."""
    access_log: bool = False
    """A line of JSON a request on stderr, without any text of it."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise TrainpipeError(f"port: expected 0 to 65535, found {self.port}.", fix="Correct it.")
        if self.batch_tokens is not None and self.batch_tokens < 1:
            raise TrainpipeError(f"batch_tokens: expected 1 or more, found {self.batch_tokens}.", fix="Raise it.")
        if self.notice_s < 0 or self.drain_s < 0:
            raise TrainpipeError("notice_s and drain_s: expected 0 or more seconds.", fix="Correct them.")
        if self.token is None and not is_loopback(self.host):
            raise TrainpipeError(
                f"host: {self.host} can be reached by others, and there is no token.",
                fix=f"Set {TOKEN_VARIABLE} in the environment, or stay on 127.0.0.1.",
            )
        if self.token is not None and (len(self.token) < _SHORTEST_TOKEN or not self.token.isascii()):
            raise TrainpipeError(
                f"{TOKEN_VARIABLE}: expected {_SHORTEST_TOKEN} ASCII characters or more.",
                fix="""Make one: python -c "import secrets; print(secrets.token_urlsafe(32))".""",
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
