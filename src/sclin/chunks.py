"""Statistics as sums over blocks of cells, in memory, on disk or on many machines.

A matrix in memory is one block. Any other is a Dask array whose chunks are the blocks: they are
read when a statistic asks for them and dropped after it, by Dask's scheduler where there is one
(see `connect`), and else one after another in this process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numba
import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from anndata.abc import CSCDataset, CSRDataset

from sclin.errors import InputError

__all__ = ["Blocks", "as_dask", "connect", "dense", "gather", "lazy", "map_cells", "sum_cells"]

_STORED = 1 << 22  # stored values of a block that is read from a file: 32 MB
_FAN = 8  # blocks added at once: fixed, so that sums do not depend on the number of workers


@dataclass(frozen=True)
class Blocks:
    """Cells x genes that are read and worked on a block of cells at a time.

    Attributes
    ----------
    raw
        Dask array, cells x genes, with all genes of a cell in one chunk.
    steps
        What is done to each block after it was read: functions of cells that need no others.
    n_columns
        Columns after the last step.
    genes
        Names of the genes, for errors.
    """

    raw: Any
    steps: tuple[Callable[[Any], Any], ...] = ()
    n_columns: int = 0
    genes: Any = None
    ndim = 2

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and columns."""
        return self.raw.shape[0], self.n_columns

    @property
    def dtype(self) -> np.dtype:
        """Type of the values: that in which small counts are exact, unless the file has more."""
        return np.dtype(np.float64 if self.raw.dtype == np.float64 else np.float32)

    def __getitem__(self, key: Any) -> Blocks:
        """Select cells, and columns after a comma."""
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        found = self
        if not (isinstance(rows, slice) and rows == slice(None)):
            found = replace(found, raw=found.raw[rows])
        if not (isinstance(columns, slice) and columns == slice(None)):
            at = np.arange(self.n_columns)[columns]
            found = found.then(partial(_columns, at=at), len(at))
        return found

    def then(self, step: Callable[[Any], Any], n_columns: int | None = None) -> Blocks:
        """Add a step, after which there are so many columns."""
        n = self.n_columns if n_columns is None else n_columns
        return replace(self, steps=(*self.steps, step), n_columns=n)

    def tasks(self, function: Callable[..., Any], *along: np.ndarray) -> list[Any]:
        """One task a block: a function of the cells and of their rows of other arrays."""
        import dask

        sizes = self.raw.chunks[0]
        stops = np.cumsum(sizes)
        work = _Work(self.steps, function, self.genes, neighbours=_scheduler() is not None)
        run = dask.delayed(work, traverse=False)
        return [
            run(block, stop - size, *(each[stop - size : stop] for each in along))
            for block, size, stop in zip(self.raw.to_delayed().ravel(), sizes, stops, strict=True)
            if size or len(self.raw) == 0
        ]


@dataclass(frozen=True)
class _Work:
    """What happens to a block; one with ``neighbours``, worked on beside it, has one thread."""

    steps: Sequence[Callable[[Any], Any]]
    function: Callable[..., Any]
    genes: Any
    neighbours: bool

    def __call__(self, block: Any, start: int, *along: np.ndarray) -> Any:
        threads = numba.get_num_threads()
        numba.set_num_threads(1 if self.neighbours else threads)
        try:
            cells = matrix(block)
            cells = canonical(cells) if sp.issparse(cells) else cells
            refuse_not_finite(cells, first=start, genes=self.genes)
            for step in self.steps:
                cells = step(cells)
            return self.function(cells, *along)
        finally:
            numba.set_num_threads(threads)


def map_cells(step: Callable[[Any], Any], X: Any, n_columns: int | None = None) -> Any:
    """Apply a function of single cells: now to a matrix in memory, when it is asked for to blocks.

    Parameters
    ----------
    step
        Function of some cells that gives one row per cell.
    X
        Cells x genes.
    n_columns
        Columns of the result, where it is not as wide as `X`.

    Returns
    -------
    matrix or Blocks
        Cells x columns.
    """
    return X.then(step, n_columns) if isinstance(X, Blocks) else step(X)


def sum_cells(function: Callable[..., Any], X: Any, *along: np.ndarray) -> Any:
    """Sum a statistic over blocks of cells.

    Parameters
    ----------
    function
        Function of some cells, and of their rows of `along`, that gives an array or a tuple.
    X
        Cells x genes; in memory it is one block.
    *along
        Arrays with one row per cell.

    Returns
    -------
    array or tuple of array
        The sum, by a tree of fixed shape: the same on any number of workers.
    """
    if not isinstance(X, Blocks):
        return function(X, *along)
    import dask

    add, parts = dask.delayed(_added), X.tasks(function, *along)
    while len(parts) > 1:
        parts = [add(parts[i : i + _FAN]) for i in range(0, len(parts), _FAN)]
    return _computed(X, parts)[0]


