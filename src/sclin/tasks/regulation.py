"""Genes that go with a transcription factor: the published score and a matched test.

The matched test asks one question per gene: among cells of one donor and one depth, is the gene
seen more often in cells that hold the factor? The answer has an exact conditional p.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import lgamma
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import false_discovery_control, norm

from sclin.compiled import njit
from sclin.errors import InputError, nearest
from sclin.normalization import RankNormalizer
from sclin.representations import labels

_QUANTILES = tuple(np.linspace(0.50, 0.95, 10))
_FREQUENCIES = tuple(np.linspace(0.01, 0.20, 10))
_MIN_ACTIVE, _MIN_GENES = 20, 100


def _symbols(adata: AnnData) -> NDArray[Any]:
    return np.asarray(adata.var.get("symbol", adata.var_names)).astype(str)


def _locate(adata: AnnData, tf: str) -> tuple[int, NDArray[Any]]:
    """Column of a factor, by symbol or id, and its values in all cells."""
    names = _symbols(adata)
    found = np.flatnonzero((names == tf) | (np.asarray(adata.var_names) == tf))
    if len(found) != 1:
        raise InputError(
            f"{len(found) or 'No'} genes are called {tf!r}; give a symbol or id that names one."
            + nearest(tf, names)
        )
    values = sparse.csr_matrix(adata.X[:, found]).toarray().ravel()
    if not values.any():
        raise InputError(f"{tf!r} has no count in any of {adata.n_obs} cells: choose another.")
    return int(found[0]), values


def published_score(
    adata: AnnData,
    tf: str,
    *,
    quantiles: Sequence[float] = _QUANTILES,
    frequencies: Sequence[float] = _FREQUENCIES,
    scores: NDArray[np.floating] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score genes by mutual information as published, and pick the richest setting.

    Active cells lie above a quantile of the factor's rank score; a gene is on where its rank score
    is above zero.
    For each quantile and least frequency, PMI = ln(P(on | active) / P(on)) is turned into a z
    score over the kept genes and a normal p; the setting with most genes at q < 0.05 wins.

    Parameters
    ----------
    adata
        Counts.
    tf
        Factor, by symbol or id.
    quantiles, frequencies
        Settings to try; one of each fixes the setting. Settings with fewer than 20 active cells
        or 100 kept genes are passed over.
    scores
        Rank score of the factor in each cell; give permuted ones for a null.

    Returns
    -------
    genes, grid
        Genes with z > 0 of the winning setting (gene, pmi, z, p_value, q_value); and every
        setting with n_active, n_genes, n_significant, and share_with_tf, the share of active cells
        that hold the factor at all.

    Raises
    ------
    InputError
        If the factor is absent, never expressed, or no setting is feasible.
    """
    at, values = _locate(adata, tf)
    Z = RankNormalizer().fit_transform(sparse.csr_matrix(adata.X))
    on = Z.sparse.copy()
    on.data = (on.data + np.repeat(Z.offset, np.diff(on.indptr)) > 0).astype(np.float32)
    score = Z[:, [at]].toarray().ravel() if scores is None else np.asarray(scores)
    rate = np.asarray(on.mean(axis=0)).ravel()
    names, rows, tables = _symbols(adata), [], []
    for quantile in quantiles:
        active = score > np.quantile(score, quantile)
        if active.sum() < _MIN_ACTIVE:
            continue
        joint = np.asarray(on[active].mean(axis=0)).ravel()
        setting = {"n_active": active.sum(), "share_with_tf": (values[active] > 0).mean()}
        for frequency in frequencies:
            kept = np.flatnonzero(rate >= frequency)
            if len(kept) < _MIN_GENES:
                continue
            pmi = np.log((joint[kept] + 1e-10) / (rate[kept] + 1e-10))
            z = (pmi - pmi.mean()) / (pmi.std() or 1.0)
            p = 2 * norm.sf(np.abs(z))
            genes = {"pmi": pmi, "z": z, "p_value": p, "q_value": false_discovery_control(p)}
            tables.append(pd.DataFrame({"gene": names[kept], **genes})[(z > 0) & (kept != at)])
            found = int((tables[-1]["q_value"] < 0.05).sum())
            sizes = {"n_genes": len(kept), "n_significant": found}
            rows.append({"quantile": quantile, "frequency": frequency} | setting | sizes)
    if not rows:
        raise InputError(
            f"No setting for {tf!r} leaves {_MIN_ACTIVE} active cells and {_MIN_GENES} genes: "
            "give more cells, or other quantiles and frequencies."
        )
    grid = pd.DataFrame(rows)
    richest = tables[int(grid["n_significant"].to_numpy().argmax())]
    return richest.sort_values("z", ascending=False, ignore_index=True), grid


