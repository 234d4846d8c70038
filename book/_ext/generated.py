"""The passages of the book that are written while it is built.

Each public function takes the repository root and returns Markdown; `sclin_book` puts it where
a page asks for it. Nothing here computes a result: it only shows tables that lie on disk.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
from pathlib import Path

import nbformat
import pandas as pd
import yaml

from sclin import front

PARTS = {range(1, 5): "I", range(5, 11): "II", range(11, 15): "III", range(15, 17): "IV"}
TASKS = {
    "cell_types": "05_cell_types",
    "disease_state": "06_disease_state",
    "cross_species": "07_cross_species",
    "structure": "08_structure",
    "regulation": "09_gene_regulation",
    "manifold": "10_manifold",
    "trajectory": "12_layers_trajectory",
    "perturbation": "13_layers_perturbation",
    "layer_choice": "14_choosing_a_layer",
}


def draw(root: Path) -> None:
    """Draw the front figure when there are results to draw."""
    folder = root / "book" / "_generated"
    results = _results(root)
    if len(results):
        front.save_front_figure(results, folder)


# Tables and small pieces of Markdown ------------------------------------------------------------


def table(rows: list[list[object]], head: list[str], klass: str = "") -> str:
    """Write a Markdown table inside a box that scrolls on a narrow screen."""

    def cell(value: object) -> str:
        return str(value).replace("|", "\\|").replace("\n", " ")

    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(map(cell, row)) + " |" for row in rows]
    return f":::{{div}} scroll {klass}\n" + "\n".join(lines) + "\n:::"


def _results(root: Path, profile: str = "offline") -> pd.DataFrame:
    tables = [pd.read_csv(path) for path in sorted((root / "results" / profile).glob("*.csv"))]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _toc(root: Path) -> list[tuple[str, list[str]]]:
    """Give the parts of the book, each with the stems of its chapters."""
    toc = yaml.safe_load((root / "_toc.yml").read_text())
    parts = [
        (part["caption"], [Path(chapter["file"]).name for chapter in part["chapters"]])
        for part in toc["parts"]
        if part["chapters"][0]["file"].startswith("book/chapters/")
    ]
    return parts


def _front_matter(root: Path, stem: str) -> dict:
    """Read what a chapter says about itself: minutes, memory, device, data."""
    path = root / "notebooks" / f"{stem}.md"
    if not path.exists():
        return {}
    match = re.match(r"---\n(.*?)\n---\n", path.read_text(), re.S)
    return (yaml.safe_load(match[1]) or {}).get("sclin", {}) if match else {}


def _title(root: Path, stem: str) -> str:
    path = root / "notebooks" / f"{stem}.md"
    match = re.search(r"^# (.+)$", path.read_text(), re.M) if path.exists() else None
    return match[1].strip() if match else stem[3:].replace("_", " ").capitalize()


def _executed(root: Path, stem: str) -> dict:
    """Read the metadata of an executed chapter."""
    path = root / "book" / "chapters" / f"{stem}.ipynb"
    return dict(nbformat.read(path, 4).metadata) if path.exists() else {}


# The index --------------------------------------------------------------------------------------


def front_figure(root: Path) -> str:
    """Show the front figure, or say that there is none yet."""
    if not (root / "book" / "_generated" / "front.svg").exists():
        return (
            ":::{note}\nNo results lie in `results/offline` yet.\n"
            "`make book` computes them and draws the figure of this page.\n:::"
        )
    caption = front.caption(_results(root))
    return (
        ":::{figure} _generated/front.svg\n:name: fig-front\n:figclass: front-figure\n"
        f":alt: {front.alt_text(_results(root))}\n\n{caption}\n:::"
    )


def findings(root: Path) -> str:
    """Say what the results on disk show, number by number."""
    found = front.findings(_results(root)) if len(_results(root)) else pd.DataFrame()
    rows = [[name, *map(str, row)] for name, *row in found.itertuples()]
    return table(rows, ["Task", *found.columns], "findings") if rows else ""


def chapters(root: Path) -> str:
    """List every chapter with what it costs to run."""
    rows: list[list[object]] = []
    for caption, stems in _toc(root):
        for stem in stems:
            facts = _front_matter(root, stem)
            rows.append(
                [
                    caption.split(" · ")[0],
                    f"[{_title(root, stem)}](chapters/{stem})",
                    facts.get("minutes", "?"),
                    facts.get("memory_gb", "?"),
                    facts.get("device", "?"),
                    ", ".join(f"`{name}`" for name in facts.get("data", [])) or "none",
                ]
            )
    return table(rows, ["Part", "Chapter", "Minutes", "Memory (GB)", "Device", "Data"], "chapters")


# Teaching ---------------------------------------------------------------------------------------


def outcomes(root: Path) -> str:
    """List what each chapter teaches, taken from the chapters themselves."""
    rows: list[list[object]] = []
    for _, stems in _toc(root):
        for stem in stems:
            path = root / "notebooks" / f"{stem}.md"
            text = path.read_text() if path.exists() else ""
            aims = re.search(r":class: aims\n(.*?)\n```", text, re.S)
            items = re.findall(r"^- (.+(?:\n  .+)*)", aims[1], re.M) if aims else []
            label = f"[{_title(root, stem)}](chapters/{stem})"
            rows += [
                [label if k == 0 else "", re.sub(r"\s+", " ", item)] for k, item in enumerate(items)
            ] or [[label, "see the chapter"]]
    return table(rows, ["Chapter", "By the end, students can"], "outcomes")


def marking(root: Path) -> str:
    """List every exercise of the book."""
    rows: list[list[object]] = []
    for _, stems in _toc(root):
        for stem in stems:
            path = root / "notebooks" / f"{stem}.md"
            text = path.read_text() if path.exists() else ""
            for label in re.findall(r"\{exercise-start\}[^\n]*\n:label: (\S+)", text):
                rows.append([f"{{ref}}`{label}`", f"[{_title(root, stem)}](chapters/{stem})"])
    return table(rows, ["Exercise", "Chapter"]) if rows else "The chapters hold the exercises."


# Reference pages --------------------------------------------------------------------------------


def datasets(root: Path) -> str:
    """Describe every dataset of the catalogue."""
    text = re.sub(r"^\*\*(Tier \w+)\*\*$", r"## \1", _page("datasets_page"), flags=re.M)
    return re.sub(r"^\*\*(Networks.*?)\*\*", r"## \1\n\n", text, flags=re.M)


def models(root: Path) -> str:
    """Describe every model of the catalogue."""
    return _page("models_page")


def _page(name: str) -> str:
    page = importlib.import_module("sclin.datasets.page")
    return str(getattr(page, name)())


MODULES = [
    "normalization",
    "projection",
    "linear",
    "evaluation",
    "representations",
    "benchmarks.cell_types",
    "benchmarks.disease_state",
    "benchmarks.cross_species",
    "benchmarks.structure",
    "benchmarks.regulation",
    "benchmarks.manifold",
    "benchmarks.trajectory",
    "benchmarks.perturbation",
    "layers",
    "layers.store",
    "layers.tokens",
    "layers.selection",
    "layers.tiny",
    "datasets",
    "datasets.orthologs",
    "datasets.simulate",
    "plotting",
    "front",
    "published",
    "notebooks",
    "teaching",
    "errors",
]


def _is_shadowed(name: str) -> bool:
    """Tell whether a package exports a function under the name of this module."""
    parent, _, leaf = f"sclin.{name}".rpartition(".")
    return not inspect.ismodule(getattr(importlib.import_module(parent), leaf))


def api(root: Path) -> str:
    """Document what each module exports."""
    seen: set[int] = set()
    parts = []
    for name in MODULES:
        try:
            module = importlib.import_module(f"sclin.{name}")
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("sclin"):
                raise
            continue
        lines = [
            f"## sclin.{name}",
            "",
            "```{eval-rst}",
            f".. automodule:: sclin.{name}",
            "   :no-members:",
            *(["   :no-index:"] if _is_shadowed(name) else []),
            "",
        ]
        for member in getattr(module, "__all__", []):
            thing = getattr(module, member)
            if id(thing) in seen or inspect.ismodule(thing):
                continue
            if inspect.isclass(thing):
                seen.add(id(thing))
                lines += [
                    f".. autoclass:: sclin.{name}.{member}",
                    "   :members:",
                    "   :show-inheritance:",
                    "",
                ]
            elif callable(thing):
                seen.add(id(thing))
                lines += [f".. autofunction:: sclin.{name}.{member}", ""]
        parts.append("\n".join([*lines, "```"]))
    return "\n\n".join(parts)


def protocols(root: Path, task: str) -> str:
    """Show what the corrections of one task change, wherever both protocols were run."""
    results = _results(root)
    if not len(results):
        return "No results on disk yet."
    ours = results[(results["task"] == task) & (results["source"] == "reproduced")].copy()
    keys = ["dataset", "representation", "head", "model", "layer", "metric"]
    ours[keys] = ours[keys].fillna("").astype(str)
    wide = ours.pivot_table(index=keys, columns="protocol", values="value", aggfunc="mean")
    if not {"as_published", "corrected"} <= set(wide.columns):
        return "The offline profile runs one protocol only for this task."
    wide = wide.dropna(subset=["as_published", "corrected"])
    wide["difference"] = wide["corrected"] - wide["as_published"]
    wide = wide[wide["as_published"].abs() > 0].reset_index()
    if wide.empty:
        return "No number of the offline profile exists under both protocols."
    largest = wide["difference"].abs().sort_values(ascending=False).index[:8]
    rows: list[list[object]] = []
    for _, row in wide.loc[largest].sort_index().iterrows():
        what = " + ".join(part for part in (row["representation"], row["head"]) if part)
        what += f" ({row['model']}, layer {row['layer']})" if row["model"] else ""
        rows.append(
            [
                f"`{row['dataset']}`",
                what,
                row["metric"].replace("_", " "),
                f"{row['as_published']:.3f}",
                f"{row['corrected']:.3f}",
                f"{row['difference']:+.3f}",
            ]
        )
    head = ["Dataset", "Representation + head", "Metric", "As published", "Corrected", "Change"]
    note = (
        f"{len(wide)} numbers exist under both protocols; the {len(rows)} that change most:\n\n"
        if len(wide) > len(rows)
        else ""
    )
    return note + table(rows, head)


def depths(root: Path) -> str:
    """Show the stored score of every layer as a figure to explore."""
    from sclin import published

    return f"```{{raw}} html\n{front.depth_explorer(published.table('layers'))}\n```"


def status(root: Path) -> str:
    """Tell how long, on what and with which parameters each chapter was run."""
    rows: list[list[object]] = []
    for _, stems in _toc(root):
        for stem in stems:
            run = _executed(root, stem).get("sclin_run", {})
            used = run.get("versions", {})
            rows.append(
                [
                    f"[{_title(root, stem)}](chapters/{stem})",
                    f"{run['seconds']:.0f}" if run else "not run",
                    _front_matter(root, stem).get("minutes", "?"),
                    run.get("profile", "–"),
                    run.get("device", "–"),
                    f"sclin {used.get('sclin', '–')}, python {used.get('python', '–')}",
                ]
            )
    head = ["Chapter", "Seconds", "Promised minutes", "Profile", "Device", "Versions"]
    return table(rows, head)


def versions(root: Path) -> str:
    """Name the versions that this build of the pages uses."""
    from importlib.metadata import version
    from platform import python_version

    names = [
        "sclin",
        "numpy",
        "scipy",
        "pandas",
        "scikit-learn",
        "scanpy",
        "anndata",
        "numba",
        "torch",
        "papermill",
        "jupyter-book",
        "sphinx",
    ]
    rows: list[list[object]] = [["python", python_version()]]
    for name in names:
        try:
            rows.append([name, version(name)])
        except importlib.metadata.PackageNotFoundError:
            rows.append([name, "not installed"])
    return table(rows, ["Package", "Version"])


# Chapters ---------------------------------------------------------------------------------------

FACTS = """
```{{raw}} html
<ul class="facts">
<li><b>{minutes}</b> min</li><li><b>{memory_gb}</b> GB memory</li><li><b>{device}</b></li>
<li>data: {data}</li>
</ul>
```

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


def add_facts(root: Path, stem: str, notebook: dict) -> None:
    """Put facts, downloads and the command to run again below the title of a chapter."""
    first = notebook["cells"][0]
    source = "".join(first["source"])
    title, _, rest = source.partition("\n")
    if first["cell_type"] != "markdown" or not title.startswith("# "):
        raise ValueError(f"{stem}: the first cell must start with the title ('# ...')")
    facts = {"minutes": "?", "memory_gb": "?", "device": "CPU", "data": []}
    facts |= _front_matter(root, stem) or notebook["metadata"].get("sclin", {})
    data = ", ".join(f"<code>{name}</code>" for name in facts["data"]) or "none"
    parameters = _parameters(notebook)
    rows: list[list[object]] = [
        [f"`{name}`", f"`{kind}`", f"`{default}`", text] for name, kind, default, text in parameters
    ]
    filled = FACTS.format(
        **{**facts, "data": data},
        stem=stem,
        example=_example(parameters),
        parameters=table(rows, ["Parameter", "Type", "Default", "Meaning"]) if rows else "",
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
