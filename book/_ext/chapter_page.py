"""What the page of a chapter adds to its executed notebook: facts, tidy tables, downloads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import exercises
import jupytext
import nbformat
import page_tables
import scoreboard
from chapters import front_matter, toc

from sclin.notebooks import claims

FACTS = """
```{{raw}} html
<ul class="facts">
<li><b>{minutes}</b> min</li><li><b>{memory_gb}</b> GB memory</li><li><b>{device}</b></li>
<li>data: {data}</li>{tested}
</ul>
```
{notice}

::::{{dropdown}} Run this chapter with your parameters
:class-container: rerun

```bash
make run NB={stem} P="{example}"
```

{parameters}

`make params NB={stem}` prints the same list.
Without the repository, take the
<a href="../../downloads/{stem}.ipynb" download>notebook</a>, the
<a href="../../downloads/{stem}.py" download>script</a> or the
<a href="../../downloads/{stem}_student.ipynb" download>student copy without solutions</a>.
::::
"""
PARAMETER = re.compile(r"^(\w+)\s*:\s*([\w\[\], |]+?)\s*=\s*(.+?)(?:\s+#\s*(.*))?$", re.M)


def join_prints(notebook: dict) -> None:
    """Make one output of lines that a cell printed one after the other."""
    for cell in notebook["cells"]:
        outputs: list[dict] = []
        for output in cell.get("outputs", []):
            last = outputs[-1] if outputs else {}
            if output.get("name") and output.get("name") == last.get("name"):
                outputs[-1] = {**last, "text": "".join(last["text"]) + "".join(output["text"])}
            else:
                outputs.append(output)
        if "outputs" in cell:
            cell["outputs"] = outputs


def part_figures(notebook: dict) -> None:
    """Give what a figure cell prints beside its picture a cell of its own.

    MyST-NB makes a figure of every output of such a cell, and the second one would repeat the name.
    """
    cells = []
    for cell in notebook["cells"]:
        cells.append(cell)
        # tqdm misses a widget library that a printed page has no use for.
        outputs = [o for o in cell.get("outputs", []) if "IProgress not found" not in str(o)]
        if "outputs" in cell:
            cell["outputs"] = outputs
        if "figure" in cell["metadata"].get("mystnb", {}) and len(outputs) > 1:
            drawn = [output for output in outputs if "image/png" in output.get("data", {})]
            rest = [output for output in outputs if output not in drawn]
            if drawn and rest:
                cell["outputs"] = drawn
                cells.append(
                    {**cell, "source": "", "outputs": rest, "metadata": {"tags": ["remove-input"]}}
                )
                if "id" in cell:
                    cells[-1]["id"] = f"{cell['id'][:58]}-rest"
    notebook["cells"] = cells


def set_tables(root: Path, notebook: dict) -> None:
    """Tidy every table that a cell shows; one whose cell names ``filterable`` gets filters."""
    links = {stem: f"{stem}.html" for _, stems in toc(root) for stem in stems}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            markup = "".join(output.get("data", {}).get("text/html", ""))
            if "<table" not in markup:
                continue
            if wanted := cell["metadata"].get("filterable"):
                output["data"]["text/html"] = scoreboard.filterable(markup, **wanted, links=links)
            else:
                output["data"]["text/html"] = page_tables.tidy(markup)


NOTICE = """
:::{{note}}
This page shows a run of its own. Tested sentences that do not hold in it are marked: {fail}.
:::
"""


def add_facts(root: Path, stem: str, notebook: dict, told: Mapping[str, int]) -> None:
    """Put facts, downloads and the command to run again below the title of a chapter.

    ``told`` counts the tested sentences that ``hold``, ``fail`` and are ``left out``.
    """
    first = notebook["cells"][0]
    source = "".join(first["source"])
    title, _, rest = source.partition("\n")
    if first["cell_type"] != "markdown" or not title.startswith("# "):
        raise ValueError(f"{stem}: the first cell must start with the title ('# ...')")
    facts = {"minutes": "?", "memory_gb": "?", "device": "CPU", "data": []}
    facts |= front_matter(root, stem) or notebook["metadata"].get("sclin", {})
    ran = [one["name"] for one in notebook["metadata"].get("sclin_run", {}).get("data", [])]
    named = dict.fromkeys(ran) or facts["data"]
    data = ", ".join(f"<code>{name}</code>" for name in named) or "none"
    parameters = _parameters(notebook)
    rows = [
        [f"`{name}`", f"`{kind}`", f"`{default}`", text] for name, kind, default, text in parameters
    ]
    held, fail, left = (told.get(what, 0) for what in ("hold", "fail", "left out"))
    others = f"; {left} on other cells are left out" * bool(left)
    tested = f"\n<li><b>{held}</b> of {held + fail} tested sentences hold{others}</li>"
    filled = FACTS.format(
        **{**facts, "data": data},
        tested=tested * bool(held + fail),
        notice=NOTICE.format(fail=fail) if fail else "",
        stem=stem,
        example=_example(parameters),
        parameters=page_tables.markdown(rows, ["Parameter", "Type", "Default", "Meaning"])
        if rows
        else "",
    )
    first["source"] = f"{title}\n{filled}\n{rest}"


def _parameters(notebook: dict) -> list[tuple[str, str, str, str]]:
    for cell in notebook["cells"]:
        if "parameters" in cell.get("metadata", {}).get("tags", []):
            return PARAMETER.findall("".join(cell["source"]))
    return []


def _example(parameters: list[tuple[str, str, str, str]]) -> str:
    """Write a command that changes one parameter, the number before the text."""
    for wanted in ("int", "float", "str"):
        for name, kind, default, _ in parameters:
            if kind == wanted and name != "seed":
                value = json.loads(default) if default.startswith('"') else default
                return f"-p {name} {value}"
    return "-p seed 1"


def write_downloads(root: Path, stem: str, executed: Path, folder: Path) -> None:
    """Write the notebook, its script and its student copy, all without outputs."""
    source = root / "notebooks" / f"{stem}.md"
    notebook = jupytext.read(source) if source.exists() else nbformat.read(executed, 4)
    claims.settle_notebook(notebook, page_tables.rows_of(root, stem), plain=True)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, folder / f"{stem}.ipynb")
    jupytext.write(notebook, folder / f"{stem}.py", fmt="py:percent")
    copy = exercises.student_copy(notebook)
    (folder / f"{stem}_student.ipynb").write_text(copy, encoding="utf-8")
