"""Batches, the store, resuming, ranks, inputs on disk, the tiny model and the command line."""

import json
import multiprocessing
import os
import time
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from click.testing import CliRunner

import sclin
from sclin import datasets, layers
from sclin.cli import main
from sclin.errors import ModelError
from sclin.layers import engine
from sclin.layers.engine import batches
from sclin.layers.models.huggingface import HuggingFaceEncoder
from sclin.layers.models.scfoundation import ScFoundation
from sclin.layers.store import LayerStore
from sclin.layers.tokens import match_genes

GENES = {f"G{i:03d}": i for i in range(120)}


def toy(n=150, seed=0):
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.02, 0.9, n)
    counts = rng.poisson(1.5, (n, 120)) * (rng.random((n, 120)) < depth[:, None])
    counts[3] = 0
    return ad.AnnData(
        sp.csr_matrix(counts.astype(np.float32)),
        obs=pd.DataFrame(index=[f"cell{i}" for i in range(n)]),
        var=pd.DataFrame(index=list(GENES)),
    )


def network(**options):
    return ScFoundation.random(width=32, depth=3, heads=4, n_genes=120, vocabulary=GENES, **options)


def test_batches_hold_every_cell_once_within_the_budget():
    lengths = np.random.default_rng(0).integers(0, 90, 200)
    groups = list(batches(lengths, tokens=256))
    assert sorted(np.concatenate(groups)) == np.flatnonzero(lengths).tolist()
    assert all(lengths[g].sum() <= 256 for g in groups)
    in_order = list(batches(lengths, tokens=1, cells=8))
    assert np.concatenate(in_order).tolist() == np.flatnonzero(lengths).tolist()


def test_layers_follow_the_cells_and_do_not_depend_on_batches(tmp_path):
    adata, model = toy(), network()
    poolings = ["S", "T", "mean", "max", "mean_all", "max_all", "official"]
    store = layers.extract(model, adata, tmp_path / "a", pooling=poolings, progress=False)
    other = layers.extract(
        model,
        adata,
        tmp_path / "b",
        pooling=poolings,
        padded=True,
        batch_tokens=300,
        progress=False,
    )
    assert store.layers == ["0", "1", "2", "3", "final"]
    assert (store.obs["n_tokens"] == 0).tolist() == [i == 3 for i in range(150)]
    for pooling in poolings:
        x, y = store.read("final", pooling), other.read("final", pooling)
        assert np.isnan(x[3]).all()
        np.testing.assert_allclose(x, y, atol=5e-5, rtol=1e-4)
    one = model.reader(adata)(7, 8)
    with torch.inference_mode():
        for name, state, packing in model.states(one):
            wanted = model.pool(state, packing, "S").numpy()[0]
            np.testing.assert_allclose(store.read(name, "S")[7], wanted, atol=5e-5, rtol=1e-4)
    assert store.relative_depth(3) == store.relative_depth("final") == 1
    assert store.relative_depth(0) == 0
    assert store.rows(adata[[9, 4, 30]]).tolist() == [9, 4, 30]


