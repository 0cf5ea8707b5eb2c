"""Records on their way to and from others: `kit export`, `kit import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kit.cli.console import ExampleCommand, json_option, open_workbench, print_json, print_progress

if TYPE_CHECKING:
    from kit.crate import Imported


@click.command(cls=ExampleCommand, name="export", example="kit export 4f09c1 -o train.zip")
@click.argument("name", metavar="RECORD|RELEASE")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The zip to write."
)
@json_option
def export_command(name: str, output: Path, as_json: bool) -> None:
    """A record with all that it read and wrote, or a release with its whole lineage, as an RO-Crate in a zip.

    Its README.md says how anybody can check it with sha256sum and openssl.
    """
    from kit.crate import export_crate
    from kit.files import format_bytes
    from kit.lineage import find_subject

    workbench = open_workbench()
    archive = workbench.archive
    subject = find_subject(archive, name)
    export = export_crate(archive, subject, output, workbench.project.name, workbench.trusted_keys)
    if as_json:
        print_json(export)
        return
    click.echo(export.path)
    records = f"{len(export.records)} record{'s' if len(export.records) > 1 else ''}"
    print_progress(f"{records}, {export.n_files} files, {format_bytes(export.size_bytes)}")
    if export.unsigned:
        print_progress(f"not signed: {', '.join(export.unsigned)}; nothing in the export says who executed that")


@click.command(cls=ExampleCommand, name="import", example="kit import train.zip")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def import_command(file: Path, as_json: bool) -> None:
    """Take the records of an export into the archive here, verified, with everything that they name.

    Releases stay where they were cut: of a release's export the records come in, the release itself does not.
    """
    from kit.crate import import_crate
    from kit.provenance import describe_machine

    workbench = open_workbench()
    machine = describe_machine()
    who = f"{machine.user}@{machine.host}"
    imported = import_crate(workbench.archive, file, who, workbench.clock(), workbench.trusted_keys)
    if as_json:
        print_json({"records": imported})
        return
    for each in imported:
        click.echo(f"{each.record}  {each.outcome}, {_describe_standing(each)}")


def _describe_standing(imported: Imported) -> str:
    from kit.signing import Standing

    match imported.standing:
        case Standing.TRUSTED:
            return f"signed by {imported.key}"
        case Standing.UNKNOWN_KEY:
            return f"signed by {imported.key}, whom this project does not trust"
        case _:
            return "not signed: nothing says who did it"
