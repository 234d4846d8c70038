"""Cell types: one class list for all, a donor to hold out, and the two protocols as arguments."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse
from sklearn.model_selection import LeaveOneGroupOut, StratifiedShuffleSplit

import sclin
from sclin.datasets import simulate
from sclin.errors import InputError
from sclin.heads import head
from sclin.tasks.cell_types import donor_column, keep_classes, recommended


@pytest.fixture(scope="module")
def cells():
    found = simulate.atlas(n_cells=246, n_genes=150, n_types=4, n_donors=3, seed=1)
    # The simulated atlas has a rare type; these tests want classes of like size.
    return found[(found.obs["cell_type"] != "type4").to_numpy()][:231].copy()


def renamed(cells, column, values):
    cells = cells.copy()
    cells.obs[column] = values
    return cells


def test_rare_classes_and_cells_without_label_are_left_out_and_counted(cells):
    names = cells.obs["cell_type"].astype(object).to_numpy(copy=True)
    names[np.flatnonzero(names == "type1")[5:]] = "type2"
    names[np.flatnonzero(names == "type3")[:2]] = None
    kept, left_out = keep_classes(renamed(cells, "cell_type", names), "cell_type", min_cells=20)
    assert left_out.to_numpy().tolist() == [["type1", 5, "too few"], ["", 2, "no label"]]
    assert kept.n_obs == cells.n_obs - 7 and set(kept.obs["cell_type"]) == {"type2", "type3"}


def test_nothing_left_out_is_no_copy(cells):
    kept, left_out = keep_classes(cells, "cell_type", min_cells=1)
    assert kept is cells and left_out.empty


def test_a_type_must_be_in_every_experiment(cells):
    gone = (cells.obs["cell_type"] == "type1") & (cells.obs["batch"] == "batch2")
    kept, left_out = keep_classes(cells[~gone.to_numpy()], "cell_type", min_cells=5, within="batch")
    assert left_out["class"].tolist() == ["type1"]
    assert set(kept.obs["cell_type"]) == {"type2", "type3"}


def test_the_donor_is_found_or_there_is_none(cells):
    assert donor_column(cells) == "donor" and donor_column(cells, "batch") == "batch"
    assert donor_column(renamed(cells, "donor", "d1")) == "batch"
    assert donor_column(cells[cells.obs["donor"] == "donor1"], "") is None


@pytest.mark.parametrize(
    ("label", "min_cells", "words"),
    [
        ("cell_typ", 5, "Did you mean 'cell_type'"),
        ("cell_type", 10_000, "0 classes with 10000 cells.*lower min_cells"),
    ],
)
def test_bad_input_names_the_remedy(cells, label, min_cells, words):
    with pytest.raises(InputError, match=words):
        keep_classes(cells, label, min_cells=min_cells)


def test_the_two_protocols_are_arguments(cells):
    shared = {"representations": ["rank"], "heads": ["projection"], "n_boot": 10}
    corrected = sclin.evaluate(
        cells, "cell_type", cv=LeaveOneGroupOut(), groups="donor", task="cell_types", **shared
    )
    published = sclin.evaluate(
        cells, "cell_type", cv=StratifiedShuffleSplit(3, test_size=0.2, random_state=0),
        protocol="as_published", task="cell_types", **shared,
    )  # fmt: skip
    row, folds = corrected.table.iloc[0], published.table.iloc[:2]
    assert (row["split"], row["unit"], row["n"]) == ("pooled", "donor", 3)
    assert folds["split"].eq("folds").all() and folds["n"].eq(3).all()
    assert folds["variant"].tolist() == ["", "sd over folds"]
    assert corrected.table["value"].iloc[0] > 0.8 and folds["value"].iloc[0] > 0.8


def test_the_recommended_head_takes_whole_genomes(cells):
    found = sclin.evaluate(
        cells, "cell_type", representations=["rank", "lognorm"],
        heads={"recommended": recommended(), "pipeline": head("pipeline", n_components=20)},
        groups="donor", n_boot=10,
    )  # fmt: skip
    assert found.table.query("metric == 'f1_macro'")["value"].gt(0.8).all()


def test_a_type_that_only_one_donor_has_cannot_be_named_when_that_donor_is_out():
    rng = np.random.default_rng(0)
    y = np.array(["a", "b"] * 60, dtype=object)
    y[:10] = "only in d1"
    rates = np.full((120, 30), 1.0)
    for i, kind in enumerate(["a", "b", "only in d1"]):
        rates[y == kind, 10 * i : 10 * (i + 1)] = 6
    cells = AnnData(
        sparse.csr_matrix(rng.poisson(rates).astype(np.float32)),
        obs=pd.DataFrame(
            {"cell_type": y, "donor": np.repeat(["d1", "d2", "d3"], 40)},
            index=[f"c{i}" for i in range(120)],
        ),
    )
    found = sclin.evaluate(
        cells, "cell_type", representations=["rank"], heads=["centroid"], groups="donor", n_boot=5
    )
    lost = found.left_out.iloc[0]
    assert lost["n"] == 10 and "only in d1" in lost["reason"] and lost["fold"] == "d1"
    p = found.predictions
    assert (p.loc[p["y_true"] == "only in d1", "y_pred"] != "only in d1").all()
    assert (p.loc[p["y_true"] == "a", "y_pred"] == "a").mean() > 0.9
