import numpy as np
import pytest

from sclin.benchmarks import disease_state
from sclin.benchmarks.disease_state import ClusterwiseClassifier
from sclin.datasets import simulate
from sclin.errors import InputError

FAST = {"n_components": 8, "n_boot": 20}


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


@pytest.fixture(scope="module")
def leaking():
    cells = simulate.infection(n_cells=320, n_genes=250, n_donors=3, leak=True, seed=3)
    sick = (cells.obs["condition"] == "infected").to_numpy()
    cells.obs["condition"] = np.where(sick, "infected", "not infected")
    return cells


def test_viral_genes_leak_the_label_and_are_taken_out(leaking):
    options = {"representations": ["lognorm"], "heads": ["logistic"], "clusterwise": ["rank"]}
    options["options"] = {"logistic": {"n_genes": 50, "n_components": 10}}
    with_virus = disease_state.run(leaking, host_only=False, **options, **FAST)
    without = disease_state.run(leaking, **options, **FAST)

    def score(outcome, name):
        rows = outcome.results.query("metric == 'macro_f1' and representation == @name")
        return rows["value"].iloc[0]

    assert score(with_virus, "lognorm") > score(without, "lognorm") + 0.05
    assert without.left_out["n_genes"].sum() == 10
    assert abs(score(without, "lognorm (shuffled labels)") - 0.5) < 0.15
    assert set(without.donors) == set(leaking.obs["donor"])


def test_as_published_loses_cells_that_corrected_keeps(leaking):
    spared = (leaking.obs["cell_type"] == "type1") & (leaking.obs["condition"] == "infected")
    cells = leaking[~spared.to_numpy()].copy()
    found = disease_state.run(cells, protocol="as_published", n_splits=3, n_components=6)
    rows = found.results.query("metric == 'macro_f1'")
    assert len(rows) == 4 and rows["note"].str.contains("left out of the score").sum() == 2
    assert set(rows["representation"]) == {"counts", "rank"}
    assert found.clusters["n_test"].sum() == 2 * cells.n_obs


def test_host_genes_by_name():
    from anndata import AnnData

    cells = AnnData(np.zeros((1, 4)))
    cells.var_names = ["ACTB", "SARS-CoV-2-N", "ERCC-00002", "ENSSASG00005000004"]
    assert disease_state.host_genes(cells).tolist() == [True, False, False, False]


def test_a_single_gene_can_be_named_and_a_missing_one_is_an_error(leaking):
    found = disease_state.single_genes(leaking, genes=["VIRUS00001"], host_only=False, n_boot=10)
    assert found["gene"].tolist() == ["VIRUS00001"]
    with pytest.raises(InputError, match="no gene 'NOPE'"):
        disease_state.single_genes(leaking, genes=["NOPE"])
    chosen = disease_state.single_genes(leaking, n_top=2, n_boot=10)
    assert chosen["gene"].tolist() == ["place 1", "place 2"]


def test_unknown_protocol_and_features_are_errors(leaking):
    with pytest.raises(InputError, match="protocol"):
        disease_state.run(leaking, protocol="right")
    with pytest.raises(InputError, match="clusterwise"):
        disease_state.run(leaking, clusterwise=["raw"])
