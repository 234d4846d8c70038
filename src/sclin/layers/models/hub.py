"""Fetch a model's official files by name, its licence shown first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sclin.errors import ModelError, nearest

__all__ = ["fetch_model", "licence_line"]


def licence_line(name: str, entry: Any) -> str:
    """One line that says under which licence the weights of a model are."""
    warning = "" if entry.commercial else " NON-COMMERCIAL: research use only."
    return f"{name}: weights under {entry.licence.rstrip('.')}.{warning}"


def fetch_model(name: str) -> tuple[Path, dict[str, Any]]:
    """Download a model of the catalogue from its hub, or find it in the cache.

    Returns
    -------
    tuple
        Folder or file of the model, and the options its loader needs.

    Raises
    ------
    ModelError
        When the catalogue does not know the model, its weights are not on a hub, or the hub
        cannot be reached.
    """
    from sclin import datasets

    models = datasets.catalogue().models
    if name not in models:
        raise ModelError(
            f"The catalogue has no model {name!r}; it has {', '.join(models) or 'none'}. Give the "
            f"folder of a model that you have: load_model({name!r}, path).{nearest(name, models)}"
        )
    entry = models[name]
    print(licence_line(name, entry))
    if not entry.repo:
        raise ModelError(
            f"The weights of {name} are not on a hub ({entry.page}). "
            "Download them from their authors and give the path."
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    where = {"repo_id": entry.repo, "revision": entry.revision}
    try:
        found = {file: Path(hf_hub_download(filename=file, **where)) for file in entry.files}
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"{name} could not be fetched from the hub repository {entry.repo} ({error}). "
            "Check the network, or give the folder of a copy."
        ) from error
    options = {option: found[file] for option, file in (entry.options or {}).items()}
    main = next(path for file, path in found.items() if file.endswith((".safetensors", ".ckpt")))
    return (main if main.suffix == ".ckpt" else main.parent), options
