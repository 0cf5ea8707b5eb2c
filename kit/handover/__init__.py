"""Handing a release over to a cluster or a device: an OCI image of its model, Kubernetes objects, a Containerfile."""

from kit.handover.admission import require_servable
from kit.handover.handover import Handover, require_free, write_handover
from kit.handover.place import Place

__all__ = ["Handover", "Place", "require_free", "require_servable", "write_handover"]
