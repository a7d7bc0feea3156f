"""Clients (an address each) and their connections, which may be lost while a request is worked on."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

CALLER = "trainpipe.caller"
"""Key of the ASGI scope for the caller."""


class Caller:
    """The connection that a request came by.

    Args:
        client: Its requests count towards this client's share of the server.
    """

    __slots__ = ("_on_disconnect", "client")

    def __init__(self, client: str = "") -> None:
        self.client = client
        self._on_disconnect: Callable[[], object] | None = None

    def on_disconnect(self, cancel: Callable[[], object] | None) -> None:
        """Call ``cancel`` when the connection is lost; None: no more."""
        self._on_disconnect = cancel

    def disconnected(self) -> None:
        """The connection is lost."""
        if self._on_disconnect is not None:
            self._on_disconnect()


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
