"""`kit release`: the stage of that name, and beside it `kit release export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from kit.cli.console import ExampleCommand, demands_signatures, json_option, open_workbench, print_json, print_progress
from kit.cli.handover import cluster_options, export_to_cluster, refuse_cluster_options
from kit.errors import UsageError
from kit.files import format_bytes

if TYPE_CHECKING:
    from kit.archive import Archive
    from kit.gate import Release
    from kit.release.export import Exported


class ExampleGroup(click.Group):
    """A group whose help begins with an example."""

    def __init__(self, *args: Any, example: str = "", **kwargs: Any) -> None:
        self.example = example
        super().__init__(*args, **kwargs)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The example, then click's own help."""
        formatter.write(f"Example: {self.example}\n\n")
        super().format_help(ctx, formatter)


def make_release_group(stage: ExampleCommand | None) -> click.Group:
    """The command of a project's release stage, which also takes `export`; without such a stage only that."""
    example = stage.example if stage else "kit release export staging-3 -o staging-3.kit"
    group = ExampleGroup(name="release", help=stage.help if stage else "Release files.", example=example)
    if stage:
        group.invoke_without_command, group.no_args_is_help = True, False
        group.params, group.short_help = stage.params, stage.short_help
        group.callback = lambda **values: _execute_unless_subcommand(stage, values)
    group.add_command(export_command)
    return group


def _execute_unless_subcommand(stage: ExampleCommand, values: dict[str, Any]) -> None:
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        if stage.callback:
            stage.callback(**values)
        return
    given = [name for name in values if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if given:
        subcommand = context.invoked_subcommand
        raise UsageError(
            f"options of the stage do not go with `kit release {subcommand}`: write its own behind that word"
        )


@click.command(cls=ExampleCommand, name="export", example="kit release export staging-3 -o staging-3.kit")
@click.argument("release_id", metavar="RELEASE")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The file to write.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@cluster_options
@json_option
def export_command(
    release_id: str, output: Path, force: bool, as_json: bool, kubernetes: bool, **cluster: str | None
) -> None:
    """A release as one file that `kit run FILE` runs and `kit serve --file FILE` serves, without the project and without git.

    The same release gives the same bytes. Every byte is verified on the way.
    """
    from kit.handover import require_servable
    from kit.release.export import export_release

    workbench = open_workbench()
    release = _find_release(workbench.archive, release_id)

    def write(target: Path) -> Exported:
        return export_release(workbench.archive, release, target, workbench.project.name, force=force)

    if kubernetes:
        export_to_cluster(workbench, release, output, cluster, write, as_json=as_json)
        return
    refuse_cluster_options(cluster)
    # a file knows neither revocations nor what the environment demands by now: the last to know is the archive
    signed = demands_signatures(workbench, release.environment)
    require_servable(workbench.archive, release, workbench.trusted_keys, workbench.clock(), signed=signed)
    _show(write(output), as_json=as_json)


def _find_release(archive: Archive, release_id: str) -> Release:
    from kit.errors import UnknownNameError

    release = archive.find_release(release_id)
    if release is None:
        raise UnknownNameError("release", release_id, [each.id for each in archive.list_releases()], "kit releases")
    return release


def _show(exported: Exported, *, as_json: bool) -> None:
    if as_json:
        print_json(exported)
        return
    click.echo(exported.path)
    signed = f"signed by {', '.join(exported.signers)}" if exported.signers else "not signed: nothing says who made it"
    size = format_bytes(exported.size_bytes)
    print_progress(f"{exported.n_files} files, {size}, {signed}; sha256 {exported.sha256}")
