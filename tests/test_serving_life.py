"""`kit serve` under load: releases change, one is damaged, hangups come in storms, and at last it is told to end."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from loads import DESCRIPTIONS, PREDICTIONS, Answer, Load
from served_lives import ServedLife, Server, make_models

from kit.errors import IntegrityError

HANGUPS = 200  # of a storm


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_models(tmp_path_factory.mktemp("models") / "all", 4)


@pytest.fixture
def life(tmp_path: Path, models: list[Path]) -> ServedLife:
    life = ServedLife(tmp_path / "project", models, poll_s=0.1)
    life.promote_model(1)
    return life


@contextlib.contextmanager
def loaded(life: ServedLife, n_connections: int = 8, **options) -> Iterator[tuple[Server, Load]]:
    """While entered, the server is asked all the time."""
    with contextlib.closing(Server(life)) as server, Load(server.address, n_connections, **options) as load:
        load.wait_for_rounds(2)
        yield server, load


def folders_of(life: ServedLife) -> list[Path]:
    return list((life.project.scratch / "serving").iterdir())


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (Answer("v2 JSON", 200, "production-2", "2", frozenset({2000.0})), ""),
        (Answer("v1 rows", 200, "production-2", "", frozenset({2000.0})), ""),
        (Answer("v1 rows", 503, "production-2", "", frozenset()), "status 503"),
        (Answer("v1 rows", 200, "production-3", "", frozenset({2000.0})), "release 'production-3' may not answer"),
        (
            Answer("v2 JSON", 200, "production-2", "1", frozenset({2000.0})),
            "header names production-2, body version 1",
        ),
        (
            Answer("v1 rows", 200, "production-2", "", frozenset({1000.0, 2000.0})),
            "production-2 adds 2000.0, but [1000.0, 2000.0] was added",
        ),
    ],
)
def test_clients_see_what_is_wrong_with_an_answer(answer, fault):
    assert answer.fault({"production-1": 1000.0, "production-2": 2000.0}) == fault


@pytest.mark.kernel
def test_no_answer_fails_or_is_of_two_releases_while_they_change(life):
    with loaded(life) as (server, load):  # without a pause, so that at each change some wait for their answer
        for number in range(8):
            release = life.change(number)
            if number % 4 < 2:
                server.hang_up()  # otherwise it looks by itself
            server.wait_for_switch(release)
            assert load.wait_for_rounds(2) == {release}
        waited_for = set(life.constants)
        for number in range(8, 13):  # too quick for each of them to be loaded
            release = life.change(number)
        server.wait_for_switch(release)
        assert load.wait_for_rounds(2) == {release}
        load.stop()
        assert load.faults(life.constants) == []
        assert (load.n_unanswered, load.n_refused) == (0, 0)
        assert {answer.release for answer in load.answers} >= waited_for
        assert {answer.kind for answer in load.answers} == {kind.name for kind in PREDICTIONS + DESCRIPTIONS}
        assert server.end(signal.SIGTERM) == 0
    assert folders_of(life) == []


@pytest.mark.kernel
def test_damaged_release_is_refused_in_storms_of_hangups_until_it_is_mended(life):
    sound = "production-1"
    with loaded(life, pause_s=0.01) as (server, load), contextlib.ExitStack() as damage:
        with server.stopped():
            damaged = life.promote_model(4)
            damage.enter_context(life.damaged(damaged))
        server.hang_up(HANGUPS)
        refused = server.wait_for(event="refused", release=damaged)
        assert refused["serving"] == sound
        assert "saved_model/variables/variables.data-00000-of-00001: object" in refused["reason"]
        with pytest.raises(IntegrityError, match="variables"):
            life.promote_model(4)
        server.hang_up(HANGUPS)
        assert load.wait_for_rounds(2) == {sound}
        assert load.faults({sound: life.constants[sound]}) == []
        damage.close()
        server.hang_up(HANGUPS)
        server.wait_for_switch(damaged)
        assert load.wait_for_rounds(2) == {damaged}
        load.stop()
        assert load.faults(life.constants) == []
        assert (load.n_unanswered, load.n_refused) == (0, 0)
        server.hang_up(HANGUPS)
        assert server.end(signal.SIGTERM) == 0
        assert sum(line["event"] == "refused" for line in server.lines) == 1


@pytest.mark.kernel
def test_terminated_under_load_while_a_release_is_loaded_it_answers_all_that_was_sent(life):
    with loaded(life, n_connections=16, kinds=PREDICTIONS) as (server, load):
        load.wait_for_rounds(20)
        life.promote_model(2)
        server.hang_up()
        assert server.end(signal.SIGTERM) == 0
        load.join()
    assert load.faults(life.constants) == []
    assert (load.n_unanswered, load.n_refused) == (0, 16)
    assert load.n_answers == server.n_requests
    assert server.lines[-1]["event"] == "stopped"
    assert folders_of(life) == []
