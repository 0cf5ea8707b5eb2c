import base64
import hashlib
import re

import pytest
from msgspec.structs import replace
from report_pages import EVIL, PIXEL, START, Page, assert_inert, make_again, make_record

from kit.artifact import Artifact, InputArtifact
from kit.check import CheckResult, ExpectationResult, Finding, Severity
from kit.errors import NotFoundError
from kit.parameter import ResolvedParameter, Source
from kit.record import CellOutcome, CellStatus, Failure, Machine, Status
from kit.report import EvidenceRow, ReleaseRow, render_index, render_record_page, write_reports
from kit.report.index import find_trends
from kit.report.rows import format_number, format_seconds, main_metric
from kit.report.sanitize import clean_html, clean_svg, embed_picture, render_ansi, render_math
from kit.report.style import index_script
from kit.signing import Standing


def make_check(text="because"):
    expectation = ExpectationResult(
        "expect_column_to_exist", {"column": text}, Severity.CRITICAL, text, Finding.ERROR, error=text
    )
    return CheckResult(text, "a" * 64, text, "5" * 64, 3, (expectation,), (text,))


def markdown(source):
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def code(source, *outputs):
    return {"cell_type": "code", "metadata": {}, "source": source, "outputs": list(outputs), "execution_count": 1}


def display(**data):
    bundle = {name.replace("__", "+").replace("_", "/"): value for name, value in data.items()}
    return {"output_type": "display_data", "data": bundle, "metadata": {}}


def stream(text):
    return {"output_type": "stream", "name": "stdout", "text": text}


def make_notebook(*cells):
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells)}


def render(*cells, record=None, **options):
    return render_record_page(record or make_record(), make_notebook(*cells), **options)


@pytest.mark.parametrize("evil", EVIL)
def test_nothing_active_survives_from_a_notebook(evil):
    assert_inert(
        render(
            markdown(
                f"# T {evil}\n\n{evil}\n\n[x](javascript:alert(1)) ![{evil}](https://evil.example/p.png) ${evil}$"
            ),
            markdown(f"```\n{evil}\n```\n\n```mermaid\n{evil}\n```\n\n$$\\text{{{evil}}}$$"),
            code(
                evil,
                stream(evil),
                display(text_html=evil, text_plain=evil),
                display(text_markdown=evil),
                display(text_latex=f"$\\text{{{evil}}}$"),
                display(**{"text_vnd.mermaid": evil, "application_javascript": evil}),
                display(image_svg__xml=f'<svg xmlns="http://www.w3.org/2000/svg">{evil}</svg>'),
                display(image_png=evil, text_plain="p"),
                display(**{f"x_{evil}": evil}),
                {"output_type": "error", "ename": evil, "evalue": evil, "traceback": [evil]},
            ),
        )
    )


@pytest.mark.parametrize("evil", EVIL)
def test_nothing_active_survives_from_a_record(evil):
    record = make_record(
        stage=evil,
        status=Status.FAILED,
        environment=evil,
        metrics={evil: evil, "n": 1},
        parameters=(ResolvedParameter(evil, [evil], Source.NOTEBOOK, evil),),
        inputs=(
            InputArtifact(Artifact(evil, evil, 1, "x"), record=evil),
            InputArtifact(Artifact("a", "b", 1, "x"), "", evil),
        ),
        outputs=(Artifact(evil, evil, 1, evil),),
        checks=(make_check(evil),),
        failure=Failure(evil, evil, 0),
        determinism={evil: evil},
        machine=Machine(evil, evil, evil, evil, 1, evil, evil, {}),
        id="20260301T093000Z-train-4f09c1",
    )
    release = ReleaseRow(
        id=evil,
        environment=evil,
        time=START,
        record=evil,
        who=evil,
        live=True,
        reasons=(evil,),
        evidence=(EvidenceRow(evil, evil, evil, evil),),
    )
    assert_inert(render(code("1"), record=record, known_records=[evil]))
    assert_inert(render_index([record], [release], environments=[evil], title=evil), n_scripts=1)


