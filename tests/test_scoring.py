"""Batch scoring: each row comes out or is rejected with a reason, whatever the file looks like and whatever goes wrong."""

from __future__ import annotations

import datetime
import decimal
import inspect
import io
import itertools
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.compare.volatile import normalise_text
from kit.errors import IntegrityError, NotFoundError, UnknownNameError, UsageError
from kit.model.servable import Field, Signature
from kit.scoring import (
    Progress,
    ProgressLine,
    RowCounts,
    Scored,
    add_counts,
    count_rows,
    find_lost_rows,
    read_release_id,
    score_parquet,
    write_table,
)
from kit.scoring.batch import Batch, fill_batches
from kit.scoring.column import INFINITE, MISSING, OUT_OF_RANGE
from kit.scoring.layout import NOT_FINITE
from kit.scoring.threads import WriteBehind, read_ahead
from kit.session import StageSession

Arrays = Mapping[str, Any]
TEXT, NUMBER, SCORE = Field("name", "string"), Field("x", "float32"), Field("p", "float32")


def answer(columns: Arrays) -> dict[str, Any]:
    """`p` = x, and 0 where x is missing; plus the length of the name."""
    lengths = np.array([len(name) for name in columns["name"]], "float32")
    return {"p": np.nan_to_num(columns["x"], nan=0.0) + lengths}


class FakeModel:
    """A model of some fields that remembers what it was asked."""

    def __init__(
        self,
        act: Callable[[Arrays], dict[str, Any]] = answer,
        inputs: tuple[Field, ...] = (TEXT, NUMBER),
        outputs: tuple[Field, ...] = (SCORE,),
    ) -> None:
        self.signature, self._act = Signature(inputs, outputs), act
        self.calls: list[Arrays] = []

    def predict(self, columns: Arrays) -> dict[str, Any]:
        self.calls.append(columns)
        return self._act(columns)


