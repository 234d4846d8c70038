"""What other people's tools write, read by the code that the page shows."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest

from sclin import datasets, tables
from sclin.errors import DataError, InputError

PAGE = (Path(__file__).parents[2] / "book" / "bring_your_model.md").read_text()
RNG = np.random.default_rng(0)


@pytest.fixture
def truth(cells) -> np.ndarray:
    """The embedding of each cell that every tool below computes."""
    return RNG.normal(size=(cells.n_obs, 8)).astype(np.float32)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(heading: str, **names: Any) -> dict[str, Any]:
    """Run the Python of one section of the page, block by block; ``between`` runs in the gaps."""
    (section,) = re.findall(rf"(?ms)^## {re.escape(heading)}$(.*?)(?=^## |\Z)", PAGE)
    space = {"anndata": anndata, "np": np, "pd": pd, "between": lambda: None} | names
    for block in re.findall(r"(?ms)^```python\n(.*?)^```", section):
        exec(block, space)
        space["between"]()
    return space


def handed_over(heading: str) -> str:
    """The file that the command of a section names."""
    (section,) = re.findall(rf"(?ms)^## {re.escape(heading)}$(.*?)(?=^## |\Z)", PAGE)
    (name,) = re.findall(r"--embedding \w+=(\S+)$", section, re.MULTILINE)
    return name


def test_scgpt(cells, truth):
    cells.var["symbol"] = cells.var_names

    def embed_data(adata, model_dir, gene_col):
        adata = adata[:, :50].copy()
        adata.obsm["X_scGPT"] = truth
        return adata

    scgpt = SimpleNamespace(tasks=SimpleNamespace(embed_data=embed_data))
    run("scGPT", cells=cells, scgpt=scgpt)
    judged = datasets.load("cells_scgpt.h5ad")
    assert judged.n_vars == cells.n_vars
    np.testing.assert_array_equal(judged.obsm["X_scGPT"], truth)


def test_uce_drops_cells_and_genes(cells, truth):
    kept = np.flatnonzero(np.arange(cells.n_obs) % 7)
    wrote = cells[kept, :50].copy()
    wrote.obsm["X_pca"], wrote.obsm["X_uce"] = truth[kept, :2], truth[kept]
    wrote.write_h5ad("cells_uce_adata.h5ad")
    run("UCE", cells=cells)
    judged = datasets.load("cells_uce.h5ad")
    assert list(judged.obs_names) == list(cells.obs_names[kept]) and judged.n_vars == cells.n_vars
    np.testing.assert_array_equal(judged.obsm["X_uce"], truth[kept])
    named = datasets.embedding("cells_uce_adata.h5ad:X_uce", judged)
    np.testing.assert_array_equal(named, truth[kept])
    with pytest.raises(InputError, match=r"name one of X_pca, X_uce"):
        datasets.embedding("cells_uce_adata.h5ad", judged)
    with pytest.raises(InputError, match=r"lacks 35 of 240 cells, such as cell0"):
        datasets.embedding("cells_uce_adata.h5ad:X_uce", cells)


def test_transcriptformer_numbers_its_cells(cells, truth):
    def inference():
        Path("inference_results").mkdir(exist_ok=True)
        obs = anndata.read_h5ad("input.h5ad").obs.reset_index(drop=True)
        obs.index = obs.index.astype(str)
        wrote = anndata.AnnData(obs=obs, obsm={"embeddings": truth})
        wrote.write_h5ad("inference_results/embeddings.h5ad")

    run("TranscriptFormer", cells=cells, between=inference)
    found = datasets.embedding(handed_over("TranscriptFormer"), cells[::-1])
    np.testing.assert_array_equal(found, truth[::-1])
    with pytest.raises(InputError, match="no column holds names of cells"):
        datasets.embedding("inference_results/embeddings.h5ad", cells)


def test_geneformer_sorts_its_cells(cells, truth):
    class EmbExtractor:
        def __init__(self, *, emb_mode, emb_label, max_ncells):
            assert (emb_mode, emb_label, max_ncells) == ("cell", ["cell"], None)

        def extract_embs(self, model, data, folder, prefix):
            order = np.argsort(-np.diff(cells.X.indptr), kind="stable")
            table = pd.DataFrame(truth[order])
            table["cell"] = cells.obs_names[order]
            table.to_csv(Path(folder, prefix).with_suffix(".csv"))

    heading = "Geneformer, by its own extractor"
    run(heading, EmbExtractor=EmbExtractor)
    found = datasets.embedding(handed_over(heading), cells)
    np.testing.assert_allclose(found, truth, rtol=1e-6)
    pd.read_csv("geneformer.csv", index_col=0).drop(columns="cell").to_csv("nameless.csv")
    with pytest.raises(InputError, match="no column holds names of cells"):
        datasets.embedding("nameless.csv", cells)


def test_a_running_number_is_not_taken_for_cells_that_are_named_by_numbers(cells, truth):
    cells.obs_names = [str(i) for i in range(cells.n_obs)]
    order = RNG.permutation(cells.n_obs)
    table = pd.DataFrame(truth[order]).assign(cell=cells.obs_names[order])
    table.to_csv("numbered.csv")
    with pytest.raises(InputError, match="columns 'Unnamed: 0' and 'cell' both hold names"):
        datasets.embedding("numbered.csv", cells)
    table.assign(again=table["cell"]).to_csv("named.csv", index=False)
    found = datasets.embedding("named.csv", cells)
    np.testing.assert_allclose(found, truth, rtol=1e-6)
    clusters = pd.DataFrame({"cluster": np.resize([0, 1], len(order)), "cell": cells.obs_names})
    clusters.to_csv("clusters.csv", index=False)
    labels = tables.with_labels(cells.obs, "clusters.csv")
    assert labels["cluster"].tolist() == clusters["cluster"].tolist()
    table[[0, 1]].to_csv("floats.csv", index=False)
    with pytest.raises(InputError, match="no column holds names of cells"):
        datasets.embedding("floats.csv", cells)


def test_helical_returns_an_array(cells, truth):
    geneformer = SimpleNamespace(
        process_data=lambda adata, gene_names: adata, get_embeddings=lambda dataset: truth
    )
    heading = "Geneformer, by helical"
    run(heading, cells=cells, geneformer=geneformer)
    np.testing.assert_array_equal(datasets.embedding(handed_over(heading), cells), truth)
    with pytest.raises(InputError, match="but there are 239 cells"):
        datasets.embedding("geneformer.npy", cells[1:])


def test_scvi(cells, truth):
    run("scVI", cells=cells, model=SimpleNamespace(get_latent_representation=lambda: truth))
    np.testing.assert_array_equal(datasets.load("cells_scvi.h5ad").obsm["X_scVI"], truth)


def test_any_other_model(cells, truth):
    table = run("Any other model", cells=cells, embedding=truth)["table"]
    np.testing.assert_allclose(datasets.embedding("mine.csv", cells[::-1]), truth[::-1], rtol=1e-6)
    table.columns = table.columns.astype(str)
    if importlib.util.find_spec("pyarrow"):
        table.to_parquet("mine.parquet")
        np.testing.assert_array_equal(datasets.embedding("mine.parquet", cells), truth)
    else:
        Path("mine.parquet").write_bytes(b"PAR1")
        with pytest.raises(DataError, match="pip install pyarrow"):
            datasets.embedding("mine.parquet", cells)