def test_record_page_has_no_script_and_the_strict_policy():
    page = Page(render(markdown("# T")))
    policy = next(m["content"] for m in page.find("meta") if "http-equiv" in m)
    assert re.fullmatch(
        r"default-src 'none'; img-src data:; style-src 'sha256-[^']+'; base-uri 'none'; form-action 'none'", policy
    )
    assert not page.find("script")


def test_index_script_is_the_one_that_the_policy_admits():
    text = render_index([make_record()])
    assert f"<script>{index_script()}</script>" in text
    policy = next(m["content"] for m in Page(text).find("meta") if "http-equiv" in m)
    digest = base64.b64encode(hashlib.sha256(index_script().encode()).digest()).decode()
    assert policy.endswith(f"; script-src 'sha256-{digest}'")


def test_page_reads_in_order_with_one_first_heading():
    text = render(
        markdown("# Will it be late?\n\nWhy."),
        markdown("## Curve\n### Detail"),
        record=make_record(checks=(make_check(),)),
    )
    assert Page(text).headings == [
        ("h1", "Will it be late?"),
        ("h2", "Contents"),
        ("h2", "Metrics"),
        ("h2", "Checks"),
        ("h3", "because"),
        ("h2", "Parameters"),
        ("h2", "Inputs and outputs"),
        ("h2", "Notebook"),
        ("h3", "Curve"),
        ("h4", "Detail"),
        ("h2", "Provenance"),
    ]


def test_page_is_accessible():
    page = Page(render(markdown("# T\n\n## Curve"), code("plot()", display(image_png=PIXEL))))
    assert page.find("html") == [{"lang": "en"}]
    assert len(page.find("main")) == len(page.find("header")) == len(page.find("footer")) == 1
    assert page.find("a")[0] == {"class": "skip", "href": "#main"}
    assert [image["alt"] for image in page.find("img")] == ["Figure 1, in “Curve”"]
    assert len(page.find("caption")) == len(page.find("table"))
    assert all("scope" in head for head in page.find("th"))


def test_every_link_inside_the_page_leads_somewhere():
    record = make_record(status=Status.FAILED, failure=Failure("E", "m", 1))
    page = Page(render(markdown("# T\n\n## A"), code("1/0"), record=record))
    anchors = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {a["href"][1:] for a in page.find("a") if a["href"].startswith("#")} <= anchors


def test_failed_record_says_where_and_why_first():
    record = make_record(
        status=Status.FAILED,
        failure=Failure("ZeroDivisionError", "division by zero", 1),
        cells=(CellOutcome(1, "b", CellStatus.FAILED, 2, 0.1),),
    )
    text = render(code("x = 1"), code("1/0"), record=record)
    assert text.index("division by zero") < text.index("Contents")
    assert '<div class="cell bad" id="cell-1">' in text
    assert text.count("<details open>") == 1


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.SUCCEEDED])
def test_record_that_did_not_succeed_never_looks_as_if(status):
    text = render(record=make_record(status=status, ended=None))
    assert 'class="pill good"' not in text
    assert 'class="failure' in text


def test_producer_is_linked_only_where_it_has_a_page():
    assert '<a href="./made-it.html">' in render(known_records=["made-it"])
    assert '<a href="./made-it.html">' not in render()


def test_input_that_changed_while_it_ran_is_pointed_out():
    item = InputArtifact(Artifact("a", "1" * 64, 1, "x"), source="data/a", sha256_after="2" * 64)
    assert "changed while it ran" in render(record=make_record(inputs=(item,)))


def test_output_over_the_budget_is_said():
    record = make_record(cells=(CellOutcome(0, "a", CellStatus.SUCCEEDED, 1, 1.0, 12345),))
    assert "12.3 kB of output went over the budget" in render(code("x"), record=record)


