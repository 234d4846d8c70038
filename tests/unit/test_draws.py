"""A draw of fewer cells keeps the small groups."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from sclin.tasks.draws import draw
from sclin.tasks.perturbation import thin


@pytest.fixture
def planted():
    """Large groups, and 10 cells each of a small donor, class and perturbation."""
    rng, n = np.random.default_rng(0), 2000
    obs = pd.DataFrame({
        "donor": rng.choice(["d1", "d2"], n),
        "cell_type": rng.choice(["t1", "t2", "t3"], n),
        "perturbation": rng.choice(["control", "p1", "p2"], n, p=[0.8, 0.1, 0.1]),
        "barcode": [f"b{i}" for i in range(n)],
    }, index=[f"c{i}" for i in range(n)])  # fmt: skip
    for k, column in enumerate(["donor", "cell_type", "perturbation"]):
        obs.iloc[10 * k : 10 * k + 10, obs.columns.get_loc(column)] = "small"
    return ad.AnnData(np.zeros((n, 1), np.float32), obs=obs)


def test_small_groups_survive_whole(planted):
    few = draw(planted, 120, groups=["donor", "cell_type", "perturbation", "barcode", "absent"])
    assert few.n_obs == 120
    for column in ("donor", "cell_type", "perturbation"):
        assert few.obs[column].value_counts()["small"] == 10
        assert few.obs[column].value_counts().min() == 10
    assert (np.diff(planted.obs_names.get_indexer(few.obs_names)) > 0).all()
    assert few.obs["perturbation"].value_counts()["control"] >= 50


def test_a_draw_follows_its_seed_and_leaves_few_cells_alone(planted):
    first, again, other = (draw(planted, 50, seed=s).obs_names.tolist() for s in (0, 0, 1))
    assert first == again != other
    assert draw(planted, 2000) is planted


def test_thinning_keeps_a_small_donor_inside_a_perturbation(planted):
    rows = np.flatnonzero(planted.obs["perturbation"] == "p1")[-3:]
    planted.obs.iloc[rows, planted.obs.columns.get_loc("donor")] = "rare"
    kept = thin(planted, n_cells=12).obs
    assert kept["perturbation"].value_counts().to_dict() == {
        "control": 60, "p1": 12, "p2": 12, "small": 10
    }  # fmt: skip
    assert (kept.loc[kept["perturbation"] == "p1", "donor"] == "rare").sum() == 3
