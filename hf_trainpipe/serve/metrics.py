"""Metrics for Prometheus: counts and times, no texts and no clients."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

if TYPE_CHECKING:
    from collections.abc import Callable

    from hf_trainpipe.watch.sequence import Windows

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)
_FEATURES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self._requests = Counter(
            "trainpipe_requests", "Requests by route and status.", ("route", "status"), registry=registry
        )
        self._seconds = Histogram(
            "trainpipe_request_seconds",
            "From the head of a request to its response.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._refused = Counter("trainpipe_refused", "Requests without an answer.", ("reason",), registry=registry)
        self.tokens = Counter("trainpipe_tokens", "Tokens of requests, special ones included.", registry=registry)
        self._padded = Counter(
            "trainpipe_padded_tokens", "Tokens that were computed, padding included.", registry=registry
        )
        self._features = Histogram(
            "trainpipe_batch_features", "Features of a batch.", buckets=_FEATURES, registry=registry
        )
        self.model_seconds = Counter("trainpipe_model_seconds", "Time in the model.", registry=registry)
        self.record = Gauge("trainpipe_alias_record", "Record of the alias whose package answers.", registry=registry)
        self._swaps = Counter(
            "trainpipe_swaps",
            "Packages that an alias named meanwhile, taken or refused.",
            ("outcome",),
            registry=registry,
        )
        self.waiting = Gauge("trainpipe_waiting_inputs", "Inputs accepted and not answered yet.", registry=registry)

    def request(self, *, route: str, status: int, seconds: float) -> None:
        """Count a request. ``route`` is one of the server's own, never what a client wrote."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def refused(self, reason: str) -> None:
        """Count a request that got no answer."""
        self._refused.labels(reason).inc()

    def swapped(self, outcome: str) -> None:
        """Count a package that was to take over."""
        self._swaps.labels(outcome).inc()

    def batch(self, *, features: int, computed: int) -> None:
        """Count a batch of the model."""
        self._features.observe(features)
        self._padded.inc(computed)

    @cached_property
    def _watch(self) -> tuple[Counter, dict[str, Gauge]]:
        """What only a server that watches has."""
        registry = self._registry
        texts = Counter("trainpipe_watch_texts", "Texts that were measured.", registry=registry)
        return texts, {
            "on": Gauge(
                "trainpipe_watch_on", "1 while texts of the package that answers are watched.", registry=registry
            ),
            "windows": Gauge("trainpipe_watch_windows", "Windows that were tested.", registry=registry),
            "evidence": Gauge(
                "trainpipe_watch_evidence", "Evidence of a drift; begins with 1.", ("signal",), registry=registry
            ),
            "needed": Gauge("trainpipe_watch_evidence_needed", "Evidence at which a signal alarms.", registry=registry),
            "drifted": Gauge("trainpipe_watch_drifted", "1 once a drift was shown.", registry=registry),
        }

    def sampled(self, texts: int) -> None:
        """Count texts that were measured."""
        self._watch[0].inc(texts)

    def watching(self, is_on: Callable[[], bool]) -> None:
        """From now on ask this whether texts of the package that answers are watched, and no package before."""
        self._watch[1]["on"].set_function(is_on)

    def watched(self, windows: Windows) -> None:
        """Tell where the watch stands."""
        gauges = self._watch[1]
        gauges["windows"].set(windows.windows)
        gauges["needed"].set(windows.needed)
        gauges["drifted"].set(windows.alarm is not None)
        for name, evidence in windows.evidence.items():
            gauges["evidence"].labels(name).set(evidence.money)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)
