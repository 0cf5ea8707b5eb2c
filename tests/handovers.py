"""A small release, and what its hand-over wrote, read back with other people's tools."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from kit.archive import Archive, open_archive
from kit.bundle import make_bundle
from kit.environment import Environment
from kit.files import sha256_bytes
from kit.gate import Evidence, Finding, Manifest, Release, Verdict
from kit.handover import Place
from kit.testing import make_manifest, make_project, seal_release

PIN = "@sha256:" + "5" * 64
PLACE = Place(registry="registry.example.org/team", service="delays")
WHOLE = msgspec.structs.replace(
    PLACE,
    namespace="models",
    server_image=f"registry.example.org/team/delays-server{PIN}",
    base_image=f"docker.io/library/python:3.11-slim{PIN}",
    tensorflow_image=f"docker.io/tensorflow/serving{PIN}",
)
MODEL = {
    "saved_model.pb": b"graph" * 3000,
    "variables/variables.index": b"index",
    "variables/variables.data-00000-of-00001": bytes(range(256)) * 40,
    "assets/größen.txt": "klein\ngroß\n".encode(),
    f"assets/{'long' * 40}.txt": b"words\n",
}
LOCK = "kit-ml==0.1.0 \\\n    --hash=sha256:" + "0" * 64 + "\n"
SECRETS = """
[secrets]
WAREHOUSE_PASSWORD = { env = "WAREHOUSE_PASSWORD" }
certificate = { file = "/run/secrets/certificate.pem" }
"""


class Released:
    """An archive with one release, and the file of the release, of which a hand-over only takes the bytes."""

    def __init__(self, folder: Path, environment: Environment, artifacts: Mapping[str, Any], **changes: Any) -> None:
        self.folder = folder
        self.archive: Archive = open_archive(folder / "archive", "example")
        named = {name: self._put(name, content) for name, content in artifacts.items()}
        project = make_project(folder / "project", files={"requirements.lock": LOCK, **changes.pop("sources", {})})
        bundle = make_bundle(project, tracked_only=False)
        lock = (project.root / "requirements.lock").read_bytes()
        verdict = Verdict("production", environment.sha256, {}, (Evidence("model", "m", Finding.HOLDS, "it holds"),))
        facts = {
            "environment": "production",
            "bundle_sha256": self.archive.objects.put_bytes(bundle.data),
            "commit": "c0ffee" + "0" * 34,
            "artifacts": tuple(named.values()),
            "lock_sha256": sha256_bytes(lock) if lock else None,
            "configuration": environment.configuration,
            "configuration_sha256": environment.sha256,
            "python": "CPython 3.11.2",
        }
        self.manifest: Manifest = make_manifest(changes.pop("verdict", verdict), **{**facts, **changes})
        self.archive.objects.put_bytes(self.manifest.encode())
        self.release: Release = seal_release(self.archive, self.manifest)
        self.file = folder / "production-1.kit"
        self.file.write_bytes(b"PK the whole release")

    def _put(self, name: str, content: Any) -> Any:
        path = self.folder / "outputs" / name
        for inner, data in content.items() if isinstance(content, Mapping) else [("", content)]:
            file = path / inner if inner else path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        return self.archive.objects.put_artifact(name, path)


def read_settings(text: str = "") -> Environment:
    """An environment from TOML."""
    import tomllib

    from kit.environment import decode_environment

    return decode_environment({"name": "production", **tomllib.loads(text)}, "production.toml")


def make_released(
    folder: Path, settings: str = "", artifacts: Mapping[str, Any] | None = None, **changes: Any
) -> Released:
    """A release of a SavedModel into `production`."""
    return Released(
        folder, read_settings(settings), {"saved_model": MODEL} if artifacts is None else artifacts, **changes
    )


def read_yaml(path: Path) -> Any:
    """A document as PyYAML reads it."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def read_blob(image: Path, descriptor: Mapping[str, Any]) -> bytes:
    """A blob's bytes, which have the size and the digest that the descriptor says."""
    data = (image / "blobs" / descriptor["digest"].replace(":", "/")).read_bytes()
    assert descriptor["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert descriptor["size"] == len(data)
    return data


def read_image(image: Path) -> list[tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]]:
    """(platform, configuration, layers' files and folders) of each image of a layout; every digest recomputed."""
    assert json.loads((image / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads((image / "index.json").read_bytes())["manifests"]
    read, seen = [], {entry["digest"]}
    for described in json.loads(read_blob(image, entry))["manifests"]:
        manifest = json.loads(read_blob(image, described))
        config = json.loads(read_blob(image, manifest["config"]))
        layers = [read_blob(image, layer) for layer in manifest["layers"]]
        assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
        seen |= {described["digest"], manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])}
        read.append((described["platform"], config, [read_tar(layer) for layer in layers]))
    assert seen == {f"sha256:{path.name}" for path in (image / "blobs/sha256").iterdir()}
    return read


def read_tar(data: bytes) -> dict[str, Any]:
    """A layer's files as path -> bytes, and its folders as path -> None; all root's, dated 1970, plainly readable."""
    found: dict[str, Any] = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        for entry in tar:
            assert (entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime) == (0, 0, "", "", 0)
            assert entry.mode == (0o755 if entry.isdir() else 0o644)
            assert entry.name not in found
            file = tar.extractfile(entry)
            found[entry.name] = file.read() if file else None
    return found


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
