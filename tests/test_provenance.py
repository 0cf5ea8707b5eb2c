import os
import re
import subprocess
import sys
from importlib.metadata import distributions, version

import pytest

from kit.files import sha256_bytes
from kit.provenance import (
    LockDifference,
    compare_lock,
    current_process,
    describe_machine,
    describe_software,
    is_alive,
    kit_version,
    list_packages,
    process_mark,
    requirements_text,
    scan_packages,
)
from kit.record import Process

HOST = describe_machine().host


def compare(tmp_path, text):
    (tmp_path / "requirements.lock").write_text(text, encoding="utf-8")
    return compare_lock(tmp_path / "requirements.lock")


def test_packages_are_normalised_and_sorted():
    packages = list_packages()
    assert list(packages) == sorted(packages)
    assert dict(packages)["great-expectations"] == version("great_expectations")
    assert requirements_text().splitlines()[0] == "{}=={}".format(*packages[0])


def distributions_in(folder):
    found = {}
    for each in distributions(path=[str(folder)]):
        if each.name and each.version:
            found.setdefault(re.sub(r"[-_.]+", "-", each.name).lower(), each.version)
    return found


def write_metadata(folder, name, text):
    (folder / name).mkdir(parents=True)
    (folder / name / "METADATA").write_bytes(text.encode())


def test_packages_are_those_that_the_standard_library_finds():
    found = {}
    for entry in reversed(sys.path):
        found |= distributions_in(entry)
    assert dict(list_packages()) == found
    assert kit_version() == version("kit-ml")


@pytest.mark.parametrize(
    "text",
    [
        "Metadata-Version: 2.4\nName: a.B\nVersion: 1.0\nSummary: x\n",
        "Metadata-Version: 2.4\nName: a\nVersion: 1.0\n\nName: other\n",
        "Metadata-Version: 2.4\r\nName: a\r\nVersion: 1.0\r\nSummary: x\r\n",
        "Metadata-Version: 2.4\nVersion: 1.0\nClassifier: x :: y\nName: a\n\nbody\n",
        "metadata-version: 2.4\nNAME: a\nversion: 1.0\nSummary: x\n",
    ],
)
def test_metadata_as_installers_leave_them_are_read_without_the_standard_library(tmp_path, text):
    write_metadata(tmp_path, "a-1.0.dist-info", text)
    (found,) = scan_packages([str(tmp_path / "nowhere"), str(tmp_path)]).items()
    assert {found[0]: found[1][0]} == distributions_in(tmp_path)
    assert found[1][1] == f"{tmp_path}/a-1.0.dist-info"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\nName: a\nVersion: 1.0\nSummary: x\n",
        "Metadata-Version: 2.4\nName: a\nVersion: 1.0\n  .1\n",
        "Metadata-Version: 2.4\nName: a\n\tb\nVersion: 1.0\nSummary: x\n",
        "Metadata-Version: 2.4\nName: a \nVersion: 1.0\nSummary: x\n",
        "Metadata-Version: 2.4\nName: a\nName: b\nVersion: 1.0\nSummary: x\n",
        "Metadata-Version: 2.4\nno field\nName: a\nVersion: 1.0\nSummary: x\n",
        "Metadata-Version: 2.4\nName: a\nSummary: x\n\nVersion: 1.0\n\n",
    ],
)
def test_metadata_that_begin_in_another_way_are_left_to_the_standard_library(tmp_path, text):
    write_metadata(tmp_path, "a-1.0.dist-info", text)
    assert scan_packages([str(tmp_path)]) is None


@pytest.mark.parametrize("kind", ["egg", "zip", "twice", "no metadata"])
def test_installations_of_other_kinds_are_left_to_the_standard_library(tmp_path, kind):
    text = "Metadata-Version: 2.4\nName: a\nVersion: 1.0\nSummary: x\n"
    write_metadata(tmp_path, "a-1.0.dist-info", text)
    assert scan_packages([str(tmp_path)]) is not None
    if kind == "egg":
        (tmp_path / "b.egg-info").touch()
    elif kind == "twice":
        write_metadata(tmp_path, "a-0.9.dist-info", text)
    elif kind == "no metadata":
        (tmp_path / "b-1.0.dist-info").mkdir()
    else:
        (tmp_path / "lib.zip").touch()
    assert scan_packages([str(tmp_path), *([str(tmp_path / "lib.zip")] if kind == "zip" else [])]) is None


def test_first_of_two_installations_on_the_path_counts(tmp_path):
    for number, folder in enumerate(("one", "two")):
        text = f"Metadata-Version: 2.4\nName: a\nVersion: {number}\nSummary: x\n"
        write_metadata(tmp_path / folder, "a.dist-info", text)
    assert scan_packages([str(tmp_path / "two"), str(tmp_path / "one")])["a"][0] == "1"


