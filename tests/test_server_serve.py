"""`kit serve` as a process: what it refuses to start with, how it follows, and how it ends."""

import concurrent.futures
import json
import os
import signal
import socket
from pathlib import Path

import httpx
import pytest
from commands import Kit
from servers import LITERT, FakeModel, Process, Shop, make_litert, make_loaded, make_saved_model, running

from kit.errors import UsageError
from kit.release.export import export_release
from kit.release.rollback import roll_back
from kit.server.main import bind, serve

BODY = {"instances": [0.0, {"x": None}, {"x": 2}]}
QUICK = LITERT.replace("[gates", "poll_s = 0.05\n[gates")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "shop", QUICK)


@pytest.fixture
def kit(shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Kit:
    monkeypatch.chdir(shop.project.root)
    return Kit(shop.project, capsys)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ([], 2, "serve one thing: --env ENV, --release ID or --file FILE.kit"),
        (["--env", "production", "--release", "production-1"], 2, "serve one thing"),
        (["--env", "production", "--keys", "k.pem"], 2, "--keys goes with --file"),
        (["--env", "prodution"], 2, "environment 'prodution' does not exist; did you mean 'production'?"),
        (["--env", "production"], 1, "nothing is live in environment 'production'; `kit releases` lists them"),
        (["--release", "production-7"], 1, "there is no release 'production-7'"),
        (["--file", "gone.kit"], 2, "gone.kit"),
        (["--env", "production", "--host", "203.0.113.1"], 2, "cannot listen on 203.0.113.1, port 0"),
    ],
)
def test_what_cannot_be_served_is_said_before_anyone_can_connect(kit, arguments, code, sentence):
    called = kit("serve", *arguments, "--port", "0")
    assert (called.code, called.out) == (code, "")
    assert sentence in called.err


def test_release_that_is_damaged_is_not_served_at_all(kit, shop, tmp_path):
    folder = make_litert(tmp_path / "one")
    release = shop.release(folder)
    damaged = shop.archive.objects.path(shop.archive.read_manifest(release).artifact("model.tflite").sha256)
    damaged.chmod(0o644)
    damaged.write_bytes(damaged.read_bytes() + b"x")
    called = kit("serve", "--env", "production", "--port", "0", "--json")
    assert (called.code, called.json["error"]["kind"]) == (1, "IntegrityError")
    assert "release production-1: model.tflite: object" in called.err
    assert not (shop.project.scratch / "serving").exists()


@pytest.mark.parametrize("which", [("--release", "production-1"), ("--env", "production")])
def test_unsigned_release_is_not_served_once_the_file_demands_signed_work(kit, shop, tmp_path, which):
    shop.release(make_litert(tmp_path / "one"))
    file = shop.project.environments / "production.toml"
    file.write_text(file.read_text() + "[policy]\nsigned = true\n")
    called = kit("serve", *which, "--port", "0", "--json")
    assert (called.code, called.json["error"]["kind"]) == (1, "PolicyError")
    assert "(policy.signed)" in called.err


def test_port_that_is_taken_is_wrong_use(kit):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        called = kit("serve", "--env", "production", "--port", str(port))
    assert called.code == 2
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use; choose another" in called.err


def test_port_that_another_process_took_meanwhile_is_wrong_use(tmp_path):
    first = bind("127.0.0.1", 0)
    port = first.getsockname()[1]
    with first, bind("127.0.0.1", port) as second:  # no one listened yet
        first.listen()
        loaded = make_loaded(FakeModel(), tmp_path / "served")
        with pytest.raises(UsageError, match=f"cannot listen on http://127.0.0.1:{port}: Address already in use"):
            serve(lambda: loaded, second, lambda *_: None)
    assert not loaded.folder.exists()


def test_help_begins_with_an_example(kit):
    called = kit("serve", "--help")
    assert (called.code, called.out.splitlines()[0]) == (0, "Example: kit serve --env production --port 8501")


def predict(process: Process, model: str = "example") -> httpx.Response:
    return httpx.post(f"{process.address}/v1/models/{model}:predict", json=BODY)


def folders_of(shop: Shop) -> list[Path]:
    return list((shop.project.scratch / "serving").iterdir())


@pytest.mark.kernel
def test_it_follows_promotes_and_rollbacks_and_refuses_what_is_damaged(shop, tmp_path):
    shop.release(make_litert(tmp_path / "one", weight=1.0))
    with running(shop.project.root, "--env", "production") as process:
        assert process.announced == {
            "address": process.address,
            "model": "example",
            "release": "production-1",
            "version": "1",
        }
        maps = Path(f"/proc/{process.process.pid}/maps").read_text()
        assert ("tensorflow" in maps, "ai_edge_litert" in maps) == (False, True)
        first = predict(process)
        assert first.json()["predictions"] == [0.5, 0.5, pytest.approx(0.8808, abs=1e-4)]
        assert first.headers["x-kit-release"] == "production-1"
        shop.release(make_litert(tmp_path / "two", weight=2.0))
        process.wait_for(event="switched", release="production-2")
        second = predict(process)
        assert second.json()["predictions"] == [0.5, 0.5, pytest.approx(0.982, abs=1e-4)]
        roll_back(shop.workbench, "production", "two is too sure of itself")
        process.wait_for(event="switched", release="production-1")
        assert predict(process).json() == first.json()
        shop.release(make_litert(tmp_path / "three", weight=3.0), damaged="model.tflite")
        refused = process.wait_for(event="refused", release="production-3")
        assert "model.tflite: object" in refused["reason"]
        assert (predict(process).headers["x-kit-release"], refused["serving"]) == ("production-1", "production-1")
        metrics = httpx.get(f"{process.address}/metrics").text
        assert "kit_reloads_total 2.0" in metrics
        assert process.end(signal.SIGTERM) == 0
        assert process.lines[-1]["event"] == "stopped"
    assert folders_of(shop) == []


