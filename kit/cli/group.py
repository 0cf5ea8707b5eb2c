"""`kit`: its commands are those below and the stages of the project that it is called in."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kit.cli.console import print_json, report_error
from kit.cli.memo.looks import watch_looks
from kit.errors import InterruptedByUserError, KitError, UndecidableError
from kit.graph import RELEASE, RUN

if TYPE_CHECKING:
    from kit.cli.memo.recall import Question

COMPLETION = "_KIT_COMPLETE"  # with it a shell asks click what could be typed
BROKEN_PIPE = 141  # 128 + SIGPIPE, as shells have it

# name -> (module, attribute): imported when called, so that `kit --help` stays quick
_COMMANDS = {
    "all": ("kit.cli.stages", "all_command"),
    "sweep": ("kit.cli.sweep", "sweep_command"),
    "status": ("kit.cli.status", "status_command"),
    "records": ("kit.cli.records", "records_command"),
    "show": ("kit.cli.records", "show_command"),
    "open": ("kit.cli.records", "open_command"),
    "diff": ("kit.cli.diff", "diff_command"),
    "why": ("kit.cli.diff", "why_command"),
    "releases": ("kit.cli.releases", "releases_command"),
    "promote": ("kit.cli.releases", "promote_command"),
    "rollback": ("kit.cli.releases", "rollback_command"),
    "history": ("kit.cli.releases", "history_command"),
    "waive": ("kit.cli.releases", "waive_command"),
    "report": ("kit.cli.records", "report_command"),
    "export": ("kit.cli.exchange", "export_command"),
    "import": ("kit.cli.exchange", "import_command"),
    "reproduce": ("kit.cli.reproduce", "reproduce_command"),
    "verify": ("kit.cli.verify", "verify_command"),
    "audit": ("kit.cli.verify", "audit_command"),
    "checkpoint": ("kit.cli.keys", "checkpoint_command"),
    "kernels": ("kit.cli.kernels", "kernels_command"),
    "key": ("kit.cli.keys", "key_command"),
    "lab": ("kit.cli.lab", "lab_command"),
    "serve": ("kit.cli.serve", "serve_command"),
}


class KitGroup(click.Group):
    """The fixed commands, then the project's stages in execution order."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Stages first: they are what people come for."""
        names = _stage_names()
        if names is None:  # a notebook that cannot be read takes the stages from the list, not the help from the screen
            return list(_COMMANDS)
        return [*names, *([] if RUN in names else [RUN]), *_COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name; None if there is none."""
        import importlib

        if cmd_name in _COMMANDS:
            module, attribute = _COMMANDS[cmd_name]
            command: click.Command = getattr(importlib.import_module(module), attribute)
            return command
        from kit.cli.stages import make_stage_command

        command_or_none = make_stage_command(cmd_name)
        if command_or_none is None and cmd_name == RUN:
            from kit.cli.release_file import run_file_command

            return run_file_command
        return command_or_none

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """As click, with the nearest name for one that does not exist."""
        from kit.errors import suggest

        name = args[0]
        if name in (RUN, RELEASE):
            from kit.cli.release_file import find_command

            if command := find_command(args):
                return name, command, args[1:]
        if self.get_command(ctx, name) is None:
            ctx.fail(f"command or stage {name!r}{suggest(name, self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The example, then click's own help."""
        formatter.write("Example: kit all --env dev\n\n")
        super().format_help(ctx, formatter)


def _stage_names() -> list[str] | None:
    """The project's stages in order, none outside of a project; None where they cannot be read, which is said."""
    from kit.project import find_project

    try:
        return [stage.name for stage in find_project(Path.cwd()).read_graph().stages]
    except KitError as error:
        if "lies in no kit project" in str(error):
            return []
        click.echo(f"kit: the project's stages cannot be listed: {error}", err=True)
        return None


@click.command(cls=KitGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kit-ml", prog_name="kit")
def group() -> None:
    """Build, train, release and run machine-learning notebooks, with a sealed record of every execution."""


def conclude(texts: Sequence[str], action: Callable[[], Any]) -> int:
    """Do what a command line asks for, and tell what went wrong; gives the exit code, see `kit.cli.main`."""
    try:
        code = action()
    except click.ClickException as error:
        if "--json" in texts:
            print_json({"error": {"kind": "UsageError", "message": error.format_message()}})
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = report_error(InterruptedByUserError(), as_json="--json" in texts)
    except KitError as error:
        code = report_error(error, as_json="--json" in texts)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone; there is no one to tell
        code = BROKEN_PIPE
    except OSError as error:
        code = report_error(_explain(error, texts), as_json="--json" in texts and error.filename is not None)
    return code if isinstance(code, int) else 0


def execute(texts: Sequence[str], question: Question | None) -> int:
    """Do what a command line asks for.

    Args:
        texts: its words, without the program's name.
        question: the same, where a memo can answer it the next time.
    """
    if question is None:
        return conclude(texts, lambda: _invoke(texts, None))
    with watch_looks(question.clock()) as looks:
        code = conclude(texts, lambda: _invoke(texts, question))
    if code == 0 and question.grounds is not None:
        from kit.cli.memo.keep import keep

        keep(question, looks)
    return code


def _invoke(texts: Sequence[str], question: Question | None) -> Any:
    """As `click.Group.main`, which would call the reader of our output being gone a failure."""
    if COMPLETION in os.environ:
        return group.main(args=list(texts), prog_name="kit", standalone_mode=False)
    try:
        with group.make_context("kit", list(texts), obj=question) as context:
            return group.invoke(context)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except KeyboardInterrupt:
        click.echo(err=True)  # ends the line with the terminal's ^C
        raise


def _explain(error: OSError, texts: Sequence[str]) -> KitError:
    """A full disk, a folder that may not be written: in words, and never as if a claim were false."""
    where = f"{error.filename}: " if error.filename else ""
    sentence = f"{where}{error.strerror or error}"
    decides = any(text in ("verify", "audit", "reproduce") for text in texts[:1])
    return UndecidableError(f"{sentence}; nothing was decided") if decides else KitError(sentence)
