"""What a page says by machine: sentences that rest on rows, verdicts, the box at its end.

Numbers are inserted, conclusions tested where they stand.

A sentence that compares, ranks or denies ends with its test, an expression over the rows of the
chapter's table: ``{claim}`the("rank logistic") < the("lognorm logistic")` ``.
A number in running text is ``{number}`the("rank logistic"):.2f` ``.
`Rows` says which words an expression knows.

What the figures and tables of a section stand on is the line ``{evidence}`dataset` ``: it names
parameters of the chapter that hold data sets, data sets, or ``published``; `marks` says which of
them are real in this run.

A sentence whose claim fails on the rows at hand is shown with a mark; one that speaks of cells or
models that were not run is left out, because nothing is known about them.

This language lies beside the chapters that speak it, and travels with them: `sclin.notebooks`
loads it, for the runner and for the pages of the book.
"""

from __future__ import annotations

import html
import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import nbformat
import numpy as np
import pandas as pd

from sclin.errors import InputError, nearest
from sclin.results import KEY

ROLE = re.compile(r"\s*\{(?P<kind>claim|number)\}`(?P<text>[^`]+)`")
EVIDENCE = re.compile(r"^\{evidence\}`(?P<names>[^`]+)`$", re.M)
FORMAT = re.compile(r"^(?P<text>.+?)(?::(?P<format>[-+]?,?(?:\.\d+)?[dfge%]))?$", re.S)
MARKER = re.compile(r"^\s*(?:(?:[-*:]|\d+\.)\s+)?(?:> )*")
COMPARES = re.compile(
    r"\b(ahead|behind|beats?|wins?|won|los(?:es?|t)|leads?|led|outperforms?|higher|lower|better"
    r"|worse|best|worst|highest|lowest|largest|smallest|strong(?:er|est)|weak(?:er|est)"
    r"|close(?:r|st)|farther|furthest|above|below|falls?|fell|rises?|rose|drops?|gain(?:s|ed)?"
    r"|reach(?:es|ed)?|no difference|not shown|differs?|twice|half|most|least|more|fewer|less|than"
    r")\b|\d\.\d",
    re.I,
)
SENTENCE = re.compile(r"(?<=[.!?])\s+(?!\{claim)|(?<=`)\s+(?=[A-Z])")
USUAL = {"variant": "", "protocol": "corrected", "source": "reproduced"}


class MissingError(InputError):
    """Rows that a sentence rests on are not in the table: other cells or models were run."""

    def __init__(self, token: str, options: list[str]) -> None:
        super().__init__(f"No row holds {token!r}.{nearest(token, options)}")
        self.token = token


