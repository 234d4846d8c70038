"""Models by name, from a hub and an archive on the loopback address."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from loopback import Site, serve

from sclin import layers
from sclin.datasets import catalogue, files
from sclin.errors import ModelError
from sclin.layers.models import hub

REPO = "tahoebio/Tahoe-x1"
TINY = Path(__file__).parents[1] / "conformance" / "data" / "tahoe"


@pytest.fixture
def site(monkeypatch):
    with serve() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        running.hub(REPO, weights())
        yield running


def weights() -> dict[str, bytes]:
    """A tiny Tahoe-x1 under the names of the hub."""
    names = catalogue().models["tahoe-x1-70m"].files
    return {name: (TINY / Path(name).name).read_bytes() for name in names}


def refusal(name: str) -> str:
    with pytest.raises(ModelError) as error:
        layers.load_model(name)
    assert str(error.value).count("\n") < 3
    return str(error.value)


def test_a_model_is_fetched_once_and_recorded(cache, site, capsys):
    model = layers.load_model("tahoe-x1-70m")
    said = capsys.readouterr().out
    assert "Apache-2.0" in said
    assert " MB from huggingface.co" in said
    assert " MB of memory" in said
    assert "s a cell" in said
    asked = len(site.log)
    again = layers.load_model("tahoe-x1-70m")
    assert len(site.log) == asked
    assert again.checkpoint_sha256 == model.checkpoint_sha256
    record = json.loads((cache / "models" / "tahoe-x1-70m" / "hub.json").read_text())
    assert record["commit"] == "a" * 40
    assert record["sha256"]["70m-model/model.safetensors"] == model.checkpoint_sha256


def test_a_file_that_changed_behind_its_commit_is_refused(cache, site):
    layers.load_model("tahoe-x1-70m")
    folder = cache / "models" / "tahoe-x1-70m"
    old = files.sha256_of(folder / "vocab.json")
    (folder / "vocab.json").unlink()
    site.hub(REPO, weights() | {"70m-model/vocab.json": b"{}"})
    said = refusal("tahoe-x1-70m")
    assert "vocab.json" in said
    assert old in said
    assert "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a" in said
    assert str(folder) in said


def test_a_later_commit_is_not_taken_for_the_recorded_one(cache, site):
    layers.load_model("tahoe-x1-70m")
    (cache / "models" / "tahoe-x1-70m" / "vocab.json").unlink()
    site.hub(REPO, weights() | {"70m-model/vocab.json": b"{}"}, commit="b" * 40)
    site.hub(REPO, weights())  # both commits are there, and main moved back
    layers.load_model("tahoe-x1-70m")
    assert not any("b" * 40 in path for path, _ in site.log)


@pytest.mark.parametrize(
    ("file", "what"), [("model.safetensors", "wrong sha256"), ("vocab.json", "wrong git blob id")]
)
def test_a_file_that_is_not_the_one_the_hub_names_is_refused(cache, site, file, what):
    site.files[f"/{REPO}/resolve/{'a' * 40}/70m-model/{file}"] = b"<html>something else</html>"
    assert what in refusal("tahoe-x1-70m")
    site.hub(REPO, weights())
    layers.load_model("tahoe-x1-70m")  # and what was refused is not kept


def test_a_stopped_download_goes_on_with_one_commit(cache, site):
    site.status[f"/{REPO}/resolve/{'a' * 40}/70m-model/vocab.json"] = [404]
    refusal("tahoe-x1-70m")
    other = weights()["70m-model/collator_config.yml"] + b"\n"
    site.hub(REPO, weights() | {"70m-model/collator_config.yml": other}, commit="b" * 40)
    layers.load_model("tahoe-x1-70m")
    folder = cache / "models" / "tahoe-x1-70m"
    assert (folder / "collator_config.yml").read_bytes() == other
    (folder / "hub.json").write_text('{"commit": "bb')
    assert "hub.json is not a readable record" in refusal("tahoe-x1-70m")


@pytest.mark.parametrize("answer", [b"<html>not here</html>", b"{}", b'{"sha": "c"}'])
def test_an_answer_that_names_no_files_is_refused(cache, site, answer):
    site.files[f"/api/models/{REPO}/revision/main?blobs=true"] = answer
    assert "no answer that names its files" in refusal("tahoe-x1-70m")


def test_a_hub_that_hangs_is_left(cache, site, monkeypatch):
    site.pause[f"/api/models/{REPO}/revision/main?blobs=true"] = 5
    monkeypatch.setattr(files, "TIMEOUT", (0.2, 0.2))
    assert "Timeout" in refusal("tahoe-x1-70m")


def test_a_full_disk_is_said_before_the_download(cache, site, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    assert "larger disk" in refusal("tahoe-x1-70m")
    assert not any("resolve" in path for path, _ in site.log)


def test_an_archive_is_fetched_by_address(cache, monkeypatch):
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("readme"))
    entry = catalogue().models["transcriptformer-sapiens"]
    with serve() as site:
        site.files["/tf_sapiens.tar.gz"] = body.getvalue()
        monkeypatch.setitem(entry.record, "archive", f"{site.url}/tf_sapiens.tar.gz")
        path, _ = hub.fetch_model("transcriptformer-sapiens")
        assert path == cache / "models" / "transcriptformer-sapiens" / "tf_sapiens.tar.gz"
        assert "is no TranscriptFormer folder" in refusal("transcriptformer-sapiens")


def test_a_model_that_cannot_be_had_costs_one_line(cache, site: Site, capsys):
    from sclin import datasets

    site.files.clear()
    cells = datasets.load("sim_atlas", n_cells=8, n_genes=20, n_types=2)
    assert layers.stores("tahoe-x1-70m", cells) == []
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1
    assert said[0].startswith("tahoe-x1-70m is left out: ")
    with pytest.raises(ModelError, match="nonsense"):
        layers.stores("nonsense", cells)


def test_shuffled_genes_keep_weights_and_special_tokens():
    plain = layers.load_model("tahoe-x1", TINY)
    mixed = layers.load_model("tahoe-x1", TINY, shuffled_genes=True, seed=1)
    ours, theirs = (m.gene_embedding.weight.detach().numpy() for m in (plain, mixed))
    special = [i for gene, i in plain.vocabulary.items() if gene.startswith("<")]
    np.testing.assert_array_equal(ours[special], theirs[special])
    assert (ours != theirs).any(1).sum() > 0.5 * len(ours)
    np.testing.assert_array_equal(np.sort(ours, axis=0), np.sort(theirs, axis=0))
    assert mixed.name == "tahoe-x1-shuffled"
    assert mixed.checkpoint_sha256 != plain.checkpoint_sha256


def test_a_vocabulary_of_another_model_is_refused(tmp_path):
    folder = Path(shutil.copytree(TINY, tmp_path / "model"))
    genes = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps({k: v + 1000 for k, v in genes.items()}))
    with pytest.raises(ModelError, match="Give the vocabulary that belongs to this model"):
        layers.load_model("tahoe-x1", folder)