def gather(X: Any) -> Any:
    """Bring cells into memory; a matrix that is there is returned as it is."""
    return _stacked(_computed(X, X.tasks(_same))) if isinstance(X, Blocks) else X


def as_dask(X: Any) -> Any:
    """See blocks as a Dask array of CSR chunks, for functions that read one; else as they are."""
    if not isinstance(X, Blocks):
        return X
    work = _Work(X.steps, _same, X.genes, neighbours=_scheduler() is not None)
    meta = sp.csr_matrix((0, 0), dtype=X.dtype)
    return X.raw.map_blocks(work, 0, chunks=(X.raw.chunks[0], (X.n_columns,)), meta=meta)


def dense(X: Any) -> np.ndarray:
    """Turn cells x columns of any kind into an array."""
    X = gather(X)
    return X.toarray() if hasattr(X, "toarray") else np.asarray(X)


def lazy(adata: AnnData) -> AnnData:
    """Leave the matrix of cells where it is, and bring their labels into memory.

    Parameters
    ----------
    adata
        Cells backed by their file, or read by ``anndata.experimental.read_lazy``; others are
        returned as they are.

    Returns
    -------
    AnnData
        ``X`` is a Dask array, ``obs`` and ``var`` are data frames.
    """
    if adata.isbacked and adata.is_view:
        return adata.to_memory()
    X = dask_array(adata.X)
    if X is None:
        return adata
    obs, var = (t.to_memory() if hasattr(t, "to_memory") else t for t in (adata.obs, adata.var))
    return AnnData(X, obs, var, uns=dict(adata.uns), obsm=dict(adata.obsm))


def opened(X: Any, genes: Any = None) -> Any:
    """See a matrix that is not in memory as `Blocks`; one in memory is returned as it is.

    Raises
    ------
    InputError
        The matrix is stored by gene, or a block does not fit into memory.
    """
    found = dask_array(X)
    if found is None:
        return X
    if found.ndim != 2 or found.shape[1] == 0:
        return matrix(found)  # which says what is wrong
    return Blocks(_rows_whole(found), n_columns=found.shape[1], genes=genes)


