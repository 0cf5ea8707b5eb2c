"""An environment's tables as values."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from kit.environment.gates import Gates
from kit.files import canonical_json, leave_out_empty, sha256_bytes
from kit.graph import Graph, Stage


class ReleasePolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"source": "from"}):
    """`from`: the environment whose newest succeeded training a release takes."""

    source: str


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may happen here.

    Attributes:
        code: what may execute, the working tree as it is or only a clean build's bundle.
        signed: refuse unsigned work.
        promoted_from: environments in one of which a model must have been released before.
        allow_drift: `kit run --allow-drift` may execute a release although something differs from it.
    """

    code: Literal["worktree", "build"] = "worktree"
    signed: bool = False
    promoted_from: tuple[str, ...] = ()
    allow_drift: bool = False


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`timeout_s`: seconds for one stage. `output_bytes`: output kept of one cell."""

    timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 4 * 3600.0
    output_bytes: Annotated[int, msgspec.Meta(gt=0)] = 10_000_000


class StageSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one stage is executed here.

    Attributes:
        retries: further attempts after a failure that `transient` names.
        transient: kinds of failures after which another attempt may succeed: the exact name of an exception's class, as the
            kernel tells it, without its module and not that of a base class; `KernelDied`; `TimedOut`.
        backoff_s: seconds before the first further attempt; doubled before each one after.
    """

    retries: Annotated[int, msgspec.Meta(ge=0, le=20)] = 0
    transient: tuple[str, ...] = ()
    backoff_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 1.0


class Serving(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How `kit serve` answers.

    Attributes:
        name: the model's name in addresses; empty for the project's.
        representation: what answers: the SavedModel, or the LiteRT model without TensorFlow.
        max_batch_rows: rows that one call of the model takes at most.
        max_queue_rows: rows that may wait; beyond them a request is answered with 503.
        max_request_bytes: a larger request is answered with 413.
        timeout_s: seconds after which an unanswered request is answered with 504.
        drain_s: seconds that accepted requests have at the end.
        poll_s: seconds between two looks at what is live.
    """

    name: str = ""
    representation: Literal["saved_model", "litert"] = "saved_model"
    max_batch_rows: Annotated[int, msgspec.Meta(ge=1)] = 256
    max_queue_rows: Annotated[int, msgspec.Meta(ge=1)] = 4096
    max_request_bytes: Annotated[int, msgspec.Meta(ge=1)] = 8_000_000
    timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    drain_s: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    poll_s: Annotated[float, msgspec.Meta(gt=0)] = 2.0


class SecretReference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a secret is found: `env`, the name of an environment variable, or `file`, a path. Never its value."""

    env: str = ""
    file: str = ""


class Environment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One environment, as its file has it."""

    name: str = ""
    description: str = ""
    parameters: dict[str, Any] = {}
    data: dict[str, str] = {}
    secrets: dict[str, SecretReference] = {}
    settings: dict[str, Any] = {}
    gates: Gates = Gates()
    release: ReleasePolicy | None = None
    policy: Policy = Policy()
    limits: Limits = Limits()
    serving: Serving = Serving()
    stages: dict[str, StageSettings] = {}

    @property
    def training(self) -> str:
        """The environment in which this one's models are trained."""
        return self.release.source if self.release else self.name

    @property
    def configuration(self) -> dict[str, Any]:
        """The effective configuration as JSON values."""
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))  # lists, as a file has them
        return leave_out_empty(plain, ("stages",))  # it came later: older releases keep their configuration

    @property
    def sha256(self) -> str:
        """Digest of the effective configuration."""
        return sha256_bytes(canonical_json(self.configuration))

    def parameters_for(self, stage: Stage, graph: Graph) -> dict[str, Any]:
        """Values for one stage: its own table over the general ones that it declares."""
        own = self.parameters.get(stage.name, {})
        declared = {parameter.name for parameter in stage.parameters}
        stages = {each.name for each in graph.stages}
        general = {name: value for name, value in self.parameters.items() if name not in stages and name in declared}
        return {**general, **own}