def one_field(field: Field) -> FakeModel:
    """A model that takes one field and answers 1."""
    return FakeModel(lambda columns: {"p": np.ones(len(columns[field.name]), "float32")}, (field,))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder; afterwards no thread of a scoring is left, and no file under a temporary name."""
    yield tmp_path
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("kit-")] == []
    assert list(tmp_path.rglob(".*.tmp")) == []


def write(path: Path, row_group_size: int | None = None, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path


def write_rows(path: Path, n_rows: int = 10, row_group_size: int | None = None) -> Path:
    """Rows 0 … n: id, name `n0` …, x = id."""
    names = [f"n{number}" for number in range(n_rows)]
    return write(path, row_group_size, id=list(range(n_rows)), name=names, x=[float(n) for n in range(n_rows)])


def score(folder: Path, model: FakeModel | None = None, **named: Any) -> Scored:
    """Score `in.parquet` into `out.parquet`."""
    source = named.pop("source", folder / "in.parquet")
    return score_parquet(model or FakeModel(), source, folder / "out.parquet", release="dev-3", **named)


def read(path: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = pq.read_table(path).to_pydict()
    return found


def counts_of(scored: Scored) -> tuple[int, int, dict[str, int]]:
    return scored.rows_in, scored.rows_out, scored.rejected


def test_rows_come_out_in_order_with_what_was_kept_derived_and_said(folder: Path) -> None:
    write(
        folder / "in.parquet", name=["a", None, "ccc"], x=[0.5, 1.5, None], id=[7, 8, 9], when=[datetime.date.min] * 3
    )
    scored = score(
        folder,
        keep=["id", "name", "when"],
        derive=lambda answers: {"is_high": answers["p"] >= 1.5},
        constants={"release": "dev-3"},
        record="r-1",
        source_sha256="ab",
        metadata={"note": "mine"},
    )
    assert counts_of(scored) == (3, 3, {})
    assert read(folder / "out.parquet") == {
        "id": [7, 8, 9],
        "name": ["a", None, "ccc"],
        "when": [datetime.date.min] * 3,
        "p": [1.5, 1.5, 3.0],
        "is_high": [True, True, True],
        "release": ["dev-3"] * 3,
    }
    footer = pq.read_metadata(folder / "out.parquet").metadata
    assert {key.decode(): value.decode() for key, value in footer.items() if key != b"ARROW:schema"} == {
        "kit.release": "dev-3",
        "kit.record": "r-1",
        "kit.source_sha256": "ab",
        "note": "mine",
        "kit.rows_in": "3",
        "kit.rows_out": "3",
        "kit.rows_rejected": "0",
    }
    assert read_release_id(folder / "out.parquet") == "dev-3"


TEXTS = ["a", None, "", "bé"]
NAN = float("nan")


@pytest.mark.parametrize("as_dictionary", [False, True])
@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.dictionary(pa.int8(), pa.string()),
        pa.dictionary(pa.int32(), pa.large_string()),
    ],
    ids=str,
)
def test_missing_text_is_empty_in_every_layout_of_arrow(folder: Path, kind: Any, as_dictionary: bool) -> None:
    column = pa.array(TEXTS, pa.string())
    column = pa.array(TEXTS, kind) if kind == pa.string_view() else column.cast(kind)
    write(folder / "in.parquet", None if as_dictionary else 1, name=column)
    model = one_field(TEXT)
    assert counts_of(score(folder, model, keep=["name"])) == (4, 4, {})
    assert np.concatenate([call["name"] for call in model.calls]).tolist() == [b"a", b"", b"", "bé".encode()]
    expected = column.dictionary_decode() if pa.types.is_dictionary(kind) else column
    assert read(folder / "out.parquet")["name"] == expected.to_pylist()
    scored = score(folder, model, require=["name"])
    assert counts_of(scored) == (4, 2, {"name is missing": 2})


def test_texts_are_the_same_whether_few_or_all_differ(folder: Path) -> None:
    names = [f"text {number}" for number in range(100)] + ["again"] * 300 + [None]
    for name, rows in (("few", names), ("all", names[:100])):
        write(folder / "in.parquet", name=rows)
        model = one_field(TEXT)
        score(folder, model)
        assert model.calls[0]["name"].tolist() == [(row or "").encode() for row in rows], name


@pytest.mark.parametrize(
    ("column", "field", "expected"),
    [
        (pa.array([1, None, 3], pa.int8()), NUMBER, [1.0, NAN, 3.0]),
        (pa.array([1, None, 3], pa.uint64()), NUMBER, [1.0, NAN, 3.0]),
        (pa.array([0.5, None, NAN]), NUMBER, [0.5, NAN, NAN]),
        (pa.array([1.0, None, 2.0], pa.float16()), NUMBER, [1.0, NAN, 2.0]),
        (pa.array([True, None, False]), NUMBER, [1.0, NAN, 0.0]),
        (pa.array([decimal.Decimal("1.5"), None, decimal.Decimal(2)]), NUMBER, [1.5, NAN, 2.0]),
        (pa.nulls(3), NUMBER, [NAN, NAN, NAN]),
        (pa.nulls(3), TEXT, [b"", b"", b""]),
        (pa.array([0.5, 1.5, 0.5]).dictionary_encode(), NUMBER, [0.5, 1.5, 0.5]),
        (pa.array([1, 2, 3], pa.int64()), Field("x", "int32"), [1, 2, 3]),
        (pa.array([1, 2, 3], pa.uint8()), Field("x", "int64"), [1, 2, 3]),
        (pa.array([True, False, True]), Field("x", "bool"), [True, False, True]),
        (pa.array([1.0, 2.0, 3.0]), Field("x", "float64", (1,)), [[1.0], [2.0], [3.0]]),
        (pa.array(["a", "b", "c"]), Field("x", "string", (None,)), [[b"a"], [b"b"], [b"c"]]),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
def test_column_becomes_what_the_field_takes(folder: Path, column: Any, field: Field, expected: list[Any]) -> None:
    write(folder / "in.parquet", **{field.name: column})
    model = one_field(field)
    assert counts_of(score(folder, model)) == (3, 3, {})
    ((asked,),) = [call.values() for call in model.calls]
    np.testing.assert_array_equal(asked, np.array(expected, object if field.dtype == "string" else field.dtype))
    assert asked.dtype == (object if field.dtype == "string" else field.dtype)


@pytest.mark.parametrize(
    ("column", "field", "reason"),
    [
        (pa.array([1.0, np.inf, 3.0]), NUMBER, "x is infinite"),
        (pa.array([1.0, -np.inf, 3.0]), NUMBER, "x is infinite"),
        (pa.array([1.0, 1e300, 3.0]), NUMBER, "x is infinite"),
        (pa.array([1, None, 3]), Field("x", "int64"), "x is missing"),
        (pa.array([True, None, False]), Field("x", "bool"), "x is missing"),
        (pa.array([1, 2**31, 3]), Field("x", "int32"), "x is out of range"),
        (pa.array([1, -1, 3]), Field("x", "uint8"), "x is out of range"),
        (pa.array([1, 2**63, 3], pa.uint64()), Field("x", "int64"), "x is out of range"),
    ],
    ids=str,
)
def test_value_that_the_field_cannot_take_rejects_its_row(folder: Path, column: Any, field: Field, reason: str) -> None:
    write(folder / "in.parquet", x=column, id=["a", "b", "c"])
    model = one_field(field)
    scored = score(folder, model, keep=["id"], rejects=folder / "rejects.parquet")
    assert counts_of(scored) == (3, 2, {reason: 1})
    assert read(folder / "out.parquet") == {"id": ["a", "c"], "p": [1.0, 1.0]}
    assert read(folder / "rejects.parquet") == {"row": [1], "reason": [reason]}
    assert len(model.calls[0]["x"]) == 2, "the model is not asked about a rejected row"


def test_each_rejected_row_has_one_reason_and_its_place(folder: Path) -> None:
    names = ["a", "", None, "d", "e", "f"]
    write(folder / "in.parquet", name=names, x=[1.0, np.inf, 2.0, np.inf, 666.0, NAN], must=[1.0, 1, 1, 1, 1, None])

    def break_on_666(columns: Arrays) -> dict[str, Any]:
        return {"p": np.where(columns["x"] == 666, np.nan, 1.0).astype("float32")}

    scored = score(
        folder,
        FakeModel(break_on_666),
        keep=["name"],
        require=["name", "must"],
        rejects=folder / "rejects.parquet",
    )
    assert counts_of(scored) == (
        6, 1, {"must is missing": 1, "name is missing": 2, "p is not finite": 1, "x is infinite": 1}
    )  # fmt: skip
    assert scored.metrics == {
        "rows_in": 6,
        "rows_out": 1,
        "rows_rejected": 5,
        "rejected_must_is_missing": 1,
        "rejected_name_is_missing": 2,
        "rejected_p_is_not_finite": 1,
        "rejected_x_is_infinite": 1,
    }
    assert read(folder / "out.parquet") == {"name": ["a"], "p": [1.0]}
    assert read(folder / "rejects.parquet") == {
        "row": [1, 2, 3, 4, 5],
        "reason": ["name is missing", "name is missing", "x is infinite", "p is not finite", "must is missing"],
    }
    assert read_release_id(folder / "rejects.parquet") == "dev-3"


def test_batch_of_which_every_row_is_rejected_gives_a_table_without_rows(folder: Path) -> None:
    write(folder / "in.parquet", name=["", ""], x=[1.0, 2.0], id=[1, 2])
    model = FakeModel()
    scored = score(folder, model, keep=["id"], require=["name"], derive=lambda answers: {"q": answers["p"] > 1})
    assert (counts_of(scored), model.calls) == ((2, 0, {"name is missing": 2}), [])
    schema = pq.read_schema(folder / "out.parquet").remove_metadata()
    assert schema == pa.schema([("id", pa.int64()), ("p", pa.float32()), ("q", pa.bool_())])


def test_nothing_rejected_still_writes_the_table_of_rejects(folder: Path) -> None:
    write_rows(folder / "in.parquet")
    score(folder, rejects=folder / "rejects.parquet")
    assert read(folder / "rejects.parquet") == {"row": [], "reason": []}


@pytest.mark.parametrize("row_group_size", [1, 3, 7, 100])
@pytest.mark.parametrize("batch_rows", [1, 4, 1000])
def test_rows_do_not_depend_on_row_groups_or_batches(folder: Path, row_group_size: int, batch_rows: int) -> None:
    write_rows(folder / "in.parquet", 23, row_group_size)
    model = FakeModel()
    assert counts_of(score(folder, model, keep=["id"], batch_rows=batch_rows)) == (23, 23, {})
    assert read(folder / "out.parquet")["id"] == list(range(23))
    assert read(folder / "out.parquet")["p"] == [n + len(f"n{n}") for n in range(23)]
    assert max(len(call["x"]) for call in model.calls) <= batch_rows


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 10))
def test_small_batches_are_filled_without_losing_a_row(sizes: list[int], batch_rows: int) -> None:
    start, batches = 0, []
    for size in sizes:
        rows = np.arange(start, start + size)
        batches.append(
            Batch(size + 1, {"x": rows * 2.0}, {"id": pa.array(rows)}, rows, {"why": np.array([start + size])})
        )
        start += size + 1
    filled = list(fill_batches(batches, batch_rows))
    for values in (lambda b: b.rows, lambda b: b.columns["x"], lambda b: b.kept["id"], lambda b: b.rejected["why"]):
        before, after = ([item for each in them for item in list(values(each))] for them in (batches, filled))
        assert before == after
    assert sum(batch.n_read for batch in filled) == start
    assert all(len(batch.rows) <= max(batch_rows, *sizes, 1) for batch in filled)
    assert all(len(a.rows) + len(b.rows) > batch_rows for a, b in itertools.pairwise(filled))


def test_same_rows_give_the_same_bytes(folder: Path) -> None:
    write_rows(folder / "in.parquet", 50, 7)
    found = []
    for _ in range(2):
        score(folder, keep=["id", "name"], rejects=folder / "rejects.parquet", batch_rows=9)
        found.append([(folder / name).read_bytes() for name in ("out.parquet", "rejects.parquet")])
    assert found[0] == found[1]


def test_folder_is_read_in_the_order_of_its_paths_without_what_is_hidden(folder: Path) -> None:
    write(folder / "in/b/2.parquet", name=["c"], x=pa.array([3], pa.int8()), id=[2])
    write(folder / "in/a.parquet", name=["a", ""], x=[1.0, 2.0], id=[0, 1])
    write(folder / "in/b/_old.parquet", name=["z"])
    write(folder / "in/.tmp/c.parquet", name=["z"])
    (folder / "in/_SUCCESS").touch()
    model = FakeModel()
    scored = score(
        folder, model, source=folder / "in", keep=["id"], require=["name"], rejects=folder / "rejects.parquet"
    )
    assert counts_of(scored) == (3, 2, {"name is missing": 1})
    assert read(folder / "out.parquet")["id"] == [0, 2]
    assert read(folder / "rejects.parquet")["row"] == [1]
    assert len(model.calls) == 1, "files of few rows are scored together"


def test_source_that_does_not_fit_is_refused_whole_before_anything_is_scored(folder: Path) -> None:
    now = datetime.datetime(2026, 3, 1)
    write(folder / "in.parquet", name=[1], x=[now], y=["1"], n=[0.5], id=[1])
    write_rows(folder / "few.parquet")
    pq.write_table(pa.table([pa.array([1.0])] * 3, ["x", "x", "name"]), folder / "twice.parquet")
    fields = (TEXT, NUMBER, Field("y", "float32"), Field("n", "int64"), Field("id", "bool"))
    model = FakeModel(inputs=fields)
    with pytest.raises(UsageError) as raised:
        score(folder, model)
    assert str(raised.value).split("; ") == [
        "column 'name' of in.parquet: expected texts, found int64",
        "column 'x' of in.parquet: expected numbers (float32), found timestamp[us]",
        "column 'y' of in.parquet: expected numbers (float32), found string",
        "column 'n' of in.parquet: expected whole numbers (int64), found double",
        "column 'id' of in.parquet: expected truth values, found int64",
    ]
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        (
            {"source": folder / "few.parquet"},
            UsageError,
            "few.parquet: column 'y' is missing, 'n' is missing; it has id, name, x",
        ),
        ({"source": folder / "twice.parquet"}, UsageError, "twice.parquet: column 'x' is there twice"),
        ({"keep": ["idd"]}, UsageError, "'idd' is missing"),
        ({"require": ["idd"]}, UsageError, "'idd' is missing"),
        ({"source": folder / "gone.parquet"}, NotFoundError, "gone.parquet is not there"),
        ({"batch_rows": 0}, UsageError, "at least 1, found 0"),
    ]
    for named, kind, sentence in cases:
        with pytest.raises(kind, match=sentence):
            score(folder, model, **named)
    for shape in ((3,), (2, 2)):
        with pytest.raises(UsageError, match=r"takes \[.*\] values for each row, and a column holds one"):
            score(folder, one_field(Field("x", "float32", shape)))
    with pytest.raises(UsageError, match="expected strange, which no column can become"):
        score(folder, one_field(Field("x", "strange")))
    assert model.calls == []
    assert not (folder / "out.parquet").exists()


def test_target_of_contradictions_is_refused(folder: Path) -> None:
    write_rows(folder / "in.parquet")
    before = (folder / "in.parquet").read_bytes()
    with pytest.raises(UsageError, match="must be different files"):
        score_parquet(FakeModel(), folder / "in.parquet", folder / "in.parquet", release="r")
    with pytest.raises(UsageError, match="must be different files"):
        score(folder, rejects=folder / "out.parquet")
    write_rows(folder / "in/1.parquet")
    with pytest.raises(UsageError, match=r"2\.parquet would lie in the folder that is scored, in;"):
        score_parquet(FakeModel(), folder / "in", folder / "in/2.parquet", release="r")
    with pytest.raises(UsageError, match="would be called 'p'"):
        score(folder, constants={"p": 1})
    with pytest.raises(UsageError, match="would be called 'id'"):
        score(folder, keep=["id"], derive=lambda answers: {"id": answers["p"]})
    with pytest.raises(UnknownNameError, match="output 'pp' does not exist; did you mean 'p'"):
        score(folder, outputs=["pp"])
    assert (folder / "in.parquet").read_bytes() == before


def test_source_without_rows_is_refused_unless_that_can_be_right(folder: Path) -> None:
    write(folder / "in.parquet", name=pa.array([], pa.string()), x=pa.array([], pa.float64()))
    with pytest.raises(UsageError, match=r"in\.parquet has no rows, so nothing would be scored"):
        score(folder)
    assert counts_of(score(folder, allow_empty=True)) == (0, 0, {})
    assert read(folder / "out.parquet") == {"p": []}
    (folder / "empty").mkdir()
    with pytest.raises(NotFoundError, match=r"folder empty has no file whose name ends in \.parquet"):
        score(folder, source=folder / "empty")


def test_kept_column_must_be_of_one_type_in_all_files(folder: Path) -> None:
    write(folder / "in/1.parquet", name=["a"], x=[1.0], id=[1])
    write(folder / "in/2.parquet", name=["a"], x=[1.0], id=["1"])
    with pytest.raises(
        UsageError, match=r"column 'id' of in/2\.parquet: expected int64 as in in/1\.parquet, found string"
    ):
        score(folder, source=folder / "in", keep=["id"])


def test_lists_and_texts_are_answers_too(folder: Path) -> None:
    write_rows(folder / "in.parquet", 3)

    def classify(columns: Arrays) -> dict[str, Any]:
        odd = np.array([float(len(columns["x"]) > 2)] * len(columns["x"]), "float32")
        shares = np.stack([odd, 1 - odd], axis=1)
        shares[1, 1] = np.nan
        return {
            "label": np.array([b"no", b"y\xc3\xa9s", b"no"], object),
            "shares": shares,
            "n": np.array([[1], [2], [3]]),
        }

    outputs = (Field("label", "string"), Field("shares", "float32", (2,)), Field("n", "int64", (1,)))
    scored = score(folder, FakeModel(classify, outputs=outputs))
    assert counts_of(scored) == (3, 2, {"shares is not finite": 1})
    assert read(folder / "out.parquet") == {"label": ["no", "no"], "shares": [[1.0, 0.0]] * 2, "n": [1, 3]}
    score(folder, FakeModel(classify, outputs=outputs), outputs=["n"])
    assert read(folder / "out.parquet") == {"n": [1, 2, 3]}
    with pytest.raises(UsageError, match=r"output 'cube' has \[2, 2\] values for each row.*outputs=\[…\]: p"):
        score(folder, FakeModel(outputs=(SCORE, Field("cube", "float32", (2, 2)))))


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({}, "the model gives no output 'p'; it gives none"),
        ({"q": np.ones(10, "float32")}, "gives no output 'p'; it gives q"),
        ({"p": np.ones(9, "float32")}, r"expected float32 of shape \[10\], found float32 of shape \[9\]"),
        ({"p": np.ones((10, 2), "float32")}, r"found float32 of shape \[10, 2\]"),
        ({"p": np.float32(1)}, r"found float32 of shape \[\]"),
        ({"p": np.ones(10)}, "found float64"),
        ({"p": np.array(["1"] * 10, object)}, "found string"),
    ],
)
def test_model_that_breaks_its_signature_ends_the_scoring(folder: Path, answers: dict[str, Any], sentence: str) -> None:
    write_rows(folder / "in.parquet")
    (folder / "out.parquet").write_text("earlier")
    with pytest.raises(IntegrityError, match=sentence):
        score(folder, FakeModel(lambda _: answers), rejects=folder / "rejects.parquet")
    assert sorted(path.name for path in folder.iterdir()) == ["in.parquet", "out.parquet"]
    assert (folder / "out.parquet").read_text() == "earlier"


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), MemoryError()], ids=repr)
def test_what_the_model_raises_is_raised_and_leaves_nothing(folder: Path, error: BaseException) -> None:
    write_rows(folder / "in.parquet", 50)

    def fail_at_third(columns: Arrays) -> dict[str, Any]:
        if len(model.calls) == 3:
            raise error
        return answer(columns)

    model = FakeModel(fail_at_third)
    with pytest.raises(type(error)):
        score(folder, model, batch_rows=5)
    assert [path.name for path in folder.iterdir()] == ["in.parquet"]


def test_derived_columns_stay_what_they_were_for_no_rows(folder: Path) -> None:
    write_rows(folder / "in.parquet")
    cases: list[tuple[Callable[[Arrays], Mapping[str, Any]], str]] = [
        (lambda answers: {"q": [1]}, "derive gives 1 values of 'q' for 0 rows"),
        (lambda answers: {"q": answers["p"]} if len(answers["p"]) else {}, r"derive gives columns \['p', 'q'\]"),
        (lambda answers: {"q": ["x"] * len(answers["p"]) if len(answers["p"]) else np.empty(0)}, "of another type"),
    ]
    for derive, sentence in cases:
        with pytest.raises(UsageError, match=sentence):
            score(folder, derive=derive)
    assert not (folder / "out.parquet").exists()


def test_damaged_source_ends_the_scoring_with_the_row_that_it_came_to(folder: Path) -> None:
    write_rows(folder / "in.parquet", 3000, 1000)
    data = bytearray((folder / "in.parquet").read_bytes())
    group = pq.read_metadata(folder / "in.parquet").row_group(2).column(2)
    start = group.dictionary_page_offset or group.data_page_offset
    data[start : start + 400] = b"\xff" * 400
    (folder / "in.parquet").write_bytes(data)
    with pytest.raises(IntegrityError, match=r"in\.parquet cannot be read as Parquet after row 2,000 of 3,000"):
        score(folder, batch_rows=1000)
    (folder / "in.parquet").write_bytes(data[:1000])
    with pytest.raises(IntegrityError, match=r"in\.parquet cannot be read as Parquet: "):
        score(folder)
    assert [path.name for path in folder.iterdir()] == ["in.parquet"]


def test_source_that_is_replaced_while_it_is_read_is_noticed(folder: Path) -> None:
    write_rows(folder / "in/1.parquet", 1000)
    write_rows(folder / "in/2.parquet")
    write_rows(folder / "shorter", 7)

    def replace_once(columns: Arrays) -> dict[str, Any]:
        if (folder / "shorter").exists():
            (folder / "shorter").rename(folder / "in/2.parquet")
        return answer(columns)

    with pytest.raises(IntegrityError, match=r"in/2\.parquet gave 7 rows, and its footer said 10"):
        score(folder, FakeModel(replace_once), source=folder / "in", batch_rows=10)


KILLED = """
import sys, time
from pathlib import Path
import numpy as np
from kit.model.servable import Field, Signature
from kit.scoring import score_parquet

