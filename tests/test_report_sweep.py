"""The page of a sweep: scales, the drawing, the table."""

import itertools
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from report_pages import EVIL, Page

from kit.report.axes import is_number, make_axis, tell
from kit.report.drawing import MAX_DRAWN, N_TONES, draw_sweep
from kit.report.sweep import PointView, SweepView, find_sweeps, name_sweep, render_sweep, write_sweep_page


def make_point(values: dict[str, Any], metric: float | None = 0.7, n: int = 0, **more: Any) -> PointView:
    facts = {
        "values": values,
        "record": f"20260301T0930{n % 60:02d}Z-train-{n:06x}",
        "status": "failed" if metric is None else "succeeded",
        "metric": metric,
        "metrics": {} if metric is None else {"auc": metric, "loss": 1 - metric},
        "seconds": 2.0,
    }
    return PointView(**(facts | more))


def make_sweep(axes: dict[str, list[Any]], *metrics: float | None, **more: Any) -> SweepView:
    """A grid; as many metrics as it has points, the last repeated."""
    values = [dict(zip(axes, each, strict=True)) for each in itertools.product(*axes.values())]
    found = itertools.chain(metrics or [0.7], itertools.repeat((metrics or (0.7,))[-1]))
    points = tuple(make_point(each, metric, n) for n, (each, metric) in enumerate(zip(values, found, strict=False)))
    facts = {"metric": "auc", "lowest": False, "axes": tuple(axes), "points": points}
    return SweepView(**({"id": "sweep-4f09c1a2b3c4", "stage": "train", "environment": "dev"} | facts | more))


def ticks_of(values: list[Any]) -> tuple[str, list[str]]:
    axis = make_axis("x", values)
    return axis.scale, [tick.label for tick in axis.ticks]


@pytest.mark.parametrize(
    ("values", "scale", "labels"),
    [
        ([1e-4, 1e-2, 1e-3], "log", ["0.0001", "0.001", "0.01"]),
        ([32, 64, 128], "linear", ["32", "64", "128"]),
        ([-1.0, 100.0], "linear", ["-1", "100"]),
        ([7], "linear", ["7"]),
        ([1, 1.0], "linear", ["1"]),
        (["adam", "sgd", "adam"], "category", ["adam", "sgd"]),
        ([True, False], "category", ["true", "false"]),
        ([[64, 32], [32]], "category", ["[64, 32]", "[32]"]),
        ([1, "auto"], "category", ["1", "auto"]),
        ([], "category", []),
    ],
)
def test_scale_follows_from_the_values(values: list[Any], scale: str, labels: list[str]) -> None:
    assert ticks_of(values) == (scale, labels)


def test_many_values_have_round_ticks_between_the_ends() -> None:
    assert ticks_of([n / 37 for n in range(101)]) == ("linear", ["0", "0.5", "1", "1.5", "2", "2.5", "2.703"])
    assert ticks_of([10 ** (-n / 10) for n in range(41)])[1] == ["0.0001", "0.001", "0.01", "0.1", "1"]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60), min_size=1))
def test_every_number_has_a_place_on_its_axis(values: list[float]) -> None:
    axis = make_axis("x", values)
    places = [axis.place(value) for value in values]
    assert all(place is not None and -1e-9 <= place <= 1 + 1e-9 for place in places)
    assert len(axis.ticks) <= 12


@pytest.mark.parametrize("values", [[-1.7e308, 1.7e308, *range(9)], [0.0, 5e-324, *[0.0] * 9], [5e-324, 1e308, 1.0]])
def test_numbers_at_the_edge_of_floats_have_places(values: list[float]) -> None:
    axis = make_axis("x", values)
    assert all(0 <= (axis.place(value) or 0) <= 1 for value in values)
    assert not is_number(10**400)


@given(st.lists(st.text() | st.booleans() | st.none() | st.integers(), min_size=1))
def test_every_category_has_a_place_of_its_own(values: list[Any]) -> None:
    axis = make_axis("x", [*values, "a text"])
    assert len({axis.place(value) for value in values}) == len({tell_exactly(value) for value in values})


def tell_exactly(value: Any) -> str:
    return f"{type(value).__name__} {value}"


def test_a_value_that_is_not_on_the_axis_has_no_place() -> None:
    assert make_axis("x", [1, 2]).place("1") is None
    assert make_axis("x", [1e-3, 1]).place(-1) is None
    assert make_axis("x", ["a"]).place("b") is None


