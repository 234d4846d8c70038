"""Addresses of the catalogue are asked, and nothing is fetched."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest
from click.testing import CliRunner

from sclin.cli import main
from sclin.datasets import check

SIZE = 12_345
ASKED = {  # path: size known, what is wrong
    "/ok": (SIZE, ""),
    "/unknown": (None, ""),
    "/moved": (SIZE, ""),
    "/no-head": (SIZE, ""),
    "/short": (SIZE, "size"),
    "/page": (SIZE, "a web page"),
    "/gone": (SIZE, "no answer"),
    "/hang": (SIZE, "no answer"),
    "/nowhere": (SIZE, "no answer"),
}


class Handler(BaseHTTPRequestHandler):
    bodies = 0
    released = threading.Event()

    def answer(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()

    def do_HEAD(self) -> None:
        if self.path == "/hang":
            self.released.wait(5)
        if self.path == "/moved":
            self.answer(302, Location="/ok")
        elif self.path == "/nowhere":
            self.answer(302, Location="http://[::1")
        elif self.path in ("/no-head", "/gone"):
            self.answer(405 if self.path == "/no-head" else 404)
        else:
            size = "77" if self.path == "/short" else str(SIZE)
            kind = "Text/HTML; charset=utf-8" if self.path == "/page" else "application/gzip"
            self.answer(200, Content_Length=size, Content_Type=kind)

    def do_GET(self) -> None:
        assert self.headers["Range"] == "bytes=0-0"
        if self.path == "/gone":
            self.answer(404)
            return
        self.answer(206, Content_Range=f"bytes 0-0/{SIZE}", Content_Length="1")
        self.wfile.write(b"x")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def listed():
    Handler.released.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    home = f"http://127.0.0.1:{server.server_port}"
    rows = [(path, home + path, known) for path, (known, _) in ASKED.items()]
    yield pd.DataFrame(rows, columns=["name", "url", "known"])
    Handler.released.set()
    server.shutdown()
    server.server_close()


def test_each_answer_is_told_for_what_it_is(listed, monkeypatch):
    table = check.check(listed, timeout=0.3).set_index("name")
    assert dict(table["wrong"]) == {path: wrong for path, (_, wrong) in ASKED.items()}
    assert table.loc[["/ok", "/moved", "/no-head"], "size"].eq(SIZE).all()
    assert table.loc["/gone", "status"] == "404" and table.loc["/hang", "status"] == "ReadTimeout"
    monkeypatch.setattr(check, "addresses", lambda: listed)
    run = CliRunner()
    good = run.invoke(main, ["data", "check", "/ok", "/moved"])
    assert good.exit_code == 0 and "12345" in good.output
    bad = run.invoke(main, ["data", "check", "/ok", "/gone"])
    assert bad.exit_code == 1 and "1 of 2 addresses are wrong" in bad.output


def test_every_kind_of_address_is_asked():
    listed = check.addresses()
    assert {"baron_human", "came"} & set(listed["name"]) == {"came"}
    assert {"pbmc3k", "tabula_sapiens", "geneformer_tokens_v1", "tahoe-x1-70m",
            "transcriptformer-sapiens"} <= set(listed["name"])  # fmt: skip
    assert listed["url"].str.match("https?://|pip:").all() and listed["url"].is_unique
