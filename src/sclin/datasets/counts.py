"""Molecule counts of simulated cells: a program of log rates, a depth per cell, counts.

The log rate of a gene is a baseline plus effects of the cell's design (type, donor, state, factor
activities).
Counts are negative binomial given the cell's expected molecules, drawn as a compound Poisson:
molecule bursts fall on genes, each burst has a logarithmic size.
The cost follows the molecules of a cell, not the genes, and only one profile is ever dense.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from sclin.errors import InputError

_CHUNK = 2_000_000  # molecules drawn at once
_TABLE = 1 << 15  # entries between 0 and 1, a power of two so that products are exact


def check(**sizes: Any) -> None:
    """Refuse sizes that are not whole numbers of at least one."""
    for name, value in sizes.items():
        if int(value) != value or value < 1:
            raise InputError(f"{name} is {value!r}: give a whole number of at least 1.")


def _places(edges: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Find what `numpy.searchsorted` finds for draws from [0, 1), by a table of their first bits.

    One look replaces the search wherever no edge lies between two entries of the table.
    """
    table = np.searchsorted(edges, np.arange(_TABLE + 1) / _TABLE).astype(np.int32)
    entry = (draws * _TABLE).astype(np.int32)
    found = table[entry]
    open_ = np.flatnonzero(found != table[entry + 1])
    found[open_] = np.searchsorted(edges, draws[open_])
    return found


def draw_profile(
    log_rate: np.ndarray, library: np.ndarray, dispersion: float, rng
) -> sp.csr_matrix:
    """Draw negative binomial counts for cells that share one profile.

    ``log_rate`` is (genes,), natural log up to a constant; ``library`` is (cells,), the expected
    molecules; variance = mean + dispersion * mean**2.
    """
    rate = np.exp(log_rate - log_rate.max())
    rate /= rate.sum()
    edges = np.cumsum(rate)
    edges /= edges[-1]
    bursts = rng.poisson(library)
    blocks = []
    n_blocks = max(1, min(len(library), -(-bursts.sum() // _CHUNK)))
    for cells in np.array_split(np.arange(len(library)), n_blocks):
        owner = np.repeat(np.arange(len(cells)), bursts[cells])
        gene = _places(edges, rng.random(len(owner)))
        if dispersion > 0:
            # NB(mean, 1/dispersion) = Poisson(ln(1 + d*mean)/d) bursts of Logarithmic(q) molecules.
            scaled = dispersion * library[cells][owner] * rate[gene]
            kept = rng.random(len(owner)) * scaled < np.log1p(scaled)
            owner, gene, scaled = owner[kept], gene[kept], scaled[kept]
            size = rng.logseries(scaled / (1 + scaled)).astype(np.float32)
        else:
            size = np.ones(len(owner), dtype=np.float32)
        blocks.append(sp.csr_matrix((size, (owner, gene)), shape=(len(cells), len(rate))))
    return sp.vstack(blocks, format="csr")


def draw(
    library: np.ndarray, rng, *terms: tuple[np.ndarray, np.ndarray], dispersion: float = 0.5
) -> sp.csr_matrix:
    """Draw counts (cells, genes) of cells with ``library`` expected molecules.

    A term is weights (cells, k) and effects (k, genes); the log rate of a cell is the sum of
    weights @ effects. Cells with equal weights share a profile and are drawn together.
    """
    design, effects = np.hstack([w for w, _ in terms]), np.vstack([e for _, e in terms])
    profiles, member = np.unique(np.round(design, 6), axis=0, return_inverse=True)
    order = np.argsort(member, kind="stable")
    bounds = np.searchsorted(member[order], np.arange(1, len(profiles)))
    blocks = [
        draw_profile(profile @ effects, library[rows], dispersion, rng)
        for profile, rows in zip(profiles, np.split(order, bounds), strict=True)
    ]
    return sp.vstack(blocks, format="csr")[np.argsort(order)]


def sparse_effects(rng, rows: int, n_genes: int, *, share: float, scale: float) -> np.ndarray:
    """Effects (rows, genes): a share of genes is hit, natural-log fold changes of sd ``scale``."""
    hit = rng.random((rows, n_genes)) < share
    return hit * rng.normal(0, scale, (rows, n_genes))


def baseline(rng, n_genes: int, sd: float = 2.1) -> np.ndarray:
    """Return log rates (1, genes) with the wide, right-heavy spread of real means."""
    return rng.normal(0, sd, (1, n_genes)) + (rng.random((1, n_genes)) < 0.01) * 2.0


def library(rng, n_cells: int, median: float, sd: float = 0.5) -> np.ndarray:
    """Draw expected molecules of each cell, log-normal."""
    return median * np.exp(rng.normal(0, sd, n_cells))


def named(stem: str, n: int) -> list[str]:
    """Number names from one."""
    return [f"{stem}{i + 1}" for i in range(n)]


def pick(names: Sequence[str], codes: np.ndarray) -> np.ndarray:
    """Return the name of each code."""
    return np.array(names, dtype=object)[codes]


def pack(X, obs, genes, dataset: str, seed: int, truth: dict[str, Any], **var) -> ad.AnnData:
    """Assemble the AnnData in the layout shared by all datasets."""
    frame = pd.DataFrame(obs, index=pd.Index([f"{dataset}-{i}" for i in range(X.shape[0])]))
    text = frame.select_dtypes(object)
    names = pd.Index(genes, dtype=object)
    info = {"dataset": dataset, "tier": "simulated", "values": "counts", "seed": int(seed)}
    return ad.AnnData(
        X=X.astype(np.float32),
        obs=frame.astype(dict.fromkeys(text, "category")),
        var=pd.DataFrame({"symbol": names.to_numpy(), **var}, index=names),
        uns={"sclin": {**info, "truth": truth}},
    )


def genes(n_genes: int, prefix: str = "GENE") -> list[str]:
    """Name genes, numbered from zero."""
    return [f"{prefix}{i:05d}" for i in range(n_genes)]


def donors(rng, n_cells: int, n_donors: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Donor of each cell, and the columns donor and batch of ``obs``; batches alternate."""
    codes = rng.permutation(np.arange(n_cells) % n_donors)
    columns = {"donor": named("donor", n_donors), "batch": named("batch", 2) * n_donors}
    return codes, {name: pick(values, codes) for name, values in columns.items()}


def split(n: int, share: np.ndarray) -> np.ndarray:
    """Split ``n`` cells by share (largest remainders first), at least one each where possible."""
    exact = n * np.asarray(share) / np.sum(share)
    size = np.floor(exact).astype(int)
    size[np.argsort(size - exact, kind="stable")[: n - size.sum()]] += 1
    while n >= len(size) and size.min() == 0:
        size[size.argmax()] -= 1
        size[size.argmin()] += 1
    return size
