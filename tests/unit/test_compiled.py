"""Compiled loops do not need a folder for their cache."""

from __future__ import annotations

import pytest
from numba.core.caching import _CacheLocator

from sclin.compiled import njit


def test_loops_compile_where_neither_source_nor_home_can_be_written(monkeypatch) -> None:
    def refuse(self) -> None:
        raise OSError("read only")

    monkeypatch.setattr(_CacheLocator, "ensure_cache_path", refuse)
    assert njit()(lambda x: x + 1)(1) == 2


@pytest.mark.parametrize("options", [{}, {"fastmath": True}])
def test_loops_are_cached_where_they_can_be(options) -> None:
    def double(x):
        return 2 * x

    made = njit(**options)(double)
    assert made(2) == 4 and made.stats.cache_path
