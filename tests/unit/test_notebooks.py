from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner

from sclin import notebooks
from sclin.cli import main
from sclin.disk import sha256_of
from sclin.errors import InputError

sys.path.insert(0, str(Path(__file__).parents[2] / "book" / "_ext"))
from execute import execute

HEADER = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---
"""
BODY = """\
# A chapter

First words.

```{code-cell} ipython3
:tags: [parameters]

n: int = 2  # how many
rate: float = 0.5  # a share
name: str = "a"  # a word
on: bool = False  # a switch
genes: list = ["x"]  # gene names
sizes: list = [1, 2]  # numbers
```

```{code-cell} ipython3
import os, json
print(n * 10, name, os.environ["SCLIN_PROFILE"])
with open(os.environ["SCLIN_PROVENANCE"], "a") as log:
    entry = {"name": "toy", "tier": "simulated", "files": {"toy.h5ad": "ab" * 32}, "paths": []}
    log.write(json.dumps(entry) + "\\n")
```
"""


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "notebooks"
    (root / "profiles").mkdir(parents=True)
    (root / "01_toy.md").write_text(HEADER + BODY)
    (root / "profiles" / "offline.yml").write_text("01_toy:\n  name: offline\n")
    (root / "profiles" / "bad.yml").write_text("01_toy:\n  nn: 3\n")
    return root


def options(folder):
    return {
        "folder": folder,
        "output": folder.parent / "out" / "01_toy.ipynb",
        "results": folder.parent / "results",
    }


def printed(path):
    book = nbformat.read(path, as_version=4)
    return "".join(o.text for c in book.cells for o in c.get("outputs", []) if "text" in o)


def test_parameters_carry_type_default_and_help(folder):
    found = notebooks.parameters("01_toy", folder=folder)
    assert list(found) == ["n", "rate", "name", "on", "genes", "sizes"]
    assert found["rate"] == notebooks.Parameter("rate", "float", 0.5, "a share")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [("n", "7", 7), ("rate", "1", 1.0), ("name", "7", "7"), ("on", "true", True),
     ("rate", "1e-3", 0.001), ("on", "False", False), ("genes", "['a', 'b']", ["a", "b"]),
     ("genes", "a b, c", ["a b", "c"]), ("genes", "[]", []), ("genes", "1", ["1"]),
     ("genes", '["x:n=1,m=2"]', ["x:n=1,m=2"]), ("sizes", "10, 20", [10, 20])],
)  # fmt: skip
def test_text_of_the_command_line_takes_the_declared_type(folder, name, text, value):
    found = notebooks.parameters("01_toy", folder=folder)[name]
    assert found.parse(text) == value
    (shown,) = shlex.split(dataclasses.replace(found, default=value).written)
    assert dataclasses.replace(found, default=value).parse(shown) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [("n", "many"), ("n", "1.5"), ("on", "3"), ("n", "True"), ("sizes", "a"), ("genes", "[[a]]"),
     ("n", "-1"), ("rate", "-0.5"), ("sizes", "1,-2")],
)  # fmt: skip
def test_a_wrongly_typed_parameter_is_refused(folder, name, text):
    with pytest.raises(InputError, match=f"'{name}' is .* but it takes"):
        notebooks.parameters("01_toy", folder=folder)[name].parse(text)


def test_a_run_carries_its_record_and_runs_again_for_other_code_or_parameters_alone(folder):
    done = notebooks.run("01_toy", values={"n": 4}, **options(folder))
    assert done.executed
    assert printed(done.path) == "40 offline offline\n"
    book = nbformat.read(done.path, as_version=4)
    record = book.metadata["sclin_run"]
    assert record["parameters"]["n"] == 4
    assert record["data"][0]["name"] == "toy"
    assert "numpy" in record["versions"]
    last = book.cells[-1].source
    assert "How this page was made" in last and "`toy.h5ad` sha256 `abababababab`" in last
    before = done.path.read_bytes()
    assert not notebooks.run("01_toy", values={"n": 4}, **options(folder)).executed
    assert done.path.read_bytes() == before

    text = (folder / "01_toy.md").read_text().replace("First words", "Better words")
    (folder / "01_toy.md").write_text(text)
    done = notebooks.run("01_toy", values={"n": 4}, **options(folder))
    assert not done.executed
    assert printed(done.path) == "40 offline offline\n"
    book = nbformat.read(done.path, as_version=4)
    assert "Better words" in book.cells[0].source
    assert "How this page was made" in book.cells[-1].source
    assert sum("injected-parameters" in c.metadata.get("tags", []) for c in book.cells) == 1

    assert notebooks.run("01_toy", values={"n": 3}, **options(folder)).executed
    (folder / "01_toy.md").write_text(text.replace("n * 10", "n * 100"))
    done = notebooks.run("01_toy", values={"n": 3}, **options(folder))
    assert done.executed and printed(done.path).startswith("300 ")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "01_toys"}, "Did you mean '01_toy'"),
        ({"values": {"nn": 1}}, "No parameter of 01_toy is called 'nn'"),
        ({"values": {"n": "one"}}, "takes int"),
        ({"profile": "offlin"}, "Did you mean 'offline'"),
        ({"profile": "bad"}, "No parameter of 01_toy is called 'nn'"),
    ],
)
def test_bad_input_is_named(folder, change, words):
    with pytest.raises(InputError, match=words):
        notebooks.run(**{"name": "01_toy", **options(folder), **change})


def test_a_failing_cell_is_shown_and_kept(folder):
    text = BODY.replace("print(n * 10", 'raise ValueError("no cells")\nprint(n * 10')
    (folder / "01_toy.md").write_text(HEADER + text)
    with pytest.raises(notebooks.NotebookError, match="ValueError: no cells") as error:
        notebooks.run("01_toy", **options(folder))
    assert len(str(error.value).split("\n")) == 2
    assert (folder.parent / "out" / "01_toy.failed.ipynb").exists()
    assert not (folder.parent / "out" / "01_toy.ipynb").exists()


def test_a_kernel_that_dies_is_said(folder):
    text = BODY.replace("print(n * 10", "os.kill(os.getpid(), 9)\nprint(n * 10")
    (folder / "01_toy.md").write_text(HEADER + text)
    with pytest.raises(notebooks.NotebookError, match=r"Kernel died\. Most often memory ran out"):
        notebooks.run("01_toy", **options(folder))


def test_a_page_whose_host_fails_says_what_stands_in_its_place(folder):
    (folder / "profiles" / "public.yml").write_text("01_toy: {name: far}\n")
    raising = BODY.replace(
        "print(n",
        "from sclin.errors import UnreachableError\n"
        "if name == 'far': raise UnreachableError('far.rda could not be fetched: '\n"
        "    'https://far.org/far.rda answered 404.')\nprint(n",
    )
    (folder / "01_toy.md").write_text(HEADER + raising)
    asked = options(folder) | {"profile": "public"}
    for _ in range(2):  # asked again each time, told once
        done = execute("01_toy", fallback="offline", **asked)
        assert done.profile == "offline" and printed(done.path) == "20 offline offline\n"
        (told,) = [c.source for c in nbformat.read(done.path, 4).cells if "warning" in c.source]
        assert "far.org did not give `far.rda`" in told
        assert "- `name`: 'offline' in place of 'far'" in told


def test_a_data_set_that_cannot_be_had_leaves_the_others_of_its_list(folder):
    (folder / "profiles" / "public.yml").write_text("01_toy: {genes: [pbmc3k, baron_mouse]}\n")
    raising = BODY.replace(
        "print(n",
        "from sclin.errors import UnreachableError\n"
        "if 'pbmc3k' in genes: raise UnreachableError('pbmc3k.rda could not be fetched')\n"
        "print('half', end='\\r', flush=True)\nprint(n",  # as a bar writes its states
    )
    (folder / "01_toy.md").write_text(HEADER + raising)
    done = execute("01_toy", fallback="offline", **options(folder) | {"profile": "public"})
    assert done.profile == "public" and printed(done.path) == "20 a public\n"
    (told,) = [c.source for c in nbformat.read(done.path, 4).cells if "warning" in c.source]
    assert "- `genes`: ['baron_mouse'] in place of ['pbmc3k', 'baron_mouse']" in told


def test_an_untyped_parameter_is_refused(folder):
    (folder / "01_toy.md").write_text(HEADER + BODY.replace("n: int = 2", "n = 2"))
    with pytest.raises(InputError, match="not of the form"):
        notebooks.parameters("01_toy", folder=folder)


def test_a_changed_file_of_data_runs_again(folder, cells):
    data = folder.parent / "mine.h5ad"
    cells.write_h5ad(data)
    reads = f'"paths": ["{data}"]'  # as sclin.datasets.load leaves it
    (folder / "01_toy.md").write_text(HEADER + BODY.replace('"paths": []', reads))
    assert notebooks.run("01_toy", **options(folder)).executed
    assert not notebooks.run("01_toy", **options(folder)).executed
    cells[:100].copy().write_h5ad(data)
    assert notebooks.run("01_toy", **options(folder)).executed


def test_caches_go_by_content_not_by_name_size_or_time(tmp_path):
    one, other = tmp_path / "a" / "cells", tmp_path / "b" / "cells"
    for folder, text in ((one, "1 2"), (other, "2 1")):
        folder.mkdir(parents=True)
        (folder / "matrix.mtx").write_text(text)
    assert sha256_of(one) != sha256_of(other)
    (other / "matrix.mtx").write_text("1 2")
    assert sha256_of(one) == sha256_of(other)
    (other / "matrix.mtx").rename(other / "other.mtx")
    assert sha256_of(one) != sha256_of(other)
    file = one / "matrix.mtx"
    before, time = sha256_of(file), file.stat().st_mtime_ns
    file.write_text("3 4")
    os.utime(file, ns=(time, time))
    assert sha256_of(file) != before


def test_make_learns_which_modules_a_chapter_ran_on(folder, monkeypatch):
    text = BODY.replace("import os, json", "import os, json\nfrom sclin import published")
    (folder / "01_toy.md").write_text(HEADER + text)
    done = execute("01_toy", **options(folder))
    used = nbformat.read(done.path, as_version=4).metadata["sclin_run"]["modules"]
    assert {"__init__.py", "published/__init__.py", "published/layers.csv"} <= set(used)
    assert not [name for name in used if name.startswith("datasets")]
    rule = done.path.with_suffix(".d").read_text()
    assert rule.startswith(f"{done.path}: ") and "published/layers.csv:\n" in rule
    found = notebooks._fingerprint("", [notebooks.PACKAGE / name for name in used])
    table = folder / "layers.csv"
    table.write_text("other")
    other = [notebooks.PACKAGE / name for name in used if "layers.csv" not in name]
    assert notebooks._fingerprint("", [*other, table]) != found


def test_the_chapters_of_the_book_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(main, ["params", "05"])
    assert "donor: str" in shown.output
    for name in ("5", "cell_types", "05_cell_types"):
        assert CliRunner().invoke(main, ["params", name]).output == shown.output
    wrong = CliRunner().invoke(main, ["params", "layers"])
    assert wrong.exit_code == 2
    assert "there are 12_layers_trajectory, 13_layers_perturbation." in wrong.output


TABLE = """
```{code-cell} ipython3
from sclin import results
said = {"task": "types", "dataset": name, "unit": "donor", "n": 8}
gap = {"variant": "versus:a", "representation": "b"}
results.save([
    results.row(**said, representation="a", metric="f1", value=0.9, ci_low=0.8, ci_high=1, seed=0),
    results.row(**said, representation="b", metric="f1", value=0.5, ci_low=0.4, ci_high=1, seed=0),
    results.row(**said, **gap, metric="f1_difference", value=-0.4,
                ci_low=-0.5, ci_high=-0.3, seed=0),
    results.row(**said, **gap, metric="f1_p", value=0.01, seed=0),
], "01_toy")
print("report: cells.html")
```

