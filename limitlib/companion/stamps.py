"""Is what lies in ``build/`` what the sources would give now? A stamp per notebook answers, and says what changed."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from limitlib.companion import datasets, paths
from limitlib.companion.dependencies import Library

#: What a stamp must hold to be believed.
SHAPE: dict[str, type] = {"notebook": str, "parameters": dict, "code": dict, "versions": dict, "inputs": dict, "outputs": dict}


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "absent"


def versions(root: Path) -> dict[str, str]:
    """What the numbers depend on besides our own code: the interpreter, the lock and torch (which the lock leaves out)."""
    try:
        torch = version("torch").split("+")[0]
    except PackageNotFoundError:
        torch = "absent"
    return {"python": platform.python_version(), "requirements.lock": sha256(root / "requirements.lock"), "torch": torch}


def input_digest(root: Path, label: str) -> str:
    """The digest, now, of a data set or result table that a notebook asked for."""
    if label.startswith("results/"):
        return sha256(root / "data" / f"{label}.csv")
    return datasets.digest(label)


class Stamps:
    """The stamps of a build folder, read against a checkout."""

    def __init__(self, root: Path, build: Path) -> None:
        self.root, self.build = root, build
        self.library = Library(root / "limitlib")
        self.versions = versions(root)

    def file(self, notebook: str) -> Path:
        return self.build / "stamps" / f"{notebook}.json"

    def read(self, notebook: str) -> dict[str, Any] | None:
        try:
            stamp = json.loads(self.file(notebook).read_text())
        except (OSError, ValueError):
            return None
        return stamp if isinstance(stamp, dict) and all(isinstance(stamp.get(k), t) for k, t in SHAPE.items()) else None

    def wanted(self, source: Path, parameters: dict[str, Any]) -> dict[str, Any]:
        """Everything that goes into a run of this notebook, but for the data it will ask for."""
        return {
            "notebook": sha256(source),
            "parameters": parameters,
            "code": self.library.closure(source),
            "versions": self.versions,
        }

    def reasons(self, source: Path, parameters: dict[str, Any]) -> list[str]:
        """Why this notebook must be run again, in words; empty if what lies in the build folder can be trusted."""
        old = self.read(source.stem)
        if old is None:
            return ["no finished run"]
        new = self.wanted(source, parameters)
        why = [f"{source.name} changed"] if old["notebook"] != new["notebook"] else []
        why += changes(old["parameters"], new["parameters"], "{} {} -> {}", show=True)
        why += changes(old["code"], new["code"], "{} changed")
        why += changes(old["versions"], new["versions"], "{} changed")
        why += [f"data {k} changed" for k, v in old["inputs"].items() if input_digest(self.root, k) != v]
        lost = [k for k, v in old["outputs"].items() if sha256(self.build / k) != v]
        why += [f"{k} is gone or was altered" for k in lost]
        if old.get("skipped") and datasets.available(old["skipped"]):
            why.append(f"data {old['skipped']} is here now")
        return why

    def write(self, source: Path, wanted: dict[str, Any], outputs: list[Path], **facts: Any) -> None:
        """The last act of a run: after it, the outputs are trusted."""
        results = json.loads((self.build / "results" / f"{source.stem}.json").read_text())
        stamp = {
            **wanted,
            "inputs": {k: input_digest(self.root, k) for k in results.get("inputs", {})},
            "outputs": {str(f.relative_to(self.build)): sha256(f) for f in sorted(outputs)},
            **facts,
        }
        paths.write_atomic(self.file(source.stem), json.dumps(stamp, indent=1, sort_keys=True) + "\n")


def changes(old: dict, new: dict, words: str, *, show: bool = False) -> list[str]:
    keys = [k for k in {**old, **new} if old.get(k) != new.get(k)]
    return [words.format(k, old.get(k), new.get(k)) if show else words.format(k) for k in keys]
