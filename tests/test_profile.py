"""Reference profiles: bins, counts, files that are read strictly, and the distances between distributions."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import IntegrityError, UnknownNameError, UsageError
from kit.profile import (
    Labels,
    Numbers,
    Profile,
    Shift,
    count_bins,
    find_shifts,
    kl_divergence,
    parse_profile,
    population_stability_index,
    profile_parquet,
    profile_table,
    read_profile,
    write_profile,
)
from kit.profile.counting import SAMPLE_ROWS
from kit.suite import parse_suite

BELOW_ONE = math.nextafter(1.0, -math.inf)


def describe(*values: Any, **more: Any) -> Any:
    """The profile of one column."""
    return profile_table(pd.DataFrame({"x": pd.Series(list(values), **more)})).columns["x"]


def recount(column: Any, *values: Any, **more: Any) -> list[int]:
    """Other values in the bins of a profile's column."""
    profile = Profile(n_rows=sum(column.expected), columns={"x": column})
    return count_bins(profile, [pa.record_batch(pd.DataFrame({"x": pd.Series(list(values), **more)}))])["x"].tolist()


# Distances


def counts(least: int = 0) -> st.SearchStrategy[list[list[int]]]:
    one = st.integers(least, 10**9)
    pairs = st.lists(st.tuples(one, one), min_size=1, max_size=40)
    return pairs.map(lambda each: [list(side) for side in zip(*each, strict=True)]).filter(
        lambda both: all(map(any, both))
    )


@given(counts())
def test_distances_are_never_negative_and_psi_is_symmetric_and_the_sum_of_both_divergences(
    both: list[list[int]],
) -> None:
    expected, actual = both
    psi = population_stability_index(expected, actual)
    there, back = kl_divergence(actual, expected), kl_divergence(expected, actual)
    assert min(psi, there, back) >= 0
    assert psi == pytest.approx(population_stability_index(actual, expected), rel=1e-12, abs=1e-15)
    assert psi == pytest.approx(there + back, rel=1e-6, abs=1e-12)


@given(counts(), st.integers(1, 10**6))
def test_equal_shapes_have_no_distance_whatever_their_size_and_empty_bins(both: list[list[int]], factor: int) -> None:
    larger = [count * factor for count in both[0]]
    assert population_stability_index(both[0], larger) == pytest.approx(0, abs=1e-12)
    assert kl_divergence(larger, both[0]) == pytest.approx(0, abs=1e-12)


@given(counts(least=1), st.integers(1, 10**6), st.integers(1, 10**6))
def test_distances_depend_on_shares_alone_where_no_bin_is_empty(both: list[list[int]], this: int, that: int) -> None:
    expected, actual = both
    scaled = [count * this for count in expected], [count * that for count in actual]
    assert population_stability_index(*scaled) == pytest.approx(
        population_stability_index(expected, actual), rel=1e-6, abs=1e-12
    )
    assert kl_divergence(*scaled) == pytest.approx(kl_divergence(expected, actual), rel=1e-6, abs=1e-12)


def test_distances_are_those_of_the_formulas() -> None:
    expected, actual = [50, 50], [75, 25]
    assert population_stability_index(expected, actual) == pytest.approx(0.25 * math.log(1.5) - 0.25 * math.log(0.5))
    assert kl_divergence(actual, expected) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def test_bin_that_is_empty_on_one_side_counts_as_half_a_row() -> None:
    assert population_stability_index([100, 0], [50, 50]) == population_stability_index([201, 1], [101, 101])
    assert population_stability_index([100, 0, 0], [50, 50, 0]) == population_stability_index([100, 0], [50, 50])


@pytest.mark.parametrize(
    ("expected", "actual", "message"),
    [
        ([1, 2], [1, 2, 3], r"same bins: expected has shape \(2,\), actual \(3,\)"),
        ([[1, 2]], [[1, 2]], "same bins"),
        ([], [], "expected must hold counts"),
        ([0, 0], [1, 1], "expected must hold counts"),
        ([1, 1], [0, 0], "actual must hold counts"),
        ([1, 1], [2, -1], "actual must hold counts"),
        ([1, math.inf], [1, 1], "expected must hold counts"),
        ([1, math.nan], [1, 1], "expected must hold counts"),
    ],
)
def test_what_is_no_pair_of_counts_has_no_distance(expected: Any, actual: Any, message: str) -> None:
    for measure in (population_stability_index, lambda e, a: kl_divergence(a, e)):
        with pytest.raises(UsageError, match=message):
            measure(expected, actual)


