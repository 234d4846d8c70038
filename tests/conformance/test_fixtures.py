"""Every array of the full fixtures, made by the official code (folder in SCLIN_FIXTURES)."""

import os
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import torch

from sclin import layers

FIXTURES = Path(os.environ.get("SCLIN_FIXTURES", "/nonexistent"))
pytestmark = pytest.mark.skipif(
    not FIXTURES.is_dir(), reason="SCLIN_FIXTURES does not name the folder of the fixtures"
)


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, atol=5e-5, rtol=1e-4)


def run(model, adata, poolings, *, padded):
    """Tokens, states and poolings of every layer."""
    cells = model.reader(adata)(0, adata.n_obs)
    states, pooled = {}, {}
    with torch.inference_mode():
        for name, x, packing in model.states(cells, padded=padded):
            starts = packing.starts.tolist()
            states[name] = [
                x[s : s + n].clone().numpy() for s, n in zip(starts, packing.valid, strict=True)
            ]
            for pooling in poolings:
                pooled[name, pooling] = model.pool(x, packing, pooling).numpy()
    return cells, states, pooled


def tokens(cells, i):
    return slice(cells.starts[i], cells.starts[i] + cells.lengths[i])


def fixture_layers(model, last):
    return {"0": "embed"} | {str(i + 1): f"block{i}" for i in range(model.depth)} | last


# ---- scFoundation ---------------------------------------------------------------------------

SCF = FIXTURES / "scfoundation"


@pytest.fixture(scope="module")
def scf_vocabulary(tmp_path_factory):
    for folder in os.environ.get("SCLIN_DATA", "").split(os.pathsep):
        file = Path(folder) / "OS_scRNA_gene_index.19264.tsv"
        if file.is_file():
            return file
    pytest.skip("OS_scRNA_gene_index.19264.tsv is not in SCLIN_DATA")


@pytest.mark.parametrize("padded", [False, True])
def test_scfoundation_every_token_layer_and_pooling(scf_vocabulary, padded):
    model = layers.load_model(
        "scfoundation", checkpoint=SCF / "models.ckpt", vocabulary=scf_vocabulary
    )
    adata = ad.read_h5ad(SCF / "counts.h5ad")
    single, pools = np.load(SCF / "layers_single.npz"), np.load(SCF / "layers_pooled.npz")
    names = {"S": "S", "T": "T", "max": "max_genes", "mean": "mean_genes", "max_all": "max_all"}
    cells, states, pooled = run(model, adata, names, padded=padded)
    for ours, theirs in fixture_layers(model, {"final": "final_norm"}).items():
        for i in range(adata.n_obs):
            close(states[ours][i], single[f"cell{i}/{theirs}"])
        for pooling, key in names.items():
            close(pooled[ours, pooling], pools[f"{theirs}/{key}"])
    for i in range(adata.n_obs):
        np.testing.assert_array_equal(cells.ids[tokens(cells, i)], single[f"cell{i}/positions"])
        close(cells.values[tokens(cells, i)], single[f"cell{i}/values"])


@pytest.mark.parametrize("key", ["cell_F_t4", "cell_F_f1", "cell_F_f2", "cell_F_a5", "rde_F_t4"])
def test_scfoundation_official_output(scf_vocabulary, key):
    weights, _, depth = key.split("_")
    model = layers.load_model(
        "scfoundation",
        checkpoint=SCF / "models.ckpt",
        vocabulary=scf_vocabulary,
        key=weights,
        depth_token=depth,
    )
    wanted = np.load(SCF / "official_pooled.npz")
    adata = ad.read_h5ad(SCF / "counts.h5ad")
    _, _, pooled = run(model, adata, ("official", "max_all"), padded=False)
    found = [f"{key}_{part}" for part in ("all", "max") if f"{key}_{part}" in wanted]
    if not found:
        pytest.skip(f"the fixture has no {key}")
    for name in found:
        pooling = "official" if name.endswith("all") else "max_all"
        close(pooled["final", pooling], wanted[name])


@pytest.mark.parametrize("values", ["log", "log_with_total"])
def test_scfoundation_other_inputs(scf_vocabulary, values):
    adata = ad.read_h5ad(SCF / "counts.h5ad")
    inside = adata[:, adata.var["in_vocab"].to_numpy(bool)].copy()
    inside.obs["total"] = np.asarray(inside.X.sum(1)).ravel()
    scale = sp.diags(1e4 / inside.obs["total"].to_numpy(np.float64))
    inside.X = sp.csr_matrix((scale @ inside.X.astype(np.float64)).log1p())
    model = layers.load_model(
        "scfoundation",
        checkpoint=SCF / "models.ckpt",
        vocabulary=scf_vocabulary,
        values=values,
        total="total" if values == "log_with_total" else None,
    )
    key = {"log": "cell_T_t4_all", "log_with_total": "cell_A_t4_all"}[values]
    _, _, pooled = run(model, inside, ["official"], padded=False)
    close(pooled["final", "official"], np.load(SCF / "official_pooled.npz")[key])


