import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from sclin.benchmarks import cross_species
from sclin.datasets import simulate

FAST = {"representations": ["rank"], "heads": ["projection"], "min_cells": 5, "n_boot": 20}


def toy(genes, X):
    return AnnData(np.asarray(X, dtype=np.float32), var=pd.DataFrame(index=genes))


def test_genes_are_cut_in_one_order_and_doubled_ones_left_out():
    a = toy(["A", "B", "C", "D"], np.arange(8).reshape(2, 4))
    b = toy(["d", "c2", "c1", "a"], np.arange(8).reshape(2, 4))
    pairs = pd.DataFrame(
        {"source": ["D", "C", "C", "A", "B"], "target": ["d", "c1", "c2", "a", "b"]}
    )
    left, right, lost = cross_species.cut_to_orthologs(a, b, pairs)
    assert list(left.var_names) == list(right.var_names) == ["A", "D"]
    assert right.X.toarray()[0].tolist() == [3, 0]
    assert lost == 3


def test_off_diagonal_mean_by_hand():
    table = pd.DataFrame([[1.0, 0.2], [0.4, 1.0]])
    mean = cross_species.off_diagonal_mean(table)
    assert mean.value == pytest.approx(0.3) and mean.n == 2 and np.isnan(mean.low)


def test_published_averages_need_their_diagonal():
    table = cross_species.published_averages()
    assert table.loc["scTOP", "mean"] == pytest.approx(0.681, abs=5e-4)
    assert table.loc["scTOP", "mean_off_diagonal"] == pytest.approx(0.649, abs=5e-4)
    assert table.loc["scTOP", "n"] == 56
    assert table.loc["TF-Exemplar", "stated"] == 0.48
    assert table.loc["TF-Exemplar", "mean"] == pytest.approx(0.5, abs=5e-4)


def test_matrix_has_no_diagonal_and_types_are_one_list(three, mammals):
    found = cross_species.run(three, mammals, **FAST)
    square = found.matrix("rank", "projection")
    assert np.isnan(np.diag(square)).all() and np.isfinite(square.to_numpy()).sum() == 6
    shared = found.scores.query("types == 'shared'").set_index(["source", "target"])["n_types"]
    assert shared["human", "platypus"] == shared["platypus", "human"] == 5
    everything = found.scores.query("types == 'all'").set_index(["source", "target"])["n_types"]
    assert everything["platypus", "human"] == 7
    assert square.loc["human", "mouse"] > square.loc["human", "platypus"]


def test_predictions_point_at_rows_of_the_target(three, mammals):
    found = cross_species.run(three, mammals, **FAST)
    p = found.predictions["human", "mouse", "shared", "rank", "projection"]
    truth = three["mouse"].obs["cell_type"].astype(str).to_numpy()
    assert (truth[p.cell] == p.y_true).all()


def test_as_published_has_a_diagonal_that_lifts_the_mean():
    cells = simulate.species(n_cells=450, n_genes=300, seed=2)
    two = {name: cells.adatas[name] for name in ("human", "platypus")}
    found = cross_species.run(two, cells, protocol="as_published", n_boot=10)
    square = found.matrix("rank", "projection", types="all")
    assert np.isfinite(square.to_numpy()).all()
    means = found.results.query("metric == 'mean_macro_f1_all_types'").set_index("split")["value"]
    assert means["mean of the matrix, diagonal in"] == pytest.approx(square.to_numpy().mean())
    assert means["mean of the matrix, diagonal in"] > means["mean of transfers, diagonal out"]


def test_tables_work_either_way_round(three, mammals):
    pairs = mammals.pairs("human", "mouse")
    two = {name: three[name] for name in ("mouse", "human")}
    found = cross_species.run(two, {("human", "mouse"): pairs}, types=["shared"], **FAST)
    straight = cross_species.run(two, mammals, types=["shared"], **FAST)
    pd.testing.assert_frame_equal(found.scores, straight.scores)


def test_a_folder_of_tables_serves_both_ways(three, mammals, tmp_path):
    pairs = mammals.pairs("human", "mouse", kind=None)
    pairs.assign(kind="ortholog_" + pairs["kind"]).to_csv(tmp_path / "human_mouse.csv")
    two = {name: three[name] for name in ("mouse", "human")}
    found = cross_species.run(two, cross_species.read_orthologs(tmp_path), types=["all"], **FAST)
    straight = cross_species.run(two, mammals, types=["all"], **FAST)
    pd.testing.assert_frame_equal(found.scores, straight.scores)


def test_seed_spread_lists_every_seed(three, mammals):
    left, right, _ = cross_species.cut_to_orthologs(
        three["human"], three["mouse"], mammals.pairs("human", "mouse")
    )
    table = cross_species.seed_spread(
        left, right, seeds=[0, 1], variants={"small": {"n_genes": 100, "n_components": 5}}
    )
    assert table["seed"].tolist() == [0, 1] and table["macro_f1"].between(0, 1).all()
