"""Records on their way to and from others: `kit export`, `kit import`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kit.cli.console import ExampleCommand, json_option, open_workbench, print_json, print_progress
from kit.cli.terminal import count

if TYPE_CHECKING:
    from kit.archive import Archive
    from kit.crate import Import, Imported
    from kit.gate import Release
    from kit.record import Record
    from kit.signing import Standing

_RELEASE = "release:"
_KEY_ID = re.compile(r"[^\s+]+\+[0-9a-f]{8}")


@click.command(cls=ExampleCommand, name="export", example="kit export 4f09c1 -o train.zip")
@click.argument("name", metavar="RECORD|RELEASE")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The zip to write."
)
@json_option
def export_command(name: str, output: Path, as_json: bool) -> None:
    """A record with all that it read and wrote, or a release with its whole lineage, as an RO-Crate in a zip.

    `release:NAME` names a release and never a record. What a record was compared with when it was done again comes along.
    The README.md in it says how anybody can check it with sha256sum and openssl.
    """
    from kit.crate import export_crate
    from kit.files import format_bytes

    workbench = open_workbench()
    archive = workbench.archive
    subject = _find_subject(archive, name)
    export = export_crate(archive, subject, output, workbench.project.name, workbench.trusted_keys)
    if as_json:
        print_json(export)
        return
    click.echo(export.path)
    counts = f"{count(len(export.records), 'record')}, {count(export.n_files, 'file')}"
    print_progress(f"{counts}, {format_bytes(export.size_bytes)}")
    if export.unsigned:
        print_progress(f"not signed: {', '.join(export.unsigned)}; nothing in the export says who executed that")


@click.command(cls=ExampleCommand, name="import", example="kit import train.zip")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--accept-key",
    "accepted",
    metavar="NAME+HASH",
    multiple=True,
    callback=lambda _context, _option, ids: _require_key_ids(ids),
    help="Take in what this key signed, though the project does not trust it; once for each key.",
)
@json_option
def import_command(file: Path, accepted: tuple[str, ...], as_json: bool) -> None:
    """Take the records of an export into the archive here, verified, with everything that they name.

    What a key signed that this project does not trust is refused. Releases stay where they were cut: of a release's export
    the records come in, the release itself does not.
    """
    from kit.crate import import_crate
    from kit.provenance import describe_machine

    workbench, machine = open_workbench(appends=True), describe_machine()
    keys, who = workbench.trusted_keys, f"{machine.user}@{machine.host}"
    done = import_crate(workbench.archive, file, who, workbench.clock(), keys, accepted=accepted)
    if as_json:
        print_json(done)
        return
    for each in done.records:
        click.echo(f"{each.record}  {each.outcome}, {_describe_imported(each, accepted)}")
    for compared in done.comparisons:
        comparison, standing = compared.comparison, _describe_standing(compared.standing, compared.key)
        click.echo(f"{comparison.again}  did {comparison.record} again: a comparison, {standing}")
    print_progress(_describe_proof(done))


def _find_subject(archive: Archive, name: str) -> Record | Release:
    from kit.errors import UnknownSubjectError
    from kit.gate import Release
    from kit.lineage import find_subject

    subject = find_subject(archive, name.removeprefix(_RELEASE))
    if name.startswith(_RELEASE) and not isinstance(subject, Release):
        raise UnknownSubjectError(f"no release is named {name!r}; `kit releases` lists them")
    return subject


def _require_key_ids(ids: tuple[str, ...]) -> tuple[str, ...]:
    for each in ids:
        if not _KEY_ID.fullmatch(each):
            raise click.BadParameter(f"{each!r} is no id of a key; expected <name>+<8 hex digits>")
    return ids


def _describe_imported(imported: Imported, accepted: tuple[str, ...]) -> str:
    from kit.crate import Outcome
    from kit.signing import Standing

    is_accepted = imported.outcome is Outcome.IMPORTED and imported.standing is Standing.UNKNOWN_KEY
    suffix = "; taken in because of --accept-key" if is_accepted and imported.key in accepted else ""
    return f"{_describe_standing(imported.standing, imported.key)}{suffix}"


def _describe_standing(standing: Standing, key: str) -> str:
    from kit.signing import Standing

    match standing:
        case Standing.TRUSTED:
            return f"signed by {key}"
        case Standing.UNKNOWN_KEY:
            return f"signed by {key}, whom this project does not trust"
        case _:
            return "not signed: nothing says who did it"


def _describe_proof(done: Import) -> str:
    """What the ledger that they come from says of them, in one line."""
    proof = done.proof
    if proof.missing:
        more = f", and {len(proof.missing) - 1} more" if len(proof.missing) > 1 else ""
        return f"the ledger's proof is missing: {proof.missing[0]} did not come with the export{more}"
    told = f"{proof.n_entries} of {proof.size} entries" if proof.size > 1 else "its one entry"
    signed = _describe_standing(proof.standing, proof.key).partition(":")[0]
    return f"ledger {proof.origin} tells of this in {told}; its checkpoint is {signed}"
