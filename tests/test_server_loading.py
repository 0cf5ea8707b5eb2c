"""From a release to a model that answers: what is verified before, and what is left when it is refused."""

import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
from servers import LITERT, Shop, make_litert, make_saved_model

from kit.decision import Waiver
from kit.errors import IntegrityError, KitError, PolicyError, UsageError
from kit.model.golden import Golden
from kit.model.servable import Field, Signature
from kit.release import give_waiver
from kit.release.export import export_release
from kit.server.loading import (
    Source,
    ask_golden,
    folder_without_project,
    load_file,
    load_release,
    private_folder,
    sweep,
    tell_past,
    watch_release,
)
from kit.testing import START, make_key

NOW = START + timedelta(days=1)
WAIVER = Waiver(
    environment="production", evidence="metric:auc", reason="known", until=date(2026, 3, 1), who="ana", time=START
)


def source_of(shop: Shop, **changes: Any) -> Source:
    facts = {"archive": shop.archive, "project": "example", "folder": shop.project.scratch / "serving"}
    return Source(**{**facts, "clock": lambda: NOW, **changes})


def left_behind(shop: Shop) -> list[str]:
    folder = shop.project.scratch / "serving"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def refusal(shop: Shop, release: Any, kind: type[KitError], **changes: Any) -> str:
    with pytest.raises(kind) as refused:
        load_release(source_of(shop, **changes), release)
    assert left_behind(shop) == []
    return str(refused.value)


def test_release_is_unpacked_into_a_private_folder_and_answers(tmp_path):
    shop = Shop(tmp_path / "shop", LITERT)
    shop.release(make_litert(tmp_path / "first"))
    release = shop.release(make_litert(tmp_path / "second", weight=2.0))
    loaded = load_release(source_of(shop), release)
    identity = loaded.identity
    assert (identity.release, identity.model, identity.version, identity.platform) == (
        "production-2",
        "example",
        "2",
        "tensorflow_lite",
    )
    assert identity.manifest_sha256 == release.manifest_sha256
    answer = loaded.servable.predict({"x": np.array([0.0], np.float32)})
    assert answer["p"].tolist() == [0.5]
    assert (loaded.folder / "owner").read_text().split()[0] == str(os.getpid())
    assert loaded.folder.stat().st_mode & 0o777 == 0o700


def test_settings_and_name_are_those_that_the_release_froze(tmp_path):
    shop = Shop(tmp_path / "shop", LITERT.replace("[gates", 'name = "delays"\nmax_batch_rows = 7\n[gates'))
    release = shop.release(make_litert(tmp_path / "model"))
    (shop.project.environments / "production.toml").write_text("")
    loaded = load_release(source_of(shop), release)
    assert (loaded.identity.model, loaded.settings.max_batch_rows) == ("delays", 7)


def test_name_that_cannot_be_part_of_an_address_is_refused(tmp_path):
    shop = Shop(tmp_path / "shop", LITERT)
    release = shop.release(make_litert(tmp_path / "model"))
    assert refusal(shop, release, UsageError, project="über/allem").startswith(
        "'über/allem' cannot be part of an address; set [serving] name in environments/production.toml"
    )


@pytest.mark.parametrize("name", ["model.tflite", "encoding.json", "golden.json", "extra.bin", "bundle.zip"])
def test_a_changed_byte_anywhere_is_refused(tmp_path, name):
    shop = Shop(tmp_path / "shop", LITERT)
    folder = make_litert(tmp_path / "model")
    (folder / "extra.bin").write_bytes(b"not needed for serving")
    release = shop.release(folder)
    manifest = shop.archive.read_manifest(release)
    artifact = manifest.artifact(name)
    path = shop.archive.objects.path(artifact.sha256 if artifact else manifest.bundle_sha256)
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert f"release production-1: {name}: object" in refusal(shop, release, IntegrityError)


def test_golden_rows_that_are_not_reproduced_are_refused(tmp_path):
    shop = Shop(tmp_path / "shop", LITERT)
    folder = make_litert(tmp_path / "model")
    golden = (folder / "golden.json").read_text()
    (folder / "golden.json").write_text(golden.replace("0.5", "0.6"))
    sentence = refusal(shop, shop.release(folder), IntegrityError)
    assert sentence.startswith("release production-1: golden predictions are not reproduced: largest difference 0.1")


def test_model_that_fails_or_takes_other_fields_is_refused():
    class Failing:
        signature = Signature((Field("x", "float32"),), (Field("p", "float32"),))

        def predict(self, _: Any) -> Any:
            raise ValueError("secret")

    with pytest.raises(IntegrityError, match=r"release r-1: the model fails on golden rows: ValueError$"):
        ask_golden(Failing(), Golden("s", {"x": (1.0,)}, {"p": (0.5,)}, 1e-5), 4, "r-1")
    with pytest.raises(IntegrityError, match="golden predictions are for inputs y; the model takes x"):
        ask_golden(Failing(), Golden("s", {"y": (1.0,)}, {"p": (0.5,)}, 1e-5), 4, "r-1")


def test_release_without_what_serving_needs_is_refused(tmp_path):
    shop = Shop(tmp_path / "shop", LITERT)
    folder = make_litert(tmp_path / "model")
    (folder / "encoding.json").unlink()
    sentence = refusal(shop, shop.release(folder), IntegrityError)
    assert sentence == "release production-1 has no artifact 'encoding.json', which serving it needs"


