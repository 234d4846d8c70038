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
    given = sum(
        len(published.table(name))
        for name in (
            "classification",
            "crossspecies",
            "layers",
            "best_layers",
            "perturbation_genes",
        )
    )
    others = published.table("crossspecies").query("kind.str.endswith('_derived')")
    assert len(found) == given - (others["method"] != "scTOP").sum()
    assert set(found["state"]) <= set(reproduced.STATES)
    assert found["reason"].str.len().gt(0).all()


def test_derived_numbers_are_what_their_definitions_give(found):
    derived = found[found["source"] == "derived"]
    gap = (derived["published"].astype(float) - derived["here"]).abs()
    assert len(derived) == 76
    assert gap.max() < 1e-4
    assert set(derived["state"]) == {"reproduced"}


def row(**said) -> dict:
    return {"dataset": "testis", "metric": "f1_macro", "representation": "", "head": "",
            "source": "reproduced", "value": 0.0, **said}  # fmt: skip


def test_a_row_of_this_build_decides(found):
    paper = published.table("classification").query("method == 'normalise+ANOVA+PCA+LR'")
    told = float(paper.query("metric == 'f1_macro'")["value"].iloc[0])
    ours = row(dataset="tabula_sapiens", representation="rank", head="pipeline")
    for value, state in ((told - 0.01, "reproduced"), (told - 0.1, "differs")):
        states = reproduced.states(pd.DataFrame([{**ours, "value": value}]))
        here = states[states["here"].eq(value)]
        assert list(here["state"]) == [state]
    assert not found["here"].eq(told - 0.01).any()


def test_layers_are_matched_by_model_and_block_which_the_papers_count_from_0():
    assert reproduced._same("scFoundation layer 3", row(representation="layer:scfoundation/4"))
    assert not reproduced._same("scFoundation layer 3", row(representation="layer:scfoundation/3"))
    assert not reproduced._same("scFoundation layer Baseline_PCA", row(representation="hvg_pca"))
