import subprocess
import sys
from pathlib import Path

import pytest


def run_python(code: str) -> str:
    command, tests = [sys.executable, "-c", code], Path(__file__).parent
    return subprocess.run(command, cwd=tests, check=True, capture_output=True, text=True).stdout


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


LATE = """
import sys
from kit.standins import importing_late
"""


def test_late_module_is_not_imported_and_is_the_real_one_when_used() -> None:
    code = """
with importing_late("colorsys", "json.tool", "kit_has_no_such_module"):
    import colorsys
    import json.tool
    from colorsys import hls_to_rgb, ONE_THIRD
    try:
        import kit_has_no_such_module
    except ModuleNotFoundError:
        print("absent")
    from json import tool
print("colorsys" in sys.modules, "json.tool" in sys.modules)
print(hls_to_rgb(0.5, 0.5, 0.0), "colorsys" in sys.modules)
import colorsys as real
print(real.rgb_to_hls is colorsys.rgb_to_hls, type(real) is type(sys), hls_to_rgb.__class__.__name__)
print(callable(tool.main), hasattr(colorsys, "nothing"))
"""
    said = "absent\nFalse False\n(0.5, 0.5, 0.5) True\nTrue True Late\nTrue False\n"
    assert run_python(LATE + code) == said


def test_late_class_can_be_called_derived_from_and_compared_with() -> None:
    code = """
with importing_late("fractions"):
    from fractions import Fraction
print(isinstance(1, Fraction), "fractions" in sys.modules)
half = Fraction(1, 2)
class Mine(Fraction): pass
print(half, isinstance(half, Fraction), isinstance(1, Fraction), Mine.__mro__[1].__name__, Fraction.from_float(0.25))
"""
    assert run_python(LATE + code) == "False False\n1/2 True False Fraction 1/4\n"


def test_package_with_imported_modules_becomes_real_in_place() -> None:
    code = """
import xml
with importing_late("xml.dom"):
    import xml.dom as held
    from xml.dom import minicompat, Node
    import xml.dom.minicompat
print(type(Node).__name__, sys.modules["xml.dom"] is held)
import xml.dom
print(xml.dom is held, xml.dom.Node.ELEMENT_NODE, type(held) is type(sys), xml.dom.minicompat.__name__)
print([name for name in vars(held) if name.startswith("_kit")])
"""
    assert run_python(LATE + code) == "Late True\nTrue 1 True xml.dom.minicompat\n[]\n"


def test_what_was_imported_before_stays_as_it_is() -> None:
    code = """
import colorsys as before
with importing_late("colorsys"):
    import colorsys
print(colorsys is before, sys.modules["colorsys"] is before)
"""
    assert run_python(LATE + code) == "True True\n"


def test_import_that_fails_late_fails_as_it_would_have() -> None:
    code = """
import pathlib, tempfile
folder = tempfile.mkdtemp()
sys.path.append(folder)
pathlib.Path(folder, "kit_broken.py").write_text("raise ImportError('broken on purpose')")
with importing_late("kit_broken"):
    import kit_broken
    from kit_broken import thing
for use in (lambda: kit_broken.other, lambda: thing(), lambda: __import__("kit_broken")):
    try:
        use()
    except ImportError as error:
        print(error)
"""
    assert run_python(LATE + code) == "broken on purpose\n" * 3


@pytest.mark.kernel  # starts one
def test_after_an_execution_every_library_is_whole() -> None:
    code = """
import pathlib, tempfile
from kit.engine import Job, PapermillEngine
from kernels import make_notebook
folder = pathlib.Path(tempfile.mkdtemp())
print(PapermillEngine().execute(Job(notebook=make_notebook("x = 1"), folder=folder, journal=folder, parameters={"x": 2})).status)
from papermill import iorw, engines
print(iorw.requests.Request("GET", "http://a/").url, iorw.FileSelector("a").base_dir, callable(iorw.HadoopFileSystem.from_uri))
print(iorw.retry(stop=iorw.stop_after_attempt(1))(lambda: 3)())
print(engines.PapermillNotebookClient.execute.__qualname__)
import jsonschema, jupyter_client, nbformat, zmq.asyncio, requests, pyarrow.fs, jupyter_client.session
jsonschema.validate(1, {"type": "number"})
print(jupyter_client.KernelManager.__name__, jupyter_client.session.Session.__name__, zmq.asyncio.Socket.__name__)
print(pyarrow.fs.FileSelector is type(iorw.FileSelector("a")), jsonschema.exceptions.ValidationError is nbformat.ValidationError)
try:
    nbformat.validate({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{}]})
except nbformat.ValidationError:
    print("validated")
"""
    assert run_python(code).splitlines() == [
        "succeeded",
        "http://a/ a True",
        "3",
        "PapermillNotebookClient.execute",
        "KernelManager Session Socket",
        "True True",
        "validated",
    ]
