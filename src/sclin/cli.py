"""The command line: ``sclin run · params · data · layers · env``."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, ClassVar

import click

from sclin.errors import SclinError


class _Lazy(click.Group):
    """Groups that are imported when they are called, so that ``sclin --help`` is quick."""

    groups: ClassVar = {"data": "sclin.datasets.commands", "layers": "sclin.layers.commands"}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self.groups})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in self.groups:
            return getattr(importlib.import_module(self.groups[name]), name)
        return super().get_command(ctx, name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SclinError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sclin")
def main() -> None:
    """One protocol for every representation of single cells."""


@main.command()
@click.argument("notebook")
@click.option("-p", "values", nargs=2, multiple=True, metavar="NAME VALUE", help="A parameter.")
@click.option("--profile", default="offline", show_default=True, help="Set of parameters.")
@click.option("--folder", default="notebooks", show_default=True, help="Where notebooks are.")
@click.option(
    "--output", type=Path, help="Executed notebook  [default: _build/runs/NOTEBOOK.ipynb]"
)
@click.option("--results", type=Path, help="Folder of results tables.")
@click.option("--force", is_flag=True, help="Execute even when nothing has changed.")
def run(
    notebook: str,
    values: tuple[tuple[str, str], ...],
    profile: str,
    folder: str,
    output: Path | None,
    results: Path | None,
    force: bool,
) -> None:
    """Execute NOTEBOOK, such as 05_cell_types, with parameters of your own.

    Unless told otherwise, all that it writes goes to _build/runs.
    """
    from sclin import notebooks

    known = notebooks.parameters(notebook, folder=folder)
    given = {name: known[name].parse(text) if name in known else text for name, text in values}
    done = notebooks.run(
        notebook,
        values=given,
        profile=profile,
        folder=folder,
        output=output or Path("_build/runs") / f"{notebook}.ipynb",
        results=results or Path("_build/runs/results"),
        force=force,
    )
    what = "ran" if done.executed else "unchanged, prose renewed"
    click.echo(f"{notebook:<26} {profile:<8} {what} in {done.seconds:.1f} s  {done.path}")


@main.command()
@click.argument("notebook")
@click.option("--folder", default="notebooks", show_default=True, help="Where notebooks are.")
def params(notebook: str, folder: str) -> None:
    """Show every parameter of NOTEBOOK with its type, default and meaning."""
    from sclin import notebooks

    for parameter in notebooks.parameters(notebook, folder=folder).values():
        click.echo(f"{parameter.name}: {parameter.type} = {parameter.default!r}")
        click.echo(f"    {parameter.help}")


@main.command()
def env() -> None:
    """Check every package that sclin needs: OK or FAIL, with the version found."""
    from packaging.requirements import Requirement

    failures = 0
    for line in requires("sclin") or []:
        requirement = Requirement(line)
        if "bench" in str(requirement.marker or ""):
            continue
        try:
            found = version(requirement.name)
            good = requirement.specifier.contains(found, prereleases=True)
        except PackageNotFoundError:
            found, good = "not installed", False
        failures += not good
        wanted = str(requirement.specifier) or "any"
        click.echo(
            f"{'OK  ' if good else 'FAIL'} {requirement.name:<20} {found:<16} wanted {wanted}"
        )
    if failures:
        raise click.ClickException(
            f"{failures} packages are missing or too old; run `make setup` or "
            "`pip install 'sclin[book,models,test]'`."
        )


if __name__ == "__main__":
    main()
