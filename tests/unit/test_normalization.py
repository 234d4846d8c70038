import pickle
import threading

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import ndtri
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from sclin.errors import InputError
from sclin.normalization import RankMatrix, RankNormalizer, rank_normalize


def reference(X):
    """The definition, step by step, in float64."""
    X = np.asarray(X, dtype=np.float64)
    z = ndtri(rankdata(X, axis=1) / (X.shape[1] + 1))
    length = np.linalg.norm(z, axis=1, keepdims=True)
    return np.divide(z, length, out=np.zeros_like(z), where=length > 0)


def counts(n_cells=60, n_genes=300, seed=0):
    rng = np.random.default_rng(seed)
    return rng.poisson(rng.gamma(0.3, 1.5, n_genes), (n_cells, n_genes))


INPUTS = {
    "counts": counts(),
    "one count": np.minimum(counts(), 1),
    "large counts": counts() * 30_011,
    "huge counts": counts().astype(np.int64) * (2**40 + 1),
    "log": np.log1p(counts()),
    "float32 log": np.log1p(counts()).astype(np.float32),
    "negative": counts() - 1.0,
    "continuous": np.random.default_rng(1).normal(size=(20, 101)),
    "negative sparse": np.random.default_rng(1).normal(size=(20, 101)) * (counts(20, 101) > 0),
    "no zeros": counts() + 1,
    "boolean": counts() > 0,
    "uint8": np.minimum(counts(), 255).astype(np.uint8),
    "empty cells": counts() * (np.arange(60) % 2)[:, None],
    "all equal": np.full((4, 9), 3.5),
    "one gene": np.arange(5.0)[:, None],
    "one cell": counts(1, 40),
    "close floats": 1.0 + np.arange(40).reshape(2, 20) * 1e-12,
}


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array])
def test_scores_are_those_of_scipy(name, form):
    X = INPUTS[name]
    found = rank_normalize(form(X)).toarray()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference(X), atol=1e-6, rtol=0)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 6), st.integers(1, 12)),
        elements=st.sampled_from([0.0, -0.0, 1.0, 2.0, 2.5, -1.0, 1e9, 20_000.0]),
    )
)
def test_any_small_matrix(X):
    np.testing.assert_allclose(rank_normalize(X).toarray(), reference(X), atol=1e-6)
    np.testing.assert_allclose(rank_normalize(sp.csr_matrix(X)).toarray(), reference(X), atol=1e-6)


def test_cells_without_order_score_zero():
    for X in (np.zeros((2, 7)), np.full((2, 7), 3), np.ones((3, 1))):
        assert not rank_normalize(X).toarray().any()


