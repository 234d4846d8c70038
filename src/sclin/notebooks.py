"""The runner behind ``make`` and ``sclin run``.

A chapter is a MyST Markdown notebook.
The runner checks its parameters, lets papermill execute it, and writes down what it ran on.
A chapter whose code, parameters, versions, modules and data files are the same as at its last run
is not executed again: only its prose is renewed.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from importlib.machinery import SourceFileLoader
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import joblib
import jupytext
import nbformat
import pandas as pd
import papermill
import yaml
from papermill.exceptions import PapermillExecutionError

from sclin import results as tidy
from sclin.disk import sha256_of
from sclin.errors import InputError, SclinError, UnreachableError, unknown

PACKAGE = Path(__file__).parent
# The wheel carries the chapters; in a clone they lie beside ``src``.
CHAPTERS = next(filter(Path.exists, [PACKAGE / "chapters", PACKAGE.parents[1] / "notebooks"]))
#: The language in which their sentences rest on rows; it travels with them.
claims = ModuleType("claims")
SourceFileLoader("claims", str(CHAPTERS / "claims.py")).exec_module(claims)
LIBRARIES = "sclin numpy scipy pandas numba scikit-learn anndata scanpy torch transformers python"
_TYPES: dict[str, Any] = {"str": str, "int": int, "float": (int, float), "bool": bool, "list": list}
_LINE = re.compile(rf"(\w+): ({'|'.join(_TYPES)}) = (.+?)(?:\s+# (.+))?")
# What a chapter runs last, unseen: which modules of the package its kernel has loaded.
_LOADED = """\
import json, sys
print(json.dumps([m.__file__ for n, m in [*sys.modules.items()] if n.split(".")[0] == "sclin"]))"""


class NotebookError(SclinError, RuntimeError):
    """A notebook that stopped with an error; ``unreachable`` says which file no source gave."""

    unreachable: str = ""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a notebook: its name, type, default and help."""

    name: str
    type: str
    default: Any
    help: str

    def check(self, value: Any) -> Any:
        """Return the value, or raise `InputError` when it has not the type of the parameter.

        The items of a list are numbers where its default holds numbers, else text.
        No number of a chapter may be negative.
        """
        is_list = self.type == "list"
        good = _is(value, self.type) and (not is_list or all(_is(v, self._items) for v in value))
        if not good or any(_is(v, "float") and v < 0 for v in (value if is_list else [value])):
            wanted = f"{'no number below 0' if good else self.type}: {self.help}"
            found = f"Parameter {self.name!r} is {value!r} ({type(value).__name__})"
            raise InputError(f"{found}, but it takes {wanted} (default {self.written}).")
        return float(value) if self.type == "float" else value

    @property
    def _items(self) -> str:
        return "float" if self.default and _is(self.default[0], "float") else "str"

    @property
    def written(self) -> str:
        """The default as the command line takes it."""
        text = self.default if self.type == "str" else json.dumps(self.default)
        plain = ",".join(map(str, self.default)) if self.type == "list" else ""
        return shlex.quote(plain if plain and self.parse(plain) == self.default else text)

    def parse(self, text: Any) -> Any:
        """Read the value, or its text on a command line.

        The brackets of a list may be left out: ``10, 20`` is ``[10, 20]``, ``a b, c`` two texts.
        """
        if self.type == "str" or not isinstance(text, str):
            return self.check(text)
        is_list = self.type == "list"
        written = f"[{text}]" if is_list and not text.lstrip().startswith("[") else text
        texts = is_list and self._items == "str"
        try:
            found = yaml.load(written, yaml.BaseLoader) if texts else json.loads(written.lower())
            return self.check(found)
        except (yaml.YAMLError, json.JSONDecodeError):
            return self.check(text)


def _is(value: Any, kind: str) -> bool:
    """Whether a value has a type: whole numbers are numbers, truth values are not."""
    return isinstance(value, _TYPES[kind]) and isinstance(value, bool) == (kind == "bool")


