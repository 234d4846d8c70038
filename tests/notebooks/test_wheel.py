"""The package as a wheel brings it, used from an empty folder, its home not to be written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[2]
CELLS = "sim_atlas:n_cells=120,n_genes=80,n_types=3"
CODE = """\
import sclin, sclin.cli
print(sclin.__file__)
sclin.cli.main(["params", "05"], standalone_mode=False)
sclin.cli.main(["run", "1", "-p", "min_cells", "5", "-p", "dataset", sys.argv[1]])"""


def lay_out(site: Path) -> None:
    """Put files where the wheel puts them; building it would fetch hatchling."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = settings["tool"]["hatch"]["build"]["targets"]["wheel"]
    (package,) = wheel["packages"]
    shutil.copytree(ROOT / package, site / "sclin")
    for source, target in wheel["force-include"].items():
        shutil.copytree(ROOT / source, site / target)


def test_a_chapter_runs_and_speaks_of_the_cells_it_was_given(tmp_path: Path) -> None:
    lay_out(tmp_path / "site")
    (tmp_path / "empty").mkdir()
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; {CODE}", CELLS],
        cwd=tmp_path / "empty", capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site"), "HOME": "/proc/nowhere"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(str(tmp_path / "site"))
    assert "heads: list = logistic,knn,centroid\n" in ran.stdout
    page, table = (Path(f"_build/runs/01_first_run.{kind}") for kind in ("ipynb", "csv"))
    assert f"page:   {page}\ntable:  {table}\ncell_types on {CELLS} pooled: f1" in ran.stdout
    assert (tmp_path / "empty" / table).exists()
    told = [cell.source for cell in nbformat.read(tmp_path / "empty" / page, 4).cells]
    assert any("With 4 donors no test can show a lead" in text for text in told)
    assert not [text for text in told if "{claim}" in text or "{number}" in text]
    assert not [text for text in told if "pancreas" in text]
