"""The papers' own data: small files of the same layout, served over loopback HTTP."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from loopback import serve

from sclin import datasets
from sclin.datasets import files
from sclin.errors import DataError, InputError

TABULA = (
    "datasets/v1/cell_atlases/Homo_sapiens/Tabula_Sapiens_v2/"
    "homo_sapiens_10df7690-6d10-4029-a47e-0f071bb2df83_{}_v2_curated.h5ad"
)


@pytest.fixture
def site(cache, monkeypatch):
    """Serve objects; the usual variable of S3 clients points at the server."""
    with serve() as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", running.url)
        yield running


def cells(n: int = 40, n_genes: int = 12, seed: int = 0) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    out = ad.AnnData(sp.csr_matrix(rng.poisson(1.0, (n, n_genes)).astype(np.float32)))
    out.var_names = [f"ENSG{i:011d}.{1 + i % 3}" for i in range(n_genes)]
    out.var["feature_name"] = [f"GENE{i}" for i in range(n_genes)]
    out.obs_names = [f"cell{i}" for i in range(n)]
    out.obs["cell_type"] = pd.Categorical(np.resize(["T cell", "B cell"], n))
    return out


def put(site, path: str, adata: ad.AnnData, tmp_path) -> bytes:
    adata.write_h5ad(tmp_path / "made.h5ad")
    site.files[path] = (tmp_path / "made.h5ad").read_bytes()
    return site.files[path]


def tabula(layout: str) -> ad.AnnData:
    """Counts in X, in raw beside log values, or in a layer beside log values."""
    out = cells()
    out.obs["donor_id"] = np.resize(["TSP2", "TSP16", "TSP17", "TSP21"], out.n_obs)
    counts = out.X.copy()
    if layout == "raw":
        out.raw = out.copy()
    if layout == "layer":
        out.layers["decontXcounts"] = counts
    if layout != "X":
        out.X = counts.log1p()
    return out


@pytest.mark.parametrize(
    ("layout", "found"), [("X", "X"), ("raw", "raw"), ("layer", "layers['decontXcounts']")]
)
def test_tabula_sapiens(site, tmp_path, layout, found):
    made = tabula(layout)
    put(site, f"/cz-benchmarks-data/{TABULA.format('Bone_Marrow')}", made, tmp_path)
    got = datasets.load("tabula_sapiens", tissue="bone_marrow")
    assert got.uns["sclin"]["found_in"] == found and got.uns["sclin"]["values"] == "counts"
    assert set(got.obs["donor"]) == {"TSP17", "TSP21"}
    assert got.uns["sclin"]["n_cells_left_out"] == 20
    assert got.var_names[0] == "ENSG00000000000" and got.var["symbol"].iloc[0] == "GENE0"
    early = datasets.load("tabula_sapiens", version="v1")
    assert set(early.obs["donor"]) == {"TSP2"}
    assert datasets.load("tabula_sapiens", version="all").n_obs == 40
    if layout == "X":
        backed = datasets.load("tabula_sapiens", backed=True)
        np.testing.assert_array_equal(backed.X.toarray(), got.X.toarray())
    counts = tabula("X").X.toarray()
    keep = np.flatnonzero(np.isin(np.arange(40) % 4, (2, 3)))
    np.testing.assert_array_equal(got.X.toarray(), counts[keep])
    assert len(site.log) == 1


def test_tabula_sapiens_with_log_values_only_says_so(site, tmp_path):
    made = tabula("raw")
    del made.raw
    put(site, f"/cz-benchmarks-data/{TABULA.format('Large_Intestine')}", made, tmp_path)
    got = datasets.load("tabula_sapiens", tissue="large_intestine")
    assert got.uns["sclin"]["values"] == "log" and got.uns["sclin"]["found_in"] == "X"


def test_tabula_sapiens_without_a_donor_of_the_version(site, tmp_path):
    made = tabula("X")[:1].copy()
    put(site, f"/cz-benchmarks-data/{TABULA.format('Eye')}", made, tmp_path)
    with pytest.raises(InputError, match="donors are TSP2"):
        datasets.load("tabula_sapiens", tissue="eye")
    made.obs = made.obs.drop(columns="donor_id")
    put(site, f"/cz-benchmarks-data/{TABULA.format('Ear')}", made, tmp_path)
    with pytest.raises(InputError, match="'donor_id'; there are cell_type"):
        datasets.load("tabula_sapiens", tissue="ear")


@pytest.mark.parametrize("species", datasets.catalogue()["testis"].choices)
def test_testis(site, tmp_path, species):
    (file,) = datasets.catalogue()["testis"].files_of(species)
    put(site, f"/cz-benchmarks-data/{file.sources[0]['key']}", cells(), tmp_path)
    got = datasets.load("testis", species=species)
    assert got.shape == (40, 12) and got.uns["sclin"]["species"] == species
    assert got.obs["cell_type"].nunique() == 2


def perturbed() -> ad.AnnData:
    out = cells()
    kinds = np.resize(["targeting", "non-targeting"], out.n_obs)
    out.obs["guide_type"] = kinds
    out.obs["perturbed_gene_name"] = np.where(kinds == "targeting", "IL2", "NTC")
    out.obs["lane_id"] = np.resize(["lane1", "lane2"], out.n_obs)
    return out


@pytest.mark.parametrize(
    ("name", "state"),
    [("cd4_perturb", "Rest"), ("cd4_perturb", "Stim8hr"), ("cd4_perturb_D4", "Stim48hr")],
)
def test_cd4_perturb_is_opened_backed(site, tmp_path, name, state, monkeypatch):
    donor = name[-2:] if name[-2] == "D" else "D1"
    key = f"/genome-scale-tcell-perturb-seq/marson2025_data/{donor}_{state}.assigned_guide.h5ad"
    body = put(site, key, perturbed(), tmp_path)
    entry = datasets.catalogue()[name]
    file = entry.files_of(state)[0]
    if file.bytes:  # the real file fills a disk; this one has the same layout
        monkeypatch.setitem(entry.record["variant"]["files"][state][0], "bytes", len(body))
    got = datasets.load(name, state=state)
    assert got.isbacked and got.uns["sclin"]["values"] == "counts"
    assert got.obs["perturbation"].value_counts().to_dict() == {"IL2": 20, "control": 20}
    assert set(got.obs["condition"]) == {state} and set(got.obs["donor"]) == {donor}
    np.testing.assert_array_equal(got.X[3:5].toarray(), perturbed().X[3:5].toarray())
    got.file.close()
    whole = datasets.load(name, state=state, backed=False)
    assert not whole.isbacked and whole.var_names[0] == "ENSG00000000000"


@pytest.mark.parametrize("name", ["brain", "spinal_cord", "liver", "sars_cov_2_lung", "gse276896"])
def test_files_that_the_user_names(site, tmp_path, name, monkeypatch):
    made = cells()
    made.obs["donor_id"] = np.resize(["d1", "d2"], made.n_obs)
    made.obs["infected"] = np.resize(["yes", "no"], made.n_obs)
    made.write_h5ad(tmp_path / "mine.h5ad")
    got = datasets.load(name, path=tmp_path / "mine.h5ad")
    assert got.uns["sclin"]["dataset"] == name and list(got.uns["sclin"]["sha256"]) == ["mine.h5ad"]
    assert got.n_obs == 40
    # Saved under the catalogue's name it is found, and its hash is told.
    (file,) = datasets.catalogue()[name].files_of()
    made.write_h5ad(files.cache_dir() / file.name)
    found = datasets.load(name)
    assert found.n_obs == 40
    path = files.cache_dir() / file.name
    assert found.uns["sclin"]["sha256"] == {file.name: files.sha256_of(path)}


def test_a_truncated_h5ad_that_was_never_seen_before_is_not_readable(site, tmp_path):
    (file,) = datasets.catalogue()["testis"].files_of("mouse")
    key = f"/cz-benchmarks-data/{file.sources[0]['key']}"
    put(site, key, cells(), tmp_path)
    site.files[key] = site.files[key][:3000]
    with pytest.raises(DataError, match="not a readable"):
        datasets.load("testis", species="mouse")
