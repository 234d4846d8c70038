"""Conformance from committed arrays and from independent implementations: no files needed."""

import json
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import BertConfig, BertForMaskedLM

from sclin import layers
from sclin.layers.encoder import Packing
from sclin.layers.models.scfoundation import ScFoundation
from sclin.layers.tokens import Cells

DATA = Path(__file__).parent / "data"


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, atol=5e-5, rtol=1e-4)


def cells_of(parts, values=None):
    lengths = np.array([len(p) for p in parts])
    numbers = None if values is None else np.concatenate(values).astype(np.float32)
    ids = np.concatenate(parts).astype(np.int64)
    return Cells.around(ids, numbers, lengths, lengths)


@pytest.mark.parametrize("padded", [False, True])
def test_scfoundation_first_block_equals_official(tmp_path, padded):
    arrays = np.load(DATA / "scfoundation.npz")
    genes = arrays["genes"]
    table = pd.DataFrame({"gene_name": [f"G{i}" for i in genes], "index": range(len(genes))})
    table.to_csv(tmp_path / "genes.tsv", sep="\t", index=False)
    model = layers.load_model(
        "scfoundation", checkpoint=DATA / "scfoundation.ckpt", vocabulary=tmp_path / "genes.tsv"
    )
    place = {g: i for i, g in enumerate([*genes, 19264, 19265])}
    cells = cells_of(
        [np.array([place[p] for p in arrays[f"{c}/positions"]]) for c in ("cell0", "cell1")],
        [arrays[f"{c}/values"] for c in ("cell0", "cell1")],
    )
    with torch.inference_mode():
        for name, x, packing in model.states(cells, padded=padded):
            if name in ("0", "1"):
                for i, start in enumerate(packing.starts.tolist()):
                    wanted = arrays[f"cell{i}/{'embed' if name == '0' else 'block0'}"]
                    close(x[start : start + packing.valid[i]], wanted)


def test_tahoe_tokens_and_embedding_equal_official():
    arrays = np.load(DATA / "tahoe" / "arrays.npz")
    model = layers.load_model("tahoe-x1", DATA / "tahoe")
    for cell in ("cell0", "cell1"):
        genes, raw = arrays[f"{cell}/genes"][1:], arrays[f"{cell}/raw"][1:]
        adata = ad.AnnData(
            sp.csr_matrix(raw[None].astype(np.float32)), var=pd.DataFrame(index=genes)
        )
        tokens = model.reader(adata, min_matched=0)(0, 1)
        np.testing.assert_array_equal(tokens.values, arrays[f"{cell}/values"])
        with torch.inference_mode():
            _, x, _ = next(model.states(tokens))
            close(x, arrays[f"{cell}/embed"])


