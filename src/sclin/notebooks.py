"""The runner behind ``make`` and ``sclin run``.

A chapter is a MyST Markdown notebook.
The runner checks its parameters, lets papermill execute it, and writes down what it ran on.
A chapter whose code, parameters and modules have not changed is not executed again: only its
prose is renewed.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import yaml

from sclin.dependencies import module_files
from sclin.errors import InputError, SclinError, nearest

__all__ = [
    "NotebookError",
    "Parameter",
    "Run",
    "list_notebooks",
    "parameters",
    "profile_values",
    "run",
]

PACKAGE = Path(__file__).parent
LIBRARIES = (
    "numpy",
    "scipy",
    "pandas",
    "numba",
    "scikit-learn",
    "anndata",
    "scanpy",
    "torch",
    "transformers",
    "matplotlib",
)
_TYPES: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "bool": bool,
    "list": list,
}


class NotebookError(SclinError, RuntimeError):
    """A notebook that stopped with an error."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a notebook: its name, type, default and help."""

    name: str
    type: str
    default: Any
    help: str

    def check(self, value: Any) -> Any:
        """Return the value, or say why it does not fit.

        Parameters
        ----------
        value
            From a profile, already typed.

        Returns
        -------
        object

        Raises
        ------
        InputError
            When the type is wrong.
        """
        wanted: Any = _TYPES[self.type]
        if not isinstance(value, wanted) or (self.type != "bool" and isinstance(value, bool)):
            raise InputError(
                f"Parameter {self.name!r} is {value!r} ({type(value).__name__}), "
                f"but it takes {self.type}: {self.help or 'see its default'} "
                f"(default {self.default!r})."
            )
        return float(value) if self.type == "float" else value

    def parse(self, text: str) -> Any:
        """Read the value from the text of a command line.

        Parameters
        ----------
        text
            A Python literal, or any text when the parameter takes text.

        Returns
        -------
        object
        """
        if self.type == "str":
            return text
        try:
            literal = {"true": True, "false": False}.get(text.lower())
            value = ast.literal_eval(text) if literal is None else literal
        except (SyntaxError, ValueError):
            value = text.split(",") if self.type == "list" else text
        return self.check(value)


def list_notebooks(folder: str | Path = "notebooks") -> list[str]:
    """Names of the chapters in a folder, in order.

    Parameters
    ----------
    folder
        Where the notebooks are.

    Returns
    -------
    list of str
    """
    return sorted(path.stem for path in Path(folder).glob("[0-9]*.md"))


def _read(name: str, folder: Path) -> Any:
    names = list_notebooks(folder)
    if name not in names:
        raise InputError(
            f"No notebook is called {name!r} in {folder}; there are {', '.join(names) or 'none'}."
            + nearest(name, names)
        )
    return jupytext.read(folder / f"{name}.md")


def _parameters_cell(notebook: Any) -> str:
    return "\n".join(
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "code" and "parameters" in cell.metadata.get("tags", [])
    )


