"""The pieces of the trajectory benchmark, against numbers worked out by hand."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import spearmanr

from sclin.benchmarks import trajectory


def cells(time, **columns):
    n = len(time)
    obs = pd.DataFrame({"time": time, **columns}, index=[f"c{i}" for i in range(n)])
    counts = np.random.default_rng(0).poisson(1.0, (n, 40)).astype(np.float32)
    return ad.AnnData(sparse.csr_matrix(counts), obs=obs)


@pytest.fixture(scope="module")
def line():
    """Cells along a line, with three donors that each hold every time."""
    rng = np.random.default_rng(1)
    time = np.tile([0.0, 1.0, 2.0, 3.0], 60)
    place = np.column_stack([time + rng.normal(0, 0.3, time.size), rng.normal(0, 0.1, time.size)])
    return cells(time, donor=np.repeat(["a", "b", "c"], 80)), place


def test_ordered_text_and_ordered_categories_become_positions():
    adata = cells(["d10", "d2", "d0"])
    assert trajectory.measured_time(adata, order=["d0", "d2", "d10"]).tolist() == [2, 1, 0]
    adata.obs["time"] = pd.Categorical(adata.obs["time"], ["d0", "d2", "d10"], ordered=True)
    assert trajectory.measured_time(adata).tolist() == [2, 1, 0]


def test_roots_are_early_cells_without_repeats():
    time = np.array([1, 0, 0, 0, 2])
    roots = trajectory.early_roots(time, 2, seed=3)
    assert len(set(roots)) == 2 and (time[roots] == 0).all()
    assert trajectory.early_roots(time, 20).tolist() == [1, 2, 3]


def test_row_spearman_agrees_with_scipy_and_skips_unreached_cells():
    rng = np.random.default_rng(0)
    rows, goal = rng.normal(size=(3, 30)), rng.integers(0, 4, 30)
    rows[1, :5] = np.inf
    expected = [
        spearmanr(rows[0], goal)[0],
        spearmanr(rows[1, 5:], goal[5:])[0],
        spearmanr(rows[2], goal)[0],
    ]
    np.testing.assert_allclose(trajectory.row_spearman(rows, goal), expected)
    assert trajectory.row_spearman([[1, 1, 1]], [1, 2, 3]).tolist() == [0.0]


def test_pseudotime_follows_a_line_and_marks_the_island():
    rng = np.random.default_rng(0)
    place = np.linspace(0, 10, 120)[:, None] + rng.normal(0, 0.05, (120, 1))
    island = rng.normal(1000, 0.05, (60, 1))
    order = trajectory.pseudotime(np.vstack([place, island]), [0, 119], n_neighbors=15)
    assert order.shape == (2, 180)
    assert np.isinf(order[:, 120:]).all() and np.isfinite(order[:, :120]).all()
    assert spearmanr(order[0, :120], place[:, 0])[0] > 0.99
    assert spearmanr(order[1, :120], place[:, 0])[0] < -0.99


def test_pseudotime_follows_a_thin_line_that_scanpy_takes_for_stationary():
    rng = np.random.default_rng(0)
    place = np.linspace(0, 1, 1500)[:, None] * np.ones((1, 3)) + rng.normal(0, 0.002, (1500, 3))
    assert spearmanr(trajectory.pseudotime(place, [0])[0], place[:, 0])[0] > 0.99
    graph = trajectory.neighbor_graph(place)
    scanpy = trajectory._scanpy_pseudotime(graph, 0, 0)
    assert graph.uns["diffmap_evals"][1] > 0.9994
    assert spearmanr(scanpy, place[:, 0])[0] < 0.9


def test_pseudotime_is_scanpys_where_no_component_is_mistaken(line):
    _, place = line
    graph = trajectory.neighbor_graph(place)
    scanpy = trajectory._scanpy_pseudotime(graph, 3, 0)
    assert graph.uns["diffmap_evals"][1] < 0.9994
    np.testing.assert_allclose(trajectory.pseudotime(place, [3])[0], scanpy, atol=1e-4)


def test_neighbors_leave_the_cell_itself_out():
    place = np.array([[0.0], [1.0], [3.0], [7.0]])
    assert trajectory.nearest_neighbors(place, 2).tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]


def test_padding_adds_one_match_and_can_be_undone():
    # Two graphs of five cells with k = 3, so two stored neighbours and one padded slot.
    # Columns avoid cell 0; the stored neighbours of cells 1 to 4 agree in 2, 1, 0, 1 places.
    first = [[1, 2], [2, 3], [3, 4], [1, 2], [1, 3]]
    second = [[3, 4], [2, 3], [3, 1], [4, 1], [2, 3]]
    second[3] = [4, 4]
    graphs = [
        sparse.csr_matrix((np.ones(10), np.ravel(t), np.arange(0, 11, 2)), shape=(5, 5))
        for t in (first, second)
    ]
    padded = trajectory.padded_overlap(*graphs, n_neighbors=3)
    np.testing.assert_allclose(padded, np.array([0, 2, 1, 0, 1]) / 3 + 1 / 3)
    recovered = trajectory.undo_padding(padded, n_neighbors=3)
    np.testing.assert_allclose(recovered, [0, 1, 0.5, 0, 0.5], atol=1e-12)


def test_scanpy_stores_one_neighbor_fewer_so_every_published_overlap_holds_the_padding():
    rng = np.random.default_rng(0)
    graphs = [
        trajectory.neighbor_graph(rng.normal(size=(300, 5))).obsp["distances"] for _ in range(2)
    ]
    assert {int(n) for n in np.diff(graphs[0].indptr)} == {29}
    true = np.array(
        [np.intersect1d(a.indices, b.indices).size / 29 for a, b in zip(*graphs, strict=True)]
    )
    padded = trajectory.padded_overlap(*graphs)
    recovered = trajectory.undo_padding(padded)
    # Exact, except where cell 0 is a true neighbour: then the false match hides a slot.
    touched = np.array([0 in a.indices or 0 in b.indices for a, b in zip(*graphs, strict=True)])
    np.testing.assert_allclose(recovered[~touched], true[~touched], atol=1e-12)
    assert abs(recovered.mean() - true.mean()) < 0.002
    assert padded.mean() - true.mean() > 0.02


def test_pairs_are_fixed_of_two_cells_and_inside_groups():
    groups = np.repeat([0, 1, 2], 10)
    pairs = trajectory.random_pairs(30, 300, groups=groups, seed=4)
    np.testing.assert_array_equal(pairs, trajectory.random_pairs(30, 300, groups=groups, seed=4))
    assert pairs.shape == (300, 2) and (pairs[:, 0] != pairs[:, 1]).all()
    assert (groups[pairs[:, 0]] == groups[pairs[:, 1]]).all()


def test_corrected_reports_donors_roots_and_every_metric(line):
    adata, place = line
    rng = np.random.default_rng(0)
    outcome = trajectory.run(
        adata, {"line": place, "noise": rng.normal(size=place.shape)}, n_roots=5, n_pairs=600
    )
    assert outcome.units.index.tolist() == ["a", "b", "c"]
    assert outcome.roots.shape == (5, 2)
    table = outcome.results.set_index(["representation", "metric"])["value"]
    assert table["line", "pseudotime_time_spearman"] == pytest.approx(outcome.units["line"].mean())
    assert table["line", "root_sd"] == pytest.approx(outcome.roots["line"].std())
    for metric in ("pseudotime_time_spearman", "neighbor_time", "global_geometry"):
        assert table["line", metric] > 0.6 > abs(table["noise", metric]) + 0.2
    assert table["line", "unreachable"] == 0
    assert (outcome.results["n"] > 0).all()


def test_a_donor_seen_once_cannot_be_told_from_time(line):
    adata, place = line
    adata = adata.copy()
    adata.obs["donor"] = "d" + adata.obs["time"].astype(str)
    outcome = trajectory.run(adata, {"line": place}, n_roots=3, n_pairs=300)
    assert outcome.units.index.tolist() == ["all cells"]
    row = outcome.results.query("metric == 'pseudotime_time_spearman'").iloc[0]
    assert "no donors to separate" in row["note"]
    assert row["ci_low"] < row["value"] < row["ci_high"]


def test_as_published_gives_pca_the_score_one(line):
    adata, _ = line
    pca = trajectory.reference_pca(adata)
    outcome = trajectory.run(adata, {"pca": pca}, protocol="as_published")
    table = outcome.results.set_index("metric")["value"]
    assert table["pseudotime_corr"] == pytest.approx(1)
    assert 0.99 < table["neighborhood_overlap"] <= 1  # cell 0 as a true neighbour costs a slot
    assert outcome.roots.index.tolist() == [0]


def test_depth_is_counted_from_layer_zero_to_the_last_block(line):
    adata, place = line
    names = {f"layer:tiny/{i}": place for i in (0, 1, 2, "final")}
    outcome = trajectory.run(adata, names, n_roots=2, n_pairs=300)
    depth = outcome.results.groupby("layer")["relative_depth"].first()
    assert depth.to_dict() == {"0": 0.0, "1": 0.5, "2": 1.0, "final": 1.0}