def test_scfoundation_blocks_equal_torch():
    """The official blocks are PyTorch's own encoder layers, so torch is the judge."""
    model = ScFoundation.random(width=32, depth=3, heads=4, n_genes=50, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    rng = np.random.default_rng(0)
    parts = [np.sort(rng.choice(52, n, replace=False)) for n in (4, 19, 40)]
    cells = cells_of(parts, [rng.random(len(p)) * 5 for p in parts])
    for padded in (False, True):
        with torch.inference_mode():
            states = [(n, x.clone(), p) for n, x, p in model.states(cells, padded=padded)]
        for i in range(3):
            packing = states[0][2]
            start, n = packing.starts[i], packing.valid[i]
            y = states[0][1][start : start + n][None]
            for block, (_, x, _) in zip(model.encoder.blocks, states[1:4], strict=True):
                judge = nn.TransformerEncoderLayer(32, 4, 128, batch_first=True).eval()
                judge.load_state_dict(
                    {
                        "self_attn.in_proj_weight": block.qkv.weight,
                        "self_attn.in_proj_bias": block.qkv.bias,
                        **{
                            f"{theirs}.{k}": getattr(getattr(block, ours), k)
                            for theirs, ours in (
                                ("self_attn.out_proj", "out"),
                                ("linear1", "up"),
                                ("linear2", "down"),
                                ("norm1", "norm1"),
                                ("norm2", "norm2"),
                            )
                            for k in ("weight", "bias")
                        },
                    }
                )
                with torch.inference_mode():
                    y = judge(y)
                close(x[start : start + n], y[0])


@pytest.mark.parametrize(("act", "heads"), [("relu", 2), ("gelu", 4)])
def test_tahoe_3b_layout(tmp_path, act, heads):
    """Specials last, chemistry present, another activation: all read from the files."""
    d, v, depth, rng = 32, 24, 2, torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=rng) * 0.3

    w = {
        "gene_encoder.embedding.weight": draw(v, d),
        "flag_encoder.weight": draw(2, d),
        "expression_encoder.linear1.weight": draw(d, 1),
        "expression_encoder.linear1.bias": draw(d),
        "expression_encoder.linear2.weight": draw(d, d),
        "expression_encoder.linear2.bias": draw(d),
        "mvc_decoder.W.weight": draw(d, d),
        "expression_decoder.out_proj.weight": draw(1, d),
        "chem_encoder.embedding.weight": draw(5, 16),
        "chem_encoder.fc.weight": draw(d, 16),
        "chem_encoder.fc.bias": draw(d),
        "chem_encoder.proj.weight": draw(d, d),
        "chem_encoder.proj.bias": draw(d),
    }
    norms = ["gene_encoder.enc_norm", "expression_encoder.norm", "transformer_encoder.norm"]
    norms.append("chem_encoder.norm")
    for i in range(depth):
        stem = f"transformer_encoder.layers.{i}"
        for name, rows, columns in (
            ("self_attn.Wqkv", 3 * d, d),
            ("self_attn.out_proj", d, d),
            ("up_proj", 4 * d, d),
            ("down_proj", d, 4 * d),
        ):
            w[f"{stem}.{name}.weight"], w[f"{stem}.{name}.bias"] = draw(rows, columns), draw(rows)
        norms += [f"{stem}.norm1", f"{stem}.norm2"]
    for name in norms:
        w[f"{name}.weight"], w[f"{name}.bias"] = 1 + draw(d), draw(d)
    save_file({f"model.{k}": t.contiguous() for k, t in w.items()}, tmp_path / "model.safetensors")
    genes = [f"ENSG{i:011d}" for i in range(20)]
    vocabulary = {g: i for i, g in enumerate([*genes, "<pad>", "<cls>", "<eoc>", "<drug>"])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "model_config.yml").write_text(
        f"d_model: {d}\nn_layers: {depth}\nn_heads: {heads}\nexpansion_ratio: 4\n"
        f"transformer_activation: {act}\nvocab_size: {v}\nexpression_encoder:\n"
        f"  max_value: 512\n  activation: {act}\n"
    )
    (tmp_path / "collator_config.yml").write_text(
        "pad_value: -2\nnum_bins: 51\nkeep_first_n_tokens: 2\nuse_chem_token: true\n"
    )
    counts = np.zeros((1, 20), np.float32)
    counts[0, [3, 5, 6, 11, 19]] = [19, 4, 7, 1, 700]
    adata = ad.AnnData(sp.csr_matrix(counts), var=pd.DataFrame(index=genes))
    f = nn.functional
    activate = {"relu": f.relu, "gelu": f.gelu}[act]

    def norm(x, name):
        return f.layer_norm(x, (d,), w[f"{name}.weight"], w[f"{name}.bias"])

    def linear(x, name):
        return f.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    for quirk in (False, True):
        model = layers.load_model("tahoe-x1", tmp_path, official_3b=quirk)
        tokens = model.reader(adata)(0, 1)
        assert tokens.ids.tolist() == [21, 3, 5, 6, 11, 19]
        assert (tokens.values[1] == 19) == quirk  # noqa: PD011
        value = torch.from_numpy(tokens.values).clamp(max=512)[:, None]
        x = norm(w["gene_encoder.embedding.weight"][tokens.ids], "gene_encoder.enc_norm")
        value = activate(linear(value, "expression_encoder.linear1"))
        x = x + norm(linear(value, "expression_encoder.linear2"), "expression_encoder.norm")
        wanted = [x]
        for i in range(depth):
            stem = f"transformer_encoder.layers.{i}"
            q, k, v_ = (
                part.view(len(x), heads, -1).transpose(0, 1)
                for part in linear(norm(x, f"{stem}.norm1"), f"{stem}.self_attn.Wqkv").chunk(3, -1)
            )
            weight = torch.softmax(q @ k.transpose(1, 2) / (d / heads) ** 0.5, -1)
            mixed = (weight @ v_).transpose(0, 1).reshape(len(x), d)
            x = x + linear(mixed, f"{stem}.self_attn.out_proj")
            inner = activate(linear(norm(x, f"{stem}.norm2"), f"{stem}.up_proj"))
            x = x + linear(inner, f"{stem}.down_proj")
            wanted.append(x)
        wanted.append(norm(x, "transformer_encoder.norm"))
        with torch.inference_mode():
            for (_, found, _), judge in zip(model.states(tokens), wanted, strict=True):
                close(found, judge)


