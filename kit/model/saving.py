"""Model files whose bytes depend on the model alone: no dates, no object ids, no zip times."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kit.errors import UsageError
from kit.files import canonical_json, write_atomically
from kit.model.functions import renumber_functions

ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
SAVED_AT = "1980-01-01@00:00:00"
# Keras identifies an object that is used twice by its address in memory.
OBJECT_ID = "shared_object_id"


def save_keras(model: Any, path: Path) -> None:
    """Save a Keras model as a `.keras` file with canonical bytes: the same model, the same file.

    Raises:
        UsageError: the name does not end in `.keras`.
    """
    if path.suffix != ".keras":
        raise UsageError(f"a Keras model file must end in .keras, found {path.name!r}")
    with tempfile.TemporaryDirectory(prefix="kit-model-") as folder:
        raw = Path(folder) / "model.keras"
        model.save(raw)
        write_atomically(path, canonicalise_keras(raw.read_bytes()))


def canonicalise_keras(data: bytes) -> bytes:
    """The same `.keras` archive with fixed date, object ids by order of appearance, sorted members, zip times of 1980."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in sorted(archive.namelist()) if not name.endswith("/")}
    metadata = json.loads(members["metadata.json"])
    members["metadata.json"] = canonical_json({**metadata, "date_saved": SAVED_AT})
    # Key order is kept: Keras gives several inputs to a model in the order that its configuration has them.
    config = _renumber(json.loads(members["config.json"]), {})
    members["config.json"] = json.dumps(config, separators=(",", ":")).encode()
    return _zip_stored(members)


def save_saved_model(module: Any, folder: Path, signatures: Mapping[str, Any]) -> None:
    """Save a `tf.Module` as a SavedModel, without the fingerprint and the numbers that would make each saving unique.

    Args:
        module: holds every variable and table that the signatures use.
        folder: must not exist or be empty.
        signatures: name -> concrete function.

    Raises:
        UsageError: no signatures, or the folder has something in it.
    """
    if not signatures:
        raise UsageError("a SavedModel without signatures cannot be queried; give at least one")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder.name!r} is there already; a SavedModel needs a folder of its own")
    import tensorflow

    logger = tensorflow.get_logger()
    level = logger.level
    logger.setLevel("WARNING")  # at INFO it prints this machine's path into the notebook
    try:
        tensorflow.saved_model.save(module, str(folder), signatures=dict(signatures))
    finally:
        logger.setLevel(level)
    (folder / "fingerprint.pb").unlink(missing_ok=True)
    renumber_functions(folder / "saved_model.pb")
    assets = folder / "assets"
    if assets.is_dir() and not any(assets.iterdir()):
        assets.rmdir()


def _renumber(value: Any, numbers: dict[Any, int]) -> Any:
    if isinstance(value, dict):
        return {
            key: numbers.setdefault(item, len(numbers) + 1) if key == OBJECT_ID else _renumber(item, numbers)
            for key, item in value.items()
        }
    return [_renumber(item, numbers) for item in value] if isinstance(value, list) else value


def _zip_stored(members: Mapping[str, bytes]) -> bytes:
    # Stored, not deflated: what deflate writes depends on the zlib at hand.
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, ZIP_EPOCH)
            info.create_system, info.external_attr = 3, 0o100644 << 16
            archive.writestr(info, data)
    return buffer.getvalue()
