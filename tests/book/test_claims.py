"""Sentences of pages, held against the frozen tables that they speak of."""

from __future__ import annotations

from pathlib import Path

import corrections
import front
import pandas as pd
import pytest

from sclin import results
from sclin.errors import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["offline", "public"])
def frozen(request) -> pd.DataFrame:
    try:
        return results.load(ROOT / "results" / request.param)
    except InputError as error:
        pytest.skip(f"make freeze PROFILE={request.param}: {error}")


def test_every_task_of_the_first_page_has_both_rivals(frozen) -> None:
    taken = front.headline(frozen)
    for task in front.TASKS:
        assert {"rank", "usual", "control"} <= set(taken.loc[taken["task"] == task, "family"])


@pytest.mark.parametrize("frozen", ["offline"], indirect=True)
def test_what_the_scoreboard_says_of_the_two_protocols(frozen) -> None:
    plain = frozen[frozen["variant"].eq("") & frozen["metric"].eq("f1_macro")]
    pairs = corrections.pairs(plain)
    change = (pairs["corrected"] - pairs["as_published"]).groupby(pairs["chapter"])
    assert (change.max()["05_cell_types"] < 0) and (change.min()["06_disease_state"] > 0)
    assert change.median()["07_cross_species"] > 0


def test_layers_stand_beside_random_weights_in_every_table(frozen) -> None:
    layers = frozen[frozen["representation"].str.startswith("layer:") & frozen["variant"].eq("")]
    assert {"12_layers_trajectory", "13_layers_perturbation"} <= set(layers["chapter"])
    keys = ["chapter", "task", "dataset", "protocol", "split", "head", "metric"]
    for group, rows in layers.groupby(keys):
        trained = {model for model in rows["model"] if not model.endswith("-random")}
        assert {f"{model}-random" for model in trained} <= set(rows["model"]), group
