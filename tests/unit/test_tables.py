"""Files beside the cells, row by the names of cells, as other tools write them."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from sclin import datasets
from sclin.errors import DataError, InputError

NAMES = [f"cell{i}" for i in range(6)]
E = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
ORDER = [3, 1, 5, 0, 2, 4]


@pytest.fixture
def cells(tmp_path):
    """Six cells of four genes, as a table."""
    counts = np.arange(24).reshape(6, 4)
    pd.DataFrame(counts, NAMES, ["ACTB", "TP53", "B2M", "GAPDH"]).to_csv(tmp_path / "cells.csv")
    return datasets.load(tmp_path / "cells.csv")


def shuffled(**columns):
    """Rows in another order, with a cell that is not ours."""
    frame = pd.DataFrame(E[ORDER], [NAMES[i] for i in ORDER]).assign(**columns)
    return pd.concat([frame, frame.iloc[:1].rename({"cell3": "another"})])


def write_adata(path, **obsm):
    frame = shuffled()
    out = ad.AnnData(frame.to_numpy(), obs=pd.DataFrame(index=frame.index))
    out.obsm.update(obsm)
    out.write_h5ad(path)


def test_every_layout_comes_back_in_the_order_of_the_cells(tmp_path, cells):
    np.save(tmp_path / "e.npy", E)
    shuffled().to_csv(tmp_path / "e.csv")
    shuffled().to_csv(tmp_path / "e.tsv.gz", sep="\t")
    # Geneformer: rows are numbered, the names stand in a column of labels.
    shuffled().reset_index(names="cell").iloc[:, [1, 2, 3, 0]].to_csv(tmp_path / "numbered.csv")
    write_adata(tmp_path / "x.h5ad")
    write_adata(tmp_path / "one.h5ad", X_uce=shuffled().to_numpy())
    write_adata(tmp_path / "two.h5ad", X_a=np.zeros((7, 2)), X_b=shuffled().to_numpy())
    for name in (
        "e.npy",
        "e.csv",
        "e.tsv.gz",
        "numbered.csv",
        "x.h5ad",
        "one.h5ad",
        "two.h5ad:X_b",
    ):
        got = datasets.embedding(tmp_path / name, cells)
        np.testing.assert_allclose(got, E, rtol=1e-6, err_msg=name)
        assert got.dtype == np.float32
    with pytest.raises(InputError, match="name one of X_a, X_b"):
        datasets.embedding(tmp_path / "two.h5ad", cells)


@pytest.mark.parametrize(
    ("write", "error", "words"),
    [
        (
            lambda path: np.save(path.with_suffix(".npy"), E[:4]),
            InputError,
            "4 rows, but there are 6",
        ),
        (lambda path: shuffled()[:4].to_csv(path), InputError, "lacks 2 of 6 cells, such as cell2"),
        (lambda path: shuffled(kind="a").to_csv(path), InputError, "'kind' does not hold numbers"),
        (lambda path: pd.DataFrame(E).to_csv(path), InputError, "no column holds names of cells"),
        (lambda path: pd.concat([shuffled()] * 2).to_csv(path), InputError, "more than once"),
        (lambda path: path.with_suffix(".npy").write_bytes(b"x"), DataError, "not a readable"),
        (lambda path: path.with_suffix(".h5ad").write_bytes(b"x"), DataError, "not a readable"),
        (lambda path: None, DataError, "does not exist"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, cells, write, error, words):
    write(tmp_path / "e.csv")
    path = next((p for p in tmp_path.iterdir() if p.stem == "e"), tmp_path / "e.csv")
    with pytest.raises(error, match=words) as caught:
        datasets.embedding(path, cells)
    assert str(caught.value).count("\n") < 3


def test_labels_are_joined_by_the_names_of_cells(tmp_path, cells):
    table = pd.DataFrame({"batch": [1, 2, 3, 4], "barcode": NAMES[:4][::-1], "type": list("abcd")})
    table.to_csv(tmp_path / "labels.csv", sep=";", index=False)
    got = datasets.load(tmp_path / "cells.csv", labels=tmp_path / "labels.csv").obs
    assert got["type"].astype(object).fillna("-").tolist() == ["d", "c", "b", "a", "-", "-"]
    table.assign(barcode="no").to_csv(tmp_path / "other.csv")
    with pytest.raises(InputError, match="no column holds names of cells, such as 'cell0'"):
        datasets.load(tmp_path / "cells.csv", labels=tmp_path / "other.csv")
