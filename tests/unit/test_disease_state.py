"""Disease state: the published head and what it loses, and a label that leaks."""

import numpy as np
import pytest
from anndata import AnnData
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold

import sclin
from sclin.datasets import simulate
from sclin.errors import InputError
from sclin.tasks.disease_state import NO_MODEL, ClusterwiseClassifier, clusterwise, host_genes


@pytest.fixture(scope="module")
def leaking():
    cells = simulate.infection(n_cells=320, n_genes=250, n_donors=3, leak=True, seed=3)
    sick = (cells.obs["condition"] == "infected").to_numpy()
    cells.obs["condition"] = np.where(sick, "infected", "not infected")
    return cells


def blobs(seed=0, n=60):
    """Three far groups: two with both classes (told apart by one axis), one with a single class."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(np.eye(3) * 30, n, axis=0)
    X = rng.normal(size=(3 * n, 3)) + centres
    y = np.where(X[:, 2] > centres[:, 2], "sick", "well")
    y[2 * n :] = "well"
    return X, y


def test_viral_genes_leak_the_label_and_are_taken_out(leaking):
    host = host_genes(leaking)
    assert (~host).sum() == 10

    def score(cells):
        found = sclin.evaluate(
            cells, "condition", representations=["lognorm"], groups="donor", n_boot=10
        )
        return found.table["value"].iloc[0]

    assert score(leaking) > score(leaking[:, host].copy()) + 0.05


def test_the_published_head_loses_cells_that_the_corrected_one_names(leaking):
    spared = (leaking.obs["cell_type"] == "type1") & (leaking.obs["condition"] == "infected")
    cells = leaking[~spared.to_numpy(), host_genes(leaking)].copy()
    found = sclin.evaluate(
        cells, "condition", representations=["rank"],
        heads={m: clusterwise(n_components=6, majority=m == "all") for m in ("all", "published")},
        cv=StratifiedKFold(3, shuffle=True, random_state=0), protocol="as_published", n_boot=10,
    )  # fmt: skip
    every, some = found.of("rank", "all"), found.of("rank", "published")
    lost = some["y_pred"].eq(NO_MODEL).to_numpy()
    assert 0 < lost.sum() < len(some) and not every["y_pred"].eq(NO_MODEL).any()
    assert (every["y_pred"].to_numpy() == some["y_pred"].to_numpy())[~lost].all()
    kept = some[~lost]
    assert f1_score(kept["y_true"], kept["y_pred"], average="macro") != pytest.approx(
        f1_score(every["y_true"], every["y_pred"], average="macro")
    )


def test_a_cluster_with_one_class_predicts_it_or_nothing():
    X, y = blobs()
    model = ClusterwiseClassifier(resolution=0.05).fit(X, y)
    assert (model.predict(X[120:]) == "well").all() and len(model.models_) == 2
    assert (model.predict(X[:120]) == y[:120]).mean() > 0.95
    published = ClusterwiseClassifier(resolution=0.05, majority=False).fit(X, y)
    assert (published.predict(X[120:]) == NO_MODEL).all()
    assert (published.predict(X[:120]) == model.predict(X[:120])).all()


def test_disconnected_graph_is_reported():
    X, y = blobs()
    model = ClusterwiseClassifier(n_neighbors=5, resolution=0.05).fit(X, y)
    assert model.largest_component_ == pytest.approx(1 / 3, abs=0.01)


def test_too_few_cells_in_a_cluster_give_its_majority():
    X, y = blobs()
    model = ClusterwiseClassifier(resolution=0.05, min_cells=1000).fit(X, y)
    assert not model.models_
    for rows in (slice(0, 60), slice(60, 120), slice(120, 180)):
        assert len(set(model.predict(X[rows]))) == 1


def test_fewer_cells_than_neighbours_and_one_class_are_errors():
    with pytest.raises(InputError, match="set n_neighbors to 9"):
        ClusterwiseClassifier().fit(np.eye(10), ["a", "b"] * 5)
    with pytest.raises(InputError, match="one class only"):
        ClusterwiseClassifier().fit(np.random.default_rng(0).normal(size=(30, 2)), ["a"] * 30)


def test_host_genes_by_name_or_symbol():
    cells = AnnData(np.zeros((1, 4)))
    cells.var_names = ["SARS", "SARS2", "ERCC1", "CD4"]  # human genes, the first two of tRNA
    assert host_genes(cells).all()
    cells.var_names = ["ACTB", "SARS-CoV-2-N", "ERCC-00002", "ENSSASG00005000004"]
    assert host_genes(cells).tolist() == [True, False, False, False]
    cells.var_names, cells.var["symbol"] = ["1", "2", "3", "4"], ["A", "virus1", "B", "scov2_N"]
    assert host_genes(cells).tolist() == [True, False, True, False]
