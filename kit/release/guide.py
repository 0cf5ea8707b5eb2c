"""README.txt of a release file: for whoever receives it, with nothing else at hand."""

from __future__ import annotations

import shlex

from kit.archive import RELEASE_FILE, VERDICT
from kit.bundle import Bundle
from kit.environment import decode_environment
from kit.errors import KitError
from kit.gate import Manifest, Release
from kit.graph import RUN
from kit.record import Record
from kit.release.contents import LOCK, SUMS


def describe_release_file(
    release: Release, manifest: Manifest, cut: Record, training: Record, bundle: Bundle, project: str
) -> str:
    """README.txt: what it is, how to run and serve it, how to check it without kit. Follows from the release alone."""
    file = f"{release.id}.kit"
    python = ".".join((manifest.python or training.machine.python).split(".")[:2])
    install = (
        f"    unzip -p {file} {LOCK} > {LOCK}\n    python -m pip install -r {LOCK}\n"
        if manifest.lock_sha256
        else "    (the release pins no packages: it has no lock)\n"
    )
    return f"""{release.id}: a release of {project}, as one file
{"=" * 72}

Cut {release.time:%Y-%m-%d %H:%M} UTC by {release.who}, commit {manifest.commit or "none"}.
`kit run` and `kit serve` verify every byte of it before anything is executed.

RUN  with {python}, on any machine, in any folder, without the project and without git:

{install}    python -m pip install kit-ml=={cut.software.kit_version}
    kit run {file} --help
    kit run {file}{_describe_inputs(manifest, bundle)}

The record of the execution is sealed in ./archive; --archive chooses another folder.

SERVE

    kit serve --file {file}

CHECK without kit (after `unzip {file}`)

    sha256sum --check {SUMS}

The frozen configuration is in {RELEASE_FILE}, the gate's evidence in {VERDICT}. Secrets are not in this file: the
configuration names only where they are found.{_describe_secrets(manifest)}
"""


def _describe_inputs(manifest: Manifest, bundle: Bundle) -> str:
    """Options for the data that the run notebook reads, with where the frozen configuration looks for it."""
    try:
        names = bundle.read_graph().stage(RUN).inputs
    except KitError as error:
        return f"\n\nIts run notebook cannot be read: {error}"
    data = decode_environment(manifest.configuration, RELEASE_FILE).data
    options = (shlex.quote(f"{name}={data.get(name, 'PATH')}") for name in names if name != RELEASE_FILE)
    return "".join(f" --input {option}" for option in options)


def _describe_secrets(manifest: Manifest) -> str:
    secrets = decode_environment(manifest.configuration, RELEASE_FILE).secrets
    lines = [
        f"\n    {name}: {f'environment variable {each.env}' if each.env else f'file {each.file}'}"
        for name, each in sorted(secrets.items())
    ]
    return "".join(lines)
