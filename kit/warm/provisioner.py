"""Forked kernels for everything that starts kernels through jupyter_client: JupyterLab, nbclient, papermill.

A kernel specification asks for it, and says what to import:

    "metadata": {"kernel_provisioner": {"provisioner_name": "kit-warm", "config": {"preload": ["numpy", "pandas"]}}}
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from jupyter_client.provisioning import LocalProvisioner
from traitlets import List, Unicode

from kit.errors import WarmUnavailableError
from kit.warm.client import Forked, fork_kernel

LAUNCHER = Path(__file__).with_name("plain.py")
MODULES = ("ipykernel_launcher", "ipykernel")


class WarmProvisioner(LocalProvisioner):  # type: ignore[misc]
    """Forks the kernel where that can be done truly, and starts a new interpreter elsewhere.

    Attributes:
        preload: dotted names of modules to import before.
    """

    preload = List(Unicode(), help="names of modules that are imported before kernels are forked").tag(config=True)

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> dict[str, Any]:
        """Start the kernel; its command decides whether it can be a forked one."""
        try:
            self.process = await asyncio.get_running_loop().run_in_executor(None, self._fork, cmd, kwargs)
        except WarmUnavailableError as error:
            self.log.warning("The kernel starts in a new interpreter: %s", error.reason)
            connection: dict[str, Any] = await super().launch_kernel(cmd, **kwargs)
            return connection
        self.pid = self.pgid = self.process.pid
        self.cwd = kwargs.get("cwd")
        return self.connection_info  # type: ignore[no-any-return]

    async def cleanup(self, restart: bool = False) -> None:
        """As jupyter_client's, and nothing of the kernel's group is left."""
        if isinstance(self._forked, Forked):
            self._forked.close()
        await super().cleanup(restart=restart)

    _forked: Forked | None = None

    def _fork(self, command: list[str], options: dict[str, Any]) -> Forked:
        self._forked = fork_kernel(
            preload=tuple(self.preload),
            launcher=LAUNCHER,
            arguments=read_arguments(command),
            folder=Path(options.get("cwd") or Path.cwd()),
            variables={**(options["env"] if options.get("env") is not None else os.environ)},
            stdout=_descriptor(options.get("stdout"), 1),
            stderr=_descriptor(options.get("stderr"), 2),
        )
        return self._forked


def read_arguments(command: list[str]) -> list[str]:
    """What a kernel's command says after ipykernel's name.

    Raises:
        WarmUnavailableError: it does not start ipykernel in this very interpreter.
    """
    match command:
        case [python, "-m", module, *arguments] if module in MODULES and Path(python).absolute() == Path(
            sys.executable
        ):
            return arguments
    raise WarmUnavailableError(f"only `{sys.executable} -m {MODULES[0]} …` can be forked, found `{' '.join(command)}`")


def _descriptor(stream: Any, default: int) -> int:
    if stream is None:
        return default
    if isinstance(stream, int) and stream >= 0:
        return stream
    if hasattr(stream, "fileno"):
        return int(stream.fileno())
    raise WarmUnavailableError("the kernel's streams are to be pipes or nothing, which only a new process can have")
