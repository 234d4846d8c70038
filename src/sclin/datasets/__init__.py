"""Datasets by name: one catalogue, four tiers, nothing silent."""

from __future__ import annotations

import inspect
import json
import os
import re
from pathlib import Path
from typing import Any

import yaml
from anndata import AnnData

from sclin import matrices, tables
from sclin.datasets import readers, recipes, simulate
from sclin.datasets.entries import Entry, catalogue, check_options
from sclin.datasets.files import cache_dir, fetch, fetch_file, locate, memory
from sclin.datasets.resources import orthologs, resource
from sclin.disk import sha256_of
from sclin.errors import DataError, InputError, nearest
from sclin.matrices import take
from sclin.tables import embedding

__all__ = [
    "cache_dir", "catalogue", "embedding", "fetch", "load", "name_of", "orthologs", "resource",
    "take",
]  # fmt: skip


def load(name: str | Path, **options: Any) -> AnnData:
    """Load a dataset by name, or a file of cells by path.

    Parameters
    ----------
    name
        Name in the catalogue (``sclin data list``), or a path to ``.h5ad``, ``.zarr``, ``.loom``,
        10x ``.h5``, a 10x folder, ``.csv``, ``.tsv``, ``.rda``, ``.RData`` or ``.rds``; options
        may follow, as in ``"tabula_sapiens:tissue=lung"`` or ``"x.csv:orientation=genes_in_rows"``.
    **options
        For datasets: the entry's option (``tissue=``, ``species=``, ``state=``, ``plate=``),
        ``path=`` for a file of your own in its place, and what its reader takes
        (``layer=``, ``backed=``, ``version=``, ``labels=``).
        For a path: ``layer=`` and ``values=`` of `take`, ``labels=`` (a table of labels with a
        column of cell names), ``orientation=`` of a table, ``name=`` of an R object.
        For simulated datasets: the arguments of the simulator.
        For all: ``columns={"cell_type": "celltype"}`` names source columns for our fixed ones.

    Returns
    -------
    AnnData
        ``X`` is CSR float32, shape ``(n_cells, n_genes)``; ``uns["sclin"]["values"]`` says
        whether it holds counts, log or linear values, TPM or FPKM; see `take`.
        ``obs`` has the fixed columns ``cell_type``, ``donor``, ``batch``, ``condition``,
        ``time`` and ``perturbation`` where the source tells them, and all published columns.
        ``var_names`` are gene ids, ``var["symbol"]`` symbols.

    Raises
    ------
    DataError
        When the name is unknown or a file cannot be had or read.
    InputError
        When an option or a column does not exist, or gene names repeat.

    Examples
    --------
    >>> load("sim_atlas:n_cells=100,n_genes=50").shape
    (100, 50)
    >>> load("baron_humen")
    Traceback (most recent call last):
        ...
    sclin.errors.DataError: No dataset is called 'baron_humen'. Did you mean 'baron_human' ...
    """
    spec = str(name)
    name, said = _options_in(name)
    options = {**said, **options}
    columns = options.pop("columns", None) or {}
    entry = catalogue().get(str(name))
    own = options.get("path", "" if entry else name)
    if entry is not None:
        columns = {**(entry.columns or {}), **columns}
        found = (_simulate if entry.tier == "simulated" else _load_entry)(entry, options)
    elif re.search(r"[./\\]", str(name)) or Path(name).exists():
        found = _load_path(Path(name).expanduser(), options)
    else:
        raise DataError(
            f"No dataset is called {str(name)!r}.{nearest(str(name), catalogue())} "
            "`sclin data list` prints all names; a path to an .h5ad file works too."
        )
    parts = getattr(found, "adatas", {"": found})  # simulated species are several
    for key, cells in parts.items():
        if entry is not None and entry.tier == "simulated":
            cells = parts[key] = take(cells)
        readers.name_columns(cells, columns, spec)
        if said:
            cells.uns["sclin"]["dataset"] = spec
        _leave_provenance(cells, own, entry)
    return parts.get("", found)


