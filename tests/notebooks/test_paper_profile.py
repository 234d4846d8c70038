"""The paper profile of chapters 05 to 10, on small files of the layout of the real ones."""

import os
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from anndata import AnnData

import sclin
from sclin import datasets
from sclin.datasets import simulate
from sclin.tasks import cell_types, cross_species, disease_state, manifold, regulation, structure

PROFILE = Path(__file__).parents[2] / "notebooks" / "profiles" / "paper.yml"
FAST = {"representations": ["rank"], "heads": ["projection"], "n_boot": 5}


@pytest.fixture(scope="module")
def profile():
    return yaml.safe_load(PROFILE.read_text())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    given = tmp_path / "given"
    given.mkdir()
    monkeypatch.setenv("SCLIN_DATA", os.pathsep.join([str(tmp_path / "cache"), str(given)]))
    return given


def write(folder, name, choice, X, obs, genes, symbols):
    """Write cells under the catalogue's file name, with the columns of the real file."""
    (file,) = datasets.catalogue()[name].files_of(*([choice] if choice else []))
    index = [f"cell{i}" for i in range(X.shape[0])]
    var = pd.DataFrame({"feature_name": np.asarray(symbols)}, index=np.asarray(genes))
    obs = {key: np.asarray(values).astype(str) for key, values in obs.items()}
    AnnData(X.copy(), obs=pd.DataFrame(obs, index=index), var=var).write_h5ad(folder / file.name)


def tabula(folder, tissue):
    made = simulate.atlas(n_cells=200, n_genes=150, n_types=3, seed=1)
    donors = [f"TSP{16 + int(d[-1])}" for d in made.obs["donor"]]  # donor1 becomes TSP17
    symbols = ["E2F8", "FOXM1", "SPIB", "MYBL2", "PTTG1", *made.var_names[5:]]
    ids = [f"ENSG{i:011d}" for i in range(150)]
    obs = {"cell_type": made.obs["cell_type"], "donor_id": donors}
    write(folder, "tabula_sapiens", tissue, made.X, obs, ids, symbols)


@pytest.fixture
def testis(folder):
    made = simulate.species(n_cells=200, n_genes=300)
    for name, cells in made.adatas.items():
        kinds = cells.obs["cell_type"]
        obs = {"cell_type": kinds, "cellTypeName": kinds}
        write(folder, "testis", name, cells.X, obs, cells.var_names, cells.var_names)
    tables = folder / "orthologs"
    tables.mkdir()
    for name in made.adatas:
        for other in made.adatas:
            if name < other:
                pairs = made.pairs(name, other, kind=None)
                pairs["kind"] = "ortholog_" + pairs["kind"]
                pairs.to_csv(tables / f"{name}_{other}.csv", index=False)
    return made, tables


def test_cell_types(folder, profile):
    chosen = profile["05_cell_types"]
    named = {chosen["dataset"], *chosen["tissues"], *chosen["experiments"]}
    for name in named:
        tabula(folder, name.partition("tissue=")[2])
    for name in named:
        cells = datasets.load(name)
        kept, left_out = cell_types.keep_classes(cells, "cell_type", min_cells=5)
        found = sclin.evaluate(kept, "cell_type", groups=cell_types.donor_column(kept), **FAST)
        assert found.table["unit"].eq("donor").all() and left_out["class"].tolist() == ["type3"]
        assert found.table["dataset"].eq(name).all() and name in named


def test_regulation(folder, profile):
    chosen = profile["09_gene_regulation"]
    tabula(folder, "")
    cells = datasets.load(chosen["dataset"])
    present = [tf for tf in chosen["factors"] if tf in set(cells.var["symbol"])]
    assert len(regulation.association(cells, present[0], min_cells=2))
    assert cells.obs["donor"].nunique() == 4


def test_disease_state(folder, profile):
    made = simulate.infection(n_cells=200, n_genes=120, leak=True)
    infected = np.where(made.obs["condition"] == "infected", "yes", "no")
    obs = {"infected": infected, "donor_id": made.obs["donor"]}
    name = profile["06_disease_state"]["dataset"]
    write(folder, name, None, made.X, obs, made.var_names, made.var_names)
    by_name = datasets.load(name)
    host = disease_state.host_genes(by_name)
    assert (~host).sum() == 10 and by_name.obs["donor"].nunique() == 4
    (folder / "sars_cov_2_lung.h5ad").rename(folder / "mine.h5ad")
    by_path = datasets.load(f"{name}:path={folder}/mine.h5ad")
    plain = datasets.load(str(folder / "mine.h5ad"))
    scores = [
        sclin.evaluate(cells[:, host].copy(), label, groups=donor, **FAST).table["value"]
        for cells, label, donor in (
            (by_name, "condition", "donor"),
            (by_path, "condition", "donor"),
            (plain, "infected", "donor_id"),
        )
    ]
    pd.testing.assert_series_equal(scores[1], scores[0])
    pd.testing.assert_series_equal(scores[2], scores[0])


def test_testis(testis, profile):
    made, tables = testis
    chosen = profile["07_cross_species"]
    cells = {name: datasets.load(data) for name, data in map(str.split, chosen["species"])}
    assert list(cells) == list(made.adatas)
    read, label = cross_species.read_orthologs(tables), chosen["label"]
    pairs = partial(made.pairs, kind=None)
    found = list(cross_species.transfers(cells, read, label, min_cells=2))
    straight = cross_species.transfers(made.adatas, pairs, "cell_type", min_cells=2)
    assert len(found) == 56
    for t, same in zip(found, straight, strict=True):
        assert str(t) == str(same) and (t.cells.X != same.cells.X).nnz == 0
    t = found[0]
    judged = sclin.evaluate(t.cells, label, cv=[t.fold], **FAST)
    assert judged.table["value"].between(0, 1).all()
    for choose in (cross_species.one_to_one, cross_species.first_partners):
        aligned = cross_species.align_species(cells, read, choose=choose)
        assert len(structure.equal_cells(aligned)[0]) == 8
    human = datasets.load(profile["10_manifold"]["dataset"])
    assert 0 < manifold.flatness(human.X, k=5, n_boot=0)["share_connected"] <= 1
    assert human.uns["sclin"]["species"] == "human"
