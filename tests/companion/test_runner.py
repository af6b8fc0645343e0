"""Break the runner as a user would: each time a clear message, a right exit code, nothing lost, nothing half-done trusted."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from limitlib.companion import runner

SLOW = """import time
companion.record('K1.begun', 1)

# %%
for i in range(400):
    companion.progress(i, 400, 'waiting')
    time.sleep(.1)"""


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def test_what_is_up_to_date_is_left_and_what_changed_is_named(checkout):
    room = checkout.root / "limitlib" / "toy.py"
    room.write_text("def double(x):\n    return 2 * x\n\n\ndef triple(x):\n    return 3 * x\n")
    checkout.notebook("01-double", "from limitlib.toy import double\ncompanion.record('K1.r', double(1))")
    checkout.notebook("02-paths", "from limitlib.toy import triple\ncompanion.record('K1.n', P['n'])\ntriple(1)")
    code, said = checkout.limitlib("run")
    assert code == 0 and said.count("no finished run") == 2
    code, said = checkout.limitlib("run")
    assert code == 0 and said.count("up to date") == 2 and "to run" not in said

    room.write_text(room.read_text().replace("2 * x", "2 * x + 0"))
    code, said = checkout.limitlib("run")
    assert code == 0
    assert "to run      01-double: limitlib.toy.double changed" in said
    assert "up to date  02-paths" in said

    checkout.notebook("02-paths", "companion.record('K1.n', P['n'] + 1)")
    assert "02-paths: 02-paths.py changed" in checkout.limitlib("run", "--check")[1]
    code, said = checkout.limitlib("run", "--profile", "smoke")
    assert code == 0 and "profile cpu -> smoke" in said
    assert checkout.results("02-paths")["records"]["K1.n"]["value"] == 4

    results = checkout.build / "results" / "02-paths.json"
    results.write_text(results.read_text().replace("4", "5"))
    code, said = checkout.limitlib("run", "--check", "--profile", "smoke")
    assert code == 1 and "results/02-paths.json is gone or was altered" in said

    (checkout.root / "notebooks" / "02-paths.py").unlink()
    checkout.limitlib("run", "--profile", "smoke")
    assert not results.exists() and not (checkout.build / "notebooks" / "02-paths.ipynb").exists()


def test_an_exception_keeps_what_ran_before_it_and_the_others_go_on(checkout):
    checkout.notebook("01-bad", "companion.record('K1.before', 1.5)\n\n# %%\nraise RuntimeError('the cause')")
    checkout.notebook("02-good", "companion.record('K1.n', 1)")
    code, said = checkout.limitlib("run")
    assert code == 1
    assert "FAILED   01-bad" in said and "RuntimeError: the cause" in said and "make run NB='01'" in said
    kept = checkout.build / "failed" / "01-bad"
    assert "the cause" in (kept / "01-bad.ipynb").read_text()
    assert json.loads((kept / "results" / "01-bad.json").read_text())["records"]["K1.before"]["value"] == 1.5
    assert checkout.results("02-good") and not (checkout.build / "results" / "01-bad.json").exists()
    checkout.notebook("01-bad", "companion.record('K1.before', 1.5)")
    code, said = checkout.limitlib("run")
    assert code == 0 and "up to date  02-good" in said and not kept.exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "--profile", "fast"], "unknown profile 'fast': choose one of smoke, cpu, gpu"),
        (["run", "9"], "no notebook '9'; there are: 01-one"),
        (["run", "-p", "sede=1"], "01-one has no parameter 'sede' in its cell tagged 'parameters'; it has: profile, seed"),
        (["run", "-p", "seed"], "'seed' is not NAME=VALUE"),
        (["run", "--jobs", "0"], "jobs is 0"),
        (["walk"], "invalid choice: 'walk'"),
        ([], "required"),
    ],
)
def test_wrong_words_are_usage_errors(checkout, words, told):
    checkout.notebook("01-one", "companion.record('K1.n', 1)")
    code, said = checkout.limitlib(*words)
    assert (code, told in said) == (2, True), said
    assert not (checkout.build / "stamps").exists()


def test_a_parameter_reaches_the_notebook(checkout):
    checkout.notebook("01-one", "companion.record('K1.seed', seed)")
    assert checkout.limitlib("run", "-p", "seed=7")[0] == 0
    assert checkout.results("01-one")["records"]["K1.seed"]["value"] == 7


def register(checkout, content=b"a,b\n1,2\n"):
    digest = hashlib.sha256(content).hexdigest()
    (checkout.root / "data" / "registry.toml").write_text(
        '[toy]\ntitle = "t"\nrepository = "o/r"\ncommit = "c"\nlicence = "MIT"\ncitation = "x"\nnotes = ""\n'
        f'[toy.files]\n"d/x=1.csv" = {{ sha256 = "{digest}", upstream = "d/x=1.csv" }}\n'
    )
    body = "found = companion.load_dataset('toy', 'd/x=1.csv')\ncompanion.record('K1.bytes', len(found.read_bytes()))"
    checkout.notebook("01-data", body)
    return content


def test_missing_data_is_skipped_said_and_picked_up_when_it_comes(checkout):
    content = register(checkout)
    checkout.notebook("02-good", "companion.record('K1.n', 1)")
    no_network = {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    code, said = checkout.limitlib("run", **no_network)
    assert code == 0 and "skipped: data  01-data needs toy" in said and "`make data`" in said
    assert "Skipped: data" in (checkout.build / "notebooks" / "01-data.ipynb").read_text()
    assert checkout.results("01-data")["skipped"]["dataset"] == "toy"
    assert checkout.limitlib("run", "--strict", **no_network)[0] == 1

    mirror = checkout.root / "mirror"
    (mirror / "toy" / "d").mkdir(parents=True)
    (mirror / "toy" / "d" / "x=1.csv").write_bytes(content)
    code, said = checkout.limitlib("run", "--strict", LIMITLIB_DATA=str(mirror))
    assert code == 0 and "data toy is here now" in said
    assert checkout.results("01-data")["records"]["K1.bytes"]["value"] == len(content)

    (mirror / "toy" / "d" / "x=1.csv").write_bytes(b"something else")
    code, said = checkout.limitlib("run", "--force", "01", LIMITLIB_DATA=str(mirror))
    assert code == 1 and "is not the registered file" in said and "DataCorrupted" in said


def test_a_mirror_that_is_not_there_is_an_error(checkout):
    register(checkout)
    code, said = checkout.limitlib("run", LIMITLIB_DATA="/nowhere/at/all")
    assert code == 1 and "LIMITLIB_DATA=/nowhere/at/all is not a folder" in said


def test_too_little_disk_is_said_before_anything_runs(checkout, monkeypatch, tmp_path):
    monkeypatch.setattr(runner.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 5 * 2**20})())
    with pytest.raises(runner.CompanionError, match=r"only 5 MB are free.*LIMITLIB_BUILD"):
        runner.check_space(tmp_path)


def test_a_disk_that_fills_up_in_the_middle(checkout):
    """Writes beyond the file size limit fail in the operating system, as on a full disk."""
    big = "companion.save_table('01-big', {'x': list(range(90000))})"
    checkout.notebook("01-big", f"companion.record('K1.n', 1)\n\n# %%\n{big}")
    script = "import resource,sys; resource.setrlimit(resource.RLIMIT_FSIZE, (200000, 200000)); "
    script += "from limitlib.companion.cli import main; sys.exit(main(['run']))"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=checkout.root, env=checkout.environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "cannot write" in done.stdout and "Nothing was half-written" in done.stdout
    assert not (checkout.build / "stamps" / "01-big.json").exists()
    assert checkout.limitlib("run")[0] == 0


def test_two_runs_at_once(checkout):
    checkout.notebook("01-slow", SLOW)
    first = checkout.start("run")
    try:
        wait_for(lambda: (checkout.build / "tmp" / "01-slow" / "results").exists())
        code, said = checkout.limitlib("run")
        assert code == 1 and f"process {first.pid} is using" in said and "LIMITLIB_BUILD" in said
    finally:
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=60)


def test_ctrl_c_keeps_what_finished_and_goes_on_from_there(checkout):
    checkout.notebook("01-good", "companion.record('K1.n', 1)")
    slow = checkout.notebook("02-slow", SLOW)
    process = checkout.start("run", "--jobs", "2")
    wait_for(lambda: (checkout.build / "stamps" / "01-good.json").exists())
    wait_for(lambda: "waiting" in (checkout.build / "tmp" / "02-slow" / "progress").read_text())
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "kept the executed part of 02-slow" in said and "1 of 2 notebooks finished" in said
    kept = checkout.build / "failed" / "02-slow"
    assert (kept / "02-slow.ipynb").exists() and json.loads((kept / "results" / "02-slow.json").read_text())["records"]
    assert not (checkout.build / "stamps" / "02-slow.json").exists()
    slow.write_text(slow.read_text().replace("range(400)", "range(2)"))
    code, said = checkout.limitlib("run")
    assert code == 0 and "up to date  01-good" in said and "to run      02-slow" in said


def test_a_killed_run_leaves_nothing_trusted_and_no_orphan(checkout):
    slow = checkout.notebook("01-slow", SLOW)
    process = checkout.start("run")
    wait_for(lambda: (checkout.build / "tmp" / "01-slow" / "results").exists())
    process.kill()
    process.communicate(timeout=60)
    progress = checkout.build / "tmp" / "01-slow" / "progress"

    def quiet():
        before = progress.read_text() if progress.exists() else ""
        time.sleep(1.5)
        return before == (progress.read_text() if progress.exists() else "")

    wait_for(quiet)
    assert not (checkout.build / "stamps" / "01-slow.json").exists()
    slow.write_text(slow.read_text().replace("range(400)", "range(2)"))
    assert checkout.limitlib("run")[0] == 0


def test_a_kernel_that_dies_is_a_failure_with_a_reason(checkout):
    checkout.notebook("01-dies", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    code, said = checkout.limitlib("run")
    assert code == 1 and "FAILED   01-dies" in said and "died" in said.lower()


def test_a_number_that_is_not_what_it_must_be_fails_the_run(checkout):
    checkout.notebook("01-one", "companion.record('K1.n', P['n'])")
    checkout.expect("01-one", K1__n={"value": 10, "abs": 0, "experiment": "E0"}, K1__gone={"min": 0, "experiment": "E0"})
    code, said = checkout.limitlib("run")
    assert code == 1 and "not recorded  K1.gone" in said
    checkout.expect("01-one", K1__n={"value": 11, "abs": 0.5, "experiment": "E0"})
    code, said = checkout.limitlib("run")
    assert code == 1 and "differs  K1.n (01-one): measured 10, must be 11 ± 0.5" in said
    checkout.expect("01-one", K1__n={"value": 10, "abs": 0.5, "experiment": "E0"})
    assert checkout.limitlib("run")[0] == 0


def test_equal_runs_give_equal_bytes(checkout):
    body = (
        "import numpy as np\nx = np.random.default_rng(seed).normal(size=5)\nprint(x)\n\n# %%\n"
        "fig, ax = companion.new_figure()\nax.plot(x)\nax.set_title('Five normal numbers')\n"
        "alt = 'Five independent normal numbers drawn with a fixed seed'\n"
        "companion.save_figure(fig, '01-one-five', alt=alt, data={'x': x})"
    )
    checkout.notebook("01-one", body)

    def outputs():
        assert checkout.limitlib("run", "--force")[0] == 0
        files = [f for part in ("notebooks", "results", "figures") for f in sorted((checkout.build / part).iterdir())]
        return {f.name: f.read_bytes() for f in files}

    assert outputs() == outputs()
    page = json.loads((checkout.build / "notebooks" / "01-one.ipynb").read_text())
    alts = [c["metadata"]["mystnb"]["image"]["alt"] for c in page["cells"] if "mystnb" in c["metadata"]]
    assert alts == ["Five independent normal numbers drawn with a fixed seed"]
    assert os.fspath(checkout.root) not in json.dumps(page), "a path of this machine in the page"


def test_a_source_that_is_no_python_is_named_with_its_line(checkout):
    checkout.notebook("01-one", "def f(:")
    code, said = checkout.limitlib("run")
    assert code == 1 and "01-one.py:13: invalid syntax: def f(:" in said and "Traceback" not in said
    (checkout.root / "limitlib" / "toy.py").write_text("def broken(:\n")
    checkout.notebook("01-one", "from limitlib.toy import broken\nbroken()")
    code, said = checkout.limitlib("run")
    assert code == 1 and "toy.py:1: invalid syntax" in said and "Traceback" not in said


def test_a_notebook_without_parameters_is_told_what_to_add(checkout):
    (checkout.root / "notebooks" / "01-bare.py").write_text("# %%\nprint(1)\n")
    code, said = checkout.limitlib("run")
    assert code == 2 and '# %% tags=["parameters"]' in said


@pytest.mark.parametrize("stamp", ["[]", "{}", '{"code": 3, "outputs": []}', "{", ""])
def test_a_damaged_stamp_is_no_stamp(checkout, stamp):
    checkout.notebook("01-one", "companion.record('K1.n', 1)")
    (checkout.build / "stamps").mkdir(parents=True)
    (checkout.build / "stamps" / "01-one.json").write_text(stamp)
    code, said = checkout.limitlib("run", "--check")
    assert code == 1 and "stale  01-one: no finished run" in said


@pytest.mark.parametrize("place", ["/proc/nowhere", "a-file"])
def test_a_build_folder_that_cannot_be_written_is_said(checkout, place):
    checkout.notebook("01-one", "companion.record('K1.n', 1)")
    (checkout.root / "a-file").write_text("")
    code, said = checkout.limitlib("run", LIMITLIB_BUILD=place)
    assert code == 1 and "set LIMITLIB_BUILD to one that can" in said and "Traceback" not in said


def test_an_empty_registry_is_no_success(checkout):
    code, said = checkout.limitlib("data", "list")
    assert code == 1 and "lists no data set" in said
    (checkout.root / "data" / "registry.toml").write_text("[foo]\n")
    code, said = checkout.limitlib("data", "list")
    assert code == 1 and "registry.toml" in said and "Traceback" not in said
