import json
import sys
import warnings

import pytest

from kit.check import Finding, Severity
from kit.errors import SuiteError
from kit.expectations import check_artifact
from kit.files import sha256_file
from kit.suite import known_types, load_suite, parse_suite, suite_path_of

SECRET = "4929-1234-5678"
ROW_COUNT = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}, "meta": {"why": "some"}}


def expect(kind, severity=None, **kwargs):
    item = {"type": kind, "kwargs": kwargs, "meta": {"why": "because"}}
    return item | ({"severity": severity} if severity else {})


def make_suite(folder, *expectations, **extra):
    path = folder / "expectations" / "table.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"name": "table", "expectations": list(expectations), **extra}))
    return path


def make_table(folder, text="a,b\n1,x\n2,y\n3,z\n", name="table.csv"):
    path = folder / name
    path.write_text(text)
    return path


def parse(*expectations, **extra):
    return parse_suite(json.dumps({"name": "s", "expectations": list(expectations), **extra}).encode(), "s.json")


def test_suite_is_read_as_written():
    suite = parse(ROW_COUNT, expect("expect_column_to_exist", "warning", column="a"))
    assert [(e.type, e.arguments, e.severity, e.why) for e in suite.expectations] == [
        ("expect_table_row_count_to_be_between", {"min_value": 1}, Severity.CRITICAL, "some"),
        ("expect_column_to_exist", {"column": "a"}, Severity.WARNING, "because"),
    ]


@pytest.mark.parametrize(
    ("expectations", "extra", "message"),
    [
        ([], {}, "the suite is empty"),
        ([expect("expect_column_to_exist", column="a")], {}, "no critical row count"),
        ([ROW_COUNT | {"severity": "warning"}], {}, "no critical row count"),
        ([ROW_COUNT], {"expectation": []}, "'expectation' does not exist; did you mean 'expectations'"),
        ([ROW_COUNT | {"kwarg": {}}], {}, "did you mean 'kwargs'"),
        ([ROW_COUNT | {"meta": {}}], {}, "no reason"),
        ([ROW_COUNT | {"meta": {"why": " "}}], {}, "no reason"),
        ([ROW_COUNT | {"severity": "critcal"}], {}, "did you mean 'critical'"),
        ([ROW_COUNT | {"kwargs": []}], {}, "'kwargs' must be an object"),
        ([ROW_COUNT | {"kwargs": {}}], {}, "passes on anything"),
        (["expect_table"], {}, "expectation 1: must be an object"),
        ([{"type": "expect_column_to_exist"}], {}, "'kwargs' is missing"),
        ([expect("expect_column_to_exists", column="a")], {}, "did you mean 'expect_column_to_exist'"),
        ([expect(["x"])], {}, "does not exist"),
        ([expect("expect_column_values_to_be_unique", column="a", mostly=0)], {}, "'mostly' must be in"),
        ([expect("expect_column_values_to_be_in_set", column="a", value_set=None)], {}, "passes on anything"),
    ],
)
def test_suite_that_cannot_be_trusted_is_refused(expectations, extra, message):
    with pytest.raises(SuiteError, match=message):
        parse(*expectations, **extra)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b'{"name": 1, "expectations": []}'])
def test_suite_that_is_no_suite_is_refused(data):
    with pytest.raises(SuiteError, match=r"^s\.json"):
        parse_suite(data, "s.json")


def test_missing_suite_says_what_to_write(tmp_path):
    with pytest.raises(SuiteError, match="cannot be read"):
        load_suite(suite_path_of("table.parquet", tmp_path))


def test_check_without_a_trusted_suite_fails(tmp_path):
    result = check_artifact(make_table(tmp_path), "table.csv", make_suite(tmp_path))
    assert not result.passed
    assert "the suite is empty" in result.errors[0]
    assert result.artifact_sha256 == sha256_file(tmp_path / "table.csv")


@pytest.mark.parametrize("name", ["table.keras", "folder", "none.csv"])
def test_artifact_that_is_no_table_fails(tmp_path, name):
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif name != "none.csv":
        path.write_bytes(b"x")
    result = check_artifact(path, name, make_suite(tmp_path, ROW_COUNT))
    assert (result.passed, len(result.errors), result.expectations) == (False, 1, ())


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("name", "text"),
    [("t.csv", ""), ("t.parquet", SECRET), ("t.json", f'{{"a": "{SECRET}"'), ("t.json", "[1]"), ("t.jsonl", SECRET)],
)
def test_unreadable_artifact_fails_and_says_nothing_of_its_content(tmp_path, name, text):
    result = check_artifact(make_table(tmp_path, text, name), name, make_suite(tmp_path, ROW_COUNT))
    assert not result.passed
    assert SECRET not in repr(result)
    assert result.errors


@pytest.mark.kernel
@pytest.mark.parametrize(("name", "text"), [("t.csv", "a,b\n"), ("t.json", "[]"), ("t.jsonl", "")])
def test_artifact_without_rows_fails(tmp_path, name, text):
    result = check_artifact(make_table(tmp_path, text, name), name, make_suite(tmp_path, ROW_COUNT))
    assert (result.n_rows, result.errors) == (0, (f"{name}: the artifact has no rows; nothing was checked",))


@pytest.mark.kernel
def test_bytes_other_than_expected_fail(tmp_path):
    result = check_artifact(make_table(tmp_path), "table.csv", make_suite(tmp_path, ROW_COUNT), sha256="0" * 64)
    assert "not those expected" in result.errors[0]


