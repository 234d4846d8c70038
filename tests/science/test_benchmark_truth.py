"""The linear benchmarks recover simulated truth, and fail where they should."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from sclin.benchmarks import cell_types, cross_species
from sclin.datasets import simulate
from sclin.projection import CentroidProjection


def test_published_transfer_agrees_with_its_formula():
    """Ranks over different genes on the two sides, and a basis that is cut but not ranked anew."""
    data = simulate.species(n_cells=420, n_genes=250, seed=4)
    source, target = data.adatas["human"], data.adatas["mouse"]
    found = cross_species.run(
        {"human": source, "mouse": target}, data, protocol="as_published", n_boot=2
    )
    p = found.predictions["human", "mouse", "all", "rank", "projection"]
    pairs = data.pairs("human", "mouse", kind=None)
    pairs = pairs.drop_duplicates("target").drop_duplicates("source")
    from sklearn.model_selection import train_test_split

    y = source.obs["cell_type"].astype(str).to_numpy()
    names, counts = np.unique(y, return_counts=True)
    rows = np.flatnonzero(np.isin(y, names[counts > 50]))
    train, _ = train_test_split(rows, test_size=0.1, stratify=y[rows], random_state=42)
    basis = CentroidProjection().fit(sparse.csr_matrix(source.X)[train], y[train])
    from scipy.special import ndtri
    from scipy.stats import rankdata

    X = target[:, pairs["target"]].X.toarray()
    z = ndtri(rankdata(X, axis=1) / (X.shape[1] + 1))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    B = basis.basis_[source.var_names.get_indexer(pairs["source"])]
    a = np.linalg.solve(B.T @ B, B.T @ z.T)
    assert (basis.classes_[a.argmax(axis=0)] == p.y_pred).mean() > 0.995


def test_a_type_that_only_one_donor_has_cannot_be_named_when_that_donor_is_out():
    rng = np.random.default_rng(0)
    y = np.array(["a", "b"] * 60, dtype=object)
    donor = np.repeat(["d1", "d2", "d3"], 40)
    y[:10] = "only in d1"
    rates = np.full((120, 30), 1.0)
    for i, kind in enumerate(["a", "b", "only in d1"]):
        rates[y == kind, 10 * i : 10 * (i + 1)] = 6
    cells = AnnData(
        sparse.csr_matrix(rng.poisson(rates).astype(np.float32)),
        obs=pd.DataFrame({"cell_type": y, "donor": donor}, index=[f"c{i}" for i in range(120)]),
    )
    found = cell_types.run(
        cells, representations=["rank"], heads=["centroid"], controls=False, min_cells=5, n_boot=10
    )
    p = found.predictions["cells", "rank", "centroid"]
    assert p.n_unseen == 10
    assert "10 cells of unseen classes" in found.results["note"].iloc[0]
    assert found.per_class.set_index("class").loc["only in d1", "f1"] == 0
    assert (p.y_pred[p.y_true == "a"] == "a").mean() > 0.9


def test_macro_f1_by_hand():
    """Two donors, six cells each, one cell called wrongly."""
    X = np.array([[9, 0, 1], [9, 1, 0], [8, 0, 0], [1, 9, 0], [0, 9, 1], [1, 8, 1]] * 2)
    y = np.array(["a", "a", "a", "b", "b", "b"] * 2)
    X[2] = [1, 9, 0]  # an a that looks like b
    cells = AnnData(
        sparse.csr_matrix(X.astype(np.float32)),
        obs=pd.DataFrame(
            {"cell_type": y, "donor": ["d1"] * 6 + ["d2"] * 6}, index=[f"c{i}" for i in range(12)]
        ),
    )
    found = cell_types.run(
        cells, representations=["lognorm"], heads=["centroid"], controls=False, min_cells=2,
        n_boot=10,
    )  # fmt: skip
    row = found.results.query("metric == 'macro_f1'").iloc[0]
    p = found.predictions["cells", "lognorm", "centroid"]
    assert p.y_true.size == 12 and p.y_pred[list(p.cell).index(2)] == "b"
    f1 = []
    for kind in "ab":
        hits = sum((t == kind) and (g == kind) for t, g in zip(p.y_true, p.y_pred, strict=True))
        f1.append(2 * hits / ((p.y_true == kind).sum() + (p.y_pred == kind).sum()))
    assert row["value"] == pytest.approx(sum(f1) / 2, abs=1e-6)
