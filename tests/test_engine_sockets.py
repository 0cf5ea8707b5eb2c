"""Folders of sockets: nobody else's, and none that stays."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kit.engine.sockets import LONGEST_FOLDER, SocketFolder, remove_abandoned_folders


def test_socket_folders_of_the_dead_are_removed_at_once_and_others_left(tmp_path: Path) -> None:
    dead, target, held = tmp_path / "kit-sockets-dead", tmp_path / "target", SocketFolder(tmp_path)
    for folder in (dead, target, tmp_path / "kit-kernel-1-other"):
        folder.mkdir()
        (folder / "c-ipc-1").touch()
    (tmp_path / "kit-sockets-link").symlink_to(target)
    (tmp_path / "kit-sockets-file").touch()
    remove_abandoned_folders(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"target", "kit-sockets-link", "kit-sockets-file", "kit-kernel-1-other", held.folder.name}
    assert (target / "c-ipc-1").exists()
    assert held.connection_file.stat().st_mode & 0o777 == 0o600
    held.remove()
    assert not held.folder.exists()


HOLD = """
import os, sys
from pathlib import Path
from kit.engine.sockets import SocketFolder
print(SocketFolder(Path(sys.argv[1])).folder, flush=True)
os.kill(os.getpid(), 9)
"""


def test_folder_of_a_killed_process_goes_with_the_next_one(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", HOLD, str(tmp_path)], capture_output=True, text=True, check=False)
    left = Path(killed.stdout.strip())
    assert (killed.returncode, left.is_dir()) == (-9, True)
    remove_abandoned_folders(tmp_path)
    assert not left.exists()


def test_folder_that_is_just_being_made_is_never_taken_for_an_abandoned_one(tmp_path: Path) -> None:
    done = threading.Event()

    def sweep() -> None:
        while not done.is_set():
            remove_abandoned_folders(tmp_path)

    sweepers = [threading.Thread(target=sweep) for _ in range(3)]
    for sweeper in sweepers:
        sweeper.start()
    try:
        for _ in range(200):
            sockets = SocketFolder(tmp_path)
            assert sockets.connection_file.is_file()
            sockets.remove()
    finally:
        done.set()
        for sweeper in sweepers:
            sweeper.join()
    assert list(tmp_path.iterdir()) == []


def test_address_fits_into_a_socket_name_whatever_the_folder_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    sockets = SocketFolder()
    try:
        assert not sockets.folder.is_relative_to(deep)
        assert len(os.fsencode(sockets.folder)) <= LONGEST_FOLDER
        assert all(len(sockets.address(channel)) <= len("ipc://") + 107 for channel in ("shell", "iopub", "control"))
    finally:
        sockets.remove()