def test_the_store_is_an_anndata_that_scanpy_reads(tmp_path):
    adata, model = toy(), network()
    store = layers.extract(model, adata, tmp_path / "a.zarr", pooling="mean", progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = ad.read_zarr(store.path)
    assert read.obs_names.tolist() == adata.obs_names.tolist()
    assert set(read.obsm) == {f"mean_layer_{i}" for i in ("00", "01", "02", "03", "final")}
    np.testing.assert_array_equal(read.obsm["mean_layer_03"], store.read(3))
    assert read.obsm["mean_layer_03"].dtype == np.float32
    assert json.loads(read.uns["sclin"]["manifest"]) == store.manifest
    assert (read.uns["sclin"]["crc32"] >= 0).all()
    sc = pytest.importorskip("scanpy")
    whole = read[read.obs["n_tokens"] > 0].copy()
    sc.pp.neighbors(whole, n_neighbors=5, use_rep="mean_layer_03", method="gauss")
    assert whole.obsp["connectivities"].nnz
    pytest.importorskip("dask")
    lazy = ad.experimental.read_lazy(store.path)
    np.testing.assert_array_equal(lazy.obsm["mean_layer_03"][5:9].compute(), store.read(3)[5:9])


def test_extraction_never_changes_the_model(tmp_path):
    adata, model = toy(), network()
    before = layers.extract(model, adata, tmp_path / "a", progress=False)
    half = layers.extract(model, adata, tmp_path / "b", precision="bfloat16", progress=False)
    after = layers.extract(model, adata, tmp_path / "c", progress=False)
    np.testing.assert_array_equal(before.read(3), after.read(3))
    assert not np.array_equal(half.read(3), after.read(3), equal_nan=True)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("change", ["names", "counts", "one count", "one unexpressed gene"])
def test_genes_and_counts_identify_the_cells(tmp_path, monkeypatch, change):
    monkeypatch.setenv("SCLIN_LAYERS", str(tmp_path))
    adata, model = toy(), network()
    adata.X = sp.csr_matrix(adata.X.multiply(np.arange(120) != 7))
    store = layers.extract(model, adata, progress=False)
    other = adata.copy()
    names = other.var_names.to_numpy(copy=True)
    if change == "names":
        other.var_names = np.roll(names, 1)
    elif change == "counts":
        other.X = toy(seed=1).X
    elif change == "one count":
        other.X.data[other.X.indptr[101] - 1] += 1
    else:
        names[7] = "other"
        other.var_names = names
    with pytest.raises(ModelError, match=r"other genes or counts .*Extract the layers of these"):
        store.rows(other)
    with pytest.raises(ModelError, match="No layer store of"):
        layers.find_store(model, other)
    with pytest.raises(ModelError, match="dataset: store has"):
        layers.extract(model, other, store.path, progress=False)
    apart = layers.extract(model, other, progress=False)
    assert apart.path != store.path
    # The order of the genes and the way they are kept do not make other cells.
    same = adata[:, ::-1].copy()
    same.X = same.X.toarray().astype(np.float64)
    assert store.rows(same[4:9]).tolist() == [4, 5, 6, 7, 8]


def test_input_on_disk_gives_the_same(tmp_path):
    adata, model = toy(), network()
    adata.write_h5ad(tmp_path / "x.h5ad")
    adata.write_zarr(tmp_path / "x.zarr")
    wanted = layers.extract(model, adata, tmp_path / "a", progress=False).read(3)
    for kind in ("h5ad", "zarr"):
        store = layers.extract(model, tmp_path / f"x.{kind}", tmp_path / kind, progress=False)
        np.testing.assert_array_equal(store.read(3), wanted)
    lazy = ad.experimental.read_lazy(tmp_path / "x.h5ad")
    store = layers.extract(model, lazy, tmp_path / "lazy", progress=False)
    np.testing.assert_array_equal(store.read(3), wanted)


def _run(store, stuck=None, **env):
    """Extract the layers of 600 cells, in ranges of 64; with `stuck`, hang in the second write."""
    torch.set_num_threads(1)  # the threads of torch do not outlive a fork
    os.environ.update(env)
    write, calls = LayerStore.write, []

    def hang(self, *args):
        calls.append(args)
        if stuck is not None and len(calls) == 2:
            stuck.release()
            time.sleep(600)
        write(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_RANGE_BYTES", 1)
        patch.setattr(LayerStore, "write", hang)
        return layers.extract(network(), toy(600), store, progress=False)


def _bytes(folder):
    """Content of the numbers and marks of a store."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "zarr.json"
    }


def test_a_killed_worker_is_waited_for_while_it_lives_then_replaced(tmp_path):
    fork, shared = multiprocessing.get_context("fork"), tmp_path / "shared"
    stuck = fork.Semaphore(0)
    killed = fork.Process(target=_run, args=(shared, stuck), kwargs={"RANK": "1"})
    other = fork.Process(target=_run, args=(shared,), kwargs={"RANK": "0"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLD_SIZE", "2")
        killed.start()
        assert stuck.acquire(timeout=60)
        other.start()
    store = LayerStore.open(shared)
    deadline = time.monotonic() + 60
    while not set(store.unfinished) <= {3, 5, 7} and time.monotonic() < deadline:
        time.sleep(0.1)
    other.join(0.5)
    assert other.is_alive() and 3 in store.unfinished
    killed.kill()
    other.join(60)
    assert other.exitcode == 0
    _run(tmp_path / "whole")
    assert _bytes(shared) == _bytes(tmp_path / "whole")
    assert (store.verify()["state"] == "ok").all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shared", "whole"]


def test_duplicate_genes_are_summed_and_versions_dropped():
    names = ["ENSG00000000003.14", "ENSG00000000003", "ENSG00000000005"]
    adata = ad.AnnData(
        sp.csr_matrix(np.array([[1.0, 2, 4]], np.float32)), var=pd.DataFrame(index=names)
    )
    match = match_genes(adata, {"<pad>": 0, "ENSG00000000003": 1, "ENSG00000000005": 2})
    assert match.summed == 1
    assert match.restrict(adata.X).toarray().tolist() == [[3, 4]]


def test_symbols_are_translated_and_said_though_some_ids_stand_among_them(monkeypatch, capsys):
    table = pd.DataFrame({"symbol": ["A", "B", "C"], "ensembl": ["ENSG1", "ENSG2", "ENSG3"]})
    monkeypatch.setattr(datasets, "resource", {"gencode_v44": table}.get)
    names = ["A", "ENSG2", "C", "none"]
    adata = ad.AnnData(np.ones((1, 4), np.float32), var=pd.DataFrame(index=names))
    match = match_genes(adata, {"ENSG1": 0, "ENSG2": 1, "ENSG3": 2}, model="large")
    assert match.slot.tolist() == [0, 1, 2, -1]
    said = "GENCODE v44 named 2 of 4 genes for large by their symbols in var_names.\n"
    assert capsys.readouterr().out == said


def test_tiny_learns_and_is_found_again(tmp_path, monkeypatch):
    monkeypatch.setenv("SCLIN_LAYERS", str(tmp_path))
    adata = toy(80)
    # Two kinds of cells that share no gene, so that the other genes tell which were hidden.
    kind = np.arange(80) % 2
    adata.X = sp.csr_matrix(adata.X.multiply(kind[:, None] == np.arange(120) % 2))
    options = {"steps": 60, "depth": 2, "width": 32, "n_genes": 60, "progress": False}
    options |= {"context": 64, "batch_cells": 64}
    model = layers.tiny.cached(adata, **options)
    curve = model.loss_curve
    assert curve["held_out"].iloc[-1] < curve["held_out"].iloc[0] - 0.2
    started = time.perf_counter()
    same = layers.tiny.cached(adata, **options)
    assert time.perf_counter() - started < 5
    assert same.checkpoint_sha256 == model.checkpoint_sha256
    control = layers.tiny.cached(adata, random_weights=True, **options)
    assert control.name == "tiny-random"
    assert layers.tiny.train(adata, seed=3, **options | {"steps": 1}).name == "tiny-seed3"
    for net in (same, control):
        layers.extract(net, adata, progress=False)
    store = layers.find_store("tiny", adata[5:9])
    assert store.rows(adata[5:9]).tolist() == [5, 6, 7, 8]
    assert not np.allclose(
        store.read(2), layers.find_store("tiny-random", adata).read(2), equal_nan=True
    )


@pytest.mark.parametrize("steps", [1, 2, 10, 11])
def test_tiny_trains_for_any_number_of_steps(steps):
    options = {"depth": 1, "width": 16, "batch_cells": 8, "context": 16, "progress": False}
    model = layers.tiny.train(toy(40), steps=steps, **options)
    assert model.loss_curve["step"].iloc[-1] == steps
    assert np.isfinite(model.loss_curve).all(axis=None)


def by_count(genes, counts):
    return genes[np.argsort(-counts, kind="stable")]


def test_any_encoder_through_a_tokenizer(tmp_path):
    from transformers import DistilBertConfig, DistilBertModel

    torch.manual_seed(0)
    module = DistilBertModel(
        DistilBertConfig(
            vocab_size=130,
            dim=32,
            n_layers=2,
            n_heads=2,
            hidden_dim=64,
            pad_token_id=0,
            max_position_embeddings=128,
        )
    )
    vocabulary = {"<pad>": 0, **{gene: i + 1 for gene, i in GENES.items()}}
    module.eval().save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "vocabulary.json").write_text(json.dumps(vocabulary))
    files = {"vocabulary": tmp_path / "m" / "vocabulary.json", "tokenizer": f"{__name__}:by_count"}
    model = layers.load_model("huggingface", tmp_path / "m", **files)
    assert isinstance(model, HuggingFaceEncoder) and model.options["tokenizer"] == "by_count"
    adata = toy(20)
    store = layers.extract(model, adata, tmp_path / "x", progress=False)
    tokens = model.reader(adata)(0, 1)
    with torch.inference_mode():
        hidden = module(torch.from_numpy(tokens.ids)[None], output_hidden_states=True)
    for i, state in enumerate(hidden.hidden_states):
        np.testing.assert_allclose(store.read(i)[0], state[0].mean(0), atol=5e-5, rtol=1e-4)


def test_command_line(tmp_path):
    adata = toy(60)
    layers.tiny.train(adata, steps=2, depth=1, width=16, folder=tmp_path / "m", progress=False)
    wanted = layers.extract(
        layers.tiny.load(tmp_path / "m"), adata[10:50].copy(), tmp_path / "x", progress=False
    ).read("final")
    adata.layers["molecules"], adata.X = adata.X, np.log1p(adata.X)
    adata.write_h5ad(tmp_path / "x.h5ad")
    call = CliRunner().invoke
    data, store = str(tmp_path / "x.h5ad"), str(tmp_path / "s.zarr")
    model = ["--path", str(tmp_path / "m"), "--quiet", "--layer", "molecules"]
    extract = ["layers", "extract", "tiny", data, store, "--cells", "10:50", *model]
    made = call(main, extract)
    assert made.exit_code == 0, made.output
    np.testing.assert_array_equal(layers.LayerStore.open(store).read("final"), wanted)
    assert "unfinished ranges  0" in call(main, ["layers", "info", store]).output
    assert call(main, ["layers", "verify", store]).output.strip() == "1 ok"
    chunk = next(p for p in (tmp_path / "s.zarr/obsm/mean_layer_01/c").rglob("*") if p.is_file())
    raw = bytearray(chunk.read_bytes())
    raw[0] ^= 255
    chunk.write_bytes(bytes(raw))
    assert call(main, ["layers", "verify", store]).exit_code == 1
    assert "1 ranges marked" in call(main, ["layers", "verify", store, "--repair"]).output
    assert call(main, extract).exit_code == 0
    assert call(main, ["layers", "verify", store]).exit_code == 0
    assert "scfoundation" in call(main, ["layers", "models"]).output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tiny", "--cells", "9:30"], "of 20 cells it takes A:B"),
        (["tiny", "--layer", "raw"], "No option of sim_atlas is called 'layer'"),
        (["scfoundation"], "needs checkpoint= (models.ckpt)"),
        (["geneformer"], "token_dictionary= and gene_medians="),
        (["huggingface", "--path", "."], "vocabulary= and tokenizer= (--vocabulary, --tokenizer)"),
        (["tahoe-x1", "--path", ".", "--vocabulary", "v.json"], "No option of tahoe-x1 is called"),
    ],
)  # fmt: skip
def test_what_extract_lacks_is_named(words, said):
    model, *options = words
    cells = "sim_atlas:n_cells=20,n_genes=40,n_types=2"
    told = CliRunner().invoke(main, ["layers", "extract", model, cells, *options])
    assert told.exit_code == 2 and said in told.output, told.output
    assert told.output.startswith("Error: ")


def test_layers_of_a_store_are_judged_beside_counts(tmp_path, monkeypatch):
    monkeypatch.setenv("SCLIN_LAYERS", str(tmp_path))
    adata = toy(80)
    adata.obs["kind"] = np.resize(["a", "b"], 80)
    model = layers.tiny.train(adata, steps=1, depth=1, width=16, progress=False)
    layers.extract(model, adata, progress=False)
    asked = {"cell_type": "kind", "representations": ["lognorm", "layer:tiny/1"]}
    scores = sclin.judge(adata, **asked).json()["tasks"]["cell_types"]["scores"]
    assert {"lognorm", "layer:tiny/1", "random"} < set(scores)
    with pytest.raises(ModelError, match="layer"):
        sclin.judge(adata, cell_type="kind", representations=["layer:tiny/7"])
