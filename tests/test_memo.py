"""A memo answers with the very words of the ordinary path, and only while nothing that this path looked at has changed."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from benches import Bench, later_ns, make_bench
from lives import STAGING, Life

from kit import provenance
from kit.archive import STATEMENT
from kit.cli.main import main
from kit.cli.memo.keep import MOST, keep, write_memo
from kit.cli.memo.looks import Looks, watch_looks
from kit.cli.memo.recall import FOLDER, ask, recall
from kit.execute import Order
from kit.execute.key import StageKey
from kit.files import tell_look, tell_until
from kit.release import give_waiver, judge_release
from kit.testing import commit_all, make_notebook

COMMANDS = ("status", "all")
ALL = ("all", "--env", "dev")
IMPORTING = make_notebook("import mine, shared", title="Prepare", inputs=["raw.csv"], outputs=["table.csv"])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a project under git in which everything was executed, and a package that it imports; to be copied."""
    folder = tmp_path_factory.mktemp("made")
    make_package(folder, "1.0")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder / "installed")
        bench = make_bench(folder / "project", {"prepare": IMPORTING})
        commit_all(bench.project)
        bench.all()
    return folder


@pytest.fixture
def bench(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The project, in the state that the index of git knows."""
    root = tmp_path / "project"
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    subprocess.run(["git", "-C", str(root), "status"], check=True, capture_output=True)
    monkeypatch.chdir(root)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.syspath_prepend(tmp_path / "installed")
    (tmp_path / "ignore").touch()
    (tmp_path / "gitconfig").write_text(f"[core]\n\texcludesFile = {tmp_path / 'ignore'}\n", encoding="utf-8")
    return Bench(root)


def make_package(folder: Path, version: str) -> None:
    """A package, installed beside the others."""
    metadata = folder / f"installed/mine-{version}.dist-info/METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: mine\nVersion: {version}\n", encoding="utf-8")
    (folder / "installed/mine.py").write_text("FACTOR = 1\n", encoding="utf-8")


def git(bench: Bench, *arguments: str) -> None:
    person = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *person, *arguments], cwd=bench.project.root, check=True, capture_output=True)


def record_of(bench: Bench, stage: str) -> Path:
    return next(bench.project.archive.glob(f"records/*-{stage}-*"))


def object_of(bench: Bench, stage: str) -> Path:
    record = bench.workbench().archive.read_record(record_of(bench, stage).name)
    return bench.workbench().archive.objects.path(record.outputs[0].sha256)


def replace_in_disguise(bench: Bench) -> None:
    """Another file with the same size and times."""
    path = bench.project.root / "notebooks/inner.py"
    status = path.stat()
    other = path.with_name("other")
    other.write_text(path.read_text(encoding="utf-8").replace("2", "7"), encoding="utf-8")
    other.replace(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def rewrite(path: Path, text: str = "other") -> None:
    path.chmod(0o600)
    path.write_text(text, encoding="utf-8")


def write_in_place(bench: Bench, name: str, text: str) -> None:
    rewrite(bench.project.root.parent / name, text)


BREAKS: dict[str, Callable[[Bench], None]] = {
    "file replaced, same size and times": replace_in_disguise,
    "new file that git does not ignore": lambda b: b.write("notebooks/new.txt", "x"),
    "new folder": lambda b: (b.project.root / "more").mkdir(),
    "source deleted": lambda b: (b.project.root / "notebooks/codes.txt").unlink(),
    "notebook renamed": lambda b: (b.project.root / "notebooks/run.ipynb").rename(b.project.root / "notebooks/go.ipynb"),
    "source made executable": lambda b: (b.project.root / "notebooks/inner.py").chmod(0o755),
    "cell": lambda b: b.write_notebook("train", make_notebook("x = 3", inputs=["table.csv"], outputs=["saved_model"])),
    "helper": lambda b: b.write("notebooks/inner.py", "FACTOR = 3\n"),
    "file beside the notebooks": lambda b: b.write("notebooks/codes.txt", "b\n"),
    "parameter": lambda b: b.write("environments/dev.toml", "[parameters]\n"),
    "data": lambda b: b.write("data/raw.csv", "x\n1\n3\n"),
    "lock": lambda b: b.write("requirements.lock", "msgspec\nclick\n"),
    "pyproject.toml": lambda b: b.write("pyproject.toml", '[tool.kit]\nname = "other"\n'),
    "object damaged": lambda b: rewrite(object_of(b, "prepare")),
    "object removed": lambda b: object_of(b, "train").unlink(),
    "record.json damaged": lambda b: rewrite(record_of(b, "train") / "record.json"),
    "statement removed": lambda b: (record_of(b, "prepare") / STATEMENT).unlink(),
    "record removed": lambda b: shutil.rmtree(record_of(b, "train")),
    "record that nobody entered": lambda b: (b.project.archive / "records/20260301T093000Z-train-000000").mkdir(),
    "archive.json": lambda b: rewrite(b.project.archive / "archive.json"),
    "ledger appended to": lambda b: (b.project.archive / "ledger/000000099.json").touch(),
    "last entry of the ledger damaged": lambda b: rewrite(max((b.project.archive / "ledger").iterdir())),
    "commit of no change": lambda b: git(b, "commit", "--allow-empty", "-m", "nothing"),
    "branch at the same commit": lambda b: git(b, "checkout", "-b", "other"),
    "file that git tracks no more": lambda b: git(b, "rm", "--cached", "README.md"),
    "file that git ignores from now on": lambda b: b.write(".gitignore", "archive/\nreports/\n.kit/\ndata/\n*.txt\n"),
    "file that this clone ignores": lambda b: b.write(".git/info/exclude", "*.txt\n"),
    "file that this person ignores": lambda b: write_in_place(b, "ignore", "*.txt\n"),
    "setting of git": lambda b: git(b, "config", "core.fileMode", "false"),
    "package of another version": lambda b: make_package(b.project.root.parent, "2.0"),
    "package changed where it lies": lambda b: write_in_place(b, "installed/mine-1.0.dist-info/METADATA", "Name: x\n"),
    "module that no version tells of": lambda b: write_in_place(b, "installed/mine.py", "FACTOR = 2\n"),
    "execution that goes on": lambda b: (b.project.archive / "records/20260301T093000Z-train-000000.open").mkdir(),
}  # fmt: skip


@pytest.mark.parametrize("change", BREAKS)
def test_whatever_changes_the_ordinary_path_answers(bench: Bench, change: str) -> None:
    command = COMMANDS[list(BREAKS).index(change) % 2]
    assert bench.status().is_up_to_date  # and the copied files are hashed
    assert bench.remember(command)
    assert bench.remembers(command)
    BREAKS[change](bench)
    assert not bench.remembers(command)


CIRCUMSTANCES: dict[str, Callable[[pytest.MonkeyPatch, Path], None]] = {
    "variable of the key": lambda patch, _: patch.setenv("TF_ENABLE_ONEDNN_OPTS", "0"),
    "variable that nobody knows": lambda patch, _: patch.setenv("ANY_OTHER", "1"),
    "path of modules": lambda patch, folder: patch.syspath_prepend(folder),
    "Python": lambda patch, _: patch.setattr(sys, "version", "3.99"),
    "folder": lambda patch, folder: patch.chdir(folder / "project/notebooks"),
    "user": lambda patch, _: patch.setattr(os, "geteuid", lambda: 12345),
}


@pytest.mark.parametrize("change", CIRCUMSTANCES)
def test_in_other_circumstances_the_ordinary_path_answers(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    assert bench.remember("status")
    with monkeypatch.context() as patch:
        CIRCUMSTANCES[change](patch, tmp_path)
        assert not bench.remembers("status")
    assert bench.remembers("status")


@pytest.mark.parametrize("name", ["_", "SHLVL", "OLDPWD", "COLUMNS"])
def test_what_a_shell_sets_for_itself_makes_no_difference(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert bench.remember("status")
    monkeypatch.setenv(name, "other")
    assert bench.remembers("status")


# what of each part of a stage's key is covered by; a new part is to be added here, with a change of it above
COVERED = {
    "stage": "notebook renamed",
    "environment": "environment that is asked for",
    "cells": "cell",
    "helpers": "helper",
    "files": "file beside the notebooks",
    "bundle": "new file that git does not ignore",
    "origin": "commit of no change",
    "parameters": "parameter",
    "inputs": "data",
    "lock": "lock",
    "packages": "package of another version",
    "loose": "module that no version tells of",
    "python": "Python",
    "kit": "kit's sources",
    "variables": "variable of the key",
    "environ": "variable that nobody knows",
    "settings": "parameter",
    "secrets": "parameter",
    "subject": "ledger appended to",
    "drift": "ledger appended to",
}


def test_every_part_of_a_stage_key_is_covered() -> None:
    tested = {*BREAKS, *CIRCUMSTANCES, "environment that is asked for", "kit's sources"}
    assert tuple(COVERED) == StageKey.__struct_fields__
    assert set(COVERED.values()) <= tested


def lines_of(bench: Bench) -> list[str]:
    (memo,) = (bench.project.root / FOLDER).iterdir()
    return memo.read_text(encoding="utf-8").splitlines()


def test_memo_rests_on_all_sources_of_kit(bench: Bench) -> None:
    assert bench.remember("status")
    package = Path(provenance.__file__).parent
    told = {line.rpartition(" ")[2] for line in lines_of(bench)}
    assert {str(path) for path in package.rglob("*.py")} | {str(package)} <= told


def test_memo_holds_no_variables(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAREHOUSE_PASSWORD", "hunter2")
    assert bench.remember("status")
    assert "hunter2" not in "\n".join(lines_of(bench))


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("all", "--force"),
        ("all", "--json"),
        ("status", "dev"),
        ("all", "--env", "dev", "--cold"),
        ("show", "all"),
        ("--help",),
    ],
)
def test_other_command_lines_are_no_question(arguments: tuple[str, ...]) -> None:
    assert ask(arguments, later_ns) is None


def test_another_environment_is_another_question(bench: Bench) -> None:
    assert bench.remember("status")
    question = ask(("status", "--env", "ci"), later_ns)
    assert question
    assert recall(question) is None


class Shell:
    """`kit` as a process calls it, at a time when everything has settled."""

    def __init__(self, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
        self.bench, self._capsys = bench, capsys

    def __call__(self, *arguments: str, clock: Callable[[], int] = later_ns) -> tuple[object, str, str]:
        """Exit code, stdout and stderr."""
        with pytest.raises(SystemExit) as stopped:
            main(arguments, clock)
        return stopped.value.code, *self._capsys.readouterr()

    def forget(self) -> None:
        shutil.rmtree(self.bench.project.root / FOLDER)


@pytest.fixture
def shell(bench: Bench, capsys: pytest.CaptureFixture[str]) -> Shell:
    bench.all()
    bench.project.reports.mkdir(exist_ok=True)
    (bench.project.reports / "index.html").touch()  # a page that is newer than the ledger
    return Shell(bench, capsys)


@pytest.mark.parametrize("command", COMMANDS)
def test_memo_says_what_the_ordinary_path_says(shell: Shell, command: str) -> None:
    ordinary = shell(command, "--env", "dev")
    assert shell.bench.remembers(command)
    assert shell(command, "--env", "dev") == ordinary
    shell.forget()
    assert shell(command, "--env", "dev") == ordinary
    assert ordinary[0] == 0
    assert "up to date" in ordinary[1]


def test_reports_that_are_gone_are_made_again(shell: Shell) -> None:
    assert shell(*ALL)[0] == 0
    assert shell.bench.remembers("all")
    (shell.bench.project.reports / "index.html").unlink()
    assert not shell.bench.remembers("all")


def test_what_changed_just_now_is_not_kept(shell: Shell) -> None:
    assert shell(*ALL, clock=time.time_ns)[0] == 0
    assert not (shell.bench.project.root / FOLDER).exists()


def test_what_is_not_up_to_date_is_not_kept(shell: Shell) -> None:
    shell.bench.write("notebooks/inner.py", "FACTOR = 3\n")
    assert shell("status")[0] == 0
    assert not (shell.bench.project.root / FOLDER).exists()


@pytest.mark.parametrize("damage", ["", "\n", "0" * 64 + "\n1 2\n\n1 all is well\n"])
def test_damaged_memo_is_none(shell: Shell, damage: str) -> None:
    ordinary = shell("status", "--env", "dev")
    (memo,) = (shell.bench.project.root / FOLDER).iterdir()
    memo.write_text(damage, encoding="utf-8")
    assert shell("status", "--env", "dev") == ordinary
    assert shell.bench.remembers("status")


def test_memo_that_lost_its_end_is_none(shell: Shell) -> None:
    ordinary = shell("status", "--env", "dev")
    (memo,) = (shell.bench.project.root / FOLDER).iterdir()
    memo.write_bytes(memo.read_bytes()[:-20])
    assert not shell.bench.remembers("status")
    assert shell("status", "--env", "dev") == ordinary


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_memo_that_others_may_write_is_none(shell: Shell, mode: int) -> None:
    shell("status", "--env", "dev")
    (memo,) = (shell.bench.project.root / FOLDER).iterdir()
    memo.chmod(mode)
    assert not shell.bench.remembers("status")


def test_memo_that_is_a_link_is_none(shell: Shell, tmp_path: Path) -> None:
    shell("status", "--env", "dev")
    (memo,) = (shell.bench.project.root / FOLDER).iterdir()
    memo.rename(tmp_path / "memo")
    memo.symlink_to(tmp_path / "memo")
    assert not shell.bench.remembers("status")


def test_clock_that_was_set_back_asks_the_ordinary_path(bench: Bench) -> None:
    assert bench.remember("status")
    question = ask(("status", "--env", "dev"), lambda: later_ns() - 7_200_000_000_000)
    assert question
    assert recall(question) is None


def test_nothing_but_the_newest_memos_is_kept(tmp_path: Path) -> None:
    for number in range(MOST + 2):
        write_memo(tmp_path, str(number), b"")
    assert len(list(tmp_path.iterdir())) == MOST


def test_full_disk_keeps_nothing_and_is_no_error(bench: Bench) -> None:
    (bench.project.root / FOLDER).write_text("a file where the folder should be", encoding="utf-8")
    assert not bench.remember("status")


def look(bench: Bench, action: Callable[[], object]) -> bool:
    """Whether an answer is kept that did something beside what `kit status` does."""
    question = ask(("status", "--env", "dev"), later_ns)
    assert question
    with watch_looks(later_ns()) as looks:
        bench.status()
        question.grounds = bench.workbench()
        action()
    return keep(question, looks)


DOUBTS: dict[str, Callable[[Bench], object]] = {
    "another program": lambda _: subprocess.run(["true"], check=True),
    "a file without a stamp": lambda _: Path("/proc/self/stat").read_bytes(),
    "a file that was written": lambda b: b.write("data/raw.csv", "x\n1\n2\n"),
    "a folder that was made": lambda b: (b.project.root / "new").mkdir(),
}


@pytest.mark.parametrize("doubt", DOUBTS)
def test_answer_that_rests_on_what_has_no_stamp_is_not_kept(bench: Bench, doubt: str) -> None:
    assert look(bench, lambda: None)
    shutil.rmtree(bench.project.root / FOLDER)
    assert not look(bench, lambda: DOUBTS[doubt](bench))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has a file open for writing")
def test_answer_that_rests_on_a_file_that_is_open_for_writing_is_not_kept(bench: Bench) -> None:
    with (bench.project.root / "notebooks/inner.py").open("a"):
        assert not bench.remember("status")
    assert bench.remember("status")


def test_link_that_leads_elsewhere_on_its_way_asks_the_ordinary_path(bench: Bench, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    (tmp_path / "way").symlink_to("one")
    (tmp_path / "link").symlink_to("way/file")
    assert look(bench, lambda: tell_look(str(tmp_path / "link")))
    assert bench.remembers("status")
    (tmp_path / "way").unlink()
    (tmp_path / "way").symlink_to("two")
    assert not bench.remembers("status")


def test_file_that_was_not_there_asks_the_ordinary_path_once_it_is(bench: Bench, tmp_path: Path) -> None:
    assert look(bench, lambda: tell_look(str(tmp_path / "not/yet")))
    assert bench.remembers("status")
    (tmp_path / "not").mkdir()
    assert bench.remembers("status")
    (tmp_path / "not/yet").touch()
    assert not bench.remembers("status")


def test_folder_that_was_told_counts_with_all_that_it_holds(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "told/below").mkdir(parents=True)
    (tmp_path / "told/below/file").touch()
    assert look(bench, lambda: tell_look(str(tmp_path / "told")))
    assert bench.remembers("status")
    (tmp_path / "told/below/file").write_text("x", encoding="utf-8")
    assert not bench.remembers("status")


def test_nearer_project_asks_the_ordinary_path(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bench.project.root / "notebooks")
    assert bench.remember("status")
    assert bench.remembers("status")
    bench.write("notebooks/pyproject.toml", "[tool.kit]\n")
    assert not bench.remembers("status")


def test_answer_holds_no_longer_than_what_it_rests_on(bench: Bench) -> None:
    moment = datetime.fromtimestamp(later_ns() // 1_000_000_000, UTC) + timedelta(hours=1)
    assert look(bench, lambda: tell_until(moment))
    assert bench.remembers("status")
    question = ask(("status", "--env", "dev"), lambda: later_ns() + 7_200_000_000_000)
    assert question
    assert recall(question) is None


def test_release_that_rests_on_a_waiver_holds_until_that_expires(tmp_path: Path) -> None:
    life = Life(tmp_path, {"dev": '[data]\n"raw.csv" = "data/raw.csv"\n', "staging": STAGING})
    life.train(auc=0.5)
    given = give_waiver(life.bench, "staging", "metric:auc", "new feed", life.clock().date() + timedelta(days=3))
    life.release()
    assert given.waiver
    with watch_looks(later_ns()) as looks:
        judge_release(life.bench, Order("release", "staging"))
    assert looks.until_ns == int(given.waiver.expires.timestamp()) * 1_000_000_000


def test_project_that_comes_under_git_asks_the_ordinary_path(bench: Bench) -> None:
    shutil.rmtree(bench.project.root / ".git")
    bench.all()
    assert bench.remember("status")
    assert bench.remembers("status")
    git(bench, "init", "-q")
    assert not bench.remembers("status")


def test_filter_of_a_person_decides_what_differs_and_has_no_stamp(bench: Bench) -> None:
    bench.write(".gitattributes", "*.ipynb filter=strip\n")
    bench.all()
    assert not bench.remember("status")


def test_nothing_of_the_project_is_looked_at_that_the_memo_does_not_name(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what is only asked for its state, which no audit event tells."""
    seen: set[str] = set()

    def spy(function: Callable[..., object]) -> Callable[..., object]:
        def look(path: object, *more: object, **options: object) -> object:
            if not isinstance(path, int):
                seen.add(os.fspath(Path(os.fsdecode(path)).absolute()))
            return function(path, *more, **options)

        return look

    for command in COMMANDS:
        seen.clear()
        with monkeypatch.context() as patch:
            for name in ("stat", "lstat", "access", "readlink", "open", "scandir", "listdir"):
                patch.setattr(os, name, spy(getattr(os, name)))
            shell(command, "--env", "dev")
        told = {line.rpartition(" ")[2] for line in lines_of(shell.bench)}
        root = f"{shell.bench.project.root}/"
        apart = tuple(
            f"{root}{name}" for name in (".kit", ".git/", "archive/ledger/")
        )  # of entries the folder tells enough
        looked = {path for path in seen if path.startswith(root) and not path.startswith(apart)}
        assert {path for path in looked - told if not Path(path).is_dir()} == set()
        shell.forget()


def test_hook_does_nothing_beyond_its_block() -> None:
    with watch_looks(0) as looks:
        Path(__file__).read_bytes()
    opened = set(looks.opened)
    Path(provenance.__file__).read_bytes()
    assert looks.opened == opened
    assert str(Path(__file__)) in opened


def test_event_that_cannot_be_read_is_a_doubt_and_no_error() -> None:
    looks = Looks(0)
    looks.hear("open", (object(), "r", 0))
    assert len(looks.doubts) == 1


def test_asking_imports_next_to_nothing(bench: Bench) -> None:
    heavy = ("click", "msgspec", "json", "re", "typing", "sqlite3", "pathlib")
    code = (
        "import sys, kit.cli\nfrom kit.cli.memo.recall import ask, recall\nrecall(ask(['all'], lambda: 0))\n"
        f"print(sorted(set(sys.modules) & set({heavy})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
