from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from sclin import plotting, published, results


def rows(value: float, **said) -> pd.DataFrame:
    """One score of each of three heads."""
    told = {"task": "t", "dataset": "d", "metric": "f1", **said}
    return results.table([results.row(value=value, head=h, **told) for h in ("a", "b", "c")])


def test_published_beside_ours_is_drawn_by_protocol_on_one_scale():
    theirs = rows(0.5, source="published")[:2].assign(value=[0.4, 0.5])
    ours = [rows(0.6), rows(0.9, protocol="as_published")]
    both = published.beside(pd.concat(ours), theirs, on=["head", "metric"])
    assert len(both) == 4  # nothing was published of head c
    _, ax = plt.subplots()
    plotting.beside(both, label="head", ax=ax)
    diagonal, filled, hollow = ax.lines
    assert diagonal.get_slope() == 1 and len(set(diagonal.get_xy1())) == 1
    assert set(filled.get_ydata()) == {0.6} and filled.get_markerfacecolor() != "white"
    assert set(hollow.get_ydata()) == {0.9} and hollow.get_markerfacecolor() == "white"
    assert [text.get_text() for text in ax.texts] == ["a", "b"]
    plt.close("all")


def test_two_published_numbers_of_one_name_are_refused():
    theirs = rows(0.5, source="published")
    with pytest.raises(pd.errors.MergeError, match="not unique"):
        published.beside(rows(0.6), pd.concat([theirs, theirs]), on=["head"])
