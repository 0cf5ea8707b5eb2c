"""Settings of all tests."""

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from archives import make_archive_of
from commands import Kit
from hypothesis import settings
from warm_servers import warm_folder  # noqa: F401 - a fixture

from kit.testing import make_project

MEMORY = Path("/dev/shm")
LEAST_BYTES = 4 << 30  # free there; the quick tier writes 0.3 GiB

settings.register_profile("kit", deadline=None)  # shared machines are slow at times, and no test is about time
settings.load_profile("kit")


def _is_roomy(folder: Path) -> bool:
    """True if programs can be put there, and there is space."""
    if not os.access(folder, os.W_OK | os.X_OK) or os.statvfs(folder).f_flag & os.ST_NOEXEC:
        return False
    return shutil.disk_usage(folder).free >= LEAST_BYTES


if not {"TMPDIR", "PYTEST_DEBUG_TEMPROOT"} & os.environ.keys() and _is_roomy(MEMORY):
    os.environ["TMPDIR"] = str(MEMORY)
    tempfile.tempdir = None  # to be chosen again


def pytest_collection_finish() -> None:
    """What is there before the first test stays: the collector need not look at it again (a tenth of the CPU time)."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _memory_given_back(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[None]:
    """Files in memory go when all tests passed; on a disk pytest keeps those of the last three runs."""
    yield
    folder = tmp_path_factory.getbasetemp()
    if folder.is_relative_to(MEMORY) and not request.session.testsfailed:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _no_key_of_ours(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whoever runs the tests may have a signing key: no test finds it."""
    os.environ.pop("KIT_SIGNING_KEY", None)
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="session", autouse=True)
def _no_server_stays(warm_folder: Path) -> None:  # noqa: F811
    """Kernels are forked from servers of this session of tests only, and none of them stays."""


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Kit:
    """`kit` in the example project of `kit.testing`, which has no records yet."""
    project = make_project(tmp_path)
    monkeypatch.chdir(project.root)
    return Kit(project, capsys)


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of more records than are read in one batch."""
    return make_archive_of(tmp_path_factory.mktemp("many") / "archive", 2_100)
