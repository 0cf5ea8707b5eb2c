"""Stages and the graph between them, which follows from the names of what they read and write."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from html import escape

import msgspec

from kit.errors import GraphError, UnknownNameError
from kit.parameter import Parameter

BUILD, RELEASE, RUN = "build", "release", "run"


class Stage(msgspec.Struct, frozen=True):
    """A notebook with a signature.

    Attributes:
        name: the notebook's stem.
        notebook: path relative to the project, with `/`.
        title: its first heading.
        parameters: in the order of the parameters cell.
        inputs: names of the artifacts it reads.
        outputs: names of the artifacts it writes.
        where: file and cells of the signature, for messages.
    """

    name: str
    notebook: str
    title: str
    parameters: tuple[Parameter, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    where: str


class Graph(msgspec.Struct, frozen=True):
    """All stages of a project. Build one with `make_graph`, which refuses what is no graph."""

    stages: tuple[Stage, ...]

    def stage(self, name: str) -> Stage:
        """The stage of that name.

        Raises:
            UnknownNameError: there is none.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise UnknownNameError("stage", name, [stage.name for stage in self.stages], "notebooks/*.ipynb")

    def producer_of(self, artifact: str) -> Stage | None:
        """The stage that writes an artifact; None for a data source."""
        return next((stage for stage in self.stages if artifact in stage.outputs), None)

    @property
    def edges(self) -> tuple[tuple[str, str, str], ...]:
        """(producing stage, artifact, reading stage), in execution order."""
        return tuple(
            (producer.name, name, stage.name)
            for stage in self.stages
            for name in stage.inputs
            if (producer := self.producer_of(name))
        )

    @property
    def data_sources(self) -> tuple[str, ...]:
        """Names that no stage writes, so an environment must bind them."""
        return tuple(sorted({name for stage in self.stages for name in stage.inputs if not self.producer_of(name)}))

    def to_svg(self) -> str:
        """A drawing of the graph, self-contained."""
        return _draw(self)


def make_graph(stages: Iterable[Stage]) -> Graph:
    """Put stages into execution order: producers first, `build` before all that does not feed it, then by name.

    Raises:
        GraphError: two producers of one artifact, or a cycle; names the cells.
    """
    by_name = {stage.name: stage for stage in sorted(stages, key=lambda stage: stage.name)}
    producers: dict[str, Stage] = {}
    for stage in by_name.values():
        for output in stage.outputs:
            if output in producers:
                raise GraphError(
                    f"artifact {output!r} has two producers: {producers[output].where} and {stage.where}; "
                    f"rename one output"
                )
            producers[output] = stage
    waiting = {
        name: {producers[needed].name for needed in stage.inputs if needed in producers}
        for name, stage in by_name.items()
    }
    return Graph(tuple(by_name[name] for name in _sort(waiting, by_name)))


def _sort(waiting: dict[str, set[str]], stages: dict[str, Stage]) -> list[str]:
    ready = [(name != BUILD, name) for name, needs in waiting.items() if not needs]
    heapq.heapify(ready)
    order: list[str] = []
    while ready:
        _, done = heapq.heappop(ready)
        order.append(done)
        for name, needs in waiting.items():
            if done in needs:
                needs.remove(done)
                if not needs:
                    heapq.heappush(ready, (name != BUILD, name))
    if len(order) < len(waiting):
        cells = "; ".join(
            f"{stages[name].where} needs the output of {', '.join(sorted(waiting[name]))}"
            for name in sorted(set(waiting) - set(order))
        )
        raise GraphError(f"the stages form a cycle: {cells}; remove one of these inputs")
    return order


def require_bound(stage: Stage, graph: Graph, bound: Iterable[str], environment: str) -> None:
    """Refuse a stage with an input that nothing provides.

    Raises:
        GraphError: names the input, the cell and the environment file.
    """
    names = set(bound)
    for name in stage.inputs:
        if graph.producer_of(name) is None and name not in names:
            raise GraphError(
                f"input {name!r} of stage {stage.name!r} ({stage.where}) is unbound: no stage writes it and "
                f'environments/{environment}.toml does not bind it; add "{name}" = "path/to/it" under [data]'
            )


_BOX_W, _BOX_H, _GAP_X, _GAP_Y = 150, 34, 60, 16


def _draw(graph: Graph) -> str:
    level: dict[str, int] = {}
    for stage in graph.stages:
        feeding = [level[source] for source, _, target in graph.edges if target == stage.name]
        level[stage.name] = max(feeding) + 1 if feeding else 0
    rows: dict[int, int] = {}
    place: dict[str, tuple[int, int]] = {}
    for stage in graph.stages:
        column = level[stage.name]
        row = rows[column] = rows.get(column, -1) + 1
        place[stage.name] = (10 + column * (_BOX_W + _GAP_X), 10 + row * (_BOX_H + _GAP_Y + 26))
    width = max((x for x, _ in place.values()), default=0) + _BOX_W + 10
    height = max((y for _, y in place.values()), default=0) + _BOX_H + 34
    parts = [_draw_edge(place[source], place[target]) for source, target in sorted({(s, t) for s, _, t in graph.edges})]
    parts += [_draw_stage(stage, *place[stage.name]) for stage in graph.stages]
    description = escape("; ".join(f"{source} gives {name} to {target}" for source, name, target in graph.edges))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" font-family="sans-serif"><title>Stage graph</title><desc>{description}</desc>{"".join(parts)}</svg>'
    )


def _draw_stage(stage: Stage, x: int, y: int) -> str:
    outputs = ", ".join(stage.outputs)
    shown = outputs if len(outputs) <= 26 else outputs[:25] + "…"
    return (
        f'<rect x="{x}" y="{y}" width="{_BOX_W}" height="{_BOX_H}" rx="6" fill="#eef3f8" stroke="#38597a"/>'
        f'<text x="{x + _BOX_W // 2}" y="{y + 22}" text-anchor="middle" font-size="14" fill="#13293d">'
        f"{escape(stage.name)}</text>"
        f'<text x="{x + _BOX_W // 2}" y="{y + _BOX_H + 15}" text-anchor="middle" font-size="10" fill="#4a5a6a">'
        f"{escape(shown)}</text>"
    )


def _draw_edge(source: tuple[int, int], target: tuple[int, int]) -> str:
    x1, y1, x2, y2 = source[0] + _BOX_W, source[1] + _BOX_H // 2, target[0], target[1] + _BOX_H // 2
    bend = (x1 + x2) // 2
    return (
        f'<path d="M{x1} {y1} C{bend} {y1} {bend} {y2} {x2} {y2}" fill="none" stroke="#7a8b9c" stroke-width="1.5"/>'
        f'<circle cx="{x2}" cy="{y2}" r="3" fill="#38597a"/>'
    )