The first has {number}`the("a f1"):.1f`.
It leads. {claim}`the("a f1") > the("b f1")`
Beta cells are few. {claim}`ran("baron_human")`
"""


def test_the_command_line_runs_and_explains(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    (folder / "01_toy.md").write_text(HEADER + BODY + TABLE)
    here = ["--folder", str(folder)]
    runner = CliRunner()
    shown = runner.invoke(main, ["params", "01", *here])
    assert "n: int = 2\n    how many" in shown.output
    earlier = folder.parent / "_build/runs/01_toy.ipynb"
    earlier.parent.mkdir(parents=True)
    nbformat.write(nbformat.v4.new_notebook(), earlier)
    ran = runner.invoke(main, ["run", "1", "-p", "n", "5", *here])
    assert ran.exit_code == 0, ran.output
    assert nbformat.read(earlier, 4).cells == []
    page = "_build/runs/01_toy-2.ipynb"
    assert printed(folder.parent / page).startswith("50 ")
    assert ran.output.split("\n")[1:] == [
        f"page:   {page}", "table:  _build/runs/01_toy-2.csv", "report: cells.html",
        "types on offline: f1 over 8 donors: a has 0.900. a leads b (+0.400 [0.300, 0.500], "
        "p = 0.01).", "",
    ]  # fmt: skip
    told = nbformat.read(folder.parent / page, 4).cells[-2].source
    assert told == "The first has 0.9.\nIt leads."
    wrong = runner.invoke(main, ["run", "01", "-p", "m", "5", *here])
    assert wrong.exit_code == 2 and "is called 'm'" in wrong.output


def test_env_lists_every_package():
    shown = CliRunner().invoke(main, ["env"])
    assert "OK   numpy" in shown.output
    assert "sctop" not in shown.output
