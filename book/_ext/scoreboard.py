"""The scoreboard: a table of a chapter that the page lets its reader sort and filter.

The table is plain HTML: without JavaScript it is complete, only not filterable.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from bs4 import BeautifulSoup

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
    const raw = row.cells[i].textContent;
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
    markup: str,
    *,
    caption: str,
    choices: Sequence[str] = (),
    links: Mapping[str, str] | None = None,
) -> str:
    """Give a table that pandas wrote a box of filters and headings that sort.

    Parameters
    ----------
    markup
        HTML of ``DataFrame.to_html(index=False)``.
    caption
        What the table holds, in a sentence.
    choices
        Columns that get a menu of their values.
    links
        Address by value, for the values of any column that should be links.

    Returns
    -------
    str
        HTML of the box and its script.
    """
    soup = BeautifulSoup(markup, "html.parser")
    rows = [[cell.get_text(strip=True) for cell in row("td")] for row in soup.select("tbody tr")]
    names = [cell.get_text(strip=True) for cell in soup.select("thead th")]
    links = links or {}

    def cell(text: str) -> str:
        if text.removeprefix("-").replace(".", "", 1).isdigit():
            return f'<td class="number">{text}</td>'
        shown = html.escape(text)
        return (
            f'<td><a href="{links[text]}">{shown}</a></td>'
            if text in links
            else f"<td>{shown}</td>"
        )

    heads = "".join(
        f'<th scope="col"><button type="button">{html.escape(name)}</button></th>' for name in names
    )
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    menus = ""
    for name in choices:
        column = names.index(name)
        options = "".join(
            f"<option>{html.escape(value)}</option>"
            for value in sorted({row[column] for row in rows})
        )
        menus += (
            f'<label>{html.escape(name)} <select data-column="{column}">'
            f'<option value="">all</option>{options}</select></label>'
        )
    caption = html.escape(caption)
    return (
        '<div class="scoreboard"><div class="filters" hidden>'
        f'<label>words <input type="search" placeholder="rank donor"></label>{menus}'
        f'<span role="status">{len(rows)} rows</span></div>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}">'
        f"<table><caption>{caption}</caption><thead><tr>{heads}</tr></thead>"
        f"<tbody>{body}</tbody></table></div></div><script>{_SCRIPT}</script>"
    )