def test_tables_of_outputs_keep_their_structure():
    table = '<table border="1"><thead><tr><th>a</th></tr></thead><tbody><tr><th>0</th><td>1</td></tr></tbody></table>'
    assert table.replace(' border="1"', "") in render(code("t", display(text_html=f"<style>x</style>{table}")))


def test_html_output_without_content_falls_back_to_text():
    assert "plain words" in render(code("t", display(text_html="<script>1</script>", text_plain="plain words")))


def test_scraps_are_not_shown_as_outputs():
    scrap = display(**{"application_scrapbook.scrap.json__json": {"name": "auc", "data": 0.5}})
    assert "is not shown" not in render(code("t", scrap))


def test_output_of_an_unknown_type_is_said():
    assert "An output of type text/vnd.mermaid is not shown" in render(
        code("t", display(**{"text_vnd.mermaid": "graph"}))
    )


def test_mathematics_becomes_mathml():
    text = render(markdown(r"Loss $\frac{1}{n}$" "\n\n" r"$$\begin{aligned} a &= b \\ c &= d \end{aligned}$$"))
    assert "<mfrac>" in text
    assert "<mtable>" in text
    assert '<math display="block">' in text


def test_mathematics_that_cannot_be_converted_stays_readable():
    assert "<code>" in render_math(r"\left(", display=True)


def test_missing_attachment_leaves_the_text():
    assert "attachment:gone.png" in render(markdown("![x](attachment:gone.png)"))


def test_attachment_is_embedded():
    cell = markdown("![x](attachment:p.png)") | {"attachments": {"p.png": {"image/png": PIXEL}}}
    assert f'src="data:image/png;base64,{PIXEL}"' in render(cell)


def test_terminal_colours_become_classes():
    assert render_ansi("\x1b[31m<b>\x1b[0m") == '<span class="ansi-red-fg">&lt;b&gt;</span>'


def test_svg_is_rebuilt_without_what_could_act():
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" onload="a()">'
        '<script>a()</script><foreignObject><p>x</p></foreignObject><a href="javascript:a()"><path d="M0 0"/></a>'
        "<style>path{fill:url(https://evil.example)}</style><style>path{fill:red}</style>"
        '<use xlink:href="#p"/><use xlink:href="https://evil.example/#p"/><set attributeName="href"/>'
        '<rect style="fill:url(https://evil.example)" fill="url(#g)"/></svg>'
    )
    cleaned = clean_svg(svg).decode()
    assert not re.search("script|foreign|onload|evil|javascript|<set", cleaned)
    assert all(kept in cleaned for kept in ("path{fill:red}", 'href="#p"', 'fill="url(#g)"'))


@pytest.mark.parametrize(
    "svg", ["", "<p/>", "<svg", '<!DOCTYPE x [<!ENTITY a "b">]><svg xmlns="http://www.w3.org/2000/svg"/>']
)
def test_svg_that_is_none_is_refused(svg):
    assert clean_svg(svg) is None


def test_picture_must_be_what_it_says():
    assert embed_picture("image/png", PIXEL) == f"data:image/png;base64,{PIXEL}"
    assert embed_picture("image/jpeg", PIXEL) is None
    assert embed_picture("image/png", "%%%") is None


def test_clean_html_keeps_headings_and_links():
    assert clean_html('<h3>a</h3><a href="https://example.org">b</a>') == (
        '<h3>a</h3><a href="https://example.org" rel="noopener noreferrer nofollow">b</a>'
    )


def test_index_shows_what_is_live_and_what_was_refused():
    good = ReleaseRow(id="dev-3", environment="dev", time=START, record="r", who="ada", live=True)
    bad = ReleaseRow(
        id="", environment="staging", time=START, record="s", who="ada", passed=False, reasons=("auc 0.87 above 0.80",)
    )
    text = render_index([make_record()], [good, bad], environments=["production"], title="flights")
    assert "<h1>flights</h1>" in text
    assert "auc 0.87 above 0.80" in text
    assert text.index("production") < text.index("nothing live") < text.index("dev-3")


