"""What differs between two records or releases, as values: pure functions, no archive but for what is read from one."""

import base64
import io
import time
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.artifact import Artifact, InputArtifact
from kit.check import Finding
from kit.diff import ReleaseSide, Side, as_json_value, diff_records, diff_releases
from kit.diff.cells import align_cells, diff_cells, read_all_outputs, read_cells
from kit.diff.facts import diff_checks, diff_inputs, diff_mapping, diff_metrics, measure_difference
from kit.diff.files import SourceFile, diff_files, read_sources
from kit.diff.lines import diff_lines, mark_line
from kit.diff.outputs import diff_outputs, read_outputs
from kit.diff.values import CellDiff, Change, Line, LineKind, OutputKind
from kit.diff.words import tell_value
from kit.errors import IntegrityError
from kit.files import canonical_json
from kit.gate import Evidence, Verdict
from kit.gate import Finding as GateFinding
from kit.gate import Release as GateRelease
from kit.parameter import ResolvedParameter, Source
from kit.record import CellOutcome, CellStatus, Failure, Status
from kit.tables import flatten_table
from kit.testing import START, make_check, make_manifest, make_record

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 20).decode()


def code(source: str, *outputs: dict[str, Any], cell_id: str = "", tags: tuple[str, ...] = ()) -> dict[str, Any]:
    cell = {"cell_type": "code", "metadata": {"tags": list(tags)}, "source": source, "outputs": list(outputs)}
    return {**cell, "execution_count": 1, **({"id": cell_id} if cell_id else {})}


def stream(text: Any, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


def display(data: dict[str, Any]) -> dict[str, Any]:
    return {"output_type": "display_data", "data": data, "metadata": {}}


def notebook(*cells: dict[str, Any]) -> dict[str, Any]:
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells)}


def compare_cells(before: dict[str, Any], after: dict[str, Any]) -> tuple[CellDiff, ...]:
    return diff_cells(read_cells(before, ()), read_cells(after, ()), read_all_outputs(before), read_all_outputs(after))


def changes(cells: tuple[CellDiff, ...]) -> list[tuple[str, int | None, int | None]]:
    return [(c.change.value, c.before.index if c.before else None, c.after.index if c.after else None) for c in cells]


def shown(lines: tuple[Line, ...]) -> list[str]:
    signs = {LineKind.SAME: " ", LineKind.ADDED: "+", LineKind.REMOVED: "-", LineKind.SKIPPED: "…"}
    return [f"{signs[line.kind]}{line.text}" for line in lines]


# --- lines


def test_changed_line_stands_between_its_neighbours_with_what_differs_marked() -> None:
    lines = diff_lines("a\nfit(epochs=2)\nb", "a\nfit(epochs=30)\nb")
    assert shown(lines) == [" a", "-fit(epochs=2)", "+fit(epochs=30)", " b"]
    assert (lines[1].marks, lines[2].marks) == (((11, 12),), ((11, 13),))


def test_equal_lines_far_from_a_difference_are_counted() -> None:
    before = "\n".join(f"line {n}" for n in range(30))
    assert shown(diff_lines(before, before.replace("line 15", "else"))) == [
        "…12 more equal lines", " line 12", " line 13", " line 14", "-line 15", "+else", " line 16", " line 17", " line 18",
        "…11 more equal lines",
    ]  # fmt: skip


def test_text_against_none_is_all_added_without_a_line_of_nothing() -> None:
    assert shown(diff_lines("", "a\nb\n")) == ["+a", "+b"]
    assert shown(diff_lines("a\nb\n", "")) == ["-a", "-b"]
    assert diff_lines("", "") == diff_lines("same", "same") == ()


def test_other_ends_of_lines_are_a_difference() -> None:
    assert shown(diff_lines("a\nb\n", "a\nb")) == [" a", " b", "-"]
    assert shown(diff_lines("a\r\nb", "a\nb")) == ["-a\r", "+a", " b"]


