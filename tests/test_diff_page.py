"""The page of a difference: nothing active survives, it reads in order, and what differs stands side by side."""

import base64
import hashlib
import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from report_pages import EVIL, PIXEL, Page, assert_inert

from kit.artifact import Artifact, InputArtifact
from kit.diff import RecordDiff, ReleaseSide, Side, diff_records, diff_releases
from kit.diff.files import SourceFile
from kit.diff.values import Line, LineKind
from kit.gate import Evidence, Release, Verdict
from kit.gate import Finding as GateFinding
from kit.parameter import ResolvedParameter, Source
from kit.record import Code, Failure, Machine, Status
from kit.report.difference import make_difference_page, render_difference_page, render_line
from kit.testing import START, make_check, make_manifest, make_project, make_record

OTHER_PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"1" * 20).decode()


def code(source: str, *outputs: dict[str, Any], cell_id: str = "a") -> dict[str, Any]:
    return {
        "cell_type": "code", "id": cell_id, "metadata": {}, "source": source, "outputs": list(outputs), "execution_count": 1,
    }  # fmt: skip


def stream(text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": text}


def display(**data: str) -> dict[str, Any]:
    bundle = {name.replace("__", "+").replace("_", "/"): value for name, value in data.items()}
    return {"output_type": "display_data", "data": bundle, "metadata": {}}


def compare(before: list[dict[str, Any]], after: list[dict[str, Any]], **changes: Any) -> RecordDiff:
    sides = [
        Side(record=make_record(**facts), notebook={"cells": cells}, packages={}, sources={}, configuration={})
        for cells, facts in ((before, {}), (after, changes))
    ]
    return diff_records(*sides)


def render(before: list[dict[str, Any]], after: list[dict[str, Any]], **changes: Any) -> str:
    return render_difference_page(compare(before, after, **changes))


@pytest.mark.parametrize("evil", EVIL)
def test_nothing_active_survives_from_cells_and_outputs(evil: str) -> None:
    outputs = (
        stream(evil),
        display(text_html=evil, text_plain=evil),
        display(text_markdown=evil),
        display(text_latex=f"${evil}$"),
        display(**{"text_vnd.mermaid": evil, f"x_{evil}": evil}),
        display(image_svg__xml=f'<svg xmlns="http://www.w3.org/2000/svg">{evil}</svg>'),
        display(image_png=evil, text_plain=evil),
        {"output_type": "error", "ename": evil, "evalue": evil, "traceback": [evil]},
    )
    assert_inert(render([code("1")], [code(evil, *outputs, cell_id=evil)]))
    assert_inert(
        render([code(evil, *outputs)], [code(f"{evil}\n{evil} # 2", stream(f"{evil}2"), display(text_html=evil * 2))])
    )


@pytest.mark.parametrize("evil", EVIL)
def test_nothing_active_survives_from_records(evil: str) -> None:
    hostile = make_record(
        stage=evil,
        status=Status.FAILED,
        environment=evil,
        metrics={evil: evil, "n": 1},
        parameters=(ResolvedParameter(evil, [evil], Source.NOTEBOOK, evil),),
        inputs=(InputArtifact(Artifact(evil, evil, 1, "x"), record=evil), InputArtifact(Artifact("a", "b", 1, "x"), "", evil)),
        outputs=(Artifact(evil, evil, 1, evil),),
        checks=(make_check(evil, evil, errors=(evil,)),),
        failure=Failure(evil, evil, 0),
        determinism={evil: evil},
        machine=Machine(evil, evil, evil, evil, 1, evil, evil, {evil: evil}),
        code=Code(evil, evil, evil, evil, True, evil),
        id="20260301T093000Z-train-4f09c1",
    )  # fmt: skip
    facts: dict[str, Any] = {
        "packages": {evil: evil}, "sources": {evil: SourceFile(evil, evil)}, "configuration": {evil: {evil: evil}},
        "notes": {"notebook": evil},
    }  # fmt: skip
    plain = Side(record=make_record(), notebook={"cells": []}, packages={}, sources={}, configuration={})
    side = Side(record=hostile, notebook={"cells": []}, **facts)
    for pair in ((plain, side), (side, plain), (side, side)):
        assert_inert(render_difference_page(diff_records(*pair), known_records=[evil, hostile.id]))


@pytest.mark.parametrize("evil", EVIL)
def test_nothing_active_survives_from_releases(evil: str) -> None:
    verdict = Verdict(evil, evil, {}, (Evidence(evil, evil, GateFinding.REFUSES, evil),))
    manifest = make_manifest(
        verdict, metrics={evil: evil}, artifacts=(Artifact(evil, evil, 1, "x"),), training_record=evil, commit=evil
    )
    release = Release(id=evil, environment=evil, number=1, time=START, who=evil, record=evil, manifest_sha256="0" * 64)
    hostile = ReleaseSide(release=release, manifest=manifest, sources={evil: SourceFile(evil, evil)})
    plain = ReleaseSide(release=release, manifest=make_manifest(Verdict("dev", "c" * 64, {}, ())), sources={})
    assert_inert(render_difference_page(diff_releases(hostile, plain), known_records=[evil]))


def test_page_has_no_script_and_admits_only_its_own_style() -> None:
    text = render([code("a")], [code("b")])
    page = Page(text)
    policy = next(meta["content"] for meta in page.find("meta") if "http-equiv" in meta)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    expected = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert policy == expected
    assert not page.find("script")
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text)


