"""Compiled loops, kept on disk where there is a folder to keep them in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

__all__ = ["njit"]


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
