"""Expectation suites applied to artifacts, failing closed: Great Expectations' own types, and kit's for drift."""

from kit.expectations.check import check_artifact
from kit.expectations.process import CheckRequest, check_in_process

__all__ = ["CheckRequest", "check_artifact", "check_in_process"]
