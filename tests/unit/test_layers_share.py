"""Layer stores as one file: what comes back is what was sent, or nothing is taken."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sclin import datasets, layers
from sclin.errors import ModelError


@pytest.fixture(scope="module")
def cells():
    return datasets.load("sim_atlas", n_cells=40, n_genes=60, n_types=2)


@pytest.fixture(scope="module")
def made(cells, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    network = layers.tiny.train(cells, n_genes=40, random_weights=True, progress=False)
    store = layers.extract(network, cells, folder / "made.zarr", progress=False)
    return store, layers.export_store(store.path, folder / "shared.zip")


@pytest.fixture
def shared(made, tmp_path, monkeypatch):
    monkeypatch.setenv("SCLIN_LAYERS", str(tmp_path / "home"))
    return made


def changed(file: Path, change) -> Path:
    """A copy of the zip whose members were changed."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    how = change(members) or zipfile.ZIP_STORED
    with zipfile.ZipFile(file.with_name("changed.zip"), "w", how) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return file.with_name("changed.zip")


def test_a_shared_store_is_found_by_its_cells(shared, cells):
    store, file = shared
    again = layers.import_store(file)
    assert again.path.parent.name == "home"
    assert layers.find_store("tiny-random", cells).path == again.path
    for layer in store.layers:
        np.testing.assert_array_equal(again.read(layer), store.read(layer))
    with pytest.raises(ModelError, match="there already"):
        layers.import_store(file)
    with pytest.raises(ModelError, match="there already"):
        layers.export_store(store.path, file)


def test_the_file_says_what_it_is_and_holds_no_expression(shared, cells):
    _, file = shared
    with zipfile.ZipFile(file) as archive:
        said, names = json.loads(archive.read("sclin.json")), archive.namelist()
    assert said["model"] == "tiny-random"
    assert said["licence"]
    assert "No expression" in said["note"]
    assert not any(name.startswith(("X/", "layers/", "raw/", "var/")) and "c/" in name
                   for name in names)  # fmt: skip


def numbers(members):
    name = next(name for name in members if name.startswith("obsm/") and "/c/" in name)
    return name, members[name]


def flip(members):
    name, body = numbers(members)
    members[name] = bytes([body[0] ^ 1]) + body[1:]


def signed(name: str, body=b"x"):
    """Put a member of this name in, or another content, under its right sha256."""

    def change(members):
        members[name] = body if isinstance(body, bytes) else body(members[name])
        said = json.loads(members["sclin.json"])
        said["sha256"][name] = hashlib.sha256(members[name]).hexdigest()
        members["sclin.json"] = json.dumps(said).encode()

    return change


def flip_and_sign(members):
    flip(members)
    signed(*numbers(members))(members)


def pack(members):
    members["sclin.json"] += b" " * 10**7
    return zipfile.ZIP_DEFLATED


def shaped(array: str, **said):
    """Let an array claim another shape."""
    return signed(f"{array}/zarr.json", lambda old: json.dumps(json.loads(old) | said).encode())


def lose(members):
    members.pop(numbers(members)[0])


def smuggle(members):
    members["extra"] = b"x"


def unlisted(members):
    members.pop("sclin.json")


@pytest.mark.parametrize("change", [
    flip, flip_and_sign, lose, smuggle, unlisted, pack, signed("../outside"), signed("obs/.zarray"),
    shaped("uns/sclin/crc32", shape=[0]), shaped("uns/sclin/crc32", shape=[10**11]),
    shaped("obsm/mean_layer_01", shape=[40, 10**9]),
    shaped("obs/n_tokens", codecs=[{"name": "bytes"}, {"name": "zstd"}]),
])  # fmt: skip
def test_a_changed_file_is_refused(shared, change, tmp_path):
    with pytest.raises(ModelError) as error:
        layers.import_store(changed(shared[1], change))
    assert str(error.value).count("\n") < 3
    assert not (tmp_path / "outside").exists()
    assert not list((tmp_path / "home").glob("*.zarr"))


def test_what_is_no_zip_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("SCLIN_LAYERS", str(tmp_path / "home"))
    (tmp_path / "no.zip").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(ModelError, match=r"no\.zip"):
        layers.import_store(tmp_path / "no.zip")
