import json
import re
from pathlib import Path

import jsonschema
import pytest
from builders import make_record
from hypothesis import given
from hypothesis import strategies as st

import kit.record
from kit.check import CheckResult, ExpectationResult, Finding, Severity
from kit.errors import IntegrityError
from kit.files import parse_time
from kit.record import Failure, Status, decode_record, new_record_id, record_schema

SCHEMA = Path(kit.record.__file__).parent / "schemas" / "record.schema.json"
CHECK = CheckResult(
    "a", "1" * 64, "a", "2" * 64, 3, (ExpectationResult("expect_it", {}, Severity.WARNING, "why", Finding.FAILED, 1),)
)
RECORDS = [
    make_record(),
    make_record(checks=(CHECK,)),
    make_record(status=Status.STARTED, ended=None, usage=None, outputs=()),
    make_record(status=Status.FAILED, failure=Failure("ValueError", "x", 3), release="dev-3"),
]


@pytest.mark.parametrize("record", RECORDS)
def test_record_reads_back_as_it_was(record):
    assert decode_record(record.encode(), "here") == record
    assert decode_record(record.encode(), "here").encode() == record.encode()


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])),
        st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_metrics_read_back_with_their_types(metrics):
    read = decode_record(make_record(metrics=metrics).encode(), "here").metrics
    assert [(name, value, type(value)) for name, value in sorted(read.items())] == [
        (name, value, type(value)) for name, value in sorted(metrics.items())
    ]


def test_record_answers_what_people_ask():
    record = make_record()
    assert (record.succeeded, record.wall_s, record.output("model.keras")) == (True, 2.5, record.outputs[0])
    assert (record.output("other"), make_record(ended=None).wall_s) == (None, None)
    assert not make_record(status=Status.LOST).succeeded


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a readable record"),
        (b"\xff", "not a readable record"),
        (b"[]", "not a readable record"),
        (b'{"format": 1}', "missing required field"),
        (b'{"format": 2, "new": 1}', "record format 2 is newer than this kit reads"),
        (make_record(format=0).encode(), "there is no record format 0"),
        (make_record().encode().replace(b'"stage"', b'"stag"'), "not a readable record: .*`stag`"),
        (make_record().encode().replace(b'"succeeded"', b'"fine"'), "not a readable record: Invalid enum value 'fine'"),
        (
            make_record().encode().replace(b"02.750Z", b"02.750"),
            "not a readable record: Expected `datetime` with a timezone",
        ),
    ],
)
def test_bytes_that_are_no_record_are_an_integrity_error(data, reason):
    with pytest.raises(IntegrityError, match=f"^records/r: {reason}|^records/r: not a readable record: .*{reason}"):
        decode_record(data, "records/r")


def test_identifier_reads_and_is_unique():
    started = parse_time("2026-03-01T09:30:00.250Z")
    first, second = (new_record_id("train", started) for _ in range(2))
    assert re.fullmatch("20260301T093000Z-train-[0-9a-f]{6}", first)
    assert first != second


def test_published_schema_is_in_step():
    expected = json.dumps(record_schema(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert SCHEMA.read_text(encoding="utf-8") == expected, "run: python tests/test_record.py"


@pytest.mark.parametrize("record", RECORDS)
def test_records_are_valid_by_the_published_schema(record):
    schema = json.loads(SCHEMA.read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(json.loads(record.encode()))


def test_schema_refuses_what_is_no_record():
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_bytes()))
    for change in ({"unknown": 1}, {"status": "fine"}, {"metrics": {"a": None}}):
        assert not validator.is_valid({**json.loads(make_record().encode()), **change})


if __name__ == "__main__":
    SCHEMA.write_text(
        json.dumps(record_schema(), indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
    )