class Slow:
    signature = Signature((Field("x", "float32"),), (Field("p", "float32"),))
    n_calls = 0
    def predict(self, columns):
        self.n_calls += 1
        if self.n_calls == 3:
            print("scoring", flush=True)
            time.sleep(60)
        return {"p": columns["x"]}

folder = Path(sys.argv[1])
score_parquet(Slow(), folder / "in.parquet", folder / "out.parquet", release="r", batch_rows=5, rejects=folder / "no.parquet")
"""


def test_killed_scoring_leaves_no_half_file_under_the_targets_name(tmp_path: Path) -> None:
    write_rows(tmp_path / "in.parquet", 50)
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "scoring\n"
        process.kill()
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["in.parquet"]


def test_progress_is_told_after_each_batch_and_at_the_end(folder: Path) -> None:
    write_rows(folder / "in.parquet", 10)
    told: list[Progress] = []
    score(folder, batch_rows=4, progress=told.append)
    assert [(each.rows, each.total_rows, each.is_done) for each in told] == [
        (4, 10, False), (8, 10, False), (10, 10, False), (10, 10, True)
    ]  # fmt: skip


def test_progress_is_one_line_at_most_once_a_second_and_always_ends_the_same() -> None:
    times = iter([0.0, 0.5, 1.0, 1.9, 2.0, 2.1])
    stream = io.StringIO()
    line = ProgressLine(stream, lambda: next(times))
    for rows in (100, 2000, 3000, 4000):
        line(Progress(rows, 5000, 2.0))
    line(Progress(5000, 5000, 2.5, is_done=True))
    written = "2,000 of 5,000 rows, 40 %, 1000 rows/s", "4,000 of 5,000 rows, 80 %, 2000 rows/s"
    last = "5,000 of 5,000 rows, 100 %, 2000 rows/s"
    assert stream.getvalue() == f"{written[0]}\r{written[1]}\r{last}\n"
    quick = io.StringIO()
    ProgressLine(quick)(Progress(5000, 5000, 0.001, is_done=True))
    assert quick.getvalue() == "5,000 of 5,000 rows, 100 %, 5000000 rows/s\n"
    assert normalise_text(quick.getvalue()) == normalise_text(stream.getvalue())


def test_shorter_progress_covers_the_longer_one_before() -> None:
    times = iter([0.0, 1.0, 2.0])
    stream = io.StringIO()
    line = ProgressLine(stream, lambda: next(times))
    line(Progress(10, 20, 1e-6))
    line(Progress(20, 20, 20.0, is_done=True))
    assert stream.getvalue() == "10 of 20 rows, 50 %, 10000000 rows/s\r20 of 20 rows, 100 %, 1 rows/s      \n"


@pytest.mark.parametrize(
    ("metrics", "sentence"),
    [
        ({}, ""),
        ({"auc": 1.0}, ""),
        ({"rows_in": 10, "rows_out": 8, "rows_rejected": 2}, ""),
        (
            {"rows_in": 10, "rows_out": 8, "rows_rejected": 1},
            "10 rows in are not 8 rows out and 1 rejected: 1 were lost",
        ),
        (
            {"rows_in": 1000, "rows_out": 2000, "rows_rejected": 0},
            "1,000 rows in are not 2,000 rows out and 0 rejected: 1,000 were made",
        ),
        (
            {"rows_in": 10, "rows_out": 10},
            "it counts rows_in, rows_out but not rows_rejected; say all three with stage.count_rows(…)",
        ),
        (
            {"rows_in": 10.0, "rows_out": "8", "rows_rejected": True},
            "row counts are whole numbers of at least 0, found rows_in 10.0, rows_out '8', rows_rejected True",
        ),
        (
            {"rows_in": 1, "rows_out": 2, "rows_rejected": -1},
            "row counts are whole numbers of at least 0, found rows_in 1, rows_out 2, rows_rejected -1",
        ),
    ],
)
def test_row_counts_that_do_not_hold_are_said_with_the_numbers(metrics: dict[str, Any], sentence: str) -> None:
    assert find_lost_rows(metrics) == sentence


def test_counts_add_up_over_batches() -> None:
    one, other = RowCounts(10, 8, {"a": 2}), Scored(5, 3, {"a": 1, "b": 1}, 2.0)
    assert add_counts([one, other]) == RowCounts(15, 11, {"a": 3, "b": 1})
    assert other.rows_per_s == 2.5
    assert count_rows(np.int64(3), 2, 1).metrics == {"rows_in": 3, "rows_out": 2, "rows_rejected": 1}
    assert count_rows(3, 2, {"no weather": np.int64(1)}).metrics["rejected_no_weather"] == 1
    with pytest.raises(TypeError):
        count_rows(3.0, 2, 1)  # type: ignore[arg-type]


def test_table_is_written_with_the_release_and_without_the_index(folder: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=[5, 6])
    for table in (frame, pa.Table.from_pandas(frame, preserve_index=False)):
        write_table(table, folder / "table.parquet", {"kit.release": "dev-3"})
        pd.testing.assert_frame_equal(pd.read_parquet(folder / "table.parquet"), frame.reset_index(drop=True))
        assert pq.read_table(folder / "table.parquet").column_names == ["a", "b"]
        assert read_release_id(folder / "table.parquet") == "dev-3"
    frame.to_parquet(folder / "other.parquet")
    assert read_release_id(folder / "other.parquet") == ""
    (folder / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(IntegrityError, match=r"broken\.parquet cannot be read as Parquet"):
        read_release_id(folder / "broken.parquet")


def test_reading_ahead_gives_all_items_and_the_error_behind_them(folder: Path) -> None:
    def make() -> Iterator[int]:
        yield from range(5)
        raise ValueError("sixth")

    found: list[int] = []
    with pytest.raises(ValueError, match="sixth"):
        found.extend(read_ahead(make()))
    assert found == [0, 1, 2, 3, 4]
    assert list(read_ahead(iter(()))) == []


def test_reading_ahead_is_bounded_and_ends_with_its_reader(folder: Path) -> None:
    made: list[int] = []
    is_full = threading.Event()

    def make() -> Iterator[int]:
        for number in range(1000):
            made.append(number)
            if len(made) == 4:
                is_full.set()
            yield number

    ahead = read_ahead(make(), depth=2)
    assert next(ahead) == 0
    assert is_full.wait(10)  # one with us, two wait, one in hand
    ahead.close()  # type: ignore[attr-defined]
    assert len(made) <= 6


def test_writing_behind_keeps_the_order_and_waits_for_the_last(folder: Path) -> None:
    written: list[int] = []

    with WriteBehind(written.append, depth=1) as behind:
        for number in range(20):
            behind.put(number)
    assert written == list(range(20))


def test_error_of_the_writer_reaches_who_writes_and_drops_the_rest(folder: Path) -> None:
    written: list[int] = []

    def fail_at_two(item: int) -> None:
        if item == 2:
            raise OSError(28, "No space left on device")
        written.append(item)

    def put_all() -> None:
        with WriteBehind(fail_at_two, depth=1) as behind:
            for number in range(1000):
                behind.put(number)

    with pytest.raises(OSError, match="No space left"):
        put_all()
    assert written == [0, 1]


def test_page_on_scoring_has_every_argument_and_reason() -> None:
    page = (Path(__file__).parents[1] / "docs" / "scoring.md").read_text(encoding="utf-8")
    arguments = re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE)
    assert arguments == list(inspect.signature(StageSession.score).parameters)[1:]
    assert all(f"`x {reason}`" in page for reason in (MISSING, INFINITE, OUT_OF_RANGE))
    assert f"`p {NOT_FINITE}`" in page


# What a training does, in a process of its own: kit's scoring must need none of Keras in another.
TRAINING = """
import sys
from pathlib import Path
import keras, tensorflow as tf
from kit.model import save_saved_model
name, x = keras.Input((1,), name="name", dtype="string"), keras.Input((1,), name="x")
code = keras.layers.StringLookup(vocabulary=["a", "b"], output_mode="one_hot", name="code")(name)
clean = keras.ops.nan_to_num(x, nan=0.0)
joined = keras.layers.Concatenate()([code, clean])
model = keras.Model({"name": name, "x": x}, keras.layers.Dense(1, activation="sigmoid")(joined))
module = tf.Module()
module.model = model
module.score = tf.function(
    lambda name, x: {"p": tf.squeeze(model({"name": name[:, None], "x": x[:, None]}, training=False), 1)}
).get_concrete_function(tf.TensorSpec([None], tf.string, "name"), tf.TensorSpec([None], tf.float32, "x"))
save_saved_model(module, Path(sys.argv[1]) / "saved_model", {"serving_default": module.score})
"""

SCORING = """
import os, sys
from pathlib import Path
from kit.environment import Environment
from kit.scoring import open_released_model, score_parquet
folder = Path(sys.argv[1])
model = open_released_model(Environment(name="dev"), folder)
scored = score_parquet(
    model, folder / "in.parquet", folder / "out.parquet", release="dev-3", keep=["name"],
    rejects=folder / "rejects.parquet", batch_rows=64,
)
assert (scored.rows_in, scored.rows_out, scored.rejected) == (1000, 999, {"x is infinite": 1}), scored
assert "keras" not in sys.modules, "Keras was imported"
assert "TF_USE_LEGACY_KERAS" not in os.environ
import pyarrow.parquet as pq
import tensorflow as tf
loaded = tf.saved_model.load(str(folder / "saved_model"))
table = pq.read_table(folder / "in.parquet")
names = tf.constant(["" if name is None else name for name in table["name"].to_pylist()])
x = tf.constant([float("nan") if x is None else x for x in table["x"].to_pylist()])
expected = loaded.signatures["serving_default"](name=names, x=x)["p"].numpy().tolist()
found = pq.read_table(folder / "out.parquet").to_pydict()
assert found["name"] == table["name"].to_pylist()[:-1]
assert max(abs(a - b) for a, b in zip(found["p"], expected)) < 1e-6
assert tf.keras.__version__.startswith("3."), "Keras is there for who asks for it"
"""


@pytest.mark.kernel
def test_saved_model_scores_as_its_signature_does_without_keras(tmp_path: Path) -> None:
    names = ["a", "b", None, "unseen"] * 250
    numbers: list[float | None] = [None if n % 7 == 0 else n / 1000 for n in range(999)]
    write(tmp_path / "in.parquet", name=names, x=[*numbers, np.inf])
    for script in (TRAINING, SCORING):
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]


def test_reasons_that_are_written_alike_are_counted_together() -> None:
    assert RowCounts(5, 2, {"a b": 1, "a_b": 2}).metrics["rejected_a_b"] == 3


def test_more_reasons_than_rejected_rows_do_not_hold() -> None:
    metrics = {"rows_in": 3, "rows_out": 2, "rows_rejected": 1, "rejected_x": 2}
    assert find_lost_rows(metrics) == "reasons for 2 rejected rows, but 1 were"
