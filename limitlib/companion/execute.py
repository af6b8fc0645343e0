"""Execute one text notebook in this process: ``python -m limitlib.companion.execute JOB.json`` (the runner's child).

The job names the source, the parameters and a staging folder; everything is written there, and ``status.json`` last, so that
the runner can tell a finished notebook from a killed one.
"""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def parameters_of(source: Path) -> list[str]:
    """The names assigned in the cell tagged ``parameters``."""
    import jupytext

    cells = [c for c in jupytext.read(source).cells if "parameters" in c.metadata.get("tags", [])]
    assigned = (s for cell in cells for s in ast.parse(cell.source).body if isinstance(s, ast.Assign))
    return [target.id for s in assigned for target in s.targets if isinstance(target, ast.Name)]


def normalise(notebook: Any) -> Any:
    """Drop what differs between equal runs (times, random ids, versions); put alternative texts where Sphinx reads them."""
    for volatile in ("papermill", "jupytext"):
        notebook.metadata.pop(volatile, None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"c{number:04d}"
        for volatile in ("papermill", "execution"):
            cell.metadata.pop(volatile, None)
        tags = set(cell.metadata.get("tags", []))
        if {"parameters", "injected-parameters"} & tags:
            cell.metadata["tags"] = sorted({*tags, "hide-input"})
        for output in cell.get("outputs", []):
            figure = output.get("metadata", {}).get("limitlib")
            if figure:
                cell.metadata["mystnb"] = {"image": {"alt": figure["alt"], "classes": "finding"}}
                output["metadata"] = {}
    return notebook


def stopped(status: dict[str, Any], error: Exception) -> None:
    """Put into words where and why a cell stopped."""
    status["state"] = "skipped" if getattr(error, "ename", "") == "DataUnavailable" else "failed"
    status["error"] = f"{getattr(error, 'ename', type(error).__name__)}: {getattr(error, 'evalue', error)}"
    status["cell"] = getattr(error, "exec_count", None)
    status["code"] = (getattr(error, "source", "") or "").strip()
    status["traceback"] = COLOUR.sub("", "\n".join(getattr(error, "traceback", [])[-12:]))


def die_with_parent() -> None:
    """End this process when the runner is gone, however it went (a kill -9 leaves it no time to tell)."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def main(job_file: str) -> int:
    job = json.loads(Path(job_file).read_text())
    stage = Path(job["stage"])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    die_with_parent()

    import jupytext
    import nbformat
    import papermill
    from traitlets.config import Config

    began = time.perf_counter()
    status: dict[str, Any] = {"state": "finished"}
    notebook = jupytext.read(job["source"])
    notebook.metadata["kernelspec"] = dict(KERNEL)
    nbformat.write(notebook, stage / "in.ipynb")
    try:
        with open(job["progress"], "a", buffering=1) as bar:
            papermill.execute_notebook(
                stage / "in.ipynb",
                stage / "out.ipynb",
                parameters=job["parameters"],
                cwd=job["cwd"],
                progress_bar={"file": bar, "bar_format": "cell {n}/{total}\n", "mininterval": 0, "ascii": True},
                start_timeout=180,
                # sockets of its own in a short path: with tcp, ports race between kernels started side by side
                config=Config({"KernelManager": {"transport": "ipc", "ip": str(Path(job["sockets"]) / "k")}}),
            )
        done = normalise(nbformat.read(stage / "out.ipynb", 4))
        (stage / "done.ipynb").write_text(nbformat.writes(done) + "\n")
    except KeyboardInterrupt:
        status["state"] = "interrupted"
    except Exception as error:
        stopped(status, error)
    status["seconds"] = round(time.perf_counter() - began, 1)
    (stage / "status.json").write_text(json.dumps(status))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
