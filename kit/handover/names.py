"""Names that Kubernetes and registries accept: refused here, with what to write, before a cluster refuses them."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from kit.errors import UsageError

MAX_SERVICE = 63 - len("-kit-predictor")  # KServe makes a Service `<name>-predictor`; the second one ends in -kit

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SERVICE = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")  # KServe wants a letter first
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")  # within what a tag may be, too
_KEY = re.compile(r"[-._A-Za-z0-9]{1,253}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_QUANTITY = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]{1,3})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?")

# The grammar of references: github.com/distribution/reference
_COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_HOST_PART = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = rf"{_HOST_PART}(?:\.{_HOST_PART})*(?::[0-9]{{1,5}})?"
_REGISTRY = re.compile(rf"({_HOST})((?:/{_COMPONENT})*)")
_PINNED = re.compile(
    rf"(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*(?::[\w][\w.-]{{0,127}})?@sha256:[0-9a-f]{{64}}", re.ASCII
)
_MAX_REPOSITORY = 255


def require_service(name: str) -> str:
    """A name for an InferenceService, a DNS-1035 label.

    Raises:
        UsageError: it is none, or too long for what KServe derives from it.
    """
    if not _SERVICE.fullmatch(name) or len(name) > MAX_SERVICE:
        raise UsageError(
            f"{name!r} cannot name a service in a cluster; expected 1 to {MAX_SERVICE} lower-case letters, digits and '-', "
            f"a letter first (DNS-1035): give --name"
        )
    return name


def require_namespace(name: str) -> str:
    """A namespace, a DNS-1123 label; empty for the one that kubectl uses.

    Raises:
        UsageError: it is none.
    """
    if name and (not _LABEL.fullmatch(name) or len(name) > 63):
        raise UsageError(
            f"--namespace {name!r}: expected at most 63 lower-case letters, digits and '-' (DNS-1123), as 'models'"
        )
    return name


def require_tag(release_id: str) -> str:
    """A release's id as the tag of an image and the value of a label.

    Raises:
        UsageError: its environment has a name that is none.
    """
    if not _LABEL_VALUE.fullmatch(release_id):
        raise UsageError(
            f"release {release_id!r} cannot be a label and a tag, which hold at most 63 letters, digits, '-', '_' and '.': "
            f"rename its environment's file and cut a new release"
        )
    return release_id


def require_registry(registry: str) -> str:
    """A registry with the path that images lie below, without a slash at the end.

    Raises:
        UsageError: it names no host, or a scheme, a tag or capital letters.
    """
    match = _REGISTRY.fullmatch(registry)
    is_host = match and (set(".:") & set(match[1]) or match[1] == "localhost")
    if not match or not is_host or len(registry) + MAX_SERVICE >= _MAX_REPOSITORY:
        raise UsageError(
            f"--registry {registry!r}: expected a host and a path without scheme, as 'registry.example.org/team'"
        )
    return registry


def require_pinned(reference: str, option: str) -> str:
    """An image's reference that names bytes: with a digest; empty stays empty.

    Raises:
        UsageError: a tag alone, which may mean other bytes tomorrow, or no reference.
    """
    if reference and not _PINNED.fullmatch(reference):
        repository = reference.split("@")[0] or "python"
        raise UsageError(
            f"{option} {reference!r} is not pinned: expected NAME@sha256:<64 hex digits>; "
            f"`skopeo inspect --format '{{{{.Digest}}}}' docker://{repository}` prints the digest"
        )
    return reference


def require_quantity(quantity: str, option: str) -> str:
    """A resource's quantity, `500m`, `2Gi`; more than nothing.

    Raises:
        UsageError: it is none.
    """
    if not _QUANTITY.fullmatch(quantity) or not any(digit in quantity for digit in "123456789"):
        raise UsageError(f"{option} {quantity!r}: expected a Kubernetes quantity above 0, as '500m', '2' or '2Gi'")
    return quantity


def require_variable(variable: str, secret: str) -> str:
    """The environment variable of a secret.

    Raises:
        UsageError: a container cannot have one of that name.
    """
    if not _VARIABLE.fullmatch(variable):
        raise UsageError(
            f"[secrets] {secret}: {variable!r} cannot be a container's environment variable; expected letters, digits "
            f"and '_': change the reference and cut a new release"
        )
    return variable


def require_secret_key(name: str) -> str:
    """A secret's name as a key of a Secret.

    Raises:
        UsageError: it has other characters.
    """
    if not _KEY.fullmatch(name) or name in (".", ".."):
        raise UsageError(
            f"[secrets] {name!r} cannot be a key of a Secret; expected letters, digits, '-', '_' and '.': "
            f"rename it and cut a new release"
        )
    return name


def require_mount_path(path: str, secret: str) -> str:
    """The file of a secret as a place that something can be mounted at.

    Raises:
        UsageError: it is relative, or has a part that leads elsewhere.
    """
    plain = PurePosixPath(path)
    if not plain.is_absolute() or str(plain) != path or ".." in plain.parts or ":" in path or not path.isprintable():
        raise UsageError(
            f"[secrets] {secret}: the file {path!r} cannot be mounted into a container; expected an absolute path without "
            f"'..' and ':', as '/run/secrets/{secret}': change the reference and cut a new release"
        )
    return path
