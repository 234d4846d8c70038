"""Compiled loops, kept on disk where there is a folder to keep them in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import numba


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function as `numba.njit` does, and cache it where that is possible.

    Parameters
    ----------
    **options
        Those of `numba.njit`, but for ``cache``.

    Returns
    -------
    callable
        Decorator.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # neither the folder of the source nor the home can be written
            return numba.njit(**options)(function)

    return compiled


@cache
def keep_neighbors() -> None:
    """Keep the loops behind ``scanpy.pp.neighbors``, which umap compiles in every process."""
    from umap import umap_

    for loop in (umap_.smooth_knn_dist, umap_.compute_membership_strengths):
        with suppress(RuntimeError):  # no folder can be written
            loop.enable_caching()