def test_unsigned_release_is_refused_where_signed_work_is_demanded(tmp_path):
    key = make_key()
    signed = "[policy]\nsigned = true\n" + LITERT
    shop = Shop(tmp_path / "shop", signed, key)
    release = shop.release(make_litert(tmp_path / "model"))
    assert load_release(source_of(shop, keys=[key.public]), release).identity.release == "production-1"
    for folder in (shop.project.scratch / "serving").iterdir():
        folder.rename(tmp_path / folder.name)
    where = "release production-1 demands signed work (policy.signed)"
    assert (
        refusal(shop, release, PolicyError) == f"{where}, and no key is trusted here: put trusted_keys into [tool.kit]"
    )
    other = refusal(shop, release, PolicyError, keys=[make_key("eve").public])
    assert other == f"{where}, but its verdict is signed with {key.public.id}, which is not among the trusted keys"
    unsigned = Shop(tmp_path / "unsigned", signed)
    release = unsigned.release(make_litert(tmp_path / "model"))
    assert refusal(unsigned, release, PolicyError, keys=[key.public]) == f"{where}, but its verdict is not signed"


def test_release_that_rests_on_an_expired_waiver_is_refused(tmp_path):
    shop = Shop(tmp_path / "shop", LITERT)
    release = shop.release(make_litert(tmp_path / "model"), (WAIVER,))
    late = datetime(2026, 3, 2, tzinfo=UTC)
    sentence = refusal(shop, release, PolicyError, clock=lambda: late)
    assert sentence.startswith("release production-1 was admitted only because of what no longer holds: ")
    assert sentence.endswith("or go back with `kit rollback production`")


def test_release_that_answers_is_watched_by_its_waivers_as_the_ledger_tells_of_them(tmp_path):
    shop = Shop(tmp_path / "shop", LITERT + "[gates]\nmetrics.auc = { min = 0.9 }\n")
    given = give_waiver(shop.workbench, "production", "metric:auc", "known", date(2026, 3, 2))
    release = shop.release(make_litert(tmp_path / "model"), (given.waiver,))
    plain = shop.release(make_litert(tmp_path / "plain"))
    clock = [START]
    source = source_of(shop, clock=lambda: clock[0])
    still_holds, identity = watch_release(source), load_release(source, release).identity
    unwaived = load_release(source, plain).identity
    assert still_holds(identity) == ""
    clock[0] = datetime(2026, 3, 3, tzinfo=UTC)
    assert still_holds(identity).endswith("expired on 2026-03-02: known")
    assert still_holds(unwaived) == ""
    give_waiver(shop.workbench, "production", "metric:auc", "still", date(2026, 3, 9))
    assert still_holds(identity) == ""
    signed = watch_release(source_of(shop, clock=lambda: clock[0], signed=True, keys=[make_key().public]))
    assert signed(identity).endswith("is not in the ledger, or does not count")
    with pytest.raises(IntegrityError, match=r"the ledger has no release production-9 with the release\.json"):
        still_holds(msgspec.structs.replace(identity, release="production-9"))


def test_release_file_is_watched_by_the_day_of_its_waivers(tmp_path):
    shop = Shop(tmp_path / "shop", LITERT)
    release = shop.release(make_litert(tmp_path / "model"), (WAIVER,))
    file = tmp_path / "one.kit"
    export_release(shop.archive, release, file, "example")
    identity = load_file(file, tmp_path / "served", clock=lambda: START).identity
    assert tell_past(identity, lambda: START) == ""
    past = "the waiver of metric:auc held until 2026-03-01"
    assert tell_past(identity, lambda: datetime(2026, 3, 2, tzinfo=UTC)) == past


def test_file_of_the_environment_that_demands_signed_work_now_is_heeded(tmp_path):
    shop = Shop(tmp_path / "shop", LITERT)
    release = shop.release(make_litert(tmp_path / "model"))
    sentence = refusal(shop, release, PolicyError, signed=True, keys=[make_key().public])
    where = "release production-1 must be signed, as environments/production.toml demands (policy.signed)"
    assert sentence == f"{where}, but its verdict is not signed"


LOADING = """
import sys
from pathlib import Path
from kit.server.loading import load_file
loaded = load_file(Path(sys.argv[1]), Path(sys.argv[2]))
print(loaded.identity.platform, "tensorflow" in sys.modules, "keras" in sys.modules)
"""


@pytest.mark.kernel
def test_saved_model_is_served_without_keras(tmp_path):
    shop = Shop(tmp_path / "shop")
    file = tmp_path / "one.kit"
    export_release(shop.archive, shop.release(make_saved_model(tmp_path / "model")), file, "example")
    command = [sys.executable, "-c", LOADING, str(file), str(tmp_path / "served")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "tensorflow_savedmodel True False\n", done.stderr[-3000:]


def test_folder_of_a_process_that_is_gone_is_swept_and_others_stay(tmp_path):
    with private_folder(tmp_path) as mine:
        pass
    gone = tmp_path / "gone"
    gone.mkdir()
    (gone / "owner").write_text("4194304 1")
    (gone / "model").write_text("x")
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [mine]


def test_folder_outside_of_a_project_must_be_mine_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = folder_without_project()
    assert folder == folder_without_project()
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    with pytest.raises(UsageError, match="is not a folder of yours alone"):
        folder_without_project()
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="is not a folder of yours alone"):
        folder_without_project()
