from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from sclin import statistics as st
from sclin.errors import InputError

Y = np.array(list("aaaabbbbcc"))
DONORS = np.array([0, 0, 1, 1, 0, 0, 1, 1, 0, 1])


def test_permuted_within_groups_keeps_the_groups_composition():
    null = st.permuted(Y, groups=DONORS, seed=3)
    assert not np.array_equal(null, Y)
    for donor in (0, 1):
        assert sorted(null[DONORS == donor]) == sorted(Y[DONORS == donor])


def test_per_class_table_counts_cells():
    table = st.per_class_f1(["a", "a", "b"], ["a", "b", "b"])
    assert table.loc["a", "n"] == 2
    assert table.loc["a", "recall"] == 0.5


SKLEARN = {
    "accuracy": accuracy_score,
    "balanced_accuracy": balanced_accuracy_score,
    "f1_macro": lambda true, said: f1_score(true, said, average="macro"),
}


@pytest.mark.parametrize("metric", st.SCORES)
def test_scores_and_differences_equal_scikit_learn(metric):
    rng = np.random.default_rng(0)
    true, a, b = rng.integers(5, size=(3, 300))
    got = st.score_interval(metric, true, a)
    assert got.value == pytest.approx(SKLEARN[metric](true, a))
    assert got.low < got.value < got.high
    assert got.n == 300
    gap = st.score_difference(metric, true, a, b)
    expected = SKLEARN[metric](true, a) - SKLEARN[metric](true, b)
    assert gap.difference == pytest.approx(expected)


def test_macro_f1_counts_a_class_that_is_only_predicted():
    got = st.score_interval("f1_macro", ["a", "a", "b", "b"], ["a", "a", "b", "c"])
    assert got.value == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(200):
        true = rng.integers(2, size=200)
        pred = np.where(rng.random(200) < 0.8, true, 1 - true)
        interval = st.score_interval("f1_macro", true, pred, n_boot=200, seed=seed)
        covered += interval.low <= 0.8 <= interval.high
    assert 0.88 <= covered / 200 <= 0.99


def test_donors_that_differ_widen_the_interval():
    true = np.zeros(400, dtype=int)
    true[::2] = 1
    donors = np.repeat(np.arange(4), 100)
    pred = np.where(donors < 2, true, 1 - true)
    cells = st.score_interval("f1_macro", true, pred)
    grouped = st.score_interval("f1_macro", true, pred, groups=donors)
    assert grouped.high - grouped.low > 3 * (cells.high - cells.low)
    assert grouped.n == 4


def test_equal_predictions_differ_by_nothing():
    got = st.score_difference("f1_macro", Y, Y[::-1], Y[::-1], groups=DONORS)
    assert got[:5] == (0, 0, 0, 1, 2)
    assert not got.proven


def test_the_paired_p_value_lists_all_swaps_of_donors():
    """Six donors, a always right and b always wrong: only the two extreme swaps are as large."""
    true = np.tile(["a", "b"], 60)
    wrong = np.where(true == "a", "b", "a")
    got = st.score_difference("f1_macro", true, true, wrong, groups=np.repeat(range(6), 20))
    assert got.p_value == 2 / 2**6
    assert got.difference == 1 and got.n == 6
    assert got.proven


@pytest.mark.parametrize("groups", [None, np.repeat(np.arange(10), 20)])
def test_paired_p_values_of_scores_are_uniform_under_the_null(groups):
    rng = np.random.default_rng(0)
    p = []
    for seed in range(120):
        true = rng.integers(2, size=200)
        a, b = (np.where(rng.random(200) < 0.8, true, 1 - true) for _ in range(2))
        options = {"n_boot": 2, "n_permutations": 400, "seed": seed}
        p.append(st.score_difference("f1_macro", true, a, b, groups=groups, **options).p_value)
    assert 0.01 <= np.mean(np.array(p) <= 0.05) <= 0.1


def test_bootstrap_of_groups_counts_groups():
    got = st.bootstrap(np.mean, np.arange(12.0), groups=np.repeat([0, 1, 2], 4))
    assert got.n == 3
    assert got.low == 1.5 and got.high == 9.5


def test_paired_test_is_exact_for_few_units():
    got = st.paired_test([1.0, 2.0, 4.0, 3.0], [0.0, 0.0, 0.0, 0.0])
    assert got.p_value == 2 / 16
    assert got.difference == 2.5


def test_paired_test_p_values_are_uniform_under_the_null(monkeypatch):
    monkeypatch.setattr(st, "bootstrap", lambda *_, **__: st.Interval(0, 0, 0, 10))  # takes long
    rng = np.random.default_rng(0)
    p = [st.paired_test(rng.normal(size=10), np.zeros(10)).p_value for _ in range(300)]
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.09


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: st.paired_test([1.0], [0.0]), "two or more"),
        (lambda: st.bootstrap(np.mean, [1.0], groups=[1, 2]), "groups has shape"),
        (lambda: st.bootstrap(np.mean, []), "one length above zero"),
        (lambda: st.score_interval("f1_macro", ["a"], ["a", "b"]), "one value per cell"),
        (lambda: st.find_scorer("f1_macr"), "Did you mean 'f1_macro'"),
    ],
)
def test_bad_input_names_what_and_the_remedy(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_without_donors_no_draw_loses_a_class():
    y = np.array(["a"] * 99 + ["b"])
    said = np.full(100, "a")
    assert st.score_interval("balanced_accuracy", y, said)[:3] == (0.5, 0.5, 0.5)
    assert st.score_difference("balanced_accuracy", y, y, said)[:3] == (0.5, 0.5, 0.5)
