"""Choosing a layer: against choices worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from sclin.errors import InputError
from sclin.layers import selection

UNITS = pd.DataFrame(
    {"0": [0.9, 0.2, 0.2], "1": [0.5, 0.5, 0.5], "final": [0.4, 0.4, 0.5]}, index=list("xyz")
)


def test_nested_choice_by_hand():
    # Without x layer 1 wins (0.5 against 0.2) and scores 0.5 on x.
    # Without y layer 0 has 0.55 against 0.5 and scores 0.2 on y; the same without z.
    found = selection.nested_choice(selection.mean_score(UNITS), 3, list(UNITS))
    assert found.value == pytest.approx((0.5 + 0.2 + 0.2) / 3)
    assert found.best == "1" and found.naive == pytest.approx(0.5)
    assert found.optimism == pytest.approx(0.2)
    assert found.picks.to_dict() == pytest.approx({"0": 2 / 3, "1": 1 / 3, "final": 0})


def test_units_that_choose_never_report():
    seen = []

    def score(units):
        seen.append(set(map(int, units)))
        return np.arange(2.0)

    selection.nested_choice(score, 6, ["a", "b"], n_splits=2, n_repeats=3, seed=1)
    for choose, report in zip(seen[1::2], seen[2::2], strict=True):
        assert not choose & report and choose | report == set(range(6))
    assert len(seen) == 1 + 2 * 2 * 3


def test_best_depth_is_one_that_was_measured():
    rng = np.random.default_rng(0)
    units = rng.normal([0.5, 0.55, 0.2], 0.1, (10, 3))
    found = selection.best_depth(selection.mean_score(units), 10, [0.0, 0.5, 1.0])
    assert {found.depth, found.low, found.high} <= {0.0, 0.5, 1.0}
    assert found.low <= found.depth <= found.high < 1
    assert found.shares.sum() == pytest.approx(1)


def test_final_loss_by_hand():
    found = selection.final_loss(UNITS, "final")
    assert found.difference == pytest.approx(((0.5 - 0.4) + (0.2 - 0.4) + (0.2 - 0.5)) / 3)
    assert found.n == 3 and found.p_value >= 0.25


def test_final_loss_cannot_be_significant_with_four_donors():
    units = pd.DataFrame({"mid": np.full(4, 0.9), "final": np.full(4, 0.1)})
    assert selection.final_loss(units, "final").p_value == pytest.approx(2 ** (1 - 4))


def test_ranks_over_tasks_by_hand():
    one = selection.mean_score([[0.9, 0.5, 0.1]] * 3)
    two = selection.mean_score([[0.5, 0.9, 0.1]] * 3)
    table = selection.aggregate_ranks({"one": (one, 3), "two": (two, 3)}, ["a", "b", "c"])
    assert table["mean_rank"].to_dict() == {"a": 1.5, "b": 1.5, "c": 3.0}
    assert table.loc["a", ["one", "two"]].tolist() == [1, 2]
    assert table.loc["c", "top_share"] == 0


def test_pareto_front_keeps_equals():
    front = selection.pareto_front([1, 1, 0.5, 0.2], [1, 1, 3, 2])
    assert front.tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: selection.final_loss(UNITS, "finale"), "Did you mean 'final'"),
        (lambda: selection.final_loss(UNITS[:2], "final"), "2 units cannot choose"),
        (
            lambda: selection.nested_choice(selection.mean_score(UNITS), 1, list(UNITS)),
            "1 units cannot be cut",
        ),
        (
            lambda: selection.nested_choice(lambda u: np.full(3, np.nan), 3, list(UNITS)),
            "not finite; keep more units",
        ),
        (
            lambda: selection.nested_choice(lambda u: np.zeros(2), 3, list(UNITS)),
            r"shape \(2,\) for 3 candidates",
        ),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InputError, match=words):
        call()
