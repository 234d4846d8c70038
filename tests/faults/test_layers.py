"""Bad input to the layers: the message names what was found, where, and the remedy."""

import errno
import json
import pickle
import re
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
import zarr

from sclin import layers
from sclin.errors import DataError, InputError, ModelError
from sclin.layers.models.geneformer import dictionary
from sclin.layers.models.scfoundation import ScFoundation
from sclin.layers.store import LayerStore

GENES = {f"GENE{i}": i for i in range(60)}


def toy(n=12, names=GENES, seed=0):
    counts = np.random.default_rng(seed).poisson(1.0, (n, 60)).astype(np.float32)
    return ad.AnnData(
        sp.csr_matrix(counts),
        obs=pd.DataFrame(index=[f"cell{i}" for i in range(n)]),
        var=pd.DataFrame(index=list(names)),
    )


@pytest.fixture
def model():
    return ScFoundation.random(width=16, depth=2, heads=2, n_genes=60, vocabulary=GENES)


@pytest.fixture
def checkpoint(tmp_path, model):
    weights = {}
    for name, parameter in model.named_parameters():
        for theirs, ours in reversed(ScFoundation.renames.items()):
            name = name.replace(ours, theirs) if name.startswith("encoder.") else name
        weights[f"model.{name}"] = parameter.detach().clone()
    encoder = {"hidden_dim": 16, "depth": 2, "heads": 2}
    config = {
        "model": "m",
        "model_config": {"m": {"encoder": encoder, "bin_num": 100, "bin_alpha": 1.0}},
        "dataset_config": {"rnaseq": {"seq_len": 62, "pad_token_id": 103}},
    }
    pd.DataFrame({"gene_name": list(GENES), "index": range(60)}).to_csv(
        tmp_path / "v.tsv", sep="\t", index=False
    )
    content = {"cell": {"config": config, "state_dict": weights}}
    torch.save(content, tmp_path / "models.ckpt")
    return tmp_path / "models.ckpt", tmp_path / "v.tsv", content


def load(checkpoint, **options):
    return layers.load_model(
        "scfoundation", checkpoint=checkpoint[0], vocabulary=checkpoint[1], **options
    )


def test_gene_ids_of_the_wrong_kind(model, tmp_path):
    adata = toy(names=[f"ENSG{i:011d}" for i in range(60)])
    with pytest.raises(ModelError, match=r"(?s)hold ids such as ENSG.*reads ids such as.*genes="):
        layers.extract(model, adata, tmp_path / "x", progress=False)


def test_too_few_genes_of_the_vocabulary(model, tmp_path):
    with pytest.raises(ModelError, match=r"Only 5 of the 60 genes.*8\.3 %; 10 % are needed"):
        layers.extract(model, toy()[:, :5].copy(), tmp_path / "x", progress=False)


def test_log_values_and_counts_are_told_apart(model, checkpoint, tmp_path):
    logged = toy()
    logged.X = logged.X.log1p()
    with pytest.raises(ModelError, match=r"looks like log values.*reads counts.*layer="):
        layers.extract(model, logged, tmp_path / "x", progress=False)
    with pytest.raises(ModelError, match=r"looks like counts.*reads log1p values.*layer="):
        layers.extract(load(checkpoint, values="log"), toy(), tmp_path / "y", progress=False)
    negative = toy()
    negative.X = sp.csr_matrix(negative.X.toarray() - 0.5)
    with pytest.raises(ModelError, match="negative values"):
        layers.extract(model, negative, tmp_path / "z", progress=False)


def test_missing_corrupt_and_foreign_checkpoints(checkpoint, tmp_path):
    with pytest.raises(ModelError, match=r"There is no checkpoint .*absent\.ckpt"):
        layers.load_model("scfoundation", checkpoint=tmp_path / "absent.ckpt")
    file = checkpoint[0]
    with pytest.raises(ModelError, match=r"called 'cel'.*Did you mean 'cell'"):
        load(checkpoint, key="cel")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="cannot be read as weights only"):
        load(checkpoint)


