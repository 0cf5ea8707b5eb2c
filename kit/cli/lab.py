"""`kit lab`: JupyterLab on the project, with this interpreter."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from kit.cli.console import ExampleCommand


@click.command(
    cls=ExampleCommand,
    name="lab",
    example="kit lab",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@click.pass_context
def lab_command(context: click.Context) -> None:
    """Open JupyterLab on the project; further options go to JupyterLab."""
    from kit.project import find_project

    root = find_project(Path.cwd()).root
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={root}", *context.args]
    os.chdir(root)
    os.execv(sys.executable, command)
