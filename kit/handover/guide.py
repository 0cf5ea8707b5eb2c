"""The README of a hand-over: what was pinned, the commands, and what a cluster must have."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from kit.handover.objects import FOLDER, KEYS, list_secrets, name_keys, name_secret
from kit.handover.place import Place
from kit.handover.subject import Subject


def describe_handover(
    subject: Subject, place: Place, image_digest: str, files: Sequence[str], left_out: Sequence[str]
) -> str:
    """The README's text, Markdown.

    Args:
        subject: the release.
        place: where it goes.
        image_digest: `sha256:…` of the image of data.
        files: what was written, relative.
        left_out: what was not, one sentence each.
    """
    sections = [
        _describe_pins(subject, place, image_digest),
        _describe_push(subject, place, image_digest),
        _describe_tensorflow(place, image_digest),
    ]
    if "Containerfile" in files:
        sections.append(_describe_build(subject, place))
    if "inferenceservice-kit.yaml" in files:
        sections.append(_describe_kit(subject, place))
    if "Containerfile.modelcar" in files:
        sections.append(_describe_modelcar(subject, place))
    if left_out:
        sections.append("## Not in this folder\n\n" + "".join(f"- {sentence}\n" for sentence in left_out))
    return "\n".join(sections)


def _describe_pins(subject: Subject, place: Place, image_digest: str) -> str:
    manifest = subject.manifest
    return f"""# Release {subject.release.id} for a cluster

| what | pinned to |
|---|---|
| release.json | `sha256:{manifest.sha256}` |
| frozen configuration | `sha256:{manifest.configuration_sha256}` |
| sources | `sha256:{manifest.bundle_sha256}` |
| commit | {f"`{manifest.commit}`" if manifest.commit else "none"} |
| image of the model | `{place.repository}@{image_digest}` |
{_row("server image", place.server_image)}{_row("base image", place.base_image)}\
{_row("TensorFlow Serving", place.tensorflow_image)}"""


def _row(what: str, reference: str) -> str:
    return f"| {what} | `{reference}` |\n" if reference else ""


def _describe_push(subject: Subject, place: Place, image_digest: str) -> str:
    target = f"docker://{place.repository}:{subject.release.id}"
    return f"""## 1. Bring the image into the registry

    skopeo copy --all --preserve-digests oci:image:{subject.release.id} {target}
    skopeo inspect --raw {target} | sha256sum    # {image_digest.removeprefix("sha256:")}

`--all`, because the image's digest is that of the index over its two platforms. The image holds data only: `/models/{
        subject.release.number
    }/` is
the SavedModel, `/release/` the release file where one was given. Nothing in it can be started.
"""


def _describe_tensorflow(place: Place, image_digest: str) -> str:
    runtime = (
        "TensorFlow Serving's image is pinned."
        if place.tensorflow_image
        else "TensorFlow Serving's image is the one that the cluster's runtime names: it must be new enough for the model; "
        "`--tensorflow-image NAME@sha256:…` pins one."
    )
    return f"""## 2. Answer with TensorFlow Serving

    {_kubectl(place)} apply -f configmap.yaml -f inferenceservice-tensorflow.yaml
    {_kubectl(place)} wait --for=condition=Ready --timeout=10m inferenceservice/{place.service}

It answers `POST /v1/models/{place.service}:predict`. The cluster needs KServe 0.20 or later with `enableOciModelSupport` in
`storageInitializer` of the ConfigMap `inferenceservice-config`, Kubernetes 1.35 or later (1.33 and 1.34 with the feature gate
`ImageVolume`), and containerd 2.0 or CRI-O 1.31 or later: the node mounts the image as a volume. {runtime}
"""


def _describe_build(subject: Subject, place: Place) -> str:
    image = f"{place.repository}-server"
    return f"""## Build the server's image

    podman build --tag {image}:{subject.release.id} --file Containerfile .
    podman push --digestfile server.digest {image}:{subject.release.id}

Then write this hand-over again, into another folder, with `--server-image {image}@$(cat server.digest)`: the
InferenceService of `kit serve` comes with it. Every other file stays as it is.
"""


def _describe_kit(subject: Subject, place: Place) -> str:
    return f"""## Answer with `kit serve`

{"".join(_list_needed(subject, place))}    {_kubectl(place)} apply -f configmap.yaml -f inferenceservice-kit.yaml
    {_kubectl(place)} wait --for=condition=Ready --timeout=10m inferenceservice/{place.service}-kit

It answers TF Serving's REST v1 and Open Inference v2 on the same port. The cluster needs KServe 0.16 or later and Kubernetes
1.30 or later, and no storage of KServe's. The image must hold `/release/{subject.release.id}.kit`, as that of the Containerfile
does.
"""


def _list_needed(subject: Subject, place: Place) -> Iterator[str]:
    """Commands for what the service's people must make first: the Secret, the keys that count."""
    secrets = list(list_secrets(subject, place))
    if secrets:
        files = " ".join(f"--from-file={shlex.quote(secret.key)}=…" for secret in secrets)
        yield f"    {_kubectl(place)} create secret generic {name_secret(place)} {files}    # no line break at the ends\n"
    if subject.environment.policy.signed:
        yield (
            f"    {_kubectl(place)} create configmap {name_keys(place)} --from-file={KEYS}=…"
            f"    # public keys that count, as `kit key show` prints them; at {FOLDER}/keys\n"
        )


def _describe_modelcar(subject: Subject, place: Place) -> str:
    image = f"{place.repository}-modelcar"
    return f"""## An older cluster: KServe's modelcar

Before KServe 0.20, `oci://` starts the model's image beside the runtime and runs `sh`, `ln` and `sleep` in it. An image of data
alone has none of them. This builds one on the base image:

    podman build --tag {image}:{subject.release.id} --file Containerfile.modelcar .
    podman push --digestfile modelcar.digest {image}:{subject.release.id}

In `inferenceservice-tensorflow.yaml`, write `oci://{image}@<what modelcar.digest says>` as the `storageUri`; the cluster
needs `enableModelcar` in `storageInitializer` of `inferenceservice-config`.
"""


def _kubectl(place: Place) -> str:
    return f"kubectl --namespace {place.namespace}" if place.namespace else "kubectl"
