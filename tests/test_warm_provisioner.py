"""Forked kernels through jupyter_client's provisioner."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager
from warm_servers import await_end, parent_of

from kit.errors import WarmUnavailableError
from kit.warm.provisioner import WarmProvisioner, read_arguments


class Manager(KernelManager):
    """A manager whose kernel specification asks for the provisioner, as its installed entry point would give it."""

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(argv=self.command, display_name="Warm", language="python")


def start(folder: Path, command: list[str], preload: list[str]) -> tuple[Manager, WarmProvisioner]:
    manager = Manager(transport="ipc", ip=str(folder / "c"), connection_file=str(folder / "c.json"))
    manager.command = [*command, "-f", "{connection_file}"]
    provisioner = WarmProvisioner(kernel_id="k", kernel_spec=manager.kernel_spec, parent=manager, preload=preload)
    manager.provisioner = provisioner
    manager.start_kernel(cwd=str(folder))
    return manager, provisioner


@pytest.fixture
def short_folder(tmp_path: Path) -> Iterator[Path]:
    """For sockets, whose addresses are at most 107 bytes long."""
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        yield Path(name)


def ask(manager: Manager, source: str) -> str:
    client = manager.blocking_client()
    client.start_channels()
    texts: list[str] = []
    try:
        client.wait_for_ready(timeout=30)
        client.execute_interactive(
            source, timeout=30, output_hook=lambda message: texts.append(message["content"].get("text", ""))
        )
    finally:
        client.stop_channels()
    return "".join(texts)


@pytest.mark.kernel
@pytest.mark.usefixtures("warm_folder")
def test_kernel_of_a_notebook_server_is_forked_interrupted_restarted_and_ended(short_folder: Path) -> None:
    manager, provisioner = start(short_folder, [sys.executable, "-m", "ipykernel_launcher"], ["numpy"])
    first = provisioner.pid
    assert first is not None
    server = parent_of(first)
    source = "import os, sys; print(os.getppid(), 'numpy' in sys.modules, os.getcwd())"
    try:
        assert ask(manager, source).startswith(f"{server} True {short_folder}")
        manager.interrupt_kernel()
        assert manager.is_alive()
        manager.restart_kernel(now=True)
        await_end(first)
        assert provisioner.pid != first
        assert ask(manager, source).startswith(f"{server} True")
    finally:
        manager.shutdown_kernel()
    assert provisioner.pid is not None
    await_end(provisioner.pid)


@pytest.mark.kernel
@pytest.mark.usefixtures("warm_folder")
def test_kernel_that_cannot_be_forked_is_a_new_interpreter(
    short_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    command = [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher"]
    with caplog.at_level(logging.WARNING):
        manager, provisioner = start(short_folder, command, ["numpy"])
    try:
        assert "The kernel starts in a new interpreter: only `" in caplog.text
        assert ask(manager, "import sys; print('numpy' in sys.modules)") == "False\n"
    finally:
        manager.shutdown_kernel(now=True)
    assert provisioner.process is None


def test_command_must_start_ipykernel_in_this_interpreter() -> None:
    assert read_arguments([sys.executable, "-m", "ipykernel_launcher", "-f", "c"]) == ["-f", "c"]
    for command in ([sys.executable, "-m", "other"], ["python", "-m", "ipykernel"], [sys.executable, "x.py"], []):
        with pytest.raises(WarmUnavailableError, match="can be forked, found"):
            read_arguments(command)
