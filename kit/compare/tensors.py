"""Comparing files of tensors value by value: .npy, .npz, .keras, .h5 and SavedModel folders. Nothing is unpickled."""

from __future__ import annotations

import json
import tempfile
import zipfile
from contextlib import ExitStack
from pathlib import Path
from shutil import copyfileobj
from typing import Any

from kit.compare.arrays import compare_arrays
from kit.compare.structure import MISSING, compare_values
from kit.compare.tally import Tally

_NPY, _ZIP, _HDF5 = b"\x93NUMPY", b"PK\x03\x04", b"\x89HDF"
_CONFIG, _METADATA = "config.json", "metadata.json"
_WEIGHTS = ".weights.h5"
_OBJECT_ID = "shared_object_id"  # Keras names an object that is used twice by its address in memory
_VARIABLES = "variables/variables"
# Digests of the other files and a random id of the saving: nothing that a model computes with.
_FINGERPRINT = "fingerprint.pb"


def compare_tensor_files(before: Path, after: Path, tally: Tally) -> str:
    """Compare two files of tensors of one format, told by their first bytes.

    Returns:
        How they differ other than in a value, in one sentence; empty if they do not.

    Raises:
        ValueError: one cannot be read, or only by unpickling.
    """
    formats = [_read_format(path) for path in (before, after)]
    if formats[0] != formats[1]:
        return f"a {formats[1]} file, was {formats[0]}"
    match formats[0]:
        case "npy":
            _compare_named({"array": _map_array(before)}, {"array": _map_array(after)}, tally)
        case "npz":
            _compare_npz(before, after, tally)
        case "keras":
            return _compare_keras(before, after, tally)
        case _:
            _compare_hdf5(before, after, tally)
    return ""


def is_saved_model(folder: Path) -> bool:
    """True for a folder that TensorFlow saved."""
    return (folder / "saved_model.pb").is_file()


def told_by_tensors(path: str) -> bool:
    """True for a file of a SavedModel that `compare_variables` compares, or that holds nothing of the model."""
    return path.startswith(f"{_VARIABLES}.") or path == _FINGERPRINT


def compare_variables(before: Path, after: Path, tally: Tally) -> None:
    """Compare the variables of two SavedModels.

    Raises:
        ValueError: they cannot be read.
    """
    from tensorflow import errors, train

    try:
        old, new = (
            _Variables(train.load_checkpoint(str(folder / _VARIABLES))) if _has_variables(folder) else {}
            for folder in (before, after)
        )
        _compare_named(old, new, tally)
    except (errors.OpError, RuntimeError) as error:
        raise ValueError(f"{_VARIABLES}: {error}") from error


def _has_variables(folder: Path) -> bool:
    return (folder / f"{_VARIABLES}.index").is_file()


class _Variables(dict[str, Any]):
    """Variables of a checkpoint by name, each read when it is asked for."""

    def __init__(self, reader: Any) -> None:
        super().__init__(dict.fromkeys(reader.get_variable_to_shape_map()))
        self._reader = reader

    def __getitem__(self, name: str) -> Any:
        import numpy

        return numpy.asarray(self._reader.get_tensor(name))


