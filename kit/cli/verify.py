"""`kit verify` and `kit audit`: is everything there, unchanged, and said by whom it claims?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kit.cli.console import ExampleCommand, json_option, print_json
from kit.cli.terminal import count, printable
from kit.files import format_bytes

if TYPE_CHECKING:
    from kit.signing import PublicKey
    from kit.verify import Noted, Report

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
keys_option = click.option(
    "--keys", "keys_file", type=_FILE, help="Public keys to trust, as `kit key show` prints them."
)
checkpoint_option = click.option(
    "--checkpoint",
    "notes",
    type=_FILE,
    multiple=True,
    help="A checkpoint, or a log that holds its line; kept elsewhere.",
)


@click.command(cls=ExampleCommand, name="verify", example="kit verify 4f09c1 --keys team.keys --checkpoint ci.log")
@click.argument("subject", metavar="[RECORD|ARCHIVE]", required=False)
@keys_option
@checkpoint_option
@json_option
def verify_command(subject: str | None, keys_file: Path | None, notes: tuple[Path, ...], as_json: bool) -> None:
    """Verify the whole archive, or one record of it. Exit code 0: holds, 1: false, 3: cannot be decided here."""
    from kit.verify import verify_archive, verify_record

    archive, record_id = _find_subject(subject)
    keys, outside = _trusted(keys_file), _read_notes(archive, notes)
    report = verify_record(archive, record_id, keys, outside) if record_id else verify_archive(archive, keys, outside)
    _print_report(report, keys, as_json=as_json)


@click.command(cls=ExampleCommand, name="audit", example="kit audit archive --state ~/audits/flights")
@click.argument("archive", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--state", type=click.Path(path_type=Path), required=True, help="Your folder that remembers what was seen."
)
@keys_option
@checkpoint_option
@json_option
def audit_command(archive: Path, state: Path, keys_file: Path | None, notes: tuple[Path, ...], as_json: bool) -> None:
    """Verify an archive, also against what earlier audits saw of it: it must only ever have grown."""
    from kit.verify import audit_archive

    keys = _trusted(keys_file)
    report, last = audit_archive(archive, state, keys, _read_notes(archive, notes))
    earlier = (
        f"the last audit saw {count(last.size, 'entry')}"
        if last
        else "this is the first audit: there is nothing to compare with"
    )
    _print_report(report, keys, as_json=as_json, earlier=earlier)


def _find_subject(subject: str | None) -> tuple[Path, str]:
    """(archive, record id); without a record the id is empty."""
    from kit.archive import MARKER
    from kit.errors import UsageError
    from kit.project import find_project

    if subject and any((Path(subject) / part).exists() for part in (MARKER, "ledger")):
        return Path(subject), ""
    archive = find_project(Path.cwd()).archive
    if not archive.is_dir():
        raise UsageError(f"there is no archive at {archive}: nothing was executed yet, or it is kept elsewhere")
    return (archive, _find_record(archive, subject)) if subject else (archive, "")


def _find_record(archive: Path, subject: str) -> str:
    """Id of the record that a name means: one that is there, one that the ledger tells of, or the one that cut a release."""
    from kit.archive import Archive
    from kit.errors import UnknownSubjectError

    ledger = Archive(archive).ledger
    name = subject.removeprefix("release:")
    released = next((entry.record for entry in ledger.read_back() if entry.release == name), "")
    if released:
        return released
    try:
        return Archive(archive).find_id(subject)
    except UnknownSubjectError:
        try:  # one that was removed is a finding, not a wrong name
            return Archive(archive).find_id(subject, sorted({entry.record for entry in ledger.read_entries()}))
        except UnknownSubjectError:
            if Path(subject).is_dir():
                raise UnknownSubjectError(f"{subject} is no archive, and no record or release is named so") from None
            raise


def _trusted(file: Path | None) -> list[PublicKey]:
    """From the file, else from the project that we stand in; never from the archive."""
    from kit.errors import ProjectError
    from kit.project import find_project
    from kit.signing import parse_public_key, read_public_keys

    if file:
        return read_public_keys(file)
    try:
        return [parse_public_key(text) for text in find_project(Path.cwd()).trusted_keys]
    except ProjectError as error:
        if "lies in no kit project" not in str(error):
            raise
        return []


def _read_notes(archive: Path, files: tuple[Path, ...]) -> list[Noted]:
    from kit.archive import read_origin
    from kit.checkpoint import find_checkpoints
    from kit.errors import IntegrityError, UsageError
    from kit.verify import Noted

    found: list[Noted] = []
    if not files:
        return found
    origin = read_origin(archive)
    for file in files:
        try:
            there = find_checkpoints(file.read_bytes(), str(file))
        except IntegrityError as error:
            raise UsageError(f"--checkpoint: {error}; expected a note, or a log that holds its line") from error
        # One of the same name and another origin is not passed over: the archive may have been replaced by another.
        named = [each for each in there if each.origin.rpartition("/")[0] == origin.rpartition("/")[0]]
        own = [each for each in there if each.origin == origin] or named
        if not own:
            others = ", ".join(sorted({each.origin for each in there}))
            raise UsageError(f"{file} holds checkpoints of {others} only; the archive {archive} is {origin}")
        found += [Noted(each, f"{file.name}, size {each.size}", outside=True) for each in own]
    return found


def _print_report(report: Report, keys: list[PublicKey], *, as_json: bool, earlier: str = "") -> None:
    if as_json:
        print_json({"exit_code": report.exit_code, "verdict": report.verdict, "report": report, "earlier": earlier})
        raise click.exceptions.Exit(report.exit_code)
    lines = [
        *map(str, report.findings),
        "",
        f"{report.subject}: {count(report.n_records, 'record')}, {count(report.n_entries, 'ledger entry')}, "
        f"{count(report.n_objects, 'object')} ({format_bytes(report.n_bytes)})",
        f"root {report.root} of {report.origin}",
        _describe_trust(report, keys),
        *([earlier] if earlier else []),
        f"the claim {report.verdict}",
    ]
    for line in lines:
        click.echo(printable(line, None))
    raise click.exceptions.Exit(report.exit_code)


def _describe_trust(report: Report, keys: list[PublicKey]) -> str:
    if not keys:
        return (
            "no trusted keys were given: nothing here is attributed to a person; give --keys, or trusted_keys in "
            "[tool.kit]"
        )
    ledger = f"ledger signed by {', '.join(report.ledger_signers) or 'none of them'}"
    signed = ", ".join(f"{n} by {key}" for key, n in report.signers.items())
    return f"{count(len(keys), 'trusted key')}: {ledger}; records signed: {signed or 'none'}, of {report.n_records}"
