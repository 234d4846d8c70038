from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GroupKFold

import sclin
from sclin import report
from sclin.datasets import simulate
from sclin.errors import DataError, InputError


@pytest.fixture(scope="module")
def course():
    return simulate.trajectory(n_cells=240, n_genes=200, seed=0)


@pytest.fixture(scope="module")
def atlas():
    cells = simulate.atlas(n_cells=200, n_genes=100, n_types=3, n_rare=0, effect=2.0)
    cells.obs["coin"] = np.resize(["sick", "sick", "well"], cells.n_obs)
    cells.obsm["X_model"] = np.random.default_rng(0).normal(size=(cells.n_obs, 4))
    return cells


@pytest.fixture(scope="module")
def judged(atlas):
    return sclin.judge(
        atlas, cell_type="cell_type", donor="donor", condition="coin",
        representations=["lognorm", "hvg_pca", "obsm:X_model"],
    )  # fmt: skip


def test_the_plan_gives_a_reason_for_every_task(course):
    ready = sclin.judge(course, cell_type="branch", donor="donor", time="time", run=False)
    assert ready.plan["status"].to_dict() == {
        "cell_types": "ready",
        "disease_state": "impossible",
        "trajectory": "ready",
        "perturbation": "impossible",
    }
    assert "no column of condition is named" in ready.plan.loc["disease_state", "reason"]
    assert "4 donors held out" in ready.plan.loc["cell_types", "reason"]


@pytest.mark.parametrize(
    ("role", "values", "task", "why"),
    [
        ("time", ["day 1", "early"], "trajectory", "which is no time"),
        ("time", [0.0, 1.0], "trajectory", "needs three or more"),
        ("condition", ["a"], "disease_state", "1 classes with"),
        ("condition", ["a"] * 20 + ["b"], "disease_state", "'b' too few"),
    ],
)
def test_the_plan_names_what_is_lacking(course, role, values, task, why):
    cells = course.copy()
    cells.obs["mine"] = np.resize(values, cells.n_obs)
    said = sclin.judge(cells, **{role: "mine"}, run=False).plan.loc[task]
    assert said["status"] == "impossible" and why in said["reason"]


@pytest.mark.parametrize("labels", [["0h", "24h", "48h"], ["Day 3", "Day 7", "Day 10"], [1, 2, 3]])
def test_times_in_numbers_and_in_texts_are_times(course, labels):
    cells = course.copy()
    cells.obs["mine"] = np.resize(labels, cells.n_obs)
    ready = sclin.judge(cells, time="mine", run=False)
    assert ready.plan.loc["trajectory", "reason"].startswith("3 time points")


def test_a_class_of_one_donor_cannot_be_held_out(atlas):
    cells = atlas.copy()
    cells.obs["state"] = np.where(cells.obs["donor"] == "donor1", "sick", "well")
    ready = sclin.judge(cells, condition="state", donor="donor", run=False)
    assert "'sick' only in donor 'donor1'" in ready.plan.loc["disease_state", "reason"]
    assert any("donors cannot be told from condition" in text for text in ready.warnings)


def test_donors_are_held_out_and_controls_judged(judged, atlas):
    assert set(judged.table["unit"]) == {"donor"} and judged.about["unit"] == "donor"
    types, coin = (judged.found[task].predictions for task in ("cell_types", "disease_state"))
    assert set(types["group"]) == set(types["fold"]) == set(atlas.obs["donor"])
    assert set(coin["y_true"]) == {"sick", "well"}
    assert judged.verdict.loc["disease_state", "answer"].startswith("No answer")
    scores = judged.json()["tasks"]["cell_types"]["scores"]
    assert scores["hvg_pca"]["value"] > 0.9 > scores["obsm:X_model"]["value"]
    assert {"library_size", "random"} < set(scores)


def test_the_simplest_equal_is_named(judged):
    said = judged.verdict.loc["cell_types"]
    assert said["simplest"] == "lognorm" and "no test can show a lead" in said["answer"]


def test_the_json_is_plain_and_keeps_its_contract(judged):
    said = json.loads(json.dumps(judged.json()))
    assert said["matrix"] == "X" and said["values"] == "counts" and said["n_units"] == 4
    assert (said["n_cells"], said["n_genes"]) == judged.cells.shape
    assert said["tasks"]["trajectory"]["status"] == "impossible"
    assert {"status", "reason", "n_classes", "best", "scores", "verdict"} <= set(
        said["tasks"]["cell_types"]
    )