def _read_format(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith(_NPY):
        return "npy"
    if head.startswith(_HDF5):
        return "hdf5"
    if not head.startswith(_ZIP[:2]):
        raise ValueError("no .npy, .npz, .keras or .h5 file")
    try:
        with zipfile.ZipFile(path) as archive:
            return "keras" if _CONFIG in archive.namelist() else "npz"
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from error


def _compare_named(before: dict[str, Any], after: dict[str, Any], tally: Tally) -> None:
    for name in dict.fromkeys([*sorted(before), *sorted(after)]):
        if name in before and name in after:
            _compare_tensor(name, before[name], after[name], tally)
        else:
            tally.n_compared += 1
            old, new = ("there" if name in side else MISSING for side in (before, after))
            tally.add(1, repr(name), old, new, group=name)


def _compare_tensor(name: str, before: Any, after: Any, tally: Tally) -> None:
    if before.dtype == object and after.dtype == object:  # texts of HDF5 and TensorFlow; numpy itself refuses objects
        compare_values(name, before.tolist(), after.tolist(), tally)
    else:
        compare_arrays(name, before, after, tally)


def _map_array(path: Path) -> Any:
    import numpy

    try:
        return numpy.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:  # not everything can be mapped: no empty array, and nothing that would need unpickling
        return numpy.load(path, allow_pickle=False)


def _compare_npz(before: Path, after: Path, tally: Tally) -> None:
    import numpy

    try:
        with numpy.load(before, allow_pickle=False) as old, numpy.load(after, allow_pickle=False) as new:
            _compare_named(_Members(old), _Members(new), tally)
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError(str(error)) from error


class _Members(dict[str, Any]):
    """Arrays of an open .npz file, each read when it is asked for."""

    def __init__(self, file: Any) -> None:
        super().__init__(dict.fromkeys(file.files))
        self._file = file

    def __getitem__(self, name: str) -> Any:
        import numpy

        return numpy.asarray(self._file[name])


def _compare_keras(before: Path, after: Path, tally: Tally) -> str:
    with ExitStack() as stack:
        try:
            old, new = (stack.enter_context(zipfile.ZipFile(path)) for path in (before, after))
            names = [sorted(archive.namelist()) for archive in (old, new)]
            if names[0] != names[1]:
                return f"other members: {sorted(set(names[0]) ^ set(names[1])) or 'one is there twice'}"
            for name in names[0]:
                if name.endswith(_WEIGHTS):
                    _compare_weights(name, old, new, tally)
                elif name == _CONFIG:
                    was, now = (_renumber(json.loads(archive.read(name)), {}) for archive in (old, new))
                    compare_values(_CONFIG, was, now, tally)
                elif name != _METADATA and old.read(name) != new.read(name):  # it holds Keras' version and the date
                    return f"other bytes in {name}"
        except zipfile.BadZipFile as error:
            raise ValueError(str(error)) from error
    return ""


def _compare_weights(name: str, before: zipfile.ZipFile, after: zipfile.ZipFile, tally: Tally) -> None:
    with tempfile.TemporaryDirectory(prefix="kit-compare-") as folder:
        old, new = Path(folder, "before.h5"), Path(folder, "after.h5")
        for archive, path in ((before, old), (after, new)):
            with archive.open(name) as source, path.open("xb") as target:
                copyfileobj(source, target, 1 << 20)
        _compare_hdf5(old, new, tally)


def _compare_hdf5(before: Path, after: Path, tally: Tally) -> None:
    import h5py  # type: ignore[import-untyped]

    try:
        with h5py.File(before, "r") as old, h5py.File(after, "r") as new:
            _compare_named(_Datasets(old), _Datasets(new), tally)
    except (OSError, RuntimeError, KeyError) as error:
        raise ValueError(str(error)) from error


class _Datasets(dict[str, Any]):
    """Datasets and attributes of an open HDF5 file, each read when it is asked for; no link to another file is followed."""

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._file = file
        self._add("/", file)
        file.visititems(self._add)

    def _add(self, path: str, item: Any) -> None:
        import h5py

        self.update({f"{path} attribute {name}": (path, name) for name in item.attrs})
        if isinstance(item, h5py.Dataset):
            self[path] = (path, None)

    def __getitem__(self, name: str) -> Any:
        import numpy

        path, attribute = super().__getitem__(name)
        item = self._file[path]
        return numpy.asarray(item[()] if attribute is None else item.attrs[attribute])


def _renumber(value: Any, numbers: dict[Any, int]) -> Any:
    """The same configuration with object ids by order of appearance."""
    if isinstance(value, dict):
        return {
            key: numbers.setdefault(item, len(numbers) + 1) if key == _OBJECT_ID else _renumber(item, numbers)
            for key, item in value.items()
        }
    return [_renumber(item, numbers) for item in value] if isinstance(value, list) else value
