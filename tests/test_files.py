import json
import os
import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.files import (
    canonical_json,
    copy_and_hash,
    create_exclusive,
    format_bytes,
    format_time,
    parse_time,
    read_regular,
    remove_tree,
    sha256_bytes,
    sha256_file,
    temporary_beside,
    write_atomically,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_canonical_json_reads_back_as_the_same_value(value):
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(TEXT, JSON))
def test_order_of_keys_does_not_matter(value):
    backwards = dict(reversed(value.items()))
    assert canonical_json(backwards) == canonical_json(value) == canonical_json(json.loads(canonical_json(value)))


def test_canonical_json_is_compact_sorted_utf8():
    assert canonical_json({"b": [1, 2.5, None], "a": {"ö": True}}) == '{"a":{"ö":true},"b":[1,2.5,null]}'.encode()


def test_aware_times_are_rfc_3339_in_utc():
    time = datetime(2026, 3, 1, 10, 30, 0, 250_000, timezone(timedelta(hours=1)))
    assert canonical_json([time]) == b'["2026-03-01T09:30:00.250Z"]'


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": -float("inf")}, "\ud800", {"\udcff": 1}])
def test_values_without_a_json_form_are_refused(value):
    with pytest.raises(ValueError):  # noqa: PT011 - the sentence is the json module's
        canonical_json(value)


@pytest.mark.parametrize("value", [{1: 2}, [{None: 1}], {"a": {True: 1}}, {1, 2}, b"bytes", object()])
def test_other_types_and_keys_that_are_no_text_are_refused(value):
    with pytest.raises(TypeError):
        canonical_json(value)


def test_naive_time_is_refused():
    with pytest.raises(TypeError, match="datetime is no JSON value"):
        canonical_json(datetime(2026, 3, 1))


@given(st.datetimes(min_value=datetime(1900, 1, 1), timezones=st.just(UTC)))
def test_times_keep_their_milliseconds(time):
    assert parse_time(format_time(time)) == time.replace(microsecond=time.microsecond // 1000 * 1000)


def test_digest_of_a_file_is_that_of_its_bytes(tmp_path):
    data = b"x" * (1 << 20) + b"tail"
    (tmp_path / "größe").write_bytes(data)
    assert sha256_file(tmp_path / "größe") == sha256_bytes(data)


def test_copy_tells_what_it_wrote_and_never_replaces(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    assert copy_and_hash(tmp_path / "a", tmp_path / "b") == (sha256_bytes(b"content"), 7)
    with pytest.raises(FileExistsError):
        copy_and_hash(tmp_path / "a", tmp_path / "b")


def test_exclusive_file_is_read_only_and_alone(tmp_path):
    assert create_exclusive(tmp_path / "deep" / "name", b"first")
    assert not create_exclusive(tmp_path / "deep" / "name", b"second")
    (path,) = (tmp_path / "deep").iterdir()
    assert (path.name, path.read_bytes(), path.stat().st_mode & 0o777) == ("name", b"first", 0o444)


def test_of_many_threads_exactly_one_creates_a_name(tmp_path):
    barrier, won = threading.Barrier(8), []

    def create(number):
        barrier.wait()
        if create_exclusive(tmp_path / "name", bytes([number]) * 1000):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (path,) = tmp_path.iterdir()
    assert [path.read_bytes()] == [bytes([number]) * 1000 for number in won]


def test_atomic_write_replaces_whole_files(tmp_path):
    write_atomically(tmp_path / "view", b"old")
    write_atomically(tmp_path / "view", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("view", b"new")]


def test_temporary_name_is_removed_after_an_error(tmp_path):
    def fail_halfway():
        with temporary_beside(tmp_path / "name") as temporary:
            temporary.write_bytes(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail_halfway()
    assert list(tmp_path.iterdir()) == []


def test_removing_a_tree_takes_read_only_parts_and_leaves_what_links_lead_to(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o500)
    (outside / "file").touch()
    inner = tmp_path / "tree" / "inner"
    inner.mkdir(parents=True)
    (inner / "file").touch(mode=0o400)
    (inner / "link").symlink_to(outside)
    (inner / "file-link").symlink_to(outside / "file")
    inner.chmod(0o500)
    mode = (outside / "file").stat().st_mode
    remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()
    assert (outside.stat().st_mode & 0o777, (outside / "file").stat().st_mode) == (0o500, mode)


def test_removing_a_tree_that_is_not_there_is_fine(tmp_path):
    remove_tree(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (812, "812 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (4_900_000, "4.9 MB"),
        (999_999, "1.0 MB"),
        (123_000_000_000, "123 GB"),
        (5 * 10**12, "5.0 TB"),
    ],
)
def test_sizes_read_in_decimal_units(size_bytes, text):
    assert format_bytes(size_bytes) == text


def test_regular_files_only_are_read(tmp_path):
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    assert read_regular(tmp_path / "file") == b"1"
    for name in ("link", "pipe", ".", "missing"):
        with pytest.raises(OSError, match=r"regular|symbolic|No such"):
            read_regular(tmp_path / name)