class Rows:
    """The rows that the sentences of a page may rest on, and the words of their tests.

    Rows are named by tokens, as in a shell: ``"rank logistic variant='all types'"``.
    A bare token is a value of any key column, ``column=value`` that of one. Where none is named,
    the variant is empty, the protocol ``corrected`` and the source ``reproduced``.
    """

    def __init__(self, rows: pd.DataFrame) -> None:
        self.rows = rows
        self.columns = [c for c in (*KEY, "unit", "model", "layer", "chapter") if c in rows]
        self.bare = [c in KEY and c not in ("seed", "profile") for c in self.columns]
        # As text, once: pages ask hundreds of times.
        self.text = rows[self.columns].astype(str).to_numpy(dtype=object)
        names = ("the", "each", "low", "high", "n", "shown", "ran", "best")
        self.names = {name: getattr(self, name) for name in names} | {
            "abs": abs, "all": np.all, "any": np.any, "len": len, "max": max, "min": min,
            "round": round, "sorted": sorted, "sum": sum,
        }  # fmt: skip
        self.known: dict[str, object] = {}  # a page and its copies ask for the same

    def of(self, tokens: str) -> pd.DataFrame:
        """Rows that hold all tokens; none at all is `MissingError`."""
        found, said = np.arange(len(self.rows)), set()
        for token in shlex.split(tokens):
            name, _, value = token.partition("=")
            named = name in self.columns
            looked = np.array([c == name for c in self.columns] if named else self.bare)
            at = (self.text[found] == (value if named else token)) & looked
            if not at.any():
                values = pd.unique(self.rows[list(KEY)].iloc[found].astype(str).to_numpy().ravel())
                raise MissingError(token, list(values))
            said |= {c for c, held in zip(self.columns, at.any(axis=0), strict=True) if held}
            found = found[at.any(axis=1)]
        for column, value in USUAL.items():
            at = self.text[found, self.columns.index(column)] == value
            if column not in said and at.any():
                found = found[at]
        return self.rows.iloc[found]

    def one(self, tokens: str) -> pd.Series:
        """The one row that holds all tokens."""
        found = self.of(tokens)
        if len(found) > 1:
            many = [c for c in KEY if found[c].nunique(dropna=False) > 1]
            told = "; ".join(f"{c}: {', '.join(map(str, found[c].unique()[:6]))}" for c in many)
            raise InputError(f"{tokens!r} names {len(found)} rows; say which ({told}).")
        return found.iloc[0]

    def the(self, tokens: str) -> float:
        """Value of one row."""
        return float(self.one(tokens)["value"])

    def low(self, tokens: str) -> float:
        """Lower end of a row's interval."""
        return float(self.one(tokens)["ci_low"])

    def high(self, tokens: str) -> float:
        """Upper end of a row's interval."""
        return float(self.one(tokens)["ci_high"])

    def n(self, tokens: str) -> int:
        """Number of units of a row."""
        return int(self.one(tokens)["n"])

    def each(self, tokens: str, column: str = "value") -> pd.Series:
        """Values, or ``ci_low``, of all rows, named by the key columns in which they differ."""
        found = self.of(tokens)
        by = [c for c in KEY if found[c].nunique(dropna=False) > 1]
        return found.set_index(by)[column].sort_index() if by else found[column]

    def shown(self, tokens: str) -> np.ndarray:
        """Sign of each paired difference that is shown, 0 where none is.

        Shown means what `sclin.statistics.Comparison.proven` says.
        """
        found = self.of(tokens)
        gaps = found[found["metric"].str.endswith("_difference")]
        if gaps.empty:
            raise MissingError(f"{tokens} ..._difference", [])
        from sclin.verdict import comparison  # takes long to import

        tests = [comparison(self.rows, gap) for _, gap in gaps.iterrows()]
        return np.array([int(np.sign(c.difference)) * c.proven for c in tests])

    def best(self, tokens: str, column: str = "representation") -> str:
        """What the row of the highest value holds in a column."""
        return str(self.of(tokens).sort_values("value", kind="stable")[column].iloc[-1])

    def ran(self, tokens: str) -> bool:
        """True where such rows are at hand; the sentence is left out where not."""
        return not self.of(tokens).empty

    def value(self, text: str) -> object:
        """What an expression says."""
        if text not in self.known:  # the text is the book's own source
            self.known[text] = eval(text, {"__builtins__": {}}, self.names)
        return self.known[text]

    def claim(self, text: str) -> bool:
        """Whether a claim holds, for each of its rows where it names several."""
        return bool(np.all(self.value(text)))

    def number(self, text: str) -> str:
        """A number as its text asks for it; two digits by default."""
        said = FORMAT.match(text)
        value = self.value(said["text"])
        return value if isinstance(value, str) else format(value, said["format"] or ".2f")


def verdicts(table: pd.DataFrame) -> Iterator[str]:
    """What the first paired rows of each task, dataset and split allow to say."""
    from sclin.evaluation import Results  # takes long to import

    keys = ["task", "dataset", "split", "protocol", "seed"]
    versus = table["variant"].str.extract(r"^versus:([^+;]+)$")[0]
    pairs = table.assign(reference=versus)[table["metric"].str.endswith("_difference")]
    pairs = pairs.dropna(subset=["reference", "seed"]).drop_duplicates(keys)
    for first in pairs.to_dict("records"):
        rows = table[table[keys].eq({key: first[key] for key in keys}).all(axis=1)]
        if first["reference"] in set(rows["representation"]):
            metric = first["metric"].removesuffix("_difference")
            asked = {"head": first["head"], "metric": metric, "reference": first["reference"]}
            said = " ".join(filter(None, (first["task"], "on", first["dataset"], first["split"])))
            yield f"{said}: {Results(rows).verdict(**asked)}"


class Told(Counter):
    """How many sentences of a page ``hold``, ``fail`` and are ``left out``."""


