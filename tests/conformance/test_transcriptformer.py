"""TranscriptFormer against arrays of the official code and against its formulas in float64."""

import json
import os
import tarfile
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import torch

from sclin import layers
from sclin.errors import ModelError

FIXTURE = Path(os.environ.get("SCLIN_FIXTURES", "/nonexistent")) / "transcriptformer" / "a"
SPECIAL = ["unknown", "[START]", "[END]", "[RD]", "[CELL]", "[PAD]", "[MASK]"]
official = pytest.mark.skipif(
    not FIXTURE.is_dir(), reason="SCLIN_FIXTURES does not name the folder of the fixtures"
)


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, atol=5e-5, rtol=1e-4)


def pooled(model, cells, pooling, *, padded=False):
    """``(n_layers, n_cells, width)``."""
    tokens = model.reader(cells, min_matched=0)(0, cells.n_obs)
    with torch.inference_mode():
        return np.stack(
            [model.pool(x, p, pooling).numpy() for _, x, p in model.states(tokens, padded=padded)]
        )


@pytest.fixture(scope="module")
def model():
    return layers.load_model("transcriptformer", FIXTURE)


@pytest.fixture(scope="module")
def cells():
    return ad.read_h5ad(FIXTURE / "cells.h5ad")


@official
def test_tokens_equal_official(model, cells):
    arrays, tokens = np.load(FIXTURE / "arrays.npz"), model.reader(cells)(0, cells.n_obs)
    assert model.vocabulary == json.loads((FIXTURE / "gene_vocab.json").read_text())
    np.testing.assert_array_equal(tokens.lengths - 1, arrays["n_positions"])
    for i, (start, n) in enumerate(zip(tokens.starts, arrays["n_positions"], strict=True)):
        ids, values = (x[start : start + n + 1] for x in (tokens.ids, tokens.values))
        assert ids[0] - len(model.vocabulary) == arrays["aux"][i, 0]
        assert (values[0] < 0) == (arrays["aux"][i, 0] == 0)
        assert (ids[1], values[1]) == (1, 1)
        np.testing.assert_array_equal(ids[2:], arrays["gene_token_indices"][i, : n - 1])
        np.testing.assert_array_equal(values[2:], arrays["gene_counts"][i, : n - 1])


@official
@pytest.mark.parametrize("padded", [False, True])
def test_every_layer_and_pooling_equals_official(model, cells, padded):
    arrays = np.load(FIXTURE / "arrays.npz")
    for pooling in ("mean", "official"):
        close(pooled(model, cells, pooling, padded=padded), arrays[pooling])
    close(pooled(model, cells, "official", padded=padded)[-1], arrays["published"])


@official
def test_official_pooling_tells_the_number_of_genes(model, cells):
    n = np.load(FIXTURE / "arrays.npz")["n_positions"]
    length = np.linalg.norm(pooled(model, cells, "official")[-1], axis=1)
    assert np.corrcoef(n, length)[0, 1] > 0.999
    own = np.linalg.norm(pooled(model, cells, "mean")[-1], axis=1)
    assert own.std() / own.mean() < 0.1 < length.std() / length.mean()


@official
def test_an_archive_gives_what_the_folder_gives(model, cells, tmp_path):
    file = tmp_path / "tf_a.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        archive.add(FIXTURE, arcname="tf_a")
    again = layers.load_model("transcriptformer", file)
    assert again.checkpoint_sha256 == model.checkpoint_sha256
    np.testing.assert_array_equal(pooled(again, cells, "mean"), pooled(model, cells, "mean"))


@official
def test_input_mean_is_the_mean_of_the_protein_embeddings(model, cells):
    files = [h5py.File(FIXTURE / "vocabs" / f"species{i}_gene.h5")["arrays"] for i in (1, 0)]
    known = {gene: file[gene][:] for file in files for gene in file}
    found = model.input_mean(cells)
    for i in (0, 1, 5):
        genes = cells.var["ensembl_id"].str.split(".").str[0].to_numpy()[cells.X[i].indices]
        close(found[i], np.mean([known[gene] for gene in genes if gene in known], axis=0))


# ---- other shapes, against the formulas ---------------------------------------------------------


