"""What every benchmark prints and, with ``--save``, keeps in ``data/results/benchmarks/``: one row for each target.

A row says what was asked, what was measured, and whether the target was met; a miss says why. Nothing is judged by a test.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Row:
    """job: what is computed; peer: compared with whom; target, measured: words with numbers; why: needed for a miss."""

    job: str
    peer: str
    target: str
    measured: str
    met: bool
    why: str = ""

    def __post_init__(self):
        object.__setattr__(self, "met", bool(self.met))  # NumPy's truth values don't go into JSON
        if not self.met and not self.why:
            raise ValueError(f"{self.job}: a missed target needs its reason in `why`")


def installed(package):
    """Version of a peer, or None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def seconds(job, *, repeats=5, cpu=False):
    """Least time of several calls, after one that is not counted."""
    clock = time.process_time if cpu else time.perf_counter
    job()
    times = []
    for _ in range(repeats):
        start = clock()
        job()
        times.append(clock() - start)
    return min(times)


def report(name, rows, *, peers=()):
    """Print the rows; with ``--save`` on the command line, also write them with commit, versions and machine."""
    for row in rows:
        print(f"\n  {row.job}\n    peer      {row.peer}\n    target    {row.target}\n    measured  {row.measured}")
        print("    met" if row.met else f"    MISSED: {row.why}")
    if "--save" not in sys.argv:
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    facts = {
        "benchmark": name,
        "commit": commit,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread",
        "versions": {p: installed(p) or "not installed" for p in ("numpy", "scipy", "torch", *peers)},
        "rows": [asdict(r) for r in rows],
    }
    file = ROOT / "data" / "results" / "benchmarks" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    print(f"\n  written to {file.relative_to(ROOT)}")
