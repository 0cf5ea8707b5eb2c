"""Kubernetes objects of a release, as values: the frozen configuration, and two InferenceServices that answer for it.

Sources: kubernetes.io/docs/reference/kubernetes-api, KServe's CRD serving.kserve.io/v1beta1, kserve/kserve#5558
(`oci+native://`, an image volume, KServe 0.20).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec

from kit.environment import SecretReference
from kit.errors import UsageError
from kit.files import canonical_json
from kit.handover.documents import Document
from kit.handover.names import require_mount_path, require_secret_key, require_variable
from kit.handover.place import Place
from kit.handover.subject import Subject

PORT = 8080
USER = 65532  # nobody's number on common images: no name, no home
UNROUTE_S = 5  # seconds in which a cluster learns that a container ends, before it is told to
ENDING_S = 15  # seconds beyond `serving.drain_s` before a container is killed
STARTING_S = 300  # seconds that loading a model may take
MAX_CONFIGURATION = 1_000_000  # bytes; etcd takes 1 MiB
FOLDER = "/etc/kit"
KEYS = "trusted.keys"
_CONFIGURATION = "configuration.json"
_OWN_MOUNTS = ("/tmp", f"{FOLDER}/configuration", f"{FOLDER}/keys")
_MODE = "serving.kserve.io/deploymentMode"


def describe_configuration(subject: Subject, place: Place) -> Document:
    """A ConfigMap with the frozen configuration, byte for byte, for people and for what else runs beside the model.

    `kit serve` reads the copy in the release file; a change of this one would not reach it, so it cannot be changed.

    Raises:
        UsageError: the configuration is larger than a ConfigMap may be.
    """
    text = canonical_json(subject.manifest.configuration)
    if len(text) > MAX_CONFIGURATION:
        raise UsageError(
            f"the frozen configuration of {subject.release.id} has {len(text):,} bytes; a ConfigMap holds "
            f"{MAX_CONFIGURATION:,}: move large values out of the environment's file and cut a new release"
        )
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(subject, place, name_configuration(subject, place)),
        "immutable": True,
        "data": {
            "KIT_CONFIGURATION_SHA256": subject.manifest.configuration_sha256,
            "KIT_ENVIRONMENT": subject.manifest.environment,
            "KIT_RELEASE": subject.release.id,
            _CONFIGURATION: text.decode(),
        },
    }


def name_configuration(subject: Subject, place: Place) -> str:
    """The ConfigMap's name; another release has another one, so that a rollback finds what it had."""
    return f"{place.service}-{subject.release.number}-{subject.manifest.sha256[:8]}"


def describe_tensorflow_service(subject: Subject, place: Place, image_digest: str) -> Document:
    """An InferenceService that answers with the cluster's TensorFlow Serving from the release's image."""
    path = f"/v1/models/{place.service}"
    image = {"image": place.tensorflow_image} if place.tensorflow_image else {}
    model = {
        "modelFormat": {"name": "tensorflow", "version": "2"},
        "protocolVersion": "v1",
        "storageUri": f"oci+native://{place.repository}@{image_digest}",
        **image,
        **_probes(path, path),
        **_confine(place),
    }
    return _service(subject, place, place.service, {"model": model})


def describe_kit_service(subject: Subject, place: Place) -> Document:
    """An InferenceService that answers with `kit serve` from the release file in the server's image.

    Raises:
        UsageError: a secret's reference cannot be one in a container.
    """
    secrets = list(list_secrets(subject, place))
    command = ["kit", "serve", "--file", f"/release/{subject.release.id}.kit", "--host", "0.0.0.0", "--port", str(PORT)]
    keys = ["--keys", f"{FOLDER}/keys/{KEYS}"] if subject.environment.policy.signed else []
    container = {
        "name": "kserve-container",
        "image": place.server_image,
        "command": [*command, *keys],
        "workingDir": "/tmp",
        "ports": [{"name": "http1", "containerPort": PORT, "protocol": "TCP"}],
        "env": list(_variables(subject, place, secrets)),
        **_probes("/v2/health/ready", "/v2/health/live"),
        **_confine(place),
        "volumeMounts": list(_mounts(subject, secrets)),
    }
    volumes = list(_volumes(subject, place, secrets))
    return _service(subject, place, f"{place.service}-kit", {"containers": [container], "volumes": volumes})


class Secret(msgspec.Struct, frozen=True):
    """A secret's reference in a container: a key of a Secret as a variable or a file. Never its value."""

    key: str
    variable: str = ""
    path: str = ""


def list_secrets(subject: Subject, place: Place) -> Iterator[Secret]:
    """The secrets that the release's environment names, by name; of two with one variable or file, the first.

    Raises:
        UsageError: a name or a reference that a container cannot have.
    """
    own = _own_variables(subject, place)
    seen: set[SecretReference] = set()
    for name, reference in sorted(subject.environment.secrets.items()):
        key = require_secret_key(name)
        if reference.env in own:
            raise UsageError(
                f"[secrets] {name}: the container itself sets the variable {reference.env}: change the reference and cut "
                f"a new release"
            )
        if reference.file in _OWN_MOUNTS:
            raise UsageError(
                f"[secrets] {name}: the container itself has something at {reference.file}: change the reference and cut a "
                f"new release"
            )
        if reference in seen:
            continue
        seen.add(reference)
        if reference.env:
            yield Secret(key, variable=require_variable(reference.env, name))
        else:
            yield Secret(key, path=require_mount_path(reference.file, name))