def test_texts_too_long_to_align_are_shown_from_their_first_difference_and_quickly() -> None:
    before, after = ("\n".join(f"{side}{n}" for n in range(200_000)) for side in "ab")
    began = time.process_time()
    lines = diff_lines(f"head\n{before}", f"head\n{after}")
    assert time.process_time() - began < 5
    assert shown(lines)[:2] == [" head", "-a0"]
    assert shown(lines)[-1] == "…199960 more added lines"
    assert len(lines) == 1 + 41 + 41


def test_line_of_a_megabyte_is_marked_from_its_first_to_its_last_difference() -> None:
    before, after = "x" * 1_000_000 + "a" + "y" * 10, "x" * 1_000_000 + "bb" + "y" * 10
    assert mark_line(before, after) == (((1_000_000, 1_000_001),), ((1_000_000, 1_000_002),))


TEXTS = st.lists(st.sampled_from(["a", "b", "a b", "x = 1", "x = 2", "", "é\u2028ü"]), max_size=12).map("\n".join)


@given(TEXTS, TEXTS)
def test_both_texts_can_be_read_from_their_difference(before: str, after: str) -> None:
    lines = diff_lines(before, after, context=100)
    if before == after:
        assert lines == ()
        return
    sides = [
        [line.text for line in lines if line.kind in (LineKind.SAME, own)] for own in (LineKind.REMOVED, LineKind.ADDED)
    ]
    for side, text in zip(sides, (before, after), strict=True):
        assert "\n".join(side).rstrip("\n") == text.rstrip("\n")
    assert all(0 <= start < end <= len(line.text) for line in lines for start, end in line.marks)


# --- outputs


def test_pieces_of_one_stream_are_one_text_however_they_mixed_with_the_other() -> None:
    before = read_outputs(code("", stream("a\n"), stream("!", "stderr"), stream(["b", "\n"])))
    after = read_outputs(code("", stream("a\nb\n"), stream("!", "stderr")))
    assert [output.text for output in before] == ["a\nb\n", "!"]
    assert [each.change for each in diff_outputs(before, after)] == [Change.SAME, Change.SAME]


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        (stream("took 3.2 s"), stream("took 4.0 s"), Change.VOLATILE),
        (stream("auc 0.71"), stream("auc 0.72"), Change.CHANGED),
        (stream("<A at 0x7f00aa001234>"), stream("<A at 0x7f00bb005678>"), Change.VOLATILE),
        (stream("\x1b[31mred\x1b[0m"), stream("red"), Change.VOLATILE),
        (display({"image/png": PIXEL}), display({"image/png": f"{PIXEL[:8]}\n{PIXEL[8:]}"}), Change.SAME),
        (display({"image/png": PIXEL}), display({"image/png": PIXEL[::-1]}), Change.CHANGED),
        (display({"text/html": "<b>1</b>"}), display({"text/html": "<i>1</i>"}), Change.CHANGED),
        (stream("x"), display({"text/html": "x"}), Change.CHANGED),
    ],
)  # fmt: skip
def test_output_changes_only_by_what_may_be_a_result(before: Any, after: Any, change: Change) -> None:
    (found,) = diff_outputs(read_outputs(code("", before)), read_outputs(code("", after)))
    assert found.change is change


def png(pixels: list[int], software: str = "") -> str:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    picture, about, buffer = Image.new("L", (len(pixels), 1)), PngInfo(), io.BytesIO()
    picture.putdata(pixels)
    about.add_text("Software", software)
    picture.save(buffer, "png", pnginfo=about)
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize(
    ("before", "after", "change", "detail"),
    [
        (png([1, 2]), png([1, 2], "a newer plotter"), Change.VOLATILE, "the same 2 pixels, stored in other bytes"),
        (png([1, 2]), png([1, 9]), Change.CHANGED, "1 of 2 pixels differ, first at x=1, y=0"),
        (png([1, 2]), png([1, 2, 3]), Change.CHANGED, "3 x 1 pixels, were 2 x 1"),
        (png([1, 2]), png([1, 2])[:40], Change.CHANGED, "not a readable picture"),
        (png([1, 2]), "%%%", Change.CHANGED, "not a readable picture"),
        (
            png([1, 2]),
            base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + b"\xff" * 8).decode(),
            Change.CHANGED,
            "too large to compare pixel by pixel",
        ),
    ],
    ids=["other metadata", "other pixel", "other size", "cut off", "no base64", "bomb"],
)
def test_pictures_differ_by_their_pixels(before: str, after: str, change: Change, detail: str) -> None:
    (found,) = diff_outputs(*(read_outputs(code("", display({"image/png": each}))) for each in (before, after)))
    assert found.change is change
    assert found.detail.startswith(detail)