def parameters(name: str, *, folder: str | Path = "notebooks") -> dict[str, Parameter]:
    """Read the parameters of a notebook from its cell tagged ``parameters``.

    Parameters
    ----------
    name
        Name of the notebook, such as ``05_cell_types``.
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
    source = _parameters_cell(_read(name, Path(folder)))
    lines = source.split("\n")
    found = {}
    for node in ast.parse(source).body:
        if not (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and node.value is not None
            and ast.unparse(node.annotation).split("[")[0] in _TYPES
        ):
            raise InputError(
                f"{name}: line {lines[node.lineno - 1]!r} of the parameters cell is not of the "
                f"form `name: type = default  # help` with a type of {', '.join(_TYPES)}."
            )
        last = lines[(node.end_lineno or node.lineno) - 1][node.end_col_offset :]
        found[node.target.id] = Parameter(
            name=node.target.id,
            type=ast.unparse(node.annotation).split("[")[0],
            default=ast.literal_eval(node.value),
            help=last.partition("#")[2].strip(),
        )
    return found


def profile_values(name: str, profile: str, *, folder: str | Path = "notebooks") -> dict[str, Any]:
    """Parameters that a profile gives to a notebook.

    Parameters
    ----------
    name
        Name of the notebook.
    profile
        ``offline``, ``public``, ``paper`` or ``test``: a file of ``notebooks/profiles``.
    folder
        Where the notebooks are.

    Returns
    -------
    dict

    Raises
    ------
    InputError
        When there is no such profile, or it gives an unknown or wrongly typed parameter.
    """
    path = Path(folder) / "profiles" / f"{profile}.yml"
    if not path.exists():
        names = [p.stem for p in path.parent.glob("*.yml")]
        raise InputError(
            f"No profile is called {profile!r}; there are {', '.join(sorted(names))}."
            + nearest(profile, names)
        )
    values = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get(name) or {}
    known = parameters(name, folder=folder)
    return {key: _known(name, known, key).check(value) for key, value in values.items()}


def _known(name: str, known: Mapping[str, Parameter], key: str) -> Parameter:
    if key not in known:
        raise InputError(
            f"{name} has no parameter {key!r}; it has {', '.join(known)}." + nearest(key, known)
        )
    return known[key]


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def _fingerprint(notebook: Any, values: Mapping[str, Any], profile: str, inputs: Path) -> str:
    """Hash of all that decides the outputs: code, parameters, modules, versions."""
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    digest = hashlib.sha256()
    digest.update(json.dumps([cells, dict(values), profile], sort_keys=True).encode())
    for file in module_files(cells, PACKAGE):
        digest.update(file.read_bytes())
    digest.update(json.dumps(_versions()).encode())
    if notebook.metadata.get("sclin", {}).get("reads_results"):
        for table in sorted(inputs.glob("*.csv")):
            digest.update(table.read_bytes())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    found = {"sclin": version("sclin"), "python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "not installed"
    return found


def _device() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{platform.machine()} CPU, {cores} cores"


def _provenance_cell(name: str, record: Mapping[str, Any]) -> Any:
    """The page's closing box: what it ran on and how to run it again."""
    values = record["parameters"]
    rows = [
        ("Profile", record["profile"]),
        ("Parameters", ", ".join(f"`{k} = {v!r}`" for k, v in values.items()) or "none"),
        ("Data", "<br>".join(_describe(entry) for entry in record["data"]) or "none"),
        ("Seed", values.get("seed", "none")),
        ("Device", record["device"]),
        ("Duration", f"{record['seconds']:.0f} s"),
        ("Versions", ", ".join(f"{k} {v}" for k, v in record["versions"].items())),
        ("Run again", f'`make run NB={name}`, with your parameters `P="-p NAME VALUE"`'),
    ]
    table = "\n".join(f"| {key} | {str(value).replace('|', '/')} |" for key, value in rows)
    return nbformat.v4.new_markdown_cell(
        "```{admonition} How this page was made\n:class: provenance dropdown\n\n"
        f"| | |\n|---|---|\n{table}\n```",
        metadata={"tags": ["provenance"]},
    )


def _describe(entry: Mapping[str, Any]) -> str:
    hashes = ", ".join(
        f"`{Path(file).name}` sha256 `{digest[:12]}`" for file, digest in entry["files"].items()
    )
    size = f"{entry['n_obs']:,} cells, {entry['n_vars']:,} genes" if entry.get("n_obs") else ""
    return "; ".join(x for x in (f"{entry['name']} ({entry['tier']})", size, hashes) if x)


