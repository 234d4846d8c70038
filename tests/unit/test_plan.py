"""What a job will cost: sizes read without loading, ranges that hold, and what does not fit."""

import json

import numpy as np
import pytest
import scipy.sparse as sp
from anndata import AnnData
from click.testing import CliRunner

from sclin import plan
from sclin.cli import main
from sclin.datasets import cache_dir, catalogue
from sclin.errors import DataError, InputError

RATES = {"flop_s": 1e11, **{task: [(1e6, 1.0), (3e6, 2.0)] for task in plan.TASKS}}


@pytest.mark.parametrize("name", ["cells.h5ad", "cells.zarr"])
@pytest.mark.parametrize("dense", [False, True])
def test_a_file_is_sized_without_its_cells(tmp_path, name, dense):
    X = sp.random(20, 10, 0.3, "csr", np.float32, 0)
    cells = AnnData(X.toarray() if dense else X)
    write = cells.write_zarr if name.endswith("zarr") else cells.write_h5ad
    write(tmp_path / name)
    size = plan.size_of(tmp_path / name)
    assert (size.n_cells, size.n_genes, size.seen) == (20, 10, (10, 10) if dense else (3, 3))


@pytest.mark.parametrize("task", [*plan.TASKS, "layers:scfoundation", "layers:tahoe-x1-3b"])
def test_ends_are_in_order_and_grow_with_the_cells(task):
    few, many = (plan.plan(task, f"{n}x20000x1000", rates=RATES) for n in (10_000, 22_000_000))
    for ends in ("seconds", "memory", "disk", "gpu_hours"):
        low, high = getattr(few, ends)
        assert 0 <= low <= high <= getattr(many, ends)[1]
    assert many.remedies and not few.remedies
    capped = task == "judge"
    assert (many.seconds == few.seconds) == capped, "judge draws 5,000 cells, the others take all"


@pytest.mark.parametrize(
    ("task", "n_cells", "low", "high"),
    [("rank", 3000, 2, 2), ("rank", 9000, 5, 5), ("judge", 700, 1, 1), ("judge", 1600, 3, 3),
     ("judge", 3200, 3 * 2**1.5, 12), ("judge", 10**6, 3 * 3.125**1.5, 3 * 3.125**2),
     ("evaluate", 50_000, 30 * 3.125**1.5, 30 * 3.125**2)],
)  # fmt: skip
def test_the_laws_go_through_what_was_measured(task, n_cells, low, high):
    bent = RATES | {key: [(700, 1.0), (1600, 3.0)] for key in ("evaluate", "judge")}
    said = plan.plan(task, f"{n_cells}x20000x1000", rates=bent).seconds
    assert said == pytest.approx((low / 1.4, high * 1.4))


def test_operations_are_those_of_every_parameter():
    shape = catalogue().models["geneformer-v1-10m"]
    one = plan._flop(1.0, shape.width, shape.layers, shape.inner) - 4 * shape.width * shape.layers
    inside = shape.layers * (4 * shape.width**2 + 2 * shape.width * shape.inner)
    assert one == 2 * inside


@pytest.mark.parametrize(
    ("task", "dataset", "error", "why"),
    [
        ("rnk", "10x10", InputError, "Did you mean 'rank'"),
        ("rank", "0x10", InputError, "from 1 on"),
        ("rank", "nothing_there", DataError, "sclin data list"),
        ("rank", "tabula_sapiens", DataError, "CELLSxGENES"),
        ("rank", __file__, DataError, "not a readable h5ad"),
    ],
)
def test_what_cannot_be_planned_is_said(task, dataset, error, why):
    with pytest.raises(error, match=why):
        plan.plan(task, dataset, rates=RATES)


def test_the_command_uses_the_rates_of_this_machine_only(tmp_path, monkeypatch):
    monkeypatch.setenv("SCLIN_DATA", str(tmp_path))
    file = cache_dir() / "rates.json"
    file.write_text(json.dumps({"machine": plan._machine(), **RATES}))
    said = CliRunner().invoke(main, ["plan", "rank", "100,000,000x20000x1000"])
    assert file.parent == tmp_path and said.exit_code == 0 and "read_lazy" in said.output
    file.write_text(json.dumps({"machine": "another", **RATES}))
    monkeypatch.setattr(plan, "measure", lambda: RATES | {"rank": [(1, 1.0), (2, 2.0)]})
    assert (
        CliRunner().invoke(main, ["plan", "rank", "8x8x1"]).output.splitlines()[1][:8] == "time    "
    )
