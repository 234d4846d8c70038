"""Nested choice: against choices worked out by hand, and free of optimism on known truth."""

import numpy as np
import pandas as pd
import pytest

from sclin.errors import InputError
from sclin.statistics import nested_choice, paired_test

UNITS = pd.DataFrame(
    {"0": [0.9, 0.2, 0.2], "1": [0.5, 0.5, 0.5], "final": [0.4, 0.4, 0.5]}, index=list("xyz")
)


def test_by_hand():
    # Without x layer 1 wins (0.5 against 0.2) and scores 0.5 on x.
    # Without y layer 0 has 0.55 against 0.5 and scores 0.2 on y; the same without z.
    found = nested_choice(UNITS)
    assert found.value == pytest.approx((0.5 + 0.2 + 0.2) / 3)
    assert found.best == "1" and found.naive == pytest.approx(0.5)
    assert found.picks.to_dict() == pytest.approx({"0": 2 / 3, "1": 1 / 3, "final": 0})
    held_out = found.held_out["score"].reindex(UNITS.index)
    assert held_out.tolist() == [0.5, 0.2, 0.2]
    loss = paired_test(held_out, UNITS["final"])
    assert loss.difference == pytest.approx(((0.5 - 0.4) + (0.2 - 0.4) + (0.2 - 0.5)) / 3)


def test_units_that_choose_never_judge():
    seen = []

    def score(units):
        seen.append(set(map(int, units)))
        return np.arange(2.0)

    nested_choice(
        pd.DataFrame(0.0, index=range(6), columns=["a", "b"]),
        score=score,
        n_splits=2,
        n_repeats=3,
        seed=1,
    )
    for choose, judge in zip(seen[1::2], seen[2::2], strict=True):
        assert not choose & judge and choose | judge == set(range(6))
    assert len(seen) == 1 + 2 * 2 * 3


def test_it_removes_the_optimism():
    truth = np.array([0.5, 0.52, 0.54, 0.55, 0.55, 0.54, 0.53, 0.52, 0.51, 0.5, 0.49, 0.48])
    naive, honest = [], []
    for seed in range(50):
        rng = np.random.default_rng(seed)
        donor = rng.normal(0, 0.05, (8, 1))  # a donor easy for one layer is easy for all
        units = truth + donor + rng.normal(0, 0.08, (8, truth.size))
        found = nested_choice(pd.DataFrame(units), seed=seed)
        level = donor.mean()
        naive.append(found.naive - level - truth[found.best])
        honest.append(found.value - level - float(found.picks @ truth))
    assert abs(np.mean(honest)) < 0.01
    assert np.mean(naive) > 0.025


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: nested_choice(UNITS[:1]), "1 units cannot be cut"),
        (lambda: nested_choice(UNITS, n_splits=4), "into 4 folds; 2 to 3 are possible"),
        (lambda: nested_choice(UNITS, score=lambda u: [np.nan] * 3), "Keep more units"),
        (lambda: nested_choice(UNITS, score=lambda u: [0, 0]), "one finite number for each of 3"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InputError, match=words):
        call()