def test_index_lists_records_newest_first():
    text = render_index([make_record(n=1), make_record(n=3), make_record(n=2)])
    ids = re.findall(r'<th scope="row"><a href="./records/([^"]+)\.html"', text)
    assert ids == sorted(ids, reverse=True)
    assert len(ids) == 3


def test_index_of_nothing_says_what_to_do():
    text = render_index([])
    assert "No record yet" in text
    assert "<script" not in text


def test_trend_needs_two_succeeded_records():
    records = [make_record(n=n, metrics={"auc": value}) for n, value in enumerate([0.5, 0.7])]
    failed = make_record(n=5, status=Status.FAILED)
    (trend,) = find_trends([*records, failed])
    assert (trend.values, trend.points) == ((0.5, 0.7), "0.00,27.00 100.00,3.00")
    assert find_trends([records[0], failed]) == []


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [({}, None), ({"ok": True, "kind": "x"}, None), ({"n": 3, "auc": 0.5}, ("auc", 0.5)), ({"n": 3}, ("n", 3.0))],
)
def test_main_metric_is_a_number(metrics, expected):
    assert main_metric(make_record(metrics=metrics)) == expected


def test_numbers_and_durations_read_well():
    assert [format_number(v) for v in (336776, 0.72, 3.0, 1e-7, True, "NaN", 12345.67)] == [
        "336\u202f776", "0.7200", "3", "1e-07", "True", "NaN", "12\u202f345.7",
    ]  # fmt: skip
    assert [format_seconds(v) for v in (None, 0.42, 12.3, 185, 7800)] == [
        "–",
        "0.4 s",
        "12 s",
        "3 min 5 s",
        "2 h 10 min",
    ]


def test_site_has_a_page_for_each_record_and_an_index(tmp_path):
    records = [make_record(n=n) for n in range(2)]
    index = write_reports(records, lambda _: make_notebook(code("x")), [], tmp_path)
    assert index == tmp_path / "index.html"
    assert sorted(path.stem for path in (tmp_path / "records").iterdir()) == [record.id for record in records]


def test_page_that_is_up_to_date_is_not_made_again(tmp_path):
    asked = []

    def read_notebook(record_id):
        asked.append(record_id)
        return make_notebook(code("x"))

    old, new = make_record(n=0), make_record(n=1)
    write_reports([old], read_notebook, [], tmp_path)
    write_reports([old, new], read_notebook, [], tmp_path)
    assert asked == [old.id, new.id]


def test_page_of_an_open_record_is_always_made_again(tmp_path):
    asked = []
    record = make_record(status=Status.STARTED, ended=None)
    for _ in range(2):
        write_reports([record], lambda record_id: asked.append(record_id) or {}, [], tmp_path)
    assert len(asked) == 2


@pytest.mark.parametrize("error", [NotFoundError("gone"), OSError("gone"), ValueError("no JSON")])
def test_record_without_a_notebook_has_a_page_that_says_so(tmp_path, error):
    def read_notebook(_):
        raise error

    write_reports([make_record()], read_notebook, [], tmp_path)
    assert "There is no executed notebook to show" in next((tmp_path / "records").iterdir()).read_text()


def make_reproduction():
    return make_record(n=1, reproduces=make_record().id)


def text_of(html_):
    return " ".join(re.sub(r"<[^>]*>", " ", html_).split())


def test_original_lists_what_did_it_again():
    again = make_again()
    text = render(reproductions=[again], known_records=[again.again])
    section = text_of(text.split('<h2 id="again">')[1].split("</section>")[0])
    assert section.endswith(
        f"holds bit-identical not independently: why ben@other, 1 Mar 2026, 09:30 UTC; not signed {again.again}"
    )
    assert f'<a href="./{again.again}.html">' in text
    assert '<a href="#again">' in text
    assert 'id="again"' not in render()


