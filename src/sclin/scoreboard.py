"""The scoreboard: every row of the results tables, sortable and filterable without a server."""

from __future__ import annotations

import html
from collections.abc import Mapping

import pandas as pd
from IPython.display import HTML

__all__ = ["filterable"]

_SCRIPT = """
(() => {
  const root = document.currentScript.previousElementSibling;
  const body = root.querySelector("tbody"), rows = [...body.rows];
  const text = root.querySelector("input"), picks = [...root.querySelectorAll("select")];
  const note = root.querySelector("[role=status]");
  const show = () => {
    const words = text.value.toLowerCase().split(/\\s+/).filter(Boolean);
    let n = 0;
    for (const row of rows) {
      const line = row.textContent.toLowerCase();
      row.hidden = !(words.every((w) => line.includes(w)) &&
        picks.every((p) => !p.value || row.cells[p.dataset.column].textContent === p.value));
      n += !row.hidden;
    }
    note.textContent = `${n} of ${rows.length} rows`;
  };
  const key = (row, i) => {
    const raw = row.cells[i].dataset.value ?? row.cells[i].textContent;
    const number = parseFloat(raw);
    return Number.isNaN(number) ? raw : number;
  };
  root.querySelectorAll("thead button").forEach((button, i) => {
    button.addEventListener("click", () => {
      const head = button.closest("th"), up = head.ariaSort !== "ascending";
      root.querySelectorAll("th").forEach((th) => th.removeAttribute("aria-sort"));
      head.ariaSort = up ? "ascending" : "descending";
      rows.sort((a, b) => {
        const x = key(a, i), y = key(b, i);
        if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1;
        return (x < y ? -1 : x > y ? 1 : 0) * (up ? 1 : -1);
      });
      body.append(...rows);
    });
  });
  root.querySelector(".filters").hidden = false;
  [text, ...picks].forEach((c) => c.addEventListener("input", show));
  show();
})();
"""


def filterable(
    table: pd.DataFrame,
    *,
    caption: str,
    choices: tuple[str, ...] = (),
    links: Mapping[str, str] | None = None,
    digits: int = 3,
) -> HTML:
    """Show a table that can be sorted by column and filtered by words.

    The table is plain HTML: without JavaScript it is complete, only not filterable.

    Parameters
    ----------
    table
        Rows to show; the index is left out.
    caption
        What the table holds, in a sentence.
    choices
        Columns that get a menu of their values.
    links
        Address by value, for the values of any column that should be links.
    digits
        Decimal places of numbers.

    Returns
    -------
    IPython.display.HTML
    """
    links = links or {}

    def cell(value: object) -> str:
        if isinstance(value, float):
            if pd.isna(value):
                return "<td></td>"
            shown = (
                f"{value:.0f}" if value.is_integer() and abs(value) > 1 else f"{value:.{digits}f}"
            )
            return f'<td class="number" data-value="{value:.6g}">{shown}</td>'
        text = html.escape(str(value))
        return (
            f'<td><a href="{links[str(value)]}">{text}</a></td>'
            if str(value) in links
            else (f"<td>{text}</td>")
        )

    heads = "".join(
        f'<th scope="col"><button type="button">{html.escape(str(c))}</button></th>' for c in table
    )
    body = "".join(
        f"<tr>{''.join(map(cell, row))}</tr>" for row in table.itertuples(index=False, name=None)
    )
    menus = "".join(
        f'<label>{html.escape(c)} <select data-column="{table.columns.get_loc(c)}">'
        '<option value="">all</option>'
        + "".join(
            f"<option>{html.escape(str(v))}</option>" for v in sorted(table[c].astype(str).unique())
        )
        + "</select></label>"
        for c in choices
    )
    return HTML(
        '<div class="scoreboard"><div class="filters" hidden>'
        f'<label>words <input type="search" placeholder="rank donor"></label>{menus}'
        f'<span role="status">{len(table)} rows</span></div>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(caption)}">'
        f"<table><caption>{html.escape(caption)}</caption><thead><tr>{heads}</tr></thead>"
        f"<tbody>{body}</tbody></table></div></div><script>{_SCRIPT}</script>"
    )
