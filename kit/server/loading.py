"""From a release to a model that answers: every digest verified, unpacked into a private folder, golden rows asked."""

from __future__ import annotations

import functools
import gc
import os
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from kit.archive import VERDICT, Archive
from kit.decision import Waiver
from kit.environment import Environment, LiteRTLimits, decode_environment
from kit.errors import IntegrityError, PolicyError, UsageError
from kit.execute.signed import find_unsigned
from kit.files import Clock, utc_now
from kit.gate import Manifest, Release, Verdict
from kit.model.golden import Golden, read_golden
from kit.model.importing import QUIET, import_tensorflow_without_keras
from kit.model.probe import compare_outputs
from kit.model.servable import Servable, golden_columns, open_saved_model
from kit.release.file import open_release_file
from kit.release.live import demands_signatures, describe_standing
from kit.release.private import folder_of_user, private_folder
from kit.release.soundness import require_sound
from kit.release.waivers import find_expired
from kit.server.served import Identity, Loaded
from kit.server.tensors import require_types
from kit.signing import PublicKey, Standing, judge_envelope
from kit.workspace import remove_abandoned

ARTIFACTS = "artifacts"
_MODEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_PLATFORMS = {"saved_model": "tensorflow_savedmodel", "litert": "tensorflow_lite"}


class Source(msgspec.Struct, frozen=True):
    """Where verified releases come from, and where they are unpacked.

    Attributes:
        archive: holds them.
        project: name of the project, which models have that are not named.
        folder: private folders are made below it.
        keys: those whose signatures count.
        clock: gives the time.
        signed: the environment's file demands signed work, whatever policy a release froze.
    """

    archive: Archive
    project: str
    folder: Path
    keys: Sequence[PublicKey] = ()
    clock: Clock = utc_now
    signed: bool = False


def load_release(source: Source, release: Release) -> Loaded:
    """Verify a release of an archive and make it ready to answer.

    Raises:
        IntegrityError: a byte is another than the gate admitted, the model does not load, or golden rows differ.
        PolicyError: it may not be served: not signed by a trusted key, or it rests on a waiver that no longer holds.
        UsageError: it cannot have an address under its model's name.
    """
    manifest = require_sound(source.archive, release)
    environment = decode_environment(manifest.configuration, f"release {release.id}")
    if not environment.name == manifest.environment == release.environment:
        raise PolicyError(f"release {release.id} was never admitted to {release.environment!r}; `kit verify` says more")
    keys = _find_keys(source, manifest)
    if keys is not None:
        _require_trusted(source.archive, release, manifest, keys)
    _require_unexpired(release, find_expired(source.archive, manifest.verdict, source.clock(), keys))
    with private_folder(source.folder) as folder:
        for name in _list_needed(environment):
            artifact = manifest.artifact(name)
            if artifact is None:
                raise IntegrityError(f"release {release.id} has no artifact {name!r}, which serving it needs")
            target = folder / ARTIFACTS / name
            target.parent.mkdir(exist_ok=True)
            source.archive.objects.copy_artifact(artifact, target)
        return open_model(release, manifest, environment, folder, source.project)


def load_file(path: Path, base: Path, keys: Sequence[PublicKey] = (), clock: Clock = utc_now) -> Loaded:
    """Verify a release file and make it ready to answer; see `load_release`.

    Args:
        path: of the file.
        base: private folders are made below it.
        keys: those whose signatures count.
        clock: gives the time. A file knows of no renewal: a waiver that it rests on holds until its day.
    """
    with private_folder(base) as folder:
        unpacked = folder / "release"
        file = open_release_file(path, unpacked, keys)
        environment = decode_environment(file.manifest.configuration, f"release {file.release.id}")
        _require_unexpired(file.release, _tell_past(file.manifest.verdict.waivers, clock()))
        (unpacked / ARTIFACTS).rename(folder / ARTIFACTS)
        return open_model(file.release, file.manifest, environment, folder, file.project)


def watch_release(source: Source) -> Callable[[Identity], str]:
    """Gives a function that tells why a release of an archive may not be served any more: a sentence, empty if it may.

    Nothing is read for a release that rests on no waiver; else its manifest once, and the ledger's waivers each time.
    The function raises IntegrityError where the archive does not have what was loaded from it.
    """

    @functools.lru_cache(maxsize=1)
    def read(identity: Identity) -> tuple[Verdict, Sequence[PublicKey] | None]:
        release = source.archive.find_release(identity.release)
        if release is None or release.manifest_sha256 != identity.manifest_sha256:
            raise IntegrityError(f"the ledger has no release {identity.release} with the release.json that is served")
        manifest = source.archive.read_manifest(release)
        return manifest.verdict, _find_keys(source, manifest)

    def tell(identity: Identity) -> str:
        if not identity.waivers:
            return ""
        verdict, keys = read(identity)
        return "; ".join(find_expired(source.archive, verdict, source.clock(), keys))

    return tell


def tell_past(identity: Identity, clock: Clock = utc_now) -> str:
    """Why a release file may not be served any more: the waivers whose own day is over, in a sentence; empty if it may."""
    return "; ".join(_tell_past(identity.waivers, clock()))