def write_model(folder, *, features=6, seed=0, aux=True, **sizes):
    """A random model in the official layout."""
    rng = np.random.default_rng(seed)
    genes = [f"ENSG{i:011d}" for i in range(40)]
    (folder / "vocabs").mkdir(parents=True)
    with h5py.File(folder / "vocabs" / "one_gene.h5", "w") as h5:
        h5["keys"] = np.array(genes, dtype="S")
        for gene in genes:
            h5[f"arrays/{gene}"] = rng.normal(size=features).astype("float32")
    known = {"unknown": 0, "10x": 1}
    (folder / "vocabs" / "assay_vocab.json").write_text(json.dumps(known))
    model_config = {"log_counts_eps": 1e-6, "num_heads": 2, "seq_len": 16, "use_aux": aux, **sizes}
    data_config = {"aux_cols": "assay", "clip_counts": 30, "special_tokens": SPECIAL}
    data_config["esm2_mappings"] = ["one_gene.h5"]
    config = {"model": {"model_config": model_config, "data_config": data_config}}
    (folder / "config.json").write_text(json.dumps(config))
    d, h = sizes["embed_dim"], sizes["model_dim"]
    shapes = {
        "gene_embeddings.embedding.weight": (47, features),
        "gene_embeddings.mlp.layers.0.weight": (d, features),
        "gene_embeddings.mlp.layers.0.bias": (d,),
        "gene_embeddings.mlp.layers.2.weight": (d,),
        "gene_embeddings.mlp.layers.2.bias": (d,),
        "gene_embeddings.mlp.layers.4.weight": (d, d),
        "gene_embeddings.mlp.layers.4.bias": (d,),
        "gene_id_head.layers.0.weight": (d, d),
    }
    shapes |= {"aux_embeddings.assay.weight": (2, d)} if aux else {}
    for block in range(sizes["num_layers"]):
        stem = f"transformer_encoder.encoder_layers.{block}."
        parts = {"linear1": (h, d), "linear2": (d, h)}
        parts |= {f"self_attn.linears.{i}": (d, d) for i in range(4)}
        for part, shape in parts.items():
            shapes[f"{stem}{part}.weight"] = shape
            if sizes["attn_bias" if "attn" in part else "fw_bias"]:
                shapes[f"{stem}{part}.bias"] = shape[:1]
        for part in ("norm1", "norm2"):
            shapes |= {f"{stem}{part}.weight": (d,), f"{stem}{part}.bias": (d,)}
    weights = {key: torch.tensor(rng.normal(0, 0.4, s).astype("f4")) for key, s in shapes.items()}
    torch.save(weights, folder / "model_weights.pt")
    return weights


def cells_for(n=4, seed=1):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.4, (n, 40)).astype("float32")
    counts[0, :3] = 44
    out = ad.AnnData(sp.csr_matrix(counts))
    out.var_names = [f"ENSG{i:011d}" for i in rng.permutation(40)]
    out.obs["assay"] = ["10x", "other", "10x", "10x"][:n]
    return out


def norm(x, w, key):
    x = x - x.mean(1, keepdims=True)
    return x / np.sqrt(x.var(1, keepdims=True) + 1e-5) * w[f"{key}.weight"] + w[f"{key}.bias"]


def linear(x, w, key):
    return x @ w[f"{key}.weight"].T + w.get(f"{key}.bias", 0)


def by_formula(weights, cells, *, aux, softcap, act, num_layers, num_heads=2, context=16):
    """Mean over start and genes after each block, one cell at a time, in float64."""
    w = {key: value.double().numpy() for key, value in weights.items()}
    out = []
    for row, assay in zip(cells.X.toarray(), cells.obs["assay"], strict=True):
        genes = np.flatnonzero(row)[: context - 1]
        ids = [1, *(7 + int(cells.var_names[g][4:]) for g in genes)]
        count = np.array([1, *np.minimum(row[genes], 30)], float)
        e = linear(w["gene_embeddings.embedding.weight"][ids], w, "gene_embeddings.mlp.layers.0")
        e = norm(np.maximum(e, 0), w, "gene_embeddings.mlp.layers.2")
        x, seen = linear(e, w, "gene_embeddings.mlp.layers.4"), np.ones(len(ids), bool)
        if aux:
            x = np.vstack([w["aux_embeddings.assay.weight"][int(assay == "10x")], x])
            count, seen = np.append(1.0, count), np.append(assay == "10x", seen)
        states = [x[aux:].mean(0)]
        for block in range(num_layers):
            stem = f"transformer_encoder.encoder_layers.{block}."
            x = norm(x, w, f"{stem}norm1")
            q, k, v = (
                linear(x, w, f"{stem}self_attn.linears.{i}").reshape(len(x), num_heads, -1)
                for i in range(3)
            )
            score = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(q.shape[2]) + np.log1p(count + 1e-6)
            score = softcap * np.tanh(score / softcap) if softcap else score
            allowed = np.tril(np.ones((len(x), len(x)), bool)) & seen
            part = np.where(allowed, np.exp(score), 0)
            part = part / np.maximum(part.sum(2, keepdims=True), 1e-300)
            mixed = np.einsum("hij,jhd->ihd", part, v).reshape(len(x), -1)
            x = linear(mixed, w, f"{stem}self_attn.linears.3") + x
            x = norm(x, w, f"{stem}norm2")
            up = torch.tensor(linear(x, w, f"{stem}linear1"))
            x = linear(getattr(torch.nn.functional, act)(up).numpy(), w, f"{stem}linear2") + x
            states.append(x[aux:].mean(0))
        out.append(states)
    return np.array(out).transpose(1, 0, 2)