def test_unknown_and_missing_keys_are_listed(checkpoint):
    file, _, content = checkpoint
    weights = content["cell"]["state_dict"]
    weights["model.encoder.extra"] = weights.pop("model.encoder.norm.bias")
    torch.save(content, file)
    with pytest.raises(
        ModelError, match=r"Missing.*encoder\.final_norm\.bias.*Unexpected.*encoder\.extra"
    ):
        load(checkpoint)


def test_objects_in_pickles_are_refused(checkpoint, tmp_path):
    (tmp_path / "d.pkl").write_bytes(pickle.dumps({"a": np.float64(1)}))
    assert dictionary(tmp_path, None, "d") == {"a": 1}
    (tmp_path / "d.pkl").write_bytes(pickle.dumps({"a": Path("x")}))
    with pytest.raises(DataError, match="refused"):
        dictionary(tmp_path, None, "d")
    (tmp_path / "l.json").write_text(json.dumps([1]))
    with pytest.raises(DataError, match="holds a list"):
        dictionary(tmp_path, None, "l")


def test_cells_that_are_not_finite_are_named_and_the_others_done(model, tmp_path):
    with torch.no_grad():
        model.pos_emb.weight[7] = float("inf")
    adata = toy()
    bad = adata.X.toarray()[:, 7] > 0
    for _ in range(2):
        with pytest.raises(ModelError, match=rf"not finite for {bad.sum()} of 12 cells, such as c"):
            layers.extract(model, adata, tmp_path / "x", progress=False)
    store = LayerStore.open(tmp_path / "x")
    assert np.isnan(store.read(1)).any(axis=1).tolist() == bad.tolist()


def test_full_disk(model, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    layers.extract(model, toy(), tmp_path / "x", progress=False)
    store = LayerStore.open(tmp_path / "x")
    store.forget([0])
    monkeypatch.setattr("zarr.Array.__setitem__", full)
    with pytest.raises(ModelError, match=r"is full.*Finished ranges are kept"):
        layers.extract(model, toy(), tmp_path / "x", progress=False)


def test_a_batch_too_large_for_the_memory_is_halved_and_said(model, tmp_path, monkeypatch, capsys):
    wanted = layers.extract(model, toy(), tmp_path / "x", progress=False).read(1)
    states, room = ScFoundation.states, 200

    def small(self, cells, **options):
        if cells.lengths.sum() > room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return states(self, cells, **options)

    monkeypatch.setattr(ScFoundation, "states", small)
    halved = layers.extract(model, toy(), tmp_path / "y", progress=False).read(1)
    np.testing.assert_allclose(halved, wanted, atol=1e-5)
    said = re.findall(r"Out of memory with (\d+) tokens", capsys.readouterr().out)
    assert len(said) == len(set(said)) == 2  # the batches after these are small from the start
    room = 10
    with pytest.raises(ModelError, match=r"no room for a cell of \d+ tokens .* kept\.$"):
        layers.extract(model, toy(), tmp_path / "z", progress=False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device": "cuda:7"}, "'cuda:7' was asked for, but torch sees 2 GPU"),
        ({"device": "gpu"}, "'gpu' was asked for"),
        ({"device": "cuda:1", "precision": "bfloat16"}, "there are float32, float16"),
    ],
)
def test_a_device_or_precision_that_is_not_there(model, monkeypatch, options, said):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda place: (7, 5))
    with pytest.raises(InputError, match=said):
        layers.extract(model, toy(), **options)


def test_store_of_another_model_or_dataset(model, tmp_path):
    layers.extract(model, toy(), tmp_path / "x", progress=False)
    other = ScFoundation.random(width=16, depth=2, heads=2, n_genes=60, vocabulary=GENES, seed=1)
    with pytest.raises(ModelError, match=r"made by another run \(checkpoint_sha256: store has"):
        layers.extract(other, toy(), tmp_path / "x", progress=False)
    with pytest.raises(ModelError, match=r"dataset: store has"):
        layers.extract(model, toy(seed=1), tmp_path / "x", progress=False)
    with pytest.raises(ModelError, match="hold other genes or counts"):
        LayerStore.open(tmp_path / "x").rows(toy(seed=1))
    zarr.open_group(tmp_path / "old", mode="w")
    with pytest.raises(ModelError, match=r"old is a zarr group, but no layer store"):
        layers.extract(model, toy(), tmp_path / "old", progress=False)
    (tmp_path / "f").mkdir()
    with pytest.raises(ModelError, match=r"not a zarr group|no layer store"):
        LayerStore.open(tmp_path / "f")