def test_time_within_its_own_execution_is_volatile_and_another_is_a_result() -> None:
    windows = [(day, day + timedelta(hours=1)) for day in (datetime(2026, 3, n, 9, tzinfo=UTC) for n in (1, 2))]
    texts = "done 2026-03-01T09:30:00Z", "done 2026-03-02T09:30:00Z"
    sides = [read_outputs(code("", stream(text))) for text in texts]
    assert diff_outputs(*sides, (windows[0], windows[1]))[0].change is Change.VOLATILE
    assert diff_outputs(*sides)[0].change is Change.CHANGED


def test_new_output_between_others_leaves_them_paired() -> None:
    before = read_outputs(code("", stream("a"), display({"image/png": PIXEL}), display({"text/plain": "z"})))
    after = read_outputs(
        code(
            "",
            stream("a"),
            display({"text/html": "<p>new</p>"}),
            display({"image/png": PIXEL}),
            display({"text/plain": "z"}),
        )
    )
    assert [each.change for each in diff_outputs(before, after)] == [
        Change.SAME,
        Change.ADDED,
        Change.SAME,
        Change.SAME,
    ]


def test_metrics_are_no_outputs_and_unknown_types_are_named() -> None:
    scrap = display({"application/scrapbook.scrap.json+json": {"name": "auc", "data": 0.5}})
    (output,) = read_outputs(code("", scrap, display({"application/x-thing": {"a": 1}})))
    assert (output.kind, output.text) == (OutputKind.TEXT, "an output of type application/x-thing")


@pytest.mark.parametrize(
    "outputs", [None, "x", [None, 3, {"output_type": "display_data", "data": 7}, {"output_type": "?"}]]
)
def test_outputs_that_are_not_readable_are_left_out(outputs: Any) -> None:
    assert read_outputs({"cell_type": "code", "outputs": outputs}) == ()


# --- cells


def test_cells_are_matched_by_id_wherever_they_stand() -> None:
    before = notebook(code("a = 1", cell_id="a"), code("b = 1", cell_id="b"), code("c = 1", cell_id="c"))
    after = notebook(
        code("new()", cell_id="n"), code("c = 1", cell_id="c"), code("a = 2", cell_id="a"), code("b = 1", cell_id="b")
    )
    found = compare_cells(before, after)
    assert changes(found) == [("added", None, 0), ("same", 2, 1), ("changed", 0, 2), ("same", 1, 3)]
    assert [cell.moved for cell in found] == [False, True, False, False]


def test_removed_cell_stands_where_it_stood() -> None:
    before = notebook(*(code(each, cell_id=each) for each in "abcd"))
    after = notebook(*(code(each, cell_id=each) for each in "bd"))
    assert changes(compare_cells(before, after)) == [
        ("removed", 0, None), ("same", 1, 0), ("removed", 2, None), ("same", 3, 1),
    ]  # fmt: skip


def test_injected_parameters_are_matched_though_their_ids_are_drawn() -> None:
    before = notebook(code("epochs = 2", cell_id="4f09", tags=("injected-parameters",)), code("fit()", cell_id="f"))
    after = notebook(code("epochs = 9", cell_id="a773", tags=("injected-parameters",)), code("fit()", cell_id="f"))
    assert changes(compare_cells(before, after)) == [("changed", 0, 0), ("same", 1, 1)]


