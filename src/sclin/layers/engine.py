"""Every requested layer of every cell in one pass, into a layer store."""

from __future__ import annotations

import contextlib
import copy
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

import sclin
from sclin.errors import InputError, ModelError, unknown
from sclin.layers.models.base import Model
from sclin.layers.store import (
    LayerStore,
    chosen,
    find_store,
    open_or_create,
    store_name,
    stores_folder,
)
from sclin.layers.tokens import Cells, dataset_id, fingerprints, open_cells

_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
#: Pooled numbers of one range stay below this many bytes in memory.
_RANGE_BYTES = 64 * 2**20


def batches(
    lengths: NDArray[np.int64], *, tokens: int, cells: int | None = None
) -> Iterator[NDArray[np.int64]]:
    """Group cells by length under a token budget.

    Parameters
    ----------
    lengths
        Tokens of each cell; cells without tokens are left out.
    tokens
        Most tokens a batch holds; a longer cell makes a batch of its own.
    cells
        Instead: so many cells a batch, in the order given, as the reference code does.

    Yields
    ------
    numpy.ndarray
        Index of the cells of a batch.

    Examples
    --------
    >>> [b.tolist() for b in batches(np.array([3, 1, 2]), tokens=3)]
    [[0], [2, 1]]
    """
    if cells is not None:
        order = np.flatnonzero(lengths)
        yield from (order[i : i + cells] for i in range(0, len(order), cells))
        return
    order = np.argsort(-lengths, kind="stable")
    order = order[lengths[order] > 0]
    start = 0
    while start < len(order):
        total = np.cumsum(lengths[order[start:]])
        stop = start + max(1, int(np.searchsorted(total, tokens, side="right")))
        yield order[start:stop]
        start = stop


def extract(
    model: Model, adata: ad.AnnData | str | Path, store: str | Path | None = None, *,
    layers: str | int | Iterable[str | int] = "all", pooling: str | Sequence[str] | None = None,
    batch_tokens: int = 16384, batch_cells: int | None = None, padded: bool = False,
    device: str | torch.device | None = None, precision: str | None = None,
    layer: str | None = None, genes: str | None = None, min_matched: float = 0.1,
    progress: bool = True,
) -> LayerStore:  # fmt: skip
    """Write every layer of every cell into a store.

    One forward pass gives all layers: each is pooled on the device as soon as its block has run,
    and only pooled vectors leave the device, once a batch.
    Cells are sorted by length inside a range and packed without padding.
    A store of the same model, cells and options is continued: a run that was stopped goes on where
    it stopped and ends bit-identical, and a finished store is returned without any work.
    A store of anything else is refused.
    The weights of `model` stay as they are: another device or precision works on a copy.
    Several processes may fill one store, under ``torchrun`` or ``srun`` or started by hand: each
    begins with its own share, takes over what a lost one left, waits for what others have in hand,
    and returns the finished store, bit-identical to that of one process.
    Where the memory of a GPU runs out, the batch is halved, and that is said.

    Parameters
    ----------
    model
        From `sclin.layers.load_model` or `sclin.layers.tiny`.
    adata
        Cells: an AnnData (backed or not), a path to an .h5ad file or to a .zarr folder.
    store
        Folder of the store, made or continued; when ``None`` a folder in ``$SCLIN_LAYERS`` (else
        in the data cache), named after model, checkpoint, data and poolings.
    layers
        ``"all"`` or names: ``0`` (embedding) to ``L``, ``"final"`` (what the model publishes).
    pooling
        One name or several; ``None`` gives the model's usual two. ``"last_column"`` reproduces
        the pooling of the reference code, pad slots included: input order, padded, `batch_cells`
        (8 when not given) cells a batch.
    batch_tokens
        Tokens a batch; bounds the memory.
    batch_cells
        Batches of so many cells in input order instead.
    padded
        Pad cells to the longest of the batch and mask, instead of packing them.
    device
        ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; a GPU when there is one, each process its own.
    precision
        ``"float32"``, ``"bfloat16"`` or ``"float16"``; bfloat16 on a GPU that has it, else float32.
    layer
        Layer of the AnnData that holds the values; ``X`` when ``None``.
    genes
        Column of ``var`` that holds the gene ids; found by itself when ``None``.
    min_matched
        Least part of the vocabulary that the data must hold.
    progress
        Show a bar with cells per second.

    Returns
    -------
    LayerStore
        Rows follow the AnnData.

    Raises
    ------
    InputError
        A device that is not there, or a precision that it does not have.
    ModelError
        Genes or values of the wrong kind, a store of another model, checkpoint, data set or
        option, a full disk, or a cell that does not fit the memory of the device; after all cells
        are done, cells whose layers are not finite.
    """
    cells = open_cells(adata)
    poolings = chosen(
        pooling or model.poolings[:2], model.all_poolings, f"{model.name} has no pooling"
    )
    names = chosen(
        model.layers if layers == "all" else layers, model.layers, f"{model.name} has no layer"
    )
    if "last_column" in poolings:
        batch_cells, padded = batch_cells or 8, True
    if batch_tokens < 1 or (batch_cells is not None and batch_cells < 1):
        raise InputError("batch_tokens and batch_cells must be at least 1.")
    place = _device(device)
    precision = _precision(precision, place)
    batching = {"tokens": batch_tokens, "cells": batch_cells, "padded": padded}
    manifest = _manifest(model, names, poolings, batching)
    read = model.reader(cells, layer=layer, genes=genes, min_matched=min_matched)
    prints = pd.Series(fingerprints(cells, layer=layer, genes=genes), cells.obs_names)
    manifest |= {
        "dataset": dataset_id(cells, prints.to_numpy()),
        "data_layer": layer,
        "genes": genes,
        "n_cells": cells.n_obs,
        "precision": precision,
        "device": torch.cuda.get_device_name(place) if place.type == "cuda" else platform.machine(),
    }
    folder = Path(store) if store is not None else stores_folder() / f"{store_name(manifest)}.zarr"
    widths = {name: model.pooled_width(name) for name in poolings}
    out = open_or_create(folder, manifest, prints, widths)
    if out.unfinished:
        _write(out, _copy(model, place, _PRECISIONS[precision]), read, progress=progress)
    _report(out, progress=progress)
    return out


