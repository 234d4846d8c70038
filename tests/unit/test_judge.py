from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sclin import judge
from sclin.datasets import simulate
from sclin.errors import InputError


@pytest.fixture(scope="module")
def course():
    return simulate.trajectory(n_cells=240, n_genes=200, seed=0)


def test_the_plan_gives_a_reason_for_every_task(course):
    planned = judge.plan(course)
    assert planned["runs"].to_dict() == {
        "cell_types": True,
        "disease_state": False,
        "trajectory": True,
        "perturbation": False,
    }
    assert "no column 'condition'" in planned.loc["disease_state", "why"]
    assert "4 donors held out" in planned.loc["cell_types", "why"]


@pytest.mark.parametrize(
    ("column", "values", "task", "why"),
    [
        ("time", ["day 1", "day 2"], "trajectory", "time is text"),
        ("time", [0.0, 1.0], "trajectory", "three are needed"),
        ("perturbation", ["a", "b"], "perturbation", "no 'control' cells"),
        ("perturbation", ["control", "b"], "perturbation", "1 perturbations .* 4 are needed"),
        ("condition", ["a"], "disease_state", "2 are needed"),
    ],
)
def test_the_plan_names_what_is_lacking(course, column, values, task, why):
    cells = course.copy()
    cells.obs[column] = np.resize(values, cells.n_obs)
    planned = judge.plan(cells).loc[task]
    assert not planned["runs"]
    assert pd.Series([planned["why"]]).str.contains(why).all()


def test_what_the_labels_allow_is_run_and_reported(course, tmp_path):
    cells = course.copy()
    cells.obsm["X_truth"] = cells.obs[["pseudotime"]].to_numpy()
    names = ["hvg_pca", "obsm:X_truth"]
    found = judge.judge(cells, representations=names, tasks=["trajectory"])
    assert list(found.found) == ["trajectory"]
    said = found.verdict.loc["trajectory"]
    assert said["best"] == "obsm:X_truth" and "no test can prove a lead" in said["verdict"]
    scores = found.scores.set_index("representation")["value"]
    assert abs(scores["random"]) < 0.2 < scores["hvg_pca"]
    pages = [judge.report(found, tmp_path / "a", adata=cells)]
    text = pages[0].read_text()
    assert "Representations of sim_trajectory" in text and "obsm:X_truth" in text
    assert "src=" not in text and "href=" not in text
    assert pages[0].name.startswith("sim_trajectory_2")


def test_donors_are_held_out_and_rare_classes_left_out():
    cells = simulate.atlas(n_cells=160, n_genes=100, n_types=3)
    cells.obs["condition"] = np.resize(["sick", "well"], cells.n_obs)
    rare = cells.obs["cell_type"].astype(str).to_numpy()
    rare[:5] = "rare"
    cells.obs["cell_type"] = rare
    found = judge.judge(cells, representations=["hvg_pca"])
    assert list(found.found) == ["cell_types", "disease_state"]
    assert set(found.table["unit"]) == {"donor"}
    types, noise = (found.found[t].predictions for t in found.found)
    assert "rare" not in set(types["y_true"]) and set(types["group"]) == set(types["fold"])
    assert set(noise["y_true"]) == {"sick", "well"}
    assert "the task says little" in found.verdict.loc["disease_state", "verdict"]


def test_perturbations_need_no_condition_and_no_order_of_their_parts():
    cells = simulate.perturbation(n_cells_per=24, n_genes=60, n_perturbations=5, states=("one",))
    names = cells.obs["perturbation"].astype(str).to_numpy()
    names[names == "GENE00004"] = np.resize(["A+B", "B+A"], 24)
    cells.obs["perturbation"] = names
    del cells.obs["condition"]
    planned = judge.plan(cells).loc["perturbation"]
    assert planned["runs"] and planned["why"].startswith("5 perturbations")


def test_no_label_at_all_is_refused_with_all_reasons(course):
    cells = course.copy()
    cells.obs = cells.obs[["branch"]]
    with pytest.raises(InputError, match=r"cell_types: .*; .*trajectory: .*Rename"):
        judge.judge(cells)


def test_candidates_find_stored_arrays(course):
    cells = course.copy()
    cells.obsm["X_model"] = np.zeros((cells.n_obs, 3))
    names = judge.candidates(cells, ["layer:tiny/1", "rank"])
    assert {"obsm:X_model", "layer:tiny/1"} < set(names)
    assert pd.Index(names).is_unique
