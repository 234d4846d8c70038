from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from sclin import evaluation as ev
from sclin.errors import InputError

Y = np.array(list("aaaabbbbcc"))
DONORS = np.array([0, 0, 1, 1, 0, 0, 1, 1, 0, 1])


def test_cell_splits_cover_every_cell_once_in_proportion():
    splits = ev.split_cells(np.repeat(["a", "b"], [40, 20]), n_splits=4)
    assert sorted(np.concatenate([s.test for s in splits])) == list(range(60))
    for split in splits:
        assert not set(split.train) & set(split.test)
        assert len(split.test) == 15


def test_repeated_splits_hold_out_the_share_asked_for():
    splits = ev.split_cells(np.repeat(["a", "b"], [40, 20]), n_splits=3, test_size=0.2)
    assert [len(s.test) for s in splits] == [12, 12, 12]
    assert set(splits[0].test) != set(splits[1].test)


def test_donor_splits_never_share_a_donor():
    rng = np.random.default_rng(0)
    donors = rng.integers(6, size=200)
    y = rng.integers(3, size=200)
    for split in ev.split_donors(y, donors, n_splits=3):
        assert not set(donors[split.train]) & set(donors[split.test])


def test_leave_one_donor_out_names_the_donor():
    splits = ev.leave_one_donor_out(DONORS)
    assert [s.name for s in splits] == ["0", "1"]
    assert set(DONORS[splits[1].test]) == {1}


def test_shuffled_within_groups_keeps_the_groups_composition():
    null = ev.shuffled(Y, groups=DONORS, seed=3)
    assert not np.array_equal(null, Y)
    for donor in (0, 1):
        assert sorted(null[DONORS == donor]) == sorted(Y[DONORS == donor])


def test_metrics_agree_with_hand_computed_values():
    m = ev.classification_metrics(["a", "a", "b", "b"], ["a", "b", "b", "b"])
    assert m["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert m["accuracy"] == 0.75
    assert m["balanced_accuracy"] == 0.75


def test_metrics_count_a_class_that_is_only_predicted():
    m = ev.classification_metrics(["a", "a", "b", "b"], ["a", "a", "b", "c"])
    assert m["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert m["balanced_accuracy"] == pytest.approx((1 + 0.5) / 2)


def test_auroc_of_a_perfect_ranking_is_one():
    proba = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]])
    m = ev.classification_metrics(["a", "a", "b"], ["a", "a", "b"], proba=proba, classes=["a", "b"])
    assert m["auroc"] == 1.0
    assert m["log_loss"] == pytest.approx(-np.mean(np.log([0.9, 0.6, 0.7])))


def test_per_class_table_counts_cells():
    table = ev.per_class_f1(["a", "a", "b"], ["a", "b", "b"])
    assert table.loc["a", "n"] == 2
    assert table.loc["a", "recall"] == 0.5


def test_a_calibrated_classifier_has_no_calibration_error():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1, size=40_000)
    right = rng.random(p.size) < p
    table = ev.calibration_curve(
        np.where(right, "a", "b"), np.column_stack([p, 1 - p]), ["a", "b"], n_bins=10
    )
    assert table["n"].sum() == p.size
    assert table.attrs["ece"] < 0.01


def test_macro_f1_equals_scikit_learn():
    rng = np.random.default_rng(0)
    true, pred = rng.integers(5, size=300), rng.integers(5, size=300)
    got = ev.macro_f1_interval(true, pred)
    assert got.value == pytest.approx(f1_score(true, pred, average="macro"))
    assert got.low < got.value < got.high
    assert got.n == 300


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(200):
        true = rng.integers(2, size=200)
        pred = np.where(rng.random(200) < 0.8, true, 1 - true)
        interval = ev.macro_f1_interval(true, pred, n_boot=200, seed=seed)
        covered += interval.low <= 0.8 <= interval.high
    assert 0.88 <= covered / 200 <= 0.99


