"""The hand-over of a release: what is written, that it is what was released, that it is whole or not there."""

import hashlib
import io
import json
import resource
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from handovers import LOCK, MODEL, PIN, PLACE, SECRETS, WHOLE, make_released, read_image, read_yaml, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.errors import IntegrityError, KitError, NotFoundError, UsageError
from kit.gate import Evidence, Finding, Verdict
from kit.handover import Handover, Place, write_handover
from kit.handover.layers import LayerFile, write_layer

LITERT = {"model.tflite": b"TFL3", "encoding.json": b'{"format":1}'}
OWN = '[project]\nname = "kit-ml"\n[tool.kit]\nname = "example"\n'


def hand_over(released: Any, folder: Path, place: Place = PLACE, *, with_file: bool = True) -> Handover:
    file = released.file if with_file else None
    return write_handover(released.archive, released.release, released.manifest, folder, place, file)


def test_whole_hand_over_holds_image_objects_containerfiles_and_device_folder(tmp_path: Path) -> None:
    released = make_released(tmp_path, "[gates.litert]", {"saved_model": MODEL, **LITERT})
    done = hand_over(released, tmp_path / "out", WHOLE)
    written = snapshot(tmp_path / "out")
    assert done.files == tuple(sorted(written))
    assert done.left_out == ()
    assert {name for name in written if not name.startswith("image/blobs")} == {
        "Containerfile", "Containerfile.modelcar", "README.md", "configmap.yaml", "edge/README.md", "edge/encoding.json",
        "edge/model.tflite", "image/index.json", "image/oci-layout", "inferenceservice-kit.yaml",
        "inferenceservice-tensorflow.yaml", "requirements.lock",
    }  # fmt: skip
    assert {name: written[f"edge/{name}"] for name in LITERT} == LITERT
    assert written["requirements.lock"].decode() == LOCK


def test_empty_folder_that_one_is_in_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = make_released(tmp_path / "project")
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    done = hand_over(released, Path())
    assert done.folder == str(tmp_path / "out")
    assert done.files == tuple(sorted(snapshot(tmp_path / "out")))


def test_guide_for_a_device_says_what_the_gate_found_whatever_it_was(tmp_path: Path) -> None:
    found = Evidence("litert", "model.tflite", Finding.WAIVED, "differs by 0.02; waived until 2026-04-01 by ana")
    verdict = Verdict("production", "c", {}, (found,))
    released = make_released(tmp_path, "[gates.litert]", {"saved_model": MODEL, **LITERT}, verdict=verdict)
    hand_over(released, tmp_path / "out")
    text = (tmp_path / "out/edge/README.md").read_text()
    assert "- waived: differs by 0.02; waived until 2026-04-01 by ana\n" in text
    assert all(hashlib.sha256(data).hexdigest() in text for data in LITERT.values())


def test_without_images_by_digest_what_needs_them_is_left_out_and_named(tmp_path: Path) -> None:
    done = hand_over(make_released(tmp_path), tmp_path / "out")
    assert [name for name in done.files if not name.startswith("image/")] == [
        "README.md", "configmap.yaml", "inferenceservice-tensorflow.yaml",
    ]  # fmt: skip
    assert done.left_out == (
        "inferenceservice-kit.yaml: it names the server's image by digest; give --server-image NAME@sha256:…",
        "Containerfile: it is built on an image named by digest; give --base-image NAME@sha256:…",
        "edge/: the release has no LiteRT model; [gates.litert] asks for one",
    )
    readme = (tmp_path / "out/README.md").read_text()
    assert all(sentence in readme for sentence in done.left_out)