def _data_used(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    unique = {json.dumps(line, sort_keys=True): line for line in lines}
    return list(unique.values())


def _renew_prose(source: Any, executed: Any) -> Any:
    """New text and figure captions around the outputs of an earlier run of the same code."""
    kept = [cell for cell in executed.cells if cell.cell_type == "code"]
    injected = [c for c in kept if "injected-parameters" in c.metadata.get("tags", [])]
    outputs = iter([c for c in kept if "injected-parameters" not in c.metadata.get("tags", [])])
    cells = []
    for cell in source.cells:
        if cell.cell_type == "code":
            old = next(outputs)
            cell.outputs, cell.execution_count = old.outputs, old.execution_count
            cells.append(cell)
            if "parameters" in cell.metadata.get("tags", []):
                cells += injected
        else:
            cells.append(cell)
    cells += [c for c in executed.cells if "provenance" in c.metadata.get("tags", [])]
    source.cells = cells
    source.metadata["sclin_run"] = executed.metadata["sclin_run"]
    source.metadata["language_info"] = executed.metadata.get("language_info", {})
    return source


@dataclass(frozen=True)
class Run:
    """What a run did: the file, whether code ran, and the seconds it took."""

    path: Path
    executed: bool
    seconds: float


def run(
    name: str,
    *,
    values: Mapping[str, Any] | None = None,
    profile: str = "offline",
    folder: str | Path = "notebooks",
    output: str | Path,
    results: str | Path,
    force: bool = False,
) -> Run:
    """Execute a notebook with papermill, unless its code, parameters and modules are unchanged.

    Parameters
    ----------
    name
        Name of the notebook, such as ``05_cell_types``.
    values
        Parameters, over those of the profile.
    profile
        A file of ``notebooks/profiles``.
    folder
        Where the notebooks are.
    output
        Executed notebook to write.
    results
        Folder of the results tables.
    force
        Execute in any case.

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
    import papermill
    from papermill.exceptions import PapermillExecutionError

    output, results = Path(output), Path(results)
    source = _read(name, Path(folder))
    known = parameters(name, folder=folder)
    given = profile_values(name, profile, folder=folder)
    given |= {key: _known(name, known, key).check(v) for key, v in (values or {}).items()}
    used = {key: given.get(key, parameter.default) for key, parameter in known.items()}
    fingerprint = _fingerprint(source, used, profile, results)
    start = time.perf_counter()
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.exists() and not force:
        old = nbformat.read(output, as_version=4)
        if old.metadata.get("sclin_run", {}).get("fingerprint") == fingerprint:
            _write(_renew_prose(source, old), output)
            return Run(output, False, time.perf_counter() - start)
    with tempfile.TemporaryDirectory() as scratch:
        raw, done = Path(scratch) / f"{name}.ipynb", Path(scratch) / f"{name}.done.ipynb"
        log = Path(scratch) / "data.jsonl"
        jupytext.write(source, raw)
        try:
            with _environment(
                SCLIN_PROFILE=profile,
                SCLIN_RESULTS=str(results.resolve()),
                SCLIN_PROVENANCE=str(log),
                # Libraries ask for widgets, which a printed page cannot hold.
                PYTHONWARNINGS="ignore:IProgress not found",
                # Threads that spin while they wait bring a busy machine to a halt.
                OMP_WAIT_POLICY=os.environ.get("OMP_WAIT_POLICY", "passive"),
            ):
                papermill.execute_notebook(
                    raw,
                    done,
                    parameters=given,
                    progress_bar=False,
                    kernel_name="python3",
                    # Errors of cells come back in the notebook; the terminal would only hear of
                    # eavesdroppers and of the interrupt with which a kernel is shut down.
                    extra_arguments=["--log-level=CRITICAL"],
                )
        except PapermillExecutionError as error:
            failed = output.with_suffix(".failed.ipynb")
            failed.write_bytes(done.read_bytes())
            raise NotebookError(
                f"{name} stopped in cell {error.exec_count}: {error.ename}: {error.evalue}\n"
                f"The cell:\n{error.source}\nThe notebook up to there: {failed}"
            ) from None
        executed = nbformat.read(done, as_version=4)
        data = _data_used(log)
    seconds = time.perf_counter() - start
    record = {
        "fingerprint": fingerprint,
        "profile": profile,
        "parameters": used,
        "data": data,
        "versions": _versions(),
        "device": _device(),
        "seconds": round(seconds, 1),
    }
    executed.cells.append(_provenance_cell(name, record))
    executed.metadata["sclin_run"] = record
    executed.metadata.pop("papermill", None)
    for cell in executed.cells:
        cell.metadata.pop("papermill", None)
    _write(executed, output)
    output.with_suffix(".failed.ipynb").unlink(missing_ok=True)
    return Run(output, True, seconds)


def _write(notebook: Any, path: Path) -> None:
    partial = path.with_suffix(".part")
    nbformat.write(notebook, partial)
    partial.replace(path)