def settle(text: str, rows: Rows | None, told: Told | None = None, *, plain: bool = False) -> str:
    """Write a text, one sentence a line, as its rows allow.

    Parameters
    ----------
    text
        Markdown with ``{claim}`` and ``{number}`` roles.
    rows
        What they rest on; without any, nothing is tested and numbers are left open.
    told
        Counts, added to.
    plain
        Write no HTML: for notebooks and alternative texts.
    """
    if rows is None:
        return ROLE.sub(lambda role: " …" if role["kind"] == "number" else "", text)
    told, lines, lost = Told() if told is None else told, [], ""
    for line in text.split("\n"):
        roles = list(ROLE.finditer(line))
        marker = MARKER.match(line)[0]
        if lost and line.strip() and marker == " " * len(lost) and not ROLE.fullmatch(line):
            marker, line = lost, lost + line[len(lost) :]  # the first sentence of its item now
        lost = ""
        try:
            holds = [rows.claim(r["text"]) for r in roles if r["kind"] == "claim"]
            said = ROLE.sub(lambda r: _inserted(r, rows), line)
        except (ArithmeticError, LookupError, TypeError, ValueError):
            # Rows of other cells may be missing or too many; on the book's own, `problems` tells.
            told["left out"] += 1
            lost = marker if marker.strip() else ""
            continue
        if holds:
            told["hold" if all(holds) else "fail"] += 1
            tests = " and ".join(r["text"] for r in roles if r["kind"] == "claim")
            said = _marked(said.rstrip(), len(marker), tests, all(holds), plain)
        lines.append(said)
    return "\n".join(lines)


def _inserted(role: re.Match, rows: Rows) -> str:
    if role["kind"] == "claim":
        return ""
    space = role[0][: len(role[0]) - len(role[0].lstrip())]
    return space + rows.number(role["text"])


def _marked(line: str, start: int, tests: str, holds: bool, plain: bool) -> str:
    if plain:
        return line if holds else f"{line} (Not so in this run.)"
    title = html.escape(tests, quote=True)
    if holds:
        return f'{line}<span class="claim" title="tested: {title}" aria-hidden="true">✓</span>'
    return (
        f'{line[:start]}<mark class="claim">{line[start:]}</mark> '
        f'<span class="claim-fails" title="tested: {title}">does not hold in this run</span>'
    )


def settle_caption(
    text: str, rows: Rows | None, told: Told | None = None, *, plain: bool = False
) -> str:
    """Settle a text whose sentences stand on one line."""
    return " ".join(settle("\n".join(SENTENCE.split(text)), rows, told, plain=plain).split("\n"))


def settle_notebook(notebook: dict, rows: Rows | None, *, plain: bool = False) -> Told:
    """Settle the prose, the captions and the alternative texts of a notebook, in place."""
    told = Told()
    mark(notebook, plain=plain)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = settle("".join(cell["source"]), rows, told, plain=plain)
        shown = cell["metadata"].get("mystnb", {})
        if "caption" in shown.get("figure", {}):
            caption = shown["figure"]["caption"]
            shown["figure"]["caption"] = settle_caption(caption, rows, told, plain=plain)
        if "alt" in shown.get("image", {}):
            shown["image"]["alt"] = settle_caption(shown["image"]["alt"], rows, plain=True)
    return told


def evidence(names: str, parameters: Mapping[str, Any]) -> dict[str, str]:
    """Kind of each data set that a line names: ``real``, ``simulated`` or ``published``.

    Raises
    ------
    InputError
        When a name is no parameter of the chapter, no data set, and not ``published``.
    """
    from sclin import datasets  # takes long to import

    found, known = {}, datasets.catalogue()
    for name in names.split():
        values = parameters.get(name, name)
        for value in values if isinstance(values, list) else [values]:
            data = str(value).split(":")[0].split(" ")[-1]
            of_name = [entry for entry in known.values() if entry.name.startswith(data or "?")]
            if data in ("published", "simulated"):
                found[data] = data
            elif of_name:
                found[data] = "simulated" if of_name[0].tier == "simulated" else "real"
            elif name in parameters:
                found.update({data: "your own"} if data else {})
            else:
                raise InputError(
                    f"{{evidence}}`{names}` names {name!r}, which is no parameter of the chapter "
                    f"and no data set.{nearest(name, [*parameters, *known])}"
                )
    return found


