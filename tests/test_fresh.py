"""A module in a fresh process: its answer, or why there is none; nothing that it does is taken for an answer."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import msgspec
import pytest

from kit.errors import UsageError
from kit.fresh import NoAnswer, answer, ask, first_line


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: str


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: str


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Makes a module of a body, which has `order` and `answer` as paths, for fresh processes to import."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def make(body: str) -> str:
        start = "import sys, os, time, pathlib\norder, answer = map(pathlib.Path, sys.argv[1:])\n"
        (tmp_path / "asked.py").write_text(start + textwrap.dedent(body))
        return "asked"

    return make


def test_answer_is_read(module):
    name = module("answer.write_bytes(order.read_bytes())")
    assert ask(name, Order("ü"), Answer, timeout_s=60) == Answer("ü")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("pass", NoAnswer("ended with 0 and no answer")),
        ("print('first\\nlast words')", NoAnswer("ended with 0 and no answer", "last words")),
        ("raise ValueError('no')", NoAnswer("ended with 1 and no answer", "ValueError: no")),
        ("answer.write_text('{')", NoAnswer("ended with 0 and no answer")),
        ("""answer.write_text('{"text": 1}')""", NoAnswer("ended with 0 and no answer")),
        ("""answer.write_text('{"text": "", "more": 1}')""", NoAnswer("ended with 0 and no answer")),
        ("answer.mkdir()", NoAnswer("ended with 0 and no answer")),
        ("answer.write_bytes(order.read_bytes()); os._exit(3)", NoAnswer("ended with 3")),
        ("os.kill(os.getpid(), 9)", NoAnswer("ended with -9 and no answer")),
        ("print('x' * 400, flush=True); os._exit(3)", NoAnswer("ended with 3 and no answer", "x" * 300)),
        ("sys.stdout.buffer.write(b'\\xff')", NoAnswer("ended with 0 and no answer", "\N{REPLACEMENT CHARACTER}")),
    ],
)
def test_whatever_is_no_answer_says_what_happened(module, body, expected):
    assert ask(module(body), Order(""), Answer, timeout_s=60) == expected


def test_process_that_takes_too_long_is_stopped(module, tmp_path):
    name = module(f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid())); time.sleep(600)")
    before = time.monotonic()
    found = ask(name, Order(""), Answer, timeout_s=1)
    assert found == NoAnswer("gave no answer in 1 s", is_late=True)
    assert time.monotonic() - before < 60
    if (tmp_path / "pid").exists():  # it came that far
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)


def test_process_that_does_not_start_is_no_answer(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    found = ask("kit", Order(""), Answer, timeout_s=60)
    assert found == NoAnswer("did not start: No such file or directory")
    assert found.describe("the process") == "the process did not start: No such file or directory"


def test_process_has_no_key_no_input_and_an_empty_folder_of_its_own(module, monkeypatch):
    monkeypatch.setenv("KIT_SIGNING_KEY", "secret")
    name = module("""
        found = [os.environ.get("KIT_SIGNING_KEY"), os.environ["MORE"], sys.stdin.read(), *sorted(os.listdir())]
        answer.write_text(repr(found).replace("'", '"').replace("None", "null"))
    """)
    found = ask(name, Order(""), list[str | None], timeout_s=60, variables={"MORE": "yes"})
    assert found == [None, "yes", "", "log.txt", "order.json"]


def test_answering_reads_the_order_and_writes_what_the_work_gives(tmp_path):
    (tmp_path / "order").write_text('{"text": "a"}')
    answer([str(tmp_path / "order"), str(tmp_path / "answer")], Order, lambda order: Answer(order.text * 2))
    assert (tmp_path / "answer").read_text() == '{"text":"aa"}'


def test_work_that_fails_leaves_no_answer(tmp_path):
    def fail(order: Order) -> Answer:
        raise UsageError(order.text)

    (tmp_path / "order").write_text('{"text": "a"}')
    with pytest.raises(UsageError, match="a"):
        answer([str(tmp_path / "order"), str(tmp_path / "answer")], Order, fail)
    assert not (tmp_path / "answer").exists()


def test_exception_becomes_one_line():
    assert first_line(UsageError("no\nmore")) == "no"
    assert first_line(ValueError("\n x\ny")) == "ValueError: x"
    assert first_line(KeyError()) == "KeyError: "


def test_what_asks_imports_nothing_heavy():
    heavy = ("numpy", "pandas", "tensorflow", "great_expectations", "pyarrow")
    code = f"import sys, kit.fresh; sys.exit(sum(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_folder_of_the_process_is_gone_afterwards(module, tmp_path):
    name = module(f"pathlib.Path({str(tmp_path / 'where')!r}).write_text(os.getcwd())")
    ask(name, Order(""), Answer, timeout_s=60)
    assert not Path((tmp_path / "where").read_text()).exists()


@pytest.mark.parametrize("answered", ["b'\\xff'", "b'[' * 100_000"])
def test_answer_that_is_no_text_or_too_deep_is_no_answer(module, answered):
    name = module(f"pathlib.Path('answer.json').write_bytes({answered})")
    found = ask(name, Order(""), Answer, timeout_s=60)
    assert isinstance(found, NoAnswer)
    assert found.problem == "ended with 0 and no answer"