def list_notebooks(folder: str | Path = CHAPTERS) -> list[str]:
    """Names of the notebooks in a folder, by default the chapters of the book, in order."""
    return sorted(path.stem for path in Path(folder).glob("[0-9]*.md"))


def _complete(name: str, folder: str | Path) -> str:
    """Name of the one notebook with this number, or that begins so, its number aside."""
    names = list_notebooks(folder)
    start = name.zfill(2) if name.isdigit() else name
    begun = [n for n in names if n.startswith(start) or n[3:].startswith(start)]
    found = [name] if name in names else begun
    if len(found) != 1:
        raise unknown("notebook", name, found or names)
    return found[0]


def _tags(cell: Any) -> list[str]:
    return cell.metadata.get("tags", [])


def parameters(name: str, *, folder: str | Path = CHAPTERS) -> dict[str, Parameter]:
    """Read the parameters of a notebook from its cell tagged ``parameters``.

    Parameters
    ----------
    name
        Name of the notebook, such as ``05_cell_types``, or its beginning.
    folder
        Where the notebooks are.

    Returns
    -------
    dict
        `Parameter` by name, in the order of the cell.

    Raises
    ------
    InputError
        When a line of the cell is not ``name: type = default  # help``.
    """
    name = _complete(name, folder)
    notebook = jupytext.read(Path(folder) / f"{name}.md")
    source = "\n".join(cell.source for cell in notebook.cells if "parameters" in _tags(cell))
    found = {}
    for line in filter(None, source.split("\n")):
        if (match := _LINE.fullmatch(line)) is None:
            form = f"`name: type = default  # help` with a type of {', '.join(_TYPES)}"
            raise InputError(f"{name}: line {line!r} of its parameters is not of the form {form}.")
        key, kind, default, said = match.groups(default="")
        found[key] = Parameter(key, kind, ast.literal_eval(default), said)
    return found


def arguments(
    name: str, profile: str, values: Any = None, *, folder: str | Path = CHAPTERS
) -> dict[str, Any]:
    """Parameters that a run gives to a notebook: those of the profile, and over them its own.

    Parameters
    ----------
    name
        Name of the notebook, or its beginning.
    profile
        ``offline``, ``public``, ``paper`` or ``test``: a file of ``profiles`` in the folder.
    values
        Parameters of your own; a text is read as `Parameter.parse` reads it.
    folder
        Where the notebooks are.

    Returns
    -------
    dict

    Raises
    ------
    InputError
        When there is no such profile, or a parameter is unknown or of the wrong type.
    """
    path = Path(folder) / "profiles" / f"{profile}.yml"
    if not path.exists():
        raise unknown("profile", profile, sorted(p.stem for p in path.parent.glob("*.yml")))
    name = _complete(name, folder)
    known = parameters(name, folder=folder)
    profiles = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    given = {**profiles.get(name, {}), **(values or {})}
    for key in set(given) - set(known):
        raise unknown(f"parameter of {name}", key, known)
    return {key: known[key].parse(value) for key, value in given.items()}


def _fingerprint(said: Any, files: Iterable[Path]) -> str:
    """Hash of what decides the outputs: what can be said in JSON, and the contents of files."""
    hashes = [sha256_of(path) for path in files]
    return hashlib.sha256(json.dumps([said, hashes], sort_keys=True).encode()).hexdigest()


def _loaded_modules(cell: Any) -> list[str]:
    """Files below the package that a kernel has loaded, and the tables that lie beside them."""
    modules = {Path(file) for file in json.loads(cell.outputs[0].text)}
    beside = [file for folder in {module.parent for module in modules} for file in folder.iterdir()]
    tables = {file for file in beside if file.suffix in (".yml", ".csv", ".json")}
    return sorted(str(file.relative_to(PACKAGE)) for file in modules | tables)


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in LIBRARIES.split():  # one by one: to read those of all that is installed takes long
        with suppress(PackageNotFoundError):
            found.setdefault(name, version(name))
    return {name: found.get(name, "not installed") for name in LIBRARIES.split()}