def stores(
    name: str, adata: ad.AnnData, *, steps: int = 60, n_trained: int = 5,
    min_matched: float = 0.1, **options: Any,
) -> list[LayerStore]:  # fmt: skip
    """Layers of cells by a model of this name, found or made.

    Parameters
    ----------
    name
        ``tiny``, which is trained on these cells once with each of `n_trained` seeds, or a model
        as `sclin.layers.load_model` takes it; ``-random`` after it draws new weights, and
        ``-shuffled`` gives each gene the embedding of another.
    adata
        Cells, in memory.
    steps, n_trained
        Batches of one training of ``tiny``, and number of trainings.
    min_matched
        Least part of the model's vocabulary that the cells must hold, 0 to 1.
    options
        For `sclin.layers.load_model`.

    Returns
    -------
    list of LayerStore
        One a training; none, after one printed line, where the model cannot be had or does not
        take these cells.

    Raises
    ------
    ModelError
        When no model is called so.
    """
    from sclin.layers import tiny
    from sclin.layers.models import family_of, load_model, shuffle_genes

    model, dash, control = name.rpartition("-")
    random, shuffled = control == "random", control == "shuffled"
    model = model if dash and (random or shuffled) else name
    if model == "tiny":
        found = []
        for seed in [0] if random else range(1, n_trained + 1):
            network: Model = tiny.cached(
                adata, random_weights=random, steps=steps, seed=seed, progress=False
            )
            if shuffled:
                shuffle_genes(network, seed)
            found.append(extract(network, adata, progress=False))
        return found
    family_of(model)
    try:
        with contextlib.suppress(ModelError):
            return [find_store(name, adata)]
        network = load_model(model, random_weights=random, shuffled_genes=shuffled, **options)
        return [extract(network, adata, min_matched=min_matched)]
    except ModelError as error:
        print(f"{name} is left out: {str(error).splitlines()[0]}")
        return []


