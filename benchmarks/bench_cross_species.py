"""The matrix of 56 transfers between eight simulated species: rank scores, projection.

`n_cells` counts the cells of one species; at the largest size the species hold 74,000 cells and
12,237 to 34,168 genes, as in the paper. The checksum is the mean macro F1.
"""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path

import numpy as np

SIZES, QUICK = (300, 1000, 3000, 9250), (60, 100)


def prepare(folder: Path, n_cells: int) -> dict[str, float]:
    from sclin.datasets import simulate

    data = simulate.species(n_cells=n_cells, n_genes=19_000)
    with (folder / "species.pkl").open("wb") as stream:
        pickle.dump(data, stream)
    every = data.adatas.values()
    return {
        "n_genes": np.mean([a.n_vars for a in every]),
        "seen": sum(a.X.nnz for a in every) / sum(a.n_obs for a in every),
    }


def pairs_of(folder: Path, min_cells: int = 5):
    """Transfers of `sclin.tasks.cross_species`, one by one: cells of both, and the fold."""
    from sclin.tasks import cross_species

    with (folder / "species.pkl").open("rb") as stream:
        data = pickle.load(stream)
    pairs = partial(data.pairs, kind=None)
    return lambda: cross_species.transfers(data.adatas, pairs, "cell_type", min_cells=min_cells)


def by_sclin(folder: Path):
    import sclin
    from sclin.normalization import rank_normalize

    transfers = pairs_of(folder)
    rank_normalize(np.eye(3))  # compiles

    def work():
        tables = [
            sclin.evaluate(
                t.cells, "cell_type", representations=["rank"], heads=["projection"], cv=[t.fold],
                groups="donor", scoring=["f1_macro"], n_boot=200,
            ).table
            for t in transfers()
        ]  # fmt: skip
        return [float(table["value"].iloc[0]) for table in tables]

    return work, np.mean


def by_sctop(folder: Path):
    """The same transfers with sctop; intervals are not computed."""
    from bench_projection import sctop_basis
    from sctop.processing import process, score
    from sklearn.metrics import f1_score

    transfers = pairs_of(folder)
    process(np.eye(3))

    def one(t):
        train, test = (t.cells[rows] for rows in t.fold)
        types = train.obs["cell_type"].to_numpy()
        basis = sctop_basis(train.X.T.tocsc(), types)
        named = score(basis, process(test.X.T.tocsc())).idxmax()
        return f1_score(test.obs["cell_type"], named, average="macro", labels=np.unique(types))

    return lambda: [one(t) for t in transfers()], np.mean


WAYS = {"sclin": by_sclin, "sctop": by_sctop}
UP_TO = {"sctop": 300}
