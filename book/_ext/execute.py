"""Execute a chapter for the book, and tell Make on which modules of the package its page stands.

    python book/_ext/execute.py NAME PROFILE OUTPUT RESULTS [FALLBACK]

With a fallback, a file of data that cannot be fetched costs the page a notice, not the build.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat

from sclin import notebooks
from sclin.errors import SclinError


def execute(name: str, *, values: Any = None, fallback: str = "", **asked: Any) -> notebooks.Run:
    """Run a chapter whose sentences the book tests itself.

    Parameters
    ----------
    name, values, **asked
        As for `sclin.notebooks.run`.
    fallback
        What stands in where a file of data cannot be fetched: the other data sets of its list,
        or, where it is not one of several, this profile, which its rows then carry. The page
        opens with a notice. The next run asks for the file again.
    """
    try:
        done = notebooks.run(name, values=values, roles=True, **asked)
    except notebooks.NotebookError as error:
        if not (fallback and error.unreachable):
            raise
        folder = asked.get("folder", notebooks.CHAPTERS)
        given = notebooks.arguments(name, asked["profile"], values, folder=folder)
        others = _others(given, error.unreachable)
        instead = asked | ({} if others else {"profile": fallback})
        done = execute(name, values={**(values or {}), **others}, fallback=fallback, **instead)
        _notice(done.path, asked["profile"], given, error.unreachable)
        return done
    modules = nbformat.read(done.path, as_version=4).metadata["sclin_run"]["modules"]
    files = [os.path.relpath(notebooks.PACKAGE / module) for module in modules]
    rules = [f"{done.path}: {' '.join(files)}", *(f"{file}:" for file in files), ""]
    done.path.with_suffix(".d").write_text("\n".join(rules), encoding="utf-8")
    return done


def _others(given: Mapping[str, Any], why: str) -> dict[str, list[Any]]:
    """Lists of data sets, without those that need the file that is missing, where some are left."""
    from sclin import datasets  # seldom needed, and slow to import

    file, entries = why.partition(": ")[2].split(" ")[0], datasets.catalogue().items()
    needs = {name for name, entry in entries if file in [f.name for f in entry.all_files()]}
    found = {}
    for key, names in given.items():
        if isinstance(names, list):
            left = [n for n in names if str(n).partition(":")[0] not in needs]
            if 0 < len(left) < len(names):
                found[key] = left
    return found


def _notice(path: Path, profile: str, given: dict[str, Any], why: str) -> None:
    """Say on a page what it lacks, and what stands in its place."""
    page = nbformat.read(path, as_version=4)
    ran = page.metadata["sclin_run"]
    hosts = ", ".join(dict.fromkeys(re.findall(r"https?://([^/\s]+)", why))) or "No host"
    file, new = why.partition(": ")[2].split(" ")[0], ran["parameters"]
    changed = [f"- `{k}`: {new[k]!r} in place of {v!r}" for k, v in given.items() if new[k] != v]
    text = f"""\
```{{admonition}} Other data than planned
:class: warning
{hosts} did not give `{file}` when this page was made for the profile {profile}.
So it was run{f" with the profile {ran['profile']}" * (ran["profile"] != profile)}:

"""
    page.cells.insert(1, nbformat.v4.new_markdown_cell("\n".join([text, *changed, "```"])))
    nbformat.write(page, path)


def main(name: str, profile: str, output: str, results: str, fallback: str = "") -> None:
    """Do what Make asks for, and say how long it took."""
    try:
        asked = {"profile": profile, "output": output, "results": results}
        done = execute(name, fallback=fallback, **asked)
    except SclinError as error:
        sys.exit(f"Error: {error}")
    what = "ran" if done.executed else "is unchanged, prose renewed"
    print(f"{name} ({done.profile}) {what} in {done.seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