def test_cells_have_unit_length_and_sum_close_to_zero():
    Z = rank_normalize(np.random.default_rng(0).permuted(np.tile(np.arange(50.0), (4, 1)), axis=1))
    dense = Z.toarray()
    np.testing.assert_allclose(np.linalg.norm(dense, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(dense.sum(axis=1), 0, atol=1e-5)


def test_explicit_zeros_and_duplicates_leave_the_input_alone():
    # Gene 1 of cell 0 is 1 + 2, gene 2 an explicit zero.
    X = sp.csr_matrix(
        (np.array([1.0, 2.0, 0.0, 5.0]), np.array([1, 1, 2, 0]), np.array([0, 4])), shape=(1, 5)
    )
    before = X.data.copy(), X.indices.copy(), X.indptr.copy()
    found = rank_normalize(X).toarray()
    np.testing.assert_allclose(found, reference([[5, 3, 0, 0, 0]]), atol=1e-6)
    for old, new in zip(before, (X.data, X.indices, X.indptr), strict=True):
        np.testing.assert_array_equal(old, new)


def test_canonical_input_shares_its_indices():
    X = sp.csr_matrix(counts().astype(np.float32))
    Z = rank_normalize(X)
    assert np.shares_memory(Z.sparse.indices, X.indices)
    assert Z.nnz == X.nnz


def test_anndata_frames_and_blocks():
    X = sp.csr_matrix(counts().astype(np.float32))
    adata = anndata.AnnData(X.copy())
    expected = reference(X.toarray())
    np.testing.assert_allclose(rank_normalize(adata).toarray(), expected, atol=1e-6)
    blocks = (X[i : i + 7] for i in range(0, 60, 7))
    np.testing.assert_allclose(rank_normalize(blocks).toarray(), expected, atol=1e-6)
    frame = pd.DataFrame(X.toarray())
    np.testing.assert_allclose(rank_normalize(frame).toarray(), expected, atol=1e-6)


def test_result_does_not_depend_on_threads():
    import numba

    X = sp.csr_matrix(counts(200, 500).astype(np.float32))
    B = np.random.default_rng(0).normal(size=(500, 5)).astype(np.float32)
    before = numba.get_num_threads()
    products = []
    for threads in (1, before):
        numba.set_num_threads(threads)
        Z = rank_normalize(X)
        products.append((Z.sparse.data.copy(), Z @ B, Z.T_dot(Z @ B)))
    numba.set_num_threads(before)
    for one, many in zip(*products, strict=True):
        np.testing.assert_array_equal(one, many)


@pytest.mark.parametrize("order", [np.arange(3000), np.random.default_rng(1).permutation(3000)])
def test_products_of_many_genes_and_cells_in_any_order_of_genes(order):
    """More cells, genes and columns than a block holds; indices of a selection are not sorted."""
    rng = np.random.default_rng(0)
    Z = rank_normalize(sp.random(300, 3000, 0.02, "csr", random_state=0))[:, order]
    A, B = rng.normal(size=(300, 70)), rng.normal(size=(3000, 70))
    dense = Z.toarray().astype(float)
    np.testing.assert_allclose(Z @ B, dense @ B, atol=1e-5)
    np.testing.assert_allclose(Z.T_dot(A), dense.T @ A, atol=1e-5)


def test_calls_from_several_threads_agree():
    X = sp.csr_matrix(counts().astype(np.float32))
    found: list[np.ndarray] = []
    workers = [
        threading.Thread(target=lambda: found.append(rank_normalize(X).toarray())) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 4
    for one in found:
        np.testing.assert_array_equal(one, found[0])


class TestRankMatrix:
    Z = rank_normalize(counts())
    D = Z.toarray().astype(np.float64)
    rng = np.random.default_rng(3)

    @pytest.mark.parametrize("width", [1, 3, 64, 130])
    def test_products(self, width):
        B, A = self.rng.normal(size=(300, width)), self.rng.normal(size=(60, width))
        np.testing.assert_allclose(self.Z @ B, self.D @ B, atol=1e-6)
        np.testing.assert_allclose(self.Z.dot(B), self.D @ B, atol=1e-6)
        np.testing.assert_allclose(self.Z.T_dot(A), self.D.T @ A, atol=1e-6)
        np.testing.assert_allclose(A.T @ self.Z, A.T @ self.D, atol=1e-6)
        assert (self.Z @ B.astype(np.float32)).dtype == np.float32

    def test_vectors(self):
        b, a = self.rng.normal(size=300), self.rng.normal(size=60)
        np.testing.assert_allclose(self.Z @ b, self.D @ b, atol=1e-6)
        np.testing.assert_allclose(self.Z.T_dot(a), self.D.T @ a, atol=1e-6)

    @pytest.mark.parametrize("axis", [0, 1, -1])
    def test_moments(self, axis):
        np.testing.assert_allclose(self.Z.mean(axis), self.D.mean(axis), atol=1e-8)
        np.testing.assert_allclose(self.Z.var(axis), self.D.var(axis), atol=1e-8)

    @pytest.mark.parametrize(
        "key",
        [
            slice(3, 20, 2),
            np.array([5, 1, 1]),
            [0, 59, -1],
            np.arange(60) % 3 == 0,
            (slice(None), np.arange(300) % 2 == 0),
            (np.array([4, 2]), slice(10, 30)),
            (Ellipsis, [7, 3]),
            ([1, 2], Ellipsis),
            [],
        ],
    )
    def test_selection(self, key):
        expected = self.D
        if isinstance(key, tuple):
            expected = expected[key[0]] if key[0] is not Ellipsis else expected
            expected = expected[:, key[1]] if key[1] is not Ellipsis else expected
        else:
            expected = (
                expected[np.asarray(key, dtype=int) if key == [] else key]
                if isinstance(key, list)
                else expected[key]
            )
        np.testing.assert_allclose(self.Z[key].toarray(), expected, atol=1e-7)

    def test_a_single_index_keeps_two_dimensions(self):
        assert self.Z[4].shape == (1, 300)
        assert self.Z[:, -1].shape == (60, 1)
        assert len(self.Z) == 60 and self.Z.ndim == 2 and self.Z.dtype == np.float32

    def test_stack_and_pickle(self):
        again = RankMatrix.stack([self.Z[:20], self.Z[20:]])
        np.testing.assert_array_equal(again.toarray(), self.Z.toarray())
        np.testing.assert_array_equal(
            pickle.loads(pickle.dumps(self.Z)).toarray(), self.Z.toarray()
        )

    def test_ranking_twice_changes_nothing(self):
        assert rank_normalize(self.Z) is self.Z

    def test_repr(self):
        assert repr(self.Z) == f"RankMatrix(60 cells x 300 genes, {self.Z.nnz:,} stored scores)"


def test_cross_validation_over_rank_scores():
    X, y = counts(), np.arange(60) % 2
    X[y == 1, :20] += 9
    model = make_pipeline(RankNormalizer(dense=True), KNeighborsClassifier(3))
    for form in (X, sp.csr_matrix(X), rank_normalize(X)):
        assert (cross_val_predict(model, form, y, cv=3) == y).mean() > 0.9


AN_ARRAY = "the check makes an array of the scores, which a RankMatrix refuses"
NOT_MET = dict.fromkeys(
    [
        "check_estimators_pickle",
        "check_fit_idempotent",
        "check_methods_sample_order_invariance",
        "check_methods_subset_invariance",
        "check_pipeline_consistency",
        "check_transformer_data_not_an_array",
        "check_transformer_general",
    ],
    AN_ARRAY,
)


@parametrize_with_checks(
    [RankNormalizer(dense=True), RankNormalizer()],
    expected_failed_checks=lambda estimator: {} if estimator.dense else NOT_MET,
)
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def test_a_rank_matrix_follows_fit_and_transform():
    # What the checks above would look at, but for the array.
    X = counts()
    model = RankNormalizer().fit(X[:10])
    Z = model.transform(X)
    assert isinstance(Z, RankMatrix)
    np.testing.assert_array_equal(Z.toarray(), rank_normalize(X).toarray())
    np.testing.assert_array_equal(np.vstack([cell.toarray() for cell in Z]), Z.toarray())
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.transform(X[::-1]).toarray(), Z[::-1].toarray())


@pytest.mark.parametrize(
    "use",
    [
        np.asarray,
        pd.DataFrame,
        lambda Z: LogisticRegression().fit(Z, np.arange(60) % 2),
        lambda Z: RankNormalizer().set_output(transform="pandas").fit_transform(Z),
    ],
)
def test_what_needs_an_array_is_told_how_to_get_one(use):
    with pytest.raises(InputError, match=r"RankNormalizer\(dense=True\) or \.toarray\(\)"):
        use(rank_normalize(counts()))


def test_frames_go_in_and_come_out():
    X = pd.DataFrame(counts(), columns=[f"g{i}" for i in range(300)], dtype="float32")
    X.index = [f"cell {i}" for i in range(60)]
    model = RankNormalizer(dense=True).set_output(transform="pandas")
    Z = model.fit_transform(X)
    assert Z.columns.equals(X.columns) and Z.index.equals(X.index)
    np.testing.assert_array_equal(Z, rank_normalize(X.to_numpy()).toarray())
    adata = anndata.AnnData(X)
    np.testing.assert_array_equal(model.fit(adata).get_feature_names_out(), X.columns)