def test_long_numbers_are_told_short() -> None:
    assert [tell(value) for value in (0.0335976706693458, 1e-3, 3, "adam", None)] == [
        "0.0336",
        "0.001",
        "3",
        "adam",
        "null",
    ]


def test_several_axes_are_parallel_coordinates_with_the_metric_last() -> None:
    drawing = draw_sweep(make_sweep({"rate": [0.1, 0.2], "units": [8, 16]}, 0.5, 0.6, 0.9, 0.7), ())
    assert drawing is not None
    assert [axis.name.text for axis in drawing.axes] == ["rate", "units", "auc"]
    assert drawing.kind == "parallel"
    assert [mark.tone for mark in drawing.marks] == [0, 2, 4, N_TONES - 1]
    assert [mark.is_best for mark in drawing.marks] == [False, False, False, True]
    assert drawing.marks[-1].told == "auc 0.9000 · rate=0.2, units=8"


def test_one_axis_is_a_scatter() -> None:
    drawing = draw_sweep(make_sweep({"rate": [0.1, 0.2, 0.3]}, 0.5, 0.6, 0.4), ())
    assert drawing is not None
    assert (drawing.kind, [len(mark.places) for mark in drawing.marks]) == ("scatter", [1, 1, 1])


def test_lowest_turns_the_colours_and_the_order() -> None:
    sweep = make_sweep({"rate": [0.1, 0.2, 0.3]}, 0.5, 0.6, 0.4, lowest=True)
    drawing = draw_sweep(sweep, ())
    assert drawing is not None
    assert [point.metric for point in sweep.ranked] == [0.4, 0.5, 0.6]
    assert [mark.tone for mark in drawing.marks] == [0, 4, N_TONES - 1]


@pytest.mark.parametrize("axes", [{"rate": [0.1, 0.2]}, {"rate": [0.1, 0.2], "units": [8]}])
@pytest.mark.parametrize("bad", [None, float("inf"), float("nan")])
def test_points_without_a_result_lie_apart_and_last(axes: dict[str, list[Any]], bad: float | None) -> None:
    sweep = make_sweep(axes, bad, 0.6)
    drawing = draw_sweep(sweep, ())
    assert drawing is not None
    assert [mark.tone for mark in drawing.marks] == [-1, 4]
    assert drawing.failed_y is not None
    assert drawing.marks[0].places[-1][1] == drawing.failed_y
    assert all(axis.y2 < drawing.failed_y for axis in drawing.axes if axis.x == axis.x2)
    assert sweep.ranked[-1].values == {"rate": 0.1} | ({"units": 8} if len(axes) > 1 else {})


def test_nothing_is_best_where_nothing_succeeded() -> None:
    sweep = make_sweep({"rate": [0.1, 0.2]}, None)
    assert sweep.best is None
    assert "best" not in render_sweep(sweep).split("<main")[0].split("</style>")[1]


def test_more_points_than_can_be_drawn_leave_out_the_worst() -> None:
    drawing = draw_sweep(make_sweep({"n": list(range(MAX_DRAWN + 5))}, *(n / 2000 for n in range(MAX_DRAWN + 5))), ())
    assert drawing is not None
    assert (len(drawing.marks), drawing.n_left_out, drawing.marks[0].tone) == (MAX_DRAWN, 5, 0)


@pytest.mark.parametrize("points", [1, 2, 300])
@pytest.mark.parametrize("n_axes", [0, 1, 2, 5])
def test_every_size_has_a_page(points: int, n_axes: int) -> None:
    axes = {f"axis_{n}": [1] for n in range(n_axes)} | ({"last": list(range(points))} if n_axes else {})
    text = render_sweep(make_sweep(axes, 0.5, 0.6))
    assert text.count('<th scope="row">') == (points if n_axes else 1)


def test_table_is_sorted_by_the_metric_and_links_known_records() -> None:
    sweep = make_sweep({"rate": [0.1, 0.2, 0.3]}, 0.5, None, 0.9)
    text = render_sweep(sweep, known_records=[sweep.points[0].record])
    rows = re.findall(r"<tr[^>]*><td.*?</tr>", text)
    assert [re.sub(r"<[^>]*>", " ", row).split()[:3] for row in rows] == [
        ["0.9000", "0.3", "succeeded"],
        ["0.5000", "0.1", "succeeded"],
        ["–", "0.2", "failed"],
    ]
    assert set(re.findall(r'href="\.\./records/([^"]*)\.html"', text)) == {sweep.points[0].record}


