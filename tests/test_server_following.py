"""Following what is live: who takes over when, who is refused, and what is left of the one before."""

import asyncio
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
from servers import RECORD, FakeModel, InProcess, make_loaded, serving

from kit.errors import IntegrityError
from kit.gate import Release
from kit.server.following import Follower, Following, Pinned
from kit.server.served import Identity
from kit.testing import START


class Ledger:
    """What is live, as a follower sees it, and how often it looked."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.n_entries, self.live, self.n_found = folder, 1, "production-4", 0
        self.fails: dict[str, Exception] = {}
        self.models: dict[str, FakeModel] = {}
        self.lapsed: dict[str, str | Exception] = {}

    def promote(self, release: str) -> None:
        self.n_entries, self.live = self.n_entries + 1, release

    def find(self) -> Release | None:
        self.n_found += 1
        if not self.live:
            return None
        environment, _, number = self.live.rpartition("-")
        return Release(
            id=self.live, environment=environment, number=int(number), time=START, who="ana", record="r",
            manifest_sha256="0" * 64,
        )  # fmt: skip

    def load(self, release: Release) -> Any:
        if release.id in self.fails:
            raise self.fails[release.id]
        return make_loaded(FakeModel(offset=float(release.number)), self.folder / release.id, release.id)

    def still_holds(self, identity: Identity) -> str:
        lapsed = self.lapsed.get(identity.release, "")
        if isinstance(lapsed, Exception):
            raise lapsed
        return lapsed

    def follow(self, it: InProcess) -> Follower:
        following = Following(lambda: self.n_entries, self.find, self.load, self.still_holds)
        return Follower(it.current, following, it.metrics, it.log)


def run(act: Any, folder: Path, **settings: Any) -> None:
    async def main() -> None:
        async with serving(FakeModel(), folder / "first", **settings) as it:
            ledger = Ledger(folder)
            await act(it, ledger, ledger.follow(it))

    asyncio.run(main())


def events(it: InProcess) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "time"} for line in it.lines if "event" in line]


def test_nothing_is_read_while_the_ledger_stays_as_it_is(tmp_path):
    async def act(it: InProcess, ledger: Ledger, follower: Follower) -> None:
        for _ in range(3):
            await follower.look()
        assert ledger.n_found == 1
        ledger.n_entries += 1  # of something else
        await follower.look()
        assert ledger.n_found == 2
        assert events(it) == []

    run(act, tmp_path)


def test_promote_and_rollback_take_over_and_the_one_before_is_freed(tmp_path):
    async def act(it: InProcess, ledger: Ledger, follower: Follower) -> None:
        first = weakref.ref(it.served)
        folder = it.served.folder
        del it.served
        for release in ("production-5", "production-4"):
            ledger.promote(release)
            await follower.look()
            answer = await it.predict(instances=[RECORD])
            assert answer.headers["x-kit-release"] == release
            assert answer.json() == {"predictions": [pytest.approx(0.1 + int(release[-1]))]}
        await follower.wait_until_freed()
        assert not folder.exists()
        assert first() is None
        assert it.figure("kit_reloads_total") == 2
        assert events(it) == [
            {"event": "switched", "release": "production-5", "before": "production-4"},
            {"event": "switched", "release": "production-4", "before": "production-5"},
        ]

    run(act, tmp_path)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (IntegrityError("a byte was changed"), "a byte was changed"),
        (RuntimeError("secret"), "RuntimeError"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_release_that_is_refused_leaves_the_old_one_and_is_told_once(tmp_path, error, reason):
    async def act(it: InProcess, ledger: Ledger, follower: Follower) -> None:
        ledger.fails["production-5"] = error
        ledger.promote("production-5")
        await follower.look()
        await follower.look()  # nothing new in the ledger: not tried again
        assert it.figure("kit_failed_reloads_total") == 1
        await follower.look(is_asked=True)
        assert it.figure("kit_failed_reloads_total") == 2
        told = {"event": "refused", "release": "production-5", "reason": reason, "serving": "production-4"}
        assert events(it) == [told]
        assert (await it.predict(instances=[RECORD])).headers["x-kit-release"] == "production-4"
        ledger.fails.clear()
        await follower.look(is_asked=True)
        assert (await it.predict(instances=[RECORD])).headers["x-kit-release"] == "production-5"

    run(act, tmp_path)


def test_what_is_live_that_cannot_be_told_leaves_the_old_one(tmp_path):
    async def act(it: InProcess, ledger: Ledger, follower: Follower) -> None:
        ledger.promote("")
        await follower.look()
        told = {"event": "refused", "release": "what is live", "reason": "nothing is live any more"}
        assert events(it) == [{**told, "serving": "production-4"}]
        assert (await it.predict(instances=[RECORD])).status_code == 200

    run(act, tmp_path)


def test_it_looks_when_it_is_woken(tmp_path):
    async def act(it: InProcess, ledger: Ledger, follower: Follower) -> None:
        swapped = asyncio.Event()
        it.current.call_on_swap(lambda _: swapped.set())
        running = asyncio.create_task(follower.run())
        ledger.promote("production-5")
        follower.wake()
        await swapped.wait()
        running.cancel()
        await asyncio.wait([running])

    run(act, tmp_path, poll_s=3600.0)


def test_it_looks_by_itself(tmp_path):
    async def act(it: InProcess, ledger: Ledger, follower: Follower) -> None:
        swapped = asyncio.Event()
        it.current.call_on_swap(lambda _: swapped.set())
        running = asyncio.create_task(follower.run())
        ledger.promote("production-5")
        await swapped.wait()
        running.cancel()
        await asyncio.wait([running])

    run(act, tmp_path, poll_s=0.01)


def test_release_that_comes_too_late_leaves_no_folder(tmp_path):
    entered, opened = threading.Event(), threading.Event()

    async def act(it: InProcess, ledger: Ledger, follower: Follower) -> None:
        load = ledger.load

        def wait_and_load(release: Release) -> Any:
            entered.set()
            assert opened.wait(60)
            return load(release)

        ledger.load = wait_and_load  # type: ignore[method-assign]
        ledger.promote("production-5")
        looking = asyncio.create_task(ledger.follow(it).look())
        await asyncio.to_thread(entered.wait, 60)
        looking.cancel()
        opened.set()
        await asyncio.wait({looking})
        assert looking.cancelled()
        assert not (tmp_path / "production-5").exists()
        assert it.current.served.identity.release == "production-4"

    run(act, tmp_path)


def test_no_request_fails_or_is_mixed_while_releases_change(tmp_path):
    async def act(it: InProcess, ledger: Ledger, follower: Follower) -> None:
        done = asyncio.Event()
        answers: list[tuple[int, str, float]] = []

        async def ask() -> None:
            while not done.is_set():
                answer = await it.predict(instances=[RECORD])
                answers.append((answer.status_code, answer.headers["x-kit-release"], answer.json()["predictions"][0]))

        asking = [asyncio.create_task(ask()) for _ in range(8)]
        for number in range(5, 25):
            ledger.promote(f"production-{number}")
            await follower.look()
        done.set()
        await asyncio.gather(*asking)
        await follower.wait_until_freed()
        offsets = {"production-4": 0.0, **{f"production-{number}": float(number) for number in range(5, 25)}}
        assert {status for status, _, _ in answers} == {200}
        assert all(abs(value - 0.1 - offsets[release]) < 1e-3 for _, release, value in answers)
        assert len({release for _, release, _ in answers}) > 1

    run(act, tmp_path)


async def readiness(it: InProcess) -> dict[str, int]:
    paths = ("/v2/health/live", "/v2/health/ready", "/v2/models/flights/ready", "/v1/models/flights")
    return {path: (await it.client.get(path)).status_code for path in paths}


READY = {"/v2/health/live": 200, "/v2/health/ready": 200, "/v2/models/flights/ready": 200, "/v1/models/flights": 200}
NOT_READY = {**dict.fromkeys(READY, 503), "/v2/health/live": 200}
EXPIRED = {"event": "refused", "release": "production-4", "reason": "a waiver expired", "serving": "production-4"}


def test_release_whose_waiver_ends_is_not_ready_but_answers_until_it_is_renewed(tmp_path):
    async def act(it: InProcess, ledger: Ledger, follower: Follower) -> None:
        await follower.look()
        assert await readiness(it) == READY
        ledger.lapsed["production-4"] = "a waiver expired"  # by the day alone: the ledger has no new entry
        for _ in range(3):
            await follower.look()
        assert await readiness(it) == NOT_READY
        assert (await it.client.get("/v1/models/flights")).json()["ready"] is False
        assert (await it.predict(instances=[RECORD])).status_code == 200
        ledger.lapsed.clear()
        await follower.look()
        assert await readiness(it) == READY
        assert it.figure("kit_failed_reloads_total") == 1
        assert events(it) == [EXPIRED, {"event": "renewed", "release": "production-4"}]

    run(act, tmp_path)


def test_another_release_that_takes_over_is_ready_again(tmp_path):
    async def act(it: InProcess, ledger: Ledger, follower: Follower) -> None:
        ledger.lapsed["production-4"] = "a waiver expired"
        await follower.look()
        ledger.promote("production-5")
        await follower.look()
        assert await readiness(it) == READY
        switched = {"event": "switched", "release": "production-5", "before": "production-4"}
        assert events(it) == [EXPIRED, switched]

    run(act, tmp_path)


def test_waivers_are_looked_at_also_when_what_is_live_is_refused(tmp_path):
    async def act(it: InProcess, ledger: Ledger, follower: Follower) -> None:
        ledger.fails["production-5"] = IntegrityError("a byte was changed")
        ledger.promote("production-5")
        ledger.lapsed["production-4"] = "a waiver expired"
        await follower.look()
        assert await readiness(it) == NOT_READY

    run(act, tmp_path)


def test_release_of_which_cannot_be_told_whether_it_holds_is_not_ready(tmp_path):
    async def act(it: InProcess, ledger: Ledger, follower: Follower) -> None:
        ledger.lapsed["production-4"] = IntegrityError("entry 3 was changed")
        await follower.look()
        assert await readiness(it) == NOT_READY
        reason = "whether its waivers still hold cannot be told: entry 3 was changed"
        assert events(it) == [{**EXPIRED, "reason": reason}]

    run(act, tmp_path)


def test_pinned_release_is_looked_at_by_itself_too(tmp_path):
    async def act(it: InProcess, ledger: Ledger, _: Follower) -> None:
        looked = asyncio.Event()
        loop = asyncio.get_running_loop()

        def still_holds(identity: Identity) -> str:
            if it.served.lapsed:
                loop.call_soon_threadsafe(looked.set)
            return "a waiver expired"

        running = asyncio.create_task(Follower(it.current, Pinned(still_holds), it.metrics, it.log).run())
        ledger.promote("production-5")
        await looked.wait()
        running.cancel()
        await asyncio.wait([running])
        assert await readiness(it) == NOT_READY
        assert events(it) == [EXPIRED]

    run(act, tmp_path, poll_s=0.01)
