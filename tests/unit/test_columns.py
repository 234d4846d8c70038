from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sclin.columns import likely_donors, nested, read_columns
from sclin.errors import InputError


@pytest.fixture
def obs():
    n = 40
    return pd.DataFrame({
        "annotation": np.resize(["T", "B"], n),
        "cell_type": "all",
        "donor_id": np.resize(["d1", "d2", "d3", "d4"], n),
        "sample": np.resize(["s1", "s2"], n),
        "barcode": [f"c{i}" for i in range(n)],
        "n_counts": np.arange(n) % 17,
    })  # fmt: skip


@pytest.mark.parametrize(
    "spelling", [np.nan, None, "", " ", "nan", "NaN", "NA", "N/A", "<NA>", "Unknown ", "?"]
)
@pytest.mark.parametrize("kind", [object, "category"])
def test_missing_labels_in_all_their_spellings(obs, spelling, kind):
    obs["annotation"] = pd.Series([spelling] * 3 + ["T"] * 20 + ["B"] * 17, dtype=kind)
    read = read_columns(obs, {"cell_type": "annotation"})["cell_type"]
    assert read.isna().sum() == 3 and set(read.dropna()) == {"T", "B"}


def test_none_is_a_treatment_and_no_cell_type(obs):
    obs["annotation"] = np.resize(["none", "T"], len(obs))
    for role, missing in (("cell_type", 20), ("condition", 0), ("perturbation", 0)):
        assert read_columns(obs, {role: "annotation"})[role].isna().sum() == missing


def test_the_control_is_never_missing(obs):
    obs["guide"] = np.resize(["NA", "G1"], len(obs))
    roles = {"perturbation": "guide"}
    assert read_columns(obs, roles)["perturbation"].isna().sum() == 20
    assert not read_columns(obs, roles, control="NA")["perturbation"].isna().any()


def test_only_named_columns_come_along(obs):
    read = read_columns(obs, {"cell_type": "annotation", "donor": None, "time": ""})
    assert list(read) == ["cell_type"] and set(read["cell_type"]) == {"T", "B"}


def test_times_stay_numbers_and_ordered(obs):
    obs["day"] = pd.Categorical(np.arange(40) % 3, categories=[2, 0, 1], ordered=True)
    assert list(read_columns(obs, {"time": "day"})["time"].cat.categories) == [2, 0, 1]
    assert read_columns(obs, {"time": "n_counts"})["time"].dtype.kind in "if"


@pytest.mark.parametrize(
    ("roles", "words"),
    [
        ({"donor": "doner_id"}, r"'doner_id'; .*Did you mean 'donor_id'"),
        ({"cell_type": "sample", "donor": "sample"}, r"'sample' .*both as cell_type and as donor"),
        ({"donor": "barcode"}, r"'barcode' .*40 values for 40 cells: these are no donors"),
        ({"condition": "empty"}, r"'empty' of obs holds no condition"),
    ],
)
def test_columns_that_cannot_be_used(obs, roles, words):
    obs["empty"] = "unknown"
    with pytest.raises(InputError, match=words) as raised:
        read_columns(obs, roles)
    assert str(raised.value).count("\n") < 3


def test_likely_donors_come_in_the_order_of_the_words(obs):
    assert likely_donors(obs) == ["donor_id", "sample"]
    assert likely_donors(obs[["barcode", "n_counts", "annotation"]]) == []


def test_nested_groups(obs):
    sick = obs["donor_id"].isin(["d1", "d2"])
    assert nested(sick, obs["donor_id"])
    assert not nested(obs["annotation"], obs["sample"].replace({"s2": "s1"}))
