"""Cross-species transfer recovers simulated evolution, and as published it has the named flaw."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtri
from scipy.stats import rankdata
from sklearn.model_selection import train_test_split

import sclin
from sclin.datasets import simulate
from sclin.projection import CentroidProjection
from sclin.representations import representation
from sclin.tasks import cross_species


def judged(t, **options):
    given = {"representations": ["rank"], "heads": ["projection"], "n_boot": 10} | options
    return sclin.evaluate(
        t.cells, "cell_type", cv=[t.fold], groups="donor", dataset=str(t), scoring=["f1_macro"],
        **given,
    )  # fmt: skip


@pytest.fixture(scope="module")
def published(functions_of):
    chapter = functions_of("07_cross_species", "side_by_side", "published_transfers")

    def judge(species, pairs):
        return {
            str(t): judged(
                t, representations={"rank": representation("counts")}, heads={"projection": head}
            )
            for t, head in chapter.published_transfers(species, pairs, "cell_type")
        }

    return judge


def test_near_species_are_named_better_than_far_ones(three, mammals, functions_of):
    species_matrix = functions_of("07_cross_species", "species_matrix").species_matrix
    pairs = partial(mammals.pairs, kind=None)
    tables = [
        judged(t).table for t in cross_species.transfers(three, pairs, "cell_type", min_cells=5)
    ]
    square = species_matrix(pd.concat(tables))
    assert np.isnan(np.diag(square)).all() and np.isfinite(square.to_numpy()).sum() == 6
    assert square.loc["human", "mouse"] > square.loc["human", "platypus"]


def test_published_transfer_agrees_with_its_formula(published):
    """Ranks over different genes on the two sides, and a basis that is cut but not ranked anew."""
    data = simulate.species(n_cells=420, n_genes=250, seed=4)
    source, target = data.adatas["human"], data.adatas["mouse"]
    found = published({"human": source, "mouse": target}, partial(data.pairs, kind=None))
    y = source.obs["cell_type"].astype(str).to_numpy()
    names, counts = np.unique(y, return_counts=True)
    rows = np.flatnonzero(np.isin(y, names[counts > 50]))
    train, _ = train_test_split(rows, test_size=0.1, stratify=y[rows], random_state=42)
    basis = CentroidProjection().fit(source.X[train], y[train])
    pairs = cross_species.first_partners(data.pairs("human", "mouse", kind=None))
    X = target[:, pairs["target"]].X.toarray()
    z = ndtri(rankdata(X, axis=1) / (X.shape[1] + 1))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    B = basis.basis_[source.var_names.get_indexer(pairs["source"])]
    a = np.linalg.solve(B.T @ B, B.T @ z.T)
    told = found["human to mouse"].predictions["y_pred"].to_numpy()
    assert (basis.classes_[a.argmax(axis=0)] == told).mean() > 0.995


def test_as_published_has_a_diagonal_that_lifts_the_mean(functions_of, published):
    species_matrix = functions_of("07_cross_species", "species_matrix").species_matrix
    data = simulate.species(n_cells=450, n_genes=300, seed=2)
    two = {name: data.adatas[name] for name in ("human", "platypus")}
    found = published(two, partial(data.pairs, kind=None))
    square = species_matrix(pd.concat([f.table for f in found.values()]))
    assert np.isfinite(square.to_numpy()).all()
    mean = cross_species.off_diagonal_mean(square)
    assert square.to_numpy().mean() > mean.value
    assert mean.value == pytest.approx((square.iloc[0, 1] + square.iloc[1, 0]) / 2)
