"""The pages in docs/ say what the program does: codes, levels, comparators, links; those on the loop are in test_docs_loop.py."""

import json
import re
import textwrap
from pathlib import Path

import pytest
from pages import PAGES, ROOT, first_column, section_of

from kit import reproduce, verify
from kit.compare import Kind, read_comparators
from kit.decision import WAIVABLE, Rollback, Waiver
from kit.gate import Evidence, Finding, Manifest, Release, Verdict
from kit.ledger import Entry
from kit.ledger import Kind as EntryKind
from kit.measures import MEASURES
from kit.release.contents import Marker


def test_auditors_page_has_every_code_and_its_weight() -> None:
    rows = re.findall(r"^\| `([A-Z-]+)` \| (false|undecided|noted) \|", PAGES["auditing.md"], re.MULTILINE)
    assert [code for code, _ in rows] == [code.value for code in verify.Code]


def test_page_on_reproducing_has_every_comparator_level_and_code() -> None:
    rows = first_column(PAGES["reproducing.md"])
    assert set(rows) == {each.value for each in (*Kind, *reproduce.Level, *reproduce.Code)}
    codes = dict(re.findall(r"^\| `([A-Z-]+)` \| (\d) \|", PAGES["reproducing.md"], re.MULTILINE))
    assert {code.value: reproduce.Finding(code, "", "").exit_code for code in reproduce.Code} == {
        code: int(exit_code) for code, exit_code in codes.items()
    }


def test_declared_comparators_of_the_page_are_read() -> None:
    block = re.search(r"(?:^    .+\n)+", PAGES["reproducing.md"], re.MULTILINE)
    assert block is not None
    assert set(read_comparators(textwrap.dedent(block[0]).encode())) == {
        "predictions.parquet",
        "metrics.auc",
        "cells.timing",
    }


def test_page_on_formats_has_every_key_of_an_entry_and_every_kind() -> None:
    section = section_of("formats.md", "A ledger entry")
    assert sorted(first_column(section)) == sorted(Entry.__struct_fields__)
    assert all(f"`{kind.value}`" in section for kind in EntryKind)


def test_page_on_formats_has_every_key_of_a_release_and_every_finding() -> None:
    section = section_of("formats.md", "release.json")
    assert sorted(first_column(section)) == sorted(Manifest.__struct_fields__)
    for name in (*Verdict.__struct_fields__, *Evidence.__struct_fields__, *Finding):
        assert f"`{name}`" in section


@pytest.mark.parametrize("decision", [Rollback, Waiver])
def test_page_on_formats_has_every_key_of_a_decision(decision: type[Rollback | Waiver]) -> None:
    (row,) = re.findall(rf"^\| `urn:kit-ml:{decision.__name__.lower()}:v1` .+$", PAGES["formats.md"], re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", row)) == set(decision.__struct_fields__)


def test_page_on_formats_has_every_key_of_a_release_file() -> None:
    (row,) = re.findall(r"^\| `kit-release.json` .+$", section_of("formats.md", "A release file"), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", row)) == {*Marker.__struct_fields__, *Release.__struct_fields__}


def test_page_on_gates_has_every_kind_of_evidence_and_every_measure() -> None:
    said = re.search(r"kind: (.+?)\.\n", Evidence.__doc__ or "", re.DOTALL)
    assert said is not None
    kinds = re.findall(r"`(\w+)`", said[1])
    rows = re.findall(r"^\| `(\w+)` \|", PAGES["gates.md"], re.MULTILINE)
    assert sorted(rows) == sorted([*kinds, *MEASURES])


def test_page_on_releases_has_every_kind_that_cannot_be_waived() -> None:
    (sentence,) = re.findall(r"^- (.+) cannot be waived", section_of("releases.md", "Waiving"), re.MULTILINE)
    assert not {*re.findall(r"`(\w+)`", sentence)} & {*WAIVABLE}
    kinds = {*re.findall(r"`(\w+)`", sentence), *WAIVABLE}
    assert kinds <= {*re.findall(r"^\| `(\w+)` \|", PAGES["gates.md"], re.MULTILINE)}
    assert len(kinds) == 11


def heading_anchors(text: str) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", sorted(PAGES))
def test_links_between_pages_lead_somewhere(name: str) -> None:
    folder = ROOT if name == "README.md" else ROOT / "docs"
    for target in re.findall(r"\]\(([^):]+)\)", PAGES[name]):
        path, _, anchor = target.partition("#")
        assert not path or (folder / path).exists(), f"{name} links {target}"
        assert not anchor or anchor in heading_anchors(PAGES[Path(path).name if path else name]), (
            f"{name} links {target}"
        )


def test_readme_leads_to_every_page() -> None:
    linked = {Path(target).name for target in re.findall(r"\]\(docs/([\w.-]+\.md)", PAGES["README.md"])}
    assert linked == {*PAGES} - {"README.md"}


def test_requests_of_the_readme_ask_about_the_same_flight() -> None:
    rows = json.loads((ROOT / "docs" / "predict.json").read_bytes())["instances"]
    tensors = json.loads((ROOT / "docs" / "infer.json").read_bytes())["inputs"]
    assert rows == [{each["name"]: each["data"][0] for each in tensors}]
