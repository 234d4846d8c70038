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

import pandas as pd
import yaml

from sclin import front, teaching

PROFILES = {
    "offline": "real cells out of Python wheels, and simulated cells with known truth",
    "public": "small public files besides the packaged and the simulated cells",
    "paper": "the data of the two papers",
    "test": "tiny sizes, so its numbers mean nothing",
}


def draw(root: Path) -> None:
    """Draw the front figure when there are results to draw."""
    if len(results := _results(root)):
        front.save_front_figure(results, root / "book" / "_generated")


# Tables and small pieces of Markdown ------------------------------------------------------------


def table(rows: list[list[object]], head: list[str], klass: str = "") -> str:
    """Write a Markdown table inside a box that scrolls on a narrow screen."""

    def cell(value: object) -> str:
        return str(value).replace("|", "\\|").replace("\n", " ")

    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(map(cell, row)) + " |" for row in rows]
    return f":::{{div}} scroll {klass}\n" + "\n".join(lines) + "\n:::"


def profile_of(root: Path) -> str:
    """Profile of the executed chapters that lie beside the pages; offline before the first run."""
    runs = (_executed(root, stem).get("sclin_run", {}) for _, stems in _toc(root) for stem in stems)
    return next((run["profile"] for run in runs if run.get("profile")), "offline")


def _results(root: Path) -> pd.DataFrame:
    """Read the tables of the profile that the pages show."""
    name = profile_of(root)
    folder = root / ("_build/test/results" if name == "test" else f"results/{name}")
    tables = [pd.read_csv(path) for path in sorted(folder.glob("*.csv"))]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _toc(root: Path) -> list[tuple[str, list[str]]]:
    """Give the parts of the book, each with the stems of its chapters."""
    toc = yaml.safe_load((root / "_toc.yml").read_text())
    return [
        (part["caption"], [Path(chapter["file"]).name for chapter in part["chapters"]])
        for part in toc["parts"]
        if part["chapters"][0]["file"].startswith("book/chapters/")
    ]


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
    return json.loads(path.read_text())["metadata"] if path.exists() else {}


# The index --------------------------------------------------------------------------------------


def profile(root: Path) -> str:
    """Name the profile whose numbers the pages show."""
    name = profile_of(root)
    return (
        f":::{{div}} profile\nThe numbers on these pages come from the profile **{name}**: "
        f"{PROFILES.get(name, 'parameters of your own')}.\n:::"
    )


def front_figure(root: Path) -> str:
    """Show the front figure, or say that there is none yet."""
    results = _results(root)
    if not len(results):
        return (
            ":::{note}\nThere are no results yet.\n"
            "`make book` computes them and draws the figure of this page.\n:::"
        )
    return (
        ":::{figure} _generated/front.svg\n:name: fig-front\n:figclass: front-figure\n"
        f":width: 100%\n:alt: {front.alt_text(results)}\n\n{front.caption(results)}\n:::"
    )


def verdicts(root: Path) -> str:
    """Say what the results on disk show, finding by finding."""
    results = _results(root)
    told = front.verdicts(results) if len(results) else []
    return "\n".join(f"- {sentence}" for sentence in told)


def findings(root: Path) -> str:
    """Table what the results on disk show, number by number."""
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
    """List what each chapter teaches and which exercises show it, taken from the chapters."""
    rows: list[list[object]] = []
    for stem, text in _sources(root):
        aims = "".join(teaching.AIMS.findall(text))
        items = re.findall(r"^- (.+(?:\n  .+)*)", aims, re.M)
        labels = re.findall(r"^:label: (ex-\S+)", text, re.M)
        rows.append(
            [
                f"[{_title(root, stem)}](chapters/{stem})",
                "<br>".join(re.sub(r"\s+", " ", item).rstrip(",.") for item in items),
                "<br>".join(f"{{ref}}`{label}`" for label in labels),
            ]
        )
    return table(rows, ["Chapter", "Students can", "Shown by"], "outcomes")


def marking(root: Path) -> str:
    """List every exercise with what a full answer says, in the words of its solution."""
    rows: list[list[object]] = []
    for _, text in _sources(root):
        solutions = {
            found[1]: teaching.DIRECTIVE.sub("", found[2])
            for found in re.finditer(
                r"\{solution-start\} (\S+)\n.*?^```\n(.*?)^```\{solution-end\}", text, re.M | re.S
            )
        }
        for head, question in teaching.QUESTION.findall(text):
            label = head.partition(":label:")[2].split()[0]
            told = (question, solutions.get(label, ""))
            rows.append([f"{{ref}}`{label}`", *(" ".join(part.split()) for part in told)])
    text = table(rows, ["Exercise", "Question", "A full answer says"], "marking")
    return re.sub(r"(\{doc\}`)(?=\d\d_)", r"\1chapters/", text)