def open_model(release: Release, manifest: Manifest, environment: Environment, folder: Path, project: str) -> Loaded:
    """Load the model of an unpacked release, ask its golden rows, and warm it up.

    Args:
        release: which one.
        manifest: its release.json.
        environment: its frozen configuration.
        folder: holds `artifacts/<name>`; a SavedModel moves to `model/<name>/<version>`.
        project: name of the model, if the configuration has none.

    Raises:
        IntegrityError: the model does not load, or golden rows are not reproduced.
    """
    settings, version = environment.serving, str(release.number)
    name = settings.name or project
    if not _MODEL_NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be part of an address; set [serving] name in environments/{environment.name}.toml to letters, "
            f"digits, '_', '-' and '.', and cut a new release"
        )
    golden = read_golden(folder / ARTIFACTS / environment.gates.golden)
    if settings.representation == "litert":
        limits = environment.gates.litert or LiteRTLimits()
        servable = _open_litert(folder / ARTIFACTS, limits)
        golden = msgspec.structs.replace(golden, atol=max(golden.atol, limits.max_difference))
    else:
        model = folder / "model" / name / version
        model.parent.mkdir(parents=True)
        (folder / ARTIFACTS / environment.gates.model).rename(model)
        for variable, value in QUIET.items():  # as in the process that the gate asked, so that golden rows can agree
            os.environ.setdefault(variable, value)
        import_tensorflow_without_keras()
        spare_collector()
        servable = open_saved_model(model, golden.signature)
    require_types(servable.signature)
    ask_golden(servable, golden, settings.max_batch_rows, release.id)
    platform = _PLATFORMS[settings.representation]
    waivers = manifest.verdict.waivers
    identity = Identity(release.id, name, version, release.manifest_sha256, golden.signature, platform, waivers)
    return Loaded(identity, servable, settings, folder)


def ask_golden(servable: Servable, golden: Golden, max_rows: int, release: str) -> None:
    """Ask a model its golden rows, as one batch, one alone, and as many as a batch can have, so that it is warm.

    Raises:
        IntegrityError: it does not say again what it said when it was trained.
    """
    import numpy as np

    columns = golden_columns(golden, servable.signature)
    try:
        result = compare_outputs(golden, servable.predict(columns))
        for rows in (np.zeros(1, int), np.arange(max_rows) % golden.n_rows):
            servable.predict({name: column[rows] for name, column in columns.items()})
    except Exception as error:
        raise IntegrityError(f"release {release}: the model fails on golden rows: {type(error).__name__}") from error
    if not result.passed:
        raise IntegrityError(f"release {release}: {result.detail}")


def sweep(base: Path) -> None:
    """Remove the private folders of processes that are gone, such as one that was killed."""
    remove_abandoned(base)


def folder_without_project() -> Path:
    """Where private folders are made outside of a project; see `folder_of_user`."""
    return folder_of_user("serving")


def spare_collector() -> None:
    """Let the collector pass over what is in memory now, once in a process: requests stand still while it looks.

    Called between a model's library and the model: TensorFlow's objects take it 180 ms, those of a model 4 ms. A model must
    not be among them, or its cycles would never be collected.
    """
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()


def _list_needed(environment: Environment) -> tuple[str, ...]:
    """Artifacts that serving needs."""
    gates = environment.gates
    if environment.serving.representation == "litert":
        limits = gates.litert or LiteRTLimits()
        return (gates.golden, limits.model, limits.encoding)
    return (gates.golden, gates.model)


def _open_litert(artifacts: Path, limits: LiteRTLimits) -> Servable:
    from kit.model.litert import open_litert

    return open_litert(artifacts / limits.model, artifacts / limits.encoding)


def _find_keys(source: Source, manifest: Manifest) -> Sequence[PublicKey] | None:
    """Those whose signatures count where signed work is demanded, by the environment's file or by the release; else None."""
    return source.keys if source.signed or demands_signatures(manifest) else None


def _require_trusted(archive: Archive, release: Release, manifest: Manifest, keys: Sequence[PublicKey]) -> None:
    where = f"release {release.id} demands signed work (policy.signed)"
    if not demands_signatures(manifest):
        where = (
            f"release {release.id} must be signed, as environments/{release.environment}.toml demands (policy.signed)"
        )
    if not keys:
        raise PolicyError(f"{where}, and no key is trusted here: put trusted_keys into [tool.kit]")
    standing, signer = judge_envelope(archive.read_envelope(release.record, VERDICT), keys)
    if standing is not Standing.TRUSTED:
        raise PolicyError(f"{where}, but its verdict is {describe_standing(standing, signer)}")
    for record in (release.record, manifest.training_record):
        if problem := find_unsigned(archive, archive.read_record(record), keys):
            raise PolicyError(f"{where}, but {problem}")


def _tell_past(waivers: Sequence[Waiver], now: datetime) -> list[str]:
    return [f"the waiver of {each.evidence} held until {each.until}" for each in waivers if not each.holds_at(now)]


def _require_unexpired(release: Release, expired: Sequence[str]) -> None:
    if expired:
        raise PolicyError(
            f"release {release.id} was admitted only because of what no longer holds: {'; '.join(expired)}; renew it with "
            f"`kit waive`, cut a new release, or go back with `kit rollback {release.environment}`"
        )