def test_cells_without_common_ids_are_matched_by_equal_then_similar_sources() -> None:
    before = notebook(
        code("import kit", cell_id="1"), code("model.fit(x, y, epochs=2)", cell_id="2"), code("q", cell_id="3")
    )
    after = notebook(
        code("model.fit(x, y, epochs=5)", cell_id="x"), code("import kit", cell_id="y"), code("zzz + 1", cell_id="z")
    )
    assert align_cells(read_cells(before, ()), read_cells(after, ())) == {1: 0, 0: 1}


def test_markdown_never_becomes_code() -> None:
    after = notebook({"cell_type": "markdown", "metadata": {}, "source": "same text", "id": "a"})
    assert align_cells(read_cells(notebook(code("same text", cell_id="a")), ()), read_cells(after, ())) == {}


def test_cells_with_one_id_are_matched_in_their_order() -> None:
    before, after = (
        notebook(code(first, cell_id="c"), code(second, cell_id="c")) for first, second in (("a", "b"), ("a", "x"))
    )
    assert changes(compare_cells(before, after)) == [("same", 0, 0), ("changed", 1, 1)]


def test_cell_that_ended_otherwise_is_changed_though_its_source_is_not() -> None:
    cells = notebook(code("1 / n", cell_id="a"))
    sides = [read_cells(cells, [CellOutcome(0, "a", status)]) for status in (CellStatus.SUCCEEDED, CellStatus.FAILED)]
    (found,) = diff_cells(*sides, read_all_outputs(cells), read_all_outputs(cells))
    assert (found.change, found.lines) == (Change.CHANGED, ())


def test_thousands_of_dissimilar_cells_are_compared_in_seconds() -> None:
    before, after = (notebook(*(code(f"{side}{n}" * 50) for n in range(2000))) for side in "ab")
    began = time.process_time()
    found = compare_cells(before, after)
    assert time.process_time() - began < 15
    assert {each for each, *_ in changes(found)} <= {"added", "removed", "changed"}


SOURCES = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["", "x = 1", "x = 2", "fit()"])), max_size=7)


@given(SOURCES, SOURCES)
def test_every_cell_is_told_exactly_once(before: list[tuple[str, str]], after: list[tuple[str, str]]) -> None:
    sides = [notebook(*(code(source, cell_id=cell_id) for cell_id, source in side)) for side in (before, after)]
    found = compare_cells(*sides)
    assert sorted(c.before.index for c in found if c.before) == list(range(len(before)))
    assert [c.after.index for c in found if c.after] == list(range(len(after)))
    assert all(cell.change is Change.SAME and not cell.moved for cell in compare_cells(sides[0], sides[0]))


# --- named values


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (0.5, 0.75, (0.25, 0.5)),
        (-2, -1, (1.0, 0.5)),
        (0, 3, (3.0, None)),
        (1, 1.0, (0.0, 0.0)),
        (True, 2, (None, None)),
        ("a", 1, (None, None)),
        (None, 1, (None, None)),
        (-1.7e308, 1.7e308, (None, None)),
        (10**400, 1.5, (None, None)),
        (5e-324, 1.0, (1.0, None)),
    ],
)
def test_difference_is_told_in_absolute_and_relative_terms(before: Any, after: Any, expected: Any) -> None:
    assert measure_difference(before, after) == expected


def test_metrics_tell_new_gone_and_equal_numbers_of_other_types() -> None:
    found = diff_metrics(
        {"a": 1, "gone": 2, "flag": True, "name": "x"}, {"a": 1.0, "new": 3, "flag": False, "name": "x"}
    )
    assert {each.name: each.change.value for each in found} == {
        "a": "same", "gone": "removed", "flag": "changed", "name": "same", "new": "added",
    }  # fmt: skip


def test_value_changes_with_its_type() -> None:
    facts = diff_mapping({"a": 1, "b": 1, "c": None}, {"a": True, "b": 1.0, "d": None})
    assert [(fact.name, fact.change.value) for fact in facts] == [
        ("a", "changed"), ("b", "changed"), ("c", "removed"), ("d", "added"),
    ]  # fmt: skip


