"""Simulated cells for the benchmarks: sparse counts of related cell types, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.sparse as sp

N_TYPES, N_DONORS, BLOCK = 20, 5, 2000


def blocks(
    n_cells: int, n_genes: int, *, molecules: float, seed: int = 0
) -> Iterator[tuple[sp.csr_matrix, np.ndarray]]:
    """Counts and types of `BLOCK` cells after another; gene levels and depths are log-normal."""
    rng = np.random.default_rng(seed)
    effect = rng.normal(0, 1.0, (N_TYPES, n_genes)) * (rng.random((N_TYPES, n_genes)) < 0.04)
    share = rng.lognormal(0.0, 2.2, n_genes) * np.exp(effect)
    share = np.cumsum(share / share.sum(axis=1, keepdims=True), axis=1)
    parts = rng.dirichlet(np.full(N_TYPES, 3.0))
    for start in range(0, n_cells, BLOCK):
        n = min(BLOCK, n_cells - start)
        types = np.sort(rng.choice(N_TYPES, n, p=parts))
        depth = rng.lognormal(np.log(molecules), 0.35, n).astype(int)
        ends = np.cumsum(depth)
        genes = np.empty(ends[-1], dtype=np.int32)
        for kind in np.unique(types):
            first, last = np.searchsorted(types, [kind, kind + 1])
            drawn = slice(ends[first] - depth[first], ends[last - 1])
            genes[drawn] = np.searchsorted(share[kind], rng.random(drawn.stop - drawn.start))
        genes = np.minimum(genes, n_genes - 1)
        ones = np.ones(len(genes), dtype=np.float32)
        X = sp.csr_matrix((ones, genes, np.append(0, ends)), shape=(n, n_genes))
        X.sum_duplicates()
        order = rng.permutation(n)
        yield X[order], types[order]


def write(folder: Path, n_cells: int, n_genes: int, *, molecules: float) -> dict[str, float]:
    """Leave counts, types and donors in a folder; return genes, and genes seen in a cell."""
    made = list(blocks(n_cells, n_genes, molecules=molecules))
    X = sp.vstack([X for X, _ in made], format="csr")
    sp.save_npz(folder / "cells.npz", X, compressed=False)
    types = np.concatenate([types for _, types in made])
    np.savez(folder / "labels.npz", types=types, donors=np.arange(n_cells) % N_DONORS)
    return {"n_genes": n_genes, "seen": X.nnz / n_cells}


def read(folder: Path) -> tuple[sp.csr_matrix, np.ndarray, np.ndarray]:
    """Counts, types and donors of `write`."""
    labels = np.load(folder / "labels.npz")
    return sp.load_npz(folder / "cells.npz"), labels["types"], labels["donors"]


def annotated(folder: Path):
    """The same as an AnnData."""
    import anndata as ad

    X, types, donors = read(folder)
    cells = ad.AnnData(X)
    cells.obs_names, cells.var_names = cells.obs_names.astype(str), cells.var_names.astype(str)
    cells.obs["cell_type"] = [f"type {kind}" for kind in types]
    cells.obs["donor"] = [f"donor {donor}" for donor in donors]
    return cells