def test_donors_that_differ_widen_the_interval():
    true = np.zeros(400, dtype=int)
    true[::2] = 1
    donors = np.repeat(np.arange(4), 100)
    pred = np.where(donors < 2, true, 1 - true)
    cells = ev.macro_f1_interval(true, pred)
    grouped = ev.macro_f1_interval(true, pred, groups=donors)
    assert grouped.high - grouped.low > 3 * (cells.high - cells.low)


def test_difference_of_equal_predictions_is_zero():
    got = ev.macro_f1_difference(Y, Y[::-1], Y[::-1])
    assert got[:3] == (0, 0, 0)


def test_difference_equals_the_two_scores():
    rng = np.random.default_rng(2)
    true, a, b = rng.integers(3, size=(3, 200))
    got = ev.macro_f1_difference(true, a, b)
    assert got.value == pytest.approx(
        f1_score(true, a, average="macro") - f1_score(true, b, average="macro")
    )


def test_bootstrap_of_groups_counts_groups():
    got = ev.bootstrap(np.mean, np.arange(12.0), groups=np.repeat([0, 1, 2], 4))
    assert got.n == 3
    assert got.low == 1.5 and got.high == 9.5


def test_paired_test_is_exact_for_few_units():
    got = ev.paired_test([1.0, 2.0, 4.0, 3.0], [0.0, 0.0, 0.0, 0.0])
    assert got.p_value == 2 / 16
    assert got.difference == 2.5


def test_paired_test_p_values_are_uniform_under_the_null():
    rng = np.random.default_rng(0)
    p = [ev.paired_test(rng.normal(size=10), np.zeros(10)).p_value for _ in range(300)]
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.09


def row(**fields):
    return ev.result(
        **{
            "task": "cell_types",
            "dataset": "baron_human",
            "protocol": "corrected",
            "metric": "macro_f1",
            "value": 0.9,
            **fields,
        }
    )


def test_results_survive_a_round_trip(tmp_path, monkeypatch):
    monkeypatch.setenv("SCLIN_RESULTS", str(tmp_path))
    monkeypatch.setenv("SCLIN_PROFILE", "public")
    ev.save_results([row(value=ev.Interval(0.9, 0.8, 0.95, 4), layer="03", note="x")], "05_x")
    table = ev.load_results()
    assert table.loc[0, "profile"] == "public"
    assert table.loc[0, ["ci_low", "ci_high", "n"]].tolist() == [0.8, 0.95, 4]
    assert table.loc[0, "layer"] == "03"
    assert table.loc[0, "chapter"] == "05_x"


def test_a_layer_representation_fills_model_and_layer():
    made = row(representation="layer:tahoe-x1/final")
    assert (made["model"], made["layer"]) == ("tahoe-x1", "final")


def test_every_column_is_there_in_order():
    assert tuple(ev.results_table([row()]).columns) == ev.COLUMNS


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ev.split_cells(["a"] * 9), "one class only"),
        (lambda: ev.split_cells(["a"] * 9 + ["b"] * 3, n_splits=5), "'b' has 3 cells"),
        (lambda: ev.split_donors(Y, DONORS, n_splits=5), "lower n_splits to 2"),
        (lambda: ev.leave_one_donor_out(["x"] * 5), "one value only"),
        (lambda: ev.split_cells(pd.Series(["a", None, "b"])), "lacks a value for 1 of 3"),
        (lambda: ev.paired_test([1.0], [0.0]), "two or more"),
        (lambda: ev.results_table([row(task="cell_type")]), "Did you mean 'cell_types'"),
        (lambda: ev.results_table([{"task": "cell_types"}]), "lacks"),
        (lambda: ev.bootstrap(np.mean, [1.0], groups=[1, 2]), "groups has shape"),
    ],
)
def test_bad_input_names_what_and_the_remedy(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_an_empty_results_folder_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="run a chapter first"):
        ev.load_results(tmp_path)
