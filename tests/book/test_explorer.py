from __future__ import annotations

import re

import explorer

from sclin import published


def test_every_stored_layer_is_drawn() -> None:
    table = published.table("layers")
    drawn = table[table["metric"].isin(explorer.EXPLORED)].dropna(
        subset=["value", "relative_depth"]
    )
    page = explorer.explorer(table)
    assert page.count("<circle") == len(drawn)
    assert page.count('type="radio"') == page.count("<label") == page.count('class="dx-panel"')
    best = drawn[(drawn["metric"] == "Pseudotime_Corr") & (drawn["dataset"] == "GSE276896")]
    assert f"{best['value'].max():.3f}" in page
    assert not re.search(r"<script|https?://", page)
