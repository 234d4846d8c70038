"""Bad input of the trajectory and perturbation benchmarks: what, where, and the remedy."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sclin.benchmarks import perturbation, trajectory
from sclin.errors import InputError


def cells(**columns):
    n = len(next(iter(columns.values())))
    counts = np.random.default_rng(0).poisson(1.0, (n, 20)).astype(np.float32)
    obs = pd.DataFrame(columns, index=[f"c{i}" for i in range(n)])
    return ad.AnnData(sparse.csr_matrix(counts), obs=obs)


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("day", [0.0, 1, 2], ["no column 'time'", "present: day"]),
        ("times", [0.0, 1, 2], ["no column 'time'", "Did you mean 'times'?"]),
        ("time", ["d2", "d10", "d0"], ["holds text", "'d10'", "order"]),
        ("time", [0.0, 1, 1], ["2 time points", "three or more"]),
        ("time", [0.0, np.nan, 1], ["lacks a value for 1 of 3 cells", "drop"]),
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


def test_a_representation_of_other_cells_is_refused():
    adata = cells(time=[0.0, 1, 2] * 20)
    with pytest.raises(InputError, match=r"'mine' has 59 rows for 60 cells"):
        trajectory.run(adata, {"mine": np.zeros((59, 2))})


def test_values_that_are_not_finite_are_refused():
    matrix = np.zeros((60, 2))
    matrix[3, 1] = np.nan
    with pytest.raises(InputError, match=r"'mine' has values that are not finite in 1 cells"):
        trajectory.run(cells(time=[0.0, 1, 2] * 20), {"mine": matrix})


def test_an_unknown_protocol_names_the_nearest():
    with pytest.raises(InputError, match=r"Did you mean 'corrected'\?"):
        trajectory.run(cells(time=[0.0, 1, 2] * 20), {"x": np.zeros(60)}, protocol="correct")


def test_too_few_cells_for_the_neighbors():
    with pytest.raises(InputError, match=r"9 cells cannot have 30"):
        trajectory.run(cells(time=[0.0, 1, 2] * 3), {"x": np.zeros(9)})


@pytest.mark.parametrize(
    ("control", "words"),
    [
        ("controls", ["control label 'controls'", "Did you mean 'control'?"]),
        ("unedited", ["control label 'unedited'", "Did you mean 'control'?"]),
    ],
)
def test_an_absent_control_label_names_the_nearest(control, words):
    adata = cells(perturbation=np.repeat(["control", "a", "b"], 10))
    with pytest.raises(InputError) as error:
        perturbation.run(adata, {"x": np.zeros(30)}, control=control, state=None)
    for word in words:
        assert word in str(error.value)


def test_perturbations_under_the_cell_minimum_are_listed():
    labels = np.repeat(["control", *"abcde"], [60, 30, 25, 24, 9, 3])
    with pytest.raises(InputError) as error:
        perturbation.run(cells(perturbation=labels), {"x": np.zeros(151)}, state=None)
    for word in ("3 perturbations have 20 cells or more", "d (9)", "e (3)", "Lower min_cells"):
        assert word in str(error.value)


def test_too_few_control_cells():
    labels = np.repeat(["control", *"abcd"], [10, 30, 30, 30, 30])
    with pytest.raises(InputError, match=r"Control 'control' has fewer than 20 cells"):
        perturbation.run(cells(perturbation=labels), {"x": np.zeros(130)}, state=None)


def test_no_proven_effect_is_said():
    labels = np.repeat(["control", *"abcde"], [100, 20, 20, 20, 20, 20])
    with pytest.raises(InputError, match=r"effect that is proven in any state"):
        perturbation.run(cells(perturbation=labels), {"x": np.zeros(200)}, state=None)


def test_an_absent_state_column_is_named():
    adata = cells(perturbation=["control"] * 4, conditions=["x"] * 4)
    with pytest.raises(InputError, match=r"no column 'condition'.*Did you mean 'conditions'\?"):
        perturbation.run(adata, {"x": np.zeros(4)})


def test_doses_that_order_nothing_are_refused():
    with pytest.raises(InputError, match="four or more different"):
        perturbation.dose_order(np.eye(3), [1, 2, 3])


def test_pathways_without_a_shared_pair_are_refused():
    with pytest.raises(InputError, match="0 of 3 pairs share a pathway"):
        perturbation.pathway_auc(np.eye(3), ["x", "y", "z"])