def test_scfoundation_reference_bug_on_request(scf_vocabulary, tmp_path):
    model = layers.load_model(
        "scfoundation", checkpoint=SCF / "models.ckpt", vocabulary=scf_vocabulary
    )
    adata = ad.read_h5ad(SCF / "counts.h5ad")
    store = layers.extract(
        model, adata, tmp_path / "x", pooling=["last_column", "S"], layers=[3], progress=False
    )
    wanted = np.load(SCF / "reference_bug_last_position.npz")
    close(store.read(3, "last_column"), wanted["wrong_block2_last_position"])
    close(store.read(3, "S"), wanted["true_block2_S"])


def test_scfoundation_value_bins(scf_vocabulary):
    model = layers.load_model(
        "scfoundation", checkpoint=SCF / "models.ckpt", vocabulary=scf_vocabulary
    )
    table = np.load(SCF / "autobin_table.npz")
    name = next(k for k in table if table[k].ndim == 1)
    values = torch.from_numpy(table[name].astype(np.float32))
    ordinary = (values != 102) & (values != 103)
    with torch.inference_mode():
        close(model.token_emb.weights(values[ordinary]), table["bin_weights"][ordinary])
        close(model.token_emb(values[ordinary]), table["embedding"][ordinary])


# ---- Tahoe-x1 -------------------------------------------------------------------------------


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", ["tinyA", "tinyB"])
def test_tahoe_every_token_layer_and_pooling(name, padded):
    folder = FIXTURES / "tahoe"
    if not (folder / f"{name}-model").is_dir():
        pytest.skip(f"no {name} among the fixtures")
    single = np.load(folder / f"{name}_layers_single.npz")
    pools = np.load(folder / f"{name}_layers_pooled.npz")
    quirk = single["cell1/values"][1] == single["cell1/raw"][1] > 50
    model = layers.load_model("tahoe-x1", folder / f"{name}-model", official_3b=bool(quirk))
    adata = ad.read_h5ad(folder / f"{name}_counts.h5ad")
    names = {"CLS": "CLS", "mean": "mean_genes", "mean_all": "mean_all"}
    cells, states, pooled = run(model, adata, [*names, "official"], padded=padded)
    for ours, theirs in fixture_layers(model, {"final": "final_norm"}).items():
        for i in range(adata.n_obs):
            close(states[ours][i], single[f"cell{i}/{theirs}"])
        for pooling, key in names.items():
            close(pooled[ours, pooling], pools[f"{theirs}/{key}"])
    for i in range(adata.n_obs):
        np.testing.assert_array_equal(cells.ids[tokens(cells, i)], single[f"cell{i}/gene_ids"])
        np.testing.assert_array_equal(cells.values[tokens(cells, i)], single[f"cell{i}/values"])
    wanted = np.load(folder / f"{name}_official_embeddings.npz")
    close(pooled["final", "official"], wanted["cell_emb_l2"])
    total = np.zeros(wanted["gene_emb_mean"].shape)
    seen = np.zeros(len(total))
    for i in range(adata.n_obs):
        ids = cells.ids[tokens(cells, i)]
        np.add.at(total, ids, states["final"][i])
        np.add.at(seen, ids, 1)
    genes = [v for g, v in model.vocabulary.items() if not g.startswith("<") and seen[v]]
    close((total[genes].T / seen[genes]).T, wanted["gene_emb_mean"][genes])


# ---- Geneformer -----------------------------------------------------------------------------


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", ["v1_tiny", "v2_tiny"])
def test_geneformer_every_token_layer_and_pooling(name, padded):
    folder = FIXTURES / "geneformer"
    if not (folder / name).is_dir():
        pytest.skip(f"no {name} among the fixtures")
    model = layers.load_model(
        "geneformer",
        folder / name,
        token_dictionary=folder / f"{name}_token_dictionary.json",
        gene_medians=folder / f"{name}_gene_median_dictionary.json",
    )
    hidden = np.load(folder / f"{name}_hidden_states.npz")
    pools = np.load(folder / f"{name}_pooled.npz")
    adata = ad.read_h5ad(folder / f"{name}_counts.h5ad")
    poolings = [p for p in ("mean", "CLS") if p in model.all_poolings]
    cells, states, pooled = run(model, adata, poolings, padded=padded)
    for i in range(adata.n_obs):
        n = cells.lengths[i]
        np.testing.assert_array_equal(cells.ids[tokens(cells, i)], hidden["input_ids"][i, :n])
        assert n == hidden["attention_mask"][i].sum()
    for layer in range(model.depth + 1):
        for i in range(adata.n_obs):
            close(states[str(layer)][i], hidden[f"hidden_states_{layer}"][i, : cells.lengths[i]])
        close(pooled[str(layer), "mean"], pools[f"layer{layer}/cell_mean"])
        if "CLS" in poolings:
            close(pooled[str(layer), "CLS"], pools[f"layer{layer}/cls"])
