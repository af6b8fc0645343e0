"""A small checkout of its own for the runner: two or three notebooks, a claim, a data set, and the real limitlib."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

HEAD = """# %% [markdown]
# # A title

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %%
from limitlib import companion
"""
SETTINGS = "P = companion.profile(profile, smoke=dict(n=3), cpu=dict(n=10))\n"


class Checkout:
    """A throw-away checkout; ``limitlib(...)`` runs the command line in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(ROOT / "limitlib", root / "limitlib", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "requirements.lock", root)
        (root / "notebooks").mkdir()
        (root / "data" / "expected").mkdir(parents=True)
        (root / "data" / "claims.yml").write_text("- {id: K1, title: a claim}\n")
        (root / "data" / "registry.toml").write_text("")
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("LIMITLIB_")},
            "LIMITLIB_ROOT": str(root),
            "LIMITLIB_CACHE": str(root / "cache"),
            "PYTHONPATH": str(root),
        }

    @property
    def build(self) -> Path:
        return self.root / "build"

    def notebook(self, name: str, body: str) -> Path:
        file = self.root / "notebooks" / f"{name}.py"
        file.write_text(HEAD + SETTINGS + "\n# %%\n" + body + "\n")
        return file

    def expect(self, name: str, **entries: dict) -> None:
        keys = {k.replace("__", "."): v for k, v in entries.items()}
        (self.root / "data" / "expected" / f"{name}.json").write_text(json.dumps(keys))

    def start(self, *words: str, **environment: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "limitlib", *words], cwd=self.root, env={**self.environment, **environment},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def limitlib(self, *words: str, **environment: str) -> tuple[int, str]:
        process = self.start(*words, **environment)
        said, _ = process.communicate(timeout=240)
        return process.returncode, said

    def results(self, name: str) -> dict:
        return json.loads((self.build / "results" / f"{name}.json").read_text())


@pytest.fixture(autouse=True)
def heed_ctrl_c():
    """A test run in the background inherits an ignored SIGINT, and would pass it on to the runs it interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "book")
