"""Every requested layer of every cell in one pass, into a layer store."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

import sclin
from sclin.errors import InputError, ModelError
from sclin.layers.models.base import Model
from sclin.layers.store import LayerStore, _names_check, default_store, row_check
from sclin.layers.tokens import Cells, dataset_id, open_cells

__all__ = ["batches", "extract", "layer_numbers"]

_PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
#: Pooled numbers of one range stay below this many bytes in memory.
_RANGE_BYTES = 64 * 2**20


def layer_numbers(model: Model, layers: str | int | Iterable[str | int]) -> list[str]:
    """Resolve the names of layers; ``"all"`` gives each of them.

    Raises
    ------
    ModelError
        When the model has no such layer.
    """
    if layers == "all":
        return model.layers
    asked = [layers] if isinstance(layers, str | int) else list(layers)
    names = [str(layer) for layer in asked]
    unknown = [name for name in names if name not in model.layers]
    if unknown or not names:
        raise ModelError(
            f"{model.name} has no layer {', '.join(unknown) or '(none given)'}; "
            f"it has {', '.join(model.layers)}."
        )
    return [name for name in model.layers if name in names]


def batches(
    lengths: NDArray[np.int64], *, batch_tokens: int, batch_cells: int | None = None
) -> Iterator[NDArray[np.int64]]:
    """Group cells by length under a token budget.

    Parameters
    ----------
    lengths
        Tokens of each cell; cells without tokens are left out.
    batch_tokens
        Most tokens a batch holds; a longer cell makes a batch of its own.
    batch_cells
        Instead: so many cells a batch, in the order given, as the reference code does.

    Yields
    ------
    numpy.ndarray
        Index of the cells of a batch.

    Examples
    --------
    >>> [b.tolist() for b in batches(np.array([3, 9, 4, 2]), batch_tokens=9)]
    [[1], [2, 0, 3]]
    """
    if batch_cells is not None:
        there = np.flatnonzero(lengths)
        for start in range(0, len(there), batch_cells):
            yield there[start : start + batch_cells]
        return
    order = np.argsort(-lengths, kind="stable")
    order = order[lengths[order] > 0]
    start = 0
    while start < len(order):
        total = np.cumsum(lengths[order[start:]])
        stop = start + max(1, int(np.searchsorted(total, batch_tokens, side="right")))
        yield order[start:stop]
        start = stop


def extract(
    model: Model,
    adata: ad.AnnData | str | Path,
    store: str | Path | None = None,
    *,
    layers: str | int | Iterable[str | int] = "all",
    pooling: str | Sequence[str] | None = None,
    batch_tokens: int = 16384,
    batch_cells: int | None = None,
    padded: bool = False,
    device: str | torch.device | None = None,
    precision: str | None = None,
    layer: str | None = None,
    genes: str | None = None,
    min_matched: float = 0.1,
    progress: bool = True,
) -> LayerStore:
    """Write every layer of every cell into a store.

    One forward pass gives all layers: each is pooled on the device as soon as its block has run,
    and only pooled vectors leave the device, once a batch.
    Cells are sorted by length inside a range and packed without padding.
    A store of the same model, cells and options is continued: a run that was stopped goes on where
    it stopped and ends bit-identical, and a finished store is returned without any work.
    A store of anything else is refused.
    Under ``torchrun`` each rank fills its own ranges of the same store.

    Parameters
    ----------
    model
        From `sclin.layers.load_model` or `sclin.layers.tiny`.
    adata
        Cells: an AnnData (backed or not), a path to an .h5ad file or to a .zarr folder.
    store
        Folder of the store, made or continued; when ``None`` a folder in `stores_folder`, named
        after model, checkpoint, data and poolings.
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
        ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; a GPU when there is one.
    precision
        ``"float32"``, ``"bfloat16"`` or ``"float16"``; bfloat16 on a GPU, float32 on a CPU.
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
    ModelError
        Genes or values of the wrong kind, output that is not finite, a store of another model,
        checkpoint, data set or option, or a full disk.
    """
    cells = open_cells(adata)
    names = layer_numbers(model, layers)
    poolings = model.check_poolings(pooling)
    if "last_column" in poolings:
        batch_cells, padded = batch_cells or 8, True
    if batch_tokens < 1 or (batch_cells is not None and batch_cells < 1):
        raise InputError("batch_tokens and batch_cells must be at least 1.")
    place = _device(device)
    precision = precision or ("bfloat16" if place.type == "cuda" else "float32")
    if precision not in _PRECISIONS:
        raise InputError(f"precision={precision!r} is not one of {', '.join(_PRECISIONS)}.")
    stored = list(dict.fromkeys(model.final_is or n if n == "final" else n for n in names))
    stored = [n for n in model.layers if n in stored]
    widths = {name: model.pooled_width(name) for name in poolings}
    per = _range_cells(len(stored) * sum(widths.values()), batch_cells)
    read = model.reader(cells, layer=layer, genes=genes, min_matched=min_matched)
    manifest = {
        "model": model.name,
        "checkpoint_sha256": model.checkpoint_sha256,
        "options": model.options,
        "licence": model.licence,
        "dataset": dataset_id(cells, layer=layer),
        "dataset_name": str(cells.uns.get("sclin", {}).get("dataset", "")),
        "data_layer": layer,
        "genes": genes,
        "genes_check": _names_check(cells.var_names),
        "n_cells": cells.n_obs,
        "layers": names,
        "stored_layers": stored,
        "depth": model.depth,
        "final_is": model.final_is,
        "poolings": poolings,
        "precision": precision,
        "range_cells": per,
        "batching": {"tokens": batch_tokens, "cells": batch_cells, "padded": padded},
        "device": _device_name(place),
        "versions": {"sclin": sclin.__version__, "torch": torch.__version__},
    }
    folder = default_store(model, cells, poolings=poolings, layer=layer) if store is None else store
    out = LayerStore.create(folder, manifest, list(cells.obs_names), widths)
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    todo = [number for number in out.unfinished if number % world == rank]
    model = model.to(device=place, dtype=_PRECISIONS[precision]).eval()
    total = sum(stop - start for start, stop in map(out.range, todo))
    with tqdm(total=total, unit="cell", desc=model.name, disable=not progress or total == 0) as bar:
        for number in todo:
            start, stop = out.range(number)
            tokens = read(start, stop)
            result = _range(
                model,
                tokens,
                stored,
                widths,
                groups=list(
                    batches(
                        np.where(tokens.empty, 0, tokens.lengths),
                        batch_tokens=batch_tokens,
                        batch_cells=batch_cells,
                    )
                ),
                padded=padded,
                cell_names=cells.obs_names[start:stop],
                bar=bar,
            )
            marks = {
                "empty": tokens.empty,
                "cut": tokens.cut,
                "tokens": np.where(tokens.empty, 0, tokens.lengths),
                "check": row_check(cells, start, stop, layer),
            }
            out.write(number, result, marks)
    if progress and not out.unfinished:
        _report(out)
    return out


def _report(store: LayerStore) -> None:
    empty, cut = int(store.empty.sum()), int((store.cut > 0).sum())
    if empty:
        tqdm.write(f"{empty:,} empty cells: no gene of the vocabulary is expressed; rows are NaN.")
    if cut:
        tqdm.write(f"{cut:,} cells did not fit the context; store.cut counts the genes left out.")


def _range(
    model: Model,
    tokens: Cells,
    stored: list[str],
    widths: dict[str, int],
    *,
    groups: list[NDArray[np.int64]],
    padded: bool,
    cell_names: Any,
    bar: tqdm,
) -> dict[str, NDArray[np.float32]]:
    """Pool all layers of one range; the copy of a batch overlaps the work on the next."""
    shape = (len(stored), len(tokens))
    result = {p: np.full((*shape, width), np.nan, np.float32) for p, width in widths.items()}
    blocks = [int(n) for n in stored if n != "final"]
    depth = None if "final" in stored else max(blocks)

    def keep(group: NDArray[np.int64], pooled: Tensor, ready: Any) -> None:
        if ready is not None:
            ready.synchronize()
        block = pooled.numpy()
        if not np.isfinite(block).all():
            where = np.argwhere(~np.isfinite(block))[0]
            raise ModelError(
                f"{model.name} gave values that are not finite for cell "
                f"{cell_names[group[where[1]]]} at layer {stored[where[0]]}. "
                "Look at that cell's counts, or use precision='float32'."
            )
        left = 0
        for name, width in widths.items():
            result[name][:, group] = block[:, :, left : left + width]
            left += width
        bar.update(len(group))

    waiting: tuple[NDArray[np.int64], Tensor, Any] | None = None
    with torch.inference_mode():
        for group in groups:
            parts = []
            for name, state, packing in model.states(
                tokens.take(group), padded=padded, depth=depth
            ):
                if name in stored:
                    parts.append(torch.cat([model.pool(state, packing, p) for p in widths], dim=1))
            pooled, ready = _to_host(torch.stack(parts))
            if waiting is not None:
                keep(*waiting)
            waiting = (group, pooled, ready)
        if waiting is not None:
            keep(*waiting)
    return result


def _to_host(pooled: Tensor) -> tuple[Tensor, Any]:
    if not pooled.is_cuda:
        return pooled, None
    host = torch.empty(pooled.shape, dtype=pooled.dtype, pin_memory=True)
    host.copy_(pooled, non_blocking=True)
    ready = torch.cuda.Event()
    ready.record()
    return host, ready


def _range_cells(features: int, batch_cells: int | None) -> int:
    most = _RANGE_BYTES // (4 * features)
    per = 2 ** int(np.clip(np.log2(max(most, 1)), 6, 11))
    return per if batch_cells is None else -(-per // batch_cells) * batch_cells


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    place = torch.device(device)
    if place.type == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"device={str(device)!r} was asked for, but torch sees no GPU here. "
            "Install a CUDA build of torch, or leave device out to run on the CPU."
        )
    return place


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU {platform.machine()}, {torch.get_num_threads()} threads"
