"""What several tests share: small cells with known classes, an empty folder for data."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import jupytext
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from sclin.datasets import simulate


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty folder for data, and no waits between attempts."""
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("SCLIN_DATA", str(folder))
    monkeypatch.setattr("pooch.core.time", SimpleNamespace(sleep=lambda seconds: None))
    return folder


def simulated(seed: int = 0, donors: int = 4, genes: int = 120) -> AnnData:
    """240 cells, 3 classes told apart by 20 genes each."""
    rng = np.random.default_rng(seed)
    n, classes = 240, 3
    labels = np.arange(n) % classes
    rates = np.full((n, genes), 0.4)
    for c in range(classes):
        rates[labels == c, 20 * c : 20 * (c + 1)] = 3.0
    depth = rng.lognormal(0, 0.4, size=n)[:, None]
    counts = sparse.csr_matrix(rng.poisson(rates * depth).astype(np.float32))
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical([f"type {c}" for c in labels]),
            "donor": [f"d{i}" for i in rng.integers(donors, size=n)],
        },
        index=[f"cell{i}" for i in range(n)],
    )
    return AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(genes)]))


@pytest.fixture
def cells() -> AnnData:
    """240 cells of 3 classes and 4 donors, 120 genes."""
    return simulated()


@pytest.fixture(scope="session")
def functions_of() -> Callable[..., SimpleNamespace]:
    """Give functions that a chapter defines; of its other lines only the imports are run."""

    def read(chapter: str, *names: str) -> SimpleNamespace:
        cells = jupytext.read(Path(__file__).parents[1] / "notebooks" / f"{chapter}.md").cells
        code = ast.parse("\n".join(c.source for c in cells if c.cell_type == "code"))
        imports = (ast.Import, ast.ImportFrom)
        code.body = [
            part
            for part in code.body
            if isinstance(part, imports) or getattr(part, "name", None) in names
        ]
        found: dict = {}
        exec(compile(code, chapter, "exec"), found)
        return SimpleNamespace(**found)

    return read


@pytest.fixture(scope="session")
def make_cells() -> Callable[..., AnnData]:
    """Such cells with another seed, or other numbers of donors and genes."""
    return simulated


@pytest.fixture(scope="module")
def mammals() -> simulate.SpeciesData:
    """Eight simulated species, 120 cells each."""
    return simulate.species(n_cells=120, n_genes=400, seed=1)


@pytest.fixture(scope="module")
def three(mammals: simulate.SpeciesData) -> dict[str, AnnData]:
    """Three of them."""
    return {name: mammals.adatas[name] for name in ("human", "mouse", "platypus")}
