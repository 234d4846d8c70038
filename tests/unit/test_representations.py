from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from sclin import representations as rp
from sclin.errors import InputError
from sclin.normalization import RankMatrix


def test_hellinger_is_the_root_of_each_share_and_its_distance_is_hellinger_s(cells):
    got = rp.representation("hellinger").transform(cells)
    p = cells.X.toarray() / cells.X.toarray().sum(axis=1, keepdims=True)
    np.testing.assert_allclose(got.toarray(), np.sqrt(p), atol=1e-6)
    assert got.nnz == cells.X.nnz
    np.testing.assert_allclose(np.linalg.norm(got.toarray(), axis=1), 1, atol=1e-6)


def test_lognorm_equals_the_formula(cells):
    got = rp.representation("lognorm").fit(cells).transform(cells)
    dense = cells.X.toarray()
    expected = np.log1p(dense / dense.sum(axis=1, keepdims=True) * 1e4)
    np.testing.assert_allclose(got.toarray(), expected, rtol=1e-5)
    assert cells.X.max() == int(cells.X.max())  # the counts are untouched


def test_log_values_pass_and_counts_refuse_them(cells):
    cells.uns["sclin"] = {"values": "log"}
    assert rp.representation("lognorm").transform(cells) is cells.X
    with pytest.raises(InputError, match="log values"):
        rp.representation("counts").transform(cells)


def test_an_empty_cell_stays_empty(cells):
    X = cells.X.tolil()
    X[3] = 0
    cells.X = sparse.csr_matrix(X)
    assert rp.representation("lognorm").transform(cells)[3].nnz == 0


@pytest.mark.parametrize("name", ["hvg_pca", "rank_pca"])
def test_components_do_not_see_the_test_cells(cells, name):
    train, test = cells[:180].copy(), cells[180:].copy()
    first = rp.representation(name, n_components=5).fit(train)
    before = first.transform(train)
    other = test.copy()
    other.X = other.X * 7
    again = rp.representation(name, n_components=5).fit(train)
    again.transform(other)
    np.testing.assert_array_equal(before, again.transform(train))
    assert before.shape == (180, 5)


def test_fewer_cells_give_fewer_components(cells):
    assert rp.representation("rank_pca", n_components=50).fit(cells[:20]).transform(
        cells[:20]
    ).shape == (20, 19)


def test_random_depends_on_cell_and_seed_only(cells):
    whole = rp.representation("random", n_components=4).transform(cells)
    part = rp.representation("random", n_components=4).transform(cells[[5, 2]])
    np.testing.assert_array_equal(part, whole[[5, 2]])
    other = rp.representation("random", n_components=4, seed=1).transform(cells)
    assert abs(np.corrcoef(whole.ravel(), other.ravel())[0, 1]) < 0.1
    assert abs(whole.mean()) < 0.1 and abs(whole.std() - 1) < 0.1
    assert abs(np.corrcoef(whole.T)[np.triu_indices(4, 1)]).max() < 0.2


def test_library_size_knows_depth_only(cells):
    got = rp.representation("library_size").transform(cells)
    np.testing.assert_allclose(np.expm1(got[:, 0]), cells.X.toarray().sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(np.expm1(got[:, 1]), (cells.X.toarray() > 0).sum(axis=1), rtol=1e-6)


def test_stored_arrays_are_read_by_key(cells):
    cells.obsm["X_model"] = np.arange(cells.n_obs * 2.0).reshape(-1, 2)
    got = rp.representation("obsm:X_model").transform(cells[[3, 1]])
    np.testing.assert_array_equal(got, [[6, 7], [2, 3]])


def test_rank_is_sparse(cells):
    assert isinstance(rp.representation("rank").transform(cells), RankMatrix)


def test_relative_depths_are_those_among_the_layers_named():
    found = rp.relative_depths(["rank", "layer:tiny/0", "layer:tiny/2", "layer:tiny/final"])
    assert found == {"layer:tiny/0": 0.0, "layer:tiny/2": 1.0, "layer:tiny/final": 1.0}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda c: rp.representation("ranks"), "Did you mean 'rank'"),
        (lambda c: rp.representation("layer:tiny"), "layer:MODEL/i"),
        (lambda c: rp.representation("obsm:X_pca").transform(c), "No array of obsm is called"),
        (lambda c: rp.labels(c, "celltype"), "Did you mean 'cell_type'"),
    ],
)
def test_bad_input_names_what_and_the_remedy(cells, call, words):
    with pytest.raises(InputError, match=words):
        call(cells)
