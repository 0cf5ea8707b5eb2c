"""The processes that fork kernels: `kit kernels`, `kit kernels --stop`."""

from __future__ import annotations

import click

from kit.cli.console import ExampleCommand, format_when, json_option, print_json, print_progress, print_table
from kit.files import format_bytes


@click.command(cls=ExampleCommand, name="kernels", example="kit kernels --stop")
@click.option("--stop", is_flag=True, help="Let them end; one whose kernels still run ends after them.")
@json_option
def kernels_command(stop: bool, as_json: bool) -> None:
    """List or stop the processes that fork warm kernels.

    They are yours, and have imported libraries; unused ones end by themselves.
    """
    from kit.warm import list_servers, stop_servers

    servers = stop_servers() if stop else list_servers()
    if as_json:
        print_json(servers)
        return
    rows = [
        [
            each.pid,
            format_when(each.started),
            round(each.idle_s),
            each.n_kernels,
            each.n_forked,
            format_bytes(each.memory_bytes),
            " ".join(each.preloaded),
        ]
        for each in servers
    ]
    if rows:
        print_table(["process", "started", "unused s", "kernels", "so far", "memory", "imported"], rows)
    if stop or not rows:
        print_progress("told to end" if rows else "no process forks kernels")
