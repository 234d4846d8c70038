"""On simulated truth: scores follow the truth, and an honest choice of layer is honest."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from sclin.benchmarks import perturbation, trajectory
from sclin.datasets import simulate
from sclin.layers import selection

NOISE = np.array([0.2, 0.4, 0.7, 1.0, 1.3, 1.6, 2.0, 2.5, 3.0])


def graded(latent, rng, levels):
    """The truth under more and more noise, drawn anew each time: quality falls step by step."""
    return {
        f"noise {level:g}": latent + level * rng.normal(0, latent.std(), latent.shape)
        for level in levels
    }


@pytest.fixture(scope="module")
def path():
    adata = simulate.trajectory(n_cells=700, n_genes=400, n_donors=4, seed=0)
    s = adata.obs["pseudotime"].to_numpy()
    side = np.select([adata.obs["branch"] == "A", adata.obs["branch"] == "B"], [1.0, -1.0], 0.0)
    latent = np.column_stack([s, side * np.clip(s - 0.4, 0, None)])
    return adata, np.repeat(latent, 5, axis=1)


def test_trajectory_ranks_representations_as_the_truth_does(path):
    adata, latent = path
    rng = np.random.default_rng(0)
    arrays = graded(latent, rng, NOISE)
    controls = {
        "random": rng.normal(size=(adata.n_obs, 10)),
        "library_size": np.log(np.asarray(adata.X.sum(axis=1)).ravel()),
    }
    outcome = trajectory.run(adata, arrays | controls, n_roots=10, n_pairs=2000)
    table = outcome.results.pivot(index="representation", columns="metric", values="value")
    for metric in ("pseudotime_time_spearman", "neighbor_time", "global_geometry"):
        scores = table.loc[list(arrays), metric]
        assert spearmanr(scores, -NOISE)[0] >= 0.9, metric
    worst = table.loc[list(controls), "pseudotime_time_spearman"].max()
    assert (table.loc[list(arrays), "pseudotime_time_spearman"] > worst).all()


def test_published_trajectory_score_prefers_pca_to_near_truth(path):
    adata, latent = path
    arrays = {
        "truth": graded(latent, np.random.default_rng(0), [0.2])["noise 0.2"],
        "pca": trajectory.reference_pca(adata),
    }
    outcome = trajectory.run(adata, arrays, protocol="as_published")
    score = outcome.results.query("metric == 'pseudotime_corr'").set_index("representation")
    assert score.loc["pca", "value"] == pytest.approx(1)
    assert score.loc["truth", "value"] < 0.9
    corrected = trajectory.run(adata, arrays, n_roots=10, n_pairs=500)
    score = corrected.results.query("metric == 'pseudotime_time_spearman'")
    score = score.set_index("representation")["value"]
    assert score["truth"] > score["pca"]


@pytest.mark.parametrize("seed", range(3))
def test_perturbation_ranks_representations_as_the_truth_does(seed):
    adata = simulate.perturbation(
        n_cells_per=80,
        n_genes=700,
        n_perturbations=32,
        states=("rest", "48h"),
        effect=2.0,
        seed=seed,
    )
    adata = adata[adata.obs["condition"] == "48h"].copy()  # at rest most pathways are silent
    truth = adata.uns["sclin"]["truth"]["effects"]["48h"]
    rng = np.random.default_rng(seed)
    latent = np.zeros((adata.n_obs, truth.shape[1]))
    for name in truth.index:
        hit = (adata.obs["perturbation"] == name) & adata.obs["edited"]
        latent[hit.to_numpy()] = truth.loc[name].to_numpy()
    levels = np.array([0, 5, 10, 15, 20, 26, 33, 42])
    arrays = graded(latent, rng, levels)
    controls = {
        "random": rng.normal(size=(adata.n_obs, 50)),
        "library_size": np.log(np.asarray(adata.X.sum(axis=1)).ravel()),
    }
    outcome = perturbation.run(adata, arrays | controls, n_boot=20, n_permutations=99)
    table = outcome.results.query("metric == 'effect_similarity'").set_index("representation")
    scores = table["value"]
    assert spearmanr(scores[list(arrays)], -levels)[0] >= 0.9
    assert scores[list(controls)].max() < scores[list(arrays)].min()
    null = adata.uns["sclin"]["truth"]["null"]
    proven = outcome.perturbations["proven"]
    assert proven.drop(null).mean() > 0.9 and proven[null].mean() < 0.3


def test_same_cells_reward_noise_and_halves_do_not():
    # No perturbation does anything, so no similarity is real.
    rng = np.random.default_rng(0)
    names = [f"p{i}" for i in range(12)]
    labels = np.repeat(["control", *names], [120, *[30] * 12])
    X = rng.poisson(2.0, (labels.size, 300)).astype(float)
    same = perturbation.similarity(
        perturbation.center_ranks(perturbation.effects(X, labels, names, shrink=0))
    )
    means = perturbation.mean_shifts(X, labels, names)
    assert perturbation.agreement(same, perturbation.similarity(means))[0] > 0.6
    scores = []
    for seed in range(8):
        first, second = perturbation.draw_halves(labels, names, seed=seed)
        goal = perturbation.effects(X[first], labels[first], names, shrink=0)
        shift = perturbation.mean_shifts(X[second], labels[second], names)
        scores.append(
            perturbation.agreement(
                perturbation.similarity(perturbation.center_ranks(goal)),
                perturbation.similarity(shift),
            )[0]
        )
    assert abs(np.mean(scores)) < 0.15


def test_nested_choice_removes_the_optimism():
    truth = np.array([0.5, 0.52, 0.54, 0.55, 0.55, 0.54, 0.53, 0.52, 0.51, 0.5, 0.49, 0.48])
    names = [str(i) for i in range(truth.size)]
    naive, honest = [], []
    for seed in range(50):
        rng = np.random.default_rng(seed)
        donor = rng.normal(0, 0.05, (8, 1))  # a donor easy for one layer is easy for all
        units = truth + donor + rng.normal(0, 0.08, (8, truth.size))
        found = selection.nested_choice(selection.mean_score(units), 8, names, seed=seed)
        level = donor.mean()
        naive.append(found.naive - level - truth[int(found.best)])
        honest.append(found.value - level - float(found.picks @ truth))
    assert abs(np.mean(honest)) < 0.01
    assert np.mean(naive) > 0.025
