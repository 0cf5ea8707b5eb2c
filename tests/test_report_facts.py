"""What a record's page tells of its key, its start, its sweep and its attempts."""

import re

from report_pages import make_record

from kit.artifact import Artifact, InputArtifact
from kit.record import Code
from kit.report import render_record_page
from kit.report.survey import survey_records


def test_new_facts_of_a_record_are_shown() -> None:
    record = make_record(
        start="warm",
        preloaded=("numpy", "tensorflow"),
        key="e" * 64,
        sweep="4f09c1a2b3c4" + "0" * 52,
        attempts=("first-try", "second-try"),
    )
    text = render_record_page(record, {}, known_records=["second-try"], sweep_href="../sweeps/sweep-4f09c1a2b3c4.html")
    assert "warm start: forked from a process that had imported <code>numpy</code>, <code>tensorflow</code>" in text
    assert '<dt>Key</dt><dd><code class="sha" title="sha256 ' + "e" * 64 in text
    assert '<a href="../sweeps/sweep-4f09c1a2b3c4.html">sweep-4f09c1a2b3c4</a>' in text
    assert "the scratch folder of 2 earlier attempts: <code>first-try</code>, <a href=" in text
    assert '<a href="./second-try.html"><code>second-try</code></a>' in text


def test_facts_that_are_not_there_are_not_mentioned() -> None:
    text = render_record_page(make_record(), {})
    assert not re.search("<dt>(Kernel|Key|Sweep)</dt>|attempt", text)
    assert "<dt>Kernel</dt><dd>cold start</dd>" in render_record_page(make_record(start="cold"), {})


def test_links_of_a_record_are_what_its_page_links() -> None:
    record = make_record(
        inputs=(InputArtifact(Artifact("x", "a" * 64, 1, "x"), record="made"),),
        code=Code("b" * 64, "notebooks/train.ipynb", "d" * 64, None, False, build="built"),
        reproduces="done",
        attempts=("tried",),
    )
    known = survey_records([record], lambda _: record, [], []).chosen[0].links
    assert known == ("made", "built", "done", "tried")
    text = render_record_page(record, {}, known_records=known)
    assert set(re.findall(r'href="\./([^"]*)\.html"', text)) == set(known)
