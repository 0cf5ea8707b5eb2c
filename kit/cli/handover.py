"""`kit release export ID --kubernetes`: its options, and what it prints."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kit.cli.console import demands_signatures, print_json, print_progress
from kit.errors import UsageError

if TYPE_CHECKING:
    from kit.execute import Workbench
    from kit.gate import Release

Command = TypeVar("Command", bound=Callable[..., Any])

# name of the parameter -> (metavar, help)
CLUSTER_OPTIONS = {
    "registry": ("HOST/PATH", "Where images lie; needed."),
    "name": ("NAME", "Of the service.  [default: the model's name]"),
    "namespace": ("NAME", "Of the objects.  [default: kubectl's]"),
    "server_image": ("REF@sha256:…", "The image in which kit serve runs; adds its InferenceService."),
    "base_image": ("REF@sha256:…", "What such an image is built on; adds the Containerfiles."),
    "tensorflow_image": ("REF@sha256:…", "TensorFlow Serving's.  [default: the one of the cluster's runtime]"),
    "cpu": ("QUANTITY", "Of a container.  [default: 1]"),
    "memory": ("QUANTITY", "Of a container.  [default: 2Gi]"),
}


def cluster_options(command: Command) -> Command:
    """Add `--kubernetes` and what goes with it; the command takes `kubernetes` and the names of `CLUSTER_OPTIONS`."""
    for name, (metavar, text) in reversed(CLUSTER_OPTIONS.items()):
        command = click.option(_flag(name), name, metavar=metavar, help=f"With --kubernetes: {text}")(command)
    return click.option("--kubernetes", is_flag=True, help="Write a folder for a cluster instead of one file.")(command)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def refuse_cluster_options(given: Mapping[str, str | None]) -> None:
    """Refuse options of `--kubernetes` without it.

    Raises:
        UsageError: one was given.
    """
    for name, value in given.items():
        if value is not None:
            raise UsageError(f"{_flag(name)} says something about a cluster: add --kubernetes")


def export_to_cluster(
    workbench: Workbench,
    release: Release,
    folder: Path,
    given: Mapping[str, str | None],
    write_file: Callable[[Path], object],
    *,
    as_json: bool,
) -> None:
    """Write the hand-over of a release and say what is in it.

    Args:
        workbench: project, archive and clock.
        release: to hand over.
        folder: new or empty.
        given: values of the options by the names of `CLUSTER_OPTIONS`; None for one that was not given.
        write_file: writes the release file to a path that is free.
        as_json: print one JSON value.
    """
    from kit.environment import decode_environment
    from kit.handover import Place, require_free, require_servable, write_handover

    if given["registry"] is None:
        raise UsageError(
            "--kubernetes needs --registry HOST/PATH: where the cluster finds the images, as registry.example.org/team"
        )
    signed = demands_signatures(workbench, release.environment)
    manifest = require_servable(workbench.archive, release, workbench.trusted_keys, workbench.clock(), signed=signed)
    serving = decode_environment(manifest.configuration, f"release {release.id}, configuration").serving
    named = {name: value for name, value in given.items() if value is not None and name != "name"}
    place = Place(service=given["name"] or serving.name or workbench.project.name, **named)
    require_free(folder)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.absolute().parent) as temporary:
        file = Path(temporary, f"{release.id}.kit")
        write_file(file)
        done = write_handover(workbench.archive, release, manifest, folder, place, file)
    if as_json:
        print_json(done)
        return
    click.echo(done.folder)
    print_progress(f"{done.image}: bring it there as {folder / 'README.md'} says")
    for sentence in done.left_out:
        print_progress(f"left out: {sentence}")
