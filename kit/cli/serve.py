"""`kit serve`: a release answers over HTTP until a signal ends it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kit.cli.console import ExampleCommand, demands_signatures, open_workbench, print_progress
from kit.errors import NotFoundError, UsageError
from kit.files import canonical_json

if TYPE_CHECKING:
    from kit.execute import Workbench
    from kit.gate import Release
    from kit.server.following import Following, Pinned
    from kit.server.served import Identity, Loaded

PORT = 8501  # as TF Serving's REST API


@click.command(cls=ExampleCommand, name="serve", example="kit serve --env production --port 8501")
@click.option("--env", "environment", default="", help="Serve what is live there, and follow promotes and rollbacks.")
@click.option("--release", "release_id", default="", help="Serve this release, whatever is live.")
@click.option("--file", "file", type=click.Path(path_type=Path), help="Serve a release file; needs no project.")
@click.option("--keys", type=click.Path(path_type=Path), help="With --file: the public keys that must have signed it.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option(
    "--port", default=PORT, show_default=True, type=click.IntRange(0, 65535), help="0 lets the system choose."
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON when it answers.")
def serve_command(
    environment: str, release_id: str, file: Path | None, keys: Path | None, host: str, port: int, as_json: bool
) -> None:
    """Serve a release: TF Serving's REST v1 and the Open Inference Protocol v2."""
    from kit.server.main import bind, serve

    if sum(map(bool, (environment, release_id, file))) != 1:
        raise UsageError("serve one thing: --env ENV, --release ID or --file FILE.kit")
    if keys and not file:
        raise UsageError("--keys goes with --file; in a project the trusted_keys of [tool.kit] decide")
    with bind(host, port) as bound:
        print_progress(f"verifying and loading {file.name if file else release_id or f'what is live in {environment}'}")
        load, following = _file(file, keys) if file else _release(environment, release_id)
        serve(load, bound, functools.partial(_announce, as_json=as_json), following)


def _announce(identity: Identity, address: str, *, as_json: bool) -> None:
    facts = {
        "address": address, "model": identity.model, "release": identity.release, "version": identity.version
    }  # fmt: skip
    path = f"{address}/v1/models/{identity.model}:predict"
    click.echo(canonical_json(facts).decode() if as_json else f"serving {identity.release}: POST {path}")


def _release(environment: str, release_id: str) -> tuple[Callable[[], Loaded], Following | Pinned]:
    """How the release is loaded that answers first, and for an environment how those are that become live later."""
    from kit.server.following import Following, Pinned
    from kit.server.loading import Source, load_release, sweep, watch_release

    workbench = open_workbench()
    folder = workbench.project.scratch / "serving"
    sweep(folder)
    find = _find_live(workbench, environment) if environment else lambda: workbench.archive.find_release(release_id)
    first = find()
    if first is None:
        what = (
            f"nothing is live in environment {environment!r}" if environment else f"there is no release {release_id!r}"
        )
        raise NotFoundError(f"{what}; `kit releases` lists them, `kit release --env ENV` cuts one")

    signed = demands_signatures(workbench, first.environment)
    source = Source(workbench.archive, workbench.project.name, folder, workbench.trusted_keys, signed=signed)
    load, still_holds = functools.partial(load_release, source), watch_release(source)
    following = Following(workbench.archive.ledger.size, find, load, still_holds) if environment else None
    return functools.partial(load, first), following or Pinned(still_holds)


def _find_live(workbench: Workbench, environment: str) -> Callable[[], Release | None]:
    """What is live, if those who may say so have said it; the environment must be one of the project."""
    from kit.release.live import find_live

    signed = workbench.project.read_environment(environment).policy.signed
    return lambda: find_live(workbench.archive, environment, workbench.trusted_keys, signed=signed)


def _file(file: Path, keys: Path | None) -> tuple[Callable[[], Loaded], Pinned]:
    """How a release file is loaded, and how long it may be served: a file knows of no renewal and no revocation."""
    from kit.server.following import Pinned
    from kit.server.loading import folder_without_project, load_file, sweep, tell_past
    from kit.signing import read_public_keys

    trusted = read_public_keys(keys) if keys else []
    base = folder_without_project()
    sweep(base)
    return functools.partial(load_file, file, base, trusted), Pinned(tell_past)
