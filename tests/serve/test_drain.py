"""SIGTERM under load: what was accepted is answered, and the process ends with 0."""

from __future__ import annotations

import http.client
import signal
import threading
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.nightly import at_night
from tests.serve.conftest import JSON, Running, start

if TYPE_CHECKING:
    from pathlib import Path

BODY = b'{"inputs": ["ada lovelace lived in london", "she wrote programs"]}'


@dataclass
class Counted:
    answered: int = 0
    lost: list[str] = field(default_factory=list)
    refused: int = 0
    """Connections that the server did not accept any more: those that broke were made after the signal."""
    signalled: bool = False
    statuses: set[int] = field(default_factory=set)


def ask_until_refused(server: Running, counted: Counted, lock: threading.Lock, *, keeps: bool) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        while True:
            late = counted.signalled
            try:
                if connection.sock is None:
                    connection.connect()
            except ConnectionError:
                with lock:
                    counted.refused += 1
                return
            try:
                connection.request("POST", "/predict", BODY, JSON)
                response = connection.getresponse()
                response.read()
            except (ConnectionError, http.client.HTTPException) as error:
                with lock:
                    if late:
                        counted.refused += 1
                    else:
                        counted.lost.append(repr(error))
                return
            with lock:
                counted.answered += 1
                counted.statuses.add(response.status)
            if not keeps:
                connection.close()


MORE = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR2)
"""Sent while it drains already: none of them cuts it short."""


@pytest.mark.parametrize("number", [signal.SIGTERM, *at_night(signal.SIGUSR1)])
def test_nothing_accepted_is_lost(package: Path, tmp_path: Path, number: signal.Signals) -> None:
    counted, lock = Counted(), threading.Lock()
    with start(package, tmp_path / "log") as server:
        threads = [
            threading.Thread(target=ask_until_refused, args=(server, counted, lock), kwargs={"keeps": place % 2 == 0})
            for place in range(8)
        ]
        for thread in threads:
            thread.start()
        while counted.answered < 50:
            assert not counted.lost
        counted.signalled = True
        server.process.send_signal(number)
        for more in MORE:
            server.process.send_signal(more)
        for thread in threads:
            thread.join(60)
        assert server.process.wait(60) == 0, server.log.read_text()
    assert counted.lost == []
    assert counted.refused == len(threads)
    assert counted.statuses == {200}
    said = server.log.read_text().splitlines()
    assert said[-1] == "stopped"
    assert any(line.startswith("stopping already") for line in said)


def test_not_ready_while_it_leaves(package: Path, tmp_path: Path) -> None:
    with (
        start(package, tmp_path / "log") as server,
        closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection,
    ):
        connection.request("GET", "/ready")
        assert connection.getresponse().read() == b'{"status":"ready"}'
        server.process.send_signal(signal.SIGTERM)
        while "stopping" not in server.log.read_text():
            assert server.process.poll() is None
        connection.request("GET", "/ready")
        response = connection.getresponse()
        assert response.status == 503
        assert response.getheader("connection") == "close"
        connection.close()
        assert server.process.wait(60) == 0
