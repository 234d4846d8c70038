"""The built book on a loopback server, and a browser to read it with."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "book" / "_ext"), str(Path(__file__).parent)]
HTML = Path(os.environ.get("SCLIN_BOOK_HTML", ROOT / "_build" / "html"))
NO_AXE = "axe-core is absent; run `npm install --no-save axe-core` in the repository"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def book() -> Path:
    if not (HTML / "book" / "index.html").exists():
        pytest.skip(f"no built book in {HTML}; run `make book` or name one in SCLIN_BOOK_HTML")
    return HTML


@pytest.fixture(scope="session")
def pages(book: Path) -> list[str]:
    found = [path.relative_to(book).as_posix() for path in sorted(book.glob("book/**/*.html"))]
    return [*found, "search.html", "genindex.html"]


@pytest.fixture(scope="session")
def address(book: Path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(book))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="session")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    binary = shutil.which("chromium")
    if binary is None:
        pytest.skip("no chromium on the PATH; on Debian: apt install chromium")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=binary, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def axe_source() -> str | None:
    """Source of axe-core, from `npm install` in the repository or a file named by SCLIN_AXE."""
    default = ROOT / "node_modules" / "axe-core" / "axe.min.js"
    path = Path(os.environ.get("SCLIN_AXE", default))
    return path.read_text() if path.exists() else None


@pytest.fixture(scope="session")
def axe(axe_source: str | None) -> str:
    return axe_source or pytest.skip(NO_AXE)
