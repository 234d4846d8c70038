"""The paper profile in parts: the 26 organs, each a small file of the real layout over loopback."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import paper
import pytest
from anndata import AnnData
from click.testing import CliRunner
from loopback import serve

import sclin
from sclin import datasets, results
from sclin.datasets import simulate

ORGANS = datasets.catalogue()["tabula_sapiens"].choices


def call(*words: str):
    return CliRunner().invoke(paper.main, words)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCLIN_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("SCLIN_RESULTS", "")
    monkeypatch.setenv("SCLIN_PROFILE", "paper")
    return tmp_path


@pytest.fixture
def site(here, monkeypatch):
    """Serve one small file as that of each organ."""
    made = simulate.atlas(n_cells=60, n_genes=40, n_types=2, n_rare=0, seed=1)
    obs = made.obs[["cell_type"]].assign(donor_id=np.resize(["TSP2", "TSP21", "TSP30"], 60))
    AnnData(made.X, obs=obs, var=made.var).write_h5ad(here / "organ.h5ad")
    with serve() as running:
        for organ in ORGANS:
            (file,) = datasets.catalogue()["tabula_sapiens"].files_of(organ)
            key = f"/cz-benchmarks-data/{file.sources[0]['key']}"
            running.files[key] = (here / "organ.h5ad").read_bytes()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", running.url)
        yield running


@pytest.fixture
def started(monkeypatch):
    """Stand in for chapter 05, which is tested elsewhere; its run is killed at the tenth organ."""
    names = []

    def run(chapter, *, values, profile, output, results):
        assert (chapter, profile) == ("05_cell_types", "paper")
        names.append(output.stem)
        cells = datasets.load(values["dataset"])
        found = sclin.evaluate(
            cells, "cell_type", representations=["rank"], heads=["projection"], groups="donor",
            task="cell_types", n_boot=2,
        )  # fmt: skip
        output.parent.mkdir(parents=True, exist_ok=True)
        found.table.to_csv(output.with_suffix(".csv"), index=False)
        if len(names) == 10:
            raise KeyboardInterrupt
        output.write_text("{}")
        return SimpleNamespace(seconds=1.0)

    monkeypatch.setattr(paper.notebooks, "run", run)
    return names


def test_all_organs_are_run_once_and_merged_though_a_run_is_killed(site, started, here) -> None:
    assert call("cell_types").exit_code == 1 and len(started) == 10
    done = call("cell_types", "uterus")
    assert "tabula_sapiens_v2_uterus.h5ad: to be fetched, size not in the catalogue" in done.output
    assert "10 of 26 parts of cell_types are finished" in done.output
    assert call("cell_types").exit_code == 0
    assert sorted(started) == sorted([*ORGANS, ORGANS[9]]) and started.count("uterus") == 1
    assert "uterus is finished" in call("cell_types", "uterus").output and len(started) == 27
    assert len(site.log) == 26  # no file is fetched twice
    rows = results.load(here / paper.RESULTS)
    assert set(rows["dataset"]) == {f"tabula_sapiens:tissue={organ}" for organ in ORGANS}
    assert set(rows["unit"]) == {"donor"} and set(rows["n"]) == {2}


def test_rows_that_parts_share_stand_once_and_never_with_two_values(started, here) -> None:
    row = {"task": "a", "dataset": "b", "metric": "c"}
    for part, value in {"lung": 0.5, "liver": 0.5, "eye": 0.6}.items():
        page = paper.page_of("cell_types", part)
        page.parent.mkdir(parents=True, exist_ok=True)
        results.table([results.row(**row, value=value)]).to_csv(
            page.with_suffix(".csv"), index=False
        )
    for part in ("lung", "liver"):
        paper.page_of("cell_types", part).touch()
    assert len(paper.merged("05_cell_types")) == 1
    paper.page_of("cell_types", "eye").touch()
    with pytest.raises(sclin.errors.InputError, match="share their key"):
        paper.merged("05_cell_types")


def test_a_download_that_cannot_fit_is_refused_before_it_starts(started, here, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5e9))
    found = call("perturbation", "D1")
    assert found.exit_code == 1 and "needs 142,829 MB" in found.output
    assert not started


def test_every_task_names_runs_that_its_chapter_takes() -> None:
    for task, about in paper.tasks().items():
        part, values = [*about["parts"].items()][-1]
        paper.notebooks.arguments(about["chapter"], "paper", values)
        assert paper.files_of(about["chapter"], values), (task, part)
    assert list(paper.tasks()["cell_types"]["parts"]) == ORGANS
    assert "`perturbation`" in paper.paper_parts(None)
