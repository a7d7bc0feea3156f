"""Whose turn it is: clients share the server, and a client's requests share what it gets.

Each client, and each request inside, is served as far as the others that wait: what is next is the next piece of the
request that got least, of the client that got least. Whoever comes new begins where the least served are. So a small
request waits for no large one, whoever sent it, and of requests of one size the oldest is first.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol, TypeVar

__all__ = ["Share", "Shares"]


@dataclass(eq=False, slots=True)
class Share:
    """What a request got so far."""

    client: str
    number: int
    served: float


class Waiting(Protocol):
    """A request that waits for its turns."""

    @property
    def share(self) -> Share: ...


Item = TypeVar("Item", bound=Waiting)


class Shares:
    """The clients that wait, and how far each was served."""

    def __init__(self) -> None:
        self._served: dict[str, float] = {}
        self._numbers = count()

    def enter(self, client: str, waiting: Iterable[Waiting]) -> Share:
        """The share of a new request, beside those that wait."""
        self._served.setdefault(client, min(self._served.values(), default=0.0))
        least = min((item.share.served for item in waiting if item.share.client == client), default=0.0)
        return Share(client, next(self._numbers), least)

    def serve(self, share: Share, cost: float) -> None:
        """Count what a request got."""
        share.served += cost
        if share.client in self._served:
            self._served[share.client] += cost

    def forget(self, waiting: Iterable[Waiting]) -> None:
        """Clients that wait for nothing any more begin anew when they come again."""
        there = {item.share.client for item in waiting}
        self._served = {client: served for client, served in self._served.items() if client in there}

    def turns(self, items: Sequence[Item], costs: Sequence[Sequence[float]]) -> Iterator[tuple[Item, int]]:
        """The pieces of all that waits in the order of their turns: an item, and the number of its piece.

        Args:
            costs: Of the pieces of each item, in their order.
        """
        inside: dict[str, list[tuple[float, int, int, int]]] = {}
        for place, item in enumerate(items):
            if costs[place]:
                share = item.share
                inside.setdefault(share.client, []).append((share.served, share.number, place, 0))
        clients = []
        for client, waiting in inside.items():
            heapq.heapify(waiting)
            clients.append((self._served.get(client, 0.0), waiting[0][1], client))
        heapq.heapify(clients)
        while clients:
            served, _, client = heapq.heappop(clients)
            waiting = inside[client]
            own, number, place, piece = heapq.heappop(waiting)
            yield items[place], piece
            cost = costs[place][piece]
            if piece + 1 < len(costs[place]):
                heapq.heappush(waiting, (own + cost, number, place, piece + 1))
            if waiting:
                heapq.heappush(clients, (served + cost, waiting[0][1], client))
