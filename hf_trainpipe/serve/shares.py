"""Fair scheduling: clients share the server equally, and the requests of a client share what the client gets.

Next is always a piece of the least served request of the least served client. A new one starts level with the least
served. So a small request never waits for a large one, whoever sent it, and of requests of one size the oldest is first.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol, TypeVar


@dataclass(eq=False, slots=True)
class Share:
    """How much work was done for a request so far."""

    client: str
    number: int
    served: float


class Waiting(Protocol):
    """A request that is queued."""

    @property
    def share(self) -> Share: ...


Item = TypeVar("Item", bound=Waiting)


class Shares:
    """The clients with queued requests, and how much each was served."""

    def __init__(self) -> None:
        self._served: dict[str, float] = {}
        self._numbers = count()

    def enter(self, client: str, waiting: Iterable[Waiting]) -> Share:
        """The share of a new request, beside those that are queued."""
        self._served.setdefault(client, min(self._served.values(), default=0.0))
        least = min((item.share.served for item in waiting if item.share.client == client), default=0.0)
        return Share(client, next(self._numbers), least)

    def serve(self, share: Share, cost: float) -> None:
        """Count work that was done for a request."""
        share.served += cost
        if share.client in self._served:
            self._served[share.client] += cost

    def forget(self, waiting: Iterable[Waiting]) -> None:
        """Drop clients without queued requests; they start anew when they come again."""
        there = {item.share.client for item in waiting}
        self._served = {client: served for client, served in self._served.items() if client in there}

    def turns(self, items: Sequence[Item], costs: Sequence[Sequence[float]]) -> Iterator[tuple[Item, int]]:
        """The pieces of all queued items, in the order in which they are served: an item, and the number of its piece.

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