def marks(notebook: dict) -> Iterator[tuple[dict, dict[str, str]]]:
    """Each cell of a notebook with what its figures and tables stand on."""
    now: dict[str, str] = {}
    parameters = notebook["metadata"].get("sclin_run", {}).get("parameters")
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown" and parameters is not None:
            for line in EVIDENCE.finditer("".join(cell["source"])):
                now = evidence(line["names"], parameters)
        yield cell, now


def mark(notebook: dict, *, plain: bool = False) -> None:
    """Write what the figures and tables stand on: in words at each section, as marks at each."""
    for cell, kinds in list(marks(notebook)):
        if cell["cell_type"] == "markdown":
            text = "".join(cell["source"])
            names = ", ".join(f"`{name}` ({kind})" if name != kind else f"{kind} numbers"
                              for name, kind in kinds.items())  # fmt: skip
            words = f"*What follows stands on: {names or 'what the parameters name'}.*"
            cell["source"] = EVIDENCE.sub(words, text)
            continue
        badges = " ".join(
            f'<span class="evidence {kind.replace(" ", "-")}">{kind}</span>'
            for kind in dict.fromkeys(kinds.values())
        )
        figure = cell["metadata"].get("mystnb", {}).get("figure", {})
        if plain or not badges:
            continue
        if "caption" in figure:
            figure["caption"] = f"{badges} {figure['caption']}"
        for output in cell.get("outputs", []):
            markup = "".join(output.get("data", {}).get("text/html", ""))
            if "<table" in markup:
                output["data"]["text/html"] = f'<p class="evidence">{badges}</p>{markup}'


def closing_box(name: str, record: Mapping[str, Any]) -> Any:
    """The page's closing box: what it ran on and how to run it again."""
    data = [
        f"{entry['name']} ({entry['tier']}) "
        + ", ".join(f"`{file}` sha256 `{found[:12]}`" for file, found in entry["files"].items())
        for entry in record["data"]
    ]
    rows = {
        "Profile": record["profile"],
        "Parameters": ", ".join(f"`{k} = {v!r}`" for k, v in record["parameters"].items()),
        "Data": "<br>".join(data) or "none",
        "Device": record["device"],
        "Duration": f"{record['seconds']:.0f} s",
        "Versions": ", ".join(f"{k} {v}" for k, v in record["versions"].items()),
        "Run again": f"`sclin run {name}`, with your parameters `-p NAME VALUE`",
    }
    table = "\n".join(f"| {key} | {value.replace('|', '/')} |" for key, value in rows.items())
    text = f":class: provenance dropdown\n\n| | |\n|---|---|\n{table}\n```"
    return nbformat.v4.new_markdown_cell(
        f"```{{admonition}} How this page was made\n{text}", metadata={"tags": ["provenance"]}
    )


def _texts(cell: dict) -> tuple[str, str, str]:
    """Prose, caption and alternative text of a cell, each empty where there is none."""
    shown = cell["metadata"].get("mystnb", {})
    return (
        cell["source"] if cell["cell_type"] == "markdown" else "",
        shown.get("figure", {}).get("caption", ""),
        shown.get("image", {}).get("alt", ""),
    )


def unbound(notebook: dict) -> list[str]:
    """Sentences that compare, rank, deny or hold a decimal number, and carry no role."""
    found = []
    for cell in notebook["cells"]:
        prose, *captions = _texts(cell)
        texts = [prose, *(s for caption in captions for s in SENTENCE.split(caption))]
        for line in (line.strip() for text in texts for line in text.split("\n")):
            said = re.sub(r"`[^`]*`", "", line)
            asks = said.endswith("?") or line.startswith(("#", "|", ":", "```", "<", "%"))
            if not asks and COMPARES.search(said) and not ROLE.search(line):
                found.append(line)
    return found


def problems(notebook: dict, rows: Rows, known: Collection[str] = ()) -> list[str]:
    """What is wrong with the roles of a chapter: claims that fail, rows that are not there.

    A sentence may rest on a dataset of another profile, which ``known`` names.
    """
    found = []
    for cell in notebook["cells"]:
        for role in ROLE.finditer("\n".join(_texts(cell))):
            try:
                if role["kind"] == "number":
                    rows.number(role["text"])
                elif not rows.claim(role["text"]):
                    found.append(f"does not hold: {role['text']}")
            except MissingError as error:
                if error.token.removeprefix("dataset=") not in known:
                    found.append(f"{role['text']}: {error}")
            except Exception as error:
                found.append(f"{role['text']}: {type(error).__name__} {error}")
    return found
