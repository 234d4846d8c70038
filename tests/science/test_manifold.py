"""Manifold: controls that must look flat, controls that must not, numbers by hand."""

from functools import partial

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.datasets import make_swiss_roll
from sklearn.decomposition import PCA

import sclin
from sclin.datasets import simulate
from sclin.tasks import manifold


def correlation(points, k, **options):
    return manifold.flatness(points, k=k, n_boot=0, **options)["pearson_euclid_geodesic"].value


def test_a_plane_is_flat_and_a_swiss_roll_is_not():
    plane = np.random.default_rng(0).uniform(size=(500, 2)) @ np.ones((2, 3))
    plane[:, 0] += np.random.default_rng(1).uniform(size=500)
    flat = manifold.flatness(plane, k=8, n_components=2, n_boot=20)
    roll = manifold.flatness(make_swiss_roll(900, random_state=0)[0], k=8, n_components=2, n_boot=0)
    known = flat["pearson_euclid_geodesic"]
    assert known.value > 0.97 and flat["stretch"] < 1.3
    assert roll["pearson_euclid_geodesic"].value < known.value - 0.25
    assert known.low <= known.value <= known.high and known.n == 500
    # Isomap unrolls the sheet into two dimensions.
    assert roll["isomap_residual_variance"] < 0.05


def test_a_line_by_hand():
    found = manifold.flatness(np.arange(12.0)[:, None], k=2, n_components=1, n_boot=5)
    assert found["pearson_euclid_geodesic"].value == pytest.approx(1)
    assert found["stretch"] == pytest.approx(1)
    assert found["isomap_residual_variance"] == pytest.approx(0, abs=1e-9)


def test_a_circle_by_hand():
    angle = 2 * np.pi * np.arange(60) / 60
    steps = np.arange(1, 60)
    hops = np.minimum(steps, 60 - steps)
    expected = pearsonr(2 * np.sin(np.pi * hops / 60), hops).statistic
    points = np.column_stack([np.cos(angle), np.sin(angle)])
    assert correlation(points, 2) == pytest.approx(expected, abs=1e-9)


def test_square_matrix_counts_the_diagonal():
    found = manifold.flatness(np.random.default_rng(0).normal(size=(200, 40)), k=10, n_boot=0)
    # The zero diagonal alone adds correlation.
    assert found["pearson_euclid_geodesic_square"] > found["pearson_euclid_geodesic"].value


def test_correlation_rises_with_k_by_construction():
    points = np.random.default_rng(0).normal(size=(150, 5))
    few, more, all_pairs = (correlation(points, k) for k in (5, 20, 149))
    assert few < more < all_pairs == pytest.approx(1)


def test_components_that_do_not_touch_are_reported():
    rng = np.random.default_rng(0)
    points = np.vstack([rng.normal(size=(60, 2)), rng.normal(size=(40, 2)) + 100])
    found = manifold.flatness(points, k=5, n_boot=5)
    assert found["share_connected"] == pytest.approx(0.6)
    assert found["pearson_euclid_geodesic"].n == 60


def test_flatness_is_a_score_of_representations():
    cells = simulate.atlas(n_cells=150, n_genes=120, n_types=3)
    score = partial(manifold.flatness, k=10, n_boot=0)
    found = sclin.measure(cells, score, representations=["counts", "rank", "hvg_pca"])
    assert set(found.table["representation"]) == {"counts", "rank", "hvg_pca"}
    by_hand = correlation(cells.X.toarray(), 10)
    row = found.table.query("representation == 'counts' and metric == 'pearson_euclid_geodesic'")
    assert row["value"].iloc[0] == pytest.approx(by_hand)


def test_gaussian_control_has_the_covariance_of_the_cells(functions_of):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(3000, 3)) * [3, 1, 0.2] + 5
    twin = functions_of("10_manifold", "flat_cloud").flat_cloud(points, 1)
    np.testing.assert_allclose(np.cov(twin.T), np.cov(points.T), atol=0.35)
    np.testing.assert_allclose(twin.mean(0), points.mean(0), atol=0.2)


def test_noise_control_keeps_depth_and_loses_types():
    adata = simulate.atlas(n_cells=300, n_genes=200, n_types=3)
    noise = manifold.depth_noise(adata, seed=0)
    np.testing.assert_array_equal(noise.X.sum(1), adata.X.sum(1))

    def spread(a):
        share = a.X.multiply(1 / a.X.sum(1)).tocsr()
        kinds = [
            np.asarray(share[(a.obs["cell_type"] == t).to_numpy()].mean(0)).ravel()
            for t in a.obs["cell_type"].cat.categories
        ]
        return np.var(kinds, axis=0).sum()

    assert spread(noise) < 0.05 * spread(adata)


def test_types_are_structure_that_noise_of_the_same_depths_lacks():
    cells = simulate.atlas(n_cells=300, n_genes=400, n_types=5)
    noise = manifold.depth_noise(cells)
    held = [
        PCA(5, random_state=0).fit(sclin.representations.log_normalize(a).toarray())
        for a in (cells, noise)
    ]
    of_cells, of_noise = (model.explained_variance_ratio_.sum() for model in held)
    assert of_cells > of_noise