def _renew_prose(source: Any, executed: Any) -> Any:
    """New text and figure captions around the outputs of an earlier run of the same code."""
    injected = [c for c in executed.cells if "injected-parameters" in _tags(c)]
    outputs = iter([c for c in executed.cells if c.cell_type == "code" and c not in injected])
    cells = []
    for cell in source.cells:
        cells.append(cell)
        if cell.cell_type == "code":
            old = next(outputs)
            cell.outputs, cell.execution_count = old.outputs, old.execution_count
            cells += injected if "parameters" in _tags(cell) else []
    source.cells = cells + [c for c in executed.cells if "provenance" in _tags(c)]
    source.metadata |= {k: executed.metadata.get(k, {}) for k in ("sclin_run", "language_info")}
    return source


@dataclass(frozen=True)
class Run:
    """What a run did: the page, whether code ran, in how many seconds, and on which profile."""

    path: Path
    executed: bool
    seconds: float
    profile: str

    @property
    def table(self) -> pd.DataFrame:
        """The results table beside the page; empty where the chapter writes none."""
        path = self.path.with_suffix(".csv")
        return tidy.table(pd.read_csv(path, dtype={"layer": str}) if path.exists() else [])

    @property
    def told(self) -> list[str]:
        """Lines ``report: PATH`` and ``verdict on TASK: ...`` that the chapter printed."""
        cells = nbformat.read(self.path, as_version=4).cells
        said = "\n".join(o.get("text", "") for cell in cells for o in cell.get("outputs", []))
        return re.findall("^(?:report:|verdict on ).+$", said, re.MULTILINE)


def run(
    name: str, *, values: Mapping[str, Any] | None = None, profile: str = "offline",
    folder: str | Path = CHAPTERS, output: str | Path | None = None,
    results: str | Path = "_build/runs/results", force: bool = False, roles: bool = False,
) -> Run:  # fmt: skip
    """Execute a notebook with papermill, unless nothing that decides its outputs has changed.

    Parameters
    ----------
    name
        Name of the notebook, such as ``05_cell_types``, its beginning or its number.
    values
        Parameters, over those of the profile.
    profile
        A file of ``profiles`` in the folder.
    folder
        Where the notebooks are; by default the chapters of the book.
    output
        Executed notebook to write, by default ``_build/runs/<name>.ipynb``, or with a number
        where another run lies there. Its table lies beside it.
    results
        Folder of the results tables, with the last one of each chapter.
    force
        Execute in any case.
    roles
        Leave sentences as they are in the source: the book tests them while it is built.

    Returns
    -------
    Run

    Raises
    ------
    InputError
        When a parameter is unknown or of the wrong type.
    NotebookError
        When a cell fails; the notebook as far as it got lies beside ``output``.
    """
    start = time.perf_counter()
    name, results = _complete(name, folder), Path(results)
    source = jupytext.read(Path(folder) / f"{name}.md")
    given = arguments(name, profile, values, folder=folder)
    used = {key: each.default for key, each in parameters(name, folder=folder).items()} | given
    code = [cell.source for cell in source.cells if cell.cell_type == "code"]
    reads_results = source.metadata.get("sclin", {}).get("reads_results")

    def fingerprint(record: Mapping[str, Any]) -> str:
        modules = [PACKAGE / module for module in record["modules"]]
        data = [Path(path) for entry in record["data"] for path in entry.get("paths", ())]
        tables = sorted(results.glob("*.csv")) if reads_results else []
        return _fingerprint([code, used, profile, _versions()], [*modules, *data, *tables])

    def same(path: Path) -> Any:
        """The earlier run, where its outputs are those that this one would have."""
        old = nbformat.read(path, as_version=4)
        record = old.metadata.get("sclin_run", {})
        return old if "modules" in record and record["fingerprint"] == fingerprint(record) else None

    old, here = None, f"_build/runs/{name}"
    numbered = (f"{here}{f'-{n}' * (n > 1)}.ipynb" for n in count(1))
    for path in map(Path, [output] if output else numbered):
        if not path.exists() or (old := same(path)):
            break
    table, latest = path.with_suffix(".csv"), results / f"{name}.csv"
    for place in (path, latest):
        place.parent.mkdir(parents=True, exist_ok=True)
    renewed = bool(old) and not force
    if not renewed:
        working = path.with_suffix(".failed.ipynb")
        old = _execute(name, deepcopy(source), given, profile, results, working)
        record = old.metadata["sclin_run"]
        record |= {"profile": profile, "parameters": used, "fingerprint": fingerprint(record)}
        old.cells.append(claims.closing_box(name, record))
        working.unlink(missing_ok=True)
    page = _renew_prose(source, old)
    one, other = (table, latest) if renewed else (latest, table)
    if one.exists():
        shutil.copy(one, other)
    done = Run(path, not renewed, time.perf_counter() - start, profile)
    if not roles:  # the book tests sentences itself
        rows = claims.Rows(done.table) if len(done.table) else None
        claims.settle_notebook(page, rows, plain=True)
    for number, cell in enumerate(page.cells):
        cell["id"] = f"cell-{number}"  # one run, one page: what has not changed is not built again
    part = path.with_suffix(f".{os.getpid()}.part")  # a page that lies there is whole
    nbformat.write(page, part)
    part.replace(path)
    return done


