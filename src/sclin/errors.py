"""The exceptions of sclin.

Every message says what was found, where, and how to mend it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class SclinError(Exception):
    """Base of every error that sclin raises on purpose."""


class InputError(SclinError, ValueError):
    """An array, label, column or option that a computation cannot use."""


class DataError(SclinError, RuntimeError):
    """A dataset that cannot be found, fetched, verified or read."""


class UnreachableError(DataError):
    """A file that none of its sources gave."""


class ModelError(SclinError, RuntimeError):
    """A checkpoint, a model input or a layer store that does not fit."""


@contextmanager
def reading(
    path: object, what: str, remedy: str, *, error: type[SclinError] = DataError
) -> Iterator[None]:
    """Turn what the parser of a damaged file raises, which may be anything, into an error of ours.

    Parameters
    ----------
    path
        File that is read inside the ``with`` block; errors of our own pass.
    what
        What it should be, such as ``"table"``.
    remedy
        A sentence.
    error
        Kind of the error, which tells what was raised.
    """
    try:
        yield
    except SclinError:
        raise
    except Exception as raised:
        reason = f"{type(raised).__name__}: {' '.join(str(raised).split())[:160]}"
        raise error(f"{path} is not a readable {what}: {reason}. {remedy}") from raised


def nearest(name: str, options: Iterable[str]) -> str:
    """Suggest the options nearest to a mistyped name.

    Parameters
    ----------
    name
        What was asked for.
    options
        What exists.

    Returns
    -------
    str
        A sentence that starts with a space, or the empty string when nothing is near.

    Examples
    --------
    >>> nearest("baron_humen", ["baron_human", "baron_mouse", "pbmc3k"])
    " Did you mean 'baron_human' or 'baron_mouse'?"
    """
    known = {str(option).lower(): str(option) for option in options}
    close = get_close_matches(str(name).lower(), known, n=2, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(known[key]) for key in close)}?" if close else ""


def unknown(
    what: str, name: object, options: Iterable[object], *, error: type[SclinError] = InputError
) -> SclinError:
    """Return the error for a name that is not, or not the only one, among the options.

    Parameters
    ----------
    what
        What the name should be, such as ``"profile"``.
    name
        What was asked for.
    options
        What exists.
    error
        Kind of the error.

    Returns
    -------
    SclinError

    Examples
    --------
    >>> unknown("head", "knnn", ["knn", "centroid"])
    InputError("No head is called 'knnn'; there are knn, centroid. Did you mean 'knn'?")
    """
    known = list(map(str, options))
    listed = ", ".join(known) or "none"
    return error(f"No {what} is called {name!r}; there are {listed}.{nearest(str(name), known)}")
