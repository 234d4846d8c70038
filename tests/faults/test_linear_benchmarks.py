"""Cell types, disease state, species: bad input is refused in words, what is odd is counted."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from sclin.benchmarks import cell_types, cross_species, disease_state
from sclin.benchmarks.disease_state import ClusterwiseClassifier
from sclin.datasets import simulate
from sclin.errors import InputError

FAST = {"representations": ["rank"], "heads": ["projection"], "min_cells": 5, "n_boot": 20}


@pytest.fixture(scope="module")
def cells():
    return simulate.atlas(n_cells=150, n_genes=120, n_types=3, n_donors=3, seed=1)


# Species -----------------------------------------------------------------------------------------


def test_no_shared_gene_says_what_is_there():
    a, b = (AnnData(np.ones((1, 1)), var=pd.DataFrame(index=[g])) for g in "Ab")
    with pytest.raises(InputError, match="one kind of gene id"):
        cross_species.cut_to_orthologs(a, b, pd.DataFrame({"source": ["X"], "target": ["b"]}))


def test_species_without_table_or_common_types(three, mammals):
    with pytest.raises(InputError, match="no ortholog table for human to mouse"):
        cross_species.run(three, {}, **FAST)
    with pytest.raises(InputError, match="two species"):
        cross_species.run({"human": three["human"]}, mammals)
    with pytest.raises(InputError, match="species dataset"):
        cross_species.load_species(["human"])
    other = {name: a.copy() for name, a in three.items()}
    other["mouse"].obs["cell_type"] = "mouse " + other["mouse"].obs["cell_type"].astype(str)
    with pytest.raises(InputError, match="one vocabulary"):
        cross_species.run(other, mammals, **FAST)
    with pytest.raises(InputError, match="cut_to_orthologs first"):
        cross_species.transfer(three["human"], three["mouse"])


def test_a_folder_without_the_table_names_the_file(three, tmp_path):
    tables = cross_species.read_orthologs(tmp_path)
    with pytest.raises(InputError, match=r"human_mouse.csv nor mouse_human.csv.*BioMart"):
        cross_species.run(three, tables, **FAST)


def test_experiments_without_common_genes_or_batches(cells):
    other = cells.copy()
    other.var_names = [f"other{i}" for i in range(other.n_vars)]
    with pytest.raises(InputError, match="No genes are shared"):
        cell_types.between([cells, other], **FAST)
    alone = cells[cells.obs["batch"] == "batch1"].copy()
    with pytest.raises(InputError, match="two"):
        cell_types.between(alone, **FAST)


# Clusters ----------------------------------------------------------------------------------------


def blobs(seed=0, n=60):
    """Three far groups: two with both classes (told apart by one axis), one with a single class."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(np.eye(3) * 30, n, axis=0)
    X = rng.normal(size=(3 * n, 3)) + centres
    y = np.where(X[:, 2] > centres[:, 2], "sick", "well")
    y[2 * n :] = "well"
    return X, y


def test_a_cluster_with_one_class_predicts_it_and_is_counted():
    X, y = blobs()
    model = ClusterwiseClassifier(resolution=0.05).fit(X, y)
    third = X[120:]
    assert (model.predict(third) == "well").all()
    assert not model.has_model(third).any()
    assert model.n_without_model_ == 60
    assert model.has_model(X[:120]).all()
    assert (model.predict(X[:120]) == y[:120]).mean() > 0.95


def test_disconnected_graph_is_reported():
    X, y = blobs()
    model = ClusterwiseClassifier(n_neighbors=5, resolution=0.05).fit(X, y)
    assert model.largest_component_ == pytest.approx(1 / 3, abs=0.01)


def test_too_few_cells_in_a_cluster_give_its_majority():
    X, y = blobs()
    model = ClusterwiseClassifier(resolution=0.05, min_cells=1000).fit(X, y)
    assert not model.models_ and model.n_without_model_ == len(y)
    for rows in (slice(0, 60), slice(60, 120), slice(120, 180)):
        assert len(set(model.predict(X[rows]))) == 1


def test_fewer_cells_than_neighbours_and_one_class_are_errors():
    with pytest.raises(InputError, match="set n_neighbors to 9"):
        ClusterwiseClassifier().fit(np.eye(10), ["a", "b"] * 5)
    with pytest.raises(InputError, match="one class only"):
        ClusterwiseClassifier().fit(np.random.default_rng(0).normal(size=(30, 2)), ["a"] * 30)


def test_unknown_protocol_and_features_are_errors():
    cells = simulate.infection(n_cells=60, n_genes=40, seed=3)
    with pytest.raises(InputError, match="protocol"):
        disease_state.run(cells, protocol="right")
    with pytest.raises(InputError, match="clusterwise"):
        disease_state.run(cells, clusterwise=["raw"])


# Cell types --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"label": "celltype"}, "no column 'celltype'"),
        ({"protocol": "published"}, "as_published"),
        ({"min_cells": 10_000}, "lower min_cells"),
        ({"donor": "donors"}, "Did you mean 'donor'"),
    ],
)
def test_bad_input_names_the_remedy(cells, options, words):
    with pytest.raises(InputError, match=words):
        cell_types.run(cells, **options)


def test_one_donor_and_repeated_genes_are_errors(cells):
    alone = cells.copy()
    alone.obs["donor"] = "d1"
    with pytest.raises(InputError, match="one value only"):
        cell_types.run(alone)
    twice = cells.copy()
    twice.var_names = ["same", "same", *twice.var_names[2:]]
    with pytest.raises(InputError, match="more than once"):
        cell_types.run(twice)
    with pytest.raises(InputError, match="three donors"):
        cell_types.nested_choice(cells[cells.obs["donor"].isin(["donor1", "donor2"])].copy())
