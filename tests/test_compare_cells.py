import base64
import io

import pytest

from kit.compare import Agreement, Comparator, Kind, compare_cells, read_cells
from kit.compare.cells import read_window

PAPERMILL = {"papermill": {"start_time": "2026-03-01T09:30:00+00:00", "end_time": "2026-03-01T09:30:30+00:00"}}


def notebook(*cells, metadata=None):
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata or {}, "cells": list(cells)}


def cell(*outputs, id="c", tags=(), source="x"):
    return {"cell_type": "code", "id": id, "metadata": {"tags": list(tags)}, "source": source, "outputs": list(outputs)}


def stream(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": text}


def display(data, kind="display_data"):
    return {"output_type": kind, "data": data, "metadata": {}}


def error(name, value):
    return {"output_type": "error", "ename": name, "evalue": value, "traceback": [f"at /a/{value}"]}


def scrap(name, data, encoder="json"):
    payload = {"name": name, "data": data, "encoder": encoder, "version": 1}
    return display({f"application/scrapbook.scrap.{encoder}+json": payload})


def png(*levels):
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.new("L", (len(levels), 1))
    image.putdata(levels)
    image.save(buffer, "PNG", compress_level=len(levels) % 9)
    return display(
        {"image/png": base64.b64encode(buffer.getvalue()).decode() + "\n", "text/plain": "<Figure at 0x7f0000000001>"}
    )


def compare(before, after, comparators=None):
    (found,) = compare_cells(notebook(cell(*before)), notebook(cell(*after)), comparators or {})
    assert (found.subject, found.comparator) == ("cells.c", str((comparators or {}).get("cells.c", "text")))
    return found.agreement, found.detail


def test_streams_are_joined_before_they_are_compared():
    before = [stream("a\n"), stream("b\n"), stream("warn", "stderr")]
    after = [stream(["a\n", "b\n"]), stream("warn", "stderr")]
    assert compare(before, after) == (Agreement.IDENTICAL, "")


def test_result_in_a_stream_is_named_by_its_line():
    found = compare([stream("start\nauc 0.7231\n")], [stream("start\nauc 0.7232\n")])
    assert found == (Agreement.DIFFERENT, "stdout: line 2: 'auc 0.7231', now 'auc 0.7232'")


def test_several_lines_are_counted():
    found = compare([stream("a\nb\nc")], [stream("a\nB\nc\nd")])
    assert found == (Agreement.DIFFERENT, "stdout: 2 lines differ, first line 2: 'b', now 'B'")


def test_volatile_stream_is_equal():
    found = compare([stream("took 3.2 s at 0x7f0012345678")], [stream("took 12 ms at 0x7f9912345678")])
    assert found == (Agreement.EQUAL, "the same but for what changes each time")


def test_times_within_the_execution_are_volatile_and_others_are_not():
    later = {"papermill": {"start_time": "2027-03-01T09:30:00+00:00", "end_time": "2027-03-01T09:31:00+00:00"}}
    now, then = ("2026-03-01 09:30:10", "2027-03-01 09:30:10")
    (found,) = compare_cells(
        notebook(cell(stream(now)), metadata=PAPERMILL), notebook(cell(stream(then)), metadata=later), {}
    )
    assert found.agreement is Agreement.EQUAL
    (found,) = compare_cells(notebook(cell(stream(now))), notebook(cell(stream(then))), {})
    assert found.agreement is Agreement.DIFFERENT


@pytest.mark.parametrize(
    ("before", "after", "detail"),
    [
        ([], [stream("x")], "with new stdout"),
        ([stream("x")], [], "without stdout"),
        ([display({"text/plain": "1"})], [display({"text/plain": "2"})], "text/plain 1: line 1: '1', now '2'"),
        ([display({"text/html": "<b>1</b>"})], [display({"text/html": "<b>2</b>"})], "text/html 1: line 1"),
        ([display({"application/json": {"a": 1}})], [display({"application/json": {"a": 2}})], "first a: 1, now 2"),
        ([error("ValueError", "x")], [error("ValueError", "y")], "error: line 1: 'ValueError: x', now 'ValueError: y'"),
        ([error("ValueError", "x")], [stream("x")], "without error; with new stdout"),
        ([scrap("auc", 0.7)], [scrap("auc", 0.8)], "scrap 'auc': 0.8, was 0.7: 0.1 away (relative 0.143)"),
        ([scrap("auc", 0.7)], [scrap("acu", 0.7)], "without scrap 'auc'; with new scrap 'acu'"),
        ([scrap("list", [1, 2])], [scrap("list", [1, 3])], "scrap 'list': 1 of 2 values differ, first [1]: 2, now 3"),
        ([scrap("a", 1), scrap("b", 1)], [scrap("b", 1), scrap("a", 1)], "outputs in another order"),
        ([png(1, 2)], [png(1, 3)], "image/png 1: 1 of 2 pixels differ, first at x=1, y=0"),
        ([png(1, 2)], [png(1, 2, 3)], "image/png 1: 3 x 1 pixels, were 2 x 1"),
        ([display({"image/png": "broken"})], [png(1)], "without"),
        ([display({"image/png": "%%"})], [display({"image/png": "++"})], "not a readable image"),
    ],
)
def test_difference_names_the_output(before, after, detail):
    agreement, found = compare(before, after)
    assert (agreement, detail in found) == (Agreement.DIFFERENT, True) or detail == "without", found
    assert not agreement.holds


def test_pictures_of_the_same_pixels_are_equal():
    data = [{**png(1, 2)["data"], "text/plain": f"<Figure at 0x7f000000000{n}>"} for n in (1, 2)]
    assert compare(*([display(each)] for each in data))[0] is Agreement.EQUAL


def test_counts_and_metadata_of_outputs_are_no_results():
    before = {**display({"text/plain": "1"}, "execute_result"), "execution_count": 1}
    after = {**display({"text/plain": "1"}, "execute_result"), "execution_count": 7, "metadata": {"papermill": {}}}
    assert compare([before], [after]) == (Agreement.IDENTICAL, "")


def test_traceback_is_no_result_but_the_error_is():
    other = {**error("ValueError", "x"), "traceback": ["at /b/c"]}
    assert compare([error("ValueError", "x")], [other]) == (Agreement.IDENTICAL, "")


def test_scrap_is_compared_by_the_rule_of_its_metric():
    tolerant = {"metrics.auc": Comparator(Kind.METRIC, atol=1e-6)}
    assert compare([scrap("auc", 0.7)], [scrap("auc", 0.7000001)], tolerant)[0] is Agreement.EQUAL
    ignored = {"metrics.auc": Comparator(Kind.IGNORE, reason="random")}
    assert compare([scrap("auc", 0.7)], [scrap("auc", 0.9)], ignored)[0] is Agreement.EQUAL


def test_widgets_are_named_at_random():
    data = [{"application/vnd.jupyter.widget-view+json": {"model_id": name}, "text/plain": "Bar()"} for name in "ab"]
    assert compare(*([display(each)] for each in data))[0] is Agreement.EQUAL


def test_declared_cell_is_ignored_or_compared_as_it_is():
    ignored = {"cells.c": Comparator(Kind.IGNORE, reason="random order")}
    assert compare([stream("a")], [stream("b")], ignored) == (Agreement.IGNORED, "random order")
    exact = {"cells.c": Comparator(Kind.BYTES)}
    assert compare([stream("took 1 s")], [stream("took 2 s")], exact)[0] is Agreement.DIFFERENT
    near = {"cells.c": Comparator(Kind.IMAGE, atol=1)}
    assert compare([png(1, 2)], [png(1, 3)], near)[0] is Agreement.EQUAL


def test_cells_are_aligned_by_id_not_by_place():
    before = notebook(cell(stream("1"), id="a"), cell(stream("2"), id="b"), {"cell_type": "markdown", "source": ""})
    after = notebook(cell(stream("2"), id="b"), cell(stream("3"), id="c"), cell(stream("1"), id="a"))
    found = [(each.subject, each.agreement, each.detail) for each in compare_cells(before, after, {})]
    assert found == [
        ("cells.a", Agreement.IDENTICAL, ""),
        ("cells.b", Agreement.IDENTICAL, ""),
        ("cells.c", Agreement.DIFFERENT, "there was no such cell"),
    ]
    assert [each.detail for each in compare_cells(after, before, {})][1] == "there is no such cell any more"


def test_injected_parameters_have_another_id_each_time():
    before = notebook(cell(id="1", tags=["injected-parameters"]), cell(id="a"))
    after = notebook(cell(id="2", tags=["injected-parameters"]), cell(id="a"))
    assert [each.subject for each in compare_cells(before, after, {})] == ["cells.a"]
    assert [each.subject for each in compare_cells(before, notebook(cell(id="a")), {})] == ["cells.a"]
    assert read_cells(before) == {"a": "x"}


def test_cells_without_ids_are_aligned_by_place():
    cells = [{key: value for key, value in cell(stream(text)).items() if key != "id"} for text in "ab"]
    found = compare_cells(notebook(*cells), notebook(*cells), {})
    assert [each.subject for each in found] == ["cells.#0", "cells.#1"]


def test_empty_notebooks_agree():
    assert compare_cells({}, {"cells": []}, {}) == ()


@pytest.mark.parametrize(
    ("metadata", "offset"),
    [({}, None), ({"papermill": {"start_time": 3, "end_time": "x"}}, None), (PAPERMILL, 0),
     ({"papermill": {"start_time": "2026-03-01T09:30:00", "end_time": "2026-03-01T09:30:30"}}, 0)],
)  # fmt: skip
def test_window_is_read_as_papermill_notes_it(metadata, offset):
    window = read_window(notebook(metadata=metadata))
    assert window is None if offset is None else window and window[0].utcoffset().total_seconds() == offset


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["no output"], ["other"]),
        ([None], [{"output_type": "stream"}]),
        ([{"output_type": "stream", "text": 3}], [{"output_type": "stream", "text": 4}]),
        ([display(None)], [display({"text/plain": None})]),
        ([display({"text/plain": 3})], [display({"text/plain": [1, 2]})]),
        ([{"output_type": "error"}], [{"output_type": "error", "ename": 3}]),
        (
            [display({"application/scrapbook.scrap.json+json": 3})],
            [display({"application/scrapbook.scrap.json+json": 4})],
        ),
        ([display({"image/png": {"a": 1}})], [display({"image/png": ["x"]})]),
    ],
)
def test_malformed_outputs_differ_and_do_no_harm(before, after):
    assert compare(before, after)[0] is Agreement.DIFFERENT
    assert compare(before, before)[0] is Agreement.IDENTICAL
