"""Structure, regulation, manifold: bad input is refused in words."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from sclin.datasets import simulate
from sclin.errors import InputError
from sclin.tasks import manifold, regulation, structure


@pytest.fixture(scope="module")
def cells():
    return simulate.regulation(n_cells=150, n_genes=120, n_tfs=3, n_targets=5, library=150)


def test_species_without_ortholog_table(cells):
    sets = {"human": cells, "mouse": cells}
    with pytest.raises(InputError, match=r"ortholog table.*mouse"):
        structure.divergence(sets, myr={"mouse": 90.0})
    with pytest.raises(InputError, match=r"No ortholog table for \['mouse'\]"):
        structure.align_species(sets, {})


def test_repeated_orthologs_are_refused(cells):
    table = pd.DataFrame({"source": cells.var_names[:2], "target": [cells.var_names[0]] * 2})
    with pytest.raises(InputError, match="one2one"):
        structure.align_species({"human": cells, "mouse": cells}, {"mouse": table})


def test_no_shared_class():
    data = simulate.species(n_cells=20, n_genes=80)
    for name, adata in data.adatas.items():
        adata.obs["cell_type"] = [f"{name} cell"] * adata.n_obs
    with pytest.raises(InputError, match="shared by all species"):
        structure.divergence(data)


def test_unknown_stage_depth_protocol(cells):
    with pytest.raises(InputError, match="No cell of"):
        structure.lineage(cells, ["cell", "root", "leaf"])
    with pytest.raises(InputError, match="holds 10000000 molecules"):
        structure.match_depth({"a": cells}, depth=10_000_000)
    with pytest.raises(InputError, match="as_published"):
        structure.lineage(cells, ["cell"], protocol="best")
    with pytest.raises(InputError, match="order='rank_only'"):
        structure.class_averages(cells, order="rank_only")
    with pytest.raises(InputError, match="no column 'celltype'"):
        structure.class_averages(cells, "celltype")


def test_permutation_needs_three_complete_units():
    with pytest.raises(InputError, match="three units"):
        structure.permutation_test([1, 2], [2, 1])
    with pytest.raises(InputError, match="missing"):
        structure.permutation_test([1, 2, np.nan], [2, 1, 3])


def test_tree_must_name_the_same_classes():
    similarity = pd.DataFrame(np.eye(4), index=list("abcd"), columns=list("abcd"))
    with pytest.raises(InputError, match="both must name"):
        structure.tree_recovery(similarity, "((a,b),(c,e));")


def test_factor_absent_silent_or_rare(cells):
    with pytest.raises(InputError, match=r"No genes are called 'GENE0000'.*Did you mean"):
        regulation.association(cells, "GENE0000")
    silent = cells.copy()
    silent.X = (silent.X @ sp.diags(np.sign(np.arange(120.0)))).astype(np.float32).tocsr()
    with pytest.raises(InputError, match="no count in any of 150 cells"):
        regulation.association(silent, "GENE00000")
    with pytest.raises(InputError, match="with and without"):
        regulation.association(cells, "GENE00001", min_cells=149)


def test_fewer_cells_than_neighbours_and_missing_values():
    with pytest.raises(InputError, match="46"):
        manifold.flatness(np.random.default_rng(0).normal(size=(40, 3)), k=45)
    with pytest.raises(InputError, match="finite"):
        manifold.flatness(np.full((60, 2), np.nan))
