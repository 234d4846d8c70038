"""Structure: hand-computed cases, recovery of simulated truth, chance for shuffled labels."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import spearmanr

from sclin.benchmarks import structure
from sclin.datasets import simulate
from sclin.datasets.mammals import GERM_LINE
from sclin.evaluation import COLUMNS
from sclin.normalization import rank_normalize

STAGES = GERM_LINE


@pytest.fixture(scope="module")
def mammals():
    return simulate.species(n_cells=200, n_genes=1200, seed=0)


def _toy():
    X = sp.csr_matrix(np.array([[4, 0, 0, 4], [0, 2, 0, 2], [1, 1, 2, 0]], dtype=np.float32))
    obs = pd.DataFrame({"cell_type": ["a", "a", "b"]}, index=list("xyz"))
    return ad.AnnData(X, obs=obs, uns={"sclin": {"dataset": "toy", "values": "counts"}})


def test_the_two_orders_by_hand():
    toy = _toy()
    with pytest.warns(UserWarning, match="span only 1"):  # a toy: b is a upside down
        first = structure.class_averages(toy, order="average_then_rank")
    # Class a: mean of (.5, 0, 0, .5) and (0, .5, 0, .5).
    expected = rank_normalize(np.array([[0.25, 0.25, 0.0, 0.5]])).toarray()[0]
    np.testing.assert_allclose(first.loc["a"], expected, atol=1e-7)
    second = structure.class_averages(toy, order="rank_then_average")
    cells = rank_normalize(toy.X[:2].toarray()).toarray()
    mean = cells.mean(0) / np.linalg.norm(cells.mean(0))
    np.testing.assert_allclose(second.loc["a"], mean, atol=1e-6)


def test_cosine_by_hand():
    a = pd.DataFrame([[1.0, 0.0], [1.0, 1.0]], index=["p", "q"])
    cosine = structure.cosine_similarity(a)
    assert cosine.loc["p", "q"] == pytest.approx(2**-0.5)
    assert cosine.loc["p", "p"] == pytest.approx(1.0)


def test_permutation_p_by_counting():
    test = structure.permutation_test([1, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4, 3, 2, 1])
    assert test.value == -1 and test.n_permutations == 5040
    assert test.p_value == pytest.approx(2 / 5040)  # the perfect order and its mirror image
    x, y = np.random.default_rng(0).normal(size=(2, 6))
    assert structure.permutation_test(x, y).value == pytest.approx(spearmanr(x, y).statistic)


def test_matrix_permutation_keeps_pairs_of_a_unit_together():
    steps = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    test = structure.permutation_test(steps, -steps)
    assert test.value == -1 and test.p_value == pytest.approx(2 / 120)  # a chain read both ways


def test_null_p_values_are_uniform():
    rng = np.random.default_rng(1)
    p = [structure.permutation_test(*rng.normal(size=(2, 6))).p_value for _ in range(200)]
    assert 0.01 < np.mean(np.array(p) < 0.1) < 0.2


def test_depth_matching_gives_every_cell_the_same_molecules(mammals):
    matched, depth, dropped = structure.match_depth(mammals.adatas, depth=500, seed=0)
    assert depth == 500 and dropped > 0
    for adata in matched.values():
        assert (np.asarray(adata.X.sum(1)).ravel() == 500).all()
    kept = sum(a.n_obs for a in matched.values())
    assert kept + dropped == sum(a.n_obs for a in mammals.adatas.values())


@pytest.mark.parametrize("protocol", ["corrected", "as_published"])
def test_divergence_is_found_on_simulated_species(mammals, protocol):
    outcome = structure.divergence(mammals, protocol=protocol, n_boot=50)
    test = outcome.details["test"]
    assert test.value < -0.85 and test.p_value < 0.02 and test.n == 7
    assert outcome.similarity.shape == (5, 7)
    assert list(outcome.results.columns) == list(COLUMNS)
    metrics = set(outcome.results["metric"])
    assert ("spearman_myr_vs_cosine_points" in metrics) == (protocol == "as_published")
    if protocol == "as_published":
        row = outcome.results.query("metric == 'spearman_myr_vs_cosine_points'").iloc[0]
        assert row["n"] == 35
        expected = spearmanr(outcome.points["myr"], outcome.points["cosine"]).statistic
        assert row["value"] == pytest.approx(expected)


def test_depth_alone_makes_a_distance_and_matching_removes_it():
    """One species at eight depths: no divergence, yet cosine falls until depth is matched."""
    base = simulate.species(n_cells=400, n_genes=800, seed=3).adatas["human"]
    base = base[base.obs["cell_type"].isin(["spermatogonium", "somatic cell"])]
    myr = {name: float(i) for i, name in enumerate("abcdefg")}
    cells = np.random.default_rng(0).permutation(base.n_obs)
    parts = dict(zip("habcdefg", np.array_split(cells, 8), strict=True))
    sets = {}
    for i, (name, rows) in enumerate(parts.items()):
        part = base[np.sort(rows)].copy()
        sets[name] = structure.match_depth({name: part}, depth=int(1000 * 0.72**i))[0][name]
    pairs = {n: pd.DataFrame({"source": base.var_names, "target": base.var_names}) for n in myr}
    options = {"pairs": pairs, "myr": myr, "reference": "h", "n_boot": 20}
    naive = structure.divergence(sets, protocol="as_published", **options)
    matched = structure.divergence(sets, protocol="corrected", depth=95, **options)
    assert naive.details["test"].value < -0.85
    assert abs(matched.details["test"].value) < 0.8
    gap = {
        o: m.details["means"].max() - m.details["means"].min()
        for o, m in (("naive", naive), ("matched", matched))
    }
    assert gap["matched"] < 0.7 * gap["naive"]


def test_lineage_steps_are_found_and_shuffled_stages_are_not():
    human = simulate.species(n_cells=500, n_genes=1500, seed=1).adatas["human"]
    found = structure.lineage(human, STAGES, n_boot=20)
    assert found.details["test"].value < -0.5 and found.details["test"].p_value < 0.1
    row = found.results.iloc[0]
    assert row["ci_low"] < row["value"] + 0.1 and row["n"] == 5
    shuffled = human.copy()
    shuffled.obs["cell_type"] = np.random.default_rng(0).permutation(
        np.asarray(human.obs["cell_type"])
    )
    lost = structure.lineage(shuffled, STAGES, n_boot=0)
    assert lost.similarity.to_numpy().min() > 0.9  # every class is the same mixture


def test_tree_by_hand():
    names = list("abcd")
    tight, loose = 0.9, 0.1
    similarity = pd.DataFrame(loose, index=names, columns=names)
    similarity.loc["a", "b"] = similarity.loc["b", "a"] = tight
    similarity.loc["c", "d"] = similarity.loc["d", "c"] = tight
    np.fill_diagonal(similarity.to_numpy(), 1)
    distance = pd.DataFrame(
        [[0, 2, 4, 4], [2, 0, 4, 4], [4, 4, 0, 2], [4, 4, 2, 0]], names, names, dtype=float
    )
    good = structure.tree_recovery(similarity, "((a,b),(c,d));", distance)
    assert good["robinson_foulds"] == 0 and good["cophenetic"].value == pytest.approx(1)
    assert good["rf_p_value"] == pytest.approx(1 / 3, abs=0.05)  # 8 of 24 labelings fit
    bad = structure.tree_recovery(similarity, "((a,c),(b,d));")
    assert bad["robinson_foulds"] == 1
    # A caterpillar shares (a,b) only: two clades differ of four.
    half = structure.tree_recovery(similarity, "(((a:1,b:1):1,c:2):1,d:3);")
    assert half["robinson_foulds"] == pytest.approx(0.5)


def test_species_tree_is_recovered(mammals):
    aligned = structure.align_species(
        mammals.adatas, {n: mammals.pairs("human", n) for n in mammals.adatas if n != "human"}
    )
    means = pd.DataFrame(
        {n: structure.class_averages(a).loc["spermatocyte"] for n, a in aligned.items()}
    ).T
    found = structure.tree_recovery(
        structure.cosine_similarity(means), mammals.tree, mammals.divergence_myr
    )
    assert found["robinson_foulds"] < 0.5 and found["rf_p_value"] < 0.01
    assert found["cophenetic"].value > 0.6
