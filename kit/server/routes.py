"""Addresses: which path and method of which protocol does what, for one served release."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

import msgspec

from kit.provenance import kit_version
from kit.server import v1, v2
from kit.server.answer import Answer, Request, RequestError, show_name
from kit.server.metrics import MEDIA_TYPE, Metrics
from kit.server.served import Current, Served

Act = Callable[[Request], Awaitable[Answer]]

SERVER_NAME = "kit"
OTHER = "other"  # in logs and metrics, where a path met nothing
_MODEL_PATH = re.compile(r"/v[12]/models/(?P<name>[^/]+?)(?:/versions/(?P<version>[^/:]+))?(?P<rest>[/:].*)?")


class Route(msgspec.Struct, frozen=True):
    """What a path and a method do; `pattern` names it in logs and metrics."""

    pattern: str
    act: Act


class Routes:
    """All addresses of one served release: exact paths, so that finding one costs one look.

    Args:
        served: the release.
        current: says whether the server is draining.
        metrics: what /metrics tells.
    """

    def __init__(self, served: Served, current: Current, metrics: Metrics) -> None:
        self._served, self._current, self._metrics = served, current, metrics
        self._by_path: dict[str, dict[str, Route]] = {}
        name, version = served.identity.model, served.identity.version
        self._add_common(name)
        for path, pattern in (
            (f"/models/{name}", "/models/NAME"),
            (f"/models/{name}/versions/{version}", "/models/NAME/versions/V"),
        ):
            self._add_v1(f"/v1{path}", f"/v1{pattern}")
            self._add_v2(f"/v2{path}", f"/v2{pattern}")

    def find(self, method: str, path: str) -> Route:
        """The route of a request.

        Raises:
            RequestError: 404, no such address, model or version; 405, not with this method.
        """
        methods = self._by_path.get(path) or self._by_path.get(path.removesuffix("/"))
        if methods is None:
            raise RequestError(404, self._explain(path))
        route = methods.get("GET" if method == "HEAD" else method)
        if route is None:
            allowed = ", ".join(methods)
            raise RequestError(405, f"expected {allowed} here", ((b"allow", allowed.encode()),))
        return route

    @property
    def patterns(self) -> list[str]:
        """Method and pattern of every address, sorted."""
        found = self._by_path.values()
        return sorted(f"{method} {route.pattern}" for methods in found for method, route in methods.items())

    def _add(self, method: str, path: str, pattern: str, act: Act) -> None:
        self._by_path.setdefault(path, {})[method] = Route(pattern, act)

    def _add_common(self, name: str) -> None:
        names = msgspec.json.encode({"models": [name]})
        server = v2.describe_server(SERVER_NAME, kit_version())
        for path, act in {
            "/": _give(b'{"status":"alive"}'),
            "/v1/models": _give(names),
            "/v2/models": _give(names),
            "/v2": _give(server),
            "/v2/health/live": _give(b'{"live":true}'),
            "/v2/health/ready": self._tell_ready,
            "/metrics": self._tell_metrics,
        }.items():
            self._add("GET", path, path, act)

    def _add_v1(self, path: str, pattern: str) -> None:
        identity = self._served.identity
        metadata = v1.describe_metadata(identity.model, identity.version, self._served.signature, identity.signature)
        self._add("GET", path, pattern, self._tell_status)
        self._add("GET", f"{path}/metadata", f"{pattern}/metadata", _give(metadata))
        self._add("POST", f"{path}:predict", f"{pattern}:predict", self._predict)
        self._add("POST", f"{path}:classify", f"{pattern}:classify", self._classify)
        self._add("POST", f"{path}:regress", f"{pattern}:regress", self._regress)

    def _add_v2(self, path: str, pattern: str) -> None:
        known, signature = self._served.identity, self._served.signature
        metadata = v2.describe_model(known.model, known.version, known.platform, signature, known.release)
        self._add("GET", path, pattern, _give(metadata))
        self._add("GET", f"{path}/ready", f"{pattern}/ready", self._tell_ready)
        self._add("POST", f"{path}/infer", f"{pattern}/infer", self._infer)

    async def _predict(self, request: Request) -> Answer:
        served = self._served
        rows, by_column = v1.read_predict(request.body, served.layout, served.identity.signature)
        outputs = await served.ask(rows)
        return Answer(v1.write_predict(outputs, by_column=by_column), n_rows=rows.n_rows)

    async def _classify(self, request: Request) -> Answer:
        output = v1.find_scores(self._served.signature)
        rows = v1.read_examples(request.body, self._served.layout, self._served.identity.signature)
        return Answer(v1.write_classes((await self._served.ask(rows))[output.name]), n_rows=rows.n_rows)

    async def _regress(self, request: Request) -> Answer:
        output = v1.find_value(self._served.signature)
        rows = v1.read_examples(request.body, self._served.layout, self._served.identity.signature)
        return Answer(v1.write_values((await self._served.ask(rows))[output.name]), n_rows=rows.n_rows)

    async def _infer(self, request: Request) -> Answer:
        served, identity = self._served, self._served.identity
        inference = v2.read_inference(request, served.layout, served.signature)
        outputs = await served.ask(inference.rows)
        return v2.write_inference(inference, outputs, identity.model, identity.version, served.signature)

    async def _tell_status(self, _: Request) -> Answer:
        identity, ready = self._served.identity, self._is_ready
        return Answer(v1.describe_status(identity.model, identity.version, ready=ready), 200 if ready else 503)

    async def _tell_ready(self, _: Request) -> Answer:
        return Answer(b'{"ready":true}') if self._is_ready else Answer(b'{"ready":false}', 503)

    @property
    def _is_ready(self) -> bool:
        return not (self._current.is_draining or self._served.is_stuck or self._served.lapsed)

    async def _tell_metrics(self, _: Request) -> Answer:
        return Answer(self._metrics.encode(), media_type=MEDIA_TYPE)

    def _explain(self, path: str) -> str:
        """What of a path is not here."""
        name, version = self._served.identity.model, self._served.identity.version
        match = _MODEL_PATH.fullmatch(path)
        if match is None:
            return "no such address; there is /v1/models, /v2 and /metrics"
        if match["name"].partition(":")[0] != name:
            return f"model {show_name(match['name'])} is not served here; {name!r} is"
        if match["version"] is not None and match["version"] != version:
            return f"version {show_name(match['version'])} of {name!r} is not served; {version!r} is"
        return f"no such address of model {name!r}; there is :predict, :classify, :regress, /metadata, /infer, /ready"


def _give(body: bytes) -> Act:
    answer = Answer(body)

    async def act(_: Request) -> Answer:
        return answer

    return act
