"""The pieces of the perturbation benchmark, against numbers worked out by hand."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import spearmanr, ttest_ind

from sclin.benchmarks import perturbation


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


def test_centred_ranks_give_spearman_and_raw_ranks_do_not():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2, 50))
    centred = perturbation.similarity(perturbation.center_ranks(rows))[0, 1]
    assert centred == pytest.approx(spearmanr(*rows)[0])
    labels = np.repeat(["control", "a", "b"], 20)
    raw = perturbation.published_reference(rng.poisson(3, (60, 40)), labels, ["a", "b"])[0, 1]
    assert raw > 0.6 > abs(centred)


def test_published_reference_keeps_the_top_genes_by_t():
    rng = np.random.default_rng(1)
    X, labels = (
        rng.poisson(4.0, (40, 12)).astype(float),
        np.repeat(["control", "a", "b"], [20, 10, 10]),
    )
    kept = []
    for name in "ab":
        treated, base = X[labels == name], X[labels == "control"]
        t = ttest_ind(treated, base, equal_var=False).statistic
        change = treated.mean(axis=0) - base.mean(axis=0)
        kept.append(np.where(np.argsort(np.argsort(-np.abs(t))) < 4, change, 0))
    union = np.any(np.array(kept) != 0, axis=0)
    from scipy.stats import rankdata

    a, b = rankdata(np.array(kept)[:, union], axis=1)
    found = perturbation.published_reference(X, labels, ["a", "b"], n_top=4)
    assert found[0, 1] == pytest.approx(a @ b / np.sqrt((a @ a) * (b @ b)))


def test_agreement_is_spearman_over_the_upper_triangle():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 6, 6))
    a, b = a + a.T, b + b.T
    at = np.triu_indices(6, 1)
    assert perturbation.agreement(a, b)[0] == pytest.approx(spearmanr(a[at], b[at])[0])
    rows = perturbation.row_agreement(a, b[None])
    assert rows[2, 0] == pytest.approx(spearmanr(np.delete(a[2], 2), np.delete(b[2], 2))[0])


def test_mantel_knows_identity_and_keeps_its_level():
    rng = np.random.default_rng(0)

    def draw():
        points = rng.normal(size=(10, 3))
        return perturbation.similarity(points)

    matrix = draw()
    value, p = perturbation.mantel(matrix, matrix, n_permutations=199)
    assert value == pytest.approx(1) and p == pytest.approx(1 / 200)
    null = [perturbation.mantel(draw(), draw(), n_permutations=99, seed=i)[1] for i in range(60)]
    assert 0.35 < np.mean(null) < 0.65


def test_partial_mantel_takes_out_the_third_matrix():
    rng = np.random.default_rng(1)
    depth = rng.normal(size=14)
    third = -np.abs(depth[:, None] - depth[None, :])
    a, b = (third + 0.05 * (n + n.T) for n in rng.normal(size=(2, 14, 14)))
    assert perturbation.mantel(a, b, n_permutations=99)[0] > 0.9
    value, p = perturbation.mantel(a, b, partial=third, n_permutations=199)
    assert abs(value) < 0.35 and p > 0.02


def test_effect_test_finds_effects_and_keeps_its_level():
    adata, _ = screen()
    labels = adata.obs["perturbation"].to_numpy()
    X = np.log1p(adata.X.toarray())
    p = perturbation.effect_p_values(X, labels, ["a", "b", "c", "d"], n_permutations=199)
    np.testing.assert_allclose(p, 1 / 200)
    rng = np.random.default_rng(0)
    null = rng.permutation(np.repeat(["control", *"abcdefgh"], [140, *[20] * 8]))
    values = rng.poisson(0.1, (300, 50)).astype(float)
    p = perturbation.effect_p_values(values, null, list("abcdefgh"), n_permutations=199)
    assert 0.2 < p.mean() < 0.8


def test_the_knocked_out_gene_itself_proves_nothing():
    rng = np.random.default_rng(0)
    X = rng.poisson(2.0, (80, 20)).astype(float)
    labels = np.repeat(["control", "a"], [60, 20])
    X[60:, 7] = 0
    assert perturbation.effect_p_values(X, labels, ["a"])[0] < 0.01
    assert perturbation.effect_p_values(X, labels, ["a"], own_gene={"a": 7})[0] > 0.02


def test_dose_order_by_hand():
    rows = [[1.0, 0], [1, 1], [0.2, 1], [0, 1]]
    assert perturbation.dose_order(rows, [1, 2, 3, 4]) == pytest.approx(1)
    assert perturbation.dose_order(rows, [3, 2, 1, 4]) == pytest.approx(-1)


def test_pathway_auc_by_hand():
    matrix = np.array(
        [[1, 0.9, 0.1, 0.2], [0.9, 1, 0.3, 0.0], [0.1, 0.3, 1, 0.8], [0.2, 0, 0.8, 1]]
    )
    value, p = perturbation.pathway_auc(matrix, ["x", "x", "y", "y"], n_permutations=99)
    assert value == 1.0 and 0.2 < p < 0.5  # a third of all labellings are as good


def test_corrected_run_separates_signal_from_noise_and_lists_what_it_left_out():
    adata, rate = screen(names=("a", "b", "c", "d", "e"))
    few = np.flatnonzero(adata.obs["perturbation"] == "e")[6:]
    keep = np.setdiff1d(np.arange(adata.n_obs), few)
    adata, rate = adata[keep].copy(), rate[keep]
    noise = np.random.default_rng(0).normal(size=(adata.n_obs, 10))
    outcome = perturbation.run(
        adata,
        {"true": np.log(rate), "noise": noise},
        state=None,
        n_halvings=4,
        n_boot=50,
        n_permutations=99,
    )
    assert outcome.perturbations.loc["e", "status"] == "fewer than 20 cells"
    assert (outcome.perturbations.loc[list("abcd"), "proven"] == 1).all()
    value = outcome.results.query("metric == 'effect_similarity'").set_index("representation")
    assert value.loc["true", "value"] > 0.7 > value.loc["noise", "value"]
    assert value.loc["true", "n"] == 4
    np.testing.assert_allclose(outcome.score("all"), value["value"])
    assert outcome.units["all"].shape == (4, 2)


def test_repeated_perturbations_do_not_make_pairs_with_themselves():
    reference = np.arange(16.0).reshape(4, 4)
    halving = perturbation.Halving(np.array([1, 3, 5, 7]), reference, reference[None])
    goal, found = halving.among([3, 3, 7])
    assert goal.tolist() == [7.0, 7.0] and found.shape == (1, 2)
    assert halving.among([0, 3])[0].size == 0


def test_as_published_uses_the_same_cells_and_raw_cosines():
    adata, rate = screen()
    outcome = perturbation.run(adata, {"true": rate}, state=None, protocol="as_published")
    labels = adata.obs["perturbation"].to_numpy()
    means = np.array([rate[labels == name].mean(axis=0) for name in "abcde"])
    expected = perturbation.agreement(
        perturbation.published_reference(adata.X, labels, list("abcde")),
        perturbation.similarity(means),
    )[0]
    row = outcome.results.query("metric == 'effect_similarity'").iloc[0]
    assert row["value"] == pytest.approx(expected)