def _execute(
    name: str, source: Any, given: dict[str, Any], profile: str, results: Path, working: Path
) -> Any:
    """Execute a notebook; its metadata say on what."""
    start = time.perf_counter()
    # Errors of cells come back in the notebook; the terminal would only hear of eavesdroppers
    # and of the interrupt with which a kernel is shut down.
    quiet: Any = {"progress_bar": False, "extra_arguments": ["--log-level=CRITICAL"]}
    quiet |= {"kernel_name": "python3", "coalesce_streams": True}  # a bar's last state, not each
    source.cells.append(nbformat.v4.new_code_cell(_LOADED))
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "data")
        settings = {
            "SCLIN_PROFILE": profile,
            "SCLIN_RESULTS": str(results.resolve()),
            "SCLIN_PROVENANCE": str(log),
            "JUPYTER_RUNTIME_DIR": folder,  # the home may be read only
            # Libraries ask for widgets, which a printed page cannot hold.
            "PYTHONWARNINGS": "ignore:IProgress not found",
            # Threads that spin while they wait bring a busy machine to a halt.
            "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive"),
            # One thread adds in one order, so that tables are the same everywhere.
            **{f"{kind}_NUM_THREADS": "1" for kind in ("OMP", "OPENBLAS", "MKL", "NUMBA")},
        }
        try:
            with patch.dict(os.environ, settings):
                executed = papermill.execute_notebook(source, working, given, **quiet)
        except RuntimeError as error:  # the kernel did not answer
            stop = f"{name} stopped: {error}. Most often memory ran out; choose fewer cells."
            raise NotebookError(f"{stop}\nThe notebook up to there: {working}") from None
        except PapermillExecutionError as error:
            why = f"{error.ename}: {' '.join(error.evalue.splitlines())}"
            left = f"The notebook up to there, with the traceback: {working}"
            stop = f"{name} stopped in cell {error.exec_count}: {why}\n{left}"
            failed = NotebookError(stop)
            failed.unreachable = why * (error.ename == UnreachableError.__name__)
            raise failed from None
        lines = dict.fromkeys(log.read_text(encoding="utf-8").split("\n") if log.exists() else [])
    for metadata in (executed.metadata, *(cell.metadata for cell in executed.cells)):
        metadata.pop("papermill", None)
    executed.metadata["sclin_run"] = {
        "modules": _loaded_modules(executed.cells.pop()),
        "data": [json.loads(line) for line in lines if line],
        "versions": _versions(),
        "device": f"{platform.machine()} CPU, {joblib.cpu_count()} cores",
        "seconds": round(time.perf_counter() - start, 1),
    }
    return executed
