import subprocess
import sys

import pytest


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_nbformat_does_not_import_the_slow_module() -> None:
    pytest.importorskip("rfc3987_syntax")
    code = """
from kit import standins
assert standins.install() and standins.install()
import sys, nbformat
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
nbformat.validate(notebook)
print("rfc3987_syntax.syntax_helpers" in sys.modules)
"""
    assert run_python(code) == "False\n"


@pytest.mark.kernel  # compiles the grammars of the real module
def test_first_use_gives_the_answers_of_the_real_module() -> None:
    pytest.importorskip("rfc3987_syntax")
    code = """
from kit import standins
standins.install()
import sys
from jsonschema import FormatChecker, Draft202012Validator
check = FormatChecker(["iri"])
print([check.conforms(text, "iri") for text in ("http://example.org/ä", "no iri at all")])
print("rfc3987_syntax.syntax_helpers" in sys.modules)
import rfc3987_syntax
print(rfc3987_syntax.__name__, rfc3987_syntax.is_valid_syntax("iri", "http://a/"), standins.install())
"""
    assert run_python(code) == "[True, False]\nTrue\nrfc3987_syntax True False\n"


@pytest.mark.kernel  # compiles the grammars of the real module
def test_other_names_come_from_the_real_module() -> None:
    pytest.importorskip("rfc3987_syntax")
    code = """
from kit import standins
standins.install()
import rfc3987_syntax as standin
print(callable(standin.is_valid_syntax_ipv4_address) if hasattr(standin, "is_valid_syntax_ipv4_address") else "")
print(hasattr(standin, "nothing_of_that_name"))
"""
    assert run_python(code).endswith("False\n")


@pytest.mark.kernel  # compiles the grammars of the real module
def test_the_stand_in_is_still_needed() -> None:
    """If this fails, rfc3987_syntax no longer compiles its grammars at import: remove kit/standins.py."""
    pytest.importorskip("rfc3987_syntax")
    spent = float(
        run_python("import time; t = time.process_time(); import rfc3987_syntax; print(time.process_time() - t)")
    )
    assert spent > 0.1


def test_without_the_module_nothing_is_installed() -> None:
    code = """
import importlib.util, sys
from kit import standins
standins.SLOW = "kit_has_no_such_module"
print(standins.install(), standins.SLOW in sys.modules)
"""
    assert run_python(code) == "False False\n"
