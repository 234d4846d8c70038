"""Every format, kind of matrix and habit of naming: the right matrix, or an error of three lines.

The cells are simulated. The oracle knows what it wrote, and does not look at values.
"""

from __future__ import annotations

import gzip
import itertools

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp

from sclin import datasets
from sclin.errors import SclinError

RNG = np.random.default_rng(0)
N, G = 40, 50
COUNTS = RNG.poisson(RNG.gamma(0.6, 4, G), (N, G)).astype(float)
COUNTS[:, 0] += 1
SHARE = COUNTS / COUNTS.sum(1, keepdims=True)
LOG = np.log1p(SHARE * 1e4)
# What is written, what must come back and as what (None: an error).
KINDS = {
    "counts": (COUNTS, COUNTS, "counts"),
    "log": (LOG, LOG, "log"),
    "log2": (np.log2(1 + SHARE * 1e6), np.log1p(SHARE * 1e6), "log"),
    "some genes of log": (np.where(np.arange(G) < 30, LOG, 0), None, "log"),
    "tpm": (SHARE * 1e6, SHARE * 1e6, "linear"),
    "ambient": (COUNTS * 0.83, COUNTS * 0.83, "linear"),
    "scaled": (LOG - LOG.mean(0), None, None),
    "binary": (1.0 * (COUNTS > 1), None, None),
    "empty": (0 * COUNTS, None, None),
    "nan": (np.where(np.arange(G) == 3, np.nan, COUNTS), None, None),
    "negative": (COUNTS - 2.0 * ((np.arange(N) == 5)[:, None] & (np.arange(G) == 7)), None, None),
    "mixed": (np.vstack([COUNTS[: N // 2], LOG[N // 2 :]]), None, None),
}
HABITS = ("plain", "one gene twice", "versions", "numbered genes", "antibodies", "cells twice")
PLACES = ("alone", "counts in raw", "counts in a layer", "counts of samples", "log in a layer")
GENES = [f"ENSG{i:011d}" for i in range(G)]


def made(kind, habit, place):
    """Cells as a file would hold them, and the matrix, values and place that must come back."""
    X, back, values = KINDS[kind]
    back = X if back is None else back
    cells = ad.AnnData(
        X.astype(np.float32),
        pd.DataFrame(index=[f"cell{i}" for i in range(N)]),
        pd.DataFrame(index=GENES),
    )
    where = "X"
    if habit == "one gene twice":
        cells.var_names = [GENES[0], *GENES[:-1]]
    elif habit == "versions":
        cells.var_names = [f"{gene}.{i}" for i, gene in enumerate(GENES)]
    elif habit == "numbered genes":
        cells.var["features"] = GENES
        cells.var_names = [str(i) for i in range(G)]
    elif habit == "antibodies":
        cells.var["feature_types"] = ["Gene Expression"] * 45 + ["Antibody Capture"] * 5
    elif habit == "cells twice":
        cells.obs_names = ["cell1", *cells.obs_names[1:]]
    if place == "counts in raw":
        cells.raw = ad.AnnData(COUNTS.astype(np.float32), cells.obs, cells.var)
    elif place == "counts in a layer":
        cells.layers["counts"] = sp.csr_matrix(COUNTS)
        cells.layers["unspliced"] = COUNTS // 2
    elif place == "counts of samples":
        mine = np.arange(N) % 3 == 0
        cells.layers["counts.a"], cells.layers["counts.b"] = COUNTS * mine[:, None], COUNTS.copy()
        cells.layers["counts.b"][mine] = 0
    elif place == "log in a layer":
        cells.layers["logcounts"] = LOG
    if place.startswith("counts") and kind != "counts":
        where = {"raw": "raw", "layer": "layers['counts']", "samples": "layers['counts.*']"}
        where, back, values = where[place.split()[-1]], COUNTS, "counts"
    elif place.startswith("log") and values is None:
        where, back, values = "layers['logcounts']", LOG, "log"
    if habit == "one gene twice":
        amount = np.expm1(back) if values == "log" else back
        amount = np.hstack([amount[:, :1] + amount[:, 1:2], amount[:, 2:]])
        back = np.log1p(amount) if values == "log" else amount
    return cells, (back[:, :45] if habit == "antibodies" else back), values, where


def text(cells, path, **options):
    frame = pd.DataFrame(cells.X, cells.obs_names, cells.var_names)
    frame = frame.T if ".genes." in path.name else frame
    # Nine digits, or the whole multiples that tell logs of counts would be lost.
    frame.to_csv(path, float_format="%.9g", na_rep="nan", **options)


def loom(cells, path):
    with h5py.File(path, "w") as file:
        file["matrix"] = cells.X.T
        for name, layer in cells.layers.items():
            file[f"layers/{name}"] = (layer.toarray() if sp.issparse(layer) else layer).T
        file["col_attrs/CellID"], file["row_attrs/Gene"] = (
            list(cells.obs_names),
            list(cells.var_names),
        )
        for column in cells.var:
            file[f"row_attrs/{column}"] = list(cells.var[column])


def tenx(cells, path):
    X = sp.csr_matrix(cells.X)
    types = cells.var.get("feature_types", pd.Series(["Gene Expression"] * G))
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        parts = {"data": X.data, "indices": X.indices, "indptr": X.indptr, "shape": X.shape[::-1]}
        for key, value in parts.items():
            group[key] = value
        group["barcodes"] = np.array(list(cells.obs_names), "S")
        names = {"id": cells.var_names, "name": cells.var_names, "feature_type": types}
        for key, value in {**names, "genome": ["GRCh38"] * G}.items():
            group[f"features/{key}"] = np.array(list(value), "S")


def mtx(cells, path):
    path.mkdir(exist_ok=True)
    prefix, end = ("GSM12_s1_", "") if "geo" in path.name else ("", ".gz")
    write = gzip.open if end else open
    with write(path / f"{prefix}matrix.mtx{end}", "wb") as stream:
        scipy.io.mmwrite(stream, sp.coo_matrix(cells.X.T), precision=9)
    types = cells.var.get("feature_types", pd.Series(["Gene Expression"] * G))
    rows = zip(cells.var_names, cells.var_names, types, strict=True)
    lines = {f"{prefix}features.tsv{end}": ["\t".join(row) for row in rows]}
    if prefix and "feature_types" not in cells.var:
        lines = {f"{prefix}genes.tsv": [f"{gene}\t{gene}" for gene in cells.var_names]}
    for name, listed in {**lines, f"{prefix}barcodes.tsv{end}": cells.obs_names}.items():
        with write(path / name, "wt") as stream:
            stream.write("\n".join(listed) + "\n")


def packed(cells, path):
    plain = path.with_name("plain.h5ad")
    cells.write_h5ad(plain)
    path.write_bytes(gzip.compress(plain.read_bytes(), 1))


WRITERS = {
    "memory": None,
    "x.h5ad": lambda cells, path: cells.write_h5ad(path),
    "x.h5ad.gz": packed,
    "named_otherwise.h5": lambda cells, path: cells.write_h5ad(path),
    "x.zarr": lambda cells, path: cells.write_zarr(path),
    "x.loom": loom,
    "tenx.h5": tenx,
    "folder": mtx,
    "geo_folder": mtx,
    "x.csv": text,
    "x.genes.tsv.gz": lambda cells, path: text(cells, path, sep="\t"),
    "semicolon.genes.csv": lambda cells, path: text(cells, path, sep=";", decimal=","),
    "spaces.txt": lambda cells, path: text(cells, path, sep=" ", decimal=","),
}
WHOLE = ("memory", "x.h5ad", "x.h5ad.gz", "named_otherwise.h5", "x.zarr")  # a whole AnnData


def combinations(layout):
    """Every kind with one habit and one place each, the pairs moved on by the layout."""
    habits = list(HABITS)
    if layout not in (*WHOLE, "x.loom"):
        habits.remove("numbered genes")
        if "tenx" not in layout and "folder" not in layout:
            habits.remove("antibodies")
    places = PLACES if layout in WHOLE else PLACES[:1]
    places = ("alone", *PLACES[2:]) if layout == "x.loom" else places
    every = list(itertools.product(KINDS, habits, places))
    step = len(every) // {"memory": 90, "x.zarr": 7, "x.h5ad": 14}.get(layout, 15)
    return every[list(WRITERS).index(layout) % step :: step]


def check(layout, kind, habit, place, folder):
    cells, back, values, where = made(kind, habit, place)
    given = cells
    if WRITERS[layout]:
        given = folder / layout
        WRITERS[layout](cells, given)
    try:
        got = datasets.load(given) if WRITERS[layout] else datasets.take(cells)
    except SclinError as error:
        assert values is None, error
        assert str(error).count("\n") < 3
        return
    said = got.uns["sclin"]
    assert (said["values"], said["found_in"]) == (values, where)
    np.testing.assert_allclose(got.X.toarray(), back, rtol=2e-5, atol=1e-6)
    assert got.obs_names.is_unique and got.var_names[0] == GENES[0]
    what = dict(zip(said["dropped"]["what"], said["dropped"]["n"], strict=True))
    expected = {"one gene twice": {"genes": 1}, "antibodies": {"features": 5}}.get(habit, {})
    assert what == expected
    warned = {"cells twice": "cell1", "numbered genes": "features"}.get(habit, "")
    assert warned in " ".join(said["warnings"])


@pytest.mark.filterwarnings("ignore:.*names are not unique", "ignore:Writing zarr v2")
@pytest.mark.parametrize("layout", WRITERS)
def test_right_matrix_or_a_clear_error(layout, tmp_path):
    wrong = {}
    for number, chosen in enumerate(combinations(layout)):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            check(layout, *chosen, folder)
        except Exception as error:
            wrong[chosen] = f"{type(error).__name__}: {error}"[:400]
    assert not wrong


def test_there_are_enough_combinations():
    assert sum(len(combinations(layout)) for layout in WRITERS) >= 230


@pytest.mark.parametrize("layout", [name for name, writer in WRITERS.items() if writer])
def test_damaged_files_are_refused_in_three_lines(layout, tmp_path):
    path = tmp_path / layout
    WRITERS[layout](made("log", "plain", "alone")[0], path)
    files = [file for file in (path, *path.rglob("*")) if file.is_file()]
    file = next((f for f in files if "matrix" in f.name or f.name == "0.0"), files[0])
    whole, page = file.read_bytes(), b"<!DOCTYPE html><html></html>"
    for damage in (whole[: len(whole) // 2 - 7], b"", page, b"\x00" * 90):
        file.write_bytes(damage)
        with pytest.raises(SclinError) as caught:
            datasets.load(path)
        assert str(caught.value).count("\n") < 3


class R:
    """What the package rdata makes of an S4 object."""

    def __init__(self, **slots):
        self.__dict__.update({name.replace("_", "."): slot for name, slot in slots.items()})


def dgc(X):
    genes = sp.csc_matrix(X.T)
    slots = {"x": genes.data, "i": genes.indices, "p": genes.indptr, "Dim": genes.shape}
    return R(**slots, Dimnames=[None, None])


def test_a_seurat_object_of_version_5_is_put_together_by_its_maps(tmp_path, monkeypatch):
    xarray = pytest.importorskip("xarray")
    mine, seen = np.arange(N) % 2 == 0, np.arange(G) < 40
    names, order = ["counts.a", "counts.b", "scale.data"], np.r_[G - 1 : -1 : -1]
    cells = np.c_[mine, ~mine, mine]
    genes = np.c_[seen, seen, seen][order]
    layers = [COUNTS[rows][:, order[genes[:, 0]]] for rows in (mine, ~mine)]
    barcodes = [f"cell{i}" for i in range(N)]
    assay = R(
        layers=dict(zip(names, [*map(dgc, layers), np.zeros((3, 3))], strict=True)),
        cells=xarray.DataArray(cells, dims=["a", "b"], coords={"a": barcodes, "b": names}),
        features=xarray.DataArray(
            genes, dims=["a", "b"], coords={"a": np.array(GENES)[order], "b": names}
        ),
    )
    object_ = R(
        assays={"RNA": assay},
        meta_data=pd.DataFrame({"type": ["t"] * N}, index=barcodes),
        active_assay=["RNA"],
        reductions={"pca": R(cell_embeddings=COUNTS[:, :2])},
    )
    monkeypatch.setattr("rdata.read_rds", lambda path: object_)
    (tmp_path / "x.rds").write_bytes(b"RDX")
    got = datasets.load(tmp_path / "x.rds")
    assert got.uns["sclin"]["found_in"] == "layers['counts.*']" and got.obsm["X_pca"].shape == (
        N,
        2,
    )
    np.testing.assert_array_equal(got[:, GENES].X.toarray(), np.where(seen, COUNTS, 0))


def test_a_folder_of_several_samples_lists_them(tmp_path):
    for sample in ("GSM1_a_", "GSM2_b."):
        scipy.io.mmwrite(tmp_path / f"{sample}matrix.mtx", sp.coo_matrix(COUNTS.T))
        (tmp_path / f"{sample}genes.tsv").write_text("\n".join(GENES))
        (tmp_path / f"{sample}barcodes.tsv").write_text("\n".join(f"c{i}" for i in range(N)))
    with pytest.raises(
        SclinError, match=r"GSM1_a_matrix.mtx, GSM2_b.matrix.mtx; give the path of one"
    ):
        datasets.load(tmp_path)
    got = datasets.load(tmp_path / "GSM2_b.matrix.mtx")
    np.testing.assert_array_equal(got.X.toarray(), COUNTS)
    (tmp_path / "GSM2_b.barcodes.tsv").write_text("c0\n")
    with pytest.raises(SclinError, match="there are 1 barcodes"):
        datasets.load(tmp_path / "GSM2_b.matrix.mtx")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a\tGENE1\tGENE2\nc1\t1,234\t2,345\n", "such as 1,234"),
        (",GENE1,type\nc1,1,B cell\n", "--labels FILE"),
        (",x,y\np,1,2\n", "orientation=genes_in_rows"),
        (",GENE1,GENE2\nc1,1\n", "no separator"),
        (",GENE1,GENE2\nc1,1,2\nc2,3\n", "does not have 2 values"),
        (",GENE1\n", "no rows"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path, content, words):
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(SclinError, match=words):
        datasets.load(tmp_path / "x.csv")
