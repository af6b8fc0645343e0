"""What a notebook writes with: named numbers, small tables, the profile's settings, progress.

Everything lands in ``build/results/<notebook>.json`` (and ``build/tables/``), rewritten whole at every call, so that an
interrupted notebook leaves what it had computed. One key names a number everywhere: ``K12.ols_p60`` is the number
``ols_p60`` of claim K12.
"""

from __future__ import annotations

import csv
import io
import json
import math
import numbers
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from limitlib.companion import paths

PROFILES = ("smoke", "cpu", "gpu")
BADGES = ("exact", "theory", "measured", "published")
KEY = re.compile(r"[A-Z]+\d+\.[a-z0-9_]+")
STARTED = time.time()


def name() -> str:
    """The running notebook: what the runner says, else the script's own name, else ``scratch``."""
    told = os.environ.get("LIMITLIB_NOTEBOOK")
    if told:
        return told
    script = Path(getattr(sys.modules.get("__main__"), "__file__", "") or "")
    return script.stem if script.parent.name == "notebooks" else "scratch"


def results_file(notebook: str | None = None) -> Path:
    return paths.build() / "results" / f"{notebook or name()}.json"


def write_results(results: Mapping[str, Any]) -> None:
    paths.write_atomic(results_file(), json.dumps(results, indent=1, sort_keys=True) + "\n")


def update(section: str, key: str, entry: Mapping[str, Any]) -> None:
    """Set one entry of this notebook's results file."""
    file = results_file()
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"notebook": name()}
    results.setdefault(section, {})[key] = dict(entry)
    write_results(results)


def plain(value: Any) -> float | int | bool | str:
    """A JSON value from a Python or NumPy scalar."""
    if isinstance(value, (bool, str)) or type(value).__name__ == "bool":
        return value if isinstance(value, str) else bool(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real) or getattr(value, "ndim", None) == 0:
        return float(value)
    raise TypeError(f"value is a {type(value).__name__}; give a number, a truth value or a word")


def record(key: str, value: Any, *, fmt: str = ".4g", badge: str = "exact", seeds: int | None = None) -> None:
    """Record the number that prose, captions, tests and the ledger cite as ``{num}`key```.

    key: ``<claim>.<name>``, e.g. ``"K12.ols_p60"``; the claim must stand in ``data/claims.yml``.
    value: a finite or infinite number, a truth value or a word. NaN is refused: it is not a result.
    fmt: how the book prints it (a format specification). badge: "exact" (closed form or algebra), "theory" (deterministic
    numerical evaluation), "measured" (depends on a random sample or on training), "published" (another's number).
    seeds: how many random seeds the value summarises, for measured numbers.
    """
    if not KEY.fullmatch(key):
        raise ValueError(f"key {key!r} is not <claim>.<name>, like 'K12.ols_p60' (lower case, digits, underscores)")
    if badge not in BADGES:
        raise ValueError(f"badge {badge!r} is none of {', '.join(BADGES)}")
    kept = plain(value)
    if isinstance(kept, float) and math.isnan(kept):
        raise ValueError(f"{key}: the value is NaN, which is no result; find where it came from before recording it")
    format(kept, fmt if not isinstance(kept, (str, bool)) else "")
    update("records", key, {"value": kept, "fmt": fmt, "badge": badge, **({"seeds": seeds} if seeds else {})})


def profile(chosen: str, **settings: Mapping[str, Any]) -> dict[str, Any]:
    """Begin this notebook's records; give the settings of the chosen profile.

    ``profile(profile, smoke={...}, cpu={...}, gpu={...})``: values not named for a larger profile are inherited from the next
    smaller one. Raises ValueError for an unknown profile, naming the known ones.
    """
    if chosen not in PROFILES:
        raise ValueError(f"unknown profile {chosen!r}: choose one of {', '.join(PROFILES)}")
    write_results({"notebook": name(), "profile": chosen})
    merged: dict[str, Any] = {}
    for known in PROFILES[: PROFILES.index(chosen) + 1]:
        merged.update(settings.get(known, {}))
    return merged


