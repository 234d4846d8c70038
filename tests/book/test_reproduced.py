"""The state of every published number follows from rows, data and derivations."""

from __future__ import annotations

import pandas as pd
import pytest
import reproduced

from sclin import published


@pytest.fixture(scope="module")
def found() -> pd.DataFrame:
    return reproduced.states(None)


def test_every_published_number_has_a_state_and_a_reason(found):
    tables = ("classification", "crossspecies", "layers", "perturbation_genes")
    derived = published.table("crossspecies")["kind"].str.endswith("_derived").sum()
    assert len(found) == sum(len(published.table(name)) for name in tables) - derived
    assert not found["source"].str.startswith("computed here").any()
    assert set(found["state"]) <= set(reproduced.STATES)
    assert found["reason"].str.len().gt(0).all()


def row(**said) -> dict:
    return {"dataset": "testis", "metric": "f1_macro", "representation": "", "head": "",
            "source": "reproduced", "variant": "", "value": 0.0, **said}  # fmt: skip


def test_a_row_of_this_build_decides(found):
    paper = published.table("classification").query("method == 'normalise+ANOVA+PCA+LR'")
    told = float(paper.query("metric == 'f1_macro'")["value"].iloc[0])
    ours = row(dataset="tabula_sapiens", representation="rank", head="pipeline")
    for value, state in ((told - 0.01, "reproduced"), (told - 0.1, "differs")):
        states = reproduced.states(pd.DataFrame([{**ours, "value": value}]))
        here = states[states["here"].eq(value)]
        assert list(here["state"]) == [state]
    control = pd.DataFrame([{**ours, "value": told, "variant": "shuffled_labels"}])
    assert not reproduced.states(control)["here"].notna().any()


def test_layers_are_matched_by_model_and_block_which_the_papers_count_from_0():
    assert reproduced._same("scFoundation layer 3", row(representation="layer:scfoundation/4"))
    assert not reproduced._same("scFoundation layer 3", row(representation="layer:scfoundation/3"))
    assert not reproduced._same("scFoundation layer Baseline_PCA", row(representation="hvg_pca"))