def dask_array(X: Any) -> Any:
    """Matrix on disk as a Dask array, a Dask array as it is, and None for a matrix in memory."""
    if isinstance(X, CSCDataset):
        raise InputError(
            "The matrix is stored gene by gene (CSC), so each block of cells would read all of it."
            "\nWrite it once cell by cell: adata.X = adata.X.tocsr(); adata.write_h5ad(...)."
        )
    if isinstance(X, CSRDataset):
        from anndata.experimental import read_elem_lazy

        a_cell = max(1, int(X.group["indptr"][-1]) // max(1, X.shape[0]))
        return read_elem_lazy(X.group, chunks=(max(1, _STORED // a_cell), X.shape[1]))
    if hasattr(X, "dask") or not hasattr(X, "chunks"):
        return X if hasattr(X, "dask") else None
    import dask.array

    return dask.array.from_array(X, chunks=(max(1, _STORED // X.shape[1]), -1))


def _rows_whole(X: Any) -> Any:
    """All genes of a cell in one chunk; chunks that are larger than the memory are refused."""
    import psutil

    if X.numblocks[1] > 1:
        X = X.rechunk({1: -1})
    rows, free = max(X.chunks[0], default=0), psutil.virtual_memory().available
    size = rows * X.shape[1] * X.dtype.itemsize
    if size > free and not sp.issparse(X._meta):
        raise InputError(_too_large(f"{rows:,} cells x {X.shape[1]:,} genes", size / 1e9))
    return X


def _too_large(block: str, needs: float | None = None) -> str:
    needs_it = f"needs {needs:,.1f} GB, more than is free" if needs else "does not fit into memory"
    return (
        f"A block of {block} {needs_it}.\nRead fewer cells at a time: "
        "cells.X = cells.X.rechunk((1000, -1)), or give each worker more memory."
    )


# Scheduling -------------------------------------------------------------------------------------


def connect(address: str | None = None, *, n_workers: int | None = None, wait: float = 10) -> Any:
    """Work on blocks beside each other: on the cores of this machine, or on a cluster.

    Parameters
    ----------
    address
        Of a Dask scheduler, such as ``tcp://10.0.0.1:8786``; by default workers are started
        here, with one thread each.
    n_workers
        Workers to start here; one a core by default.
    wait
        Seconds until a scheduler that does not answer is given up.

    Returns
    -------
    distributed.Client
        Close it, or use it in a ``with`` block. Any other client of Dask serves as well.

    Raises
    ------
    InputError
        No scheduler answers.
    """
    import dask
    from distributed import Client

    if address is None:
        here: Any = {"threads_per_worker": 1, "dashboard_address": ":0"}
        # Blocks are alike, and cost more to move than to wait for.
        with dask.config.set({"distributed.scheduler.work-stealing": False}):
            return Client(n_workers=n_workers, **here)  # a cluster of its own closes with it
    try:
        return Client(address, timeout=wait)
    except (OSError, ValueError) as error:
        raise InputError(
            f"No Dask scheduler answers at {address}: {str(error).splitlines()[0]}\n"
            "Start one with `dask scheduler`, or leave the address out to work on this machine."
        ) from error


def _scheduler() -> Any:
    """What runs tasks beside each other; None where nothing was started."""
    from dask.base import get_scheduler

    return get_scheduler()


def _computed(X: Blocks, tasks: list[Any]) -> Any:
    import dask

    try:
        return dask.compute(tasks, scheduler=None if _scheduler() else "synchronous")[0]
    except Exception as error:
        if not isinstance(error, MemoryError) and type(error).__name__ != "KilledWorker":
            raise
        rows = max(X.raw.chunks[0])
        raise InputError(_too_large(f"{rows:,} cells x {X.raw.shape[1]:,} genes")) from error


# Blocks -----------------------------------------------------------------------------------------


def _same(cells: Any) -> Any:
    return cells


def _columns(cells: Any, at: np.ndarray) -> Any:
    return cells[:, at]


def _added(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], tuple):
        return tuple(map(_added, zip(*parts, strict=True)))
    return sum(parts[1:], start=parts[0])


def _stacked(parts: Sequence[Any]) -> Any:
    if hasattr(parts[0], "stack"):
        return type(parts[0]).stack(parts)
    return sp.vstack(parts, format="csr") if sp.issparse(parts[0]) else np.concatenate(parts)


# Reading ----------------------------------------------------------------------------------------


def matrix(X: Any) -> Any:
    """Check that cells are a matrix of real numbers; CSR of a sparse one, else an array."""
    if sp.issparse(X):
        X = X.tocsr()
    elif not hasattr(X, "dask"):
        try:
            X = np.asarray(X)
        except ValueError as error:
            raise InputError(f"The matrix cannot be read as an array: {error}.") from error
    if X.ndim != 2:
        raise InputError(
            f"A matrix of cells x genes is needed; an array of shape {X.shape} was found. "
            "Reshape your data: one cell is X.reshape(1, -1)."
        )
    if X.shape[1] == 0:
        raise InputError("The matrix has no genes (0 columns). Check the gene filter before it.")
    if X.dtype.kind not in "buif":
        raise InputError(
            f"The matrix is not numeric: its type is {X.dtype}. "
            "Give counts or other real numbers, without text or labels."
        )
    return X


def canonical(X: sp.csr_matrix) -> sp.csr_matrix:
    """CSR with sorted indices, without duplicates, of floats; copies only what it must change."""
    dtype = float_type(X.data)
    if not X.has_canonical_format:
        X = X.astype(dtype, copy=True)
        X.sum_duplicates()
    return sp.csr_matrix((X.data.astype(dtype, copy=False), X.indices, X.indptr), shape=X.shape)


def float_type(values: np.ndarray) -> type[np.floating]:
    """Name the smaller float type that holds the values without making new ties."""
    small = values.dtype.itemsize <= (2 if values.dtype.kind in "ui" else 4)
    if not small and values.dtype.kind in "ui":
        small = max(int(values.max(initial=0)), -int(values.min(initial=0))) <= 1 << 24
    return np.float32 if small else np.float64


def refuse_not_finite(X: Any, *, cells: Any = None, genes: Any = None, first: int = 0) -> None:
    """Name the first value that is NaN or infinite, by its cell and gene or by their numbers."""
    values = X.data if sp.issparse(X) else X
    if values.dtype.kind != "f" or np.isfinite(values.sum(dtype=np.float64)):
        return
    stored = sp.coo_matrix(X)
    bad = ~np.isfinite(stored.data)
    if bad.any():
        cell, gene = stored.row[bad][0], stored.col[bad][0]
        raise InputError(
            f"Input X contains NaN or infinity: {bad.sum()} value(s), the first in "
            f"cell {first + cell if cells is None else repr(cells[cell])}, "
            f"gene {gene if genes is None else repr(genes[gene])}. "
            "Remove these cells or genes, or fill in the values."
        )