@pytest.mark.kernel
def test_good_table_passes_with_one_result_for_each_expectation(tmp_path):
    suite = make_suite(
        tmp_path,
        expect("expect_column_values_to_be_between", column="a", min_value=1, max_value=3),
        ROW_COUNT,
        expect("expect_column_values_to_be_in_set", "warning", column="b", value_set=["x"]),
        expect("expect_column_values_to_be_in_set", "warning", column="b", value_set=["x"]),
    )
    result = check_artifact(make_table(tmp_path), "table.csv", suite)
    assert result.passed
    assert result.n_rows == 3
    assert [(e.finding, e.n_unexpected, e.observed) for e in result.expectations] == [
        (Finding.PASSED, 0, None),
        (Finding.PASSED, None, 3),
        (Finding.FAILED, 2, None),
        (Finding.FAILED, 2, None),
    ]
    assert len(result.warnings) == 2


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("expectation", "error"),
    [
        (expect("expect_column_values_to_be_unique", column="nope"), "no column 'nope'"),
        (expect("expect_compound_columns_to_be_unique", column_list=["a", "q"]), "no column 'q'"),
        (expect("expect_column_values_to_be_unique", colum="a"), "arguments are not accepted"),
        (expect("expect_column_values_to_match_regex", column="b", regex="(("), "while it was evaluated"),
        (expect("expect_column_mean_to_be_between", column="b", min_value=1), "while it was evaluated"),
        (expect("expect_column_values_to_be_unique", column="empty"), "nothing was evaluated"),
        (
            expect(
                "expect_column_values_to_be_unique",
                column="a",
                row_condition='col("a") > 99',
                condition_parser="great_expectations",
            ),
            "nothing was evaluated",
        ),
    ],
)
def test_expectation_that_was_not_evaluated_is_an_error(tmp_path, expectation, error):
    table = make_table(tmp_path, f"a,b,empty\n1,{SECRET},\n2,y,\n")
    result = check_artifact(table, "table.csv", make_suite(tmp_path, ROW_COUNT, expectation))
    assert result.expectations[1].finding is Finding.ERROR
    assert error in result.expectations[1].error
    assert not result.passed
    assert SECRET not in repr(result)


@pytest.mark.kernel
def test_failed_critical_expectation_fails_the_check(tmp_path):
    suite = make_suite(tmp_path, ROW_COUNT, expect("expect_column_to_exist", column="nope"))
    result = check_artifact(make_table(tmp_path), "table.csv", suite)
    assert result.problems == ("expect_column_to_exist on nope: failed",)


@pytest.mark.kernel
def test_results_hold_no_row_values(tmp_path):
    rows = "".join(f"{4929000 + n},{SECRET}{n}\n" for n in range(12))
    table = make_table(tmp_path, f"amount,card\n{rows}")
    suite = make_suite(
        tmp_path,
        ROW_COUNT,
        *(
            expect(kind, column=column, **arguments)
            for column in ("amount", "card")
            for kind, arguments in [
                ("expect_column_max_to_be_between", {"max_value": 1}),
                ("expect_column_min_to_be_between", {"max_value": 1}),
                ("expect_column_median_to_be_between", {"max_value": 1}),
                ("expect_column_sum_to_be_between", {"max_value": 1}),
                ("expect_column_distinct_values_to_be_in_set", {"value_set": [1]}),
                ("expect_column_distinct_values_to_contain_set", {"value_set": [1]}),
                ("expect_column_most_common_value_to_be_in_set", {"value_set": [1]}),
                ("expect_column_values_to_be_in_set", {"value_set": [1]}),
                ("expect_column_values_to_be_of_type", {"type_": "datetime"}),
                ("expect_column_values_to_be_dateutil_parseable", {}),
                ("expect_column_values_to_match_strftime_format", {"strftime_format": "%Y"}),
                ("expect_column_value_lengths_to_be_between", {"max_value": 1}),
            ]
        ),
        expect("expect_table_columns_to_match_set", column_set=["amount"]),
    )
    result = check_artifact(table, "table.csv", suite)
    assert SECRET not in repr(result)
    assert not any(str(4929000 + n) in repr(result) for n in range(12))
    assert result.expectations[-1].observed == ["amount", "card"]


@pytest.mark.kernel
def test_mean_over_few_rows_is_not_kept(tmp_path):
    suite = make_suite(tmp_path, ROW_COUNT, expect("expect_column_mean_to_be_between", column="a", max_value=1))
    few = check_artifact(make_table(tmp_path, "a\n4929\n"), "table.csv", suite)
    many = check_artifact(make_table(tmp_path, "a\n" + "4\n" * 10), "table.csv", suite)
    assert (few.expectations[1].observed, many.expectations[1].observed) == (None, 4.0)


@pytest.mark.kernel
def test_parquet_and_json_are_read(tmp_path):
    import pandas as pd

    suite = make_suite(tmp_path, ROW_COUNT)
    pd.DataFrame({"a": [1, 2]}).to_parquet(tmp_path / "table.parquet")
    make_table(tmp_path, '[{"a": 1}, {"a": 2}]', "table.json")
    make_table(tmp_path, '{"a": 1}\n{"a": 2}\n', "table.jsonl")
    for name in ("table.parquet", "table.json", "table.jsonl"):
        assert check_artifact(tmp_path / name, name, suite).n_rows == 2


@pytest.mark.kernel
def test_known_types_are_those_that_great_expectations_registers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import great_expectations  # noqa: F401
        from great_expectations.expectations.registry import list_registered_expectation_implementations

    registered = list_registered_expectation_implementations()
    assert set(known_types()) == {name for name in registered if name.startswith("expect_")}


def test_reading_a_suite_imports_no_great_expectations():
    import subprocess

    code = "import sys, kit.suite as e; e.known_types(); print('great_expectations' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
