"""YAML that is written here is read as the same value by two readers that others wrote."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from kit.handover.documents import encode_yaml

AWKWARD = [
    "no", "On", "null", "~", "1", "1e3", "0x1f", "0o7", "12:30:00", "2026-03-01", "", " ", "-", "- a", "a: b", "a #b", "#",
    "=", "<<", "*a", "&a", "!a", "|", ">", "%a", "@a", "`a", "a\u0085b", "\u2028", "\ufeff", "\x7f", "\u0000", "a\tb",
    '{"a": 1}', '"\n"', '"a"\n\n b"', '"a"\n\nb ', '"\r\n"', ' "', '"\n---\n"', '"\n...\na',
]  # fmt: skip
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(AWKWARD)
VALUES = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(TEXTS, VALUES, max_size=4).filter(bool))
def test_document_is_read_back_as_it_was_by_yaml_1_1(document: dict[str, Any]) -> None:
    assert yaml.safe_load(encode_yaml(document)) == document


@given(st.dictionaries(TEXTS, VALUES, max_size=4).filter(bool))
def test_document_is_read_back_as_it_was_by_yaml_1_2(document: dict[str, Any]) -> None:
    assert YAML(typ="safe", pure=True).load(encode_yaml(document).decode()) == document


def test_document_reads_plainly() -> None:
    document = {
        "kind": "ConfigMap",
        "immutable": True,
        "metadata": {"name": "delays", "labels": {}, "number": 1},
        "spec": [{"name": "a", "args": ["--file", "/release/a.kit"]}, ["x"], []],
        "data": {"configuration.json": '{"a":1,"b":"c"}', "text": "größe"},
    }
    assert encode_yaml(document).decode() == (
        "kind: ConfigMap\n"
        "immutable: true\n"
        "metadata:\n"
        "  name: delays\n"
        "  labels: {}\n"
        "  number: 1\n"
        "spec:\n"
        "  - name: a\n"
        "    args:\n"
        '      - "--file"\n'
        "      - /release/a.kit\n"
        "  -\n"
        "    - x\n"
        "  - []\n"
        "data:\n"
        "  configuration.json: |-\n"
        '    {"a":1,"b":"c"}\n'
        '  text: "gr\\u00F6\\u00DFe"\n'
    )


@pytest.mark.parametrize("value", [None, 1.5, b"x", {1, 2}])
def test_other_values_have_no_place(value: Any) -> None:
    with pytest.raises(TypeError, match="has no place in a document for a cluster"):
        encode_yaml({"a": [value]})
