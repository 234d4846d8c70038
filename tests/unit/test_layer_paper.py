"""The paper profile of the layer chapters, on small files of the papers' layout."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from sclin import datasets
from sclin.errors import InputError
from sclin.representations import representation
from sclin.tasks import perturbation, trajectory

STATES = ("Rest", "Stim8hr", "Stim48hr")


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("SCLIN_DATA", str(tmp_path / "cache"))


def write(path, counts, obs):
    names = pd.Index([f"cell{i}" for i in range(len(counts))])
    var = pd.DataFrame(index=[f"ENSG{i:011d}" for i in range(counts.shape[1])])
    X = sp.csr_matrix(counts.astype(np.float32))
    ad.AnnData(X, obs=pd.DataFrame(obs, index=names), var=var).write_h5ad(path)
    return path


def embedding(cells):
    return representation("rank_pca").fit(cells).transform(cells)


def course(path, weeks):
    rng = np.random.default_rng(0)
    slope = np.repeat([10, -10, 0], 10)  # genes that rise, fall and stay
    rate = 15 + slope * np.linspace(-1, 1, len(weeks))[:, None]
    return write(path, rng.poisson(rate), {"week": weeks, "Cell.type": ["HSC"] * len(weeks)})


def test_the_time_column_is_named_and_scored(tmp_path):
    path = course(tmp_path / "blood.h5ad", np.repeat([1, 2, 4], 40))
    cells = datasets.load("gse276896", path=path)
    time = trajectory.time_column(cells)
    assert (
        trajectory.score(embedding(cells), cells, time=time, n_roots=3)[
            "pseudotime_time_spearman"
        ].value
        > 0.5
    )
    cells.obs["dpt_pseudotime"], cells.obs["time_to_lab"] = np.arange(cells.n_obs), "short"
    assert trajectory.time_column(cells) == time == "week"
    cells.obs["day"] = 7 * cells.obs["week"]
    with pytest.raises(InputError, match=r"2 columns of obs can be the time \(week, day\)"):
        trajectory.time_column(cells)
    same = datasets.load("gse276896", path=path, columns={"time": "week"})
    assert trajectory.measured_time(same).tolist() == cells.obs["week"].tolist()


def test_a_wrong_or_textual_time_column_lists_what_is_there(tmp_path):
    path = course(tmp_path / "blood.h5ad", np.repeat(["early", "peak", "late"], 40))
    cells = datasets.load("gse276896", path=path)
    with pytest.raises(InputError, match=r"called 'Week'.*there are week, Cell.type.*'week'"):
        trajectory.measured_time(cells, "Week")
    with pytest.raises(InputError, match=r"called 'day'.*there are week, Cell.type"):
        datasets.load("gse276896", path=path, columns={"time": "day"})
    with pytest.raises(InputError, match=r"(?s)holds text \('early', 'late', 'peak'\).*`order`"):
        trajectory.measured_time(cells, "week")
    times = trajectory.measured_time(cells, "week", order=["early", "peak", "late"])
    assert np.unique(times).tolist() == [0, 1, 2]


def screen(path, kinds=("targeting", "non-targeting"), seed=0):
    """Six knock-outs in two groups of three; cells with the second kind of guide are controls."""
    rng = np.random.default_rng(seed)
    label = np.repeat(["NTC", *"ABCDEF"], [120, *[24] * 6])
    rate = np.full((label.size, 60), 2.0)
    rate[np.isin(label, list("ABC")), :15] *= 3
    rate[np.isin(label, list("DEF")), 15:30] *= 3
    obs = {
        "perturbed_gene_name": label,
        "guide_type": np.where(label == "NTC", kinds[1], kinds[0]),
        "lane_id": "lane1",
    }
    return write(path, rng.poisson(rate), obs)


def test_three_backed_states_are_thinned_joined_and_scored(tmp_path):
    parts = {}
    for i, state in enumerate(STATES):
        path = screen(tmp_path / f"{state}.h5ad", seed=i)
        part = datasets.load("cd4_perturb", state=state, path=path, backed=True)
        assert part.isbacked
        parts[state] = perturbation.thin(part, n_cells=22, only=list("ABCDE"))
        part.file.close()
    cells = ad.concat(parts, label="condition", uns_merge="first", index_unique=":")
    assert cells.obs["perturbation"].value_counts()["control"] == 3 * 110
    screens = perturbation.halve(cells, state="condition", n_halvings=2)
    assert set(screens) == set(STATES)
    for half in screens.values():
        found = perturbation.score(embedding(cells), cells, screen=half, n_boot=5)
        assert found["effect_similarity"].value > 0.4


def test_controls_under_another_label(tmp_path):
    path = screen(tmp_path / "D1_Rest.h5ad", kinds=("gene", "safe harbour"))
    with pytest.raises(InputError, match=r"guide_type 'non-targeting'; it has 'gene', 'safe harb"):
        datasets.load("cd4_perturb", path=path)
    cells = datasets.load("cd4_perturb", path=path, non_targeting="safe harbour")
    assert (cells.obs["perturbation"] == "control").sum() == 120
    cells.file.close()
