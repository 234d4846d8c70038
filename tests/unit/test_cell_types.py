import numpy as np
import pandas as pd
import pytest

from sclin.benchmarks import ablation, cell_types
from sclin.datasets import simulate
from sclin.evaluation import COLUMNS

SMALL = {"logistic": {"n_genes": 100, "n_components": 8}}


@pytest.fixture(scope="module")
def cells():
    found = simulate.atlas(n_cells=246, n_genes=150, n_types=4, n_donors=3, seed=1)
    # The simulated atlas has a rare type; these tests want classes of like size.
    return found[(found.obs["cell_type"] != "type4").to_numpy()][:231].copy()


@pytest.fixture(scope="module")
def outcome(cells):
    return cell_types.run(cells, options=SMALL, n_boot=40)


def test_every_pair_and_control_lands_in_the_results(outcome):
    rows = outcome.results.query("metric == 'macro_f1'")
    pairs = set(zip(rows["representation"], rows["head"], strict=True))
    assert {("lognorm", "logistic"), ("rank", "projection"), ("hvg_pca", "knn")} <= pairs
    assert {"library_size", "random", "hvg_pca (shuffled labels)"} <= set(rows["representation"])
    assert list(outcome.results.columns) == list(COLUMNS)
    assert (rows["ci_low"] <= rows["value"] + 1e-9).all() and rows["n"].eq(231).all()


def test_shuffled_labels_score_at_chance_and_real_ones_do_not(outcome):
    value = outcome.results.query("metric == 'macro_f1' and head == 'logistic'").set_index(
        "representation"
    )["value"]
    assert value["hvg_pca (shuffled labels)"] < 0.5
    assert value["random"] < 0.5
    assert value["lognorm"] > 0.8


def test_predictions_pool_all_donors_once(outcome, cells):
    p = outcome.predictions["sim_atlas", "rank", "logistic"]
    assert sorted(p.cell) == list(range(cells.n_obs))
    for donor in np.unique(p.split):
        held = p.cell[p.split == donor]
        assert (cells.obs["donor"].to_numpy()[held] == donor).all()


def test_per_class_interval_holds_the_score(outcome):
    table = outcome.per_class.query("representation == 'lognorm' and head == 'knn'")
    assert (
        (table["ci_low"] <= table["f1"] + 0.05) & (table["f1"] - 0.05 <= table["ci_high"])
    ).all()


def test_rare_classes_are_left_out_and_counted(cells):
    few = cells.copy()
    names = few.obs["cell_type"].astype(str).to_numpy()
    names[np.flatnonzero(names == "type1")[5:]] = "type2"
    few.obs["cell_type"] = names
    found = cell_types.run(
        few, representations=["hvg_pca"], heads=["centroid"], controls=False, n_boot=5
    )
    assert found.left_out[["class", "n_cells"]].to_numpy().tolist() == [["type1", 5]]
    assert "5 cells of 1 classes left out" in found.results["note"].iloc[0]


def test_as_published_reports_mean_and_sd_over_repeats(cells):
    found = cell_types.run(
        cells, protocol="as_published", min_cells=20, n_splits=3, options=SMALL, controls=False
    )
    row = found.results.query("metric == 'macro_f1' and head == 'projection'").iloc[0]
    folds = found.per_donor.query("head == 'projection'")["macro_f1"]
    assert row["value"] == pytest.approx(folds.mean())
    assert row["ci_high"] - row["value"] == pytest.approx(folds.std(ddof=1))
    assert row["n"] == 3 and row["protocol"] == "as_published"


def test_paired_comparison_with_itself_would_be_zero_and_is_left_out(outcome):
    table = cell_types.compare(outcome, "sim_atlas", reference=("rank", "logistic"), n_boot=20)
    assert not ((table["representation"] == "rank") & (table["head"] == "logistic")).any()
    assert (table["n_donors"] == 3).all() and (table["p_value"] >= 0.25).all()


def test_split_effect_reuses_held_out_predictions(cells, outcome):
    options = {"representations": ["rank"], "heads": ["projection"], "n_boot": 10}
    fresh = cell_types.split_effect(cells, **options)
    reused = cell_types.split_effect(cells, held_out=outcome, **options)
    pd.testing.assert_frame_equal(fresh, reused)
    by = fresh.set_index("split")["value"]
    gap = by["3 folds of cells"] - by["3 folds of donors"]
    assert by["folds of cells less donors held out"] == pytest.approx(gap)


