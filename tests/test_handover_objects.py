"""The objects for a cluster: valid for Kubernetes and KServe, pinned, confined, no value of a secret in them."""

import functools
import re
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import msgspec
import pytest
import yaml
from handovers import PIN, PLACE, SECRETS, WHOLE, make_released, read_yaml

from kit.environment import Environment
from kit.errors import UsageError
from kit.files import sha256_bytes
from kit.handover import Place, write_handover
from kit.handover.documents import Document
from kit.handover.names import MAX_SERVICE
from kit.handover.objects import describe_configuration, describe_kit_service, list_secrets
from kit.handover.subject import Subject, read_subject

CRD = Path(__file__).parents[2] / "shared/conformance/kserve-inferenceservices-crd.yaml"
CLUSTER = "1.35"  # the oldest Kubernetes that mounts images without being told to
OLDEST_FOR_KIT = "1.30"
OWN_KEYS = ("minReplicas", "model")  # of KServe's predictor, beside those of a pod


@functools.cache
def kserve_schema() -> Any:
    """KServe's schema of an InferenceService with every unknown field refused, as the cluster's strict validation does."""
    if not CRD.is_file():
        pytest.skip(f"KServe's CRD is not there: put it at {CRD}")
    definition = yaml.load(CRD.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (version,) = (each for each in definition["spec"]["versions"] if each["name"] == "v1beta1")
    schema = close(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}  # the cluster's own, validated with the ConfigMap's
    return schema


def close(schema: Any) -> Any:
    if isinstance(schema, list):
        return [close(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: close(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


def validate_service(service: Document) -> None:
    jsonschema.Draft7Validator(kserve_schema()).validate(service)


def as_pod(service: Document) -> Document:
    """The pod that KServe makes of a predictor of our own container."""
    predictor = service["spec"]["predictor"]
    spec = {key: value for key, value in predictor.items() if key not in OWN_KEYS}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": service["metadata"], "spec": spec}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Document]:
    """Every document of a whole hand-over, by file name; only read."""
    folder = tmp_path_factory.mktemp("handover")
    released = make_released(folder, f'{SECRETS}\n[serving]\ndrain_s = 12.5\n[settings]\nnote = "größe: \\"12\\""')
    write_handover(released.archive, released.release, released.manifest, folder / "out", WHOLE, released.file)
    return {path.name: read_yaml(path) for path in sorted((folder / "out").glob("*.yaml"))}


def make_subject(folder: Path, settings: str = "") -> Subject:
    released = make_released(folder, settings)
    return read_subject(released.archive, released.release, released.manifest)


def test_documents_are_a_configuration_and_two_services(written: dict[str, Document]) -> None:
    assert {name: (each["kind"], each["metadata"]["name"]) for name, each in written.items()} == {
        "configmap.yaml": ("ConfigMap", written["configmap.yaml"]["metadata"]["name"]),
        "inferenceservice-kit.yaml": ("InferenceService", "delays-kit"),
        "inferenceservice-tensorflow.yaml": ("InferenceService", "delays"),
    }


@pytest.mark.parametrize("name", ["inferenceservice-tensorflow.yaml", "inferenceservice-kit.yaml"])
def test_services_are_what_the_schema_of_kserve_says(written: dict[str, Document], name: str) -> None:
    validate_service(written[name])


def test_schema_refuses_what_no_inference_service_has(written: dict[str, Document]) -> None:
    for path, value in (("model.storageURI", "oci://x"), ("modle", {}), ("containers", [{"image": "x"}])):
        service = msgspec.json.decode(msgspec.json.encode(written["inferenceservice-tensorflow.yaml"]))
        *above, last = path.split(".")
        functools.reduce(dict.__getitem__, above, service["spec"]["predictor"])[last] = value
        with pytest.raises(jsonschema.ValidationError):
            validate_service(service)


@pytest.mark.parametrize("version", [OLDEST_FOR_KIT, CLUSTER])
def test_kubernetes_takes_the_configuration_and_the_pod_of_kit_serve(
    written: dict[str, Document], version: str
) -> None:
    kubernetes_validate.validate(written["configmap.yaml"], version, strict=True)
    kubernetes_validate.validate(as_pod(written["inferenceservice-kit.yaml"]), version, strict=True)


def test_kubernetes_takes_the_pod_that_kserve_makes_with_the_image_as_volume(written: dict[str, Document]) -> None:
    """As kserve/kserve#5558 does: the container of the runtime, the image's `/models` at `/mnt/models`."""
    service = written["inferenceservice-tensorflow.yaml"]
    model = dict(service["spec"]["predictor"]["model"])
    uri = model.pop("storageUri")
    container = {key: value for key, value in model.items() if key not in ("modelFormat", "protocolVersion")}
    mount = {"name": "mnt-models", "mountPath": "/mnt/models", "subPath": "models", "readOnly": True}
    pod = as_pod(service)
    pod["spec"] |= {
        "containers": [{"name": "kserve-container", **container, "volumeMounts": [mount]}],
        "volumes": [{"name": "mnt-models", "image": {"reference": uri.removeprefix("oci+native://")}}],
    }
    kubernetes_validate.validate(pod, CLUSTER, strict=True)


def test_strict_validation_refuses_an_unknown_key(written: dict[str, Document]) -> None:
    pod = as_pod(written["inferenceservice-kit.yaml"])
    pod["spec"]["containers"][0]["comand"] = ["kit"]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, CLUSTER, strict=True)


def test_configuration_is_the_frozen_one_byte_for_byte_and_cannot_be_changed(written: dict[str, Document]) -> None:
    document = written["configmap.yaml"]
    assert document["immutable"] is True
    data = document["data"]
    assert sha256_bytes(data["configuration.json"].encode()) == data["KIT_CONFIGURATION_SHA256"]
    assert Environment(**msgspec.json.decode(data["configuration.json"])).settings == {"note": 'größe: "12"'}
    assert (data["KIT_RELEASE"], data["KIT_ENVIRONMENT"]) == ("production-1", "production")


def test_every_object_names_release_and_digests(written: dict[str, Document]) -> None:
    for document in written.values():
        metadata = document["metadata"]
        assert metadata["namespace"] == "models"
        assert metadata["labels"] == {
            "app.kubernetes.io/managed-by": "kit",
            "app.kubernetes.io/name": "delays",
            "app.kubernetes.io/version": "production-1",
        }
        annotations = {key: value for key, value in metadata["annotations"].items() if key.startswith("kit/")}
        assert sorted(annotations) == ["kit/commit", "kit/configuration-sha256", "kit/release", "kit/release-sha256"]
        assert annotations["kit/configuration-sha256"] == written["configmap.yaml"]["data"]["KIT_CONFIGURATION_SHA256"]


def test_every_image_is_named_by_digest(written: dict[str, Document]) -> None:
    model = written["inferenceservice-tensorflow.yaml"]["spec"]["predictor"]["model"]
    (container,) = written["inferenceservice-kit.yaml"]["spec"]["predictor"]["containers"]
    assert (model["image"], container["image"]) == (WHOLE.tensorflow_image, WHOLE.server_image)
    assert re.fullmatch(r"oci\+native://registry\.example\.org/team/delays@sha256:[0-9a-f]{64}", model["storageUri"])


@pytest.mark.parametrize("name", ["inferenceservice-tensorflow.yaml", "inferenceservice-kit.yaml"])
def test_containers_are_confined_and_have_time_to_drain(written: dict[str, Document], name: str) -> None:
    predictor = written[name]["spec"]["predictor"]
    container = predictor.get("model") or predictor["containers"][0]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["resources"]["requests"] == container["resources"]["limits"] == {"cpu": "1", "memory": "2Gi"}
    assert predictor["automountServiceAccountToken"] is False
    pause_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert predictor["terminationGracePeriodSeconds"] > pause_s + 12.5  # serving.drain_s


def test_kit_serves_the_release_file_and_is_asked_for_its_health(written: dict[str, Document]) -> None:
    (container,) = written["inferenceservice-kit.yaml"]["spec"]["predictor"]["containers"]
    assert container["name"] == "kserve-container"
    assert container["command"] == [
        "kit", "serve", "--file", "/release/production-1.kit", "--host", "0.0.0.0", "--port", "8080",
    ]  # fmt: skip
    assert container["ports"] == [{"name": "http1", "containerPort": 8080, "protocol": "TCP"}]
    asked = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert asked == {"startup": "/v2/health/ready", "readiness": "/v2/health/ready", "liveness": "/v2/health/live"}
    assert {container[f"{name}Probe"]["httpGet"]["port"] for name in asked} == {8080}


def test_secrets_are_references_to_a_key_of_a_secret(written: dict[str, Document]) -> None:
    predictor = written["inferenceservice-kit.yaml"]["spec"]["predictor"]
    (container,) = predictor["containers"]
    variables = {each["name"]: each for each in container["env"]}
    assert variables["WAREHOUSE_PASSWORD"] == {
        "name": "WAREHOUSE_PASSWORD",
        "valueFrom": {"secretKeyRef": {"name": "delays-secrets", "key": "WAREHOUSE_PASSWORD"}},
    }
    assert [name for name, each in variables.items() if "value" in each] == ["HOME", "TMPDIR"]
    (mount,) = (each for each in container["volumeMounts"] if each["name"] == "secrets")
    assert (mount["mountPath"], mount["subPath"]) == ("/run/secrets/certificate.pem", "certificate")
    (volume,) = (each for each in predictor["volumes"] if each["name"] == "secrets")
    assert volume["secret"] == {
        "secretName": "delays-secrets",
        "items": [{"key": "certificate", "path": "certificate"}],
        "defaultMode": 0o440,
    }


def test_mounts_and_volumes_agree(written: dict[str, Document]) -> None:
    predictor = written["inferenceservice-kit.yaml"]["spec"]["predictor"]
    mounts = predictor["containers"][0]["volumeMounts"]
    assert {each["name"] for each in mounts} == {each["name"] for each in predictor["volumes"]}
    assert len({each["mountPath"] for each in mounts}) == len(mounts)


def test_signed_release_is_served_with_the_keys_that_the_clusters_people_give(tmp_path: Path) -> None:
    service = describe_kit_service(make_subject(tmp_path, "[policy]\nsigned = true"), WHOLE)
    (container,) = service["spec"]["predictor"]["containers"]
    assert container["command"][-2:] == ["--keys", "/etc/kit/keys/trusted.keys"]
    (volume,) = (each for each in service["spec"]["predictor"]["volumes"] if each["name"] == "keys")
    assert volume["configMap"]["name"] == "delays-keys"
    validate_service(service)
    kubernetes_validate.validate(as_pod(service), CLUSTER, strict=True)


def test_service_without_namespace_commit_and_secrets_is_valid_too(tmp_path: Path) -> None:
    released = make_released(tmp_path, commit=None)
    place = msgspec.structs.replace(PLACE, server_image=WHOLE.server_image)
    subject = read_subject(released.archive, released.release, released.manifest)
    service = describe_kit_service(subject, place)
    assert "namespace" not in service["metadata"]
    assert "kit/commit" not in service["metadata"]["annotations"]
    validate_service(service)
    kubernetes_validate.validate(as_pod(service), CLUSTER, strict=True)


def test_another_release_has_another_configuration_so_that_a_rollback_finds_its_own(tmp_path: Path) -> None:
    subject = make_subject(tmp_path)
    release = msgspec.structs.replace(subject.release, number=2, id="production-2")
    both = (subject, msgspec.structs.replace(subject, release=release))
    names = {describe_configuration(each, PLACE)["metadata"]["name"] for each in both}
    assert len(names) == 2


def test_two_names_of_one_variable_are_one(tmp_path: Path) -> None:
    subject = make_subject(tmp_path, '[secrets]\nb = { env = "PASSWORD" }\na = { env = "PASSWORD" }')
    assert [(secret.key, secret.variable) for secret in list_secrets(subject, PLACE)] == [("a", "PASSWORD")]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ('NAME = { env = "HOME" }', "[secrets] NAME: the container itself sets the variable HOME"),
        ('NAME = { env = "KIT_RELEASE" }', "[secrets] NAME: the container itself sets the variable KIT_RELEASE"),
        ('NAME = { env = "A-B" }', "[secrets] NAME: 'A-B' cannot be a container's environment variable"),
        ('NAME = { file = "secrets/password" }', "[secrets] NAME: the file 'secrets/password' cannot be mounted"),
        ('NAME = { file = "~/password" }', "[secrets] NAME: the file '~/password' cannot be mounted"),
        ('NAME = { file = "/run/../etc/passwd" }', "[secrets] NAME: the file '/run/../etc/passwd' cannot be mounted"),
        ('NAME = { file = "/tmp" }', "[secrets] NAME: the container itself has something at /tmp"),
        ('NAME = { file = "/a:b" }', "[secrets] NAME: the file '/a:b' cannot be mounted"),
        ('"pass word" = { env = "PASSWORD" }', "[secrets] 'pass word' cannot be a key of a Secret"),
    ],
)
def test_reference_that_no_container_can_have_is_refused(tmp_path: Path, reference: str, message: str) -> None:
    subject = make_subject(tmp_path, f"[secrets]\n{reference}")
    with pytest.raises(UsageError, match=re.escape(message)):
        describe_kit_service(subject, WHOLE)


def test_configuration_that_no_configmap_holds_is_refused(tmp_path: Path) -> None:
    subject = make_subject(tmp_path, f'[settings]\nlist = "{"x" * 1_000_000}"')
    with pytest.raises(UsageError, match="a ConfigMap holds 1,000,000: move large values"):
        describe_configuration(subject, PLACE)


@pytest.mark.parametrize(
    "changes",
    [
        {"registry": "registry.example.org:5000/team/models"},
        {"registry": "localhost/team"},
        {"service": "a" * MAX_SERVICE},
        {"base_image": f"python{PIN}"},
        {"base_image": f"python:3.11-slim{PIN}"},
        {"server_image": f"registry.example.org:5000/team/a_b__c-d.e{PIN}"},
        {"cpu": "500m", "memory": "1.5Gi"},
        {"namespace": "0-models"},
    ],
)
def test_place_takes_what_clusters_take(changes: dict[str, str]) -> None:
    assert msgspec.structs.asdict(msgspec.structs.replace(PLACE, **changes)) | changes == msgspec.structs.asdict(
        msgspec.structs.replace(PLACE, **changes)
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"registry": ""}, "--registry '': expected a host and a path without scheme"),
        ({"registry": "team"}, "--registry 'team': expected a host"),
        ({"registry": "oci://images.example.org"}, "--registry 'oci://"),
        ({"registry": "registry.example.org/Team"}, "expected a host and a path"),
        ({"registry": "registry.example.org/team/"}, "expected a host and a path"),
        ({"registry": "registry.example.org/a:tag"}, "expected a host and a path"),
        ({"service": "Delays"}, "'Delays' cannot name a service in a cluster"),
        ({"service": "9delays"}, "a letter first"),
        ({"service": "delays_2"}, "give --name"),
        ({"service": "a" * (MAX_SERVICE + 1)}, f"expected 1 to {MAX_SERVICE} lower-case letters"),
        ({"service": "delays\n"}, "cannot name a service"),
        ({"namespace": "kube system"}, "--namespace 'kube system': expected"),
        (
            {"base_image": "python:3.11"},
            "--base-image 'python:3.11' is not pinned: expected NAME@sha256:<64 hex digits>",
        ),
        ({"base_image": "python:3.11"}, "docker://python:3.11` prints the digest"),
        ({"server_image": "server@sha256:abc"}, "--server-image 'server@sha256:abc' is not pinned"),
        ({"server_image": f"Server{PIN}"}, "is not pinned"),
        ({"server_image": f"server{PIN}\nUSER root"}, "is not pinned"),
        ({"base_image": f"python{PIN}0"}, "is not pinned"),
        ({"tensorflow_image": "tensorflow/serving:latest"}, "--tensorflow-image"),
        ({"cpu": "many"}, "--cpu 'many': expected a Kubernetes quantity above 0"),
        ({"cpu": "0"}, "above 0"),
        ({"memory": "2 Gi"}, "--memory '2 Gi'"),
        ({"memory": "-1"}, "--memory '-1'"),
    ],
)
def test_place_refuses_what_a_cluster_would_and_says_what_to_write(changes: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        Place(**{**msgspec.structs.asdict(PLACE), **changes})