def _sources(root: Path) -> list[tuple[str, str]]:
    """Stem and text of every chapter that is there, in the order of the book."""
    stems = [stem for _, stems in _toc(root) for stem in stems]
    paths = {stem: root / "notebooks" / f"{stem}.md" for stem in stems}
    return [(stem, path.read_text()) for stem, path in paths.items() if path.exists()]


# Reference pages --------------------------------------------------------------------------------


def datasets(root: Path) -> str:
    """Describe every dataset of the catalogue."""
    text = re.sub(r"^\*\*(Tier \w+)\*\*$", r"## \1", _page("datasets_page"), flags=re.M)
    return re.sub(r"^\*\*(Networks.*?)\*\*$", r"## \1", text, flags=re.M)


def models(root: Path) -> str:
    """Describe every model of the catalogue."""
    return _page("models_page")


def _page(name: str) -> str:
    page = importlib.import_module("sclin.datasets.page")
    return str(getattr(page, name)())


MODULES = {
    "representations": ["normalization", "projection", "linear", "representations", "evaluation"],
    "benchmarks": [
        "benchmarks.cell_types",
        "benchmarks.disease_state",
        "benchmarks.cross_species",
        "benchmarks.structure",
        "benchmarks.regulation",
        "benchmarks.manifold",
        "benchmarks.trajectory",
        "benchmarks.perturbation",
    ],
    "layers": ["layers", "layers.store", "layers.tokens", "layers.selection", "layers.tiny"],
    "data": [
        "datasets",
        "datasets.orthologs",
        "datasets.simulate",
        "published",
        "plotting",
        "front",
        "notebooks",
        "teaching",
        "errors",
    ],
}


def _is_shadowed(name: str) -> bool:
    """Tell whether a package exports a function under the name of this module."""
    parent, _, leaf = f"sclin.{name}".rpartition(".")
    return not inspect.ismodule(getattr(importlib.import_module(parent), leaf))


def api(root: Path, part: str) -> str:
    """Document what each module of a part exports, each name where it comes first."""
    seen: set[int] = set()
    written = []
    for name in (name for names in MODULES.values() for name in names):
        module = importlib.import_module(f"sclin.{name}")
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
            if id(thing) in seen or not callable(thing):
                continue
            seen.add(id(thing))
            kind = "class" if inspect.isclass(thing) else "function"
            lines.append(f".. auto{kind}:: sclin.{name}.{member}")
            lines += ["   :members:", "   :show-inheritance:", ""] if kind == "class" else [""]
        if name in MODULES[part]:
            written.append("\n".join([*lines, "```"]))
    return "\n\n".join(written)


def protocols(root: Path, task: str) -> str:
    """Show what the corrections of one task change, wherever both protocols were run.

    Classes one by one are left out, and so are all layers of a model but the final one.
    """
    results = _results(root)
    if not len(results):
        return "There are no results yet."
    ours = results[(results["task"] == task) & (results["source"] == "reproduced")]
    ours = ours[ours["layer"].isna() | (ours["layer"].astype(str) == "final")]
    ours = ours[~ours["metric"].str.contains("[", regex=False)].fillna({"head": ""})
    keys = ["dataset", "representation", "head", "metric"]
    wide = ours.pivot_table(index=keys, columns="protocol", values="value", aggfunc="mean")
    wide = wide.reindex(columns=["as_published", "corrected"]).dropna()
    wide = wide[wide["as_published"] != 0]
    if wide.empty:
        return f"In the profile {profile_of(root)}, no score of this task has both protocols."
    change = wide["corrected"] - wide["as_published"]
    shown = wide.loc[change.abs().sort_values(ascending=False).index[:8]].sort_index()
    rows: list[list[object]] = [
        [
            f"`{dataset}`",
            f"`{name}`" + f", `{head}`" * bool(head),
            metric.replace("_", " "),
            f"{old:.3f}",
            f"{new:.3f}",
            f"{new - old:+.3f}",
        ]
        for (dataset, name, head, metric), (old, new) in zip(
            shown.index, shown.to_numpy(), strict=True
        )
    ]
    head = ["Dataset", "Representation, head", "Metric", "As published", "Corrected", "Change"]
    note = f"{len(wide)} scores have both protocols; the {len(rows)} that change most:\n\n"
    return note * (len(wide) > len(rows)) + table(rows, head)


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


def tidy_tables(notebook: dict) -> None:
    """Tidy every table that a cell shows, the scoreboard excepted."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            markup = "".join(output.get("data", {}).get("text/html", ""))
            if "<table" in markup and 'class="scoreboard"' not in markup:
                output["data"]["text/html"] = teaching.tidy_table(markup)


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
