"""``sclin layers``: models, extract, info, verify."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

__all__ = ["layers"]


@click.group()
def layers() -> None:
    """Layers of foundation models: models, extract, info, verify."""


@layers.command("models")
def models_command() -> None:
    """List the models that can be run, and the licences of those of the catalogue."""
    from sclin import datasets
    from sclin.layers.models import MODELS
    from sclin.layers.models.hub import licence_line

    for name, needs in MODELS.items():
        click.echo(f"{name:14s} {needs}")
    known: dict[str, Any] = dict(datasets.catalogue().models)
    if known:
        click.echo("\nBy name alone, from the catalogue:")
    for name, entry in known.items():
        click.echo(f"  {licence_line(name, entry)}")


_FILES = [
    click.option("--path", type=click.Path(), help="Folder of the model."),
    click.option("--checkpoint", type=click.Path(), help="models.ckpt of scFoundation."),
    click.option("--vocabulary", type=click.Path(), help="Gene table of scFoundation."),
    click.option("--token-dictionary", type=click.Path(), help="Geneformer, .json or .pkl."),
    click.option("--gene-medians", type=click.Path(), help="Geneformer, .json or .pkl."),
]


def _file_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_FILES):
        command = option(command)
    return command


@layers.command("extract")
@click.argument("model")
@click.argument("data")
@click.argument("store", required=False, type=click.Path())
@_file_options
@click.option("--layer", "numbers", multiple=True, help="Layer to keep; all when left out.")
@click.option("--pooling", multiple=True, help="Pooling to keep; the model's two when left out.")
@click.option("--batch-tokens", default=16384, show_default=True, help="Tokens in a batch.")
@click.option("--device", help="cpu, cuda or cuda:1; a GPU when there is one.")
@click.option("--precision", type=click.Choice(["float32", "bfloat16", "float16"]))
@click.option("--genes", help="Column of var with the gene ids; found when left out.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def extract_command(
    model: str,
    data: str,
    store: str | None,
    numbers: tuple[str, ...],
    pooling: tuple[str, ...],
    batch_tokens: int,
    device: str | None,
    precision: str | None,
    genes: str | None,
    quiet: bool,
    **files: str | None,
) -> None:
    """Write every layer of MODEL on DATA (a dataset name, .h5ad or .zarr) into STORE.

    Run it again to go on after a stop; start it with torchrun to use several GPUs.
    """
    from sclin import datasets
    from sclin.layers import extract, load_model

    given = {key: value for key, value in files.items() if value is not None}
    path = given.pop("path", None)
    on_disk = data.endswith((".h5ad", ".zarr"))
    cells = data if on_disk else datasets.load(data)
    made = extract(
        load_model(model, path, **given),
        cells,
        store,
        layers=list(numbers) or "all",
        pooling=list(pooling) or None,
        batch_tokens=batch_tokens,
        device=device,
        precision=precision,
        genes=genes,
        progress=not quiet,
    )
    click.echo(f"{made.path}\n{made}")


@layers.command("info")
@click.argument("store", type=click.Path())
def info_command(store: str) -> None:
    """Show what made a STORE, and how far it is."""
    from sclin.layers import LayerStore

    opened = LayerStore.open(store)
    for key, value in sorted(opened.manifest.items()):
        click.echo(f"{key:18s} {value}")
    left = len(opened.unfinished)
    click.echo(f"{'unfinished ranges':18s} {left}")
    if not left:
        click.echo(f"{'empty cells':18s} {int(opened.empty.sum())}")
        click.echo(f"{'cells cut':18s} {int((opened.cut > 0).sum())}")


@layers.command("verify")
@click.argument("store", type=click.Path())
@click.option("--repair", is_flag=True, help="Mark damaged ranges, so that extract redoes them.")
def verify_command(store: str, repair: bool) -> None:
    """Compare the numbers in a STORE with the checksums taken when they were written."""
    from sclin.layers import LayerStore, verify

    table = verify(store)
    counts = table["state"].value_counts()
    click.echo(", ".join(f"{counts[state]} {state}" for state in counts.index))
    damaged = table.loc[table["state"] == "damaged", "range"].tolist()
    if repair and damaged:
        LayerStore.open(store).forget(damaged)
        click.echo(f"{len(damaged)} ranges marked; run the same extraction again.")
    elif (table["state"] != "ok").any():
        raise click.ClickException(
            "the store is not whole; run the same extraction again for missing ranges, "
            "and use --repair first for damaged ones."
        )
