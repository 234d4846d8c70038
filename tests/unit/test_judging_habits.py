"""Habits of columns, kinds of matrix and ways to bring cells, together: planned right, or refused.

The cells are simulated. Each habit says what must become of the tasks; nothing is run here.
"""

from __future__ import annotations

import itertools

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import sclin
from sclin.datasets import simulate
from sclin.errors import SclinError

N = 120
CELLS = simulate.atlas(n_cells=N, n_genes=60, n_types=3, n_rare=0, seed=2)
COUNTS = CELLS.X.toarray()
LOG = np.log1p(1e4 * COUNTS / COUNTS.sum(1, keepdims=True))
DONOR, TYPE = np.resize(["d1", "d2", "d3", "d4"], N), np.repeat(["T", "B", "NK"], N // 3)

# X, a layer of counts or none, and what must be taken as what.
MATRICES = {
    "counts": (COUNTS, False, "X", "counts"),
    "log": (LOG, False, "X", "log"),
    "ambient": (COUNTS * 0.91, False, "X", "linear"),
    "scaled, counts in a layer": (LOG - LOG.mean(0), True, "layers['counts']", "counts"),
}


def column(values, kind=object):
    return pd.Series(np.resize(np.array(values, dtype=object), N)).astype(kind).to_numpy()


TIMES = column([0, 24, 48], int)
# Columns of obs, the roles that are named, and the tasks that must be ready; or words of the error.
HABITS = {
    "plain": ({}, {}, {"cell_types"}),
    "categories": ({"type": pd.Categorical(TYPE)}, {}, {"cell_types"}),
    "numbered clusters": ({"type": np.repeat([0, 1, 2], N // 3)}, {}, {"cell_types"}),
    "missing labels": ({"type": np.where(np.arange(N) % 9, TYPE, "Unknown")}, {}, {"cell_types"}),
    "one type a donor": ({"type": column(["T", "B", "NK", "T"])}, {}, set()),
    "one cell a type": ({"type": [f"t{i}" for i in range(N)]}, {}, set()),
    "one donor": ({"who": ["d1"] * N}, {}, {"cell_types"}),
    "no donor": ({}, {"donor": None}, {"cell_types"}),
    "missing donors": ({"who": np.where(np.arange(N) % 7, DONOR, "nan")}, {}, {"cell_types"}),
    "a donor a cell": ({"who": [f"c{i}" for i in range(N)]}, {}, "no donors"),
    "mistyped": ({}, {"donor": "wo"}, "'who'"),
    "two roles": ({}, {"condition": "who"}, "both as donor and as condition"),
    "sick donors": (
        {"state": np.where(DONOR < "d3", "sick", "well")}, {"condition": "state"},
        {"cell_types", "disease_state"},
    ),
    "one sick donor": (
        {"state": np.where(DONOR == "d1", "sick", "well")}, {"condition": "state"}, {"cell_types"},
    ),
    "hours": ({"t": TIMES}, {"time": "t"}, {"cell_types", "trajectory"}),
    "hours in words": (
        {"t": column(["0 h", "24 h", "2 d"])}, {"time": "t"}, {"cell_types", "trajectory"},
    ),
    "stages in order": (
        {"t": pd.Categorical(column(["late", "early", "mid"]), ["early", "mid", "late"], True)},
        {"time": "t"}, {"cell_types", "trajectory"},
    ),
    "stages": ({"t": column(["late", "early", "mid"])}, {"time": "t"}, {"cell_types"}),
    "guides": (
        {"g": column(["control", "A", "B", "A+B", "C"])}, {"perturbation": "g"},
        {"cell_types", "perturbation"},
    ),
    "another control": (
        {"g": column(["NT", "A", "B", "A+B", "C"])}, {"perturbation": "g"}, "Did you mean 'NT'",
    ),
    "its own control": (
        {"g": column(["NT", "A", "B", "A+B", "C"])}, {"perturbation": "g", "control": "NT"},
        {"cell_types", "perturbation"},
    ),
}  # fmt: skip
BROUGHT = ("memory", "h5ad", "csv and labels")


def made(matrix, habit):
    X, layer, where, values = MATRICES[matrix]
    columns, roles, outcome = HABITS[habit]
    obs = pd.DataFrame({"type": TYPE, "who": DONOR, **columns}, index=CELLS.obs_names)
    cells = ad.AnnData(X.astype(np.float32), obs, CELLS.var[[]])
    if layer:
        cells.layers["counts"] = COUNTS
    return cells, {"cell_type": "type", "donor": "who"} | roles, outcome, (where, values)


def brought(cells, way, folder):
    """What is given to `sclin.judge`."""
    if way == "memory":
        return cells, {}
    if way == "h5ad":
        cells.write_h5ad(folder / "cells.h5ad")
        return folder / "cells.h5ad", {}
    frame = pd.DataFrame(cells.X, cells.obs_names, cells.var_names)
    frame.to_csv(folder / "cells.csv", float_format="%.9g")
    cells.obs.to_csv(folder / "labels.csv")
    return folder / "cells.csv", {"labels": folder / "labels.csv"}


def check(matrix, habit, way, folder):
    cells, roles, outcome, taken = made(matrix, habit)
    source, more = brought(cells, way, folder)
    try:
        said = sclin.judge(source, **roles, **more, run=False)
    except SclinError as error:
        assert isinstance(outcome, str), error
        assert outcome in str(error) and str(error).count("\n") < 3
        return
    assert not isinstance(outcome, str), outcome
    assert (said.about["matrix"], said.about["values"]) == taken
    ready = said.plan.query("status == 'ready'")
    assert set(ready.index) == outcome
    assert said.plan["reason"].str.len().gt(9).all()
    lost = sum(row["n"] for row in said.dropped if row["what"] == "cells")
    assert said.about["n_cells"] == N - lost == said.cells.n_obs
    by_donor = roles["donor"] is not None and habit != "one donor"
    assert said.about["unit"] == ("donor" if by_donor else "cell")
    assert said.about["n_units"] == (4 if by_donor else N)


def combinations():
    """All matrices and habits in memory, and each habit once by each other way."""
    yield from ((*pair, "memory") for pair in itertools.product(MATRICES, HABITS))
    for way in BROUGHT[1:]:
        kinds = itertools.cycle([m for m in MATRICES if way == "h5ad" or "layer" not in m])
        # A table keeps no order of categories.
        habits = [h for h in HABITS if way == "h5ad" or h != "stages in order"]
        yield from zip(kinds, habits, itertools.repeat(way))


@pytest.mark.parametrize("way", BROUGHT)
def test_planned_right_or_refused_in_three_lines(way, tmp_path):
    wrong = {}
    for number, chosen in enumerate(c for c in combinations() if c[-1] == way):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            check(*chosen, folder)
        except Exception as error:
            wrong[chosen] = f"{type(error).__name__}: {error}"[:400]
    assert not wrong
