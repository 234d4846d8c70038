"""Bad input of the trajectory and perturbation benchmarks: what, where, and the remedy."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sclin.errors import InputError
from sclin.tasks import perturbation, trajectory


def cells(**columns):
    n = len(next(iter(columns.values())))
    counts = np.random.default_rng(0).poisson(1.0, (n, 20)).astype(np.float32)
    obs = pd.DataFrame(columns, index=[f"c{i}" for i in range(n)])
    return ad.AnnData(sparse.csr_matrix(counts), obs=obs)


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("day", [0.0, 1, 2], ["called 'time'", "there are day"]),
        ("times", [0.0, 1, 2], ["called 'time'", "Did you mean 'times'?"]),
        ("time", ["early", "late", "mid"], ["holds text", "'late'", "order"]),
        ("time", [0.0, 1, 1], ["2 time points", "three or more"]),
        ("time", [0.0, np.nan, 1], ["1 of 3 cells have no 'time'", "drop"]),
    ],
)
def test_time_that_cannot_be_used(column, values, words):
    with pytest.raises(InputError) as error:
        trajectory.measured_time(cells(**{column: values}))
    for word in words:
        assert word in str(error.value)


def test_an_order_that_forgets_a_value_is_refused():
    with pytest.raises(InputError, match=r"'d10', which the order .* does not name"):
        trajectory.measured_time(cells(time=["d0", "d2", "d10"]), order=["d0", "d2"])


def test_too_few_cells_for_the_neighbors():
    with pytest.raises(InputError, match=r"9 cells cannot have 30"):
        trajectory.score(np.zeros((9, 2)), cells(time=[0.0, 1, 2] * 3))


@pytest.mark.parametrize("control", ["controls", "unedited"])
def test_an_absent_control_label_names_the_nearest(control):
    adata = cells(perturbation=np.repeat(["control", "a", "b"], 10))
    with pytest.raises(InputError) as error:
        perturbation.halve(adata, control=control)
    for word in (f"control label {control!r}", "Did you mean 'control'?"):
        assert word in str(error.value)


def test_perturbations_under_the_cell_minimum_are_listed():
    labels = np.repeat(["control", *"abcde"], [60, 30, 25, 24, 9, 3])
    with pytest.raises(InputError) as error:
        perturbation.halve(cells(perturbation=labels))
    for word in ("3 perturbations have 20 cells or more", "d (9)", "e (3)", "Lower min_cells"):
        assert word in str(error.value)


def test_too_few_control_cells():
    labels = np.repeat(["control", *"abcd"], [10, 30, 30, 30, 30])
    with pytest.raises(InputError, match=r"Control 'control' has fewer than 20 cells"):
        perturbation.halve(cells(perturbation=labels))


def test_no_proven_effect_is_said():
    labels = np.repeat(["control", *"abcde"], [100, 20, 20, 20, 20, 20])
    with pytest.raises(InputError, match=r"effect that is proven in any state"):
        perturbation.halve(cells(perturbation=labels))


def test_an_absent_state_column_is_named():
    adata = cells(perturbation=["control"] * 4, conditions=["x"] * 4)
    with pytest.raises(InputError, match=r"called 'condition'.*Did you mean 'conditions'\?"):
        perturbation.halve(adata, state="condition")
