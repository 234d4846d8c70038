"""The pieces of the perturbation benchmark, against numbers worked out by hand."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import spearmanr

from sclin.errors import InputError
from sclin.tasks import perturbation


def screen(*, n_cells=30, n_genes=60, names=("a", "b", "c", "d", "e"), seed=0):
    """Five knock-outs of which a and b, and c and d, share their targets; e does nothing."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(["control", *names], [4 * n_cells, *[n_cells] * len(names)])
    rate = np.full((labels.size, n_genes), 2.0)
    for group, genes in (("ab", slice(0, 15)), ("cd", slice(15, 30))):
        rate[np.ix_(np.isin(labels, list(group)), np.arange(n_genes)[genes])] *= 3
    obs = pd.DataFrame({"perturbation": labels}, index=[f"c{i}" for i in range(labels.size)])
    adata = ad.AnnData(sparse.csr_matrix(rng.poisson(rate).astype(np.float32)), obs=obs)
    return adata, rate


@pytest.mark.parametrize("backed", [False, True])
def test_thinning_keeps_order_and_reads_backed_files(backed, tmp_path):
    adata, _ = screen()
    if backed:
        adata.write_h5ad(tmp_path / "screen.h5ad")
        adata = ad.read_h5ad(tmp_path / "screen.h5ad", backed="r")
    kept = perturbation.thin(adata, n_cells=8, only=["a", "b"])
    assert kept.obs["perturbation"].value_counts().to_dict() == {"control": 40, "a": 8, "b": 8}
    assert (np.diff(adata.obs_names.get_indexer(kept.obs_names)) > 0).all()
    assert not kept.isbacked


def test_halves_are_disjoint_and_equal():
    labels = np.repeat(["control", "a", "b"], [21, 9, 30])
    first, second = perturbation.draw_halves(labels, ["a", "b"], seed=2)
    assert not set(first) & set(second)
    for half in (first, second):
        names, counts = np.unique(labels[half], return_counts=True)
        assert dict(zip(names, counts, strict=True)) == {"a": 4, "b": 4, "control": 10}


def test_effects_by_hand():
    X = np.array([[1.0, 0], [3, 0], [0, 0], [0, 2]])
    labels = ["a", "a", "control", "control"]
    # Gene 1: difference 2, variances 2 and 0, error 1. Gene 2: difference -1, error 1.
    np.testing.assert_allclose(perturbation.effects(X, labels, ["a"], shrink=0), [[2, -1]])
    np.testing.assert_allclose(perturbation.effects(X, labels, ["a"], shrink=0.5), [[1.5, -0.5]])
    np.testing.assert_allclose(perturbation.effects(X, labels, ["a"]), [[0, 0]])


def test_similarity_of_effects_is_spearman_and_knows_no_effect():
    rows = np.random.default_rng(0).normal(size=(3, 50))
    rows[2] = 0
    found = perturbation.effect_similarity(rows)
    assert found[0, 1] == pytest.approx(spearmanr(*rows[:2])[0])
    assert found[0, 2] == 0


def test_small_p_values_survive_a_correction_for_many_and_large_ones_are_exact_shares():
    adata, _ = screen()
    labels = adata.obs["perturbation"].to_numpy()
    X = np.log1p(adata.X.toarray())
    p = perturbation.effect_p_values(X, labels, list("abcde"), n_permutations=199)
    assert ((0 < p[:4]) & (p[:4] < 0.05 / 480)).all()
    assert p[4] * 200 == pytest.approx(round(p[4] * 200)) and p[4] > 0.05


def test_the_tail_is_that_of_many_exchanges():
    rng = np.random.default_rng(0)
    X = rng.poisson(1.0, (120, 40)).astype(float)
    X[:20, :4] += rng.poisson(0.75, (20, 4))
    labels = np.repeat(["a", "control"], [20, 100])
    few, many = (
        perturbation.effect_p_values(X, labels, ["a"], n_permutations=n)[0] for n in (999, 19_999)
    )
    assert 10 / 20_000 < many < 10 / 1000  # a share of many exchanges, and a tail of few
    assert 1 / 3 < few / many < 3


