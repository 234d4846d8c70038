"""The pieces of the trajectory benchmark, against numbers worked out by hand."""

from functools import partial

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse
from scipy.stats import spearmanr

import sclin
from sclin.compiled import keep_neighbors
from sclin.representations import representation
from sclin.statistics import spearman
from sclin.tasks import trajectory


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


def graph_of(place):
    graph = ad.AnnData(np.asarray(place, dtype=np.float32))
    keep_neighbors()
    sc.pp.neighbors(graph, n_neighbors=30, use_rep="X", random_state=0)
    return graph


def scanpy_pseudotime(place, root):
    graph = graph_of(place)
    sc.tl.diffmap(graph, n_comps=15, random_state=0)
    graph.uns["iroot"] = root
    sc.tl.dpt(graph, n_dcs=10)
    return graph.uns["diffmap_evals"][1], graph.obs["dpt_pseudotime"].to_numpy(dtype=float)


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


def test_spearman_agrees_with_scipy_and_skips_unreached_cells():
    rng = np.random.default_rng(0)
    rows, goal = rng.normal(size=(3, 30)), rng.integers(0, 4, 30)
    rows[1, :5] = np.inf
    expected = [
        spearmanr(rows[0], goal)[0],
        spearmanr(rows[1, 5:], goal[5:])[0],
        spearmanr(rows[2], goal)[0],
    ]
    np.testing.assert_allclose(spearman(rows, goal), expected)
    assert spearman([[1, 1, 1]], [1, 2, 3]).tolist() == [0.0]


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
    eigenvalue, scanpy = scanpy_pseudotime(place, 0)
    assert eigenvalue > 0.9994
    assert spearmanr(scanpy, place[:, 0])[0] < 0.9


def test_pseudotime_is_scanpys_where_no_component_is_mistaken(line):
    _, place = line
    eigenvalue, scanpy = scanpy_pseudotime(place, 3)
    assert eigenvalue < 0.9994
    np.testing.assert_allclose(trajectory.pseudotime(place, [3])[0], scanpy, atol=1e-4)


def test_padding_adds_one_match_and_can_be_undone(functions_of):
    # Two graphs of five cells with k = 3, so two stored neighbours and one padded slot.
    # Columns avoid cell 0; the stored neighbours of cells 1 to 4 agree in 2, 1, 0, 1 places.
    first = [[1, 2], [2, 3], [3, 4], [1, 2], [1, 3]]
    second = [[3, 4], [2, 3], [3, 1], [4, 3], [2, 3]]
    graphs = [
        sparse.csr_matrix((np.ones(10), np.ravel(t), np.arange(0, 11, 2)), shape=(5, 5))
        for t in (first, second)
    ]
    padded = trajectory.padded_overlap(*graphs, n_neighbors=3)
    np.testing.assert_allclose(padded, np.array([0, 2, 1, 0, 1]) / 3 + 1 / 3)
    recovered = functions_of("12_layers_trajectory", "undo_padding").undo_padding(padded, k=3)
    np.testing.assert_allclose(recovered, [0, 1, 0.5, 0, 0.5], atol=1e-12)


def test_scanpy_stores_one_neighbor_fewer_so_every_published_overlap_holds_the_padding(
    functions_of,
):
    rng = np.random.default_rng(0)
    graphs = [graph_of(rng.normal(size=(300, 5))).obsp["distances"] for _ in range(2)]
    assert {int(n) for n in np.diff(graphs[0].indptr)} == {29}
    true = np.array(
        [np.intersect1d(a.indices, b.indices).size / 29 for a, b in zip(*graphs, strict=True)]
    )
    padded = trajectory.padded_overlap(*graphs)
    recovered = functions_of("12_layers_trajectory", "undo_padding").undo_padding(padded)
    # Exact, except where cell 0 is a true neighbour: then the false match hides a slot.
    touched = np.array([0 in a.indices or 0 in b.indices for a, b in zip(*graphs, strict=True)])
    np.testing.assert_allclose(recovered[~touched], true[~touched], atol=1e-12)
    assert abs(recovered.mean() - true.mean()) < 0.002
    assert padded.mean() - true.mean() > 0.02


def test_measured_by_donor_and_by_root(line):
    adata, place = line
    adata = adata.copy()
    adata.obsm["line"] = place
    adata.obsm["noise"] = np.random.default_rng(0).normal(size=place.shape)
    score = partial(trajectory.score, n_roots=5, n_pairs=600, reference=place)
    found = sclin.measure(
        adata, score, representations={n: representation(f"obsm:{n}") for n in adata.obsm}
    )
    table = found.table.set_index(["representation", "metric"])["value"]
    units = found.predictions.set_index(["representation", "metric"])
    by_donor = units.loc[("line", "pseudotime_time_spearman")]
    by_root = units.loc[("line", "pseudotime_by_root")]
    assert by_donor["group"].tolist() == ["a", "b", "c"] and len(by_root) == 5
    assert by_root["value"].mean() == pytest.approx(by_donor["value"].mean())
    assert table["line", "root_sd"] == pytest.approx(by_root["value"].std())
    for metric in ("pseudotime_time_spearman", "neighbor_time", "global_geometry"):
        assert table["line", metric] > 0.6 > abs(table["noise", metric]) + 0.2
    assert table["line", "neighborhood_overlap"] == 1
    assert table["line", "unreachable"] == 0
    assert found.compare("line", "noise").n == 3


def test_cells_without_a_path_never_count_as_agreement(line):
    adata, place = line
    torn = place.copy()
    torn[::2, 1] += 1000  # half of the cells, of the two even times
    score = partial(trajectory.score, cells=adata, n_roots=5, n_pairs=600)
    whole, half = score(place), score(torn)
    assert half["unreachable"] == 0.5
    metric = "pseudotime_time_spearman"
    assert 0.3 < half[metric].mean() <= 0.5 < whole[metric].mean()
    assert half["pseudotime_by_root"].max() <= 0.5


def test_a_graph_of_many_parts_has_pseudotime_in_each():
    rng = np.random.default_rng(0)
    along, part = np.tile(np.linspace(0, 1, 40), 12), np.arange(12).repeat(40)
    place = np.column_stack([along, 100.0 * part + rng.normal(0, 0.01, 480)])
    order = trajectory.pseudotime(place, [0, 440], n_neighbors=10)
    assert np.isfinite(order).sum(axis=1).tolist() == [40, 40]
    assert spearmanr(order[1, 440:], along[440:])[0] > 0.95


def test_a_donor_seen_once_cannot_be_told_from_time(line):
    adata, place = line
    adata = adata.copy()
    adata.obs["donor"] = "d" + adata.obs["time"].astype(str)
    found = trajectory.score(place, adata, n_roots=3, n_pairs=300)["pseudotime_time_spearman"]
    assert found.n == adata.n_obs and found.low < found.value < found.high


def test_depth_is_counted_from_layer_zero_to_the_last_block(line):
    adata, place = line
    adata = adata.copy()
    adata.obsm["place"] = place
    things = {f"layer:tiny/{i}": representation("obsm:place") for i in (0, 1, 2, "final")}
    found = sclin.measure(adata, lambda X, cells: {"mean": X.mean()}, representations=things)
    depth = found.table.set_index("layer")["relative_depth"]
    assert depth.to_dict() == {"0": 0.0, "1": 0.5, "2": 1.0, "final": 1.0}
