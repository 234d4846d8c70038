"""The command line: ``sclin judge · plan · run · params · data · layers · env``.

What a command needs is imported when it is called, so that ``sclin --help`` is quick.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import click

from sclin.errors import DataError, InputError, SclinError

__all__ = ["main"]


class _Error(click.ClickException):
    """What leaves the command line in words; checks that fail leave with exit code 1."""

    exit_code = 2


class _Group(click.Group):
    """Commands whose errors are told without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except (SclinError, OSError) as error:
            raise _Error(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sclin")
def main() -> None:
    """One protocol for every representation of single cells."""


# Your cells ---------------------------------------------------------------------------------------


def _pairs(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """NAME=FILE, as often as it is given."""
    pairs = dict(text.partition("=")[::2] for text in given)
    if not all(name and file for name, file in pairs.items()):
        raise click.BadParameter("give NAME=FILE, such as scgpt=scgpt.npy.")
    return pairs


@main.command("judge")
@click.argument("cells")
@click.option("--cell-type", metavar="COL", help="Column of cell types.")
@click.option("--donor", metavar="COL", help="Column of donors; each is held out once.")
@click.option("--condition", metavar="COL", help="Column of disease or treatment.")
@click.option("--time", metavar="COL", help="Column of times: numbers, 24h, ordered categories.")
@click.option("--perturbation", metavar="COL", help="Column of perturbations.")
@click.option("--control", default="control", show_default=True, help="Label of unperturbed cells.")
@click.option("--layer", metavar="NAME", help="Matrix: X, raw or a layer  [default: found]")
@click.option("--values", type=click.Choice(["counts", "log", "linear"]), help="What it holds.")
@click.option("--labels", metavar="FILE", help="Table of labels by cell name.")
@click.option("--representations", metavar="A,B", help="Only these, such as rank,obsm:X_scgpt.")
@click.option("--embedding", "embeddings", multiple=True, metavar="NAME=FILE", callback=_pairs,
              help="An embedding made elsewhere.")  # fmt: skip
@click.option("--max-cells", default=5000, show_default=True, help="Draw so many of more cells.")
@click.option("--min-cells", default=20, show_default=True, help="Cells that a class needs.")
@click.option("--seed", default=0, show_default=True, help="Seed of every random step.")
@click.option("--report", metavar="FILE.html", help="The page  [default: named by data and time]")
@click.option("--json", "file", type=click.Path(path_type=Path), help="The same for machines.")
def judge_cells(cells: str, report: str | None, file: Path | None, **options: Any) -> None:
    """Judge representations on CELLS, a file or the name of a dataset, and write one page.

    Every array of obsm competes with lognorm, hvg_pca, rank, rank_pca and the controls.
    """
    import json
    import shlex

    from sclin.judgement import judge
    from sclin.report import new_file, write

    new_file(report, "")  # said before time is spent
    if names := options.pop("representations"):
        options["representations"] = [name.strip() for name in names.split(",")]
    found = judge(cells, progress=True, **options)
    found.command = shlex.join(["sclin", *sys.argv[1:]])
    about = found.about
    size = f"{about['n_cells']:,} cells x {about['n_genes']:,} genes"
    click.echo(f"{about['dataset']}: {size}, {about['values']} from {about['matrix']}")
    for row in found.dropped:
        click.echo(f"left out: {row['n']:,} {row['what']} ({row['why']})")
    for text in found.warnings:
        click.echo(f"note: {text}")
    for task, row in found.tasks.items():
        click.echo(f"\n{task}: {row['reason']}")
        if task in found.found:
            said = found.verdict.loc[task]
            click.echo(f"  {said['answer']}\n  {said['verdict']}")
    if file is not None:
        file.write_text(json.dumps(found.json(), indent=1), encoding="utf-8")
    click.echo(f"\nreport: {write(found, report).absolute()}")


@main.command("plan")
@click.argument("task", required=False)
@click.argument("dataset", required=False)
@click.option("--measure", is_flag=True, help="Measure this machine again, in about a minute.")
def plan_job(task: str | None, dataset: str | None, measure: bool) -> None:
    """Say what TASK on DATASET will cost, and what makes it fit.

    TASK is rank, pipeline, evaluate, judge or layers:MODEL; DATASET a file, a name of the
    catalogue, or CELLSxGENES. This machine is measured the first time.
    """
    from sclin import plan

    if measure:
        plan.measure()
    if not measure or task:
        click.echo(plan.plan(task or "", dataset or ""))


# Chapters -----------------------------------------------------------------------------------------


@main.command()
@click.argument("notebook")
@click.option("-p", "values", nargs=2, multiple=True, metavar="NAME VALUE", help="A parameter.")
@click.option("--profile", default="offline", show_default=True, help="Set of parameters.")
@click.option("--folder", type=Path, help="Where notebooks are  [default: those of the book]")
@click.option("--output", type=Path, help="Executed notebook  [default: a new one in _build/runs]")
@click.option("--results", type=Path, help="Results tables  [default: _build/runs/results]")
@click.option("--force", is_flag=True, help="Execute even when nothing has changed.")
def run(notebook: str, values: tuple[tuple[str, str], ...], **options: Any) -> None:
    """Execute NOTEBOOK, such as 05, cell or 05_cell_types, with parameters of your own.

    VALUE is a number, a text, true or false, or a list: items with commas between, as in
    -p try_genes 500,1000. A list with an item that holds a comma is written in brackets with
    quotation marks: '["a, b", "c"]'; [] is empty. `sclin params NOTEBOOK` shows all.
    """
    from sclin import notebooks

    chosen = {key: value for key, value in options.items() if value is not None}
    done = notebooks.run(notebook, values=dict(values), **chosen)
    what = "ran" if done.executed else "is unchanged, prose renewed"
    click.echo(f"{done.path.stem} ({done.profile}) {what} in {done.seconds:.1f} s")
    click.echo(f"page:   {done.path}")
    if len(done.table):
        click.echo(f"table:  {done.path.with_suffix('.csv')}")
    for line in (*done.told, *notebooks.claims.verdicts(done.table)):
        click.echo(line)


@main.command()
@click.argument("notebook")
@click.option("--folder", type=Path, help="Where notebooks are  [default: those of the book]")
def params(notebook: str, folder: Path | None) -> None:
    """Show every parameter of NOTEBOOK (05, cell or 05_cell_types): type, default, meaning.

    Defaults are written as `sclin run NOTEBOOK -p NAME VALUE` takes them.
    """
    from sclin import notebooks

    for each in notebooks.parameters(notebook, folder=folder or notebooks.CHAPTERS).values():
        click.echo(f"{each.name}: {each.type} = {each.written}\n    {each.help}")


@main.command()
def env() -> None:
    """Check every package that sclin needs: OK or FAIL, with the version found."""
    from packaging.requirements import Requirement

    failures = 0
    for requirement in map(Requirement, requires("sclin") or []):
        if "bench" in str(requirement.marker or ""):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            found = "missing"
        good = found != "missing" and requirement.specifier.contains(found, prereleases=True)
        failures += not good
        wanted = str(requirement.specifier) or "any"
        click.echo(f"{'OK  ' if good else 'FAIL'} {requirement.name:20} {found:16} wanted {wanted}")
    if failures:
        remedy = "run `make setup` or `pip install 'sclin[book,models,test]'`"
        raise click.ClickException(f"{failures} packages are missing or too old; {remedy}.")


# Data ---------------------------------------------------------------------------------------------


@main.group()
def data() -> None:
    """Datasets by name: list, show, fetch, verify, check, where."""


def _entries(tier: str | None = None) -> list[Any]:
    from sclin.datasets import catalogue

    every = [*catalogue().values(), *catalogue().resources.values()]
    return [entry for entry in every if tier in (None, entry.tier)]


def _copies(file: Any) -> list[Path]:
    """Every copy of a file, in all folders that are searched."""
    from sclin.datasets.files import search_dirs

    return [path for folder in search_dirs() if (path := folder / file.name).is_file()]


@data.command("list")
@click.option("--tier", help="Only this tier: packaged, simulated, public or paper.")
def list_entries(tier: str | None) -> None:
    """List datasets and resources: name, tier, cells, genes, what is in the cache."""
    for entry in _entries(tier):
        size = f"{entry.n_obs or '-'} x {entry.n_vars or '-'}"
        size = "resource" if entry.section == "resource" else size
        files = entry.all_files()
        here = f"{sum(bool(_copies(file)) for file in files)}/{len(files)} files" * bool(files)
        click.echo(f"{entry.name:24} {entry.tier:10} {size:16} {here:12} {entry.title}")


@data.command()
@click.argument("name")
def show(name: str) -> None:
    """Show all that the catalogue says about NAME, in YAML."""
    import yaml

    from sclin.datasets import catalogue

    click.echo(yaml.safe_dump(catalogue().find(name).record, sort_keys=False, allow_unicode=True))


@data.command()
@click.argument("names", nargs=-1)
@click.option("--tier", help="Everything of this tier.")
@click.option("--option", "choice", metavar="VALUE", help="Tissue, species, state, plate ...")
@click.option("--all", "every", is_flag=True, help="All values of the option.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def fetch(
    names: tuple[str, ...], tier: str | None, choice: str | None, every: bool, quiet: bool
) -> None:
    """Fetch datasets or resources by NAMES, and check their sha256."""
    from sclin import datasets

    if not names and tier is None:
        raise click.UsageError("Give names, or --tier.")
    named = [datasets.catalogue().find(name) for name in names]
    for entry in [*named, *(_entries(tier) if tier else [])]:
        if choice and not entry.option:
            raise click.UsageError(f"{entry.name} has no option to choose by.")
        for value in entry.choices if (every or tier) and entry.option else [choice]:
            options = {entry.option: value} if value else {}
            for path in datasets.fetch(entry.name, progress=False if quiet else None, **options):
                click.echo(str(path))


@data.command()
@click.argument("names", nargs=-1)
def verify(names: tuple[str, ...]) -> None:
    """Hash what is in the cache and compare; exit code 1 when anything is wrong."""
    from sclin.datasets import catalogue
    from sclin.datasets.files import wrong_with

    entries = [catalogue().find(name) for name in names] or _entries()
    wrong = 0
    for file in {file.name: file for entry in entries for file in entry.all_files()}.values():
        if names and not _copies(file):
            click.echo(f"missing  {file.name}")
        for path in _copies(file):
            state = "ok" if file.sha256 or file.git_blob else "unknown"
            state = "WRONG" if wrong_with(file, path) else state
            wrong += state == "WRONG"
            click.echo(f"{state:8} {path}")
    if wrong:
        raise click.ClickException(f"{wrong} file(s) are wrong; fetch them again.")


@data.command("check")
@click.argument("names", nargs=-1)
@click.option("--timeout", default=10.0, show_default=True, help="Seconds without an answer.")
def check_addresses(names: tuple[str, ...], timeout: float) -> None:
    """Ask every address of the catalogue for size and type; exit code 1 when one is wrong.

    Nothing is fetched. NAMES are datasets, resources, models or wheels; all when left out.
    """
    from sclin.datasets.check import addresses, check

    listed = addresses()
    if absent := [name for name in names if name not in set(listed["name"])]:
        raise DataError(f"No address of {', '.join(absent)} is in the catalogue.")
    table = check(listed[listed["name"].isin(names)] if names else listed, timeout=timeout)
    click.echo(table.to_string(index=False, na_rep="-", float_format="{:.0f}".format))
    if wrong := int(table["wrong"].ne("").sum()):
        raise click.ClickException(f"{wrong} of {len(table)} addresses are wrong.")


@data.command()
def where() -> None:
    """Print the folders that are searched; `sclin data verify NAME` says where its files lie."""
    from sclin.datasets import cache_dir
    from sclin.datasets.files import search_dirs

    for folder in search_dirs():
        click.echo(f"{folder}{'  (downloads go here)' if folder == cache_dir() else ''}")


# Layers -------------------------------------------------------------------------------------------


@main.group()
def layers() -> None:
    """Layers of foundation models: models, extract, info, verify, export, import."""


@layers.command("models")
def list_models() -> None:
    """List the models that can be run, and the licences of those of the catalogue."""
    from sclin import datasets
    from sclin.layers.models import MODELS
    from sclin.layers.models.hub import licence_line

    for name, needs in MODELS.items():
        click.echo(f"{name:14s} {needs}")
    click.echo("\nBy name alone, from the catalogue:")
    for name, entry in datasets.catalogue().models.items():
        click.echo(f"  {licence_line(name, entry)}")


def _files(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each file that a model may need."""
    for name, text in (
        ("--path", "Folder of the model."),
        ("--checkpoint", "models.ckpt of scFoundation."),
        ("--vocabulary", "Gene table of scFoundation, or token of each gene (.json, huggingface)."),
        ("--tokenizer", "MODULE:FUNCTION of (genes, counts), huggingface."),
        ("--token-dictionary", "Geneformer, .json or .pkl; sought in the folder."),
        ("--gene-medians", "Geneformer, .json or .pkl; sought in the folder."),
        ("--ensembl-mapping", "Geneformer: aliases of gene ids, .json or .pkl."),
    ):
        command = click.option(name, type=click.Path(), help=text)(command)
    return command


@layers.command("extract")
@click.argument("model")
@click.argument("data")
@click.argument("store", required=False, type=click.Path())
@_files
@click.option("--layer", help="Matrix of the cells: raw, X or a layer  [default: counts].")
@click.option("--values", help="What it holds: counts, log or linear  [default: found].")
@click.option("--cells", "rows", metavar="A:B", help="Cells from A on, before B, from 0 on.")
@click.option("--backed", is_flag=True, help="Leave X of a large .h5ad on disk.")
@click.option("--keep", "layers", multiple=True, help="Layer of the model to keep  [default: all].")
@click.option("--pooling", multiple=True, help="Pooling to keep; the model's two when left out.")
@click.option("--batch-tokens", default=16384, show_default=True, help="Tokens in a batch.")
@click.option("--device", help="cpu, cuda or cuda:1; a GPU when there is one.")
@click.option("--precision", type=click.Choice(["float32", "bfloat16", "float16"]))
@click.option("--genes", help="Column of var with the gene ids; found when left out.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def extract_layers(
    model: str, data: str, store: str | None, rows: str | None, quiet: bool, **given: Any
) -> None:
    """Write every layer of MODEL on DATA (a dataset name or a file of cells) into STORE.

    `sclin layers models` says which files each MODEL needs. The bar shows cells a second and the
    time left. Run it again to go on after a stop; torchrun and srun use several GPUs.
    """
    from sclin import datasets
    from sclin.layers import extract, load_model

    reading = {key: value for key in ("layer", "values", "backed") if (value := given.pop(key))}
    cells = datasets.load(data, **reading)
    if rows is not None:
        cells = cells[_range(rows, cells.n_obs)]
        cells = cells.to_memory() if cells.isbacked else cells.copy()
    if given["tokenizer"]:
        sys.path.append(os.getcwd())  # a function of one's own lies where one works
    of_extract = ("layers", "pooling", "batch_tokens", "device", "precision", "genes")
    options = {key: value for key in of_extract if (value := given.pop(key))}
    files = {key: value for key, value in given.items() if value is not None}
    loaded = load_model(model, files.pop("path", None), **files)
    made = extract(loaded, cells, store, progress=not quiet, **options)
    click.echo(f"{made.path}\n{made}")


def _range(text: str, n: int) -> slice:
    """Rows of ``A:B``, either end of which may be left out."""
    found = re.fullmatch(r"(\d*):(\d*)", text)
    start, stop = (int(found[1] or 0), int(found[2] or n)) if found else (0, 0)
    if not start < stop <= n:
        raise InputError(f"--cells is {text!r}; of {n:,} cells it takes A:B, such as 0:{n}.")
    return slice(start, stop)


@layers.command("info")
@click.argument("store", type=click.Path())
def show_store(store: str) -> None:
    """Show what made a STORE, and how far it is."""
    from sclin.layers import LayerStore

    opened = LayerStore.open(store)
    obs, left = opened.obs, len(opened.unfinished)
    said = {**dict(sorted(opened.manifest.items())), "unfinished ranges": left}
    if not left:
        empty, cut = (obs["n_tokens"] == 0).sum(), (obs["n_cut"] > 0).sum()
        said |= {"empty cells": empty, "cells cut": cut}
    for key, value in said.items():
        click.echo(f"{key:18s} {value}")


@layers.command("export")
@click.argument("store", type=click.Path())
@click.argument("file", type=click.Path())
def export_layers(store: str, file: str) -> None:
    """Write a finished STORE into one zip FILE to share; it holds no expression values."""
    from sclin.layers import export_store

    click.echo(export_store(store, file))


@layers.command("import")
@click.argument("file", type=click.Path())
def import_layers(file: str) -> None:
    """Check a shared FILE and put its store where chapters and `layer:MODEL/i` find it."""
    from sclin.layers import import_store

    made = import_store(file)
    click.echo(f"{made.path}\n{made}\nWeights under {made.manifest['licence']}.")


@layers.command("verify")
@click.argument("store", type=click.Path())
@click.option("--repair", is_flag=True, help="Mark damaged ranges, so that extract redoes them.")
def verify_store(store: str, repair: bool) -> None:
    """Compare the numbers in a STORE with the checksums taken when they were written."""
    from sclin.layers import LayerStore

    opened = LayerStore.open(store)
    table = opened.verify()
    counts = table["state"].value_counts()
    click.echo(", ".join(f"{counts[state]} {state}" for state in counts.index))
    damaged = table.loc[table["state"] == "damaged", "range"].tolist()
    if repair and damaged:
        opened.forget(damaged)
        click.echo(f"{len(damaged)} ranges marked; run the same extraction again.")
    elif (table["state"] != "ok").any():
        remedy = "run the same extraction again, with --repair first where ranges are damaged"
        raise click.ClickException(f"the store is not whole; {remedy}.")