def test_a_store_is_continued_by_the_same_run_only(model, tmp_path, monkeypatch):
    monkeypatch.setenv("SCLIN_LAYERS", str(tmp_path))
    first = layers.extract(model, toy(), progress=False)
    again = layers.extract(model, toy(), progress=False)
    assert again.path == first.path and again.unfinished == []
    others = toy()
    others.obs_names = [f"other{i}" for i in range(others.n_obs)]
    named = toy()
    named.var["symbol"] = named.var_names
    for cells, options, words in (
        (others, {}, "dataset: store has"),
        (toy(20), {}, "n_cells: store has 12, this run 20"),
        (toy(), {"layers": [1]}, "layers: store has"),
        (toy(), {"pooling": "max"}, r"poolings: store has \['S', 'mean'\]"),
        (named, {"genes": "symbol"}, "genes: store has None, this run 'symbol'"),
        (toy(), {"precision": "bfloat16"}, "precision: store has 'float32'"),
    ):
        with pytest.raises(ModelError, match=words):
            layers.extract(model, cells, first.path, progress=False, **options)


def test_fpkm_is_for_models_that_read_ranks(model, tmp_path):
    amounts = toy(40)
    amounts.X = amounts.X * 7.3
    amounts.uns["sclin"] = {"values": "fpkm"}
    with pytest.raises(ModelError, match=r"X holds FPKM.*reads raw counts.*such as geneformer"):
        layers.extract(model, amounts, tmp_path / "x", progress=False)
    tiny = layers.tiny.train(amounts, steps=1, depth=1, width=16, progress=False)
    store = layers.extract(tiny, amounts, tmp_path / "y", progress=False)
    # Ranks do not see the scale of a cell, so counts of the same cells give the same layers.
    counts = layers.extract(tiny, toy(40), tmp_path / "z", progress=False)
    np.testing.assert_array_equal(store.read(1), counts.read(1))


def test_unknown_names(model, tmp_path, monkeypatch):
    monkeypatch.setenv("SCLIN_LAYERS", str(tmp_path))
    with pytest.raises(ModelError, match="Did you mean 'geneformer'"):
        layers.load_model("genefomer")
    with pytest.raises(ModelError, match="has no layer '9'"):
        layers.extract(model, toy(), tmp_path / "x", layers=[9], progress=False)
    with pytest.raises(ModelError, match="has no pooling 'men'"):
        layers.extract(model, toy(), tmp_path / "x", pooling="men", progress=False)
    layers.extract(model, toy(), progress=False)
    with pytest.raises(ModelError, match=r"No layer store of 'tiny'.*layers\.extract"):
        layers.find_store("tiny", toy())
    with pytest.raises(ModelError, match=r"8 of 20 cells are not in scf.*such as cell12.*extract"):
        layers.find_store(model, toy(20))
    with pytest.raises(DataError, match="There is no"):
        layers.extract(model, tmp_path / "absent.h5ad", progress=False)
    store = layers.extract(model, toy(), tmp_path / "x", progress=False)
    with pytest.raises(ModelError, match="has no layer '7'; it has 0, 1, 2, final"):
        store.read(7)


def test_wrong_dictionaries(tmp_path):
    adata = toy(30)
    layers.tiny.train(adata, steps=1, depth=1, width=16, folder=tmp_path, progress=False)
    tokens = json.loads((tmp_path / "token_dictionary.json").read_text())
    tokens["OTHER"] = 999
    (tmp_path / "token_dictionary.json").write_text(json.dumps(tokens))
    with pytest.raises(ModelError, match="different versions of the model"):
        layers.load_model("geneformer", tmp_path)
