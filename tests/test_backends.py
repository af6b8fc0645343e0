"""limitlib.backends: every engine gives the same outcomes, and a worker that dies takes one job with it."""

import os
import signal
import time
from pathlib import Path

import pytest

from limitlib import backends

# The functions stand at top level, where a worker process finds them.


def die_once(job):
    """Square the number; for the victim, first leave the process id and wait to be killed, the first time."""
    folder, number, victim = job
    mark = Path(folder) / f"started-{number}-{len(list(Path(folder).glob(f'started-{number}-*')))}"
    mark.write_text(str(os.getpid()))
    if number == victim and mark.name.endswith("-0"):
        time.sleep(60)
    time.sleep(0.3)
    return number**2


def die_always(job):
    if job == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return job


def test_a_killed_worker_loses_one_run_and_the_others_go_on(tmp_path):
    jobs = [(str(tmp_path), n, 0) for n in range(6)]
    found = {}
    for i, value in backends.run(die_once, jobs, backend="loky", n_jobs=2):
        if not found:  # the victim is still waiting; the other worker has finished something
            os.kill(int((tmp_path / "started-0-0").read_text()), signal.SIGKILL)
        found[i] = value
    assert found == {n: n**2 for n in range(6)}
    starts = sorted(p.name for p in tmp_path.iterdir())
    assert starts == sorted(["started-0-1", *(f"started-{n}-0" for n in range(6))])  # only the killed one ran twice


def test_a_job_that_kills_every_worker_is_lost_in_words_and_alone():
    found = dict(backends.run(die_always, [0, 1, 2], backend="loky", n_jobs=2, attempts=2))
    assert found == {0: 0, 1: backends.Lost(2), 2: 2}
    assert "died 2 times" in str(found[1])


def square(n):
    return n * n


def refuse(n):
    raise ZeroDivisionError(f"job {n}")


@pytest.mark.parametrize("backend", ["serial", "loky"])
def test_every_engine_gives_the_same_outcomes(backend):
    assert sorted(backends.run(square, [3, 1, 2], backend=backend, n_jobs=2)) == [(0, 9), (1, 1), (2, 4)]
    assert list(backends.run(square, [], backend=backend)) == []


@pytest.mark.parametrize("backend", ["serial", "loky"])
def test_an_exception_of_a_job_is_not_swallowed(backend):
    with pytest.raises(ZeroDivisionError, match="job 5"):
        list(backends.run(refuse, [5], backend=backend, n_jobs=1))


@pytest.mark.parametrize("settings, message", [({"backend": "spark"}, "serial, loky, dask"), ({"n_jobs": 0}, "n_jobs=0"),
                                               ({"attempts": 0}, "attempts=0")])  # fmt: skip
def test_bad_settings_are_named_at_once(settings, message):
    with pytest.raises(ValueError, match=message):
        backends.run(square, [1], **settings)
