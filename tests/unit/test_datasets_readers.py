"""Readers of every layout give the same cells back."""

from __future__ import annotations

import gzip

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp

from sclin import datasets
from sclin.datasets import readers, recipes

GENES = ["ACTB", "GAPDH", "MALAT1", "TP53", "B2M"]
COUNTS = np.random.default_rng(0).poisson(1.5, (6, 5)).astype(np.float32)
CELLS = [f"c{i}" for i in range(6)]


def example() -> ad.AnnData:
    out = ad.AnnData(sp.csr_matrix(COUNTS), pd.DataFrame(index=CELLS), pd.DataFrame(index=GENES))
    out.obs["celltype"] = list("aabbcc")
    return out


def write(folder, layout):
    cells, path = example(), folder / f"x.{layout}"
    frame = pd.DataFrame(COUNTS.astype(int), CELLS, GENES)
    if layout == "h5ad":
        cells.write_h5ad(path)
    elif layout == "zarr":
        cells.write_zarr(path)
    elif layout == "csv":
        frame.to_csv(path)
    elif layout == "tsv.gz":
        frame.T.to_csv(path, sep="\t")
    elif layout == "10x":
        path.mkdir()
        with gzip.open(path / "matrix.mtx.gz", "wb") as stream:
            scipy.io.mmwrite(stream, sp.coo_matrix(COUNTS.T.astype(int)))
        ids = [f"ENSG{i:011d}" for i in range(5)]
        rows = "".join(f"{i}\t{g}\tGene Expression\n" for i, g in zip(ids, GENES, strict=True))
        with gzip.open(path / "features.tsv.gz", "wt") as stream:
            stream.write(rows)
        with gzip.open(path / "barcodes.tsv.gz", "wt") as stream:
            stream.write("\n".join(CELLS) + "\n")
    return path


@pytest.mark.parametrize("layout", ["h5ad", "zarr", "csv", "tsv.gz", "10x"])
def test_every_layout_gives_the_same_cells(tmp_path, layout):
    got = datasets.load(write(tmp_path, layout))
    np.testing.assert_array_equal(got.X.toarray(), COUNTS)
    assert list(got.obs_names) == CELLS and list(got.var["symbol"]) == GENES
    assert got.uns["sclin"]["values"] == "counts" and got.uns["sclin"]["tier"] == "local"
    assert got.X.dtype == np.float32 and isinstance(got.X, sp.csr_matrix)


def test_columns_are_named_and_the_originals_stay(tmp_path):
    got = datasets.load(write(tmp_path, "h5ad"), columns={"cell_type": "celltype"})
    assert list(got.obs["cell_type"]) == list("aabbcc") == list(got.obs["celltype"])


def test_counts_are_found_where_they_are(tmp_path):
    cells = example()
    cells.layers["other"] = cells.X.copy()
    cells.X = cells.X.log1p()
    cells.write_h5ad(tmp_path / "x.h5ad")
    got = readers.read(tmp_path / "x.h5ad")
    assert got.uns["sclin"]["found_in"] == "layers['other']"
    logs = readers.read(tmp_path / "x.h5ad", layer="X", values="log").uns["sclin"]
    assert (logs["values"], logs["found_in"]) == ("log", "X")


def test_raw_may_have_more_genes_than_x(tmp_path):
    cells = example()
    cells.raw = cells.copy()
    cells = cells[:, :3].copy()
    cells.X = cells.X.log1p()
    cells.write_h5ad(tmp_path / "x.h5ad")
    got = readers.read(tmp_path / "x.h5ad")
    assert got.n_vars == 5 and got.uns["sclin"]["found_in"] == "raw"


def test_stored_zeros_are_dropped(tmp_path):
    cells = example()
    cells.X.data[:2] = 0
    cells.write_h5ad(tmp_path / "x.h5ad")
    got = datasets.load(tmp_path / "x.h5ad")
    assert got.X.data.all() and got.X.nnz == np.count_nonzero(cells.X.toarray())


def test_versions_are_stripped_and_duplicates_summed():
    cells = ad.AnnData(sp.csr_matrix(COUNTS[:, :4]))
    cells.var_names = ["ENSG00000000001.1", "ENSG00000000001.2", "ENSG00000000002.1", "GENE"]
    got = datasets.take(cells)
    assert list(got.var_names) == ["ENSG00000000001", "ENSG00000000002", "GENE"]
    np.testing.assert_array_equal(got.X.toarray()[:, 0], COUNTS[:, :2].sum(1))
    np.testing.assert_array_equal(got.X.toarray()[:, 1:], COUNTS[:, 2:4])
    assert got.uns["sclin"]["dropped"].iloc[0, :2].to_list() == ["genes", 1]


def test_a_kept_result_is_made_again_when_its_file_or_options_change(cache, monkeypatch):
    made = []

    def file(paths, scale=1):
        made.append(scale)
        return readers.pack(COUNTS * scale, CELLS, GENES)

    monkeypatch.setattr(recipes, "file", file)
    path = cache.parent / "x.csv"
    for text, scale in [("a", 1), ("a", 1), ("bb", 1), ("bb", 2)]:
        path.write_text(text)
        got = datasets.load("tenx_immune", path=path, scale=scale)
        np.testing.assert_array_equal(got.X.toarray(), COUNTS * scale)
    assert made == [1, 1, 2]
    for kept in (cache / "processed").rglob("output.pkl"):
        kept.write_bytes(b"damaged")
    assert datasets.load("tenx_immune", path=path).shape == COUNTS.shape
    assert made == [1, 1, 2, 1]
