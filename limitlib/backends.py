"""Where independent jobs run: in turn, in processes of this machine, or on a Dask cluster. One call, three engines."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, TypeVar

Item = TypeVar("Item")
BACKENDS = ("serial", "loky", "dask")


@dataclass(frozen=True)
class Lost:
    """The outcome of a job whose worker process died every time it was tried."""

    attempts: int

    def __str__(self) -> str:
        return f"its worker process died {self.attempts} times (killed, or out of memory)"


def check(backend: str, n_jobs: int | None, attempts: int) -> None:
    """Raise ValueError for settings that ``run`` would refuse, naming the argument."""
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r} is unknown: choose one of {', '.join(BACKENDS)}")
    if n_jobs is not None and n_jobs < 1:
        raise ValueError(f"n_jobs={n_jobs} must be at least 1, or None for all cores")
    if attempts < 1:
        raise ValueError(f"attempts={attempts} must be at least 1")


def run(
    function: Callable[[Item], Any],
    items: Sequence[Item],
    *,
    backend: str = "serial",
    n_jobs: int | None = None,
    attempts: int = 3,
) -> Iterator[tuple[int, Any]]:
    """``(i, function(items[i]))`` for every item, in the order in which the jobs finish.

    backend: "serial"; "loky", ``n_jobs`` processes (default: the cores), where a worker that dies loses only the job it was
    on, which is tried ``attempts`` times in all and then yields ``Lost``; "dask", the workers of the current
    ``distributed.Client``, where Dask itself repeats lost jobs. function and items must be picklable for the last two.
    An exception of ``function`` ends the iteration. Raises ValueError for bad settings, ImportError naming the extra.
    """
    check(backend, n_jobs, attempts)
    if backend == "loky":
        return in_processes(function, items, n_jobs, attempts)
    if backend == "dask":
        return on_cluster(function, items)
    return ((i, function(item)) for i, item in enumerate(items))


def in_processes(
    function: Callable[[Item], Any], items: Sequence[Item], n_jobs: int | None, attempts: int
) -> Iterator[tuple[int, Any]]:
    # loky ends all workers of an executor when one of them dies. So every slot has an executor of one worker of its own.
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.process_executor import BrokenProcessPool

    cores = os.cpu_count() or 1
    slots = max(1, min(n_jobs or cores, len(items)))
    threads = {f"{name}_NUM_THREADS": str(max(1, cores // slots)) for name in ("OMP", "MKL", "OPENBLAS")}
    own = threading.local()
    executors: list[ProcessPoolExecutor] = []

    def supervise(item: Item) -> Any:
        for _ in range(attempts):
            if getattr(own, "executor", None) is None:
                own.executor = ProcessPoolExecutor(max_workers=1, env=threads)
                executors.append(own.executor)
            try:
                return own.executor.submit(function, item).result()
            except BrokenProcessPool:
                own.executor = None
        return Lost(attempts)

    supervisors = ThreadPoolExecutor(slots)
    try:
        running = {supervisors.submit(supervise, item): i for i, item in enumerate(items)}
        for finished in as_completed(running):
            yield running[finished], finished.result()
    finally:
        supervisors.shutdown(wait=False, cancel_futures=True)
        for executor in executors:
            executor.shutdown(kill_workers=True)
        supervisors.shutdown()


def on_cluster(function: Callable[[Item], Any], items: Sequence[Item]) -> Iterator[tuple[int, Any]]:
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise ImportError("backend='dask' needs Dask: pip install 'limitlib[cluster]'") from error
    import joblib

    with joblib.parallel_config(backend="dask"):
        yield from enumerate(joblib.Parallel(return_as="generator")(joblib.delayed(function)(item) for item in items))
