"""Reports: a static site over records, made from values, with no script in record pages and no outside request.

Views only: nothing here is part of a sealed record, and everything can be made again at any time.
"""

from kit.report.index import render_index
from kit.report.page import render_record_page
from kit.report.rows import EvidenceRow, ReleaseRow
from kit.report.site import write_reports
from kit.report.sweep import PointView, SweepView, render_sweep, write_sweep_page
from kit.report.views import make_page, make_reports, read_executed_notebook

__all__ = [
    "EvidenceRow",
    "PointView",
    "ReleaseRow",
    "SweepView",
    "make_page",
    "make_reports",
    "read_executed_notebook",
    "render_index",
    "render_record_page",
    "render_sweep",
    "write_reports",
    "write_sweep_page",
]
