"""The catalogue: one YAML file, checked against a schema each time it is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from sclin.errors import DataError, nearest, unknown

__all__ = ["Catalogue", "Entry", "RemoteFile", "catalogue"]

TIERS = ("packaged", "simulated", "public", "paper")
_HOME = package_files("sclin.datasets")


@dataclass(frozen=True)
class RemoteFile:
    """One file: its name in the cache, hashes and size where known, and where it comes from."""

    name: str
    sources: Sequence[dict[str, str]]
    sha256: str | None = None
    bytes: int | None = None
    git_blob: str | None = None


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

    @property
    def option(self) -> str | None:
        """Name of the option that chooses between the files, if there is one."""
        return self.variant["option"] if self.variant else None

    @property
    def choices(self) -> list[str]:
        """Values that the option takes."""
        return list(self.variant["files"]) if self.variant else []

    def files_of(self, choice: Any = None) -> list[RemoteFile]:
        """Files of the entry for one choice of its option, by default the entry's own default."""
        if self.section == "model":
            raise DataError(
                f"{self.name} is a model: sclin.layers.load_model({self.name!r}) fetches it. "
                f"Its licence is {self.licence}."
            )
        if self.variant and choice is None:
            choice = self.variant.get("default")
        chosen = self.choices if choice is None else [str(choice)]
        if not set(chosen) <= set(self.choices):
            raise unknown(f"{self.option} of {self.name}", choice, self.choices, error=DataError)
        groups = [self.record.get("files", []), *(self.variant["files"][key] for key in chosen)]
        return [RemoteFile(**item) for group in groups for item in group]

    def all_files(self) -> list[RemoteFile]:
        """Every file of the entry, over all choices."""
        choices: list[Any] = self.choices or [None]
        found = {file.name: file for choice in choices for file in self.files_of(choice)}
        return list(found.values())


class _Section(dict[str, Entry]):
    """Entries by name; an unknown name is an error that suggests the nearest ones."""

    def __init__(self, kind: str, entries: dict[str, Any]) -> None:
        for name, record in entries.items():
            self[name] = record if isinstance(record, Entry) else Entry(name, kind, record)
        self.kind = kind

    def __missing__(self, name: str) -> Entry:
        raise DataError(
            f"No {self.kind} is called {name!r} in the catalogue.{nearest(name, self)} "
            "`sclin data list` prints all names."
        )


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
        return _Section("entry", {**self, **self.resources, **self.models})[name]


def read_catalogue(path: str | Path) -> Catalogue:
    """Read and check a catalogue.

    Parameters
    ----------
    path
        YAML file of the form of ``sclin/datasets/catalogue.yml``.

    Raises
    ------
    DataError
        When the file breaks the schema.
    """
    raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    schema = yaml.safe_load(_HOME.joinpath("schema.yml").read_text(encoding="utf-8"))
    for error in Draft202012Validator(schema).iter_errors(raw):
        where = "/".join(map(str, error.absolute_path)) or "top level"
        raise DataError(f"{path}: {where}: {error.message[:300]}; schema.yml says what it takes.")
    return Catalogue(raw)


@cache
def catalogue() -> Catalogue:
    """Return the catalogue that comes with the package."""
    return read_catalogue(str(_HOME / "catalogue.yml"))


def check_options(where: str, options: Iterable[str], allowed: list[str]) -> None:
    """Refuse an option that is not allowed, and name the nearest."""
    for name in set(options) - set(allowed):
        raise unknown(f"option of {where}", name, allowed)
