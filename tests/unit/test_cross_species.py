import re
from functools import partial

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from sclin import published
from sclin.errors import InputError
from sclin.tasks import cross_species


def toy(genes, X):
    return AnnData(np.asarray(X, dtype=np.float32), var=pd.DataFrame(index=genes))


def transfers(species, mammals, **options):
    pairs = partial(mammals.pairs, kind=None)
    given = {"min_cells": 5} | options
    return {str(t): t for t in cross_species.transfers(species, pairs, "cell_type", **given)}


def test_genes_are_cut_in_one_order_and_doubled_ones_left_out():
    a = toy(["A", "B", "C", "D"], np.arange(8).reshape(2, 4))
    b = toy(["d", "c2", "c1", "a"], np.arange(8).reshape(2, 4))
    table = pd.DataFrame({"source": list("DCCAB"), "target": ["d", "c1", "c2", "a", "b"]})
    pairs = table.assign(kind="one2one")
    cut = cross_species.align_species({"x": a, "y": b}, lambda *_: pairs)
    assert list(cut["x"].var_names) == list(cut["y"].var_names) == ["A", "D"]
    assert cut["y"].X[0].tolist() == [3, 0]
    first = cross_species.first_partners
    assert list(cross_species.align_species({"x": a, "y": b}, lambda *_: pairs, choose=first)[
        "y"
    ].var_names) == ["A", "C", "D"]  # fmt: skip


def test_off_diagonal_mean_by_hand():
    table = pd.DataFrame([[1.0, 0.2], [0.4, 1.0]])
    mean = cross_species.off_diagonal_mean(table)
    assert mean.value == pytest.approx(0.3) and mean.n == 2 and np.isnan(mean.low)


def test_the_published_average_needs_its_diagonal():
    rows = published.table("crossspecies").query("kind == 'matrix' and metric == 'f1_macro'")
    square = rows.pivot(index="basis_species", columns="target_species", values="value")
    assert square.to_numpy().mean() == pytest.approx(0.681, abs=5e-4)
    true_transfers = cross_species.off_diagonal_mean(square).value
    assert true_transfers == pytest.approx(0.649, abs=5e-4)


def test_types_are_one_list_or_all(three, mammals):
    def n_types(t):
        return t.cells.obs["cell_type"].iloc[t.fold[1]].nunique()

    shared = transfers(three, mammals)
    assert len(shared) == 6
    assert n_types(shared["human to platypus"]) == n_types(shared["platypus to human"]) == 5
    assert n_types(transfers(three, mammals, types="all")["platypus to human"]) == 7


def test_a_fold_goes_from_one_species_to_the_other(three, mammals):
    t = transfers(three, mammals)["mouse to human"]
    sides = [t.cells.obs["species"].iloc[rows].unique().tolist() for rows in t.fold]
    assert sides == [["mouse"], ["human"]]
    row = t.fold[1][0]
    name = t.cells.obs_names[row].removesuffix(" human")
    there = three["human"][name, t.cells.var_names].X.toarray()
    np.testing.assert_array_equal(t.cells.X[[row]].toarray(), there)


def test_a_folder_of_tables_serves_both_ways(mammals, tmp_path):
    pairs = mammals.pairs("human", "mouse", kind=None)
    pairs.assign(kind="ortholog_" + pairs["kind"]).to_csv(tmp_path / "human_mouse.csv", index=False)
    read = cross_species.read_orthologs(tmp_path)
    pd.testing.assert_frame_equal(read("human", "mouse"), pairs, check_dtype=False)
    back = read("mouse", "human")
    assert back["source"].tolist() == pairs["target"].tolist()
    with pytest.raises(InputError, match=r"human_pig.csv nor pig_human.csv.*BioMart"):
        read("human", "pig")
    pairs[["source"]].to_csv(tmp_path / "human_pig.csv")
    with pytest.raises(InputError, match=re.escape("lacks columns ['kind', 'target']")):
        read("human", "pig")


def test_species_that_share_nothing_are_refused(three, mammals):
    a, b = toy(["A"], [[1.0]]), toy(["b"], [[1.0]])
    pairs = pd.DataFrame({"source": ["X"], "target": ["b"], "kind": "one2one"})
    with pytest.raises(InputError, match="one kind of gene id"):
        cross_species.align_species({"x": a, "y": b}, lambda *_: pairs)
    with pytest.raises(InputError, match="two species"):
        cross_species.align_species({"human": three["human"]}, mammals.pairs)
    other = {name: cells.copy() for name, cells in three.items()}
    other["mouse"].obs["cell_type"] = "mouse " + other["mouse"].obs["cell_type"].astype(str)
    with pytest.raises(InputError, match="one vocabulary"):
        transfers(other, mammals)
