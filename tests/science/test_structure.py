"""Structure: hand-computed cases, recovery of simulated truth, bad input refused in words."""

from functools import partial

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import spearmanr

from sclin.datasets import simulate
from sclin.errors import InputError
from sclin.normalization import rank_normalize
from sclin.tasks import cross_species, structure


@pytest.fixture(scope="module")
def eight():
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
    plain = structure.class_averages(toy, of="counts")
    np.testing.assert_allclose(plain.loc["a"], [2, 1, 0, 3])


def test_cosine_by_hand(functions_of):
    cosine = structure.cosine_similarity(pd.DataFrame([[1.0, 0.0], [1.0, 1.0]], index=["p", "q"]))
    assert cosine.loc["p", "q"] == pytest.approx(2**-0.5)
    gap = functions_of("08_structure", "gaps").gaps(cosine)
    assert gap["p", "q"] == pytest.approx(1 - 2**-0.5)


def test_permutation_p_by_counting():
    test = structure.rank_correlation([1, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4, 3, 2, 1])
    assert test.value == pytest.approx(-1) and test.n == 7
    assert test.p_value == pytest.approx(2 / 5040)  # the perfect order and its mirror image
    x, y = np.random.default_rng(0).normal(size=(2, 6))
    assert structure.rank_correlation(x, y).value == pytest.approx(spearmanr(x, y).statistic)


def test_null_p_values_are_uniform():
    rng = np.random.default_rng(1)
    p = [structure.rank_correlation(*rng.normal(size=(2, 6))).p_value for _ in range(200)]
    assert 0.01 < np.mean(np.array(p) < 0.1) < 0.2


def test_depth_and_cells_are_made_equal(eight):
    matched, depth, dropped = structure.match_depth(eight.adatas, depth=500, seed=0)
    assert depth == 500 and dropped > 0
    for adata in matched.values():
        assert (np.asarray(adata.X.sum(1)).ravel() == 500).all()
    kept = sum(a.n_obs for a in matched.values())
    assert kept + dropped == sum(a.n_obs for a in eight.adatas.values())
    equal, size = structure.equal_cells(matched)
    counts = {tuple(a.obs["cell_type"].value_counts().sort_index()) for a in equal.values()}
    assert counts == {(size,) * 5}


def test_divergence_is_found_on_simulated_species(eight):
    aligned = cross_species.align_species(eight.adatas, partial(eight.pairs, kind=None))
    equal, _ = structure.equal_cells(structure.match_depth(aligned)[0])
    averages = {name: structure.class_averages(a) for name, a in equal.items()}
    means = {
        name: np.diag(structure.cosine_similarity(averages["human"], table)).mean()
        for name, table in averages.items()
        if name != "human"
    }
    test = structure.rank_correlation(
        eight.divergence_myr.loc["human", list(means)], [*means.values()]
    )
    assert test.value < -0.85 and test.p_value < 0.02 and test.n == 7


def test_depth_alone_makes_a_distance_and_matching_removes_it():
    """One species at eight depths: no divergence, yet cosine falls until depth is matched."""
    base = simulate.species(n_cells=400, n_genes=800, seed=3).adatas["human"]
    base = base[base.obs["cell_type"].isin(["spermatogonium", "somatic cell"])]
    cells = np.random.default_rng(0).permutation(base.n_obs)
    sets = {}
    for i, (name, rows) in enumerate(zip("habcdefg", np.array_split(cells, 8), strict=True)):
        part = {name: base[np.sort(rows)].copy()}
        sets |= structure.match_depth(part, depth=int(1000 * 0.72**i))[0]
    gap = []
    for parts in (sets, structure.match_depth(sets, depth=95)[0]):
        averages = {name: structure.class_averages(a) for name, a in parts.items()}
        cosines = [
            np.diag(structure.cosine_similarity(averages["h"], averages[name])).mean()
            for name in "abcdefg"
        ]
        gap.append(max(cosines) - min(cosines))
    assert gap[1] < 0.7 * gap[0]


@pytest.fixture(scope="module")
def tree_recovery(functions_of):
    return functions_of("08_structure", "gaps", "by_chance", "tree_recovery").tree_recovery


def test_tree_by_hand(tree_recovery):
    names = list("abcd")
    similarity = pd.DataFrame(0.1, index=names, columns=names)
    similarity.loc["a", "b"] = similarity.loc["b", "a"] = 0.9
    similarity.loc["c", "d"] = similarity.loc["d", "c"] = 0.9
    np.fill_diagonal(similarity.to_numpy(), 1)
    distance = pd.DataFrame(
        [[0, 2, 4, 4], [2, 0, 4, 4], [4, 4, 0, 2], [4, 4, 2, 0]], names, names, dtype=float
    )
    good = tree_recovery(similarity, "((a,b),(c,d));", distance)
    assert good["robinson_foulds"] == 0 and good["cophenetic"] == pytest.approx(1)
    assert good["p_value"] == pytest.approx(1 / 3, abs=0.05)  # 8 of 24 labelings fit
    assert tree_recovery(similarity, "((a,c),(b,d));", distance)["robinson_foulds"] == 1
    # A caterpillar shares (a,b) only: two clades differ of four.
    half = tree_recovery(similarity, "(((a:1,b:1):1,c:2):1,d:3);", distance)
    assert half["robinson_foulds"] == pytest.approx(0.5)


def test_species_tree_is_recovered(eight, tree_recovery):
    aligned = cross_species.align_species(eight.adatas, partial(eight.pairs, kind=None))
    means = {n: structure.class_averages(a).loc["spermatocyte"] for n, a in aligned.items()}
    found = tree_recovery(
        structure.cosine_similarity(pd.DataFrame(means).T), eight.tree, eight.divergence_myr
    )
    assert found["robinson_foulds"] < 0.5
    assert found["p_value"] < 0.01 and found["cophenetic"] > 0.6


def test_bad_input_is_refused_in_words(eight):
    human, mouse = eight.adatas["human"], eight.adatas["mouse"].copy()
    mouse.obs["cell_type"] = "mouse cell"
    with pytest.raises(InputError, match="shared by all sets"):
        structure.equal_cells({"human": human, "mouse": mouse})
    with pytest.raises(InputError, match="holds 10000000 molecules"):
        structure.match_depth({"a": human}, depth=10_000_000)
    with pytest.raises(InputError, match="called 'rank_only'"):
        structure.class_averages(human, order="rank_only")
    with pytest.raises(InputError, match="called 'celltype'"):
        structure.class_averages(human, "celltype")
    with pytest.raises(InputError, match="three units"):
        structure.rank_correlation([1, 2], [2, 1])
    with pytest.raises(InputError, match="missing"):
        structure.rank_correlation([1, 2, np.nan], [2, 1, 3])
