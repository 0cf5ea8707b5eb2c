"""What Prometheus is told, in a registry of our own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

if TYPE_CHECKING:
    from kit.server.served import Identity

MEDIA_TYPE = CONTENT_TYPE_LATEST.encode()
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Requests, batches, the queue, what is served, and how it changed."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("route", "version", "code")
        self._requests = Counter("kit_requests", "Requests that were answered.", labels, registry=self.registry)
        self._seconds = Histogram(
            "kit_request_seconds", "From a request's head to its answer.", ("route",),
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self._batch = Histogram("kit_batch_rows", "Rows of a model's call.", buckets=_ROWS, registry=self.registry)
        self._queue = Gauge("kit_queue_rows", "Rows that wait.", registry=self.registry)
        info = ("release", "model", "version", "manifest_sha256")
        self._release = Gauge("kit_release_info", "1 for the release that is served.", info, registry=self.registry)
        self.reloads = Counter("kit_reloads", "Releases that took over.", registry=self.registry)
        self.failed_reloads = Counter(
            "kit_failed_reloads", "Releases that were refused, or looks that failed.", registry=self.registry
        )
        self._counters: dict[tuple[str, str, int], tuple[Callable[[], None], Callable[[float], None]]] = {}
        self.count_batch = self._batch.observe

    def count_request(self, route: str, version: str, status: int, seconds: float) -> None:
        """Tell of an answer."""
        counters = self._counters.get((route, version, status))
        if counters is None:
            requests = self._requests.labels(route, version, str(status))
            counters = self._counters[route, version, status] = (requests.inc, self._seconds.labels(route).observe)
        counters[0]()
        counters[1](seconds)

    def tell_release(self, identity: Identity) -> None:
        """Tell what is served from now on."""
        self._release.clear()
        self._release.labels(identity.release, identity.model, identity.version, identity.manifest_sha256).set(1)

    def watch_queue(self, count: Callable[[], float]) -> None:
        """Where the rows that wait are counted."""
        self._queue.set_function(count)

    def encode(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)
