"""Ask every address of the catalogue for its size and type, without fetching."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pandas as pd
import requests

from sclin.datasets.entries import catalogue
from sclin.datasets.files import address_of

__all__ = ["addresses", "check"]

PLAIN = {"Accept-Encoding": "identity"}  # else the size is that of what is packed for the way


def addresses() -> pd.DataFrame:
    """List every address of datasets, resources, wheels and models: name, url, size known."""
    known, rows = catalogue(), []
    for entry in (*known.values(), *known.resources.values()):
        for file in entry.all_files():
            for source in file.sources:
                if {"url", "bucket", "hub"} & set(source):
                    # The size is that of the file; an archive around it has another.
                    size = None if "member" in source else file.bytes
                    rows.append((entry.name, address_of(source), size))
    for name, model in known.models.items():
        hub = {"hub": model.repo, "revision": model.revision}
        rows += [
            (name, address_of({**hub, "file": file}), None) for file in model.files if model.repo
        ]
        rows += [(name, model.archive, None)] * bool(model.archive)
    wheels = known.wheels.items()
    rows += [(n, f"pip:{w['file']}", w.get("bytes")) for n, w in wheels]
    return pd.DataFrame(rows, columns=["name", "url", "known"]).drop_duplicates("url")


def check(listed: pd.DataFrame, *, timeout: float = 10, at_once: int = 16) -> pd.DataFrame:
    """Ask each address, several at once.

    Parameters
    ----------
    listed
        As `addresses` gives it.
    timeout
        Seconds to connect, and seconds without an answer.
    at_once
        Addresses that are asked at the same time.

    Returns
    -------
    DataFrame
        ``name``, ``host``, ``status``, ``size`` and ``known`` in bytes, ``type`` and ``wrong``:
        what is not as it should be, or nothing.
    """
    with ThreadPoolExecutor(at_once) as pool:
        answers = pool.map(lambda url: _ask(url, timeout), listed["url"])
        found = pd.DataFrame(answers, listed.index, ["host", "status", "size", "type"])
    out = listed[["name", "known"]].join(found)
    lost = out["status"].ne("200") & out["status"].ne("206")
    page = out["type"].str.lower().str.startswith("text/html")
    other = out["known"].notna() & out["size"].notna() & out["known"].ne(out["size"])
    out["wrong"] = ""
    for words, where in (("size", other), ("a web page", page), ("no answer", lost)):
        out.loc[where, "wrong"] = words
    return out[["name", "host", "status", "size", "known", "type", "wrong"]]


def _ask(url: str, timeout: float) -> tuple[str, str, int | None, str]:
    """Host, status, size and type of one address; a host that refuses HEAD is asked a byte."""
    if url.startswith("pip:"):
        found = _wheel(url.removeprefix("pip:"))
        if not found:
            return "pip", "not found", None, ""
        url = found
    host = urlsplit(url).netloc
    try:
        said = requests.head(url, allow_redirects=True, timeout=timeout, headers=PLAIN)
        if not said.ok:
            ranged = {**PLAIN, "Range": "bytes=0-0"}
            with requests.get(url, stream=True, timeout=timeout, headers=ranged) as said:
                said.close()
    except (requests.RequestException, ValueError) as error:  # such as a redirect to no address
        return host, type(error).__name__, None, ""
    whole = said.headers.get("Content-Range", "").rpartition("/")[2]
    size = whole or said.headers.get("Content-Length", "")
    kind = said.headers.get("Content-Type", "")
    return host, str(said.status_code), int(size) if size.isdecimal() else None, kind


def _wheel(file: str) -> str:
    """Address of a wheel in the index that pip is set to; pip only lists it."""
    command = [sys.executable, "-m", "pip", "index", "versions", "-vv", file.partition("-")[0]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(rf"Found link (\S+/{re.escape(file)})\s", done.stdout + done.stderr)
    return found[1] if found else ""