def test_bins_that_moved_most_come_first_and_those_that_did_not_are_left_out() -> None:
    assert find_shifts(["a", "b", "c", "d"], [10, 20, 30, 40], [0, 2, 6, 2], n_most=2) == (
        Shift("c", 0.3, 0.6),
        Shift("d", 0.4, 0.2),
    )
    assert find_shifts(["a", "b"], [1, 1], [5, 5]) == ()


# Bins


def test_few_different_numbers_have_a_bin_each_and_empty_ones_around_them() -> None:
    column = describe(1, 3, 3, None, 2, 3)
    assert column == Numbers((BELOW_ONE, 1.0, 2.0, 3.0), (0, 1, 1, 3, 0), 1)
    assert recount(column, 0, 1, 1.5, 4, -math.inf, math.inf, math.nan) == [2, 1, 1, 0, 2, 1]


def test_many_different_numbers_are_cut_at_their_tenths() -> None:
    column = describe(*range(1, 1001))
    assert column == Numbers(tuple(100.0 * tenth for tenth in range(1, 10)), (100,) * 10, 0)
    assert recount(column, 0, 100, 101, 2000) == [2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0]


def test_equal_numbers_stay_in_one_bin() -> None:
    column = describe(*[0.0] * 70, *range(1, 31))
    assert column.edges == (0.0, 10.0, 20.0)
    assert column.counts == (70, 10, 10, 10)


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([1, 2, None, 2], dtype="Int16"),
        pd.Series([1.0, 2.0, None, 2.0], dtype="float32"),
        pd.Series([1, 2, None, 2], dtype="float64[pyarrow]"),
        pd.Series(pa.array([1, 2, None, 2], pa.decimal128(9, 2)), dtype=pd.ArrowDtype(pa.decimal128(9, 2))),
    ],
    ids=lambda values: str(values.dtype),
)
def test_numbers_of_every_type_are_counted_alike(values: Any) -> None:
    column = profile_table(pd.DataFrame({"x": values})).columns["x"]
    assert column == Numbers((BELOW_ONE, 1.0, 2.0), (0, 1, 2, 0), 1)
    assert recount(column, 2, None, dtype="float64") == [0, 0, 1, 0, 1]


def test_extreme_numbers_make_a_profile_that_can_be_read_again() -> None:
    most = sys.float_info.max
    table = pd.DataFrame({"few": [-most, most, math.inf, -0.0, 5e-324] * 4, "none": [math.nan] * 20})
    table["many"] = [most / (n + 1) * (-1) ** n for n in range(20)]
    table["infinite"] = [math.inf, -math.inf] * 10
    profile = profile_table(table)
    assert parse_profile(profile.encode(), "p") == profile
    assert profile.columns["none"] == Numbers((), (0,), 20)
    assert profile.columns["infinite"] == Numbers((), (20,), 0)


def test_labels_are_the_frequent_values_and_the_rest_are_others() -> None:
    column = describe(*"aaaaabbbbbbccccd", None, float("nan"))
    assert column == Labels(("b", "a"), (6, 5), 5, 2)
    assert recount(column, "a", "z", "c", None, "b", "b") == [2, 1, 2, 1]
    assert column.bins == ("label 1 of 2", "label 2 of 2", "others", "missing")


def test_at_most_fifty_labels_are_kept() -> None:
    values = [f"v{n:03}" for n in range(60) for _ in range(100 - n)]
    column = describe(*values)
    assert column.labels == tuple(f"v{n:03}" for n in range(50))
    assert column.n_others == sum(100 - n for n in range(50, 60))


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([True] * 6 + [False] * 5),
        pd.Series([True] * 6 + [False] * 5, dtype="boolean"),
        pd.Series(["true"] * 6 + ["false"] * 5, dtype="category"),
        pd.Series(["true"] * 6 + ["false"] * 5, dtype=object),
        pd.Series(["true"] * 6 + ["false"] * 5, dtype="string"),
    ],
    ids=lambda values: str(values.dtype),
)
def test_texts_categories_and_booleans_are_counted_alike(values: Any) -> None:
    column = profile_table(pd.DataFrame({"x": values})).columns["x"]
    assert column == Labels(("true", "false"), (6, 5), 0, 0)
    assert recount(column, True, False, None, dtype=object) == [1, 1, 0, 1]


def test_categories_that_are_numbers_are_labels() -> None:
    assert describe(*[7] * 5, *[3] * 6, dtype="category") == Labels(("3", "7"), (6, 5), 0, 0)