def test_image_holds_model_under_its_number_and_release_file_for_both_platforms(tmp_path: Path) -> None:
    released = make_released(tmp_path)
    hand_over(released, tmp_path / "out")
    images = read_image(tmp_path / "out/image")
    assert [platform for platform, _, _ in images] == [
        {"os": "linux", "architecture": "amd64"},
        {"os": "linux", "architecture": "arm64"},
    ]
    for platform, config, (model, file) in images:
        assert {name: data for name, data in model.items() if data is not None} == {
            f"models/1/{name}": data for name, data in MODEL.items()
        }
        assert [name for name, data in model.items() if data is None] == [
            "models", "models/1", "models/1/assets", "models/1/variables",
        ]  # fmt: skip
        assert file == {"release": None, "release/production-1.kit": released.file.read_bytes()}
        assert (config["os"], config["architecture"]) == (platform["os"], platform["architecture"])
        assert config["config"] == {
            "Labels": {
                "org.opencontainers.image.created": "2026-03-01T09:30:00.000Z",
                "org.opencontainers.image.revision": released.manifest.commit,
                "org.opencontainers.image.title": "model of release production-1",
                "org.opencontainers.image.version": "production-1",
                "kit.configuration.sha256": released.manifest.configuration_sha256,
                "kit.release.sha256": released.release.manifest_sha256,
            }
        }


def test_reference_of_the_image_is_the_digest_of_the_index_over_its_platforms(tmp_path: Path) -> None:
    done = hand_over(make_released(tmp_path), tmp_path / "out")
    (entry,) = json.loads((tmp_path / "out/image/index.json").read_bytes())["manifests"]
    assert done.image == f"registry.example.org/team/delays@{entry['digest']}"
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": "production-1"}
    service = read_yaml(tmp_path / "out/inferenceservice-tensorflow.yaml")
    assert service["spec"]["predictor"]["model"]["storageUri"] == f"oci+native://{done.image}"


def test_same_release_and_options_give_the_same_bytes(tmp_path: Path) -> None:
    released = make_released(tmp_path, f"[gates.litert]\n{SECRETS}", {"saved_model": MODEL, **LITERT})
    for name in ("one", "two"):
        hand_over(released, tmp_path / name, WHOLE)
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")


def test_server_image_given_later_adds_its_object_and_changes_no_other_but_the_guide(tmp_path: Path) -> None:
    released = make_released(tmp_path)
    hand_over(released, tmp_path / "one", msgspec.structs.replace(WHOLE, server_image=""))
    hand_over(released, tmp_path / "two", WHOLE)
    one, two = snapshot(tmp_path / "one"), snapshot(tmp_path / "two")
    assert set(two) - set(one) == {"inferenceservice-kit.yaml"}
    assert {name for name in one if one[name] != two[name]} == {"README.md"}


def test_handing_over_changes_nothing_in_the_archive(tmp_path: Path) -> None:
    released = make_released(tmp_path)
    before = snapshot(released.archive.folder)
    hand_over(released, tmp_path / "out", WHOLE)
    assert snapshot(released.archive.folder) == before


def test_empty_folder_is_taken_and_one_with_a_file_is_not(tmp_path: Path) -> None:
    released = make_released(tmp_path)
    (tmp_path / "out").mkdir()
    hand_over(released, tmp_path / "out")
    before = snapshot(tmp_path / "out")
    with pytest.raises(UsageError, match="is there and is no empty folder: choose another name"):
        hand_over(released, tmp_path / "out")
    assert snapshot(tmp_path / "out") == before


def test_link_to_a_folder_and_missing_parent_are_refused(tmp_path: Path) -> None:
    released = make_released(tmp_path)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(UsageError, match="no empty folder"):
        hand_over(released, tmp_path / "link")
    with pytest.raises(UsageError, match="there is no folder"):
        hand_over(released, tmp_path / "missing" / "out")


@pytest.mark.parametrize("damage", ["flipped", "longer", "shorter", "gone"])
def test_changed_model_is_refused_and_nothing_is_left_behind(tmp_path: Path, damage: str) -> None:
    released = make_released(tmp_path)
    path = released.archive.objects.path(hashlib.sha256(MODEL["saved_model.pb"]).hexdigest())
    path.chmod(0o644)
    data = path.read_bytes()
    path.write_bytes({"flipped": b"G" + data[1:], "longer": data + b"x", "shorter": data[:-1], "gone": b""}[damage])
    if damage == "gone":
        path.unlink()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(KitError, match=r"models/1/saved_model\.pb") as caught:
        hand_over(released, tmp_path / "out")
    assert isinstance(caught.value, NotFoundError if damage == "gone" else IntegrityError)
    assert sorted(tmp_path.iterdir()) == before