def test_reused_and_waiting_points_are_said() -> None:
    points = (make_point({"x": 1}, reused=True), make_point({"x": 2}, None, record="", status="waiting", seconds=None))
    text = render_sweep(make_sweep({"x": [1]}, points=points))
    assert "2 points, 1 with a result, 1 reused" in text
    assert '<span class="tag">reused</span>' in text
    assert '<span class="pill quiet">waiting</span>' in text


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize("n_axes", [1, 2])
def test_nothing_active_survives_from_a_sweep(evil: str, n_axes: int) -> None:
    axes = tuple(f"{evil}{n}" for n in range(n_axes))
    points = (
        make_point(dict.fromkeys(axes, evil), 0.7, metrics={evil: 0.2}),
        make_point(dict.fromkeys(axes, evil), None, record=evil, status=evil),
    )
    sweep = SweepView(evil, evil, evil, evil, False, axes, points)
    page = Page(render_sweep(sweep, known_records=[points[0].record], data_href="./x.json"))
    allowed = {"svg", "g", "a", "title", "line", "text", "polyline", "circle", "path", "rect"}
    assert not {tag for tag, _ in page.elements} & {
        "script",
        "iframe",
        "object",
        "embed",
        "form",
        "link",
        "base",
        "img",
        "use",
    }
    assert allowed & {tag for tag, _ in page.elements}
    assert len(page.find("style")) == 1
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") or name == "style" for name in attributes), tag
        assert re.match(r"\.\./|\./x\.json|#", attributes.get("href", "#")), attributes


def test_page_is_strict_accessible_and_asks_for_nothing() -> None:
    text = render_sweep(make_sweep({"rate": [0.1, 0.2], "units": [8, 16]}))
    page = Page(text)
    policy = next(m["content"] for m in page.find("meta") if "http-equiv" in m)
    assert re.fullmatch(
        r"default-src 'none'; img-src data:; style-src 'sha256-[^']+'; base-uri 'none'; form-action 'none'", policy
    )
    assert page.find("html") == [{"lang": "en"}]
    assert page.find("a")[0] == {"class": "skip", "href": "#main"}
    assert len(page.find("caption")) == len(page.find("table")) == 1
    assert all("scope" in head for head in page.find("th"))
    assert [svg["role"] for svg in page.find("svg") if "role" in svg] == ["img"]
    assert [level for level, _ in page.headings] == ["h1", "h2", "h2"]
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", text)


def test_sweep_that_was_written_is_found_again(tmp_path: Any) -> None:
    sweep = make_sweep({"rate": [0.1, 0.2], "layers": [[64, 32]]}, 0.5, None)
    assert write_sweep_page(sweep, tmp_path) == tmp_path / "sweeps" / "sweep-4f09c1a2b3c4.html"
    assert find_sweeps(tmp_path) == [sweep]


def test_what_is_no_sweep_is_not_found(tmp_path: Any) -> None:
    path = write_sweep_page(make_sweep({"rate": [0.1]}), tmp_path).with_suffix(".json")
    path.with_name("sweep-another.json").write_bytes(path.read_bytes())
    path.write_text('{"id": 3}')
    assert find_sweeps(tmp_path) == []


def test_pages_that_are_there_are_linked(tmp_path: Any) -> None:
    sweep = make_sweep({"rate": [0.1, 0.2]}, 0.5, 0.6)
    page = tmp_path / "records" / f"{sweep.points[1].record}.html"
    page.parent.mkdir()
    page.touch()
    text = write_sweep_page(sweep, tmp_path).read_text(encoding="utf-8")
    assert set(re.findall(r'href="\.\./records/([^"]*)\.html"', text)) == {sweep.points[1].record}


def test_sweep_is_named_by_the_digest_of_its_definition() -> None:
    assert [name_sweep("4f09c1a2b3c4" + "0" * 52), name_sweep("")] == ["sweep-4f09c1a2b3c4", ""]


def test_metrics_of_all_points_have_columns() -> None:
    sweep = make_sweep({"x": [1, 2]}, 0.5, 0.6)
    other = replace(sweep.points[0], metrics={"auc": 0.5, "n": 3, "name": "text", "ok": True})
    assert replace(sweep, points=(other, sweep.points[1])).others == ("n", "loss")
