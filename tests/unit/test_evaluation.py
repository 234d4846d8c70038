from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import f1_score
from sklearn.model_selection import LeaveOneGroupOut, StratifiedShuffleSplit
from sklearn.neighbors import KNeighborsClassifier

import sclin
from sclin import evaluation as ev
from sclin import heads as hd
from sclin import representations as rp
from sclin.errors import InputError
from sclin.results import KEY
from sclin.statistics import Interval

BY_DONOR = {"cv": LeaveOneGroupOut(), "groups": "donor", "n_boot": 50}


class Counted:
    """A representation that counts how often it is fitted and asked."""

    def __init__(self, per_cell):
        self.per_cell, self.fits, self.asked = per_cell, [], []

    def __deepcopy__(self, memo):
        return self

    def fit(self, adata):
        self.fits.append(adata.n_obs)
        return self

    def transform(self, adata):
        self.asked.append(adata.n_obs)
        return adata.X.toarray()


@pytest.fixture(scope="module")
def found(wide_cells):
    return sclin.evaluate(
        wide_cells, "cell_type", representations=["lognorm", "rank", "rank_pca"],
        heads=["logistic", "centroid", "projection"], controls=True, **BY_DONOR,
    )  # fmt: skip


@pytest.fixture(scope="module")
def wide_cells(make_cells):
    return make_cells(seed=0)


def pooled(found, representation, head="logistic", variant="", metric="f1_macro"):
    t = found.table
    fields = {"representation": representation, "head": head, "variant": variant, "metric": metric}
    rows = t[np.logical_and.reduce([t[k].eq(v) for k, v in fields.items()])]
    assert len(rows) == 1
    return rows.iloc[0]


def test_one_row_a_number_with_interval_and_donors(found):
    assert not found.table.duplicated(list(KEY)).any()
    row = pooled(found, "rank")
    assert row["ci_low"] <= row["value"] <= row["ci_high"]
    assert (row["unit"], row["n"]) == ("donor", 4)


def test_every_number_follows_from_the_predictions(found):
    p = found.of("rank", "centroid")
    assert sorted(p["row"]) == list(range(240))
    expected = f1_score(p["y_true"], p["y_pred"], average="macro")
    assert pooled(found, "rank", "centroid")["value"] == pytest.approx(expected)


def test_probabilities_go_with_the_predictions(found):
    p, proba = found.of("rank", "logistic"), found.probabilities["rank", "logistic"]
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert (proba.columns.to_numpy()[proba.to_numpy().argmax(axis=1)] == p["y_pred"]).all()
    assert ("rank", "centroid") not in found.probabilities


def test_controls_are_near_chance_and_signal_is_not(found):
    assert pooled(found, "rank")["value"] > 0.9
    for row in (
        pooled(found, "library_size"),
        pooled(found, "random"),
        pooled(found, "rank", variant="shuffled_labels"),
    ):
        assert row["value"] < 0.5


def test_a_pair_that_makes_no_sense_is_listed_with_its_reason(found):
    left = found.left_out.set_index(["representation", "head"])["reason"]
    assert "no basis" in left["rank_pca", "projection"]
    assert "no basis" in left["library_size", "projection"]
    with pytest.raises(InputError, match="no predictions of 'rank_pca' 'projection'"):
        found.compare("rank_pca", "rank", head="projection")


def test_projection_on_ranks_averages_counts_first(wide_cells, found):
    train = wide_cells.obs["donor"].ne("d0").to_numpy()
    model = sclin.projection.CentroidProjection().fit(
        wide_cells.X[train], wide_cells.obs["cell_type"][train].astype(str)
    )
    p = found.of("rank", "projection")
    p = p[p["fold"].eq("d0")]
    assert (model.predict(wide_cells.X[p["row"]]) == p["y_pred"]).all()


def test_a_representation_of_single_cells_is_computed_once_and_a_fitted_one_once_a_fold(cells):
    once, fitted = Counted(True), Counted(False)
    sclin.evaluate(
        cells, "cell_type", representations={"once": once, "fitted": fitted},
        heads=["centroid", "knn"], **BY_DONOR,
    )  # fmt: skip
    sizes = cells.obs["donor"].value_counts().sort_index()
    assert once.fits == once.asked == [240]
    assert fitted.fits == [240 - n for n in sizes]


