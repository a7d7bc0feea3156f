"""Whose turn it is, who finds room, and which connection has to go."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from itertools import islice
from types import SimpleNamespace

import pytest

from hf_trainpipe.serve.admission import Admission
from hf_trainpipe.serve.callers import Caller
from hf_trainpipe.serve.connections import ConnectionPool
from hf_trainpipe.serve.refusals import Refusal
from hf_trainpipe.serve.settings import Limits
from hf_trainpipe.serve.shares import Share, Shares


@dataclass(eq=False)
class Asked:
    name: str
    share: Share


def enter(shares: Shares, waiting: list[Asked], *requests: tuple[str, str]) -> None:
    for name, client in requests:
        waiting.append(Asked(name, shares.enter(client, waiting)))


def order(shares: Shares, waiting: list[Asked], pieces: dict[str, int], *, most: int = 100) -> str:
    turns = shares.turns(waiting, [[1.0] * pieces.get(item.name, 1) for item in waiting])
    return "".join(item.name for item, _ in islice(turns, most))


def test_of_requests_alike_the_oldest_is_first() -> None:
    shares, waiting = Shares(), list[Asked]()
    enter(shares, waiting, *((name, "one") for name in "abcd"))
    assert order(shares, waiting, {}) == "abcd"


def test_a_small_request_waits_for_no_large_one_of_the_same_client_or_of_others() -> None:
    shares, waiting = Shares(), list[Asked]()
    enter(shares, waiting, ("L", "one"), ("M", "one"))
    for item in waiting:
        shares.serve(item.share, 50)
    enter(shares, waiting, ("a", "one"), ("b", "two"))
    assert order(shares, waiting, {"L": 50, "M": 50}, most=8) in ("LbMaLMLM", "LbMbaLML", "bLMaLMLM")
    # Two clients get the same, however many requests each has.
    enter(shares, waiting, *((name, "two") for name in "cdefgh"))
    turns = order(shares, waiting, {"L": 50, "M": 50}, most=12)
    assert abs(sum(turns.count(name) for name in "LMa") - sum(turns.count(name) for name in "bcdefgh")) <= 1


def test_who_comes_again_begins_where_the_least_served_are() -> None:
    shares, waiting = Shares(), list[Asked]()
    enter(shares, waiting, ("L", "one"), ("x", "two"))
    shares.serve(waiting[0].share, 1000)
    shares.serve(waiting[1].share, 900)
    shares.forget(waiting[:1])  # two got its answer
    del waiting[1]
    enter(shares, waiting, ("y", "two"))
    assert order(shares, waiting, {"L": 9, "y": 3}, most=6) == "LyLyLy", "no credit for the time away"


def test_room_is_kept_for_small_requests_and_for_other_clients() -> None:
    admission = Admission(Limits(queue=32, inputs=64, characters=2000))
    with contextlib.ExitStack() as held:
        for count in (20, 4):
            held.enter_context(admission.admit("one", count, 100))
        with pytest.raises(Refusal, match="429"):  # three quarters of a lane are a client's
            held.enter_context(admission.admit("one", 4, 100))
        held.enter_context(admission.admit("two", 4, 100))
        with pytest.raises(Refusal, match="429"):
            held.enter_context(admission.admit("two", 5, 100))
        held.enter_context(admission.admit("one", 1, 10))
        assert admission.waiting == 29
    assert admission.waiting == 0
    with admission.admit("one", 64, 2000):  # an empty lane takes any
        assert admission.waiting == 64


def test_where_there_is_no_room_the_longest_silent_connection_of_the_busiest_client_goes() -> None:
    dropped: list[str] = []

    def connection(name: str, client: str) -> SimpleNamespace:
        return Hashable(name=name, caller=Caller(client), drop=lambda: dropped.append(name))

    pool = ConnectionPool(4)
    kept, first, second, third = (connection(*pair) for pair in (("kept", "a"), ("1", "b"), ("2", "b"), ("3", "b")))
    assert all(pool.enter(one) for one in (kept, first, second, third))
    pool.becomes(third, "idle")
    assert pool.enter(connection("4", "c"))
    assert dropped == ["1"], "one that sends nothing before an idle one"
    for one in (kept, second):
        pool.becomes(one, "answered")
    assert pool.enter(connection("5", "c"))
    assert dropped == ["1", "4"]
    assert pool.enter(connection("6", "c"))
    assert dropped == ["1", "4", "5"]


class Hashable(SimpleNamespace):
    __hash__ = object.__hash__  # type: ignore[assignment]
