"""The pages in docs/ say what the program does: codes, levels, comparators, links."""

import re
import textwrap
from pathlib import Path

import pytest

from kit import reproduce, verify
from kit.compare import Kind, read_comparators
from kit.ledger import Entry
from kit.ledger import Kind as EntryKind

ROOT = Path(__file__).parents[1]
PAGES = {path.name: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]}


def first_column(page: str) -> list[str]:
    """What stands in backquotes at the beginning of each row of the page's tables."""
    return re.findall(r"^\| `([^`]+)`", PAGES[page], re.MULTILINE)


def test_auditors_page_has_every_code_and_its_weight() -> None:
    rows = re.findall(r"^\| `([A-Z-]+)` \| (false|undecided|noted) \|", PAGES["auditing.md"], re.MULTILINE)
    assert [code for code, _ in rows] == [code.value for code in verify.Code]


def test_page_on_reproducing_has_every_comparator_level_and_code() -> None:
    rows = first_column("reproducing.md")
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
    section = PAGES["formats.md"].split("## A ledger entry")[1].split("## ")[0]
    keys = re.findall(
        r"`(\w+)`", "".join(line.split("|")[1] for line in section.splitlines() if line.startswith("| `"))
    )
    assert sorted(keys) == sorted(Entry.__struct_fields__)
    assert all(f"`{kind.value}`" in section for kind in EntryKind)


@pytest.mark.parametrize("name", sorted(PAGES))
def test_links_between_pages_lead_somewhere(name: str) -> None:
    folder = ROOT if name == "README.md" else ROOT / "docs"
    for target in re.findall(r"\]\(([^)#:]+)\)", PAGES[name]):
        assert (folder / target).exists(), f"{name} links {target}"