def test_lock_that_is_installed_has_no_difference(tmp_path):
    lock = "\n".join(f"{name}=={version} \\\n    --hash=sha256:{'0' * 64}" for name, version in list_packages())
    assert compare(tmp_path, f"# a comment\n--no-binary :none:\n\n{lock}\n") == []


@pytest.mark.parametrize("name", ["Click", "click[extra]", "click  "])
def test_name_is_compared_as_installers_do(tmp_path, name):
    assert compare(tmp_path, f"{name}=={version('click')}  # a comment") == []


@pytest.mark.parametrize(
    ("line", "differences"),
    [
        ("click==0.0.1", [LockDifference("click", "0.0.1", version("click"))]),
        ("click>=999", [LockDifference("click", ">=999", version("click"))]),
        ("no-such-package==1 --hash=sha256:0", [LockDifference("no-such-package", "1", None)]),
        ("no-such-package", [LockDifference("no-such-package", "any version", None)]),
        ("click==0.0.1 ; python_version < '3' \\", []),
        ("no-such-package==1 ; sys_platform == 'nowhere'", []),
        ("click==0.0.1 ; python_version >= '3'", [LockDifference("click", "0.0.1", version("click"))]),
        ("click=0.0.1", [LockDifference("click=0.0.1", "unreadable line", None)]),
        ("click==0 ; extra == 'x'", []),
        (
            "click==0 ; python_version ~= 'x'",
            [LockDifference("click==0 ; python_version ~= 'x'", "unreadable line", None)],
        ),
    ],
)
def test_only_lines_whose_marker_holds_are_compared(tmp_path, line, differences):
    assert compare(tmp_path, line) == differences


def test_lock_is_compared_also_from_its_bytes():
    assert compare_lock(b"\xef\xbb\xbfno-such-package==1\r\n") == [LockDifference("no-such-package", "1", None)]
    assert compare_lock(b"\xff\n") == [LockDifference("\\xff", "unreadable line", None)]


def test_difference_reads_as_a_sentence():
    assert str(LockDifference("numpy", "2.4.6", "2.3.0")) == "numpy: locked 2.4.6, installed 2.3.0"
    assert str(LockDifference("numpy", "2.4.6", None)) == "numpy: locked 2.4.6, missing"


def test_software_pins_packages_lock_and_kit():
    software = describe_software(b"lock")
    assert software.lock_sha256 == sha256_bytes(b"lock")
    assert software.packages_sha256 == sha256_bytes(requirements_text().encode())
    assert (software.n_packages, software.kit_version) == (len(list_packages()), kit_version())
    assert describe_software(None).lock_sha256 is None


def test_machine_is_described():
    machine = describe_machine()
    assert machine.python.startswith("CPython 3.")
    assert (machine.n_cpus >= 1, len(machine.cpu_flags_sha256), bool(machine.cpu_model)) == (True, 64, True)
    assert set(machine.thread_settings) <= set(os.environ)


def test_this_process_is_alive():
    assert is_alive(current_process(), HOST)


@pytest.mark.skipif(sys.platform != "linux", reason="marks and boot ids are Linux'")
def test_another_process_under_the_same_number_is_not_the_recorded_one():
    process = current_process()
    assert not is_alive(Process(process.pid, "1", process.boot), HOST)
    assert not is_alive(Process(process.pid, process.mark, "another boot"), HOST)


def test_ended_process_is_not_alive_even_before_it_is_collected():
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    process = Process(child.pid, process_mark(child.pid), current_process().boot)
    assert is_alive(process, HOST)
    child.communicate(b"\n")
    assert (is_alive(process, HOST), process_mark(child.pid)) == (False, "")
    assert not is_alive(Process(child.pid, "", process.boot), HOST)


def test_process_of_another_host_counts_as_running():
    assert is_alive(Process(1, "x", "y"), "another host")


@pytest.mark.parametrize("line", ["-r more.txt", "-c limits.txt", "-e .", "--requirement=more.txt"])
def test_line_that_names_packages_elsewhere_is_not_passed_over(line: str) -> None:
    assert compare_lock(f"{line}\n".encode()) == [LockDifference(line, "unreadable line", None)]


@pytest.mark.parametrize(
    "line", ["--hash=sha256:00", "--only-binary :all:", "--require-hashes", "-i https://example.org"]
)
def test_line_for_the_installer_names_no_package(line: str) -> None:
    assert compare_lock(f"{line}\n".encode()) == []


def test_package_locked_to_an_address_must_come_from_there() -> None:
    (found,) = compare_lock(b"numpy @ https://example.org/numpy.whl\n")
    assert (found.package, found.locked) == ("numpy", "from https://example.org/numpy.whl")


def test_record_has_the_variables_by_which_results_differ(monkeypatch):
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    described = describe_machine.__wrapped__().thread_settings
    assert (described["TF_USE_LEGACY_KERAS"], described["TZ"]) == ("1", "Asia/Tokyo")