def test_the_page_holds_every_score_and_is_never_overwritten(judged, tmp_path):
    page = report.write(judged, tmp_path / "new")
    text = page.read_text()
    assert page.name.startswith("sim_atlas_2") and len(text) < 1e6
    for name, score in judged.json()["tasks"]["cell_types"]["scores"].items():
        assert name in text and f"{score['value']:.3f}" in text
    assert "sclin.judge(cells, cell_type=" in text.replace("&#39;", "'")
    with pytest.raises(DataError, match="there already"):
        report.write(judged, page)


def test_what_was_left_out_is_counted(atlas):
    cells = atlas.copy()
    names = cells.obs["cell_type"].astype(str).to_numpy()
    names[:5], names[5:8] = "rare", "unknown"
    cells.obs["cell_type"] = names
    cells.X[8] = 0
    cells.obs["donor"] = cells.obs["donor"].astype(str).where(np.arange(cells.n_obs) != 9)
    ready = sclin.judge(cells, cell_type="cell_type", donor="donor", max_cells=180, run=False)
    left_out = {(row["what"], row["why"].split(":")[0]): row["n"] for row in ready.dropped}
    assert left_out["cells", "no counts"] == 1 and left_out["cells", "no donor"] == 1
    assert left_out["cells", "not drawn"] == 18 and ready.cells.n_obs == 180
    assert left_out["cell_type 'rare'", "too few"] == 5
    assert left_out["cells without a label of cell_type", "no label"] == 3


def test_arrays_that_know_all_cells_are_said_and_broken_ones_left_out(atlas):
    cells = atlas.copy()
    noise = np.random.default_rng(1).normal(size=(cells.n_obs, 6))
    centred = noise - noise.mean(axis=0)
    cells.obsm = {
        "plain": noise, "odd_name": np.linalg.qr(centred)[0], "X_scVI": noise, "X_scANVI": noise,
        "broken": np.where(np.arange(cells.n_obs)[:, None] == 3, np.nan, noise),
    }  # fmt: skip
    ready = sclin.judge(cells, cell_type="cell_type", donor="donor", run=False)
    assert set(ready.fitted) == {"obsm:odd_name", "obsm:X_scVI", "obsm:X_scANVI"}
    assert "from labels" in ready.fitted["obsm:X_scANVI"]
    assert "obsm:broken" not in ready.representations and "obsm:plain" in ready.representations
    said = next(text for text in ready.warnings if "obsm:broken" in text)
    assert cells.obs_names[3] in said and "not finite" in said


def test_perturbations_need_no_condition_and_no_order_of_their_parts():
    cells = simulate.perturbation(n_cells_per=24, n_genes=60, n_perturbations=5, states=("one",))
    names = cells.obs["perturbation"].astype(str).to_numpy()
    names[names == "GENE00004"] = np.resize(["A+B", "B+A"], 24)
    cells.obs["guide"] = names
    said = sclin.judge(cells, perturbation="guide", run=False).plan.loc["perturbation"]
    assert said["status"] == "ready" and said["reason"].startswith("5 perturbations")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, r"nothing to judge by. .*--cell-type.*obs has cell_type"),
        ({"perturbation": "coin"}, r"control label 'control'"),
        ({"cell_type": "cell_type", "representations": ["obsm:X_modle"]}, r"X_modle.*X_model"),
        ({"cell_type": "cell_type", "representations": ["ranks"]}, r"'ranks'.*Did you mean 'rank'"),
        ({"condition": "state"}, r"No task can run .*disease_state: 'state'|'condition' has 1"),
    ],
)
def test_what_cannot_be_judged_is_refused_with_the_remedy(atlas, given, words):
    cells = atlas.copy()
    cells.obs["state"] = "alike"
    with pytest.raises(InputError, match=words) as raised:
        sclin.judge(cells, **given)
    assert str(raised.value).count("\n") < 3


def test_no_donor_is_said_and_likely_ones_are_named(atlas):
    ready = sclin.judge(atlas, cell_type="cell_type", run=False)
    assert any("--donor" in text and "'donor' (4 values)" in text for text in ready.warnings)
    assert ready.about["unit"] == "cell" and ready.about["n_units"] == 200
    assert pd.Series(ready.warnings).is_unique


def test_folds_of_many_donors_leave_every_class_in_the_training_part(atlas):
    cells = atlas[np.arange(180)].copy()
    cells.obs["who"] = [f"d{i:02d}" for i in np.arange(180) // 6]  # 30 donors in ten folds
    # All sick donors in what would be one fold, if folds did not look at classes.
    _, test = next(GroupKFold(10).split(cells.X, groups=cells.obs["who"]))
    cells.obs["state"] = np.where(np.isin(np.arange(180), test), "sick", "well")
    asked = {"condition": "state", "donor": "who", "min_cells": 10}
    found = sclin.judge(cells, **asked, representations=["hvg_pca"])
    assert found.tasks["disease_state"]["status"] == "ran"
    assert found.found["disease_state"].left_out.empty
