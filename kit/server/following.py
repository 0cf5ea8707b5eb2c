"""Following what is live: the next release is made ready beside the one that answers, then takes over between two requests.

What answers is looked at each time, too: whether the waivers that it rests on still hold changes with the day alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable
from dataclasses import dataclass

from kit.errors import KitError
from kit.files import remove_tree
from kit.gate import Release
from kit.server.log import Log
from kit.server.metrics import Metrics
from kit.server.served import Current, Identity, Loaded, Served

StillHolds = Callable[[Identity], str]


@dataclass(frozen=True)
class Following:
    """Where the releases come from that may take over.

    Attributes:
        size: entries of the ledger; nothing else is read while it stays the same.
        find: the release that is live; None if none is.
        load: verifies a release and makes it ready; runs in a thread.
        still_holds: why what answers may not be served any more, in a sentence; empty if it may. Asked at every look.
    """

    size: Callable[[], int]
    find: Callable[[], Release | None]
    load: Callable[[Release], Loaded]
    still_holds: StillHolds


@dataclass(frozen=True)
class Pinned:
    """A release that stays, whatever becomes live.

    Attributes:
        still_holds: as in `Following`.
    """

    still_holds: StillHolds


class Follower:
    """Looks at what is live and lets it take over, once it is verified; one that is refused leaves all as it is.

    What answers and may not be served any more goes on to answer, but is not ready, until it may again.

    Args:
        current: what answers.
        following: where releases come from.
        metrics: are told of each change and refusal.
        log: likewise; of a refusal once for each release.
    """

    def __init__(self, current: Current, following: Following | Pinned, metrics: Metrics, log: Log) -> None:
        self._current, self._following, self._metrics, self._log = current, following, metrics, log
        self._seen = -1
        self._refused: set[str] = set()
        self._freeing: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._current.served.settings.poll_s):
                    await self._wake.wait()
            is_asked = self._wake.is_set()
            self._wake.clear()
            await self.look(is_asked=is_asked)

    def wake(self) -> None:
        """Look at once, and also if the ledger is as it was."""
        self._wake.set()

    async def look(self, *, is_asked: bool = False) -> None:
        """Look once: let take over what is live now, then see whether what answers may still be served.

        Args:
            is_asked: also if the ledger is as it was: a release that was refused is tried again.
        """
        if isinstance(self._following, Following):
            await self._follow(self._following, is_asked=is_asked)
        await self._judge(self._current.served)

    async def _follow(self, following: Following, *, is_asked: bool) -> None:
        what = "what is live"
        try:
            size = await asyncio.to_thread(following.size)
            if size == self._seen and not is_asked:
                return
            release = await asyncio.to_thread(following.find)
            self._seen = size
            if release is None:
                raise KitError("nothing is live any more")
            identity = self._current.served.identity
            if (release.id, release.manifest_sha256) == (identity.release, identity.manifest_sha256):
                return
            what = release.id
            self._take_over(await self._load(following, release))
        except Exception as error:  # noqa: BLE001  whatever a ledger or a model does, the old release goes on
            self._refuse(what, error)

    async def _judge(self, served: Served) -> None:
        """Keep why what answers may not be served any more; what cannot be told does not hold. Each reason is told once."""
        try:
            lapsed = await asyncio.to_thread(self._following.still_holds, served.identity)
        except Exception as error:  # noqa: BLE001  whatever a ledger does, requests are answered
            lapsed = f"whether its waivers still hold cannot be told: {_describe(error)}"
        if lapsed and lapsed != served.lapsed:
            self._metrics.failed_reloads.inc()
            identity = served.identity
            self._log.tell("refused", release=identity.release, reason=lapsed, serving=identity.release)
        elif served.lapsed and not lapsed:
            self._log.tell("renewed", release=served.identity.release)
        served.lapsed = lapsed

    async def wait_until_freed(self) -> None:
        """Return when no release of before is in memory any more."""
        while self._freeing:
            await asyncio.wait(set(self._freeing))

    async def _load(self, following: Following, release: Release) -> Loaded:
        """A release, made ready in a thread; if no one waits for it any more, its folder is removed again."""
        loading = asyncio.ensure_future(asyncio.to_thread(following.load, release))
        try:
            return await asyncio.shield(loading)
        except asyncio.CancelledError:
            await asyncio.wait({loading})
            if not loading.exception():
                await asyncio.to_thread(remove_tree, loading.result().folder)
            raise

    def _take_over(self, loaded: Loaded) -> None:
        served = Served(loaded, self._metrics)
        before = self._current.swap(served)
        self._metrics.reloads.inc()
        self._refused.clear()
        self._log.tell("switched", release=served.identity.release, before=before.identity.release)
        task = asyncio.create_task(_free_and_collect(before))
        self._freeing.add(task)
        task.add_done_callback(self._freeing.discard)

    def _refuse(self, what: str, error: Exception) -> None:
        self._metrics.failed_reloads.inc()
        if what not in self._refused:
            self._refused.add(what)
            going_on = self._current.served.identity.release
            self._log.tell("refused", release=what, reason=_describe(error), serving=going_on)


def _describe(error: Exception) -> str:
    """What an error says, if it is one that names no value of a request."""
    return str(error) if isinstance(error, KitError | OSError) else type(error).__name__


async def free(served: Served) -> None:
    """Let go of a release once its last request is answered: its thread, its folder, and with them its model."""
    await served.wait_until_idle()
    await asyncio.to_thread(served.batcher.close)
    await asyncio.to_thread(remove_tree, served.folder)


async def _free_and_collect(served: Served) -> None:
    await free(served)
    await asyncio.to_thread(gc.collect)  # a model refers to itself
