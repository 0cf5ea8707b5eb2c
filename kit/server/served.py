"""What is served: a release's model with its queue, held by the requests that were accepted for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from kit.decision import Waiver
from kit.environment import Serving
from kit.model.servable import Servable
from kit.server.batcher import Batcher, Outputs
from kit.server.metrics import Metrics
from kit.server.tensors import Layout, Rows


class Identity(msgspec.Struct, frozen=True):
    """Which release answers.

    Attributes:
        release: id, such as `production-4`.
        model: its name in addresses.
        version: its version in addresses, the number of the release.
        manifest_sha256: digest of its release.json.
        signature: name of the SavedModel's signature.
        platform: as the Open Inference Protocol names kinds of models.
        waivers: that its verdict relies on; empty if it passed its gate without any.
    """

    release: str
    model: str
    version: str
    manifest_sha256: str
    signature: str
    platform: str
    waivers: tuple[Waiver, ...] = ()


class Loaded(msgspec.Struct, frozen=True):
    """A verified release, ready to answer.

    Attributes:
        identity: which one.
        servable: its model.
        settings: of the release's frozen configuration.
        folder: its private folder, removed when it is freed.
    """

    identity: Identity
    servable: Servable
    settings: Serving
    folder: Path


class Served:
    """A loaded release that answers; every answer comes from exactly one. Made in the event loop that it serves."""

    def __init__(self, loaded: Loaded, metrics: Metrics) -> None:
        self.identity, self.settings, self.folder = loaded.identity, loaded.settings, loaded.folder
        self.signature = loaded.servable.signature
        self.layout = Layout(self.signature.inputs, loaded.settings.max_queue_rows)
        self.batcher = Batcher(
            loaded.servable.predict,
            self.layout,
            loaded.settings.max_batch_rows,
            loaded.settings.max_queue_rows,
            metrics.count_batch,
        )
        self.lapsed = ""  # why it may not be served any more, a sentence; the follower keeps it
        self.headers = ((b"x-kit-release", loaded.identity.release.encode()),)
        self._n_held = 0
        self._freed = asyncio.Event()

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """While entered, it is not freed."""
        self._n_held += 1
        try:
            yield
        finally:
            self._n_held -= 1
            if not self._n_held:
                self._freed.set()

    @property
    def is_stuck(self) -> bool:
        """True while the model is at a batch for longer than anybody waits: it may never come back."""
        return self.batcher.busy_s() > self.settings.timeout_s

    async def ask(self, rows: Rows) -> Outputs:
        """The model's answers; see `Batcher.ask`."""
        return await self.batcher.ask(rows)

    async def wait_until_idle(self) -> None:
        """Return when no request holds it."""
        while self._n_held:
            self._freed.clear()
            await self._freed.wait()


class Current:
    """The release that requests are accepted for now, and whether the server is about to end."""

    def __init__(self, served: Served, metrics: Metrics) -> None:
        self.served, self._metrics = served, metrics
        self.is_draining = False
        self.n_open = 0  # requests that are being answered
        metrics.watch_queue(lambda: float(self.served.batcher.n_queued_rows))
        metrics.tell_release(served.identity)
        self._on_swap: list[Callable[[Served], None]] = []

    def call_on_swap(self, call: Callable[[Served], None]) -> None:
        """Call it with each release that takes over, before the first request is accepted for it."""
        self._on_swap.append(call)

    def swap(self, served: Served) -> Served:
        """Let another release answer from now on; gives the one that did."""
        before = self.served
        for call in self._on_swap:
            call(served)
        self.served = served
        self._metrics.tell_release(served.identity)
        return before
