"""Keys to sign with, and checkpoints: `kit key new`, `kit key show`, `kit checkpoint`."""

from __future__ import annotations

import getpass
import os
import re
import socket
from pathlib import Path

import click

from kit.cli.console import UNSIGNED, ExampleCommand, json_option, open_workbench, print_json, print_progress

GIT_REF = "refs/kit/checkpoints"


@click.group(name="key", epilog="Example: kit key new --name ana@example.org")
def key_command() -> None:
    """Make and show the key that signs records and checkpoints."""


@key_command.command(cls=ExampleCommand, name="new", example="kit key new --name ana@example.org")
@click.option("--name", help="Who signs with it; no white space.  [default: user@host]")
@click.option(
    "--file", "file", type=click.Path(path_type=Path), help="Where to keep it.  [default: your settings' folder]"
)
@json_option
def new_command(name: str | None, file: Path | None, as_json: bool) -> None:
    """Make an ed25519 key; with it in its place, every later record and checkpoint is signed."""
    from kit.signing import KEY_VARIABLE, create_signing_key, key_path

    path = file or key_path()
    own = re.sub(r"[\s+]", "-", f"{getpass.getuser()}@{socket.gethostname()}")
    key = create_signing_key(path, own if name is None else name)
    if as_json:
        print_json({"file": str(path), "public_key": str(key.public)})
        return
    click.echo(key.public)
    print_progress(f"kept in {path}, readable by you only; back it up, and give others the line above")
    used = os.environ.get(KEY_VARIABLE) or str(key_path())
    if used != str(path):
        print_progress(f"it is not used yet, {used} is: set {KEY_VARIABLE}={path.resolve()}")


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
    """Print the ledger's size and root as a signed note; keep it where those who write the archive cannot write.

    Without a key it is unsigned: it proves as much to you, who keep it, and nothing to anyone else.
    """
    from kit import git
    from kit.archive import make_checkpoint
    from kit.errors import NotFoundError
    from kit.signing import find_signing_key

    find_signing_key()  # a key that is meant to be used and cannot be is an error, not an unsigned checkpoint
    workbench = open_workbench()
    checkpoint = make_checkpoint(workbench.archive)
    if checkpoint is None:
        raise NotFoundError("the ledger is empty: nothing was executed yet")
    ref = f"{GIT_REF}/{workbench.archive.origin.removeprefix('kit/').replace('/', '-')}"
    if as_json:
        facts = {"origin": checkpoint.origin, "size": checkpoint.size, "line": checkpoint.line}
        print_json({**facts, "note": checkpoint.encode().decode(), "ref": ref if in_git else None})
    else:
        click.echo(checkpoint.encode().decode(), nl=False)
    if not workbench.archive.key:
        print_progress(UNSIGNED)
    if in_git:
        message = f"checkpoint: {checkpoint.size} entries"
        if git.commit_to_ref(workbench.project.root, ref, "checkpoint", checkpoint.encode(), message):
            print_progress(f"committed to {ref}; keep it elsewhere with: git push origin {ref}")
        else:
            print_progress(f"{ref} has it already; keep it elsewhere with: git push origin {ref}")