def test_column_of_another_kind_than_in_the_profile_is_refused() -> None:
    profile = profile_table(pd.DataFrame({"n": [1, 2], "t": ["a", "b"]}))
    for name, values in {"n": ["1"], "t": [1]}.items():
        with pytest.raises(UsageError, match=f"column '{name}' is .*; the reference profile has"):
            count_bins(profile, [pa.record_batch({name: values})], [name])


def test_column_without_any_value_is_missing_in_every_profile() -> None:
    profile = profile_table(pd.DataFrame({"n": [1, 2], "t": ["a", "b"]}))
    empty = pa.record_batch({name: pa.nulls(3) for name in ("n", "t")})
    assert {name: found.tolist() for name, found in count_bins(profile, [empty]).items()} == {
        "n": [0, 0, 0, 0, 3],
        "t": [0, 3],
    }


def test_counted_column_may_have_another_name_than_in_the_profile() -> None:
    profile = profile_table(pd.DataFrame({"n": [1, 2]}))
    found = count_bins(profile, [{"m": pa.array([1])}, {"m": pa.array([2, 2])}], {"m": "n"})
    assert found["m"].tolist() == [0, 1, 2, 0, 0]
    assert count_bins(profile, [])["n"].tolist() == [0, 0, 0, 0, 0]
    with pytest.raises(UnknownNameError, match=r"column 'm' does not exist.*in the reference profile"):
        count_bins(profile, [], ["m"])
    with pytest.raises(UnknownNameError, match=r"column 'n' does not exist.*in the table that is counted"):
        count_bins(profile, [{"m": pa.array([1])}])


# Which columns


def test_columns_that_cannot_be_counted_are_left_out_unless_they_are_named(tmp_path: Path) -> None:
    times = pd.to_datetime(["2026-01-01", "2026-01-02"])
    table = pd.DataFrame({"n": [1, 2], "time": times, "list": [[1], [2]], "mixed": [1, "secret"], 7: [1, 2]})
    assert list(profile_table(table).columns) == ["n", "7"]
    for name in ("time", "list"):
        with pytest.raises(UsageError, match=f"column '{name}' is .*; only numbers, texts"):
            write_profile(tmp_path / "p.json", table, [name])
    with pytest.raises(UsageError, match=r"column 'mixed' .* holds values of several kinds") as refused:
        profile_table(table, ["mixed"])
    assert "secret" not in str(refused.value)
    assert not (tmp_path / "p.json").exists()


@pytest.mark.parametrize(
    ("table", "columns", "message"),
    [
        (pd.DataFrame({"a": []}), None, "without rows"),
        (pd.DataFrame({"a": [1]}), ["b"], "column 'b' does not exist; there is 'a'"),
        (pd.DataFrame({"a": [1]}), [], "no column of numbers"),
        (pd.DataFrame({"a": [[1]]}), None, "no column of numbers"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), None, "two columns of one name"),
    ],
)
def test_table_that_cannot_be_described_is_refused(table: Any, columns: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        profile_table(table, columns)


# The file


def make_plain(**changes: Any) -> dict[str, Any]:
    columns = {
        "n": {"kind": "numbers", "edges": [1, 2], "counts": [1, 2, 3], "n_missing": 1},
        "t": {"kind": "labels", "labels": ["b", "a"], "counts": [3, 2], "n_others": 2, "n_missing": 0},
    }
    for path, value in changes.items():
        column, _, key = path.partition("_")
        columns[column][key] = value
    return {"format": 1, "n_rows": 7, "columns": columns}


def test_profile_reads_back_as_it_was_written(tmp_path: Path) -> None:
    written = write_profile(tmp_path / "profile.json", pd.DataFrame({"n": [0.1, 0.2, None], "t": ["ä", "b", None]}))
    assert read_profile(tmp_path / "profile.json") == written
    assert (tmp_path / "profile.json").read_bytes() == written.encode()


def test_file_is_read_as_documented() -> None:
    assert parse_profile(json.dumps(make_plain()).encode(), "p") == Profile(
        n_rows=7, columns={"n": Numbers((1.0, 2.0), (1, 2, 3), 1), "t": Labels(("b", "a"), (3, 2), 2, 0)}
    )


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ([], "not readable as a reference profile"),
        ({**make_plain(), "format": 2}, "profile format 2, expected 1"),
        ({**make_plain(), "more": 1}, "unknown field `more`"),
        ({**make_plain(), "n_rows": 0}, "not readable"),
        ({**make_plain(), "n_rows": 8}, "column 'n': counts 7 rows, the table has 8"),
        ({**make_plain(), "columns": {}}, "without columns"),
        (make_plain(n_kind="other"), "not readable"),
        (make_plain(n_counts=[1, 2, -3]), "not readable"),
        (make_plain(n_counts=[1, 2, 3.5]), "not readable"),
        (make_plain(n_counts=[3, 3]), "2 edges make 3 bins, found 2 counts"),
        (make_plain(n_edges=[2, 1]), "edges must be finite and rise"),
        (make_plain(n_edges=[1, 1]), "edges must be finite and rise"),
        (make_plain(n_edges=[1, "2"]), "not readable"),
        (make_plain(t_labels=["a"]), "1 labels, but 2 counts"),
        (make_plain(t_labels=["a", "a"]), "a label is there twice"),
        (make_plain(t_edges=[1]), "unknown field `edges`"),
        (make_plain(t_labels=[str(n) for n in range(51)], t_counts=[5, *[0] * 50]), "51 labels, at most 50"),
    ],
)
def test_file_that_is_no_profile_is_an_integrity_error(plain: Any, message: str) -> None:
    with pytest.raises(IntegrityError, match=rf"^p\.json: .*{message}"):
        parse_profile(json.dumps(plain).encode(), "p.json")


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff", b'{"format": 1, "n_rows": 1, "columns": {"n": NaN}}', b"[" * 9999]
)
def test_bytes_that_are_no_json_are_an_integrity_error(data: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"^p\.json: not readable"):
        parse_profile(data, "p.json")