def test_page_is_accessible_and_reads_in_order() -> None:
    page = Page(
        render(
            [code("plot(1)", display(image_png=PIXEL))],
            [code("plot(2)", display(image_png=OTHER_PIXEL))],
            metrics={"auc": 0.7},
            parameters=(ResolvedParameter("epochs", 3, Source.NOTEBOOK, "int"),),
        )
    )
    assert page.find("html") == [{"lang": "en"}]
    assert len(page.find("main")) == len(page.find("header")) == len(page.find("footer")) == len(page.find("h1")) == 1
    assert page.find("a")[0] == {"class": "skip", "href": "#main"}
    assert all("scope" in head for head in page.find("th"))
    assert len(page.find("caption")) == len(page.find("table"))
    assert [image["alt"] for image in page.find("img")] == ["Output 1 of cell 1 in A", "Output 1 of cell 1 in B"]
    assert [heading for heading, _ in page.headings[:2]] == ["h1", "h2"]
    levels = [int(heading[1]) for heading, _ in page.headings]
    assert all(below <= above + 1 for above, below in itertools.pairwise(levels))
    anchors = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {a["href"][1:] for a in page.find("a") if a["href"].startswith("#")} <= anchors


def test_changed_code_and_text_are_marked_where_they_differ() -> None:
    text = render([code("fit(epochs=2)", stream("auc 0.71\n"))], [code("fit(epochs=3)", stream("auc 0.72\n"))])
    assert (
        '<del class="line">-fit(epochs=<mark>2</mark>)</del><ins class="line">+fit(epochs=<mark>3</mark>)</ins>' in text
    )
    before, after = text.split('<div class="pair">')[1].split('<p class="side">B</p>')
    assert '<del class="line">-auc 0.7<mark>1</mark></del>' in before
    assert '<ins class="line">+auc 0.7<mark>2</mark></ins>' in after


def test_output_that_is_only_volatile_is_folded() -> None:
    text = render([code("f()", stream("took 1.0 s\n"))], [code("f()", stream("took 2.0 s\n"))])
    assert "<summary>Output 1 of cell 1: only times, addresses, paths and the like differ</summary>" in text
    assert "No difference." in text


def test_records_that_are_the_same_have_a_page_that_says_so() -> None:
    text = render([code("a")], [code("a")])
    assert "No difference." in text
    assert "1 cell with their outputs are the same." in text


def test_mark_and_text_are_escaped() -> None:
    assert render_line(Line(LineKind.ADDED, "<a>&<b>", ((0, 3),))) == (
        '<ins class="line">+<mark>&lt;a&gt;</mark>&amp;&lt;b&gt;</ins>'
    )


def test_page_is_written_beside_the_others_and_links_to_pages_that_exist(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    difference = compare([code("a")], [code("b \ud800")], metrics={"größe": 1})
    known = project.reports / "records" / f"{difference.before.id}.html"
    known.parent.mkdir(parents=True)
    known.write_text("x")
    page = make_difference_page(project, difference)
    assert page == project.reports / "diffs" / f"{difference.before.id}--{difference.after.id}.html"
    text = page.read_text("utf-8")
    assert f'<a href="../records/{difference.before.id}.html">' in text
    assert f'href="../records/{difference.after.id}.html"' not in text
    assert "größe" in text


def test_picture_that_is_none_falls_back_to_its_text() -> None:
    text = render([code("p")], [code("p", display(image_png="no picture", text_plain="<Figure>"))])
    assert "&lt;Figure&gt;" in text
    assert "<img" not in text


def make_release(n: int) -> Release:
    return Release(
        id=f"dev-{n}", environment="dev", number=n, time=START, who="ada", record="r", manifest_sha256="0" * 64
    )


def test_release_page_tells_configuration_and_evidence() -> None:
    verdict = Verdict("dev", "c" * 64, {}, (Evidence("metric", "auc", GateFinding.HOLDS, "0.7, at least 0.6"),))
    sides = [
        ReleaseSide(
            release=make_release(n), manifest=make_manifest(verdict, configuration={"limits": {"timeout_s": n}})
        )
        for n in (1, 2)
    ]
    text = render_difference_page(diff_releases(*sides))
    assert "<h1>dev-1 and dev-2</h1>" in text
    assert "limits.timeout_s" in text
    assert "0.7, at least 0.6" in text
