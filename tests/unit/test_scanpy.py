"""`sclin.pp` and `sclin.tl`: results stand in an AnnData, where scanpy finds them."""

import anndata
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

import sclin
from sclin.errors import InputError
from sclin.normalization import RankMatrix, rank_normalize
from sclin.projection import CentroidProjection, align_genes

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


class TestProject:
    reference = sclin.tl.reference(atlas(), "cell_type", donor="donor", rejected=0.1)

    def test_a_reference_is_the_projection_it_was_made_with(self):
        train, test = atlas(), atlas(seed=1)
        model = CentroidProjection().fit(train, train.obs["cell_type"])
        sclin.tl.project(test, self.reference)
        np.testing.assert_allclose(test.obsm["projection"], model.coefficients(test), atol=1e-12)
        np.testing.assert_allclose(
            test.obs["projection_score"], model.coefficients(test).max(axis=1)
        )
        assert self.reference.obs["n_cells"].tolist() == [30, 30, 30]

    def test_the_threshold_is_that_of_held_out_donors(self):
        train = atlas()
        largest = np.empty(train.n_obs)
        for donor in train.obs["donor"].unique():
            out = (train.obs["donor"] == donor).to_numpy()
            model = CentroidProjection().fit(train[~out], train.obs["cell_type"][~out])
            largest[out] = model.coefficients(train[out]).max(axis=1)
        threshold = self.reference.uns["sclin"]["threshold"]
        assert (largest < threshold).sum() == 9
        test = atlas(seed=1)
        sclin.tl.project(test, self.reference)
        below = test.obs["projection_score"] < threshold
        assert below.any()
        np.testing.assert_array_equal(test.obs["projection"] == "unspecified", below)

    def test_a_file_meets_cells_with_other_genes_in_another_order(self, tmp_path):
        self.reference.write_h5ad(tmp_path / "reference.h5ad")
        test = atlas(seed=1)[:, ::-1][:, :90].copy()
        test.obs_names = [f"cell {i}" for i in range(test.n_obs)]
        with pytest.warns(UserWarning, match=r"30 of the reference's 120 genes .* such as 'GENE0'"):
            found = sclin.tl.project(
                test, str(tmp_path / "reference.h5ad"), key_added="kind", copy=True
            )
        assert "kind" not in test.obs
        train, cut = align_genes(atlas(), test)
        model = CentroidProjection().fit(train, train.obs["cell_type"])
        # Totals of all genes and totals of the shared ones weigh the cells of a class alike.
        assert np.abs(found.obsm["kind"] - model.coefficients(cut)).max() < 0.05
        assert len(found.uns["kind"]["missing_genes"]) == 30
        found.write_h5ad(tmp_path / "found.h5ad")
        again = anndata.read_h5ad(tmp_path / "found.h5ad")
        assert again.uns["kind"]["classes"].tolist() == KINDS
        right = again.obs["kind"].astype(str) == again.obs["cell_type"].astype(str)
        assert right[again.obs["kind"] != "unspecified"].mean() > 0.9

    def test_logs_make_the_same_reference(self):
        logs = atlas()
        logs.X = logs.X.multiply(1e4 / logs.X.sum(axis=1)).tocsr().log1p()
        found = sclin.tl.reference(logs, "cell_type", donor="donor", rejected=0.1)
        np.testing.assert_allclose(found.X, self.reference.X, atol=1e-6)

    @pytest.mark.filterwarnings("ignore::UserWarning:seaborn")
    def test_scanpy_plots_it(self):
        test = atlas(seed=1)
        sclin.tl.project(test, self.reference)
        sc.pl.embedding(test, "projection", color=["projection", "projection_score"], show=False)
        assert test.uns["projection_colors"] == [*sc.pl.palettes.default_20[:3], "#d3d3d3"]
        sc.pl.violin(test, "projection_score", groupby="projection", show=False)
        plt.close("all")
        # One class, one colour, whichever other classes are found.
        some = test[test.obs["projection"].isin(["beta", "unspecified"])].copy()
        del some.uns["projection_colors"]
        sclin.tl.project(some, self.reference)
        assert some.uns["projection_colors"] == [sc.pl.palettes.default_20[1], "#d3d3d3"]

    def test_refusals(self):
        cells = atlas()
        with pytest.raises(InputError, match=r"No column of obs .* called 'celltype'.*'cell_type'"):
            sclin.tl.reference(cells, "celltype")
        for wrong, name in [(cells, "AnnData object .*"), ("here.h5ad", "here.h5ad")]:
            with pytest.raises(InputError, match=rf"nor a file of one: {name}.\n.*tl\.reference"):
                sclin.tl.project(cells, wrong)
        other = cells.copy()
        other.var_names = [*cells.var_names[:20], *(f"OTHER{g}" for g in range(100))]
        with pytest.raises(InputError, match=r"100 of the reference's 120 genes .*min_shared=0.5"):
            sclin.tl.project(other, self.reference)
        one = cells[cells.obs["donor"] == "d0"].copy()
        with pytest.raises(InputError, match="has one value"):
            sclin.tl.reference(one, "cell_type", donor="donor")
        cells.obs.loc["0", "cell_type"] = np.nan
        with pytest.raises(InputError, match="1 of 90 cells have no 'cell_type'"):
            sclin.tl.reference(cells, "cell_type")
