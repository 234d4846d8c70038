"""The paper profile in parts: one organ, one run, and what is finished is not run again.

`notebooks/parts.yml` says which parts a task has.
Each part leaves its page and its table in ``_build/results/paper/parts/<task>``; the tables of all
parts of a chapter are merged into ``_build/results/paper/<chapter>.csv``.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import click
import page_tables
import pandas as pd
import yaml

from sclin import datasets, notebooks, results
from sclin.datasets.files import locate
from sclin.disk import need_room
from sclin.errors import SclinError, unknown

RESULTS = Path("_build/results/paper")


def tasks() -> dict[str, dict[str, Any]]:
    """Chapter and parts of each task; a part is the parameters that it adds to the profile's."""
    found = yaml.safe_load((notebooks.CHAPTERS / "parts.yml").read_text(encoding="utf-8"))
    for task in found.values():
        each = task.pop("each", None)
        names = datasets.catalogue()[each].choices if each else task["parts"]
        own = names if isinstance(names, dict) else {}
        shared = yaml.safe_dump(task.pop("parameters", {}))
        task["parts"] = {
            part: yaml.safe_load(shared.replace("{part}", part)) | own.get(part, {})
            for part in names
        }
    return found


# What a part reads ----------------------------------------------------------------------------


@cache
def _profile(chapter: str) -> dict[str, Any]:
    return notebooks.arguments(chapter, "paper")


def files_of(chapter: str, values: dict[str, Any]) -> dict[str, Any]:
    """Files of the catalogue that a run will read, by name."""
    given = (_profile(chapter) | values).values()
    texts = [str(t) for value in given for t in (value if isinstance(value, list) else [value])]
    found: dict[str, Any] = {}
    for text in filter(None, texts):
        name, _, said = text.split()[-1].partition(":")  # "human testis:species=human"
        options = dict(item.partition("=")[::2] for item in said.split(",") if item)
        entry = datasets.catalogue().get(name)
        if entry is not None and entry.tier != "simulated" and "path" not in options:
            files = entry.files_of(options.get(entry.option or ""))
            found |= {file.name: file for file in files}
    return found


def said_of(file: Any) -> str:
    """Say whether a file is here, or else how large it is."""
    if locate(file) is not None:
        return f"{file.name}: here"
    size = f"{file.bytes / 1e9:,.1f} GB" if file.bytes else "size not in the catalogue"
    return f"{file.name}: to be fetched, {size}"


# Running and merging --------------------------------------------------------------------------


def page_of(task: str, part: str) -> Path:
    """Executed chapter of a part, written last: where it lies, the part is finished."""
    return RESULTS / "parts" / task / f"{part}.ipynb"


def run(task: str, part: str, about: dict[str, Any], own: dict[str, str]) -> None:
    """Run one part, after saying what it will read."""
    chapter, values = about["chapter"], about["parts"][part] | own
    files = list(files_of(chapter, values).values())
    click.echo(f"{task} {part} starts: " + "; ".join(map(said_of, files)))
    wanted = sum(file.bytes or 0 for file in files if locate(file) is None)
    need_room(datasets.cache_dir(), wanted, f"What {task} {part} fetches")
    page = page_of(task, part)
    done = notebooks.run(
        chapter, values=values, profile="paper", output=page, results=page.with_suffix("")
    )
    click.echo(f"{task} {part} took {done.seconds / 60:,.1f} minutes: {page}")


def merged(chapter: str) -> pd.DataFrame:
    """Rows of all finished parts of a chapter, each key once.

    Raises
    ------
    InputError
        Two parts hold one key with two values.
    """
    pages = [
        page_of(task, part)
        for task, about in tasks().items()
        if about["chapter"] == chapter
        for part in about["parts"]
    ]
    parts = [pd.read_csv(p.with_suffix(".csv"), dtype={"layer": str}) for p in pages if p.exists()]
    return results.table(pd.concat(parts).drop_duplicates()) if parts else results.table()


def over_parts(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean macro F1 over datasets of each protocol, representation and head, and their number."""
    rows = rows[rows["metric"].eq("f1_macro") & rows["variant"].eq("")]
    by = rows.groupby(["protocol", "representation", "head"])["value"]
    return by.agg(["mean", "size"]).round(3)


@click.command()
@click.argument("task", default="")
@click.argument("part", default="")
@click.option("-p", "values", nargs=2, multiple=True, metavar="NAME VALUE", help="A parameter.")
@click.option("--list", "only_list", is_flag=True, help="Print the parts, one a line.")
def main(task: str, part: str, values: tuple[tuple[str, str], ...], only_list: bool) -> None:
    """Run PART of TASK, or all its parts that lack, and merge what is finished."""
    known = tasks()
    if not task:
        for name, about in known.items():
            click.echo(f"{name:14} {about['chapter']:24} {', '.join(about['parts'])}")
        return
    if task not in known:
        raise unknown("task of the paper profile", task, known)
    about = known[task]
    if part and part not in about["parts"]:
        raise unknown(f"part of {task}", part, about["parts"])
    if only_list:
        click.echo("\n".join(about["parts"]))
        return
    failed = []
    for name in [part] if part else about["parts"]:
        if page_of(task, name).exists():
            click.echo(f"{task} {name} is finished; delete {page_of(task, name)} to run it again")
            continue
        try:
            run(task, name, about, dict(values))
        except SclinError as error:
            failed.append(name)
            click.echo(f"{task} {name} failed: {error}", err=True)
    rows = merged(about["chapter"])
    if len(rows):
        os.environ["SCLIN_RESULTS"] = str(RESULTS)
        n = sum(page_of(task, name).exists() for name in about["parts"])
        click.echo(
            f"{n} of {len(about['parts'])} parts of {task} are finished; "
            f"{results.save(rows, about['chapter'])} holds {len(rows):,} rows"
        )
        click.echo(over_parts(rows).to_string())
    if failed:
        raise SystemExit(f"{len(failed)} parts failed: {', '.join(failed)}")


# The page -------------------------------------------------------------------------------------


def paper_parts(root: Path) -> str:
    """List the tasks of the paper profile, their parts, and what is known of the files."""
    lines = []
    for task, about in tasks().items():
        chapter, parts = about["chapter"], about["parts"]
        files = [f for values in parts.values() for f in files_of(chapter, values).values()]
        known = {f"`{f.name}` {f.bytes / 1e9:,.0f} GB" for f in files if f.bytes}
        by_hand = {f"you name `{f.name}`" for f in files for s in f.sources if "ask" in s}
        said = "; ".join(sorted(known | by_hand)) or "not known"
        lines.append(
            [f"`{task}`", f"{{doc}}`chapters/{chapter}`", len(parts), ", ".join(parts), said]
        )
    return page_tables.markdown(lines, ["TASK", "Chapter", "Parts", "ORGAN", "Size of the files"])


if __name__ == "__main__":
    try:
        main()
    except SclinError as error:
        raise SystemExit(f"Error: {error}") from error
