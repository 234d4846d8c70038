"""Gene regulation: exact p by hand, calibration, recovery, the published score's artefact."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import hypergeom, kstest
from sklearn.metrics import average_precision_score

from sclin.datasets import simulate
from sclin.statistics import permuted
from sclin.tasks import regulation


@pytest.fixture(scope="module")
def network():
    return simulate.regulation(n_cells=1200, n_genes=600, n_tfs=8, n_targets=25, seed=0)


def _cells(X, donor=None):
    X = np.asarray(X, dtype=np.float32)
    obs = pd.DataFrame({"donor": donor or ["d"] * len(X)}, index=[str(i) for i in range(len(X))])
    var = pd.DataFrame(index=[f"g{i}" for i in range(X.shape[1])])
    return ad.AnnData(sp.csr_matrix(X), obs=obs, var=var)


def test_one_stratum_is_the_hypergeometric_law():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 2, size=(60, 8))
    table = regulation.association(_cells(X), "g0", n_depth=1).set_index("gene")
    m = int(X[:, 0].sum())
    for j in range(1, 8):
        k, a = int(X[:, j].sum()), int((X[:, 0] & X[:, j]).sum())
        law = hypergeom(60, k, m)
        expected = min(1.0, 2 * min(law.cdf(a), law.sf(a - 1)))
        assert table.loc[f"g{j}", "p_value"] == pytest.approx(expected, rel=1e-8)


def test_two_strata_by_listing_all_outcomes():
    n, m = np.array([7, 9]), np.array([3, 4])
    k = np.array([[4], [5]])
    laws = [hypergeom(n[i], k[i, 0], m[i]) for i in range(2)]
    total = {}
    for x in range(8):
        for y in range(8):
            total[x + y] = total.get(x + y, 0) + laws[0].pmf(x) * laws[1].pmf(y)
    for observed in range(1, 7):
        upper = sum(p for s, p in total.items() if s >= observed)
        lower = sum(p for s, p in total.items() if s <= observed)
        found = regulation._exact_tail(n, m, k, np.array([observed]))[0]
        assert found == pytest.approx(min(1, 2 * min(upper, lower)), rel=1e-9)


def test_log_odds_is_mantel_haenszel():
    rows = [[1, 1]] * 6 + [[1, 0]] * 4 + [[0, 1]] * 3 + [[0, 0]] * 7
    table = regulation.association(
        _cells(rows * 2, donor=["a"] * 20 + ["b"] * 20), "g0", n_depth=1, min_cells=5
    )
    expected = np.log((2 * 6 * 7 / 20 + 0.5) / (2 * 4 * 3 / 20 + 0.5))
    assert table["log_odds"].iloc[0] == pytest.approx(expected)
    assert table["share_active"].iloc[0] == pytest.approx(0.6)


def test_permuted_factor_gives_uniform_p(network):
    labels = np.asarray(network[:, [0]].X.todense()).ravel() > 0
    strata = regulation.strata(network, network.var_names[0])
    p = []
    for seed in range(3):
        null = permuted(labels, groups=strata, seed=seed)
        table = regulation.association(network, network.var_names[0], cells_with_tf=null)
        p.append(table["p_value"])
        assert (table["q_value"] < 0.05).sum() <= 2
    # Exact p of a discrete law are never too small.
    values = np.concatenate(p)
    assert np.mean(values < 0.05) < 0.06
    assert kstest(values, "uniform", alternative="greater").pvalue > 1e-3


def test_depth_is_confounded_and_matching_removes_it():
    """Genes that share nothing but sequencing depth: naive finds them all, matched does not."""
    rng = np.random.default_rng(2)
    depth = np.exp(rng.normal(0, 0.8, 1500))
    X = rng.poisson(depth[:, None] * np.full(150, 0.5))
    cells = _cells(X)
    naive = regulation.association(cells, "g0", n_depth=1)
    matched = regulation.association(cells, "g0", n_depth=20)
    assert (naive["q_value"] < 0.05).mean() > 0.8
    assert (matched["q_value"] < 0.05).mean() < 0.1


def test_corrected_recovers_targets_better_than_published(network):
    edges = network.uns["sclin"]["truth"]["edges"]
    edges = edges[edges["sign"] > 0]
    tfs = list(network.var_names[network.var["tf"]])
    corrected, published, null = {}, {}, {}
    rng = np.random.default_rng(0)
    for tf in tfs:
        table = regulation.association(network, tf).set_index("gene")
        corrected[tf] = -np.log10(table["p_value"]) * np.sign(table["log_odds"])
        genes, _ = regulation.published_score(network, tf)
        z = genes.set_index("gene")["z"]
        published[tf] = z.reindex(table.index).fillna(0.0)
        null[tf] = pd.Series(rng.permutation(corrected[tf]), index=table.index)
    truth = {tf: s.index.isin(edges.query("tf == @tf")["target"]) for tf, s in null.items()}
    good, old, by_chance = (
        np.mean([average_precision_score(truth[tf], scores[tf]) for tf in tfs])
        for scores in (corrected, published, null)
    )
    share = np.mean([known.mean() for known in truth.values()])
    assert good > old + 0.1
    assert good > 8 * share
    assert by_chance < 3 * share


def test_cycle_genes_are_not_targets_of_other_factors(network):
    truth = network.uns["sclin"]["truth"]
    known = truth["edges"].groupby("tf")["target"].agg(set)
    right = []
    for tf in network.var_names[:8].difference(list(truth["cycle_tfs"])):
        table = regulation.association(network, tf)
        found = table.query("q_value < 0.05 and log_odds > 0")["gene"]
        right += found.isin(known[tf]).tolist()
    assert np.mean(right) > 0.85
    assert sum(right) > 10


def test_published_active_cells_lack_a_rare_factor():
    """The tie artefact: most 'active' cells hold no molecule of a rare factor."""
    rng = np.random.default_rng(0)
    depth = np.exp(rng.normal(0, 0.6, 2000))
    X = rng.poisson(depth[:, None] * np.exp(rng.normal(-1.5, 1, 400)))
    X[:, 0] = rng.random(2000) < 0.03
    _, grid = regulation.published_score(_cells(X), "g0", quantiles=[0.75], frequencies=[0.05])
    row = grid.iloc[0]
    assert row["share_with_tf"] < 0.2
    with_tf = (X[:, 0] > 0).mean()
    assert row["share_with_tf"] == pytest.approx(with_tf / (row["n_active"] / 2000), rel=0.05)


def test_published_by_hand():
    X = np.zeros((40, 120), dtype=int)
    X[:20, 0] = 5
    X[:, 1:] = (np.arange(119)[None, :] + np.arange(40)[:, None]) % 4 == 0
    X[:20, 7] = 1
    X[20:, 7] = 0
    genes, grid = regulation.published_score(_cells(X), "g0", quantiles=[0.5], frequencies=[0.01])
    assert grid["n_active"].iloc[0] == 20
    assert genes["gene"].iloc[0] == "g7"
    assert genes["pmi"].iloc[0] == pytest.approx(np.log(1.0 / 0.5), rel=1e-6)


def test_enrichment_by_hand(functions_of):
    enrichment = functions_of("09_gene_regulation", "enrichment").enrichment
    found = enrichment("abcx", "abdz", "abcdefghij")
    assert found["hits"] == 2 and found["expected"] == pytest.approx(3 * 3 / 10)
    assert found["n_list"] == found["n_set"] == 3
    assert found["p_value"] == pytest.approx((3 * 7 + 1) / 120)
    assert enrichment("", "ab", "abcd")["p_value"] == 1.0
