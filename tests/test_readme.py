"""The README's commands and code are what a stranger types first: they must be true."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_its_code_runs():
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    said = [("converged", "is within"), ("<= Lip <=", "exact"), ("<= N(1) <=", "Frontier("), ("<= Lip <=", "exact"),
            ("of the starts agree", "parameters: non-embedding")]  # fmt: skip
    for code, words in zip(blocks, said, strict=True):
        done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert all(word in done.stdout for word in words), done.stdout


def test_its_paths_are_there():
    for path in re.findall(r"`((?:limitlib|notebooks|book|data|benchmarks|tests)/[\w./-]*)`", README):
        if "NN-topic" not in path:
            assert (ROOT / path).exists(), path


def test_its_two_commands_are_the_gate():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    assert "make test" in (ROOT / ".ci" / "run").read_text()
