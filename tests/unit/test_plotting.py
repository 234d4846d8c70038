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


def test_a_published_curve_is_read_at_the_depth_of_blocks_not_of_the_embedding():
    curve = pd.DataFrame({"relative_depth": [1.0, 0.0, 0.5], "value": [3.0, 1.0, 2.0]})
    told = {"task": "t", "dataset": "d", "metric": "f1", "value": 0.0}
    names = [f"layer:m/{layer}" for layer in (0, 1, 2, 3, 4, 5, "final")] + ["rank"]
    ours = results.table([results.row(representation=name, **told) for name in names])
    both = published.at_depth(ours, curve)
    assert list(both["published"]) == [1, 1.5, 2, 2.5, 3]
    assert list(both["block"])[::4] == ["1 of 5", "5 of 5"]