def _service(subject: Subject, place: Place, name: str, predictor: Document) -> Document:
    grace_s = UNROUTE_S + math.ceil(subject.environment.serving.drain_s) + ENDING_S
    metadata = _metadata(subject, place, name)
    metadata["annotations"][_MODE] = "Standard"  # Knative takes neither image volumes nor a grace period
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": metadata,
        "spec": {
            "predictor": {
                "minReplicas": 1,
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": grace_s,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": USER,
                    "runAsGroup": USER,
                    "fsGroup": USER,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                **predictor,
            }
        },
    }


def _metadata(subject: Subject, place: Place, name: str) -> Document:
    manifest, release = subject.manifest, subject.release
    commit = {"kit/commit": manifest.commit} if manifest.commit else {}
    return {
        "name": name,
        **({"namespace": place.namespace} if place.namespace else {}),
        "labels": {
            "app.kubernetes.io/managed-by": "kit",
            "app.kubernetes.io/name": place.service,
            "app.kubernetes.io/version": release.id,
        },
        "annotations": {
            "kit/release": release.id,
            "kit/release-sha256": manifest.sha256,
            "kit/configuration-sha256": manifest.configuration_sha256,
            **commit,
        },
    }


def _probes(ready: str, live: str) -> Document:
    """Probes over HTTP, and a pause at the end in which no new request arrives any more."""
    every_s = 5

    def ask(path: str, failures: int) -> Document:
        return {
            "httpGet": {"path": path, "port": PORT, "scheme": "HTTP"},
            "periodSeconds": every_s,
            "timeoutSeconds": 2,
            "failureThreshold": failures,
        }

    return {
        "startupProbe": ask(ready, STARTING_S // every_s),
        "readinessProbe": ask(ready, 2),
        "livenessProbe": ask(live, 6),
        "lifecycle": {"preStop": {"sleep": {"seconds": UNROUTE_S}}},
    }


def _confine(place: Place) -> Document:
    resources = {"cpu": place.cpu, "memory": place.memory}
    return {
        "resources": {"requests": dict(resources), "limits": dict(resources)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": USER,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def _own_variables(subject: Subject, place: Place) -> dict[str, Document]:
    """What the container gets in any case: the release from the ConfigMap, and where it may write."""
    source = name_configuration(subject, place)
    told = ("KIT_CONFIGURATION_SHA256", "KIT_ENVIRONMENT", "KIT_RELEASE")
    return {
        **{name: {"valueFrom": {"configMapKeyRef": {"name": source, "key": name}}} for name in told},
        "HOME": {"value": "/tmp"},
        "TMPDIR": {"value": "/tmp"},
    }


def _variables(subject: Subject, place: Place, secrets: list[Secret]) -> Iterator[Document]:
    for name, value in _own_variables(subject, place).items():
        yield {"name": name, **value}
    for secret in secrets:
        if secret.variable:
            reference = {"name": name_secret(place), "key": secret.key}
            yield {"name": secret.variable, "valueFrom": {"secretKeyRef": reference}}


def name_secret(place: Place) -> str:
    """The Secret that the service's people make."""
    return f"{place.service}-secrets"


def name_keys(place: Place) -> str:
    """The ConfigMap of trusted public keys that the service's people make, where a release must be signed."""
    return f"{place.service}-keys"


def _mounts(subject: Subject, secrets: list[Secret]) -> Iterator[Document]:
    scratch, configuration, keys = _OWN_MOUNTS
    yield {"name": "tmp", "mountPath": scratch}
    yield {"name": "configuration", "mountPath": configuration, "readOnly": True}
    if subject.environment.policy.signed:
        yield {"name": "keys", "mountPath": keys, "readOnly": True}
    for secret in secrets:
        if secret.path:
            yield {"name": "secrets", "mountPath": secret.path, "subPath": secret.key, "readOnly": True}


def _volumes(subject: Subject, place: Place, secrets: list[Secret]) -> Iterator[Document]:
    yield {"name": "tmp", "emptyDir": {"sizeLimit": f"{_scratch_mib(subject)}Mi"}}
    items = [{"key": _CONFIGURATION, "path": _CONFIGURATION}]
    yield {"name": "configuration", "configMap": {"name": name_configuration(subject, place), "items": items}}
    if subject.environment.policy.signed:
        yield {"name": "keys", "configMap": {"name": name_keys(place), "items": [{"key": KEYS, "path": KEYS}]}}
    files = [{"key": secret.key, "path": secret.key} for secret in secrets if secret.path]
    if files:
        mode = 0o440  # root's, and readable by the group that the container runs in
        yield {"name": "secrets", "secret": {"secretName": name_secret(place), "items": files, "defaultMode": mode}}


def _scratch_mib(subject: Subject) -> int:
    """Room for the release unpacked, twice, and half as much again for what runs."""
    size_bytes = sum(artifact.size_bytes for artifact in subject.manifest.artifacts) + len(subject.bundle.data)
    return 256 + math.ceil(2.5 * size_bytes / 2**20)