def test_tables_are_told_by_dotted_names_that_quote_what_has_a_dot() -> None:
    plain = {
        "gates": {"metrics": {"auc": {"min": 0.6}}},
        "data": {"raw.csv": "data/raw.csv"},
        "secrets": {},
        "list": [1],
        "slices": {'say "ä"': {"min_rows": 1}},
    }
    assert flatten_table(plain) == {
        "gates.metrics.auc.min": 0.6, 'data."raw.csv"': "data/raw.csv", "secrets": {}, "list": [1],
        r'slices."say \"ä\"".min_rows': 1,
    }  # fmt: skip


def test_same_bytes_from_another_record_are_no_change() -> None:
    artifact = Artifact("a.csv", "1" * 64, 3, "text/csv")
    (same,) = diff_inputs([InputArtifact(artifact, record="r1")], [InputArtifact(artifact, record="r2")])
    assert same.change is Change.ORIGIN
    other = msgspec.structs.replace(artifact, sha256="2" * 64)
    (changed,) = diff_inputs([InputArtifact(artifact, record="r1")], [InputArtifact(other, record="r1")])
    assert changed.change is Change.CHANGED


def test_check_names_the_expectation_that_reads_otherwise() -> None:
    good = make_check("a.csv", "1" * 64)
    failed = msgspec.structs.replace(good.expectations[0], finding=Finding.FAILED, n_unexpected=4)
    bad = msgspec.structs.replace(good, expectations=(failed,))
    (found,) = diff_checks([good], [bad])
    assert found.before
    assert found.before.passed
    assert found.after
    assert not found.after.passed
    (expectation,) = found.expectations
    assert expectation.name == "table_row_count_to_be_between(min_value=1)"
    assert (expectation.before["finding"], expectation.after["n_unexpected"]) == ("passed", 4)


def test_check_of_other_bytes_with_the_same_result_is_the_same() -> None:
    (found,) = diff_checks([make_check("a.csv", "1" * 64)], [make_check("a.csv", "2" * 64)])
    assert found.change is Change.SAME


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("bundle_sha256", "a" * 64, "a" * 12),
        ("peak_memory_bytes", 4_900_000, "4.9 MB"),
        ("wall_s", 2.54, "2.5 s"),
        ("failed_cell", 14, "cell 15"),
        ("failed_cell", None, "none"),
        ("dirty", True, "true"),
        ("commit", None, "none"),
        ("kit_version", "0.1.0", "0.1.0"),
        ("setting", {"a": [1]}, '{"a":[1]}'),
    ],
)
def test_values_read_short_and_with_their_units(name: str, value: Any, text: str) -> None:
    assert tell_value(name, value) == text


# --- files


def make_zip(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "/"), data)
    return buffer.getvalue()


def test_files_of_bundles_are_compared_line_by_line_where_they_are_text() -> None:
    before = read_sources(make_zip(same=b"1", helper=b"a\nb", logo=b"\x00\x01", gone=b"x", stage=b"n"))
    after = read_sources(make_zip(same=b"1", helper=b"a\nc", logo=b"\x00\x02", new=b"x", stage=b"m"))
    found = {each.path: (each.change.value, shown(each.lines)) for each in diff_files(before, after, {"stage"})}
    assert found == {
        "helper": ("changed", [" a", "-b", "+c"]),
        "logo": ("changed", []),
        "gone": ("removed", ["-x"]),
        "new": ("added", ["+x"]),
        "stage": ("changed", []),
    }
    assert diff_files(None, after) == diff_files(before, before) == ()


@pytest.mark.parametrize(
    "data",
    [b"", b"no zip", make_zip(a=b"1")[:-10], make_zip(a=b"12345").replace(b"12345", b"12346")],
    ids=["empty", "no zip", "cut", "changed"],  # not the bytes, which tell the time
)
def test_bundle_that_is_no_zip_of_kit_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="bundle is no zip that kit made"):
        read_sources(data)


# --- records


