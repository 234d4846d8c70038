from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from sclin import heads
from sclin.errors import InputError
from sclin.normalization import rank_normalize


@pytest.fixture
def counts(cells):
    return cells.X


@pytest.fixture
def y(cells):
    return cells.obs["cell_type"].astype(str).to_numpy()


def scaled(X):
    """What the heads do first: centre on the training mean, mean squared norm of 100."""
    Z = X - X.mean(axis=0)
    return Z * 10 / np.sqrt((Z**2).sum(axis=1).mean())


def plain(Z, y):
    return LogisticRegression(class_weight="balanced", tol=1e-10, max_iter=20_000).fit(Z, y)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("path", ["span", "products"])
def test_logistic_on_wide_ranks_equals_scikit_learn_on_dense_columns(
    counts, y, n_classes, path, monkeypatch
):
    monkeypatch.setattr(heads, "_TOL", 1e-10)
    keep = np.flatnonzero(y < f"type {n_classes}")[:90]
    Z = rank_normalize(counts)[keep]
    head = heads.LogisticHead(max_cells=5000 if path == "span" else 5).fit(Z, y[keep])
    dense = scaled(Z.toarray().astype(float))
    expected = plain(dense, y[keep])
    np.testing.assert_allclose(
        head.predict_proba(Z), expected.predict_proba(dense), rtol=0, atol=1e-6
    )
    assert (head.predict(Z) == expected.predict(dense)).all()


def test_C_means_the_same_whatever_the_units(counts, y):
    X = counts.toarray().astype(float)
    one, other = (heads.LogisticHead().fit(a * X, y).predict_proba(a * X) for a in (1, 1e4))
    np.testing.assert_allclose(one, other, atol=1e-8)


def test_no_column_is_standardised(y, rng):
    """A column of tiny values stays tiny: blown up to unit variance it would decide alone."""
    X = rng.normal(size=(len(y), 6))
    X[:, 0] = 1e-6 * (y == "type 0")
    for name in ("logistic", "knn", "centroid"):
        assert np.mean(heads.head(name).fit(X, y).predict(X[::-1]) == y[::-1]) < 0.75


def test_neighbours_are_those_of_cosine_on_centred_cells(counts, y):
    train, test = np.arange(0, 240, 2), np.arange(1, 240, 2)
    Z = rank_normalize(counts)
    head = heads.KNNHead().fit(Z[train], y[train])
    mean = Z[train].toarray().mean(axis=0)
    expected = KNeighborsClassifier(5, metric="cosine").fit(Z[train].toarray() - mean, y[train])
    np.testing.assert_allclose(
        head.predict_proba(Z[test]), expected.predict_proba(Z[test].toarray() - mean)
    )


@pytest.mark.parametrize("name", ["logistic", "knn", "centroid"])
def test_a_head_does_not_see_how_a_matrix_is_stored(counts, y, name):
    dense = counts.toarray()
    stored = [dense, np.asfortranarray(dense), sparse.csr_matrix(dense), sparse.csc_matrix(dense)]
    found = [heads.head(name).fit(X, y).predict(X) for X in stored]
    for other in found[1:]:
        assert (found[0] == other).all()


@pytest.mark.parametrize("name", ["logistic", "centroid"])
def test_two_classes_have_one_decision_value(counts, y, name):
    two = y < "type 2"
    head = heads.head(name).fit(counts[two], y[two])
    value = head.decision_function(counts[two])
    assert value.shape == (two.sum(),)
    assert (head.predict(counts[two]) == head.classes_[(value > 0).astype(int)]).all()


def test_centroid_is_the_largest_cosine_with_centred_class_means(counts, y):
    X = counts.toarray().astype(float)
    Z = X - X.mean(axis=0)
    means = np.array([Z[y == c].mean(axis=0) for c in np.unique(y)])
    cosine = Z @ (means / np.linalg.norm(means, axis=1)[:, None]).T
    assert (
        heads.CentroidHead().fit(counts, y).predict(counts) == np.unique(y)[cosine.argmax(1)]
    ).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda X, y: heads.head("logistics"), "Did you mean 'logistic'"),
        (lambda X, y: heads.KNNHead(n_neighbors=999).fit(X, y), "fewer than 999"),
        (lambda X, y: heads.head("pipeline").fit(X, y), "use 'logistic'"),
        (lambda X, y: heads.head("projection").fit(X[:, :2], y), "no basis"),
        (
            lambda X, y: heads.head("projection").fit(X.toarray() - X.toarray().mean(0), y),
            "no basis",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(counts, y, call, words):
    with pytest.raises(InputError, match=words):
        call(counts, y)


def test_a_cell_fits_by_its_cosine_with_the_nearest_cell_or_average(counts, y):
    Z, new = counts[:150].toarray().astype(float), counts[150:160].toarray().astype(float)
    knn, centroid = (heads.head(name).fit(Z, y[:150]) for name in ("knn", "centroid"))
    unit = [M / np.linalg.norm(M, axis=1, keepdims=True) for M in (Z - Z.mean(0), new - Z.mean(0))]
    averages = np.array([(Z - Z.mean(0))[y[:150] == kind].mean(0) for kind in knn.classes_])
    averages /= np.linalg.norm(averages, axis=1, keepdims=True)
    np.testing.assert_allclose(knn.score_samples(new), (unit[1] @ unit[0].T).max(axis=1))
    np.testing.assert_allclose(centroid.score_samples(new), (unit[1] @ averages.T).max(axis=1))