@pytest.mark.parametrize(
    ("aux", "softcap", "act", "bias", "depth"),
    [(True, 10, "gelu", False, 2), (False, 0, "relu", True, 3), (True, 0, "silu", True, 1)],
)
def test_other_shapes_load_by_the_same_code(tmp_path, aux, softcap, act, bias, depth):
    sizes = {"embed_dim": 8, "model_dim": 12, "num_layers": depth, "activation": act}
    sizes |= {"attn_bias": bias, "fw_bias": bias, "softcap": softcap}
    weights, cells = write_model(tmp_path / "m", aux=aux, **sizes), cells_for()
    model = layers.load_model("transcriptformer", tmp_path / "m")
    wanted = by_formula(weights, cells, aux=aux, softcap=softcap, act=act, num_layers=depth)
    close(pooled(model, cells, "mean"), wanted)
    assert model.reader(cells, min_matched=0)(0, 4).cut.max() > 0  # the context is in play


SIZES = {"embed_dim": 8, "model_dim": 8, "num_layers": 1, "activation": "gelu"}
SIZES |= {"attn_bias": False, "fw_bias": False, "softcap": 10}


def test_another_species_takes_the_place_of_the_genes(tmp_path):
    write_model(tmp_path / "m", **SIZES)
    with h5py.File(tmp_path / "mouse_gene.h5", "w") as h5:
        h5["keys"] = np.array(["ENSMUSG1", "ENSMUSG2"], dtype="S")
        h5["arrays/ENSMUSG1"], h5["arrays/ENSMUSG2"] = np.ones((2, 6), "float32")
    model = layers.load_model(
        "transcriptformer", tmp_path / "m", species=tmp_path / "mouse_gene.h5"
    )
    human = layers.load_model("transcriptformer", tmp_path / "m")
    assert list(model.vocabulary)[7:] == ["ENSMUSG1", "ENSMUSG2"]
    close(model.genes.weight[:7].detach(), human.genes.weight[:7].detach())
    assert model.checkpoint_sha256 != human.checkpoint_sha256
    mouse = ad.AnnData(np.array([[1.0, 0.0], [2.0, 5.0]], "float32"))
    mouse.var_names = ["ENSMUSG1", "ENSMUSG2"]
    assert np.isfinite(pooled(model, mouse, "mean")).all()
    close(model.input_mean(mouse), np.ones((2, 6)))


def test_the_order_of_the_genes_in_the_file_is_part_of_the_input(tmp_path):
    write_model(tmp_path / "m", **SIZES)
    model, cells = layers.load_model("transcriptformer", tmp_path / "m"), cells_for()
    there, back = (pooled(model, x, "mean")[-1] for x in (cells, cells[:, ::-1].copy()))
    assert np.abs(there - back).max() > 1e-3


def spoil_weights(folder):
    (folder / "model_weights.pt").write_bytes(b"PK")


def spoil_names(folder):
    with h5py.File(folder / "vocabs" / "one_gene.h5", "a") as h5:
        del h5["keys"]


def spoil_config(folder):
    (folder / "config.json").unlink()


def spoil_vocabulary(folder):
    with h5py.File(folder / "vocabs" / "one_gene.h5", "a") as h5:
        names = h5["keys"][:-1]
        del h5["keys"]
        h5["keys"] = names


@pytest.mark.parametrize("spoil", [spoil_weights, spoil_names, spoil_config, spoil_vocabulary])
def test_damaged_folders_are_refused(tmp_path, spoil):
    write_model(tmp_path / "m", **SIZES)
    spoil(tmp_path / "m")
    with pytest.raises(ModelError) as error:
        layers.load_model("transcriptformer", tmp_path / "m")
    assert str(tmp_path / "m") in str(error.value)
    assert str(error.value).count("\n") < 3


def test_an_archive_that_leaves_its_folder_is_refused(tmp_path):
    with tarfile.open(tmp_path / "bad.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../outside"))
    with pytest.raises(ModelError, match="archive"):
        layers.load_model("transcriptformer", tmp_path / "bad.tar.gz")
    assert not (tmp_path.parent / "outside").exists()
