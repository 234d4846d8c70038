"""The linear benchmarks recover simulated truth, and fail where they should."""

import numpy as np
from scipy import sparse

from sclin.datasets import simulate
from sclin.projection import CentroidProjection
from sclin.tasks import cross_species


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
