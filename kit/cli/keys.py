"""Keys to sign with, and checkpoints: `kit key new`, `kit key show`, `kit checkpoint`."""

from __future__ import annotations

import getpass
import re
import socket
from pathlib import Path

import click

from kit.cli.console import LEDGER_MEMORY, ExampleCommand, json_option, open_workbench, print_json, print_progress

GIT_REF = "refs/kit/checkpoints"


@click.group(name="key")
def key_command() -> None:
    """Make and show the key that signs records and checkpoints."""


@key_command.command(cls=ExampleCommand, name="new", example="kit key new --name ana@example.org")
@click.option("--name", default="", help="Who signs with it; no white space.  [default: user@host]")
@click.option(
    "--file", "file", type=click.Path(path_type=Path), help="Where to keep it.  [default: your settings' folder]"
)
@json_option
def new_command(name: str, file: Path | None, as_json: bool) -> None:
    """Make an ed25519 key; every later record and checkpoint is signed with it."""
    from kit.signing import create_signing_key, key_path

    path = file or key_path()
    key = create_signing_key(path, name or re.sub(r"[\s+]", "-", f"{getpass.getuser()}@{socket.gethostname()}"))
    if as_json:
        print_json({"file": str(path), "public_key": str(key.public)})
        return
    click.echo(key.public)
    print_progress(f"kept in {path}, readable by you only; back it up, and give others the line above")


@key_command.command(cls=ExampleCommand, name="show", example="kit key show --pem")
@click.option("--pem", is_flag=True, help="As openssl reads it.")
@json_option
def show_command(pem: bool, as_json: bool) -> None:
    """Print the public key, as `--keys` files and `trusted_keys` in [tool.kit] have it."""
    from kit.errors import NotFoundError
    from kit.signing import KEY_VARIABLE, find_signing_key, key_path

    key = find_signing_key()
    if key is None:
        raise NotFoundError(
            f"there is no signing key: neither {KEY_VARIABLE} nor {key_path()}; make one with `kit key new`"
        )
    text = key.public.pem.decode().rstrip() if pem else str(key.public)
    if as_json:
        print_json({"public_key": str(key.public), "pem": key.public.pem.decode()})
    else:
        click.echo(text)


@click.command(cls=ExampleCommand, name="checkpoint", example="kit checkpoint --git")
@click.option("--git", "in_git", is_flag=True, help=f"Also commit it to {GIT_REF}/… of the project's repository.")
@json_option
def checkpoint_command(in_git: bool, as_json: bool) -> None:
    """Print the ledger's size and root as a signed note; keep it where those who write the archive cannot write."""
    from kit import git
    from kit.archive import make_checkpoint
    from kit.errors import NotFoundError

    workbench = open_workbench()
    checkpoint = make_checkpoint(workbench.archive, workbench.project.scratch / LEDGER_MEMORY)
    if checkpoint is None:
        raise NotFoundError("the ledger is empty: nothing was executed yet")
    ref = f"{GIT_REF}/{workbench.archive.origin.removeprefix('kit/').replace('/', '-')}"
    if in_git:
        message = f"checkpoint: {checkpoint.size} entries"
        git.commit_to_ref(workbench.project.root, ref, "checkpoint", checkpoint.encode(), message)
        print_progress(f"committed to {ref}; keep it elsewhere with: git push origin {ref}")
    if as_json:
        facts = {"origin": checkpoint.origin, "size": checkpoint.size, "line": checkpoint.line}
        print_json({**facts, "note": checkpoint.encode().decode(), "ref": ref if in_git else None})
    else:
        click.echo(checkpoint.encode().decode(), nl=False)
