"""What results may depend on beside code and data: packages, Python, machine, threads."""

from __future__ import annotations

import functools
import json
import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from importlib.machinery import PathFinder
from pathlib import Path

import msgspec

from kit.files import canonical_json, sha256_bytes, sha256_file
from kit.record import Machine, Process, Software

# variables of the environment by which the same code gives other results: other arithmetic, no assertions, and what a time of
# day means where nobody says in which zone
ARITHMETIC_VARIABLES = (
    "CUBLAS_WORKSPACE_CONFIG", "JAX_ENABLE_X64", "KERAS_BACKEND", "MKL_CBWR", "NVIDIA_TF32_OVERRIDE", "PYTHONOPTIMIZE",
    "TF_DETERMINISTIC_OPS", "TF_ENABLE_ONEDNN_OPTS", "TF_USE_LEGACY_KERAS", "TF_XLA_FLAGS", "TZ", "XLA_FLAGS",
)  # fmt: skip
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip
_KIT = "kit-ml"
_NORMALISE = re.compile(r"[-_.]+")
_FIELD = re.compile(r"([!-9;-~]+): ([^\n]*)\n")  # of METADATA, all of it in one line
_VALUE = re.compile(r"[!-~]+")


# lines of a lock that tell an installer where and how; any other option, such as `-r more.txt`, names packages
_INSTALLER_OPTIONS = (
    "--hash", "--index-url", "-i ", "--extra-index-url", "--no-index", "--find-links", "-f ", "--no-binary",
    "--only-binary", "--prefer-binary", "--require-hashes", "--pre", "--trusted-host", "--use-feature",
)  # fmt: skip


class LockDifference(msgspec.Struct, frozen=True):
    """One package that is not installed as the lock has it; `installed` is None if it is missing."""

    package: str
    locked: str
    installed: str | None

    def __str__(self) -> str:
        """`numpy: locked 2.4.6, installed 2.3.0`."""
        return f"{self.package}: locked {self.locked}, {f'installed {self.installed}' if self.installed else 'missing'}"


@functools.cache
def list_packages() -> tuple[tuple[str, str], ...]:
    """(normalised name, version) of every installed distribution, sorted."""
    return tuple(sorted((name, version) for name, (version, _) in _find_packages().items()))


@functools.cache
def _find_packages() -> dict[str, tuple[str, str]]:
    """(version, folder of its metadata) by normalised name; the folder is empty where the standard library found it."""
    own = [finder for finder in sys.meta_path if hasattr(finder, "find_distributions")]
    scanned = scan_packages(sys.path) if own == [PathFinder] else None
    if scanned is not None:
        return scanned
    from importlib.metadata import distributions

    found: dict[str, tuple[str, str]] = {}
    for distribution in distributions():
        if distribution.name and distribution.version:  # what an interrupted installation leaves has neither
            found.setdefault(_NORMALISE.sub("-", distribution.name).lower(), (distribution.version, ""))
    return found


def scan_packages(path: Iterable[str]) -> dict[str, tuple[str, str]] | None:
    """What `importlib.metadata` would find, as `_find_packages`, in a tenth of its time with its import.

    Args:
        path: as `sys.path`.

    Returns:
        None where anything is not as installers leave it today: a zip, an egg, metadata that begin in another way.
    """
    found: dict[str, tuple[str, str]] = {}
    for entry in path:
        try:
            names = os.listdir(entry or ".")  # noqa: PTH208 - strings, see `_digest_editable_sources`
        except FileNotFoundError:
            continue
        except OSError:
            return None
        here: dict[str, tuple[str, str]] = {}
        for name in names:
            ending = name.lower().rpartition(".")[2]
            if ending == "egg-info" or entry.lower().endswith(".egg"):
                return None
            if ending == "dist-info":
                folder = f"{entry or '.'}/{name}"
                title = _read_title(folder)
                normalised = _NORMALISE.sub("-", title[0]).lower()
                if not normalised or normalised in here:
                    return None
                here[normalised] = title[1], folder
        found = here | found
    return found


def _read_title(folder: str) -> tuple[str, str]:
    """(name, version) that METADATA begin with; empty texts unless each of its lines until then is a field by itself."""
    title: dict[str, str] = {}
    try:
        with open(f"{folder}/METADATA", encoding="utf-8") as file:  # noqa: PTH123
            for line in file:
                if len(title) == 2 and not line.startswith((" ", "\t")):  # so neither of them goes on in this line
                    return title["name"], title["version"]
                match = _FIELD.fullmatch(line)
                if match and match[1].lower() in ("name", "version"):
                    if not _VALUE.fullmatch(match[2]) or title.setdefault(match[1].lower(), match[2]) != match[2]:
                        break
                elif not match:
                    break
    except (OSError, UnicodeDecodeError):
        pass
    return "", ""


def requirements_text() -> str:
    """What is installed, a `name==version` line each, as the record's requirements.txt holds it."""
    return "".join(f"{name}=={version}\n" for name, version in list_packages())


