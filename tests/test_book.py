"""Every notebook at smoke size, then the pages of the whole book built from them, warnings as errors."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest

from limitlib.companion import datasets, ledger, pages

ROOT = Path(__file__).parents[1]
SMOKE = ROOT / "build" / "smoke"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))


@pytest.fixture(scope="module")
def smoke():
    """The smoke runs, in a folder of their own; what is up to date is not run again."""
    command = [sys.executable, "-m", "limitlib", "run", "--profile", "smoke"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "LIMITLIB_BUILD": str(SMOKE)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return SMOKE


@pytest.fixture(scope="module")
def site(smoke, tmp_path_factory):
    """The built pages, from a copy of the sources."""
    place = tmp_path_factory.mktemp("site")
    for part in ("book", "data"):
        shutil.copytree(ROOT / part, place / part)
    for part in ("notebooks", "results", "figures"):
        shutil.copytree(smoke / part, place / "build" / part)
    for file in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / file, place)
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", ".", "--all", "-W", "-n", "--keep-going", "-q"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "warning" not in (done.stdout + done.stderr).lower()
    return place / "_build" / "html"


def test_every_notebook_records_and_draws(smoke):
    results = ledger.load_results(smoke)
    assert set(results) == {n.stem for n in NOTEBOOKS}
    for name, result in results.items():
        if "skipped" in result:  # no network, and the public data is not on this machine
            assert not datasets.available(result["skipped"]["dataset"]), name
            continue
        assert result.get("records") and result.get("figures"), name
        assert result["profile"] == "smoke"


def test_numbers_agree(smoke):
    assert [(r.key, r.shown, r.verdict) for r in ledger.differing(ROOT, smoke)] == []


def test_the_pages_are_sound(site):
    assert pages.check(site) == []


def test_no_page_is_missing_or_hollow(site):
    for name in [*(n.stem for n in NOTEBOOKS), "index", "ledger", "how-to-read", "provenance", "notation", "bibliography"]:
        assert len((site / "book" / f"{name}.html").read_text()) > 5000, name
    text = (site / "book" / "ledger.html").read_text()
    for claim in ledger.load_claims(ROOT):
        assert f'id="claim-{claim.lower()}"' in text, claim
    assert "??" not in text


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda n: n.stem)
def test_a_notebook_is_readable(notebook):
    """Small cells, a parameters cell, no code lost under a markdown marker, no network, no installing."""
    cells = jupytext.read(notebook).cells
    code = [c.source for c in cells if c.cell_type == "code"]
    assert any("parameters" in c.metadata.get("tags", []) for c in cells)
    assert not [c[:60] for c in code if len(c.splitlines()) > 20]
    assert not [c for c in code if re.search(r"pip install|urllib|requests\.", c)]
    for block in re.split(r"^# %%", notebook.read_text(), flags=re.MULTILINE):
        if block.startswith(" [markdown]"):
            assert all(not line or line.startswith("#") for line in block.splitlines()[1:]), block[:200]


@pytest.mark.parametrize("chapter", NOTEBOOKS, ids=lambda n: n.stem)
def test_a_chapter_has_every_part(chapter):
    prose = (ROOT / "book" / f"{chapter.stem}.md").read_text()
    for part in ("**In one sentence.**", "{claim}", "## What is true", "## Hypotheses", "## What the runs show",
                 "## Where it breaks", "## Exercises", "## Where to look", f"{{checks}} {chapter.stem}"):  # fmt: skip
        assert part in prose, part
    exercises, solutions = (set(re.findall(p, prose)) for p in (r":label: (ex-\S+)", r"\{solution\} (ex-\S+)"))
    assert len(exercises) >= 3 and exercises == solutions
    assert prose.count("{dropdown} Proof") >= 1


def test_generated_files_are_not_in_git():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert not [f for f in listed if f.endswith(".ipynb") or f.startswith(("build/", "_build/"))]
