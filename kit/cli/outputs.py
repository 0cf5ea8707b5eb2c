"""`--output FOLDER` of `kit run`: copies of what a run wrote, where a person or the next program looks for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kit.cli.console import print_progress
from kit.errors import UsageError

if TYPE_CHECKING:
    from kit.archive import Archive
    from kit.record import Record


def output_option() -> click.Option:
    """`--output`, of what runs a release."""
    folder = click.Path(file_okay=False, path_type=Path)
    return click.Option(["--output"], type=folder, help="Put copies of what it writes into this new or empty folder.")


def require_free(folder: Path | None) -> None:
    """Refuse a folder that holds something, before anything is executed.

    Raises:
        UsageError: it does, or a file has its name.
    """
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"--output {folder}: expected a new or empty folder; what is there would be mixed with this run"
        )


def copy_outputs(archive: Archive, record: Record, folder: Path | None) -> None:
    """Put verified copies of a succeeded record's outputs into a folder, and say where."""
    if folder is None or not record.succeeded:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for artifact in record.outputs:
        archive.objects.copy_artifact(artifact, folder / artifact.name)
        print_progress(f"{artifact.name}: {folder / artifact.name}")
