"""Genes that go with a transcription factor: the published score, a matched test, and enrichment.

The corrected protocol asks one question per gene: among cells of one donor and one depth, is the
gene seen more often in cells that express the factor?
The answer has an exact conditional p, and the list of genes is then held against curated targets
with the tested genes as background.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from numba import njit
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, hypergeom, norm

from sclin.benchmarks._cells import dataset_name, is_published
from sclin.errors import DataError, InputError, nearest
from sclin.evaluation import Interval, bootstrap, result, results_table
from sclin.normalization import RankNormalizer
from sclin.representations import column

__all__ = [
    "Enrichment",
    "RegulationOutcome",
    "association",
    "average_precision",
    "enrichment",
    "published_score",
    "run",
    "strata",
    "string_partners",
]

_QUANTILES = tuple(np.linspace(0.50, 0.95, 10))
_FREQUENCIES = tuple(np.linspace(0.01, 0.20, 10))
_MIN_ACTIVE, _MIN_GENES = 20, 100


class Enrichment(NamedTuple):
    """Hypergeometric overlap of a gene list with a set, within a background."""

    hits: int
    expected: float
    fold: float
    p_value: float
    n_list: int
    n_set: int
    n_background: int


@dataclass
class RegulationOutcome:
    """Results of the gene regulation task.

    Attributes
    ----------
    results
        Tidy results table.
    genes
        One row per factor and tested gene, strongest first.
    factors
        One row per factor: cells that express it, genes tested and found, enrichment.
    skipped
        Factors left out, with the reason.
    """

    results: pd.DataFrame
    genes: pd.DataFrame
    factors: pd.DataFrame
    skipped: dict[str, str]


def _locate(adata: AnnData, tf: str) -> int:
    """Column of a factor, by symbol or by id; expressed somewhere."""
    names = _symbols(adata)
    found = np.flatnonzero((names == tf) | (np.asarray(adata.var_names) == tf))
    if len(found) == 0:
        raise InputError(f"No gene is called {tf!r}.{nearest(tf, names)}")
    if len(found) > 1:
        raise InputError(
            f"{len(found)} genes are called {tf!r}: sum them or give unique symbols first."
        )
    if not _column(adata.X, found[0]).any():
        raise InputError(f"{tf!r} has no count in any of {adata.n_obs} cells: choose another.")
    return int(found[0])


def _symbols(adata: AnnData) -> NDArray[Any]:
    return np.asarray(adata.var.get("symbol", adata.var_names)).astype(str)


def _column(X: Any, at: int) -> NDArray[Any]:
    """One gene's values in all cells."""
    return sp.csr_matrix(X[:, [at]]).toarray().ravel()


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
    at = _locate(adata, tf)
    Z = RankNormalizer().fit_transform(sp.csr_matrix(adata.X))
    on = Z.sparse.copy()
    on.data = (on.data + np.repeat(Z.offset, np.diff(on.indptr)) > 0).astype(np.float32)
    has_tf = _column(adata.X, at) > 0
    score = Z[:, [at]].toarray().ravel() if scores is None else np.asarray(scores)
    rate = np.asarray(on.mean(axis=0)).ravel()
    names = _symbols(adata)
    rows, best, winner = [], -1, None
    for quantile in quantiles:
        active = score > np.quantile(score, quantile)
        n_active = int(active.sum())
        joint = np.asarray(on[active].mean(axis=0)).ravel() if n_active else rate
        for frequency in frequencies:
            kept = rate >= frequency
            if n_active < _MIN_ACTIVE or kept.sum() < _MIN_GENES:
                continue
            pmi = np.log((joint[kept] + 1e-10) / (rate[kept] + 1e-10))
            spread = pmi.std()
            z = (pmi - pmi.mean()) / spread if spread > 0 else np.zeros_like(pmi)
            p_value = 2 * norm.sf(np.abs(z))
            q_value = false_discovery_control(p_value)
            good = (z > 0) & (np.flatnonzero(kept) != at)
            n_significant = int((good & (q_value < 0.05)).sum())
            rows.append(
                {
                    "quantile": quantile,
                    "frequency": frequency,
                    "n_active": n_active,
                    "n_genes": int(kept.sum()),
                    "n_significant": n_significant,
                    "share_with_tf": float(has_tf[active].mean()),
                }
            )
            if n_significant > best:
                best = n_significant
                columns = {"pmi": pmi, "z": z, "p_value": p_value, "q_value": q_value}
                winner = pd.DataFrame({"gene": names[kept], **columns})[good]
    if winner is None:
        raise InputError(
            f"No setting for {tf!r} leaves {_MIN_ACTIVE} active cells and {_MIN_GENES} genes: "
            "give more cells, or other quantiles and frequencies."
        )
    genes = winner.sort_values("z", ascending=False, ignore_index=True)
    return genes, pd.DataFrame(rows)