def provenance(**more: Any) -> dict[str, Any]:
    """Commit, versions, device and seconds of this run, for a table that outlives it."""

    def installed(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    commit = os.environ.get("LIMITLIB_COMMIT", "")
    if not commit:
        said = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=paths.root(), capture_output=True, text=True)
        commit = said.stdout.strip() or "unknown"
    device = "cpu"
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
        device = sys.modules["torch"].cuda.get_device_name(0)
    return {
        "commit": commit,
        "device": device,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "versions": {p: installed(p) for p in ("numpy", "scipy", "torch", "scikit-learn") if installed(p)},
        "seconds": round(time.time() - STARTED, 1),
        **more,
    }


def columns(data: Any) -> dict[str, list]:
    """Columns of equal length from a mapping of columns, a list of row mappings or a pandas frame."""
    if hasattr(data, "to_dict") and hasattr(data, "columns"):
        return {str(c): data[c].tolist() for c in data.columns}
    if isinstance(data, Mapping):
        table = {str(k): list(v) for k, v in data.items()}
    elif isinstance(data, Sequence) and data and isinstance(data[0], Mapping):
        table = {str(k): [row.get(k) for row in data] for k in data[0]}
    else:
        raise TypeError(f"data is a {type(data).__name__}; give a mapping of columns, a list of rows or a data frame")
    lengths = {k: len(v) for k, v in table.items()}
    if not table or len(set(lengths.values())) != 1:
        raise ValueError(f"the columns differ in length: {lengths}")
    return table


def csv_text(data: Any) -> str:
    """CSV with full float precision, one header row."""
    table = columns(data)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(table)
    for row in zip(*table.values(), strict=True):
        writer.writerow([repr(float(v)) if isinstance(v, float) else v for v in row])
    return stream.getvalue()


def save_table(table: str, rows: Any, **facts: Any) -> None:
    """Keep a small table measured by this project, with its provenance (``facts`` adds to it: seeds, sizes, ...).

    Writes ``build/tables/<table>.csv`` and ``.json``. A ``gpu`` run's tables are copied to ``data/results/`` and committed,
    so that a machine without a GPU draws the same figure and says where the numbers come from.
    """
    base = paths.build() / "tables" / table
    paths.write_atomic(base.with_suffix(".csv"), csv_text(rows))
    paths.write_atomic(base.with_suffix(".json"), json.dumps(provenance(**facts), indent=1, sort_keys=True) + "\n")
    update("tables", table, {"rows": len(next(iter(columns(rows).values())))})


def load_table(table: str) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """Columns (as text) and provenance of a committed table of ``data/results/``.

    Raises FileNotFoundError naming the table and the command that makes it.
    """
    base = paths.root() / "data" / "results" / table
    update("inputs", f"results/{table}", {"file": f"data/results/{table}.csv"})  # asked for, so its coming is a change
    if not base.with_suffix(".csv").exists():
        raise FileNotFoundError(f"data/results/{table}.csv is not there; `make run PROFILE=gpu` on a GPU machine makes it")
    with base.with_suffix(".csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return columns(rows), json.loads(base.with_suffix(".json").read_text())


def store(part: str, specs: Iterable[object]) -> Path:
    """A folder for the finished runs of a sweep over these specs: an interrupted notebook resumes from it.

    Its name carries a digest of the code that trains such specs, so that runs of other code are never taken for these.
    """
    from limitlib.companion.dependencies import digest

    kinds = sorted({f"{type(spec).__module__}.{type(spec).__qualname__}" for spec in specs})
    code = digest(["limitlib.training.sweep", *kinds])[:12]
    base = Path(os.environ.get("LIMITLIB_STORE") or paths.build() / "store")
    folder = base / f"{name()}-{part}-{code}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def progress(done: int, total: int, what: str = "") -> None:
    """Tell the runner how far a long cell has come; it shows ``what done/total`` beside the notebook's name."""
    file = os.environ.get("LIMITLIB_PROGRESS")
    if file:
        with open(file, "a") as stream:
            stream.write(f"step {done}/{total} {what}\n")
