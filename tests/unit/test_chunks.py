"""The same numbers from memory, from files and on Dask."""

import os
from contextlib import suppress
from functools import partial
from multiprocessing import active_children

import anndata as ad
import dask.array as dask_array
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone

import sclin
from sclin import chunks
from sclin.errors import InputError
from sclin.linear import AnovaSelector, ImplicitPCA, linear_pipeline
from sclin.normalization import RankNormalizer, rank_normalize
from sclin.projection import CentroidProjection

CELLS, GENES = 240, 150


@pytest.fixture(scope="module")
def cells():
    """Counts of three classes and two donors."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, CELLS)
    rates = rng.lognormal(-1, 1.5, (3, GENES))
    obs = pd.DataFrame(
        {"cell_type": np.array(["b", "nk", "t"])[y], "donor": rng.choice(["x", "y"], CELLS)},
        index=[f"cell{i}" for i in range(CELLS)],
    )
    X = sp.csr_matrix(rng.poisson(rates[y]).astype(np.float32))
    return ad.AnnData(X, obs, uns={"sclin": {"values": "counts"}})


@pytest.fixture(scope="module", params=["backed", "lazy h5ad", "lazy zarr", "dense chunks"])
def elsewhere(request, cells, tmp_path_factory):
    """The same cells, not in memory and in more than one block."""
    folder = tmp_path_factory.mktemp("cells")
    if request.param == "dense chunks":
        other = cells.copy()
        other.X = dask_array.from_array(cells.X.toarray(), chunks=(70, 60))
        return other
    if request.param == "lazy zarr":
        cells.write_zarr(folder / "cells.zarr")
        return ad.experimental.read_lazy(folder / "cells.zarr")
    cells.write_h5ad(folder / "cells.h5ad")
    if request.param == "backed":
        return ad.read_h5ad(folder / "cells.h5ad", backed="r")
    return ad.experimental.read_lazy(folder / "cells.h5ad")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(chunks, "_STORED", 2000)


def test_every_statistic_is_that_of_cells_in_memory(cells, elsewhere):
    y = cells.obs["cell_type"].to_numpy()
    close = {"rtol": 1e-6, "atol": 1e-6}
    ranks, there = rank_normalize(cells), RankNormalizer().fit_transform(elsewhere)
    assert isinstance(there, chunks.Blocks) and len(there.raw.chunks[0]) >= 1
    np.testing.assert_array_equal(rank_normalize(elsewhere).toarray(), ranks.toarray())
    np.testing.assert_allclose(
        AnovaSelector().fit(there, y).scores_, AnovaSelector().fit(ranks, y).scores_, rtol=1e-9
    )
    for estimator, data, same in (
        (ImplicitPCA(n_components=5), ranks, there),
        (CentroidProjection(), cells, elsewhere),
        (CentroidProjection(order="rank_then_average", rank=False), ranks, there),
    ):
        here, blocks = clone(estimator).fit(data, y), clone(estimator).fit(same, y)
        np.testing.assert_allclose(blocks.transform(same), here.transform(data), **close)
    model = linear_pipeline(n_genes=100, n_components=5)
    here, blocks = clone(model).fit(cells, y), clone(model).fit(elsewhere, y)
    found = blocks.predict_proba(elsewhere)
    np.testing.assert_allclose(found, here.predict_proba(cells), **close)


def test_evaluate_gives_the_same_table(cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    elsewhere = ad.experimental.read_lazy(tmp_path / "cells.h5ad")
    asked = {
        "representations": ["rank", "hvg_pca", "library_size"],
        "heads": ["logistic", "knn", "centroid", "projection"],
    }
    options = {"groups": "donor", "n_boot": 20, "dataset": "cells"}
    here = sclin.evaluate(cells, "cell_type", **asked, **options)
    there = sclin.evaluate(elsewhere, "cell_type", **asked, **options)
    pd.testing.assert_frame_equal(there.table, here.table, rtol=1e-6)
    assert there.left_out.equals(here.left_out)


def test_workers_give_the_same_bits_although_one_is_lost(cells, tmp_path):
    lazy = cells.copy()
    lazy.X = dask_array.from_array(cells.X, chunks=(20, -1))
    dies_once = chunks.map_cells(partial(_die_once, mark=tmp_path / "died"), chunks.opened(lazy.X))
    (tmp_path / "died").touch()
    alone = ImplicitPCA(n_components=5).fit(dies_once).components_
    (tmp_path / "died").unlink()
    with chunks.connect(n_workers=2):
        beside = ImplicitPCA(n_components=5).fit(dies_once).components_
    assert (tmp_path / "died").exists()
    assert not [child for child in active_children() if "Dask" in child.name]
    np.testing.assert_array_equal(beside, alone)


def _die_once(block, mark):
    """Kill the process of the first block that comes here."""
    with suppress(FileExistsError):
        mark.touch(exist_ok=False)
        os._exit(1)
    return block


def test_refusals_name_the_place_and_the_remedy(cells, tmp_path):
    with pytest.raises(InputError, match=r"tcp://127.0.0.1:9.*\n.*dask scheduler"):
        chunks.connect("tcp://127.0.0.1:9", wait=0.5)
    by_gene = ad.AnnData(cells.X.tocsc())
    by_gene.write_h5ad(tmp_path / "csc.h5ad")
    with pytest.raises(InputError, match=r"CSC.*\n.*tocsr"):
        rank_normalize(ad.read_h5ad(tmp_path / "csc.h5ad", backed="r"))
    with pytest.raises(InputError, match=r"(?s)80.* GB, more than is free.*rechunk"):
        rank_normalize(dask_array.zeros((10**6, 10**5), chunks=(10**6, -1)))
    bad = cells.copy()
    X = cells.X.copy()
    X.data[X.indptr[100]] = np.nan
    bad.X = dask_array.from_array(X, chunks=(60, -1))
    gene = cells.var_names[X.indices[X.indptr[100]]]
    with pytest.raises(InputError, match=rf"cell 100, gene '{gene}'"):
        linear_pipeline(n_components=5).fit(bad, cells.obs["cell_type"])

    def starve(block):
        raise MemoryError

    with pytest.raises(InputError, match=r"60 cells x 150 genes does not fit.*\n.*rechunk"):
        chunks.gather(
            chunks.map_cells(starve, chunks.opened(dask_array.from_array(cells.X, chunks=(60, -1))))
        )