def strata(
    adata: AnnData, tf: str | None = None, *, donor: str | None = "donor", n_depth: int = 10
) -> NDArray[np.intp]:
    """Number cells by donor and, within it, by quantile of library size.

    Parameters
    ----------
    adata
        Counts.
    tf
        Factor that is left out of the library size.
    donor
        Column of ``obs``, or None to match on depth alone.
    n_depth
        Depth classes per donor.

    Returns
    -------
    ndarray
        Stratum of each cell, shape (cells,).
    """
    depth = np.asarray(adata.X.sum(axis=1)).ravel()
    if tf is not None:
        depth = depth - _locate(adata, tf)[1]
    of = np.zeros(adata.n_obs) if donor is None else labels(adata, donor)
    groups = np.unique(of, return_inverse=True)[1]
    within = pd.Series(depth).groupby(groups)
    place, size = within.rank(method="first").to_numpy() - 1, within.transform("size").to_numpy()
    code = groups * n_depth + (place * n_depth // size).astype(int)
    return np.unique(code, return_inverse=True)[1]


@njit()
def _log_choose(logs, n, k):  # pragma: no cover - compiled
    return logs[n] - logs[k] - logs[n - k]


@njit()
def _exact_tail(n, m, k, observed):  # pragma: no cover - compiled
    """Two-sided p of a sum of independent hypergeometrics, one value per gene.

    ``n`` and ``m`` are (strata,): cells and cells with the factor; ``k`` is (strata, genes): cells
    with the gene; ``observed`` is (genes,). All terms are positive, so small tails keep their
    digits.
    """
    p_value = np.empty(len(observed))
    logs = np.array([lgamma(i + 1) for i in range(n.max() + 1)])  # of factorials
    for g in range(len(observed)):
        law, offset = np.ones(1), 0
        for s in range(len(n)):
            low, high = max(0, m[s] + k[s, g] - n[s]), min(m[s], k[s, g])
            wide = np.zeros(len(law) + high - low)
            for x in range(low, high + 1):
                ways = _log_choose(logs, k[s, g], x) + _log_choose(logs, n[s] - k[s, g], m[s] - x)
                chance = np.exp(ways - _log_choose(logs, n[s], m[s]))
                moved = wide[x - low :]  # no sum of indices, so that the loop is a vector loop
                for j in range(len(law)):
                    moved[j] += chance * law[j]
            law, offset = wide, offset + low
        at = observed[g] - offset
        p_value[g] = min(1.0, 2 * min(law[: at + 1].sum(), law[at:].sum()))
    return p_value


def association(
    adata: AnnData, tf: str, *, donor: str | None = "donor", n_depth: int = 10,
    min_frequency: float = 0.05, min_cells: int = 20,
    cells_with_tf: NDArray[np.bool_] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Association of a factor with every gene among cells of one donor and one depth.

    A cell is active if it holds a molecule of the factor, a gene is on if it is seen.
    Within strata of donor and depth, the number of active cells with the gene on is hypergeometric
    if the two have nothing to do with each other; the sum over strata gives an exact p.

    Parameters
    ----------
    adata
        Counts.
    tf
        Factor, by symbol or id.
    donor, n_depth
        Strata; see `strata`.
    min_frequency
        Genes are tested that are on in at least this share of cells, and off in as many.
    min_cells
        Fewest cells with, and without, the factor.
    cells_with_tf
        Which cells are active; give permuted ones for a null.

    Returns
    -------
    DataFrame
        gene, share_active, share_other, log_odds (Mantel-Haenszel, natural log), p_value,
        q_value (Benjamini-Hochberg within the tested genes); smallest p first.

    Raises
    ------
    InputError
        If the factor is absent or never expressed, or too few cells hold or lack it.

    References
    ----------
    Mantel and Haenszel, J. Natl. Cancer Inst. 22, 1959; Benjamini and Hochberg, J. R. Stat. Soc. B
    57, 1995.
    """
    at, values = _locate(adata, tf)
    active = values > 0 if cells_with_tf is None else np.asarray(cells_with_tf, bool)
    if min(active.sum(), (~active).sum()) < min_cells:
        raise InputError(
            f"{tf!r} is seen in {active.sum()} of {len(active)} cells: {min_cells} with and "
            "without it are needed. Lower min_cells or choose another factor."
        )
    on = sparse.csr_matrix(adata.X).astype(bool).astype(np.float32)
    frequency = np.asarray(on.mean(axis=0)).ravel()
    tested = (frequency >= min_frequency) & (frequency <= 1 - min_frequency)
    tested[at] = False
    if not tested.any():
        raise InputError(f"No gene is on in {min_frequency:.0%} of the cells: lower min_frequency.")
    on = on[:, tested]
    stratum = strata(adata, tf, donor=donor, n_depth=n_depth)
    member = sparse.csr_matrix((np.ones(len(stratum)), (stratum, np.arange(len(stratum)))))
    n, m = np.bincount(stratum)[:, None], (member @ active[:, None]).astype(int)
    k = (member @ on).toarray().astype(int)
    a = (member[:, active] @ on[active]).toarray().astype(int)
    p_value = _exact_tail(n.ravel(), m.ravel(), k, a.sum(axis=0))
    same, other = (a * (n - m - k + a) / n).sum(axis=0), ((m - a) * (k - a) / n).sum(axis=0)
    table = pd.DataFrame({
        "gene": _symbols(adata)[tested],
        "share_active": np.asarray(on[active].mean(axis=0)).ravel(),
        "share_other": np.asarray(on[~active].mean(axis=0)).ravel(),
        "log_odds": np.log((same + 0.5) / (other + 0.5)),
        "p_value": p_value,
        "q_value": false_discovery_control(p_value),
    })  # fmt: skip
    order = np.lexsort([-table["log_odds"].abs(), table["p_value"]])
    return table.iloc[order].reset_index(drop=True)
