"""On simulated truth: scores of trajectory and perturbation follow the truth."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import squareform
from scipy.stats import spearmanr
from sklearn.metrics.pairwise import cosine_similarity

import sclin
from sclin.datasets import simulate
from sclin.representations import representation
from sclin.tasks import perturbation, trajectory

NOISE = np.array([0.2, 0.4, 0.7, 1.0, 1.3, 1.6, 2.0, 2.5, 3.0])
CONTROLS = ["library_size", "random"]


def graded(adata, latent, rng, levels):
    """The truth under more and more noise, drawn anew each time: quality falls step by step."""
    things = {}
    for level in levels:
        name = f"noise {level:g}"
        adata.obsm[name] = latent + level * rng.normal(0, latent.std(), latent.shape)
        things[name] = representation(f"obsm:{name}")
    return things


def test_trajectory_ranks_representations_as_the_truth_does():
    adata = simulate.trajectory(n_cells=400, n_genes=300, n_donors=4, seed=0)
    s = adata.obs["pseudotime"].to_numpy()
    side = np.select([adata.obs["branch"] == "A", adata.obs["branch"] == "B"], [1.0, -1.0], 0.0)
    latent = np.column_stack([s, side * np.clip(s - 0.4, 0, None)])
    things = graded(adata, np.repeat(latent, 5, axis=1), np.random.default_rng(0), NOISE)
    adata.obsm["pca"] = trajectory.reference_pca(adata)
    things["pca"] = representation("obsm:pca")
    score = partial(trajectory.score, n_roots=10, n_pairs=2000)
    found = sclin.measure(adata, score, representations=things, controls=True)
    table = found.table.pivot(index="representation", columns="metric", values="value")
    steps = [name for name in things if name != "pca"]
    for metric in ("pseudotime_time_spearman", "neighbor_time", "global_geometry"):
        assert spearmanr(table.loc[steps, metric], -NOISE)[0] >= 0.9, metric
    order = table["pseudotime_time_spearman"]
    assert order[steps].min() > order[CONTROLS].max()
    assert order["noise 0.2"] > order["pca"]


@pytest.mark.parametrize("seed", [0])
def test_perturbation_ranks_representations_as_the_truth_does(seed):
    adata = simulate.perturbation(
        n_cells_per=80,
        n_genes=500,
        n_perturbations=32,
        states=("rest", "48h"),
        effect=2.0,
        seed=seed,
    )
    adata = adata[adata.obs["condition"] == "48h"].copy()  # at rest most pathways are silent
    truth = adata.uns["sclin"]["truth"]["effects"]["48h"]
    latent = np.zeros((adata.n_obs, truth.shape[1]))
    for name in truth.index:
        hit = (adata.obs["perturbation"] == name) & adata.obs["edited"]
        latent[hit.to_numpy()] = truth.loc[name].to_numpy()
    levels = np.array([0, 5, 10, 15, 20, 26, 33, 42])
    things = graded(adata, latent, np.random.default_rng(seed), levels)
    screen = perturbation.halve(adata)["all"]
    score = partial(perturbation.score, screen=screen, n_boot=20, n_permutations=99)
    found = sclin.measure(adata, score, representations=things, controls=True)
    table = found.table.query("metric == 'effect_similarity'").set_index("representation")
    scores = table["value"]
    assert spearmanr(scores[list(things)], -levels)[0] >= 0.9
    assert scores[CONTROLS].max() < scores[list(things)].min()
    null = adata.uns["sclin"]["truth"]["null"]
    proven = screen.table["proven"]
    assert proven.drop(null).mean() > 0.9 and proven[null].mean() < 0.3


def test_same_cells_reward_noise_and_halves_do_not():
    # No perturbation does anything, so no similarity is real.
    rng = np.random.default_rng(0)
    names = [f"p{i}" for i in range(12)]
    labels = np.repeat(["control", *names], [120, *[30] * 12])
    X = rng.poisson(2.0, (labels.size, 300)).astype(float)

    def agreement(first, second):
        goal = perturbation.effects(X[first], labels[first], names, shrink=0)
        means = pd.DataFrame(X[second]).groupby(labels[second]).mean()
        shift = cosine_similarity(means.loc[names] - means.loc["control"])
        pairs = (squareform(m, checks=False) for m in (perturbation.effect_similarity(goal), shift))
        return spearmanr(*pairs)[0]

    everything = np.arange(labels.size)
    assert agreement(everything, everything) > 0.6
    halves = [agreement(*perturbation.draw_halves(labels, names, seed=i)) for i in range(8)]
    assert abs(np.mean(halves)) < 0.15