def test_reproduction_says_under_its_headline_what_it_found():
    text = render(record=make_reproduction(), reproductions=[make_again()])
    sentence = text_of(text.split('<p class="again">')[1].split("</p>")[0])
    assert sentence == (
        f"Does {make_record().id} again: holds its outputs are bit-identical; not independently: why; the comparison is "
        "not signed."
    )
    assert 'id="again"' not in text


def test_reproduction_without_a_comparison_does_not_look_as_if_it_held():
    text = render(record=make_reproduction())
    assert "no comparison of the two could be read from the ledger" in text
    assert text.count('class="pill good"') == 1  # that of its status


@pytest.mark.parametrize(
    ("changes", "pill"),
    [
        ({"exit_code": 1}, '<span class="pill bad">is FALSE</span>'),
        ({"exit_code": 3}, '<span class="pill open">could not be decided</span>'),
        ({"exit_code": 3, "problem": "gone"}, '<span class="pill bad">not reliable</span>'),
    ],
)
def test_claim_that_does_not_hold_never_looks_as_if(changes, pill):
    again = make_again(**changes)
    assert pill in render(reproductions=[again])
    assert pill in render(record=make_reproduction(), reproductions=[again])
    assert again.problem in render(reproductions=[again])


def test_nothing_active_survives_from_a_comparison():
    evil = "<script>x</script>`<img src=x onerror=x>`"
    again = make_again(who=evil, independence=evil, signer=evil, problem=evil, standing=Standing.UNKNOWN_KEY)
    for record in (make_record(), make_reproduction()):
        assert_inert(render(record=record, reproductions=[again]))


def test_page_is_made_again_when_its_record_was_done_again(tmp_path):
    asked = []

    def make(*reproductions):
        asked.clear()
        records = [make_record(), make_reproduction(), make_record(n=2)]
        write_reports(records, lambda name: asked.append(name) or {}, [], tmp_path, reproductions=reproductions)
        return sorted(asked)

    ids = [make_record().id, make_reproduction().id]
    make()
    assert make() == []
    assert make(make_again()) == ids
    assert make(make_again()) == []
    assert make(make_again(sha256="2" * 64)) == ids
    assert make(make_again(sha256="2" * 64, problem="gone")) == ids


def test_index_marks_reproductions_and_rests_nothing_on_them():
    records = [make_record(metrics={"auc": 0.5}), make_record(n=2, metrics={"auc": 0.6})]
    again = make_record(n=3, status=Status.FAILED, reproduces=records[0].id, metrics={"auc": 0.9})
    index = render_index([*records, again])
    assert index.count('<span class="tag" title="does') == 1
    assert "last execution: train succeeded" in text_of(index)
    (trend,) = find_trends([*records, make_record(n=4, reproduces=records[0].id, metrics={"auc": 0.9})])
    assert trend.values == (0.5, 0.6)


def test_what_stands_between_backticks_is_code():
    assert '<p class="quiet">none; <code>kit key new</code> &lt;b&gt;</p>' in render_index(
        [], coverage="none; `kit key new` <b>"
    )
    assert "<dd>signed; <code>kit verify --keys</code> decides</dd>" in render(
        signature="signed; `kit verify --keys` decides"
    )


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (Status.SUCCEEDED, "from the sealed record"),
        (Status.FAILED, "from the sealed record"),
        (Status.LOST, "from what is there of the record"),
        (Status.STARTED, "from what there was of the open record"),
    ],
)
def test_page_says_what_it_was_made_from(status, words):
    text = render(record=make_record(status=status, ended=None))
    assert f"{words} <code>" in text
    assert text.count("sealed record <code>") == (words == "from the sealed record")


def test_one_of_a_kind_is_counted_as_one():
    check = make_check()
    text = render(record=make_record(checks=(replace(check, n_rows=1),)))
    assert "1 expectation on 1 row of" in text
    assert "1 expectation on 3 rows of" in render(record=make_record(checks=(check,)))
    assert '<p class="headline">1 record' in render_index([make_record()]).replace("1 record,", "1 record ,")