def compare_lock(lock: Path | bytes) -> list[LockDifference]:
    """How the installed packages differ from a lock, for the lines whose marker holds here.

    A package that is installed and not locked is no difference: the lock says what must be there.

    Args:
        lock: the file, or its bytes; what is no UTF-8 in it makes an unreadable line.
    """
    installed = dict(list_packages())
    data = lock if isinstance(lock, bytes) else lock.read_bytes()
    lines = (
        line.split("#")[0].rstrip(" \\").strip() for line in data.decode("utf-8-sig", "backslashreplace").splitlines()
    )
    found = (_compare_line(line, installed) for line in lines if line and not line.startswith(_INSTALLER_OPTIONS))
    return [difference for difference in found if difference]


def _compare_line(line: str, installed: Mapping[str, str]) -> LockDifference | None:
    from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.version import InvalidVersion

    try:
        requirement = Requirement(line.split(" --hash")[0])
        if requirement.marker and not requirement.marker.evaluate():
            return None
        name = _NORMALISE.sub("-", requirement.name).lower()
        if requirement.url:
            is_from_there = name in installed and _read_url(name) == requirement.url
            return None if is_from_there else LockDifference(name, f"from {requirement.url}", installed.get(name))
        if name in installed and requirement.specifier.contains(installed[name], prereleases=True):
            return None
    except (InvalidRequirement, InvalidVersion, UndefinedComparison, UndefinedEnvironmentName):
        return LockDifference(line, "unreadable line", None)
    locked = str(requirement.specifier).removeprefix("==") or "any version"
    return LockDifference(name, locked, installed.get(name))


def _read_url(name: str) -> str:
    """The address that a package was installed from; empty for one from an index."""
    try:
        return str(json.loads(_read_origin(name))["url"])
    except (ValueError, KeyError, TypeError):
        return ""


def _read_origin(name: str) -> str:
    """The direct_url.json of an installed package; empty for one from an index."""
    folder = _find_packages().get(name, ("", ""))[1]
    if folder:
        file = Path(folder, "direct_url.json")
        return file.read_text(encoding="utf-8") if file.is_file() else ""
    from importlib.metadata import distribution

    return distribution(name).read_text("direct_url.json") or ""


def describe_software(lock: bytes | None) -> Software:
    """What is installed, and the digest of the bundle's lock."""
    text = requirements_text()
    return Software(
        packages_sha256=sha256_bytes(text.encode()),
        n_packages=text.count("\n"),
        lock_sha256=sha256_bytes(lock) if lock is not None else None,
        kit_version=kit_version(),
        kit_sources_sha256=_digest_editable_sources(),
    )


@functools.cache
def kit_version() -> str:
    """The installed version of kit."""
    from_here = _find_packages().get(_KIT)
    if from_here:
        return from_here[0]
    from importlib.metadata import version

    return version(_KIT)


@functools.cache
def _digest_editable_sources() -> str | None:
    """Digest of kit's sources for an editable install, whose version number says too little."""
    if '"editable":true' not in _read_origin(_KIT).replace(" ", ""):
        return None
    package = os.path.dirname(__file__)  # noqa: PTH120 - strings: a third of the time for some 350 files
    found = (f"{folder}/{name}" for folder, _, names in os.walk(package) for name in names if name.endswith(".py"))
    files = {path[len(package) + 1 :].replace(os.sep, "/"): sha256_file(path) for path in found}
    return sha256_bytes(canonical_json(files))


@functools.cache
def describe_machine() -> Machine:
    """Python, operating system, processor, threads, host and user."""
    model, flags = _read_cpu()
    return Machine(
        python=f"{platform.python_implementation()} {platform.python_version()}",
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu_model=model,
        cpu_flags_sha256=sha256_bytes(flags.encode()),
        n_cpus=len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1,
        host=platform.node(),
        user=_user(),
        thread_settings={
            name: os.environ[name] for name in (*_THREAD_VARIABLES, *ARITHMETIC_VARIABLES) if name in os.environ
        },
    )


def _read_cpu() -> tuple[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine(), ""
    facts = dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))
    flags = facts.get("flags") or facts.get("Features") or ""
    return facts.get("model name") or platform.machine(), " ".join(sorted(flags.split()))


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


@functools.cache
def boot_id() -> str:
    """Tells this machine's present uptime from every other, so that a process id means something; empty if unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def current_process() -> Process:
    """This process."""
    return Process(os.getpid(), process_mark(os.getpid()), boot_id())


def is_alive(process: Process, host: str) -> bool:
    """True while a process runs; a process on another host cannot be seen from here and counts as running."""
    if host != platform.node():
        return True
    return process.boot == boot_id() and process_mark(process.pid) == process.mark != ""


def process_mark(pid: int) -> str:
    """When a process started, in the system's own unit; empty if there is no such process (or it is a zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return "" if sys.platform == "linux" else _probe(pid)
    return "" if fields[0] in ("Z", "X") else fields[19]


def _probe(pid: int) -> str:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "alive"
