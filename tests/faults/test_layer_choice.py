"""A layer store that does not hold the cells is refused, with what is missing and the remedy."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sclin.errors import ModelError
from sclin.layers import selection


def cells(prefix):
    rng = np.random.default_rng(0)
    counts = sparse.csr_matrix(rng.poisson(1.0, (30, 40)).astype(np.float32))
    obs = pd.DataFrame(index=[f"{prefix}{i}" for i in range(30)])
    return ad.AnnData(counts, obs=obs)


def test_a_store_of_other_cells_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setenv("SCLIN_LAYERS", str(tmp_path))
    from sclin import layers

    mine = cells("mine")
    network = layers.tiny.train(mine, random_weights=True, n_genes=30, depth=2, width=16)
    store = layers.extract(network, mine, progress=False)
    found = selection.layer_arrays("tiny-random", mine, seed=0)
    assert list(found) == [f"layer:tiny-random/{i}" for i in ("0", "1", "2", "3", "4", "final")]
    with pytest.raises(ModelError):
        store.rows(cells("yours"))
    with pytest.raises(ModelError, match="holds these 30 cells") as error:
        layers.find_store("tiny-random", cells("yours"))
    assert "layers.extract" in str(error.value)


def test_a_model_without_a_store_says_how_to_make_one(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setenv("SCLIN_LAYERS", str(tmp_path))
    with pytest.raises(ModelError, match=r"No layer store of 'scfoundation'.*layers\.extract"):
        selection.layer_arrays("scfoundation", cells("mine"))
