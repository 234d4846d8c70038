"""`sclin.pp`: results stand in an AnnData, where scanpy finds them."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import sclin
from sclin.errors import InputError
from sclin.normalization import RankMatrix, rank_normalize

KINDS = ["alpha", "beta", "delta"]


def atlas(n_cells=90, n_genes=120, seed=0):
    rng = np.random.default_rng(seed)
    kind = np.arange(n_cells) % 3
    profiles = np.random.default_rng(7).gamma(0.4, 3.0, (3, n_genes))
    counts = rng.poisson(profiles[kind] * rng.uniform(0.5, 2, (n_cells, 1)))
    cells = anndata.AnnData(sp.csr_matrix(counts.astype(np.float32)))
    cells.var_names = [f"GENE{g}" for g in range(n_genes)]
    cells.obs["cell_type"] = pd.Categorical(np.array(KINDS)[kind])
    cells.obs["donor"] = [f"d{i}" for i in rng.integers(0, 4, n_cells)]
    return cells


class TestRankNormalize:
    def test_the_two_parts_survive_selection_concatenation_and_a_file(self, tmp_path):
        cells = atlas()
        assert sclin.pp.rank_normalize(cells) is None
        expected = rank_normalize(cells).toarray()
        cells.X.data[:] = 1  # the layer is nobody else's
        cells.X.sum_duplicates()
        parts = [cells[:30], cells[30:]]
        cells = anndata.concat(parts, merge="same")
        cells.write_h5ad(tmp_path / "cells.h5ad")
        cells = anndata.read_h5ad(tmp_path / "cells.h5ad")[::2, 5:].copy()
        again = RankMatrix(cells.layers["rank"], cells.obs["rank_offset"])
        np.testing.assert_allclose(again.toarray(), expected[::2, 5:], atol=1e-7)

    def test_layer_key_and_copy(self):
        cells = atlas()
        cells.layers["log"] = np.log1p(cells.X.toarray())
        cells.X = None
        found = sclin.pp.rank_normalize(cells, layer="log", key_added="z", copy=True)
        assert list(cells.layers) == ["log"] and "z_offset" not in cells.obs
        np.testing.assert_array_equal(
            RankMatrix(found.layers["z"], found.obs["z_offset"]).toarray(),
            rank_normalize(atlas()).toarray(),
        )
        assert found.uns["z"] == {"params": {"layer": "log"}}

    def test_refusals_name_what_is_there(self):
        cells = atlas()
        with pytest.raises(InputError, match=r"No layer is called 'cuonts'.*'counts'"):
            cells.layers["counts"] = cells.X.copy()
            sclin.pp.rank_normalize(cells, layer="cuonts")
        cells.layers["counts"][4, 7] = np.nan
        with pytest.raises(InputError, match=r"cell '4', gene 'GENE7'"):
            sclin.pp.rank_normalize(cells, layer="counts")