@pytest.mark.parametrize("specials", [[], ["<cls>", "<eos>"]])
@pytest.mark.parametrize("padded", [False, True])
def test_geneformer_equals_transformers(tmp_path, specials, padded):
    genes = [f"ENSG{i:011d}" for i in range(40)]
    words = ["<pad>", "<mask>", *specials, *genes]
    vocabulary = {w: i for i, w in enumerate(words)}
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        hidden_act="gelu" if specials else "relu",
        max_position_embeddings=24,
        layer_norm_eps=1e-12,
        pad_token_id=0,
    )
    bert = BertForMaskedLM(config).eval()
    with torch.no_grad():
        for parameter in bert.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    bert.save_pretrained(tmp_path)
    (tmp_path / "token_dictionary.json").write_text(json.dumps(vocabulary))
    medians = {g: 1.0 + i % 7 for i, g in enumerate(genes)}
    (tmp_path / "gene_median_dictionary.json").write_text(json.dumps(medians))
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.8, (6, 40)).astype(np.float32) * rng.integers(1, 9, 40)
    adata = ad.AnnData(sp.csr_matrix(counts.astype(np.float32)), var=pd.DataFrame(index=genes))
    model = layers.load_model("geneformer", tmp_path)
    cells = model.reader(adata)(0, 6)
    with torch.inference_mode():
        found = [(x.clone(), p) for _, x, p in model.states(cells, padded=padded)]
        for i in range(6):
            ids = cells.ids[cells.starts[i] : cells.starts[i] + cells.lengths[i]]
            score = counts[i] / np.array([medians[g] for g in genes])
            ranked = [
                vocabulary[genes[g]] for g in np.argsort(-score, kind="stable") if score[g] > 0
            ]
            inside = ranked[: 24 - len(specials)]
            assert ids.tolist() == ([2, *inside, 3] if specials else inside)
            out = bert(torch.from_numpy(ids)[None], output_hidden_states=True).hidden_states
            for (x, packing), wanted in zip(found, out, strict=False):
                start = packing.starts[i]
                close(x[start : start + cells.lengths[i]], wanted[0])
                mean = wanted[0][1:-1].mean(0) if specials else wanted[0].mean(0)
                close(model.pool(x, packing, "mean")[i], mean)


def test_packing_of_padded_cells():
    packing = Packing.of([2, 5], torch.device("cpu"), padded=True)
    assert packing.lengths == [5, 5]
    assert packing.valid == [2, 5]
    assert packing.starts.tolist() == [0, 5]


def test_symbols_are_read_as_ensembl_ids_by_gencode(monkeypatch):
    from sclin import datasets
    from sclin.layers.tokens import match_genes

    table = pd.DataFrame({"ensembl": ["ENSG1", "ENSG2", "ENSG9"], "symbol": ["INS", "GCG", "INS"]})
    monkeypatch.setattr(datasets, "resource", lambda name: table)
    cells = ad.AnnData(np.ones((1, 3), "float32"))
    cells.var_names = ["GCG", "none", "INS"]
    found = match_genes(cells, {"<pad>": 0, "ENSG1": 1, "ENSG2": 2})
    np.testing.assert_array_equal(found.slot, [0, -1, 1])
    np.testing.assert_array_equal(found.ids, [2, 1])
