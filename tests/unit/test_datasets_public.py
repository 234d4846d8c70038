"""Public sets that are not at hand: small files of the same layout over loopback, and their use."""

from __future__ import annotations

import hashlib
import io
import zipfile

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from loopback import serve

from sclin import datasets, notebooks
from sclin.errors import DataError, InputError

ORDER = ["Ductal", "Ngn3 low EP", "Ngn3 high EP", "Pre-endocrine", "Alpha"]
AGES = {"clusters": ["Granule mature", "Neuroblast"], "age(days)": [35, 12]}
BRAIN = {"cell_ontology_class": ["neuron", "astrocyte"], "mouse.id": ["3_8_M", "3_9_M"]}


def h5ad(tmp_path, **columns) -> bytes:
    """Values that are no counts in X, counts in the layers."""
    counts = sp.csr_matrix(np.random.default_rng(0).poisson(1.0, (10, 6)).astype(np.float32))
    cells = ad.AnnData(counts.log1p(), layers={"spliced": counts, "unspliced": counts})
    cells.obs = pd.DataFrame({k: np.resize(v, 10) for k, v in columns.items()}, cells.obs_names)
    cells.write_h5ad(tmp_path / "made.h5ad")
    return (tmp_path / "made.h5ad").read_bytes()


def brain(**columns) -> bytes:
    """Cells in rows, spike-ins among the genes, the table of cells in another order."""
    names = [f"A1.B00{i}.3_8_M.1.1" for i in range(4)]
    counts = pd.DataFrame(
        np.arange(16).reshape(4, 4), names, ["Actb", "Gapdh", "B2m", "ERCC-00002"]
    )
    obs = pd.DataFrame({k: np.resize(v, 4) for k, v in columns.items()}, names)[::-1]
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("data/brain_counts.csv", counts.to_csv())
        archive.writestr("data/brain_metadata.csv", obs.to_csv())
    return body.getvalue()


@pytest.fixture
def put(cache, monkeypatch):
    """Serve a body in place of an entry's file, under its own git blob id or another."""
    with serve() as site:

        def put(name: str, body: bytes, blob: str = "") -> None:
            (file,) = datasets.catalogue()[name].record["files"]
            site.files[f"/{name}"] = body
            git = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
            monkeypatch.setitem(file, "git_blob", blob or git)
            monkeypatch.setitem(file, "sources", [{"url": f"{site.url}/{name}"}])

        yield put


def test_a_file_with_another_git_blob_id_is_refused(put, tmp_path):
    put("mouse_pancreas", h5ad(tmp_path, clusters=ORDER), blob="0" * 40)
    with pytest.raises(DataError, match="the wrong git blob id"):
        datasets.load("mouse_pancreas")


def test_counts_of_a_layer_and_the_known_order(put, tmp_path):
    put("mouse_pancreas", h5ad(tmp_path, clusters=ORDER))
    cells = datasets.load("mouse_pancreas")
    assert cells.uns["sclin"]["values"] == "counts" and list(cells.obs["stage"][:5]) == [*range(5)]
    put("dentate_gyrus", h5ad(tmp_path, **AGES))
    assert set(datasets.load("dentate_gyrus").obs["time"]) == {12, 35}


def test_spike_ins_and_mice_of_a_zip_of_tables(put):
    put("tabula_muris_brain", brain(**BRAIN, **{"plate.barcode": ["A1", "B2"]}))
    cells = datasets.load("tabula_muris_brain")
    assert cells.shape == (4, 3) and cells.uns["sclin"]["n_ercc_rows_left_out"] == 1
    assert list(cells.obs["donor"]) == ["3_8_M", "3_9_M"] * 2 and cells.X[3, 0] == 12


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("mouse_pancreas", {"clusters": ["Ductal", "Acinar"]}, "Acinar have no known place"),
        ("mouse_pancreas", {"types": ["Ductal"]}, "types"),
        ("dentate_gyrus", {"clusters": ["Neuroblast"], "age": [12]}, "age"),
        ("tabula_muris_brain", {"cell_ontology_class": ["neuron"], "mouse": [1]}, "mouse"),
    ],
)
def test_other_columns_are_named_and_refused(put, tmp_path, name, body, said):
    put(name, brain(**body) if name.startswith("tabula") else h5ad(tmp_path, **body))
    with pytest.raises(InputError, match=said):
        datasets.load(name)


def test_every_public_set_at_hand_is_used_and_ten_sets_of_the_profile_are_real():
    known = datasets.catalogue()
    used = set()
    for name in notebooks.list_notebooks():
        given = notebooks.arguments(name, "public")
        for key, parameter in notebooks.parameters(name).items():
            value = given.get(key, parameter.default)
            used |= {str(v).split(":")[0] for v in (value if isinstance(value, list) else [value])}
    away = {"mouse_pancreas", "dentate_gyrus", "tabula_muris_brain"}  # fetched when asked for
    public = {name for name, entry in known.items() if entry.tier == "public"}
    assert public - away <= used
    real = {name for name in used & set(known) if known[name].tier in ("packaged", "public")}
    assert len(real) >= 10
