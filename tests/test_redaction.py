import base64
import html
import json
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.redaction import Redactor

SECRET = "pä\"s's&<w>/ö d+\\x"


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        repr(SECRET),
        json.dumps(SECRET),
        json.dumps(SECRET, ensure_ascii=False),
        html.escape(SECRET),
        urllib.parse.quote(SECRET),
        urllib.parse.quote(SECRET, safe=""),
        urllib.parse.quote_plus(SECRET),
        str(SECRET.encode()),
    ],
)
def test_each_written_form_is_found(form: str) -> None:
    redacted = Redactor({"TOKEN": SECRET}).text(f"before {form} after")
    assert "[secret TOKEN]" in redacted
    assert redacted.startswith("before ")
    assert redacted.endswith(" after")
    assert form.strip("'\"b") not in redacted


@pytest.mark.parametrize("user", ["", "u", "us", "use", "user"])
def test_base64_is_found_at_each_alignment(user: str) -> None:
    encoded = base64.b64encode(f"{user}:hunter2-hunter2:tail".encode()).decode()
    assert "[secret P]" in Redactor({"P": "hunter2-hunter2"}).text(f"Basic {encoded}")


def test_longest_secret_wins_where_they_overlap() -> None:
    redactor = Redactor({"A": "token", "B": "token-long"})
    assert redactor.text("token-long token") == "[secret B] [secret A]"


def test_redacting_twice_changes_nothing_more() -> None:
    redactor = Redactor({"A": "secret", "TOKEN": "TOKEN"})
    once = redactor.text("a secret TOKEN")
    assert once == "a [secret A] [secret TOKEN]"
    assert redactor.text(once) == once


def test_lines_of_a_long_secret_are_found_alone() -> None:
    key = "-----BEGIN KEY-----\nabcdefghijkl\nmnopqrstuvwx\n-----END KEY-----\n"
    assert Redactor({"K": key}).text("  mnopqrstuvwx") == "  [secret K]"


def test_values_are_redacted_in_keys_lists_and_numbers() -> None:
    redactor = Redactor({"P": "12345678"})
    value = {"k12345678": ["a 12345678", 12345678, 1, True, None], "12345678": 2.5}
    assert redactor.value(value) == {"k[secret P]": ["a [secret P]", "[secret P]", 1, True, None], "[secret P]": 2.5}


def test_keys_that_differ_only_in_a_secret_both_stay() -> None:
    redacted = Redactor({"A": "aaaa-1", "B": "aaaa-2"}).value({"x[secret A]": 1, "xaaaa-1": 2})
    assert redacted == {"x[secret A]": 1, "x[secret A]'": 2}


def test_no_secrets_change_nothing() -> None:
    redactor = Redactor({"EMPTY": ""})
    assert not redactor
    assert redactor.text("text") == "text"
    assert redactor.value([1, "a"]) == [1, "a"]


def test_ordinary_text_is_not_held_back() -> None:
    stream = Redactor({"P": "hunter2"}).stream()
    assert stream.feed("a line\n") == "a line\n"
    assert stream.feed("ends in hunt") == "ends in "
    assert stream.feed("ing") == "hunting"


@given(
    st.dictionaries(st.sampled_from("ABC"), st.text("abc[", min_size=1, max_size=6), max_size=3),
    st.lists(st.text("abc[]secrtABC ", max_size=12), max_size=8),
)
def test_pieces_read_as_the_whole(secrets: dict[str, str], pieces: list[str]) -> None:
    redactor = Redactor(secrets)
    stream = redactor.stream()
    assert "".join([*map(stream.feed, pieces), stream.finish()]) == redactor.text("".join(pieces))
