"""Manifold: controls that must look flat, controls that must not, numbers by hand."""

import numpy as np
import pytest
from scipy.stats import pearsonr

from sclin.benchmarks import manifold
from sclin.datasets import simulate


@pytest.fixture(scope="module")
def outcome():
    adata = simulate.atlas(n_cells=500, n_genes=600, n_types=5)
    return manifold.run(adata, per_class=80, ks=(5, 15), n_boot=20)


def test_a_plane_is_flat_and_a_swiss_roll_is_not():
    plane = np.random.default_rng(0).uniform(size=(500, 2)) @ np.ones((2, 3))
    plane[:, 0] += np.random.default_rng(1).uniform(size=500)
    flat = manifold.flatness(plane, ks=(8,), n_components=2, n_boot=20).iloc[0]
    roll = manifold.flatness(manifold.swiss_roll(900), ks=(8,), n_components=2, n_boot=20).iloc[0]
    assert flat["pearson"] > 0.97 and flat["stretch"] < 1.3
    assert roll["pearson"] < flat["pearson"] - 0.25
    assert flat["ci_low"] <= flat["pearson"] <= flat["ci_high"]
    # Isomap unrolls the sheet into two dimensions.
    assert roll["residual_variance"] < 0.05


def test_a_line_by_hand():
    points = np.arange(12.0)[:, None]
    row = manifold.flatness(points, ks=(2,), n_components=1, n_boot=5).iloc[0]
    assert row["pearson"] == pytest.approx(1) and row["stretch"] == pytest.approx(1)
    assert row["residual_variance"] == pytest.approx(0, abs=1e-9)


def test_a_circle_by_hand():
    angle = 2 * np.pi * np.arange(60) / 60
    points = np.column_stack([np.cos(angle), np.sin(angle)])
    row = manifold.flatness(points, ks=(2,), n_boot=0).iloc[0]
    steps = np.arange(1, 60)
    hops = np.minimum(steps, 60 - steps)
    expected = pearsonr(2 * np.sin(np.pi * hops / 60), hops).statistic
    assert row["pearson"] == pytest.approx(expected, abs=1e-9)


def test_square_matrix_counts_the_diagonal():
    points = np.random.default_rng(0).normal(size=(200, 40))
    row = manifold.flatness(points, ks=(10,), n_boot=0).iloc[0]
    assert row["pearson_square"] > row["pearson"]  # the zero diagonal alone adds correlation


def test_correlation_rises_with_k_by_construction():
    points = np.random.default_rng(0).normal(size=(150, 5))
    table = manifold.flatness(points, ks=(5, 20, 149), n_boot=0)
    assert table["pearson"].is_monotonic_increasing
    assert table["pearson"].iloc[-1] == pytest.approx(1)  # all pairs are joined


def test_components_that_do_not_touch_are_reported():
    rng = np.random.default_rng(0)
    points = np.vstack([rng.normal(size=(60, 2)), rng.normal(size=(40, 2)) + 100])
    row = manifold.flatness(points, ks=(5,), n_boot=5).iloc[0]
    assert row["share_connected"] == pytest.approx(0.6) and row["n"] == 60


def test_gaussian_control_has_the_covariance_of_the_cells():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(3000, 3)) * [3, 1, 0.2] + 5
    twin = manifold.linear_gaussian(points, seed=1)
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


def test_pca_residual_by_hand():
    points = np.zeros((5, 3))
    points[:, 0] = [-2, -1, 0, 1, 2]
    points[:, 1] = [1, -2, 2, -2, 1]
    scores, residual = manifold.principal_components(points, n_components=3)
    # Sums of squares 10 and 14, orthogonal.
    np.testing.assert_allclose(residual, [1, 10 / 24, 0, 0], atol=1e-9)
    assert scores.shape == (5, 3)


def test_intrinsic_dimension_of_known_clouds():
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(800, 3)) @ rng.normal(size=(3, 60))
    found = manifold.intrinsic_dimension(flat)
    assert found["lPCA"] == 3
    assert 2.4 < found["TwoNN"] < 3.6 and 2.4 < found["MLE"] < 3.6
    roll = manifold.intrinsic_dimension(manifold.swiss_roll(800))
    assert 1.7 < roll["TwoNN"] < 2.4


def test_run_judges_cells_beside_controls(outcome):
    best = outcome.curves.set_index(["cloud", "k"])["pearson"]
    assert best["linear Gaussian", 5] > best["Swiss roll", 5] + 0.2
    assert set(outcome.curves["cloud"]) == {"cells", "linear Gaussian", "depth noise", "Swiss roll"}
    residual = outcome.residuals
    assert residual.loc[5, "cells"] < residual.loc[5, "depth noise"]  # types are structure
    corr = outcome.results.query("metric == 'pearson_euclid_geodesic'")
    assert corr["ci_low"].notna().all() and len(corr) == 8


def test_as_published_uses_counts_and_no_control():
    adata = simulate.atlas(n_cells=200, n_genes=200, n_types=4)
    outcome = manifold.run(adata, protocol="as_published", per_class=30, ks=(5,), n_boot=0)
    assert set(outcome.curves["cloud"]) == {"cells"} and len(outcome.rows) <= 120
    assert set(outcome.results["representation"]) == {"counts"}
    assert "pearson_euclid_geodesic_square" in set(outcome.results["metric"])