def test_missing_file_is_an_integrity_error(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"profile\.json: the reference profile cannot be read"):
        read_profile(tmp_path / "profile.json")


# Large files


def test_parquet_file_has_the_profile_of_its_table(tmp_path: Path) -> None:
    table = pd.DataFrame({"n": np.arange(1000) % 37, "t": [str(n % 7) for n in range(1000)], "b": [True, None] * 500})
    table.to_parquet(tmp_path / "t.parquet", row_group_size=300)
    assert profile_parquet(tmp_path / "t.parquet") == profile_table(table)
    assert profile_parquet(tmp_path / "t.parquet", ["t"]) == profile_table(table, ["t"])


def test_bins_of_a_large_file_come_from_evenly_spaced_rows_and_all_rows_are_counted(tmp_path: Path) -> None:
    n_rows = 2 * SAMPLE_ROWS + 1
    pq.write_table(pa.table({"n": np.arange(n_rows)}), tmp_path / "t.parquet", row_group_size=70_001)
    profile = profile_parquet(tmp_path / "t.parquet")
    column = profile.columns["n"]
    assert (profile.n_rows, sum(column.expected)) == (n_rows, n_rows)
    assert isinstance(column, Numbers)
    assert column.edges == tuple(tenth * n_rows // 10 // 3 * 3 for tenth in range(1, 10))  # every third row


def test_parquet_file_that_cannot_be_described_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": pa.array([], pa.int64())}), tmp_path / "t.parquet")
    with pytest.raises(UsageError, match=r"t\.parquet: a table without rows"):
        profile_parquet(tmp_path / "t.parquet")
    with pytest.raises(UnknownNameError, match="column 'm' does not exist; there is 'n'"):
        profile_parquet(tmp_path / "t.parquet", ["m"])


# docs/data-drift.md

PAGE = (Path(__file__).parents[1] / "docs/data-drift.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.+?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_profile_of_the_page_is_read_and_its_code_writes_one(tmp_path: Path) -> None:
    shown, suite = blocks("json")
    assert set(parse_profile(shown.encode(), "docs").columns) == {"distance", "carrier"}
    assert parse_suite(suite.encode(), "docs").needs_profile
    table = pd.DataFrame({name: [1.0, 2.0] for name in ("carrier", "distance", "p_late", "more")})
    stage = SimpleNamespace(outputs={"profile.json": tmp_path / "profile.json"})
    exec(blocks("python")[0], {"stage": stage, "table": table})
    assert list(read_profile(tmp_path / "profile.json").columns) == ["carrier", "distance", "p_late"]


@pytest.mark.parametrize("n_rows", [100, 6000])
def test_chance_gives_the_distance_that_the_page_says(n_rows: int) -> None:
    rng = np.random.default_rng(7)
    column = describe(*rng.random(100_000))
    drawn = [recount(column, *rng.random(n_rows)) for _ in range(200)]
    mean = np.mean([population_stability_index(column.expected, each) for each in drawn])
    assert mean == pytest.approx(9 * (1 / 100_000 + 1 / n_rows), rel=0.2)
    assert f"{9 / n_rows:.4f}".rstrip("0") in PAGE


def test_reading_a_profile_imports_neither_numpy_nor_arrow() -> None:
    code = "import sys, kit.profile; print([n for n in ('numpy', 'pandas', 'pyarrow') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
