"""Datasets by name with options, and several at once."""

from __future__ import annotations

import pytest

from sclin import datasets
from sclin.errors import InputError


def test_options_may_follow_the_name():
    cells = datasets.load("sim_atlas:n_cells=30,n_genes=20,effect=0.5,seed=3")
    assert cells.shape == (30, 20) and cells.uns["sclin"]["seed"] == 3
    assert datasets.name_of(cells) == "sim_atlas:n_cells=30,n_genes=20,effect=0.5,seed=3"
    assert datasets.name_of(datasets.load("sim_atlas", n_cells=30, n_genes=20)) == "sim_atlas"


def test_several_datasets_come_by_name(cells):
    assert list(datasets.load_many(cells)) == ["cells"]
    assert list(datasets.load_many("sim_atlas:n_cells=9")) == ["sim_atlas:n_cells=9"]
    named = datasets.load_many(["sim_atlas:n_cells=9", cells, cells])
    assert list(named) == ["sim_atlas:n_cells=9", "cells", "cells #3"]


def test_options_that_cannot_be_read_and_empty_lists():
    with pytest.raises(
        InputError, match="'n_cells=9,seed' in 'sim_atlas:n_cells=9,seed' is not of"
    ):
        datasets.load("sim_atlas:n_cells=9,seed")
    with pytest.raises(InputError, match="Did you mean 'n_cells'"):
        datasets.load("sim_atlas:n_cell=9")
    with pytest.raises(InputError, match="empty"):
        datasets.load_many([])


def test_gene_names_that_repeat_are_refused(cells):
    cells.var_names = ["g"] * 2 + list(cells.var_names[2:])
    with pytest.raises(InputError, match="1 gene names of cells occur more than once, such as 'g'"):
        datasets.load_many([cells])
