"""Which matrix is taken, and which values it holds."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from sclin.datasets import take
from sclin.errors import InputError
from sclin.matrices import value_kind

RNG = np.random.default_rng(0)
COUNTS = RNG.poisson(RNG.gamma(0.5, 3, 60), (80, 60)).astype(np.float32)
COUNTS[:, 0] += 1
PER_CELL = COUNTS / COUNTS.sum(1, keepdims=True)
LOG = np.log1p(PER_CELL * 1e4)
LENGTHS = RNG.gamma(2, 1, 60)
KINDS = {
    "counts": [COUNTS],
    "log": [LOG, np.log1p(COUNTS), LOG[:, :20], LOG[:, 30:], np.log1p(PER_CELL)],
    "log2": [np.log2(1 + PER_CELL * 1e6), LOG[:, :20] / np.log(2)],
    "log10": [np.log10(1 + PER_CELL * 1e6)],
    "linear": [COUNTS * 0.83, PER_CELL, PER_CELL * 1e6, 40 * COUNTS / LENGTHS],
    "square root": [np.sqrt(COUNTS), np.sqrt(PER_CELL * 100)[:, :30]],
    "scaled": [LOG - LOG.mean(0), LOG / (LOG.std(0, ddof=1) + 1e-9)],
    "binary": [COUNTS > 0],
    "empty": [0 * COUNTS],
    "unclear": [np.minimum(COUNTS / LENGTHS, 15), np.vstack([COUNTS[:40], LOG[40:]])],
    "negative": [np.where(np.arange(60) == 59, COUNTS - 1, COUNTS)[:, ::-1]],
    "not finite": [np.where(COUNTS == 3, np.nan, COUNTS), np.where(COUNTS == 3, np.inf, LOG)],
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_values(kind):
    for X in KINDS[kind]:
        X = np.asarray(X, dtype=np.float32)
        found = {value_kind(form(X)) for form in (np.asarray, sp.csr_matrix, sp.csc_matrix)}
        assert found == {kind}


def cells(X=COUNTS, **layers):
    names = [f"G{i}" for i in range(X.shape[1])]
    out = ad.AnnData(sp.csr_matrix(X), var=pd.DataFrame(index=names))
    out.layers.update({name: np.asarray(layer) for name, layer in layers.items()})
    return out


def test_layers_of_samples_are_summed_and_parts_of_molecules_are_not_counts():
    first = np.arange(80) < 30
    parts = {"counts.1": COUNTS * first[:, None], "counts.2": COUNTS * ~first[:, None]}
    got = take(cells(LOG, **parts))
    assert got.uns["sclin"]["found_in"] == "layers['counts.*']"
    np.testing.assert_array_equal(got.X.toarray(), COUNTS)
    for parts in ({"unspliced": COUNTS}, {"counts.1": COUNTS, "counts.2": COUNTS}):
        assert take(cells(LOG, **parts)).uns["sclin"]["found_in"] == "X"


def test_counts_of_more_genes_in_raw_are_told():
    whole = cells()
    whole.raw = whole.copy()
    few = whole[:, :20].copy()
    assert "raw has more genes (60)" in take(few).uns["sclin"]["warnings"][0]
    assert take(few, layer="raw").n_vars == 60 and not take(whole).uns["sclin"]["warnings"]


def test_logs_of_other_bases_and_roots_become_log_and_linear():
    got = take(cells(LOG / np.log(2)))
    np.testing.assert_allclose(got.X.toarray(), LOG, rtol=1e-6)
    assert "log2" in got.uns["sclin"]["warnings"][0] and got.uns["sclin"]["values"] == "log"
    np.testing.assert_allclose(take(cells(np.sqrt(COUNTS))).X.toarray(), COUNTS, rtol=1e-6)


def test_logs_of_one_gene_are_summed_as_amounts():
    twice = cells(LOG)
    twice.var_names = ["G0", "G0", *twice.var_names[2:]]
    expected = np.log1p(np.expm1(LOG[:, :2].astype(float)).sum(1))
    np.testing.assert_allclose(take(twice).X.toarray()[:, 0], expected, rtol=1e-6)


def test_what_is_said_overrules_but_not_the_impossible():
    odd = cells(np.minimum(COUNTS / LENGTHS, 15), binary=COUNTS > 0)
    assert take(odd, values="linear").uns["sclin"]["values"] == "linear"
    declared = take(odd, values="log")
    assert take(declared).uns["sclin"]["values"] == "log"
    assert take(odd, layer="binary", values="counts").uns["sclin"]["values"] == "counts"
    for options in ({"values": "counts", "layer": "X"}, {"values": "log", "layer": "binary"}):
        with pytest.raises(InputError, match="can be read as"):
            take(odd, **options)
    with pytest.raises(InputError, match="Did you mean 'binary'"):
        take(odd, layer="binari")
    with pytest.raises(InputError, match="No kind of values is called 'raw'"):
        take(odd, values="raw")


def test_everything_else_is_kept_and_the_input_is_not_changed():
    given = cells()
    given.obs["donor"] = "a"
    table = pd.DataFrame({"x": np.arange(80), "y": 1.5}, index=given.obs_names)
    given.obsm = {"table": table, "text": table.astype(str), "sparse": sp.csr_matrix(COUNTS)}
    before = given.copy()
    got = take(given)
    assert set(got.obsm) == {"table", "sparse"} and got.obsm["table"].dtype == float
    assert "obsm['text']" in got.uns["sclin"]["dropped"]["why"][0] and list(got.obs) == ["donor"]
    got.uns["sclin"]["values"] = got.obs["new"] = "x"
    assert list(given.obs) == ["donor"] and "sclin" not in given.uns and "symbol" not in given.var
    np.testing.assert_array_equal(given.X.toarray(), before.X.toarray())