def name_of(adata: AnnData) -> str:
    """Name under which cells were loaded, with its options; ``"cells"`` when nobody wrote one."""
    return str(adata.uns.get("sclin", {}).get("dataset", "cells"))


def _options_in(name: str | Path) -> tuple[str | Path, dict[str, Any]]:
    """Split ``name:key=value,key=value``; values are read as YAML."""
    plain, _, text = str(name).partition(":")
    if "=" not in text or Path(name).exists():
        return name, {}
    try:
        options = yaml.safe_load("{" + text.replace("=", ": ") + "}")
    except yaml.YAMLError:
        options = {text: None}
    if None in options.values():
        raise InputError(f"{text!r} in {str(name)!r} is not of the form key=value,key=value.")
    return plain, options


def _simulate(entry: Entry, options: dict[str, Any]) -> Any:
    function = getattr(simulate, entry.reader)
    check_options(entry.name, options, list(inspect.signature(function).parameters))
    return function(**options)


_CODE = [Path(str(module.__file__)).read_bytes() for module in (readers, recipes, tables, matrices)]


def _parse(reader: str, paths: list[Path], options: Any, hashes: Any, code: Any) -> AnnData:
    """Run a recipe; the last two say when a kept result is stale."""
    cells = getattr(recipes, reader)(paths, **options)
    cells.strings_to_categoricals()
    return cells


def _load_entry(entry: Entry, options: dict[str, Any]) -> AnnData:
    """Fetch an entry's files, or take the one of ``path=``, and put the cells together."""
    recipe = getattr(recipes, entry.reader)
    takes = [name for name in inspect.signature(recipe).parameters if name != "paths"]
    own = [entry.option] if entry.option else []
    check_options(entry.name, options, [*own, *takes, "path", "columns"])
    choice, path = options.pop(entry.option or "", None), options.pop("path", None)
    said = {"dataset": entry.name, "tier": entry.tier, "organism": entry.organism}
    if path is not None:
        paths = [Path(path).expanduser()]
        if not paths[0].exists():
            raise DataError(f"{entry.name}: path={str(path)!r} does not exist.")
        hashes = {paths[0].name: sha256_of(paths[0])}
    else:
        files = entry.files_of(choice)
        paths = [fetch_file(file) for file in files]
        hashes = {f.name: f.sha256 or sha256_of(p) for f, p in zip(files, paths, strict=True)}
        if entry.option:
            said[entry.option] = str(choice or entry.variant.get("default") or "all")
    options = {**(entry.read or {}), **options}
    if {path.suffix for path in paths} <= {".h5ad", ".zarr"}:
        cells = recipe(paths, **options)
    else:  # text and R take long to parse
        parse = memory().cache(_parse, ignore=["paths"])
        cells = parse(entry.reader, paths, options, hashes, _CODE)
    cells.uns["sclin"] |= {**said, "sha256": hashes}
    return cells


def _load_path(path: Path, options: dict[str, Any]) -> AnnData:
    cells = readers.read(path, **options)
    said = {"dataset": path.name.split(".")[0], "tier": "local"}
    cells.uns["sclin"] |= {**said, "sha256": {path.name: sha256_of(path)}}
    return cells


def _leave_provenance(cells: AnnData, own: str | Path, entry: Entry | None) -> None:
    """Append what was loaded to SCLIN_PROVENANCE, with the paths of files that may change."""
    target = os.environ.get("SCLIN_PROVENANCE")
    if not target:
        return
    said = cells.uns["sclin"]
    line = {"name": said["dataset"], "tier": said["tier"], "files": said.get("sha256", {})}
    free = [file for file in entry.all_files() if file.sha256 is None] if entry else []
    found = [locate(file) for file in free if file.name in line["files"]]
    line["paths"] = [str(Path(path).expanduser().absolute()) for path in (own, *found) if path]
    line |= {"n_obs": cells.n_obs, "n_vars": cells.n_vars}
    try:
        with open(target, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
    except OSError as error:
        raise DataError(f"SCLIN_PROVENANCE={target}: {error.strerror}.") from error
