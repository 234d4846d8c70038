"""The datasets and models pages of the book, written from the catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sclin.datasets.schema import TIERS, Entry, RemoteFile, catalogue

__all__ = ["datasets_page", "models_page"]


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    def line(cells: Iterable[object]) -> str:
        return "| " + " | ".join(str(c).replace("|", "\\|") for c in cells) + " |"

    lines = [line(head), "|" + " --- |" * len(head), *map(line, rows)]
    return ":::{div} scroll\n" + "\n".join(lines) + "\n:::"


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _cite(entry: Entry) -> str:
    return "-" if entry.citation in (None, "none") else f"{{cite:p}}`{entry.citation}`"


def _labels(entry: Entry) -> str:
    known = {**dict.fromkeys(entry.columns or {}, None), **(entry.labels or {})}
    return ", ".join(f"{key} ({n})" if n else key for key, n in known.items()) or "-"


def source_text(source: dict[str, str], wheels: dict[str, Any]) -> str:
    """Say in a few words where a file comes from.

    Examples
    --------
    >>> source_text({"bucket": "b", "key": "a/c.h5ad"}, {})
    's3://b/a/c.h5ad (unsigned)'
    """
    if "url" in source:
        return source["url"] + (f", member {source['member']}" if "member" in source else "")
    if "wheel" in source:
        wheel = wheels[source["wheel"]]
        return f"wheel {wheel['package']}=={wheel['version']}, member {source['member']}"
    if "bucket" in source:
        return f"s3://{source['bucket']}/{source['key']} (unsigned)"
    if "hub" in source:
        return f"Hugging Face {source['hub']}@{source['revision']}, {source['file']}"
    if "installed" in source:
        return f"inside the installed {source['installed']}, {source['member']}"
    return source["ask"]


def _file_row(file: RemoteFile, wheels: dict[str, Any]) -> list[str]:
    sha = f"`{file.sha256[:16]}…`" if file.sha256 else "recorded on first fetch"
    sources = "; ".join(source_text(s, wheels) for s in file.sources)
    return [f"`{file.name}`", _number(file.bytes), sha, sources]


def _details(entry: Entry, wheels: dict[str, Any]) -> str:
    lines = [f":::::{{dropdown}} {entry.name}: {entry.title}"]
    facts = {
        "Tier": entry.tier,
        "Tasks": ", ".join(entry.tasks or []),
        "Licence": entry.licence,
        "Option": f"`{entry.option}`: {', '.join(entry.choices)}" if entry.option else None,
        "Page of the source": f"<{entry.homepage}>" if entry.homepage else None,
    }
    lines += [f"- {key}: {value}" for key, value in facts.items() if value]
    if entry.columns:
        pairs = ", ".join(f"`{ours}` from `{theirs}`" for ours, theirs in entry.columns.items())
        lines.append(f"- Columns: {pairs}")
    lines += [f"- {note}" for note in entry.notes or []]
    files = entry.all_files()
    if files:
        head = ["File", "Bytes", "sha256", "Source"]
        lines += ["", _table(head, (_file_row(file, wheels) for file in files))]
    return "\n".join([*lines, ":::::"])


def datasets_page() -> str:
    """Describe every dataset and resource of the catalogue.

    Returns
    -------
    str
        MyST Markdown without headings: one table a tier, then a box for each entry.
    """
    found = catalogue()
    head = ["Name", "What", "Organism", "Values", "Cells", "Genes", "Labels", "Licence", "Cite"]
    parts = []
    for tier in TIERS:
        rows = [
            [
                f"`{name}`",
                entry.title,
                entry.organism,
                entry.values,
                _number(entry.n_obs),
                _number(entry.n_vars),
                _labels(entry),
                entry.licence,
                _cite(entry),
            ]
            for name, entry in found.items()
            if entry.tier == tier
        ]
        parts += [f"**Tier {tier}**", _table(head, rows)]
        parts += [_details(e, found.wheels) for e in found.values() if e.tier == tier]
    parts.append("**Networks, gene tables and dictionaries** (`sclin.datasets.resource(name)`)")
    rows = [
        [f"`{name}`", entry.title, entry.tier, entry.licence, _cite(entry)]
        for name, entry in found.resources.items()
    ]
    parts.append(_table(["Name", "What", "Tier", "Licence", "Cite"], rows))
    parts += [_details(entry, found.wheels) for entry in found.resources.values()]
    return "\n\n".join(parts) + "\n"


def models_page() -> str:
    """Describe every model of the catalogue.

    Returns
    -------
    str
        MyST Markdown without headings: one table, then the layer convention of each model.
    """
    models = catalogue().models
    head = [
        "Name",
        "Parameters",
        "Blocks",
        "Width",
        "Context",
        "Genes",
        "Weights",
        "Commercial use",
    ]
    rows = [
        [
            f"`{name}`",
            f"{(entry.parameters or 0) / 1e6:,.0f} M",
            entry.layers,
            entry.width,
            _number(entry.context),
            entry.genes,
            f"[{entry.title}]({entry.page}), {entry.licence}",
            "yes" if entry.commercial else "no",
        ]
        for name, entry in models.items()
    ]
    lines = [f"- `{name}`: {entry.convention}." for name, entry in models.items()]
    notes = [f"- `{name}`: {note}" for name, e in models.items() for note in e.notes or []]
    return (
        "\n\n".join([_table(head, rows), "**Layers**", "\n".join(lines), "\n".join(notes)]) + "\n"
    )