def make_side(**changes_: Any) -> Side:
    parts = {
        key: changes_.pop(key)
        for key in ("notebook", "packages", "sources", "configuration", "notes")
        if key in changes_
    }
    return Side(record=make_record(**changes_), **{"notebook": notebook(), "packages": {}, **parts})


def test_record_does_not_differ_from_one_that_only_took_longer_elsewhere() -> None:
    before = make_side(notebook=notebook(code("f()", stream("took 1.0 s"), cell_id="a")))
    machine = msgspec.structs.replace(before.record.machine, host="other", user="bob")
    later = START + timedelta(days=1)
    after = make_side(
        machine=machine, started=later, ended=later + timedelta(seconds=90),
        notebook=notebook(code("f()", stream("took 2.0 s"), cell_id="a")),
    )  # fmt: skip
    found = diff_records(before, after)
    assert not found.differs
    assert found.causes == ()
    assert {fact.name: fact.change.value for fact in found.machine if fact.change is not Change.SAME} == {
        "host": "origin", "user": "origin",
    }  # fmt: skip
    assert found.cells[0].outputs[0].change is Change.VOLATILE


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": (ResolvedParameter("epochs", 3, Source.NOTEBOOK, "int"),)},
        {"metrics": {"auc": 0.7}},
        {"outputs": (Artifact("a", "1" * 64, 1, "x"),)},
        {"inputs": (InputArtifact(Artifact("a", "1" * 64, 1, "x"), source="data/a"),)},
        {"status": Status.FAILED, "failure": Failure("E", "because", 0)},
        {"checks": (make_check("a", "1" * 64),)},
        {"determinism": {"seed": 7}},
        {"packages": {"numpy": "2.0"}},
        {"notebook": notebook(code("x"))},
        {"configuration": {"a": 1}},
        {"sources": {"a.py": SourceFile("1" * 64, "x")}},
        {"environment": "ci"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_belongs_to_a_result_makes_records_differ(change: dict[str, Any]) -> None:
    common: dict[str, Any] = {"configuration": {}, "sources": {}}
    assert not diff_records(make_side(**common), make_side(**common)).differs
    assert diff_records(make_side(**common), make_side(**{**common, **change})).differs
    assert diff_records(make_side(**{**common, **change}), make_side(**common)).differs


def test_record_tells_what_differs_around_its_results() -> None:
    before, after = (
        make_side(
            parameters=(ResolvedParameter("epochs", n, Source.NOTEBOOK, "int"),),
            packages={"numpy": f"2.{n}", "kit-ml": "0.1.0"},
            notebook=notebook(code(f"fit({n})", cell_id="fit")),
        )
        for n in (1, 2)
    )
    found = diff_records(before, after)
    assert [str(cause) for cause in found.causes] == [
        "parameter 'epochs' was 1, is 2",
        "cell 'fit' was changed: line 1 was 'fit(1)', is 'fit(2)'",
        "package 'numpy' was 2.1, is 2.2",
    ]
    assert [(fact.name, fact.before, fact.after) for fact in found.packages] == [("numpy", "2.1", "2.2")]
    assert found.n_same_packages == 1


def test_parameter_of_equal_value_from_another_source_is_no_difference() -> None:
    before, after = (
        make_side(parameters=(ResolvedParameter("epochs", 3, source, "int"),))
        for source in (Source.NOTEBOOK, Source.COMMAND_LINE)
    )
    found = diff_records(before, after)
    assert (found.differs, found.parameters[0].change) == (False, Change.ORIGIN)
    assert (found.parameters[0].source_before, found.parameters[0].source_after) == ("notebook", "command line")


def test_reproduction_is_told_and_is_no_difference() -> None:
    before = make_side()
    found = diff_records(before, make_side(reproduces=before.record.id))
    assert not found.differs
    assert [fact.name for fact in found.outcome if fact.change is Change.ORIGIN] == ["reproduces"]


def test_records_of_different_stages_are_compared_without_naming_causes() -> None:
    found = diff_records(make_side(stage="prepare"), make_side(stage="train"))
    assert (found.differs, found.causes) == (True, ())


def test_what_is_missing_is_noted_only_where_it_is_needed() -> None:
    notes = {"sources": "no bundle", "configuration": "none", "packages": "no list"}
    before, after = make_side(notes=notes, packages=None), make_side()
    found = diff_records(before, after)
    assert found.notes == (f"{before.record.id}: no list",)
    assert found.packages == ()
    other = make_side(configuration_sha256="d" * 64)
    assert f"{before.record.id}: none" in diff_records(before, other).notes


def test_json_has_stable_keys_and_no_pictures() -> None:
    cells = [
        notebook(code("p()", display({"image/png": PIXEL, "text/plain": "<Figure>"}), stream(text), cell_id="p"))
        for text in "ab"
    ]
    found = diff_records(make_side(notebook=cells[0]), make_side(notebook=cells[1]))
    plain = as_json_value(found)
    assert list(plain) == [
        "format", "before", "after", "differs", "causes", "parameters", "metrics", "inputs", "outputs", "checks", "cells",
        "outcome", "code", "files", "configuration", "software", "packages", "n_same_packages", "machine", "determinism",
        "notes",
    ]  # fmt: skip
    picture, text = plain["cells"][0]["outputs"]
    assert (picture["change"], picture["before"]["content"], len(picture["before"]["sha256"])) == ("same", "", 64)
    assert text["after"]["content"] == "b"
    assert PIXEL.encode() not in canonical_json(plain)


# --- releases


def make_release_side(number: int, evidence: tuple[Evidence, ...] = (), **changes_: Any) -> ReleaseSide:
    verdict = Verdict("dev", "c" * 64, {}, evidence or (Evidence("code", "bundle.zip", GateFinding.HOLDS, "fine"),))
    release = GateRelease(
        id=f"dev-{number}",
        environment="dev",
        number=number,
        time=START,
        who="ada",
        record="r",
        manifest_sha256="0" * 64,
    )
    sides = {key: changes_.pop(key) for key in ("sources", "note") if key in changes_}
    return ReleaseSide(release=release, manifest=make_manifest(verdict, **changes_), **sides)


def test_releases_of_the_same_things_do_not_differ() -> None:
    found = diff_releases(make_release_side(1), make_release_side(2, training_record="another"))
    assert not found.differs
    assert (found.before.id, found.after.id) == ("dev-1", "dev-2")


def test_releases_tell_configuration_artifacts_metrics_and_evidence() -> None:
    artifact = Artifact("saved_model", "1" * 64, 3, "x")
    evidence = (
        Evidence("metric", "auc", GateFinding.HOLDS, "0.7, at least 0.6"),
        Evidence("metric", "auc", GateFinding.REFUSES, "above the limit"),
        Evidence("record", "20260301T093000Z-train-4f09c1", GateFinding.HOLDS, "succeeded"),
    )
    later = (*evidence[:1], Evidence("record", "20260302T093000Z-train-a7730e", GateFinding.HOLDS, "succeeded"))
    before = make_release_side(
        1, evidence, artifacts=(artifact,), metrics={"auc": 0.7}, configuration={"limits": {"timeout_s": 1}}
    )
    after = make_release_side(2, later, metrics={"auc": 0.8}, configuration={"limits": {"timeout_s": 2}})
    found = diff_releases(before, after)
    assert found.differs
    assert [(fact.name, fact.before, fact.after) for fact in found.configuration] == [("limits.timeout_s", 1, 2)]
    assert [each.change for each in found.artifacts] == [Change.REMOVED]
    assert found.metrics[0].difference == pytest.approx(0.1)
    assert [(each.subject, each.change.value) for each in found.evidence] == [
        ("auc", "same"), ("auc", "removed"), ("train", "same"),
    ]  # fmt: skip


def test_bundle_of_a_release_that_is_gone_is_noted() -> None:
    found = diff_releases(make_release_side(1, bundle_sha256="1" * 64, note="gone"), make_release_side(2))
    assert (found.notes, found.files) == (("dev-1: gone",), ())
