"""Regulation, manifold: bad input is refused in words."""

import numpy as np
import pytest
import scipy.sparse as sp

from sclin.datasets import simulate
from sclin.errors import InputError
from sclin.tasks import manifold, regulation


@pytest.fixture(scope="module")
def cells():
    return simulate.regulation(n_cells=150, n_genes=120, n_tfs=3, n_targets=5, library=150)


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
    with pytest.raises(InputError, match="40 cells are too few for 45"):
        manifold.flatness(np.random.default_rng(0).normal(size=(40, 3)), k=45)
    with pytest.raises(ValueError, match="NaN"):  # scikit-learn's
        manifold.flatness(np.full((60, 2), np.nan))