def strata(
    adata: AnnData,
    *,
    donor: str | None = "donor",
    n_depth: int = 10,
    exclude: Iterable[int] = (),
) -> NDArray[np.intp]:
    """Number cells by donor and, within it, by quantile of library size.

    Parameters
    ----------
    adata
        Counts.
    donor
        Column of ``obs``, or None to match on depth alone.
    n_depth
        Depth classes per donor.
    exclude
        Columns left out of the library size, such as the factor itself.

    Returns
    -------
    ndarray
        Stratum of each cell, shape (cells,).
    """
    X = sp.csr_matrix(adata.X)
    depth = np.asarray(X.sum(axis=1)).ravel()
    for at in exclude:
        depth = depth - _column(X, at)
    groups = (
        np.zeros(adata.n_obs, dtype=int)
        if donor is None
        else np.unique(column(adata, donor).astype(str), return_inverse=True)[1]
    )
    within = pd.Series(depth).groupby(groups)
    place, size = within.rank(method="first").to_numpy() - 1, within.transform("size").to_numpy()
    code = groups * n_depth + (place * n_depth // size).astype(int)
    return np.unique(code, return_inverse=True)[1]


@njit(cache=True)
def _exact_tail(n, m, k, observed):  # pragma: no cover - compiled
    """Two-sided p of a sum of independent hypergeometrics, one value per gene.

    ``n`` and ``m`` are (strata,): cells and cells with the factor; ``k`` is (strata, genes): cells
    with the gene; ``observed`` is (genes,).  All terms are positive, so small tails keep their
    digits.
    """
    log_f = np.zeros(n.max() + 2)
    for i in range(2, len(log_f)):
        log_f[i] = log_f[i - 1] + np.log(i)
    p_value = np.empty(len(observed))
    for g in range(len(observed)):
        law = np.zeros(m.sum() + 1)
        law[0] = 1.0
        length, offset = 1, 0
        for s in range(len(n)):
            low, high = max(0, m[s] + k[s, g] - n[s]), min(m[s], k[s, g])
            offset += low
            if high == low:
                continue
            log_all = log_f[n[s]] - log_f[m[s]] - log_f[n[s] - m[s]]
            wide = np.zeros(length + high - low)
            for x in range(low, high + 1):
                rest, other = k[s, g] - x, n[s] - k[s, g] - (m[s] - x)
                weight = np.exp(
                    log_f[k[s, g]]
                    - log_f[x]
                    - log_f[rest]
                    + log_f[n[s] - k[s, g]]
                    - log_f[m[s] - x]
                    - log_f[other]
                    - log_all
                )
                for j in range(length):
                    wide[j + x - low] += weight * law[j]
            length += high - low
            law[:length] = wide
        at = observed[g] - offset
        below, above = law[: at + 1].sum(), law[at:length].sum()
        p_value[g] = min(1.0, 2 * min(below, above))
    return p_value


def association(
    adata: AnnData,
    tf: str,
    *,
    donor: str | None = "donor",
    n_depth: int = 10,
    min_frequency: float = 0.05,
    min_cells: int = 20,
    cells_with_tf: NDArray[np.bool_] | None = None,
) -> pd.DataFrame:
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
        Strata; see :func:`strata`.
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
    at = _locate(adata, tf)
    X = sp.csr_matrix(adata.X)
    active = _column(X, at) > 0 if cells_with_tf is None else np.asarray(cells_with_tf, bool)
    if min(active.sum(), (~active).sum()) < min_cells:
        raise InputError(
            f"{tf!r} is seen in {active.sum()} of {len(active)} cells: {min_cells} with and "
            "without it are needed. Lower min_cells or choose another factor."
        )
    on = X.astype(bool).astype(np.float32)
    frequency = np.asarray(on.mean(axis=0)).ravel()
    tested = (frequency >= min_frequency) & (frequency <= 1 - min_frequency)
    tested[at] = False
    if not tested.any():
        raise InputError(f"No gene is on in {min_frequency:.0%} of the cells: lower min_frequency.")
    on = on[:, tested]
    stratum = strata(adata, donor=donor, n_depth=n_depth, exclude=[at])
    n_strata = int(stratum.max()) + 1
    cells = np.arange(len(stratum))
    group = sp.csr_matrix((np.ones(len(cells), np.float32), (stratum, cells)))
    n = np.bincount(stratum, minlength=n_strata)
    flip = active.mean() > 0.5  # the rarer side makes the shorter law, with the same p
    marked = ~active if flip else active
    m = np.bincount(stratum, weights=marked, minlength=n_strata).astype(int)
    k = (group @ on).toarray().round().astype(int)
    a = (group[:, marked] @ on[marked]).toarray().round().astype(int)
    p_value = _exact_tail(n, m, k, a.sum(axis=0))
    scale = 1.0 / n[:, None]
    same = (scale * a * (n[:, None] - m[:, None] - k + a)).sum(axis=0)
    other = (scale * (m[:, None] - a) * (k - a)).sum(axis=0)
    log_odds = np.log((same + 0.5) / (other + 0.5)) * (-1 if flip else 1)
    table = pd.DataFrame(
        {
            "gene": _symbols(adata)[tested],
            "share_active": np.asarray(on[active].mean(axis=0)).ravel(),
            "share_other": np.asarray(on[~active].mean(axis=0)).ravel(),
            "log_odds": log_odds,
            "p_value": p_value,
            "q_value": false_discovery_control(p_value),
        }
    )
    strength = table["log_odds"].abs()
    order = np.lexsort([-strength, table["p_value"]])
    return table.iloc[order].reset_index(drop=True)


def enrichment(
    found: Iterable[str], targets: Iterable[str], background: Iterable[str]
) -> Enrichment:
    """Overlap of a list of genes with a curated set, by the hypergeometric law.

    Parameters
    ----------
    found, targets
        The list and the set; both are cut to the background.
    background
        All genes that were tested.

    Returns
    -------
    Enrichment
        p is the chance of this overlap or a larger one.

    Examples
    --------
    >>> enrichment("abc", "abh", "abcdefgh").hits
    2
    """
    pool = set(background)
    listed, known = set(found) & pool, set(targets) & pool
    hits = len(listed & known)
    expected = len(listed) * len(known) / len(pool) if pool else 0.0
    p_value = float(hypergeom.sf(hits - 1, len(pool), len(known), len(listed))) if pool else 1.0
    fold = hits / expected if expected > 0 else float("nan")
    return Enrichment(hits, expected, fold, p_value, len(listed), len(known), len(pool))


def average_precision(
    scores: Mapping[str, pd.Series], edges: pd.DataFrame, *, n_boot: int = 1000, seed: int = 0
) -> tuple[Interval, pd.DataFrame]:
    """Mean average precision over factors against a known network.

    Parameters
    ----------
    scores
        For each factor a score per gene, larger is stronger.
    edges
        Known network, columns tf and target.
    n_boot
        Bootstrap resamples of factors.
    seed
        Seed of the bootstrap.

    Returns
    -------
    mean, table
        Interval over factors; and per factor average_precision, chance (share of targets among
        the scored genes), n_targets.

    Raises
    ------
    InputError
        If no factor has a target among its scored genes.
    """
    from sklearn.metrics import average_precision_score

    known = edges.groupby("tf")["target"].agg(set)
    rows = []
    for tf, score in scores.items():
        truth = score.index.isin(known.get(tf, set()))
        if truth.any():
            rows.append((tf, average_precision_score(truth, score), truth.mean(), truth.sum()))
    if not rows:
        raise InputError("No factor has a known target among its scored genes.")
    table = pd.DataFrame(rows, columns=["tf", "average_precision", "chance", "n_targets"])
    mean = bootstrap(np.mean, table["average_precision"].to_numpy(), n_boot=n_boot, seed=seed)
    return mean, table


def run(
    adata: AnnData,
    tfs: Sequence[str],
    *,
    network: pd.DataFrame | None = None,
    network_name: str = "",
    protocol: str = "corrected",
    donor: str | None = "donor",
    n_depth: int = 10,
    min_frequency: float = 0.05,
    alpha: float = 0.05,
    seed: int = 0,
) -> RegulationOutcome:
    """Find the genes that go with each factor and hold them against a curated network.

    Parameters
    ----------
    adata
        Counts.
    tfs
        Factors; absent, silent or too rare ones are skipped and counted.
    network
        Columns source and target, symbols.
    network_name
        Its name in the results.
    protocol
        ``corrected``: matched test, positive associations at q < ``alpha``, background of tested
        genes. ``as_published``: PMI score at its best setting.
    donor, n_depth, min_frequency, alpha
        Options of the corrected protocol.
    seed
        Seed of the bootstrap over factors.

    Returns
    -------
    RegulationOutcome

    Raises
    ------
    InputError
        If no factor can be tested.
    """
    published = is_published(protocol)
    tables, rows, skipped = [], [], {}
    for tf in tfs:
        try:
            if published:
                table, grid = published_score(adata, tf)
                found = table.loc[table["q_value"] < alpha, "gene"]
                background = pd.Series(_symbols(adata))
            else:
                table = association(
                    adata, tf, donor=donor, n_depth=n_depth, min_frequency=min_frequency
                )
                found = table.loc[(table["q_value"] < alpha) & (table["log_odds"] > 0), "gene"]
                background = table["gene"]
        except InputError as error:
            skipped[tf] = str(error)
            continue
        row: dict[str, Any] = {
            "tf": tf,
            "n_cells": int(np.count_nonzero(_column(adata.X, _locate(adata, tf)))),
            "n_tested": len(background) - published,
            "n_found": len(found),
        }
        if published:
            best = grid.iloc[int(grid["n_significant"].to_numpy().argmax())]
            row |= {key: best[key] for key in ("quantile", "frequency", "share_with_tf")}
        if network is not None:
            known = set(network.loc[network["source"] == tf, "target"]) - {tf}
            row |= enrichment(found, known, background)._asdict()
        rows.append(row)
        tables.append(table.assign(tf=tf))
    if not rows:
        raise InputError(f"None of {list(tfs)} can be tested: {skipped}.")
    factors = pd.DataFrame(rows)
    out = []
    for row in rows:
        fields: dict[str, Any] = {
            "task": "regulation",
            "dataset": dataset_name(adata),
            "protocol": protocol,
            "representation": "rank" if published else "counts",
            "seed": seed,
        }
        note = f"{row['tf']}: seen in {row['n_cells']} cells, {row['n_tested']} genes tested"
        size = {"value": row["n_found"], "n": row["n_cells"]}
        out.append(result(metric="n_genes_found", note=note, **size, **fields))
        if network is not None and row["n_list"] > 0 and row["n_set"] > 0:
            note = (
                f"{row['tf']}: {row['hits']} of {row['n_list']} genes among {row['n_set']} targets "
                f"of {network_name or 'the network'}, {row['expected']:.1f} expected, "
                f"p = {row['p_value']:.2g}"
            )
            fold = {"value": row["fold"], "n": row["n_list"]}
            out.append(result(metric="enrichment_fold", note=note, **fold, **fields))
    genes = pd.concat(tables, ignore_index=True)
    return RegulationOutcome(results_table(out), genes, factors, skipped)


def string_partners(
    gene: str,
    *,
    species: int = 9606,
    required_score: int = 400,
    physical: bool = True,
    url: str = "https://string-db.org/api/tsv/interaction_partners",
    timeout: float = 20.0,
) -> pd.DataFrame:
    """Ask the STRING web service for the partners of a gene.

    STRING's combined score holds co-expression and text mining, so it cannot judge a
    co-expression result; physical partners can.

    Parameters
    ----------
    gene
        Symbol.
    species
        NCBI taxon.
    required_score
        Least combined score, 0 to 1,000.
    physical
        Physical partners only.
    url
        Address of the service.
    timeout
        Seconds to wait.

    Returns
    -------
    DataFrame
        source, target, score (0 to 1), experiments (0 to 1).

    Raises
    ------
    DataError
        Without network, or when the service answers with an error.
    """
    from urllib.error import URLError
    from urllib.parse import urlencode
    from urllib.request import urlopen

    query = {
        "identifiers": gene,
        "species": species,
        "required_score": required_score,
        "network_type": "physical" if physical else "functional",
        "limit": 1000,
        "caller_identity": "sclin",
    }
    try:
        with urlopen(f"{url}?{urlencode(query)}", timeout=timeout) as answer:
            text = answer.read().decode()
    except (URLError, TimeoutError, OSError) as error:
        raise DataError(
            f"STRING did not answer for {gene!r} at {url} ({error}). Check the network, or use "
            "datasets.resource('pathway_commons'), which needs none once fetched."
        ) from error
    wanted = {
        "preferredName_A": "source", "preferredName_B": "target",
        "score": "score", "escore": "experiments",
    }  # fmt: skip
    table = pd.read_csv(io.StringIO(text), sep="\t")
    if not set(wanted) <= set(table):
        raise DataError(
            f"STRING's answer for {gene!r} lacks the columns {[*wanted]}: {text[:80]!r}."
        )
    return table[[*wanted]].rename(columns=wanted)
