"""The catalogue: one YAML file, checked against a schema each time it is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jsonschema import Draft202012Validator

from sclin.errors import DataError, nearest

__all__ = ["Catalogue", "Entry", "RemoteFile", "catalogue", "read_catalogue", "source_text"]

TIERS = ("packaged", "simulated", "public", "paper")
VALUES = ("counts", "log", "tpm", "fpkm")
COLUMNS = ("cell_type", "donor", "batch", "condition", "time", "perturbation")

_TEXT = {"type": "string", "minLength": 1}
_SIZE = {"type": ["integer", "null"], "minimum": 0}
_SHA = {"type": ["string", "null"], "pattern": "^[0-9a-f]{64}$"}
# A cache name is one plain path component: nothing that could climb out of the cache.
_NAME = {"type": "string", "pattern": r"^[A-Za-z0-9_][A-Za-z0-9_.+-]*$"}


def _record(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


_SOURCE = {
    "oneOf": [
        _record(("url",), url={"type": "string", "pattern": "^https?://"}, member=_TEXT),
        _record(("wheel", "member"), wheel=_TEXT, member=_TEXT),
        _record(("bucket", "key"), bucket=_TEXT, key=_TEXT),
        _record(("hub", "revision", "file"), hub=_TEXT, revision=_TEXT, file=_TEXT),
        _record(("installed", "member"), installed=_TEXT, member=_TEXT),
        _record(("ask",), ask=_TEXT),
    ]
}
_FILE = _record(
    ("name", "sources"),
    name=_NAME,
    sha256=_SHA,
    bytes=_SIZE,
    sources={"type": "array", "items": _SOURCE, "minItems": 1},
)
_FILES = {"type": "array", "items": _FILE}
_VARIANT = _record(
    ("option", "files"),
    option=_TEXT,
    default={"type": ["string", "null"]},
    files={"type": "object", "additionalProperties": _FILES},
)
_TEXTS = {"type": "array", "items": _TEXT}
_DATASET = _record(
    ("title", "tier", "organism", "tissue", "values", "reader", "licence", "citation", "tasks"),
    title=_TEXT,
    tier={"enum": list(TIERS)},
    organism=_TEXT,
    tissue=_TEXT,
    values={"enum": list(VALUES)},
    n_obs=_SIZE,
    n_vars=_SIZE,
    columns={"type": "object", "propertyNames": {"enum": list(COLUMNS)}},
    labels={"type": "object", "additionalProperties": {"type": "integer"}},
    tasks=_TEXTS,
    reader=_TEXT,
    read={"type": "object"},
    files=_FILES,
    variant=_VARIANT,
    licence=_TEXT,
    citation=_TEXT,
    homepage=_TEXT,
    notes=_TEXTS,
)
_RESOURCE = _record(
    ("title", "tier", "reader", "licence", "citation"),
    title=_TEXT,
    tier={"enum": list(TIERS)},
    organism=_TEXT,
    reader=_TEXT,
    rows=_SIZE,
    files=_FILES,
    variant=_VARIANT,
    licence=_TEXT,
    citation=_TEXT,
    homepage=_TEXT,
    notes=_TEXTS,
)
_MODEL = _record(
    ("title", "licence", "commercial", "convention", "files", "page", "layers"),
    title=_TEXT,
    repo=_TEXT,
    revision=_TEXT,
    page=_TEXT,
    files=_TEXTS,
    options={"type": "object", "additionalProperties": _TEXT},
    parameters=_SIZE,
    layers=_SIZE,
    width=_SIZE,
    context=_SIZE,
    licence=_TEXT,
    commercial={"type": "boolean"},
    convention=_TEXT,
    genes=_TEXT,
    citation=_TEXT,
    notes=_TEXTS,
)
_WHEEL = _record(
    ("package", "version", "file", "sha256", "licence"),
    package=_TEXT,
    version=_TEXT,
    file=_NAME,
    sha256=_SHA,
    bytes=_SIZE,
    licence=_TEXT,
)
SCHEMA = _record(
    ("wheels", "datasets", "resources", "models"),
    wheels={"type": "object", "additionalProperties": _WHEEL},
    shared={},  # YAML anchors live here
    datasets={"type": "object", "additionalProperties": _DATASET},
    resources={"type": "object", "additionalProperties": _RESOURCE},
    models={"type": "object", "additionalProperties": _MODEL},
)


@dataclass(frozen=True)
class RemoteFile:
    """One file: its name in the cache, its hash and size where known, and where it comes from."""

    name: str
    sources: tuple[dict[str, str], ...]
    sha256: str | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class Entry:
    """One dataset, resource or model of the catalogue.

    ``record`` is the entry as written in the YAML; its fields are also attributes.
    """

    name: str
    section: str
    record: dict[str, Any] = field(repr=False)

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__"):
            raise AttributeError(key)
        return self.record.get(key)

    def __getitem__(self, key: str) -> Any:
        return self.record[key]

    def get(self, key: str, default: Any = None) -> Any:
        """Return a field of the record, or ``default``."""
        return self.record.get(key, default)

    @property
    def option(self) -> str | None:
        """Name of the option that chooses between the files, if there is one."""
        return self.record["variant"]["option"] if "variant" in self.record else None

    @property
    def choices(self) -> list[str]:
        """Values that the option takes."""
        return list(self.record["variant"]["files"]) if "variant" in self.record else []

    def files_of(self, choice: str | None = None) -> list[RemoteFile]:
        """Files of the entry, or of one choice of its option."""
        if self.section == "model":
            raise DataError(
                f"{self.name} is a model: sclin.layers.load_model({self.name!r}) fetches it. "
                f"Its licence is {self.record['licence']}."
            )
        groups: dict[str, list[dict[str, Any]]] = {"": self.record.get("files", [])}
        if self.option is not None:
            variant = self.record["variant"]
            choice = variant.get("default") if choice is None else str(choice)
            if choice is not None and choice not in variant["files"]:
                raise DataError(
                    f"{self.name}: {self.option}={choice!r} is not known; it takes "
                    f"{', '.join(variant['files'])}.{nearest(choice, variant['files'])}"
                )
            wanted = [choice] if choice is not None else list(variant["files"])
            groups |= {key: variant["files"][key] for key in wanted}
        return [
            RemoteFile(item["name"], tuple(item["sources"]), item.get("sha256"), item.get("bytes"))
            for group in groups.values()
            for item in group
        ]

    def all_files(self) -> list[RemoteFile]:
        """Every file of the entry, over all choices."""
        if self.option is None:
            return self.files_of()
        found = {f.name: f for choice in self.choices for f in self.files_of(choice)}
        return list(found.values())


class _Section(Mapping[str, Entry]):
    """Entries by name; an unknown name is an error that suggests the nearest ones."""

    def __init__(self, kind: str, records: dict[str, Any]) -> None:
        self.kind = kind
        self._entries = {name: Entry(name, kind, record) for name, record in records.items()}

    def __getitem__(self, name: str) -> Entry:
        if name not in self._entries:
            raise DataError(
                f"No {self.kind} is called {name!r} in the catalogue."
                f"{nearest(name, self._entries)} `sclin data list` prints all names."
            )
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class Catalogue(_Section):
    """All datasets by name, with ``resources``, ``models`` and ``wheels`` beside them.

    Examples
    --------
    >>> from sclin.datasets import catalogue
    >>> catalogue()["baron_human"].tier
    'packaged'
    >>> catalogue().models["tahoe-x1-70m"].layers
    12
    """

    def __init__(self, raw: dict[str, Any]) -> None:
        super().__init__("dataset", raw["datasets"])
        self.resources = _Section("resource", raw["resources"])
        self.models = _Section("model", raw["models"])
        self.wheels: dict[str, dict[str, Any]] = raw["wheels"]

    def find(self, name: str) -> Entry:
        """Return the dataset, resource or model of this name."""
        for section in (self.resources, self.models):
            if name in section:
                return section[name]
        if name not in self:
            known = [*self, *self.resources, *self.models]
            raise DataError(
                f"{name!r} is not in the catalogue.{nearest(name, known)} "
                "`sclin data list` prints all names."
            )
        return self[name]

    def table(self) -> pd.DataFrame:
        """One row per dataset: name, tier, organism, tissue, values, cells, genes, licence."""
        keys = ["tier", "organism", "tissue", "values", "n_obs", "n_vars", "licence", "title"]
        rows = [{"name": n, **{key: getattr(e, key) for key in keys}} for n, e in self.items()]
        return pd.DataFrame(rows).astype({"n_obs": "Int64", "n_vars": "Int64"})


def read_catalogue(path: str | Path) -> Catalogue:
    """Read and check a catalogue.

    Parameters
    ----------
    path
        YAML file of the form of ``sclin/datasets/catalogue.yml``.

    Raises
    ------
    DataError
        When the file breaks the schema, names an unknown wheel, or gives one cache name
        to two different files.
    """
    raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    errors = sorted(Draft202012Validator(SCHEMA).iter_errors(raw), key=lambda e: list(e.path))
    if errors:
        where = "/".join(map(str, errors[0].absolute_path)) or "top level"
        raise DataError(
            f"{path}: {where}: {errors[0].message[:300]} "
            f"({len(errors)} error(s) against the schema of the catalogue)"
        )
    found = Catalogue(raw)
    hashes: dict[str, str | None] = {}
    for section in (found, found.resources):
        for entry in section.values():
            for file in entry.all_files():
                if hashes.setdefault(file.name, file.sha256) != file.sha256:
                    raise DataError(f"{path}: {file.name} is listed with two sha256 values.")
                missing = {s["wheel"] for s in file.sources if "wheel" in s} - set(found.wheels)
                if missing:
                    raise DataError(f"{path}: {entry.name}: unknown wheel {sorted(missing)}.")
    return found


@cache
def catalogue() -> Catalogue:
    """Return the catalogue that comes with the package."""
    return read_catalogue(str(package_files("sclin.datasets") / "catalogue.yml"))


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