@pytest.mark.kernel
def test_hangup_looks_at_once_and_a_pinned_release_stays(tmp_path):
    shop = Shop(tmp_path / "shop", LITERT.replace("[gates", "poll_s = 3600.0\n[gates"))
    shop.release(make_litert(tmp_path / "one"))
    root = shop.project.root
    with running(root, "--env", "production") as following, running(root, "--release", "production-1") as pinned:
        shop.release(make_litert(tmp_path / "two", weight=2.0))
        following.process.send_signal(signal.SIGHUP)
        following.wait_for(event="switched", release="production-2")
        pinned.process.send_signal(signal.SIGHUP)
        pinned.wait_for(event="stayed")
        assert predict(pinned).headers["x-kit-release"] == "production-1"
        assert pinned.end(signal.SIGINT) == 0


@pytest.mark.kernel
def test_what_is_no_http_is_refused_and_told(shop, tmp_path):
    shop.release(make_litert(tmp_path / "one"))
    with running(shop.project.root, "--env", "production") as process:
        port = int(process.address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"secret\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 400 Bad Request")
        told = process.wait_for(event="http")
        assert (told["level"], told["detail"]) == ("warning", "Invalid HTTP request received.")
        with httpx.Client() as client:
            upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
            assert client.get(f"{process.address}/v2/health/live", headers=upgrade).status_code == 200
        assert process.end(signal.SIGTERM) == 0


@pytest.mark.kernel
def test_killed_server_leaves_what_the_next_one_sweeps(shop, tmp_path):
    shop.release(make_litert(tmp_path / "one"))
    with running(shop.project.root, "--env", "production") as process:
        assert process.end(signal.SIGKILL) == -signal.SIGKILL
    (left,) = folders_of(shop)
    with running(shop.project.root, "--env", "production") as process:
        assert left not in folders_of(shop)
        assert len(folders_of(shop)) == 1


def ask_until_refused(address: str) -> list[int]:
    """Status of each answer of one client that keeps its connection, until the server takes no more connections."""
    codes = []
    with httpx.Client() as client:
        while True:
            try:
                codes.append(client.post(f"{address}/v1/models/example:predict", json=BODY).status_code)
            except httpx.ConnectError:
                break
            except httpx.TransportError:
                continue  # closed before it took this request: a client asks again
    return codes


@pytest.mark.kernel
def test_terminated_under_load_it_answers_all_that_it_accepted(shop, tmp_path):
    shop.release(make_litert(tmp_path / "one"))
    with running(shop.project.root, "--env", "production") as process, concurrent.futures.ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask_until_refused, process.address) for _ in range(8)]
        process.wait_for(200, status=200)
        code = process.end(signal.SIGTERM)
        answers = [status for each in asking for status in each.result()]
    assert code == 0
    assert set(answers) == {200}
    # every request that the server took has a line, and every line's answer arrived
    assert len(answers) == sum("route" in line for line in process.lines)


@pytest.mark.kernel
def test_release_file_is_served_without_a_project(shop, tmp_path):
    release = shop.release(make_litert(tmp_path / "one"))
    file = tmp_path / "one.kit"
    export_release(shop.archive, release, file, "example")
    (tmp_path / "empty").mkdir()
    (tmp_path / "tmp").mkdir()
    with running(tmp_path / "empty", "--file", str(file), TMPDIR=str(tmp_path / "tmp")) as process:
        assert predict(process).json()["predictions"][:2] == [0.5, 0.5]
        assert process.announced["model"] == "example"
        assert process.end(signal.SIGTERM) == 0
    (base,) = (tmp_path / "tmp").iterdir()
    assert (base.name, list(base.iterdir())) == (f"kit-serving-{os.getuid()}", [])


@pytest.mark.kernel
def test_saved_model_is_served_and_followed(tmp_path):
    shop = Shop(tmp_path / "shop", "[serving]\npoll_s = 0.05\n")
    shop.release(make_saved_model(tmp_path / "one"))
    records = [{"name": "ab", "x": 2, "y": 0}, {"name": "", "x": None, "y": 1}]
    with running(shop.project.root, "--env", "production") as process:
        url = f"{process.address}/v1/models/example"
        found = json.loads(httpx.post(f"{url}:predict", json={"instances": records}).text)["predictions"]
        assert (found[0], str(found[1])) == (0.5, "nan")
        signature = httpx.get(f"{url}/metadata").json()["metadata"]["signature_def"]["signature_def"]
        assert sorted(signature["serving_default"]["inputs"]) == ["name", "x", "y"]
        (model,) = (shop.project.scratch / "serving").glob("*/model/example/1/saved_model.pb")
        shop.release(make_saved_model(tmp_path / "two", weight=2.0))
        process.wait_for(event="switched", release="production-2")
        again = httpx.post(f"{url}:predict", json={"instances": records[:1]})
        assert again.json() == {"predictions": [pytest.approx(0.8808, abs=1e-4)]}
        assert httpx.post(f"{url}/versions/1:predict", json={"instances": records}).status_code == 404
        assert process.end(signal.SIGTERM) == 0
    assert not model.exists()
