"""Datasets by name with options, and several at once."""

from __future__ import annotations

import json

import pytest

from sclin import datasets
from sclin.errors import InputError


def test_options_may_follow_the_name():
    cells = datasets.load("sim_atlas:n_cells=30,n_genes=20,effect=0.5,seed=3")
    assert cells.shape == (30, 20) and cells.uns["sclin"]["seed"] == 3
    assert datasets.name_of(cells) == "sim_atlas:n_cells=30,n_genes=20,effect=0.5,seed=3"
    assert datasets.name_of(datasets.load("sim_atlas", n_cells=30, n_genes=20)) == "sim_atlas"


def test_options_that_cannot_be_read():
    with pytest.raises(
        InputError, match="'n_cells=9,seed' in 'sim_atlas:n_cells=9,seed' is not of"
    ):
        datasets.load("sim_atlas:n_cells=9,seed")
    with pytest.raises(InputError, match="Did you mean 'n_cells'"):
        datasets.load("sim_atlas:n_cell=9")


def test_gene_names_that_repeat_are_refused(cells, tmp_path):
    cells.var_names = ["g"] * 2 + list(cells.var_names[2:])
    cells.write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(InputError, match=r"1 gene names occur more than once, such as 'g'"):
        datasets.load(tmp_path / "cells.h5ad", backed=True)


def test_a_file_of_your_own_is_named_where_its_change_is_looked_for(cells, tmp_path, monkeypatch):
    monkeypatch.setenv("SCLIN_PROVENANCE", str(tmp_path / "p.jsonl"))
    cells.write_h5ad(tmp_path / "mine.h5ad")
    datasets.load(tmp_path / "mine.h5ad")
    (line,) = (tmp_path / "p.jsonl").read_text().splitlines()
    assert json.loads(line)["paths"] == [str(tmp_path / "mine.h5ad")]