def test_threshold_curve_counts_classes(cells):
    curve = cell_types.threshold_curve(
        cells, thresholds=[1, 70], pairs=[("rank", "projection")], n_boot=5
    )
    sizes = cells.obs["cell_type"].value_counts()
    assert curve["n_classes"].tolist() == [3, int((sizes >= 70).sum())]
    assert (curve["left_out"] + curve["n"] == cells.n_obs).all()


def test_nested_choice_never_shows_the_outer_donor(cells, monkeypatch):
    seen = []
    original = cell_types._by_components

    def spy(values, y, train, test, k, n_components, seed):
        seen.append((set(train), set(test)))
        return original(values, y, train, test, k, n_components, seed)

    monkeypatch.setattr(cell_types, "_by_components", spy)
    found = cell_types.nested_choice(cells, n_genes=[50], n_components=[3, 6], n_boot=5)
    donors = cells.obs["donor"].to_numpy()
    assert len(seen) == 3 * (2 + 1)
    outer = [seen[i] for i in (2, 5, 8)]
    for i, (train, test) in enumerate(seen):
        assert not set(donors[list(train)]) & set(donors[list(test)])
        # No inner fold, train or test, holds a cell of the donor that is reported on.
        assert i in (2, 5, 8) or not (train | test) & outer[i // 3][1]
    assert len(found.chosen) == 3 and len(found.inner) == 6


def test_several_datasets_and_the_test_over_them(cells):
    other = simulate.atlas(n_cells=200, n_genes=150, n_types=4, n_donors=3, seed=2)
    both = cell_types.run(
        [cells, other], representations=["rank"], heads=["projection", "centroid"],
        controls=False, n_boot=5,
    )  # fmt: skip
    scores, test = cell_types.compare_datasets(
        both.results, ("rank", "projection"), ("rank", "centroid")
    )
    assert len(scores) == 2 and test.n == 2
    assert test.difference == pytest.approx((scores["a"] - scores["b"]).mean())


def test_variants_agree_with_the_published_pipeline(cells):
    names = {"published": {}, "zero": {"unseen": "zero"}, "order": {"order": "rank_then_average"}}
    table, found = ablation.ablate(cells, names, n_boot=10)
    assert set(found) == {("sim_atlas", n) for n in names}
    gaps = table.query("metric == 'macro_f1_difference'")
    assert gaps["variant"].tolist() == ["zero", "order"]
    value = table.query("metric == 'macro_f1'").set_index("variant")["value"]
    assert gaps["value"].iloc[0] == pytest.approx(value["zero"] - value["published"])


def test_dropping_unseen_genes_drops_them(cells):
    empty = cells.copy()
    X = empty.X.tolil()
    X[:, :10] = 0
    empty.X = X.tocsr()
    y = empty.obs["cell_type"].to_numpy()
    model = ablation.LinearVariant(unseen="dropped", n_components=5).fit(empty, y)
    assert model.genes_.min() >= 10
    assert (model.predict(empty) == y).mean() > 0.6


def test_genes_of_a_type_are_higher_in_it(cells):
    top = cell_types.gene_weights(cells, n_top=3)
    y = cells.obs["cell_type"].to_numpy()
    symbols = cells.var["symbol"] if "symbol" in cells.var else cells.var_names.to_series()
    shares = cells.X.toarray() / cells.X.sum(axis=1)
    for row in top.itertuples():
        gene = np.flatnonzero(symbols.to_numpy() == row.gene)[0]
        assert shares[y == row[1], gene].mean() > shares[y != row[1], gene].mean()


def test_experiments_name_each_other_on_common_genes_and_types(cells):
    options = {"representations": ["rank"], "heads": ["projection"], "min_cells": 5, "n_boot": 5}
    one, other = (cells[cells.obs["batch"] == b].copy() for b in ("batch1", "batch2"))
    divided = cell_types.between(cells, **options).scores
    assert divided[["source", "target"]].to_numpy().tolist() == [
        ["batch1", "batch2"], ["batch2", "batch1"],
    ]  # fmt: skip
    other = other[:, ::-1][:, :140].copy()  # in another order, and ten genes fewer
    other = other[(other.obs["cell_type"] != "type1").to_numpy()].copy()
    found = cell_types.between([one, other], **options)
    assert (found.scores["n_genes"] == 140).all() and (found.scores["n_types"] == 2).all()
    assert found.scores["left_out"].eq((one.obs["cell_type"] == "type1").sum()).all()
    assert set(found.results["task"]) == {"cell_types"} and found.scores["macro_f1"].min() > 0.8
