"""Run the notebooks that are stale, side by side, and say why; keep everything that was computed, trust nothing half-done.

A notebook runs in a process of its own, in a staging folder. Its outputs move to ``build/`` only when it has finished, the
stamp last. A failed or interrupted notebook leaves ``build/failed/<name>/`` with the executed part, traceback included.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limitlib.companion import paths
from limitlib.companion.execute import parameters_of
from limitlib.companion.notebook import PROFILES
from limitlib.companion.paths import CompanionError, UsageError
from limitlib.companion.stamps import Stamps

#: Free space below which a run is not begun, bytes.
ROOM_NEEDED = 200 * 2**20
#: Seconds that an interrupted notebook gets to save what it has.
GRACE = 15.0
#: Seconds between two lines of a running notebook where the output is no terminal.
HEARTBEAT = 30.0

Say = Callable[[str], None]


@dataclass
class Job:
    """One notebook on its way: source, staging folder, child process."""

    source: Path
    wanted: dict[str, Any]
    stage: Path
    sockets: Path
    process: subprocess.Popen
    began: float = field(default_factory=time.monotonic)

    @property
    def name(self) -> str:
        return self.source.stem

    def progress(self) -> str:
        """How far it is: ``cell 3/12 · gain sweep 5/40``."""
        try:
            lines = (self.stage / "progress").read_text().splitlines()
        except OSError:
            return "starting"
        cell, step = "starting", ""
        for line in lines:
            if line.startswith("cell "):
                cell, step = line, ""
            elif line.startswith("step "):
                count, _, what = line[5:].partition(" ")
                step = f" · {what} {count}".replace("  ", " ")
        return cell + step


def notebooks(root: Path) -> list[Path]:
    return sorted((root / "notebooks").glob("[0-9][0-9]-*.py"))


def select(root: Path, names: list[str]) -> list[Path]:
    """The notebooks meant by ``names`` (a full name, a number or a prefix); all if none is given."""
    known = notebooks(root)
    chosen: list[Path] = []
    for name in names:
        stem = name.removesuffix(".py").removeprefix("notebooks/")
        hits = [n for n in known if n.stem == stem] or [n for n in known if n.stem.startswith(stem)]
        if not hits:
            raise UsageError(f"no notebook {name!r}; there are: {', '.join(n.stem for n in known) or 'none'}")
        chosen += [h for h in hits if h not in chosen]
    return chosen or known


def check_parameters(source: Path, parameters: dict[str, Any]) -> None:
    """papermill only logs an unknown parameter and runs on with the old value; we refuse."""
    try:
        known = parameters_of(source)
    except SyntaxError as error:
        raise CompanionError(f"notebooks/{source.name}: its parameters cell is no Python: {error.msg}") from error
    if "profile" not in known:
        raise UsageError(f"{source.stem} has no cell tagged 'parameters' that sets profile; begin it with\n"
                         '# %% tags=["parameters"]\nprofile = "cpu"')  # fmt: skip
    unknown = [p for p in parameters if p not in known]
    if unknown:
        has = ", ".join(known) or "none"
        raise UsageError(f"{source.stem} has no parameter {unknown[0]!r} in its cell tagged 'parameters'; it has: {has}")


@contextlib.contextmanager
def alone(build: Path) -> Iterator[None]:
    """Hold the build folder: two runs at once would overwrite each other."""
    from filelock import FileLock, Timeout

    build.mkdir(parents=True, exist_ok=True)
    lock, owner = FileLock(build / ".lock"), build / ".lock-owner"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = owner.read_text().strip() if owner.exists() else "another process"
        raise CompanionError(
            f"{who} is using {build}. Wait for it, or give this run a folder of its own: make run LIMITLIB_BUILD=OTHER-FOLDER"
        ) from None
    try:
        owner.write_text(f"process {os.getpid()}\n")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def check_space(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < ROOM_NEEDED:
        raise CompanionError(
            f"only {free / 2**20:.0f} MB are free at {folder}; a run needs {ROOM_NEEDED / 2**20:.0f} MB. Free some space, "
            "or set LIMITLIB_BUILD to a folder on another disk."
        )


class Runner:
    """One call of ``limitlib run``."""

    def __init__(self, root: Path, build: Path, *, profile: str, jobs: int, say: Say) -> None:
        if profile not in PROFILES:
            raise UsageError(f"unknown profile {profile!r}: choose one of {', '.join(PROFILES)}")
        if jobs < 1:
            raise UsageError(f"jobs is {jobs}: give 1 or more")
        self.root, self.build, self.profile, self.jobs, self.say = root, build, profile, jobs, say
        self.stamps = Stamps(root, build)
        self.running: list[Job] = []
        self.parameters: dict[str, Any] = {}
        self.failed: list[str] = []
        self.skipped: list[str] = []
        self.done = self.total = 0

    def stale(self, chosen: list[Path], parameters: dict[str, Any]) -> dict[Path, list[str]]:
        return {n: why for n in chosen if (why := self.stamps.reasons(n, {"profile": self.profile, **parameters}))}

    def run(self, chosen: list[Path], parameters: dict[str, Any], *, force: bool = False) -> int:
        """Run what is stale; 0 if all is well, 1 if a notebook failed, 130 if interrupted."""
        self.parameters = parameters
        given = {"profile": self.profile, **parameters}
        for source in chosen:
            check_parameters(source, given)
        with alone(self.build):
            check_space(self.build)
            shutil.rmtree(self.build / "tmp", ignore_errors=True)
            self.forget_removed()
            todo = {n: ["asked for"] for n in chosen} if force else self.stale(chosen, parameters)
            for source in chosen:
                if source not in todo:
                    self.say(f"  up to date  {source.stem}")
            for source, why in todo.items():
                more = f" (and {len(why) - 3} more)" if len(why) > 3 else ""
                self.say(f"  to run      {source.stem}: {'; '.join(why[:3])}{more}")
            self.total = len(todo)
            try:
                self.work(sorted(todo, key=self.seconds_before, reverse=True), given)
            except KeyboardInterrupt:
                return self.interrupt()
        return self.summary()

    def seconds_before(self, source: Path) -> float:
        """Longest first, from the last run's stamp: the wall time of the whole is then shortest."""
        old = self.stamps.read(source.stem)
        return float(old.get("seconds", 0.0)) if old else float("inf")

    def work(self, queue: list[Path], parameters: dict[str, Any]) -> None:
        from rich.console import Console
        from rich.live import Live

        threads = max(1, (os.cpu_count() or 1) // max(1, min(self.jobs, len(queue) or 1)))
        console = Console(stderr=True)
        beat = time.monotonic()
        screen = Live(console=console, refresh_per_second=4, transient=True)
        with screen if console.is_terminal else contextlib.nullcontext() as live:
            while queue or self.running:
                while queue and len(self.running) < self.jobs:
                    self.running.append(self.start(queue.pop(0), parameters, threads))
                for job in [j for j in self.running if j.process.poll() is not None]:
                    self.running.remove(job)
                    self.finish(job)
                lines = [f"  {j.name}  {j.progress()}  {time.monotonic() - j.began:.0f} s" for j in self.running]
                if live:
                    live.update("\n".join(lines))
                elif lines and time.monotonic() - beat > HEARTBEAT:
                    beat = time.monotonic()
                    self.say("  running   " + " |".join(lines))
                time.sleep(0.1)

    def start(self, source: Path, parameters: dict[str, Any], threads: int) -> Job:
        stage = self.build / "tmp" / source.stem
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir(parents=True)
        sockets = Path(tempfile.mkdtemp(prefix="nb-"))  # short: the path of a unix socket may have 107 characters
        job = {
            "source": str(source),
            "stage": str(stage),
            "cwd": str(self.root),
            "progress": str(stage / "progress"),
            "sockets": str(sockets),
            "parameters": parameters,
        }
        (stage / "job.json").write_text(json.dumps(job))
        environment = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"}  # "agg" would drop every inline figure
        environment |= {
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": os.pathsep.join([str(self.root), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "LIMITLIB_ROOT": str(self.root),
            "LIMITLIB_BUILD": str(stage),
            "LIMITLIB_STORE": str(self.build / "store"),
            "LIMITLIB_NOTEBOOK": source.stem,
            "LIMITLIB_PROGRESS": str(stage / "progress"),
            **{f"{lib}_NUM_THREADS": str(threads) for lib in ("OMP", "OPENBLAS", "MKL")},
        }
        with (stage / "log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "limitlib.companion.execute", str(stage / "job.json")],
                cwd=self.root, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        # the stamp must speak of the code as it was when the run began
        return Job(source, self.stamps.wanted(source, parameters), stage, sockets, process)

    def finish(self, job: Job) -> None:
        shutil.rmtree(job.sockets, ignore_errors=True)
        self.done += 1
        status = self.status(job)
        try:
            if status["state"] == "finished":
                self.publish(job, job.stage / "done.ipynb", status)
                self.say(f"  [{self.done}/{self.total}] ok       {job.name}  {status['seconds']:.1f} s")
            elif status["state"] == "skipped":
                self.publish_skipped(job, status)
                self.skipped.append(job.name)
                self.say(f"  [{self.done}/{self.total}] skipped: data  {job.name}: {status['error']}")
            else:
                self.report(job, status)
        except OSError as error:
            status |= {"error": f"cannot keep the results: {error.strerror} ({error.filename})"}
            self.report(job, status)
        except CompanionError as error:
            status |= {"error": str(error)}
            self.report(job, status)

    def status(self, job: Job) -> dict[str, Any]:
        try:
            return json.loads((job.stage / "status.json").read_text())
        except (OSError, ValueError):
            log = (job.stage / "log").read_text().strip().splitlines()[-8:] if (job.stage / "log").exists() else []
            code = job.process.returncode
            ended = f"killed by signal {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            return {"state": "failed", "error": f"its process was {ended}", "traceback": "\n".join(log), "seconds": 0.0}

    def publish(self, job: Job, page: Path, status: dict[str, Any]) -> None:
        """Move the outputs into place, the stamp last: whatever is interrupted before it is run again."""
        old = self.stamps.read(job.name) or {"outputs": {}}
        self.stamps.file(job.name).unlink(missing_ok=True)
        target = self.build / "notebooks" / f"{job.name}.ipynb"
        moves = {page: target}
        for folder in ("results", "figures", "tables"):
            moves |= {f: self.build / folder / f.name for f in sorted((job.stage / folder).glob("*"))}
        results = self.build / "results" / f"{job.name}.json"
        if results not in moves.values():
            (job.stage / "results").mkdir(exist_ok=True)
            (job.stage / "results" / results.name).write_text(json.dumps({"notebook": job.name}))
            moves[job.stage / "results" / results.name] = results
        for made, kept in moves.items():
            kept.parent.mkdir(parents=True, exist_ok=True)
            os.replace(made, kept)
        for gone in set(old["outputs"]) - {str(f.relative_to(self.build)) for f in moves.values()}:
            (self.build / gone).unlink(missing_ok=True)
        if self.profile == "gpu":
            for table in (f for f in moves.values() if f.parent.name == "tables"):
                shutil.copy(table, self.root / "data" / "results" / table.name)
        facts = {"seconds": status["seconds"], **({"skipped": status["dataset"]} if "dataset" in status else {})}
        self.stamps.write(job.source, job.wanted, list(moves.values()), **facts)
        shutil.rmtree(job.stage, ignore_errors=True)
        shutil.rmtree(self.build / "failed" / job.name, ignore_errors=True)

    def publish_skipped(self, job: Job, status: dict[str, Any]) -> None:
        """A page that says what is missing and how to get it, in place of one that pretends."""
        import nbformat.v4 as v4
        from nbformat import writes

        dataset, _, how = status["error"].removeprefix("DataUnavailable: ").partition(": ")
        title = next((line[4:] for line in job.source.read_text().splitlines() if line.startswith("# # ")), job.name)
        note = f"# {title}\n\n```{{warning}}\n**Skipped: data.** The data set `{dataset}` is not here: {how}\n```"
        page = v4.new_notebook(cells=[v4.new_markdown_cell(note, id="c0000")])
        (job.stage / "skipped.ipynb").write_text(writes(page) + "\n")
        results = {"notebook": job.name, "skipped": {"dataset": dataset, "how": how}}
        for folder in ("results", "figures", "tables"):
            shutil.rmtree(job.stage / folder, ignore_errors=True)
        paths.write_atomic(job.stage / "results" / f"{job.name}.json", json.dumps(results) + "\n")
        self.publish(job, job.stage / "skipped.ipynb", status | {"dataset": dataset})

    def keep_partial(self, job: Job) -> Path:
        """What a notebook that did not finish had computed: ``build/failed/<name>/``."""
        kept = self.build / "failed" / job.name
        with contextlib.suppress(OSError):
            shutil.rmtree(kept, ignore_errors=True)
            kept.mkdir(parents=True)
            if (job.stage / "out.ipynb").exists():
                os.replace(job.stage / "out.ipynb", kept / f"{job.name}.ipynb")
            for part in ("results", "figures", "tables", "log"):
                if (job.stage / part).exists():
                    os.replace(job.stage / part, kept / part)
            shutil.rmtree(job.stage, ignore_errors=True)
        return kept

    def report(self, job: Job, status: dict[str, Any]) -> None:
        self.failed.append(job.name)
        kept = self.keep_partial(job)
        where = f" in cell [{status['cell']}]" if status.get("cell") else ""
        self.say(f"  [{self.done}/{self.total}] FAILED   {job.name}{where}: {status['error']}")
        for line in status.get("traceback", "").splitlines()[-30:]:
            self.say(f"      {line}")
        self.say(f"      what ran before it, traceback included: {kept}")

    def interrupt(self) -> int:
        """Ctrl-C: let each notebook save what it has, then say how to go on."""
        self.say("\n  interrupted: saving what the running notebooks have ...")
        for job in self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.process.pid, signal.SIGTERM)
        for job in self.running:
            try:
                job.process.wait(GRACE)
            except subprocess.TimeoutExpired:
                os.killpg(job.process.pid, signal.SIGKILL)
                job.process.wait()
            self.say(f"  kept the executed part of {job.name}: {self.keep_partial(job)}")
            shutil.rmtree(job.sockets, ignore_errors=True)
        self.say(f"  {self.done} of {self.total} notebooks finished and are kept; the same command goes on with the rest.")
        return 130

    def summary(self) -> int:
        if self.failed:
            names = " ".join(n[:2] for n in self.failed)
            go_on = f"make run NB='{names}' PROFILE={self.profile}"
            if self.parameters:
                given = " ".join(f"-p {k}={v}" for k, v in self.parameters.items())
                go_on = f"limitlib run {names} --profile {self.profile} {given}"
            failed = ", ".join(self.failed)
            self.say(f"  {len(self.failed)} of {self.total} failed: {failed}. What finished is kept.")
            self.say(f"  Mend and go on with: {go_on}")
            return 1
        return 0

    def forget_removed(self) -> None:
        """Outputs of notebooks that are no more."""
        known = {n.stem for n in notebooks(self.root)}
        for stamp in (self.build / "stamps").glob("*.json"):
            if stamp.stem not in known:
                for output in (self.stamps.read(stamp.stem) or {"outputs": {}})["outputs"]:
                    (self.build / output).unlink(missing_ok=True)
                stamp.unlink()
