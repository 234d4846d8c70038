"""A server on the loopback address that misbehaves on request."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """Files by path, and how each is served; ``log`` has the requests and their ranges."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, list[int]] = field(default_factory=dict)  # bytes before a reset, per request
    status: dict[str, list[int]] = field(default_factory=dict)  # answers before the real one
    pause: dict[str, float] = field(default_factory=dict)  # seconds before the first byte
    ranges: bool = True
    log: list[tuple[str, str | None]] = field(default_factory=list)

    def hub(self, repo: str, files: dict[str, bytes], commit: str = "a" * 40) -> None:
        """Serve files as a repository of the model hub does, at ``main`` and at their commit."""
        large = [file for file in files if file.endswith(".safetensors")]
        siblings: list[dict] = [
            {
                "rfilename": f,
                "size": len(b),
                "blobId": hashlib.sha1(b"blob %d\0" % len(b) + b).hexdigest(),
            }
            for f, b in files.items()
        ]
        for one in siblings:
            if one["rfilename"] in large:
                one["lfs"] = {"sha256": hashlib.sha256(files[one["rfilename"]]).hexdigest()}
        answer = json.dumps({"sha": commit, "siblings": siblings}).encode()
        for revision in ("main", commit):
            self.files[f"/api/models/{repo}/revision/{revision}?blobs=true"] = answer
        for file, body in files.items():
            self.files[f"/{repo}/resolve/{commit}/{file}"] = body


@contextmanager
def serve() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            site.log.append((self.path, "HEAD"))
            self.send_response(200 if self.path in site.files else 404)
            self.send_header("Content-Length", str(len(site.files.get(self.path, b""))))
            self.end_headers()

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            site.log.append((self.path, wanted))
            time.sleep(site.pause.get(self.path, 0))
            if site.status.get(self.path):
                self.send_error(site.status[self.path].pop(0))
                return
            if self.path not in site.files:
                self.send_error(404)
                return
            body = site.files[self.path]
            start = 0
            if wanted and site.ranges:
                start = int(wanted.removeprefix("bytes=").split("-")[0])
                if start >= len(body):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            body = body[start:]
            if site.cut.get(self.path):
                body = body[: site.cut[self.path].pop(0)]
                self.close_connection = True
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
