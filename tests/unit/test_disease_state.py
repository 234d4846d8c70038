import numpy as np
import pytest

from sclin.benchmarks import disease_state
from sclin.datasets import simulate
from sclin.errors import InputError

FAST = {"n_components": 8, "n_boot": 20}


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
