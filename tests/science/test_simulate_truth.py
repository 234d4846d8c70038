"""Simulated counts follow the laws they claim, and the truth can be found in them."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import nbinom, spearmanr

from sclin.datasets import counts, simulate


def test_draw_is_negative_binomial():
    rng = np.random.default_rng(0)
    log_rate = np.log(np.array([0.5, 0.3, 0.15, 0.05]))
    X = counts.draw_profile(log_rate, np.full(20_000, 8.0), 0.5, rng).toarray()
    mean = 8.0 * np.exp(log_rate)
    np.testing.assert_allclose(X.mean(0), mean, rtol=0.04)
    np.testing.assert_allclose(X.var(0), mean + 0.5 * mean**2, rtol=0.08)
    expected = nbinom.pmf(0, 2.0, 2.0 / (2.0 + mean))
    np.testing.assert_allclose((X == 0).mean(0), expected, atol=0.012)


def test_draw_without_dispersion_is_poisson():
    X = counts.draw_profile(
        np.zeros(3), np.full(20_000, 6.0), 0.0, np.random.default_rng(1)
    ).toarray()
    np.testing.assert_allclose(X.mean(0), 2.0, rtol=0.03)
    np.testing.assert_allclose(X.var(0), 2.0, rtol=0.06)


def test_library_size_is_what_was_asked_for():
    adata = simulate.atlas(n_cells=600, n_genes=400, library=3000.0)
    depth = np.asarray(adata.X.sum(1)).ravel()
    assert np.median(depth) == pytest.approx(3000, rel=0.1)


def test_atlas_types_follow_their_tree():
    adata = simulate.atlas(n_cells=50, n_genes=4000, n_types=8, seed=2)
    truth = adata.uns["sclin"]["truth"]
    gap = np.cov(truth["log_profiles"].to_numpy())
    apart = np.diag(gap)[:, None] + np.diag(gap)[None] - 2 * gap
    upper = np.triu_indices(8, 1)
    tree = truth["tree_distance"].to_numpy()
    assert spearmanr(apart[upper], tree[upper]).statistic > 0.8
    assert truth["newick"].count("type") == 8


def test_ambient_molecules_bring_types_closer():
    def gap(ambient):
        adata = simulate.atlas(n_cells=600, n_genes=300, n_types=2, n_rare=0, ambient=ambient)
        X = adata.X.multiply(1 / adata.X.sum(1)).tocsr()
        first = (adata.obs["cell_type"] == "type1").to_numpy()
        return np.abs(np.asarray(X[first].mean(0) - X[~first].mean(0))).sum()

    assert gap(0.6) < 0.7 * gap(0.0)


def test_infected_cells_lose_host_molecules_by_degree():
    adata = simulate.infection(n_cells=1200, n_genes=300)
    depth = np.log(np.asarray(adata.X.sum(1)).ravel())
    graded = adata.uns["sclin"]["truth"]["response"]
    infected = (adata.obs["condition"] == "infected").to_numpy()
    assert spearmanr(graded[infected], depth[infected]).statistic < -0.1
    assert depth[infected].mean() < depth[~infected].mean() - 0.2
    assert (graded[(adata.obs["condition"] == "mock").to_numpy()] == 0).all()


def test_expression_diverges_with_time():
    data = simulate.species(n_cells=20, n_genes=3000, seed=1)
    human = data.adatas["human"].uns["sclin"]["truth"]["log_profiles"].loc["spermatocyte"]
    similarity = {}
    for name in data.adatas:
        if name == "human":
            continue
        pairs = data.pairs("human", name)
        other = data.adatas[name].uns["sclin"]["truth"]["log_profiles"].loc["spermatocyte"]
        similarity[name] = np.corrcoef(human[pairs["source"]], other[pairs["target"]])[0, 1]
    myr = data.divergence_myr
    assert (
        spearmanr(myr.loc["human", list(similarity)], list(similarity.values())).statistic < -0.95
    )
    assert myr.loc["human", "mouse"] == 90 and myr.loc["chimpanzee", "gorilla"] == 10
    assert np.array_equal(myr, myr.T)


def test_knock_outs_lower_their_gene_and_escapees_do_not():
    adata = simulate.perturbation(
        n_cells_per=200, n_genes=200, n_perturbations=4, null_share=0.0, states=("rest",)
    )
    share = adata.X.multiply(1e4 / adata.X.sum(1)).tocsr()
    for gene in adata.var_names[:4]:
        value = np.asarray(share[:, [adata.var_names.get_loc(gene)]].todense()).ravel()
        hit = (adata.obs["perturbation"] == gene).to_numpy()
        edited = adata.obs["edited"].to_numpy()
        control = value[(adata.obs["perturbation"] == "control").to_numpy()].mean()
        assert value[hit & edited].mean() < 0.4 * control
        assert value[hit & ~edited].mean() > 0.6 * control


def test_knock_outs_of_one_pathway_look_alike():
    adata = simulate.perturbation(n_cells_per=2, n_genes=900, n_perturbations=16, null_share=0.0)
    truth = adata.uns["sclin"]["truth"]
    similarity = np.corrcoef(truth["effects"]["48h"])
    pathway = truth["pathway"]["pathway"].to_numpy()
    same = pathway[:, None] == pathway[None, :]
    off = ~np.eye(16, dtype=bool)
    assert similarity[same & off].mean() > similarity[~same].mean() + 0.3


def test_time_and_pseudotime_agree_and_branches_part():
    adata = simulate.trajectory(n_cells=500, n_genes=300)
    assert spearmanr(adata.obs["time"], adata.obs["pseudotime"]).statistic > 0.9
    assert (adata.obs.loc[adata.obs["branch"] == "trunk", "pseudotime"] <= 0.4).all()
    X = np.log1p(adata.X.multiply(1e4 / adata.X.sum(1)).toarray())
    late = (adata.obs["pseudotime"] > 0.8).to_numpy()
    a, b = ((adata.obs["branch"] == side).to_numpy() & late for side in "AB")
    trunk = (adata.obs["branch"] == "trunk").to_numpy()
    between = np.linalg.norm(X[a].mean(0) - X[b].mean(0))
    halves = np.flatnonzero(trunk)
    within = np.linalg.norm(X[halves[::2]].mean(0) - X[halves[1::2]].mean(0))
    assert between > 2 * within


def test_targets_follow_their_factor_and_cycle_genes_do_not_count():
    adata = simulate.regulation(n_cells=1500, n_genes=300, n_tfs=4, n_targets=20)
    truth = adata.uns["sclin"]["truth"]
    X = np.log1p(adata.X.multiply(1e4 / adata.X.sum(1)).toarray())
    tf = truth["activity"].columns[0]
    effect = pd.Series(
        [np.corrcoef(truth["activity"][tf], x)[0, 1] for x in X.T], index=adata.var_names
    )
    edges = truth["edges"].query("tf == @tf").set_index("target")["sign"]
    up, down = (effect[edges.index[edges == s]].mean() for s in (1, -1))
    rest = effect.drop([*edges.index, tf]).mean()
    assert up > rest + 0.05 and down < rest - 0.02


def test_realism_tells_noise_from_cells_and_cannot_tell_twins(functions_of):
    chapter, rng = (
        functions_of("08_structure", "sampled", "views", "told_apart"),
        np.random.default_rng(0),
    )

    def told_apart(*sets):
        views = (chapter.views(*chapter.sampled(cells, 150, rng))[0] for cells in sets)
        return chapter.told_apart(list(views), 0)

    first = simulate.atlas(n_cells=150, n_genes=300, seed=1)
    twin = simulate.atlas(n_cells=300, n_genes=300, seed=1)
    half, rest = twin[:150].copy(), twin[150:].copy()
    flat = first.copy()
    term = (np.ones((150, 1)), np.zeros((1, 300)))
    flat.X = counts.draw(np.full(150, 900.0), np.random.default_rng(0), term)
    assert abs(told_apart(half, rest) - 0.5) < 0.1
    assert told_apart(flat, first) > 0.95