def test_wide_logistic_fits_share_the_products_of_all_pairs(wide_cells, monkeypatch):
    few = wide_cells[np.random.default_rng(0).choice(wide_cells.n_obs, 100, replace=False)].copy()
    asked, products = [], ev.products
    monkeypatch.setattr(ev, "products", lambda X: asked.append(X.shape[0]) or products(X))
    n = {"max_cells": 99}  # of a fit, not of all folds
    judges = {"one": hd.head("logistic", **n), "other": hd.head("logistic", C=0.1, **n)}
    things = {"representations": ["rank"], "controls": True}
    found = sclin.evaluate(few, "cell_type", heads=judges, **things, **BY_DONOR)
    assert asked == [few.n_obs]
    fitted = {"representations": {"counts": Counted(per_cell=False)}}
    sclin.evaluate(few, "cell_type", heads=judges, **fitted, **BY_DONOR)
    assert len(asked) == 1 + few.obs["donor"].nunique()
    monkeypatch.setattr(ev, "_pairs", lambda *_: None)
    alone = sclin.evaluate(few, "cell_type", heads=judges, **things, **BY_DONOR)
    pd.testing.assert_frame_equal(found.predictions, alone.predictions)
    for key, proba in found.probabilities.items():
        np.testing.assert_allclose(proba, alone.probabilities[key], atol=1e-9)


def test_jobs_change_no_number(cells):
    call = {"representations": ["rank_pca"], "heads": ["knn"], **BY_DONOR}
    one, two = (sclin.evaluate(cells, "cell_type", n_jobs=n, **call) for n in (1, 2))
    pd.testing.assert_frame_equal(one.table, two.table)
    pd.testing.assert_frame_equal(one.predictions, two.predictions)


def test_a_new_representation_and_a_new_head_take_one_entry_each(cells, monkeypatch):
    class Loudest(ClassifierMixin, BaseEstimator):
        def fit(self, X, y):
            self.classes_, codes = np.unique(y, return_inverse=True)
            self.means_ = np.array([X[codes == c].mean(axis=0) for c in range(codes.max() + 1)])
            return self

        def predict(self, X):
            return self.classes_[(X @ self.means_.T).argmax(axis=1)]

    monkeypatch.setitem(
        rp.REPRESENTATIONS, "binary", lambda seed: rp.PerCell(lambda a: (a.X > 0).toarray())
    )
    monkeypatch.setitem(hd.HEADS, "loudest", Loudest)
    new = sclin.evaluate(
        cells, "cell_type", representations=["binary"], heads=["loudest"], **BY_DONOR
    )
    assert pooled(new, "binary", "loudest")["value"] > 0.8


def test_scikit_learn_goes_in_and_a_head_that_cannot_read_ranks_is_listed(cells):
    new = sclin.evaluate(
        cells, "cell_type", representations=["lognorm", "rank"],
        heads={"nn3": KNeighborsClassifier(3), "centroid": hd.CentroidHead()},
        scoring=["accuracy", "roc_auc_ovr", "neg_log_loss"], **BY_DONOR,
    )  # fmt: skip
    assert set(new.table["metric"]) == {"accuracy", "roc_auc_ovr", "neg_log_loss"}
    assert pooled(new, "lognorm", "nn3", metric="roc_auc_ovr")["value"] > 0.9
    assert np.isnan(pooled(new, "lognorm", "centroid", metric="roc_auc_ovr")["value"])
    assert "toarray" in new.left_out.set_index(["representation", "head"])["reason"]["rank", "nn3"]


def test_folds_that_overlap_give_mean_and_spread_and_no_comparison(cells):
    new = sclin.evaluate(
        cells, "cell_type", representations=["rank", "lognorm"], heads=["centroid"],
        cv=StratifiedShuffleSplit(3, test_size=0.2, random_state=0), protocol="as_published",
    )  # fmt: skip
    row = pooled(new, "rank", "centroid")
    assert (row["split"], row["unit"], row["n"]) == ("folds", "fold", 3)
    assert pooled(new, "rank", "centroid", variant="sd over folds")["value"] < 0.1
    with pytest.raises(InputError, match="predicted more than once"):
        new.compare("rank", "lognorm")


def test_a_class_of_one_donor_counts_as_wrong_and_is_listed(cells):
    first = cells.obs["cell_type"].eq("type 0")
    cells.obs["donor"] = np.where(
        first, "d0", np.where(cells.obs["donor"] == "d0", "d1", cells.obs["donor"])
    )
    new = sclin.evaluate(
        cells, "cell_type", representations=["rank"], heads=["centroid"], **BY_DONOR
    )
    lost = new.left_out[new.left_out["reason"].str.contains("'type 0' is not in the training")]
    assert lost["n"].tolist() == [first.sum()]
    assert (new.predictions.query("y_true == 'type 0'")["y_pred"] != "type 0").all()


def test_comparisons_are_paired_and_stand_in_rows(found):
    c = found.compare("rank", "random")
    assert c.ci_low <= c.difference <= c.ci_high and (c.n, c.unit) == (4, "donor")
    assert c.p_value == 0.125  # the smallest that four donors can give
    same = found.compare("rank", "rank")
    assert (same.difference, same.p_value) == (0, 1)
    rows = found.comparisons("random")
    rows = rows[rows["representation"].eq("rank") & rows["head"].eq("logistic")].set_index("metric")
    assert rows.loc["f1_macro_difference", "value"] == pytest.approx(c.difference)
    assert rows.loc["f1_macro_p", "value"] == c.p_value
    assert set(rows["variant"]) == {"versus:random"}


