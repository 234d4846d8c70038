"""The same numbers, byte for byte, whatever the number of threads that the user allows."""

from functools import partial

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

import sclin
from sclin import results
from sclin.datasets import simulate
from sclin.linear import ImplicitPCA
from sclin.tasks import manifold


def written(threads, folder, monkeypatch):
    """Bytes of a table of `evaluate` and `measure`, and components, with so many threads."""
    monkeypatch.setenv("SCLIN_RESULTS", str(folder / str(threads)))
    cells = simulate.atlas(n_cells=120, n_genes=150, n_types=3, n_donors=3, seed=0)
    with threadpool_limits(threads):
        judged = sclin.evaluate(
            cells, "cell_type", representations=["counts", "rank_pca"],
            heads=["logistic", "knn"], groups="donor", n_boot=5,
        )  # fmt: skip
        # Counts are whole numbers, so many distances tie.
        flat = partial(manifold.flatness, k=5, n_boot=5)
        tied = sclin.measure(cells, flat, representations=["counts"], task="flat")
        axes = ImplicitPCA(n_components=10).fit(cells.X).components_
    rows = results.table(judged.table, tied.table)
    return results.save(rows, "x").read_bytes(), axes


def test_one_thread_and_two_write_the_same_bytes(tmp_path, monkeypatch):
    (one, axes), (two, others) = (written(n, tmp_path, monkeypatch) for n in (1, 2))
    assert one == two
    np.testing.assert_allclose(axes, others, atol=1e-9)


def test_the_engine_counts_on_one_thread():
    cells = simulate.atlas(n_cells=40, n_genes=30, n_types=2, n_donors=2, seed=0)

    def threads(embedding, cells):
        return {"threads": max(pool["num_threads"] for pool in threadpool_info())}

    with threadpool_limits(2):
        assert threads(None, None)["threads"] == 2
        found = sclin.measure(cells, threads, representations=["counts"])
    assert found.table["value"].tolist() == [1]
