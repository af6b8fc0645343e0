"""Resumable sweeps: every finished run is one file of a folder, and an interrupted sweep goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from limitlib import backends
from limitlib.training.specs import Row, Run, Spec, Table, kinds, train


def seal(rows: Sequence[Row], details: Sequence[Row]) -> str:
    """A digest of what was measured, kept beside it: an altered file is not believed."""
    return hashlib.sha256(json.dumps([list(rows), list(details)]).encode()).hexdigest()


def keep(folder: Path, run: Run) -> None:
    """Write a run's file whole or not at all."""
    content = json.dumps(asdict(run) | {"kind": type(run.spec).__name__, "seal": seal(run.rows, run.details)})
    handle, name = tempfile.mkstemp(dir=folder, prefix=".unfinished-")
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(content)
        os.replace(name, folder / f"{run.spec.label}.json")
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load(folder: Path, spec: Spec, device: str) -> Run | None:
    """The finished run of ``spec`` in a store, or None if it is absent, damaged, altered, or from another device."""
    try:
        kept = json.loads((folder / f"{spec.label}.json").read_text())
        run = Run(spec, tuple(kept["rows"]), tuple(kept["details"]), kept["seconds"], kept["device"])
        return run if run.device == device and kept["seal"] == seal(run.rows, run.details) else None
    except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
        return None


def attempt(spec: Spec, *, device: str) -> Run | str:
    """``train(spec)``, or in words what went wrong: one bad run must not end a sweep."""
    try:
        return train(spec, device=device)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


class SweepError(RuntimeError):
    """Some runs of a sweep failed; all others are kept in the store. ``failures`` maps a spec's label to what happened."""

    def __init__(self, failures: Mapping[str, str], kept: int) -> None:
        self.failures = dict(failures)
        lines = "; ".join(f"{label}: {why}" for label, why in failures.items())
        total = len(failures) + kept
        super().__init__(f"{len(failures)} of {total} runs failed ({lines}). The other {kept} are kept; run again to retry.")


def sweep(
    specs: Sequence[Spec],
    *,
    store: str | os.PathLike[str],
    backend: str = "serial",
    n_jobs: int | None = None,
    device: str = "cpu",
    attempts: int = 3,
    progress: Callable[[int, int, str], None] | None = None,
) -> Table:
    """Train all specs, taking finished ones from ``store`` (a folder, one file per spec), and return their rows in order.

    backend: "serial"; "loky", ``n_jobs`` processes of this machine (default: its cores); "dask", the workers of the current
    ``distributed.Client``. A file appears whole or not at all. With "loky" a worker that dies loses the run it was on, which is
    tried again up to ``attempts`` times in all; the other workers are not touched. progress(done, total, label) is told of
    every finished run. Raises TypeError or ValueError before anything runs for bad or repeated specs and unknown backends;
    ImportError naming the extra to install; SweepError at the end, naming every run that failed.
    """
    for i, spec in enumerate(specs):
        if not isinstance(spec, Spec):
            raise TypeError(f"specs[{i}] is a {type(spec).__name__}, not a spec: give {kinds()}")
    labels = [spec.label for spec in specs]
    for i, label in enumerate(labels):
        if label in labels[:i]:
            raise ValueError(f"specs[{i}] repeats specs[{labels.index(label)}] ({label}); give each spec once")
    job = partial(attempt, device=device)
    backends.check(backend, n_jobs, attempts)
    folder = Path(store)
    folder.mkdir(parents=True, exist_ok=True)
    finished = {spec: run for spec in specs if (run := load(folder, spec, device))}
    waiting = [spec for spec in specs if spec not in finished]
    if progress and finished:
        progress(len(finished), len(specs), "from the store")
    failures: dict[str, str] = {}
    for i, outcome in backends.run(job, waiting, backend=backend, n_jobs=n_jobs, attempts=attempts):
        spec = waiting[i]
        if isinstance(outcome, Run):
            keep(folder, outcome)
            finished[spec] = outcome
        else:
            failures[spec.label] = outcome if isinstance(outcome, str) else str(outcome)
        if progress:
            progress(len(finished), len(specs), spec.label)
    if failures:
        raise SweepError(failures, len(finished))
    runs = [finished[spec] for spec in specs]
    return Table(
        tuple(row for run in runs for row in run.rows),
        tuple(row for run in runs for row in run.details),
    )