def test_a_verdict_calls_no_lead_that_no_test_can_prove(found):
    verdict = found.verdict()
    assert "With 4 donors and 2 comparisons no test can prove a lead" in verdict.words
    assert "leads" not in verdict.words
    assert "best control" in verdict.words
    assert {verdict.best, *verdict.equals} >= {"lognorm", "rank"}


def test_a_verdict_calls_a_lead_that_eight_donors_prove(make_cells):
    cells = make_cells(seed=1, donors=8)
    noise = np.random.default_rng(0).normal(size=(cells.n_obs, 5))
    cells.obsm["X_noise"] = noise
    new = sclin.evaluate(
        cells, "cell_type", representations=["obsm:X_noise", "rank"], heads=["centroid"], **BY_DONOR
    )
    assert new.verdict().best == "rank" and "rank leads obsm:X_noise" in str(new.verdict())


def test_measure_takes_numbers_intervals_and_units(cells):
    cells.obsm["X_one"] = np.ones((cells.n_obs, 2))

    def score(embedding, adata):
        one = float(np.asarray(embedding).mean())
        by_type = pd.Series({"a": one, "b": one + 1.0}).rename_axis("type")
        return {"plain": one, "interval": Interval(one, 0, 2, 7), "units": by_type}

    new = sclin.measure(
        cells,
        score,
        representations=["obsm:X_one", "random"],
        task="toy",
        lower_is_better=["plain"],
    )
    rows = new.table[new.table["representation"].eq("obsm:X_one")].set_index("metric")
    assert rows["value"].tolist() == [1, 1, 1.5]
    assert rows["n"].tolist()[1:] == [7, 2] and rows.loc["units", "unit"] == "type"
    assert not rows.loc["plain", "higher_is_better"] and rows.loc["units", "higher_is_better"]
    assert new.compare("obsm:X_one", "obsm:X_one", metric="units").p_value == 1


def test_a_score_without_units_has_a_best_but_no_lead(cells):
    said = sclin.measure(
        cells, lambda X, adata: {"columns": Interval(X.shape[1], 0, 99, 7)},
        representations=["rank_pca", "hvg_pca"], dataset="toy",
    ).verdict()  # fmt: skip
    assert said.best in ("rank_pca", "hvg_pca") and len(said.equals) == 1
    assert "have no units to compare over" in said.words and "leads" not in said.words


def test_measure_scores_each_donor_by_itself(cells):
    new = sclin.measure(
        cells, lambda X, adata: {"n": float(adata.n_obs)}, representations=["rank"], units="donor",
        dataset="toy",
    )  # fmt: skip
    assert new.table["value"].tolist() == [60] and new.table["n"].tolist() == [4]
    assert new.predictions["value"].sum() == 240


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"representations": ["rnak"]}, "Did you mean 'rank'"),
        ({"heads": ["logistik"]}, "Did you mean 'logistic'"),
        ({"heads": []}, "No head was given"),
        ({"groups": "donr"}, "Did you mean 'donor'"),
        ({"scoring": ["f1_macr"]}, "Did you mean 'f1_macro'"),
        ({"groups": None}, "Give groups"),
        ({"cv": [(np.arange(3) * 3, np.arange(9))]}, "fold 0 holds 1 class"),
        (
            {"representations": {"short": Counted(False)}, "label": "lost"},
            "5 of 240 cells have no 'lost'",
        ),
        ({"heads": {"knn": hd.KNNHead(n_neighbors=500)}}, "lower n_neighbors"),
    ],
)
def test_a_slip_is_named_with_the_remedy(cells, change, words):
    cells.obs["lost"] = np.where(np.arange(240) < 5, None, cells.obs["cell_type"].astype(str))
    call = {"label": "cell_type", "representations": ["lognorm"], "heads": ["centroid"], **BY_DONOR}
    with pytest.raises(InputError, match=words):
        sclin.evaluate(cells, **call | change)


@pytest.mark.parametrize("X", [np.zeros((3, 2)), np.full((240, 2), np.nan)])
def test_a_representation_that_does_not_fit_its_cells_is_refused(cells, X):
    given = {
        "own": type(
            "Own", (), {"per_cell": True, "fit": lambda s, a: s, "transform": lambda s, a: X}
        )()
    }
    with pytest.raises(InputError, match=r"'own' has (3 rows for 240|480 values that)"):
        sclin.evaluate(cells, "cell_type", representations=given, heads=["centroid"], **BY_DONOR)
