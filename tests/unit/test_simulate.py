"""Simulators: layout, determinism, sizes."""

import numpy as np
import pytest
import scipy.sparse as sp

from sclin.datasets import counts, simulate

SMALL = {
    "atlas": {"n_cells": 120, "n_genes": 150, "n_types": 4},
    "infection": {"n_cells": 120, "n_genes": 150},
    "regulation": {"n_cells": 120, "n_genes": 150, "n_tfs": 4, "n_targets": 10},
    "trajectory": {"n_cells": 120, "n_genes": 150},
    "perturbation": {"n_cells_per": 6, "n_genes": 150, "n_perturbations": 8},
}


@pytest.mark.parametrize("name", SMALL)
def test_layout_is_the_one_of_all_datasets(name, tmp_path):
    adata = getattr(simulate, name)(**SMALL[name])
    assert adata.X.format == "csr" and adata.X.dtype == np.float32
    assert np.array_equal(adata.X.data, np.round(adata.X.data)) and adata.X.data.min() >= 1
    assert adata.uns["sclin"]["dataset"] == f"sim_{name}"
    assert adata.uns["sclin"]["tier"] == "simulated" and adata.uns["sclin"]["values"] == "counts"
    assert "symbol" in adata.var and adata.var_names.is_unique and adata.obs_names.is_unique
    adata.write_h5ad(tmp_path / "a.h5ad")


@pytest.mark.parametrize("name", SMALL)
def test_one_seed_gives_one_matrix_and_two_seeds_give_two(name):
    make = getattr(simulate, name)
    first, again, other = (make(**SMALL[name], seed=s) for s in (3, 3, 4))
    assert (first.X != again.X).nnz == 0 and first.obs.equals(again.obs)
    assert (first.X != other.X).nnz > 0


def test_infection_leaks_viral_genes_only_when_asked():
    closed = simulate.infection(n_cells=200, n_genes=100)
    leaky = simulate.infection(n_cells=200, n_genes=100, leak=True)
    assert closed.var["host"].all() and (~leaky.var["host"]).sum() == 10
    viral = np.asarray(leaky.X[:, ~leaky.var["host"].to_numpy()].sum(1)).ravel()
    infected = (leaky.obs["condition"] == "infected").to_numpy()
    assert viral[infected].mean() > 20 * viral[~infected].mean()


def test_species_have_their_own_genes_types_and_depth():
    data = simulate.species(n_cells=80, n_genes=300)
    ids = [set(a.var_names) for a in data.adatas.values()]
    assert not set.intersection(*ids) and all(len(i) == 300 for i in ids)
    types = {name: a.obs["cell_type"].nunique() for name, a in data.adatas.items()}
    assert types["human"] == 7 and types["mouse"] == types["opossum"] == 6
    assert types["platypus"] == 5
    depth = {name: np.median(np.asarray(a.X.sum(1))) for name, a in data.adatas.items()}
    assert depth["platypus"] < 0.6 * depth["human"]


def test_species_orthologs_are_consistent():
    data = simulate.species(n_cells=30, n_genes=400)
    pairs = data.pairs("human", "platypus", kind=None)
    assert set(pairs["kind"]) >= {"one2one", "one2many"}
    one = data.pairs("human", "platypus")
    assert one["source"].is_unique and one["target"].is_unique
    assert one["source"].isin(data.adatas["human"].var_names).all()
    back = data.pairs("platypus", "human")
    assert set(zip(one["source"], one["target"], strict=True)) == set(
        zip(back["target"], back["source"], strict=True)
    )
    near = len(data.pairs("human", "chimpanzee"))
    assert near > len(one)


def test_trajectory_samples_every_donor_at_every_time():
    adata = simulate.trajectory(n_cells=200, n_genes=60)
    table = adata.obs.groupby(["donor", "time"], observed=True).size().unstack()
    assert table.shape == (4, 5) and table.min().min() >= 10


def test_perturbation_numbers_and_labels():
    adata = simulate.perturbation(n_cells_per=6, n_genes=150, n_perturbations=8)
    size = adata.obs.groupby(["condition", "perturbation"], observed=True).size().unstack()
    assert (size["control"] == 30).all() and (size.drop(columns="control") == 6).all().all()
    assert not adata.obs.loc[adata.obs["perturbation"] == "control", "edited"].any()
    truth = adata.uns["sclin"]["truth"]
    assert len(truth["null"]) == 2
    assert all((effect.loc[truth["null"]] == 0).all().all() for effect in truth["effects"].values())


def test_counts_need_no_dense_matrix():
    term = (np.eye(2)[[0, 1, 0]], np.zeros((2, 5)))
    X = counts.draw(np.full(3, 10.0), np.random.default_rng(0), term)
    assert sp.issparse(X) and X.shape == (3, 5)
