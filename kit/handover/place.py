"""Where a release is handed over to, and what it builds on there: names, images and resources, all of them checked."""

from __future__ import annotations

import msgspec

from kit.handover.names import (
    require_namespace,
    require_pinned,
    require_quantity,
    require_registry,
    require_service,
)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster, as far as the objects for it must know it; UsageError for a name that a cluster would refuse.

    Attributes:
        registry: host and path that images lie below, as `registry.example.org/team`.
        service: name of the InferenceService, and of the model where TensorFlow Serving answers.
        namespace: of the objects; empty for the one that kubectl uses.
        server_image: reference of the image in which `kit serve` runs, by digest; empty if there is none yet.
        base_image: what such an image is built on, by digest; empty if none is to be built.
        tensorflow_image: TensorFlow Serving's, by digest; empty for the one of the cluster's runtime.
        cpu: requested, and the limit.
        memory: requested, and the limit.
    """

    registry: str
    service: str
    namespace: str = ""
    server_image: str = ""
    base_image: str = ""
    tensorflow_image: str = ""
    cpu: str = "1"
    memory: str = "2Gi"

    def __post_init__(self) -> None:
        """Check every one of them."""
        require_registry(self.registry)
        require_service(self.service)
        require_namespace(self.namespace)
        require_pinned(self.server_image, "--server-image")
        require_pinned(self.base_image, "--base-image")
        require_pinned(self.tensorflow_image, "--tensorflow-image")
        require_quantity(self.cpu, "--cpu")
        require_quantity(self.memory, "--memory")

    @property
    def repository(self) -> str:
        """Where the image of the release lies."""
        return f"{self.registry}/{self.service}"
