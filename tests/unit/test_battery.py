from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sclin import battery
from sclin.datasets import simulate
from sclin.errors import InputError
from sclin.evaluation import Interval, result, results_table


@pytest.fixture(scope="module")
def course():
    return simulate.trajectory(n_cells=300, n_genes=300, seed=0)


def test_the_plan_gives_a_reason_for_every_task(course):
    planned = battery.plan(course)
    assert planned["runs"].to_dict() == {
        "cell_types": True,
        "disease_state": False,
        "trajectory": True,
        "perturbation": False,
    }
    assert "no column 'condition'" in planned.loc["disease_state", "why"]


@pytest.mark.parametrize(
    ("column", "values", "task", "why"),
    [
        ("time", ["day 1", "day 2"], "trajectory", "time is text"),
        ("time", [0.0, 1.0], "trajectory", "three are needed"),
        ("perturbation", ["a", "b"], "perturbation", "no 'control' cells"),
        ("condition", ["a"], "disease_state", "two are needed"),
    ],
)
def test_the_plan_names_what_is_lacking(course, column, values, task, why):
    cells = course.copy()
    cells.obs[column] = np.resize(values, cells.n_obs)
    planned = battery.plan(cells)
    assert not planned.loc[task, "runs"]
    assert why in planned.loc[task, "why"]


def test_the_battery_runs_what_the_labels_allow_and_writes_a_report(course, tmp_path):
    cells = course.copy()
    cells.obsm["X_truth"] = cells.obs[["pseudotime"]].to_numpy()
    names = ["hvg_pca", "obsm:X_truth", "random"]
    outcome = battery.run(cells, representations=names, tasks=["trajectory"], dataset="mine")
    assert list(outcome.verdict.index) == ["trajectory"]
    assert outcome.verdict.loc["trajectory", "best"] == "obsm:X_truth"
    assert abs(outcome.verdict.loc["trajectory", "control_value"]) < 0.2
    assert set(outcome.results["dataset"]) == {"mine"}
    text = battery.report(outcome, tmp_path / "a" / "r.html", adata=cells).read_text()
    assert "Representations of mine" in text and "obsm:X_truth" in text
    assert "src=" not in text and "href=" not in text


def test_no_label_at_all_is_refused_with_all_reasons(course):
    cells = course.copy()
    cells.obs = cells.obs[["branch"]]
    with pytest.raises(InputError, match=r"cell_types: .*; .*trajectory: .*Rename"):
        battery.run(cells)


def score(name, value, low, high):
    return result(
        task="cell_types", dataset="d", protocol="corrected", metric="macro_f1",
        representation=name, value=Interval(value, low, high, 9),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rank", "control", "words"),
    [
        ((0.9, 0.86, 0.93), 0.1, "rank beats lognorm"),
        ((0.9, 0.80, 0.93), 0.1, "rank leads, but its interval holds the score of lognorm"),
        ((0.8, 0.70, 0.83), 0.1, "lognorm is best; it is the baseline itself"),
        ((0.9, 0.86, 0.93), 0.89, "random does as well"),
    ],
)
def test_a_lead_counts_only_above_the_baseline(rank, control, words):
    table = results_table(
        [
            score("rank", *rank),
            score("lognorm", 0.85, 0.8, 0.9),
            score("random", control, 0.0, 0.2),
        ]
    )
    assert words in battery.verdict(table).loc["cell_types", "verdict"]


def test_candidates_find_stored_arrays_and_put_controls_last(course):
    cells = course.copy()
    cells.obsm["X_model"] = np.zeros((cells.n_obs, 3))
    names = battery.candidates(cells, ["layer:tiny/1"])
    assert names[-2:] == ["library_size", "random"]
    assert {"obsm:X_model", "layer:tiny/1"} < set(names)
    assert pd.Index(names).is_unique
