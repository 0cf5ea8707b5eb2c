"""What makes two servers interchangeable: all that an import may read, as far as it can be known before.

A key is for what a client can look up by itself. A server of that key watches which other variables are read while it
imports, and its name is made from the key and the values of these: so a client whose value differs finds no server.
"""

from __future__ import annotations

import hashlib
import json
import os
import site
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

# Read by the interpreter, by C and C++ libraries when they are loaded, and by the locale; Python's own reads are watched.
PREFIXES = (
    "ABSL_", "ARROW_", "BLIS_", "CUDA_", "GLIBC_", "GOMP_", "GOTO_", "GRPC_", "HDF5_", "HIP_", "JE_MALLOC_", "KERAS_",
    "KMP_", "LC_", "LD_", "MALLOC_", "MKL_", "MPL", "NUMEXPR_", "NVIDIA_", "OMP_", "OPENBLAS_", "PYTHON", "QT_API",
    "ROCR_", "SPYDER", "TF_", "TF2_", "TQDM_", "XLA_", "_RJEM_MALLOC_",
)  # fmt: skip
NAMES = ("HOME", "LANG", "LANGUAGE", "TZ", "TZDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
# Different for each execution, or for each shell, and of no meaning for a library.
PER_EXECUTION = ("KIT_", "JPY_", "PYTEST_CURRENT_TEST")
PER_SHELL = ("_", "OLDPWD", "PWD", "SHLVL")
# In place of names: a library has read them all.
EVERY = "*"
PACKAGE_SUFFIXES = (".dist-info", ".egg-info", ".egg-link", ".egg", ".pth")
STATUS_LINES = (
    "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Cpus_allowed",
    "Mems_allowed",
)  # fmt: skip
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
DIGITS = 20


class Edition(NamedTuple):
    """Whose servers, and made from what: of one family nobody asks those of another digest than the newest any more."""

    family: str
    digest: str


def make_key(preload: tuple[str, ...], launcher: Path, variables: Mapping[str, str]) -> str:
    """The key of servers that may fork a kernel for this execution.

    Args:
        preload: dotted names of modules, in order.
        launcher: the file that makes a process a kernel.
        variables: the kernel's environment.
    """
    facts = {
        "preload": preload,
        "installed": describe_installed(launcher),
        "variables": {name: value for name, value in variables.items() if is_read_early(name)},
        "process": describe_process(),
    }
    return _digest(facts)


def describe_installed(launcher: Path) -> dict[str, Any]:
    """What servers of an interpreter are made from: itself, its packages, kit's own sources."""
    return {
        "launcher": [str(launcher), hashlib.sha256(launcher.read_bytes()).hexdigest()],
        "interpreter": _describe_interpreter(),
        "packages": [_list_packages(folder) for folder in site_folders()],
        "server": sorted(_mark(path) for path in Path(__file__).parent.glob("*.py")),
    }


def make_edition(launcher: Path) -> Edition:
    """The edition of servers that are started now."""
    family = [sys.executable, sys.prefix, str(launcher), _describe_namespaces()]
    return Edition(_digest(family), _digest(describe_installed(launcher)))


def make_name(key: str, names: Iterable[str], variables: Mapping[str, str]) -> str:
    """The name of the server that has imported under these variables.

    Args:
        key: see `make_key`.
        names: of variables that are read at import, or `EVERY`.
        variables: an environment.
    """
    return _digest([key, pick(names, variables)])


def pick(names: Iterable[str], variables: Mapping[str, str]) -> dict[str, str | None]:
    """The values of those variables, None for one that is not set; without those that differ for each execution."""
    wanted = set(names)
    if EVERY in wanted:
        wanted |= variables.keys()
    is_kept = {name: not name.startswith(PER_EXECUTION) and name not in PER_SHELL for name in wanted - {EVERY}}
    return {name: variables.get(name) for name in sorted(wanted) if is_kept.get(name)}


def is_read_early(name: str) -> bool:
    """True for a variable that is read where nobody can watch."""
    return name in NAMES or name.startswith(PREFIXES) or name.lower().endswith("_proxy")


def shared_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """An execution's environment without what belongs to it alone: a server's own."""
    return {
        name: value for name, value in variables.items() if not name.startswith(PER_EXECUTION) and name not in PER_SHELL
    }


def site_folders() -> tuple[Path, ...]:
    """Where this interpreter's packages are installed."""
    folders = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    return tuple(dict.fromkeys(Path(folder).resolve() for folder in folders if Path(folder).is_dir()))


def describe_process() -> dict[str, Any]:
    """What a process has from whoever started it, and cannot or must not change later: rights, limits, groups."""
    import resource  # not on every system

    lines = Path("/proc/self/status").read_text().splitlines()
    limits = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return {
        "status": [line for line in lines if line.startswith(tuple(f"{name}:" for name in STATUS_LINES))],
        "namespaces": _describe_namespaces(),
        "cgroup": _read_optional(Path("/proc/self/cgroup")),
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in limits},
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "scheduler": os.sched_getscheduler(0),
    }


def _describe_namespaces() -> list[str]:
    return [str(path.readlink()) for path in map(Path("/proc/self/ns").joinpath, NAMESPACES) if path.is_symlink()]


def _read_optional(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _describe_interpreter() -> list[Any]:
    return [sys.executable, sys.prefix, sys.version, _mark(Path(sys.executable).resolve())]


def _list_packages(folder: Path) -> list[Any]:
    """A site folder's packages by name, version and time of installation."""
    with os.scandir(folder) as entries:
        found = [(e.name, e.stat().st_mtime_ns) for e in entries if e.name.endswith(PACKAGE_SUFFIXES)]
    return [str(folder), sorted(found)]


def _mark(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return str(path), status.st_mtime_ns, status.st_size


def _digest(facts: Any) -> str:
    data = json.dumps(facts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(data.encode("ascii")).hexdigest()[:DIGITS]