def test_changed_bundle_and_foreign_manifest_are_refused(tmp_path: Path) -> None:
    released = make_released(tmp_path)
    other = msgspec.structs.replace(released.manifest, commit=None)
    with pytest.raises(IntegrityError, match="release production-1: expected the manifest"):
        write_handover(released.archive, released.release, other, tmp_path / "out", PLACE)
    path = released.archive.objects.path(released.manifest.bundle_sha256)
    path.chmod(0o644)
    path.write_bytes(b"other sources")
    with pytest.raises(IntegrityError, match="was changed in the archive"):
        hand_over(released, tmp_path / "out")


def test_disk_that_takes_no_more_leaves_no_folder_behind(tmp_path: Path) -> None:
    released = make_released(tmp_path)
    before = sorted(tmp_path.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))  # bytes; the model's layer is larger
    try:
        with pytest.raises(OSError, match="File too large"):
            hand_over(released, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(tmp_path.iterdir()) == before


def test_release_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    released = make_released(tmp_path)
    released.file.unlink()
    with pytest.raises(NotFoundError, match=r"there is no release file .*production-1\.kit"):
        hand_over(released, tmp_path / "out")


@pytest.mark.parametrize(
    ("artifacts", "message"),
    [
        ({}, "has no artifact 'saved_model', which gates.model names; it has none"),
        ({"saved_model": b"one file"}, "'saved_model' is no SavedModel, which TensorFlow Serving needs"),
        ({"saved_model": {"weights.bin": b"w"}}, "expected a folder with saved_model.pb"),
    ],
)
def test_release_without_saved_model_is_refused(tmp_path: Path, artifacts: Any, message: str) -> None:
    with pytest.raises(KitError, match=message):
        hand_over(make_released(tmp_path, artifacts=artifacts), tmp_path / "out")


def test_release_that_should_have_a_litert_model_and_has_none_is_refused(tmp_path: Path) -> None:
    released = make_released(tmp_path, "[gates.litert]")
    with pytest.raises(
        NotFoundError, match=r"no artifact 'model\.tflite', which gates\.litert\.model names; it has saved"
    ):
        hand_over(released, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_release_of_an_environment_whose_name_is_no_label_is_refused(tmp_path: Path) -> None:
    released = make_released(tmp_path)
    strange = msgspec.structs.replace(released.release, id="größe-1")
    with pytest.raises(UsageError, match="release 'größe-1' cannot be a label and a tag"):
        write_handover(released.archive, strange, released.manifest, tmp_path / "out", PLACE)


def test_path_that_leads_out_of_the_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    for path in ("../a", "/a", "models/../../a", "models//a", "."):
        with pytest.raises(IntegrityError, match="is no path within an image"):
            write_layer(tmp_path, [LayerFile(path, tmp_path / "a", hashlib.sha256(b"").hexdigest(), 0)])


def test_containerfile_takes_kit_from_the_lock_that_pins_it(tmp_path: Path) -> None:
    hand_over(make_released(tmp_path), tmp_path / "out", WHOLE)
    lines = (tmp_path / "out/Containerfile").read_text().splitlines()
    layer = next(line.split()[1] for line in lines if line.startswith("ADD"))
    assert lines[1] == f"FROM {WHOLE.base_image}"
    assert lines[3:] == [
        "COPY requirements.lock /build/",
        "RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /build/requirements.lock",
        "# /release/production-1.kit, out of the layer that the image holds",
        f"ADD {layer} /",
        "USER 65532:65532",
        "WORKDIR /tmp",
        "EXPOSE 8080",
        'CMD ["kit", "serve", "--file", "/release/production-1.kit", "--host", "0.0.0.0", "--port", "8080"]',
    ]
    assert (tmp_path / "out" / layer).is_file()


def test_containerfile_builds_kit_from_the_release_where_its_sources_are_kits(tmp_path: Path) -> None:
    lock = LOCK.replace("kit-ml", "hatchling")
    released = make_released(tmp_path, sources={"pyproject.toml": OWN, "requirements.lock": lock})
    hand_over(released, tmp_path / "out", WHOLE)
    text = (tmp_path / "out/Containerfile").read_text()
    assert "COPY requirements.lock bundle.zip /build/\n" in text
    assert "pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation --no-index" in text
    with zipfile.ZipFile(io.BytesIO((tmp_path / "out/bundle.zip").read_bytes())) as bundle:
        assert bundle.read("pyproject.toml").decode() == OWN


@pytest.mark.parametrize(
    ("sources", "problem"),
    [
        (
            {"requirements.lock": "numpy==2.4.0\n"},
            "requirements.lock does not pin kit-ml; add it there and cut a new release",
        ),
        (
            {"requirements.lock": "numpy==2.4.0\n", "pyproject.toml": OWN},
            "requirements.lock does not pin hatchling, which builds kit from the release's sources",
        ),
        ({"requirements.lock": ""}, "the release has no lock file; add one ([tool.kit] lock) and cut a new release"),
    ],
)
def test_containerfile_is_left_out_where_nothing_pinned_brings_kit(tmp_path: Path, sources: Any, problem: str) -> None:
    done = hand_over(
        make_released(tmp_path, "[gates.litert]", {"saved_model": MODEL, **LITERT}, sources=sources),
        tmp_path / "out",
        WHOLE,
    )
    assert done.left_out == (f"Containerfile: {problem}",)
    assert "Containerfile" not in done.files


@pytest.mark.parametrize(
    ("found", "is_expected"), [("3.11.0", True), ("3.11.15", True), ("3.12.0", False), ("3.110.1", False)]
)
def test_containerfile_ends_the_build_on_another_python_than_the_one_that_trained(
    tmp_path: Path, found: str, is_expected: bool
) -> None:
    hand_over(make_released(tmp_path), tmp_path / "out", WHOLE)
    line = (tmp_path / "out/Containerfile").read_text().splitlines()[2]
    code = line.removeprefix('RUN python -c "').removesuffix('"')
    assert '"' not in code
    pretend = f"import platform; platform.python_version = lambda: {found!r}; "
    done = subprocess.run(["python3", "-c", pretend + code], capture_output=True, text=True, check=False)
    expected = "" if is_expected else f"the release was trained with CPython 3.11, the base image has CPython {found}\n"
    assert (done.returncode == 0, done.stderr) == (is_expected, expected)


def test_modelcar_is_the_models_layer_on_the_base_image(tmp_path: Path) -> None:
    hand_over(make_released(tmp_path), tmp_path / "out", WHOLE)
    lines = (tmp_path / "out/Containerfile.modelcar").read_text().splitlines()
    assert lines[1] == f"FROM {WHOLE.base_image}"
    blob = tmp_path / "out" / lines[2].split()[1]
    assert blob.is_file()
    images = json.loads((tmp_path / "out/image/blobs/sha256" / _first_manifest(tmp_path / "out/image")).read_bytes())
    assert images["layers"][0]["digest"] == f"sha256:{blob.name}"


def _first_manifest(image: Path) -> str:
    (entry,) = json.loads((image / "index.json").read_bytes())["manifests"]
    index = json.loads((image / "blobs" / entry["digest"].replace(":", "/")).read_bytes())
    digest: str = index["manifests"][0]["digest"]
    return digest.removeprefix("sha256:")


VALUES = st.text("abcdefghijklmnopqrstuvwxyzÄÖ0123456789!§%&/()=?", max_size=20).map("s€cret-{}".format)


@settings(max_examples=20)
@given(VALUES, VALUES)
def test_no_file_holds_a_secrets_value(tmp_path_factory: pytest.TempPathFactory, one: str, other: str) -> None:
    folder = tmp_path_factory.mktemp("secret")
    (folder / "certificate.pem").write_text(other, encoding="utf-8")
    references = SECRETS.replace("/run/secrets", str(folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WAREHOUSE_PASSWORD", one)
        hand_over(make_released(folder, references), folder / "out", WHOLE)
    everything = b"".join(snapshot(folder / "out").values())
    for value in (one, other):
        assert value.encode() not in everything
    shutil.rmtree(folder)


def test_guide_names_every_pin_and_every_command_once(tmp_path: Path) -> None:
    released = make_released(tmp_path, f"{SECRETS}\n[policy]\nsigned = true")
    done = hand_over(released, tmp_path / "out", WHOLE)
    text = (tmp_path / "out/README.md").read_text()
    manifest = released.manifest
    pins = (manifest.sha256, manifest.configuration_sha256, manifest.bundle_sha256, manifest.commit, done.image)
    assert all(str(pin) in text for pin in (*pins, WHOLE.server_image, WHOLE.base_image, WHOLE.tensorflow_image))
    commands = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    image = "registry.example.org/team/delays"
    assert commands == [
        f"skopeo copy --all --preserve-digests oci:image:production-1 docker://{image}:production-1",
        f"skopeo inspect --raw docker://{image}:production-1 | sha256sum    # {done.image.split(':')[-1]}",
        "kubectl --namespace models apply -f configmap.yaml -f inferenceservice-tensorflow.yaml",
        "kubectl --namespace models wait --for=condition=Ready --timeout=10m inferenceservice/delays",
        f"podman build --tag {image}-server:production-1 --file Containerfile .",
        f"podman push --digestfile server.digest {image}-server:production-1",
        "kubectl --namespace models create secret generic delays-secrets --from-file=WAREHOUSE_PASSWORD=… "
        "--from-file=certificate=…    # no line break at the ends",
        "kubectl --namespace models create configmap delays-keys --from-file=trusted.keys=…    "
        "# public keys that count, as `kit key show` prints them; at /etc/kit/keys",
        "kubectl --namespace models apply -f configmap.yaml -f inferenceservice-kit.yaml",
        "kubectl --namespace models wait --for=condition=Ready --timeout=10m inferenceservice/delays-kit",
        f"podman build --tag {image}-modelcar:production-1 --file Containerfile.modelcar .",
        f"podman push --digestfile modelcar.digest {image}-modelcar:production-1",
    ]
    assert PIN.removeprefix("@") in text


needs_skopeo = pytest.mark.skipif(
    shutil.which("skopeo") is None, reason="skopeo is not on PATH: apt-get install skopeo"
)


@needs_skopeo
@pytest.mark.kernel
def test_skopeo_reads_the_image_and_copies_every_platform_byte_for_byte(tmp_path: Path) -> None:
    released = make_released(tmp_path)
    done = hand_over(released, tmp_path / "out")
    image = f"oci:{tmp_path / 'out/image'}:production-1"
    inspected = json.loads(skopeo("inspect", image))
    assert f"{PLACE.repository}@{inspected['Digest']}" == done.image
    assert inspected["Created"] == "2026-03-01T09:30:00Z"
    assert inspected["Labels"]["kit.release.sha256"] == released.manifest.sha256
    skopeo("copy", "--all", "--preserve-digests", image, f"dir:{tmp_path / 'copied'}")
    assert hashlib.sha256((tmp_path / "copied/manifest.json").read_bytes()).hexdigest() == done.image.split(":")[-1]
    blobs = {path.name for path in (tmp_path / "out/image/blobs/sha256").iterdir()} - {done.image.split(":")[-1]}
    assert {path.name.removesuffix(".manifest.json") for path in (tmp_path / "copied").iterdir()} - {
        "manifest.json",
        "version",
    } == blobs


def skopeo(*arguments: str) -> str:
    return subprocess.run(["skopeo", *arguments], capture_output=True, text=True, check=True).stdout