def test_the_knocked_out_gene_itself_proves_nothing():
    rng = np.random.default_rng(0)
    X = rng.poisson(2.0, (80, 20)).astype(float)
    labels = np.repeat(["control", "a"], [60, 20])
    X[60:, 7] = 0
    assert perturbation.effect_p_values(X, labels, ["a"])[0] < 0.01
    assert perturbation.effect_p_values(X, labels, ["a"], own_gene={"a": [7]})[0] > 0.02


def test_a_perturbation_finds_its_genes_by_symbol_or_id_alone_or_combined():
    adata = ad.AnnData(np.zeros((2, 3), np.float32))
    adata.var_names = ["TP53", "MYC", "IRF1"]
    adata.var["gene_ids"] = ["ENSG00000141510.18", "ENSG00000136997.2", "ENSG00000125347.4"]
    names = ["TP53", "ENSG00000136997", "ENSG00000136997.7", "IRF1+TP53", "stranger"]
    found = perturbation.own_genes(adata, names)
    assert [genes.tolist() for genes in found.values()] == [[0], [1], [1], [0, 2], []]


def test_combinations_have_one_name():
    names = ["A+B", "B+A", "B + A", "A+control", "control+A", "control", "A+A", "IFN+"]
    obs = pd.DataFrame({"perturbation": names}, index=[f"c{i}" for i in range(8)])
    adata = ad.AnnData(np.zeros((8, 1), np.float32), obs=obs)
    found = perturbation.read_names(adata)
    assert found.tolist() == ["A+B", "A+B", "A+B", "A", "A", "control", "A", "IFN+"]


def test_cells_of_another_order_are_refused():
    adata, rate = screen()
    halved = perturbation.halve(adata, n_halvings=1)["all"]
    with pytest.raises(InputError, match="not the cells that were divided"):
        perturbation.score(rate[::-1], adata[::-1], screen=halved)


def test_score_separates_signal_from_noise_and_lists_what_it_left_out():
    adata, rate = screen()
    few = np.flatnonzero(adata.obs["perturbation"] == "e")[6:]
    keep = np.setdiff1d(np.arange(adata.n_obs), few)
    adata, rate = adata[keep].copy(), rate[keep]
    halved = perturbation.halve(adata, n_halvings=4)["all"]
    assert halved.table.loc["e", "status"] == "fewer than 20 cells"
    assert (halved.table.loc[list("abcd"), "proven"] == 1).all()
    noise = np.random.default_rng(0).normal(size=(adata.n_obs, 10))
    few_draws = {"screen": halved, "n_boot": 50, "n_permutations": 99}
    true, null = (perturbation.score(X, adata, **few_draws) for X in (np.log(rate), noise))
    assert true["effect_similarity"].value > 0.7 > null["effect_similarity"].value
    assert true["effect_similarity"].n == 4
    assert true["effect_similarity_by_perturbation"].index.tolist() == list("abcd")
    assert true["mantel_p"] < 0.2 <= null["mantel_p"] or null["mantel_p"] > true["mantel_p"]


def test_halves_of_all_states_hold_the_same_perturbations_and_no_shared_cells():
    adata, _ = screen(n_cells=60)
    adata.obs["condition"] = np.resize(["rest", "48h"], adata.n_obs)
    halved = perturbation.halve(adata, state="condition", n_halvings=2)
    assert list(halved) == ["rest", "48h"]
    for one, other in zip(halved["rest"].halvings, halved["48h"].halvings, strict=True):
        np.testing.assert_array_equal(one.members, other.members)
        assert not set(one.average.indices) & set(other.average.indices)


def test_agreement_counts_repeats_but_no_pair_with_itself():
    reference = np.array([[0, 1, 2, 3], [1, 0, 4, 5], [2, 4, 0, 6], [3, 5, 6, 0.0]])
    average = sparse.csr_matrix((5, 1))
    one = perturbation.Halving(np.array([1, 3, 5, 7]), reference, average)
    several = perturbation.Screen(pd.Index(list("abcdefgh")), (one,), pd.DataFrame(), pd.Index([]))
    assert several.used.tolist() == [1, 3, 5, 7]
    assert several.agreement([reference**2], [1, 3, 5]) == 1
    assert several.agreement([-reference], [1, 3, 5, 5]) == -1
    assert np.isnan(several.agreement([reference], [3, 3, 7]))  # two pairs, and one with itself
