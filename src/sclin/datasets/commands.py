"""``sclin data``: list, show, fetch, verify, where."""

from __future__ import annotations

from pathlib import Path

import click

from sclin.datasets import fetch as fetch_entry
from sclin.datasets.schema import TIERS, Entry, RemoteFile, catalogue, source_text
from sclin.datasets.transfer import cache_dir, locate, recorded, search_dirs, sha256_of
from sclin.errors import DataError

__all__ = ["data"]


@click.group()
def data() -> None:
    """Datasets by name: list, show, fetch, verify, where."""


def _entries(tier: str | None = None) -> list[Entry]:
    found = catalogue()
    every = [*found.values(), *found.resources.values()]
    return [entry for entry in every if tier is None or entry.tier == tier]


def _here(entry: Entry) -> str:
    """Say how many of an entry's files are in the cache, by name only."""
    names = [file.name for file in entry.all_files() if "installed" not in file.sources[0]]
    if not names:
        return "ready"
    n = sum(any((folder / name).exists() for folder in search_dirs()) for name in names)
    return f"{n}/{len(names)} files"


@data.command(name="list")
@click.option("--tier", type=click.Choice(TIERS), help="Only this tier.")
def list_entries(tier: str | None) -> None:
    """List datasets and resources: name, tier, cells, genes, what is in the cache."""
    for entry in _entries(tier):
        size = f"{entry.n_obs or '-'} x {entry.n_vars or '-'}"
        size = "resource" if entry.section == "resource" else size
        click.echo(f"{entry.name:24} {entry.tier:10} {size:16} {_here(entry):12} {entry.title}")


@data.command()
@click.argument("name")
def show(name: str) -> None:
    """Show all that the catalogue says about NAME."""
    found = catalogue()
    entry = found.find(name)
    for key, value in entry.record.items():
        if key in ("files", "variant", "shared"):
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{a}={b}" for a, b in value.items())
        for item in value if isinstance(value, list) else [value]:
            click.echo(f"{key:12} {item}")
    if entry.section == "model":
        for path in entry.record["files"]:
            click.echo(f"{'file':12} {path}")
        return
    if entry.option:
        click.echo(f"{entry.option:12} {', '.join(entry.choices)}")
    for file in entry.all_files():
        sha = file.sha256 or recorded(file.name).get("sha256") or "recorded on first fetch"
        click.echo(f"{'file':12} {file.name}  {file.bytes or '?'} bytes  sha256 {sha}")
        for source in file.sources:
            click.echo(f"{'':12}   from {source_text(source, found.wheels)}")


@data.command()
@click.argument("names", nargs=-1)
@click.option("--tier", type=click.Choice(TIERS), help="Everything of this tier.")
@click.option("--option", "choice", metavar="VALUE", help="Tissue, species, state, plate ...")
@click.option("--all", "every", is_flag=True, help="All values of the option.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def fetch(
    names: tuple[str, ...], tier: str | None, choice: str | None, every: bool, quiet: bool
) -> None:
    """Fetch datasets or resources by NAMES, and check their sha256."""
    if not names and tier is None:
        raise click.UsageError("Give names, or --tier.")
    found = catalogue()
    chosen = [found.find(name) for name in names] + (_entries(tier) if tier else [])
    for entry in chosen:
        if choice and not entry.option:
            raise click.UsageError(f"{entry.name} has no option to choose by.")
        values = entry.choices if (every or tier) and entry.option else [choice]
        for value in values:
            options = {entry.option: value} if entry.option and value else {}
            for path in fetch_entry(entry.name, progress=False if quiet else None, **options):
                click.echo(str(path))


@data.command()
@click.argument("names", nargs=-1)
def verify(names: tuple[str, ...]) -> None:
    """Hash what is in the cache and compare; exit code 1 when anything is wrong."""
    found = catalogue()
    entries = [found.find(name) for name in names] or _entries()
    wrong = 0
    seen: set[str] = set()
    for entry in entries:
        for file in entry.all_files():
            if file.name in seen:
                continue
            seen.add(file.name)
            wrong += _verify(file, bool(names))
    if wrong:
        raise click.ClickException(f"{wrong} file(s) are wrong; fetch them again.")


def _verify(file: RemoteFile, report_missing: bool) -> bool:
    paths = [folder / file.name for folder in search_dirs() if (folder / file.name).is_file()]
    if not paths and report_missing:
        click.echo(f"missing  {file.name}")
    wanted = file.sha256 or recorded(file.name).get("sha256")
    bad = False
    for path in paths:
        found = sha256_of(path)
        state = "ok      " if found == wanted else "WRONG   " if wanted else "unknown "
        bad |= state.startswith("WRONG")
        detail = f"  found {found}, wanted {wanted}" if state.startswith("WRONG") else ""
        click.echo(f"{state} {path}{detail}")
    return bad


@data.command()
@click.argument("name", required=False)
def where(name: str | None) -> None:
    """Print the folders that are searched, or where the files of NAME lie."""
    if name is None:
        for folder in search_dirs():
            click.echo(f"{folder}{'  (downloads go here)' if folder == cache_dir() else ''}")
        return
    missing = []
    for file in catalogue().find(name).all_files():
        path: Path | None = locate(file)
        if path is None:
            missing.append(file.name)
        else:
            click.echo(str(path))
    if missing:
        raise DataError(f"Not in the cache: {', '.join(missing)}. `sclin data fetch {name}`.")
