"""environment.yml, the lock, pyproject.toml and the Makefile speak of the same versions as this interpreter has."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


def lock():
    pins = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    return {n.lower(): v for n, v in pins}


def test_what_is_installed_is_what_is_locked():
    wrong = {n: (v, version(n)) for n, v in lock().items() if version(n) != v}
    assert not wrong


def test_the_lock_leaves_torch_to_the_machine():
    assert not [n for n in lock() if re.match(r"torch|nvidia|cuda|triton", n)]


def test_conda_users_get_the_lock(tmp_path):
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [d for d in environment["dependencies"] if isinstance(d, str)]
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert f"python={sys.version_info.major}.{sys.version_info.minor}" in conda and "pip" in conda
    assert "-r requirements.lock" in pip and "-e ." in pip
    torch = next(p for p in pip if p.startswith("torch=="))
    assert version("torch").split("+")[0] == torch.removeprefix("torch==")
    assert torch in (ROOT / "pyproject.toml").read_text()
    assert f"TORCH_VERSION := {torch.removeprefix('torch==')}" in (ROOT / "Makefile").read_text()
    # conda hands these lines to pip as a requirements file: pip must take them and find nothing left to do
    lines = "\n".join(pip).replace("-r requirements.lock", f"-r {ROOT}/requirements.lock").replace("-e .", f"-e {ROOT}")
    (tmp_path / "pip.txt").write_text(lines)
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-build-isolation", "-r", "pip.txt"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    would = done.stdout.split("Would install")[1].split() if "Would install" in done.stdout else []
    assert [w for w in would if not w.startswith("limitlib-")] == []


def test_the_kernel_alone_needs_numpy_and_scipy_only():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert sorted(re.split(r"[<>=]", d)[0] for d in project["dependencies"]) == ["numpy", "scipy"]


def test_make_help_lists_every_target_and_variable():
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = ("book", "test", "run", "html", "serve", "lint", "bench", "data", "clean")
    for word in (*targets, "NB=", "PROFILE=", "JOBS=", "STRICT=1"):
        assert word in said, word


@pytest.mark.parametrize("python", ["/nowhere/python3.11", "/bin/false"])
def test_a_wrong_python_is_said(python, tmp_path):
    command = ["make", "setup", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "install Python 3.11" in done.stderr
    assert not (tmp_path / "venv").exists()
