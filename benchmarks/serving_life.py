"""Serving under load while releases change, and told to end under load: each answer is checked, none may be lost.

    python benchmarks/serving_life.py [--minutes 10] [--changes 50] [--ends 8]

First `kit serve --env production` is asked all the time by 16 connections, each 50 times a second at most, over both
protocols, JSON and binary. Promotes and rollbacks go through the real use cases; only the gate's probes, which start
TensorFlow in processes of their own, are fakes. After half of the changes the server is told to look (SIGHUP; after
every twentieth by 200 of them), otherwise it polls. In the middle a release is damaged, refused, mended and taken. Then servers
are ended by SIGTERM while 16 and 64 connections ask as fast as they can, half of them while a release is being loaded.

Prints figures and the two goals; 1 if one is missed. Models add a constant of their own, so a mixed answer shows in its value.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from loads import DESCRIPTIONS, PREDICTIONS, Load
from served_lives import ServedLife, Server, make_models

N_CONNECTIONS, PAUSE_S = 16, 0.02
POLL_S = 0.5
HANGUPS = 200  # of a storm
FULL_S = 2.0  # of load before a server is ended
DOOMED = 4  # the model that is damaged


def main(minutes: float, n_changes: int, n_ends: int) -> int:
    """Print what was measured; 1 if an answer failed, was mixed or was lost."""
    with tempfile.TemporaryDirectory(prefix="kit-benchmark-") as name:
        life = ServedLife(Path(name) / "project", make_models(Path(name) / "models", DOOMED), POLL_S)
        life.promote_model(1)
        n_wrong = change_under_load(life, minutes, n_changes)
        n_lost = sum(end_under_load(life, number) for number in range(n_ends))
    print(f"failed, mixed, unanswered and refused while releases changed: {n_wrong} (goal 0)")
    print(f"lost in {n_ends} ends under load: {n_lost} (goal 0)")
    return int(n_wrong + n_lost > 0)


def change_under_load(life: ServedLife, minutes: float, n_changes: int) -> int:
    """Let releases change at even intervals; gives how many answers were not as they must be."""
    with serving(life, N_CONNECTIONS, PAUSE_S) as (server, load):
        start, seconds = time.monotonic(), []
        for number in range(n_changes):
            time.sleep(max(0.0, start + number * minutes * 60 / n_changes - time.monotonic()))
            if number == n_changes // 2:
                damage_and_mend(life, server, load)
            seconds.append(change(life, server, load, number))
            if number in (0, n_changes - 1):
                print(f"memory after change {number + 1}: {server.memory_bytes / 2**20:,.0f} MiB", flush=True)
        time.sleep(max(0.0, start + minutes * 60 - time.monotonic()))
        (last,) = load.wait_for_rounds(2)
        load.stop()
        wall_s = time.monotonic() - start
        code = server.end(signal.SIGTERM)
    switched = sum(line["event"] == "switched" for line in server.lines)
    refused = [line["release"] for line in server.lines if line["event"] == "refused"]
    live = life.archive.live_release("production")
    print(f"{n_changes} changes in {wall_s / 60:.1f} min, {switched} times another took over, refused: {refused}")
    print(f"from a change to the take-over: median {statistics.median(seconds):.2f} s, most {max(seconds):.2f} s")
    faults = report(life, load, wall_s)
    print(f"live {live and live.id}, served {last}; exit code {code}", flush=True)
    return faults + (live is None or live.id != last) + (code != 0) + (len(refused) != 1)


def change(life: ServedLife, server: Server, load: Load, number: int) -> float:
    """Change what is live, wait until all clients are answered by it; gives the seconds until it took over."""
    release = life.change(number)
    start = time.monotonic()
    if number % 4 < 2:
        server.hang_up(HANGUPS if number % 20 == 0 else 1)
    server.wait_for_switch(release)
    seconds = time.monotonic() - start
    found = load.wait_for_rounds(2)
    assert found == {release}, f"{release} is live, and {found} answer"
    return seconds


def damage_and_mend(life: ServedLife, server: Server, load: Load) -> None:
    """A release whose model's bytes were changed is refused and the old one goes on; once mended, it is taken."""
    (sound,) = load.wait_for_rounds(2)
    with contextlib.ExitStack() as damage:
        with server.stopped():
            damaged = life.promote_model(DOOMED)
            damage.enter_context(life.damaged(damaged))
        server.hang_up(HANGUPS)
        refused = server.wait_for(event="refused", release=damaged)
        assert load.wait_for_rounds(2) == {sound}
    print(f"{damaged} refused, {sound} goes on: {refused['reason']}", flush=True)
    server.hang_up()
    server.wait_for_switch(damaged)


def end_under_load(life: ServedLife, number: int) -> int:
    """End a server while it is asked as fast as clients can; gives how many requests were sent and not answered well."""
    n_connections = (16, 64)[number % 2]
    with serving(life, n_connections, 0.0) as (server, load):
        time.sleep(FULL_S)
        if is_loading := number % 4 < 2:
            life.promote_model(1 + number % 3)
            server.hang_up()
        n_before, start = load.n_answers, time.monotonic()
        code = server.end(signal.SIGTERM)
        wall_s = time.monotonic() - start
        load.join()
    left = list((life.project.scratch / "serving").iterdir())
    n_lost = load.n_unanswered + sum(load.answers[each] for each in load.answers if each.fault(life.constants))
    n_lost += abs(load.n_answers - server.n_requests)
    print(
        f"SIGTERM at {n_connections} connections{' while a release was loaded' * is_loading}: exit code {code} after "
        f"{wall_s:.1f} s, {load.n_answers - n_before:,} answers since, {load.n_answers:,} in all, "
        f"{server.n_requests:,} in the log, {load.n_unanswered} unanswered, {len(left)} folders left",
        flush=True,
    )
    return n_lost + (code != 0) + len(left)


def report(life: ServedLife, load: Load, wall_s: float) -> int:
    """Print what clients saw; gives how many of it must not be."""
    times = sorted(load.seconds)
    p50, p99 = (times[int(len(times) * share)] * 1000 for share in (0.5, 0.99))
    faults = load.faults(life.constants)
    n_faults = sum(load.answers[each] for each in load.answers if each.fault(life.constants))
    kinds = {each.kind: 0 for each in load.answers}
    for each, number in load.answers.items():
        kinds[each.kind] += number
    print(
        f"{len(times):,} answers, {len(times) / wall_s:,.0f} a second, by {len({e.release for e in load.answers})} releases"
    )
    print("  " + ", ".join(f"{kind} {number:,}" for kind, number in sorted(kinds.items())))
    print(f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, most {times[-1] * 1000:.0f} ms")
    print(f"faulty {n_faults}, unanswered {load.n_unanswered}, refused {load.n_refused}")
    print("".join(f"  {fault}\n" for fault in faults), end="", flush=True)
    return n_faults + load.n_unanswered + load.n_refused


@contextlib.contextmanager
def serving(life: ServedLife, n_connections: int, pause_s: float) -> Iterator[tuple[Server, Load]]:
    """While entered, a server is asked all the time."""
    kinds = PREDICTIONS + DESCRIPTIONS if pause_s else PREDICTIONS  # at its end a server says that it is not ready
    with contextlib.closing(Server(life)) as server, Load(server.address, n_connections, pause_s, kinds) as load:
        load.wait_for_rounds(2)
        yield server, load


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--changes", type=int, default=50)
    parser.add_argument("--ends", type=int, default=8)
    options = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.exit(main(options.minutes, options.changes, options.ends))