def _manifest(
    model: Model, layers: list[str], poolings: list[str], batching: dict[str, Any]
) -> dict[str, Any]:
    """Describe the run as far as the model goes."""
    kept = {model.final_is or name if name == "final" else name for name in layers}
    stored = [name for name in model.layers if name in kept]
    features = len(stored) * sum(model.pooled_width(name) for name in poolings)
    per = 2 ** int(np.clip(np.log2(_RANGE_BYTES / (4 * features)), 6, 11))
    if batching["cells"]:
        per = -(-per // batching["cells"]) * batching["cells"]
    return {
        "model": model.name,
        "checkpoint_sha256": model.checkpoint_sha256,
        "options": model.options,
        "licence": model.licence,
        "layers": layers,
        "stored_layers": stored,
        "depth": model.depth,
        "final_is": model.final_is,
        "poolings": poolings,
        "range_cells": per,
        "batching": batching,
        "versions": {"sclin": sclin.__version__, "torch": torch.__version__},
    }


def _copy(model: Model, device: torch.device, dtype: torch.dtype) -> Model:
    """A model that shares what it can with the one given, and never changes it."""
    shared: dict[int, Any] = {
        id(value): value for key, value in vars(model).items() if not key.startswith("_")
    }
    try:
        for p in model.parameters():
            shared[id(p)] = nn.Parameter(p.detach().to(device, dtype), requires_grad=False)
        return copy.deepcopy(model, shared).to(device, dtype).eval()
    except torch.OutOfMemoryError as error:
        raise _no_room(model, "the weights") from error


def _no_room(model: Model, what: str) -> ModelError:
    return ModelError(
        f"The GPU has no room for {what} of {model.name}. Use one with more free memory, "
        "precision='bfloat16', or device='cpu'; finished ranges are kept."
    )


def _write(
    out: LayerStore, model: Model, read: Callable[[int, int], Cells], *, progress: bool
) -> None:
    """Write ranges until none is unfinished, here or in another process."""
    rank, world = _told("RANK", "SLURM_PROCID", 0), _told("WORLD_SIZE", "SLURM_NTASKS", 1)
    mine = (out.range(number) for number in out.unfinished if number % world == rank)
    total = sum(stop - start for start, stop in mine)
    bar = tqdm(total=total, unit="cell", desc=model.name, disable=not progress)
    batching, layers = dict(out.manifest["batching"]), out.manifest["stored_layers"]
    asked = {"layers": layers, "poolings": out.poolings, "padded": batching.pop("padded")}

    def make(number: int, tokens: Future[Cells]) -> tuple[Any, ...]:
        cells = tokens.result()
        n_tokens = np.where(cells.empty, 0, cells.lengths)
        groups = batches(n_tokens, **batching)
        pooled = pool_cells(model, cells, groups, **asked, done=bar.update)
        finite = np.all([np.isfinite(x).all(axis=(0, 2)) for x in pooled.values()], axis=0)
        bad = ~finite & (n_tokens > 0)
        for part in pooled.values():
            part[:, bad] = np.nan
        return number, pooled, np.where(bad, -1, n_tokens), cells.cut

    # Tokens of the next range are made, and the last one is written, while the model runs.
    coming: list[tuple[int, Future[Cells]]] = []
    written: Future[None] | None = None
    with contextlib.closing(out.claims(rank, world)) as claims, bar, ThreadPoolExecutor(1) as side:
        for number in claims:
            if number is not None:
                coming.append((number, side.submit(read, *out.range(number))))
                if len(coming) == 1:
                    continue
            elif not coming and written is None:
                time.sleep(0.2)  # other processes work on what is left
            made = make(*coming.pop(0)) if coming else None
            if written is not None:
                written.result()
            written = side.submit(out.write, *made) if made else None


def pool_cells(
    model: Model, cells: Cells, groups: Iterable[NDArray[np.int64]], *, layers: Sequence[str],
    poolings: Sequence[str], padded: bool = False, done: Callable[[int], Any] = lambda n: None,
) -> dict[str, NDArray[np.float32]]:  # fmt: skip
    """Pool all layers of the cells; the copy of a batch overlaps the work on the next.

    Parameters
    ----------
    model, cells
        The model and the tokens of the cells.
    groups
        Index of the cells of each batch; see `batches`.
    layers, poolings
        Names of what to keep.
    padded
        Pad the cells of a batch to the longest.
    done
        Called with the number of cells of each finished batch.

    Returns
    -------
    dict
        For each pooling ``(n_layers, n_cells, n_features)``; cells in no batch are NaN.
    """
    widths = [model.pooled_width(name) for name in poolings]
    result = [np.full((len(layers), len(cells), width), np.nan, np.float32) for width in widths]
    depth = None if "final" in layers else max(map(int, layers))

    def keep(group: NDArray[np.int64], pooled: Tensor, ready: Any) -> None:
        if ready is not None:
            ready.synchronize()
        if len(group) > 1 and not pooled.isfinite().all():
            run(group[:, None])  # each cell alone, so that one cannot spoil the others
            return
        for part, columns in zip(result, pooled.split(widths, dim=2), strict=True):
            part[:, group] = columns.numpy()
        done(len(group))

    def states(group: NDArray[np.int64]) -> Tensor | None:
        parts = []
        try:
            for name, state, packing in model.states(cells.take(group), padded=padded, depth=depth):
                if name in layers:
                    parts.append(torch.cat([model.pool(state, packing, p) for p in poolings], 1))
            return torch.stack(parts)
        except torch.OutOfMemoryError as error:
            n_tokens = int(cells.lengths[group].sum())
            if len(group) == 1:
                raise _no_room(model, f"a cell of {n_tokens:,} tokens") from error
        model.fits = max(cells.lengths[half].sum() for half in np.array_split(group, 2))
        tqdm.write(f"Out of memory with {n_tokens:,} tokens: batches are halved to {model.fits:,}.")
        return None

    def run(groups: Iterable[NDArray[np.int64]]) -> None:
        waiting: list[Any] = []
        for group in groups:
            small = len(group) == 1 or cells.lengths[group].sum() <= model.fits
            pooled = states(group) if small else None
            if pooled is None:
                run(np.array_split(group, 2))
                continue
            if waiting:
                keep(*waiting)
            waiting = [group, *_to_host(pooled)]
        if waiting:
            keep(*waiting)

    with torch.inference_mode():
        run(groups)
    return dict(zip(poolings, result, strict=True))


def _to_host(pooled: Tensor) -> tuple[Tensor, Any]:
    if not pooled.is_cuda:
        return pooled, None
    host = torch.empty(pooled.shape, dtype=pooled.dtype, pin_memory=True)
    host.copy_(pooled, non_blocking=True)
    ready = torch.cuda.Event()
    ready.record()
    return host, ready


def _report(store: LayerStore, *, progress: bool) -> None:
    """Say what became of cells that could not be read whole."""
    obs = store.obs
    empty, cut = int((obs["n_tokens"] == 0).sum()), int((obs["n_cut"] > 0).sum())
    if empty and progress:
        tqdm.write(f"{empty:,} empty cells: no gene of the vocabulary is expressed; rows are NaN.")
    if cut and progress:
        tqdm.write(f"{cut:,} cells did not fit the context; store.obs counts the genes left out.")
    bad = obs.index[obs["n_tokens"] < 0]
    if len(bad):
        raise ModelError(
            f"{store.manifest['model']} gave values that are not finite for {len(bad):,} of "
            f"{len(obs):,} cells, such as {', '.join(bad[:3])}: their rows in {store.path} are NaN "
            "and all others are done. Look at their counts, or use precision='float32'."
        )


def _told(torchrun: str, slurm: str, otherwise: int) -> int:
    """What the launcher of several processes tells each of them."""
    return int(os.environ.get(torchrun, os.environ.get(slurm, otherwise)))


def _device(device: str | torch.device | None) -> torch.device:
    n_gpus = torch.cuda.device_count()
    mine = f"cuda:{_told('LOCAL_RANK', 'SLURM_LOCALID', 0) % n_gpus}" if n_gpus else "cpu"
    with contextlib.suppress(RuntimeError):
        place = torch.device(device or mine)
        if place.type != "cuda" or (place.index or 0) < n_gpus:
            return place
    raise InputError(
        f"device={str(device)!r} was asked for, but torch sees {n_gpus or 'no'} GPU here. "
        "Install a CUDA build of torch, or leave device out to run on what is there."
    )


def _precision(asked: str | None, place: torch.device) -> str:
    old = place.type == "cuda" and torch.cuda.get_device_capability(place) < (8, 0)
    has = [name for name in _PRECISIONS if not (old and name == "bfloat16")]
    asked = asked or ("bfloat16" if place.type == "cuda" and not old else "float32")
    if asked not in has:
        raise unknown(f"precision of {place}", asked, has)
    return asked
