"""Who asks: a client is an address, and a connection may go while its request is worked on."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

__all__ = ["CALLER", "Caller", "client_of"]

CALLER = "trainpipe.caller"
"""Where a scope holds the caller."""


class Caller:
    """A connection as the work on its requests sees it.

    Args:
        client: Whose share of the server its requests take.
    """

    __slots__ = ("_on_leave", "client")

    def __init__(self, client: str = "") -> None:
        self.client = client
        self._on_leave: Callable[[], object] | None = None

    def while_here(self, give_up: Callable[[], object] | None) -> None:
        """Call ``give_up`` when the connection is lost; None: no more."""
        self._on_leave = give_up

    def leave(self) -> None:
        """The connection is lost."""
        if self._on_leave is not None:
            self._on_leave()


def client_of(address: str) -> str:
    """The client behind an address: of IPv6 its network of 64 bits, which one host may use as it likes.

    >>> client_of("192.0.2.7"), client_of("2001:db8::1:2:3:4") == client_of("2001:db8::9")
    ('192.0.2.7', True)
    """
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address
