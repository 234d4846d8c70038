"""Sentences and table of the papers' claims follow the rows of chapter 17."""

from __future__ import annotations

from pathlib import Path

import papers
import pytest
from rows import save

from sclin import published, results


def row(metric: str, variant: str, value: float, task: str = "claims", **more: object) -> dict:
    fields = {"dataset": "published", "profile": "offline", "metric": metric, "task": task, **more}
    return results.row(variant=variant, value=value, **fields)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    count = {"split": "both", "n": 6}
    rows = [row("count", word, k, **count)
            for word, k in (("stands", 1), ("falls", 2), ("cannot be told", 3))]  # fmt: skip
    rows += [row("curves", f"beyond {name}", k, n=9) for name, k in (("jitter", 4), ("walk", 0))]
    for task, metric, _ in papers.CHOSEN:
        of = {"task": task, "dataset": "all"}
        for model in ("a", "b"):
            rows += [row(metric, name, k, **of, representation=model)
                     for name, k in (("wins", 1), ("ties", 0), ("losses", 2))]  # fmt: skip
    for name in published.table("claims")["claim"]:
        told = {"note": "falls; typed by hand", "n": 8}
        rows += [row("effect", name, -0.125, **told), row("p", name, 0.25, **told)]
    save(tmp_path, rows, papers.CHAPTER)
    (tmp_path / "_toc.yml").write_text("parts: []")
    return tmp_path


def test_three_sentences_from_the_rows(root: Path) -> None:
    told = papers.claims_summary(root).split("\n")
    assert len(told) == 3
    assert "6 claims" in told[0]
    assert "1 stand, 2 fall and 3 cannot be told" in told[0]
    assert "2 of 6 trajectory curves, 2 of 6 perturbation curves and 2 of 6 cell" in told[1]
    assert "on 4 of 9 curves" in told[2]
    assert "(chapters/17_claims)" in papers.claims_summary(root, "linked")


def test_one_line_a_claim(root: Path) -> None:
    lines = papers.claims_table(root).split("\n")[3:-1]
    assert len(lines) == len(published.table("claims"))
    assert all(line.endswith("| typed by hand |") and "| **falls** |" in line for line in lines)
    assert "**-0.125**<br>p = 0.2" in lines[0]


def test_nothing_is_said_before_the_chapter_was_run(tmp_path: Path) -> None:
    assert papers.claims_summary(tmp_path) == papers.claims_table(tmp_path) == ""
