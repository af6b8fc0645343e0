"""limitlib.training: members train as if alone, sweeps resume, a killed worker changes nothing in the table."""

import json
import math
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from limitlib.companion import store
from limitlib.companion.dependencies import PACKAGE, Library
from limitlib.training import (
    DescentSpec,
    DigitsSpec,
    LanguageSpec,
    Run,
    Spec,
    SweepError,
    Table,
    TextSpec,
    sweep,
    sweeps,
    train,
)

QUICK = DigitsSpec((0, 1), (0.8, 1.2), 2, steps=5, probes=2)
SPECS = [replace(QUICK, depth=L, activation=a) for L in (1, 2, 3) for a in ("tanh", "relu")]


# --- one run


@pytest.mark.parametrize("spec", [
    DigitsSpec((0, 1), (0.8, 1.2), 3, steps=12, probes=2, dtype="float64"),
    DigitsSpec((0, 1), (0.8, 1.2), 3, steps=12, probes=2, held=True, dtype="float64"),
    DigitsSpec((0, 1), (0.8, 1.2), 2, steps=12, probes=2, model="residual", activation="relu", dtype="float64"),
])  # fmt: skip
def test_a_member_trained_in_an_ensemble_equals_it_trained_alone(spec):
    together = Table(train(spec).rows)
    for gain in spec.gains:
        for seed in spec.seeds:
            alone = train(replace(spec, gains=(gain,), seeds=(seed,))).rows[0]
            row = together.where(gain=gain, seed=seed).rows[0]
            for name, value in alone.items():
                assert row[name] == (pytest.approx(value, rel=1e-8, abs=1e-10) if isinstance(value, float) else value), name


def test_the_text_and_descent_ensembles_do_not_mix_members_either():
    together = train(TextSpec((0, 1), 2, steps=3, batch=8, evaluation=50, probes=2))
    alone = train(TextSpec((1,), 2, steps=3, batch=8, evaluation=50, probes=2))
    assert together.rows[1]["test_loss"] == pytest.approx(alone.rows[0]["test_loss"], rel=1e-5)
    assert together.details[-1]["local"] == pytest.approx(alone.details[-1]["local"], rel=1e-3)
    both = train(DescentSpec((0, 1), (0.1, 0.3), steps=10, every=5, samples=50))
    one = train(DescentSpec((1,), (0.3,), steps=10, every=5, samples=50))
    assert both.rows[-1]["loss"] == pytest.approx(one.rows[0]["loss"], rel=1e-4)


def test_training_is_deterministic_and_learns():
    spec = DigitsSpec((0,), (1.0,), 3, steps=120, probes=2)
    first, second = train(spec), train(spec)
    assert first.rows == second.rows
    assert first.rows[0]["accuracy"] > 0.9 > train(replace(spec, steps=1)).rows[0]["accuracy"]
    assert train(replace(spec, seeds=(1,))).rows != first.rows


def test_a_signal_that_dies_is_not_trained():
    """The negative control of the gain: at 0.3 a stack of 24 tanh layers passes nothing on."""
    spec = DigitsSpec((0,), (0.3, 1.1), 24, steps=60, held=True, probes=2)
    dead, alive = train(spec).rows
    assert dead["accuracy"] < 0.2 and dead["log10_local_start"] <= 24 * math.log10(0.3) + 1e-5
    assert alive["accuracy"] > dead["accuracy"] + 0.3


def test_local_pair_and_rms_keep_their_order():
    for row in train(replace(QUICK, steps=0, probes=8)).rows:
        assert 0.5 * row["log10_chi_start"] <= row["log10_local_start"] + 1e-9
        assert max(row["log10_local_start"], row["log10_pair_start"]) <= 2 * math.log10(row["gain"]) + 1e-5
        assert row["log10_chi_start"] == row["log10_chi_end"]


def test_gradient_descent_on_digits_settles_at_the_edge():
    row = Table(train(DescentSpec((0, 1, 2), (0.02, 0.3), steps=600, every=20)).rows)
    assert abs(row.mean("last_quarter", rate=0.3) - 2) < 0.1
    assert row.mean("last_quarter", rate=0.02) < 1


def test_every_block_of_the_text_model_reports_its_lower_bounds():
    run = train(TextSpec((0, 1), 3, steps=2, batch=4, evaluation=50, probes=2))
    assert [(d["seed"], d["block"]) for d in run.details] == [(s, b) for b in (1, 2, 3) for s in (0, 1)]
    for row in run.rows:
        local = [d["local"] for d in run.details if d["seed"] == row["seed"]]
        assert row["local_product"] == pytest.approx(math.prod(local))
        assert row["local_smallest"] == min(local)
        assert row["stack_local"] <= row["local_product"] * (1 + 1e-9)


# --- specs


@pytest.mark.parametrize("make, message", [
    (lambda: DigitsSpec((), (1.0,), 2), "seeds="),
    (lambda: DigitsSpec((0, 0), (1.0,), 2), "repeats a seed"),
    (lambda: DigitsSpec((0,), (), 2), "gains="),
    (lambda: DigitsSpec((0,), (0.0,), 2), "gains="),
    (lambda: DigitsSpec((0,), (1.0,), 0), "depth=0"),
    (lambda: DigitsSpec((0,), (1.0,), 2, model="recurrent"), "model='recurrent'"),
    (lambda: DigitsSpec((0,), (1.0,), 2, activation="swish"), "activation='swish'"),
    (lambda: DigitsSpec((0,), (1.0,), 2, model="residual", held=True), "held=True"),
    (lambda: DigitsSpec((0,), (1.0,), 2, dtype="float16"), "dtype='float16'"),
    (lambda: DescentSpec((0,), (math.nan,)), "rates="),
    (lambda: DescentSpec((0,), (0.1,), every=0), "every=0"),
    (lambda: TextSpec((0,), 2, branch="half"), "branch='half'"),
    (lambda: TextSpec((-1,), 2), "seeds="),
])  # fmt: skip
def test_a_bad_spec_is_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_key_changes_with_every_field_and_with_nothing_else():
    changed = [replace(QUICK, **{k: v}) for k, v in dict(seeds=(0,), gains=(1.0,), depth=3, held=True, steps=6).items()]
    keys = {s.key for s in [QUICK, *changed]}
    assert len(keys) == 6
    assert DigitsSpec([0, 1], [0.8, 1.2], 2, steps=5, probes=2) == QUICK
    assert replace(QUICK).key == QUICK.key


def test_train_refuses_what_is_no_spec():
    with pytest.raises(TypeError, match="dict"):
        train({"depth": 2})


# --- tables


def test_tables_are_asked_by_column():
    table = Table(({"gain": 1.0, "accuracy": 0.5}, {"gain": 1.0, "accuracy": 0.7}, {"gain": 2.0, "accuracy": 0.1}))
    assert table.mean("accuracy", gain=1.0) == pytest.approx(0.6)
    assert table.sd("accuracy", gain=1.0) == pytest.approx(math.sqrt(0.02))
    assert math.isnan(table.sd("accuracy", gain=2.0))
    with pytest.raises(ValueError, match="no row"):
        table.mean("accuracy", gain=3.0)
    with pytest.raises(KeyError, match="accuracy"):
        table.column("loss")


def test_a_table_survives_its_way_through_text():
    table = Table(train(replace(QUICK, steps=1)).rows)
    write = lambda v: repr(v) if isinstance(v, float) else str(v)  # noqa: E731
    columns = {name: [write(v) for v in table.column(name).tolist()] for name in table.rows[0]}
    assert Table.from_columns(columns).rows == table.rows


# --- sweeps


def test_a_sweep_is_its_runs_in_order_and_is_not_run_twice(tmp_path, monkeypatch):
    told = []
    first = sweep(SPECS, store=tmp_path, progress=lambda *said: told.append(said))
    assert first.rows == tuple(row for spec in SPECS for row in train(spec).rows)
    assert [t[0] for t in told] == [1, 2, 3, 4, 5, 6] and told[-1][1] == 6
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(f"{s.label}.json" for s in SPECS)
    monkeypatch.setattr(sweeps, "train", lambda *_, **__: pytest.fail("ran again"))
    assert sweep(SPECS, store=tmp_path) == first
    assert sweep(SPECS[::-1], store=tmp_path).rows[0] == first.rows[-4]


def test_an_interrupted_sweep_resumes(tmp_path, monkeypatch):
    real, ran = sweeps.train, []

    def interrupted(spec, *, device):
        if len(ran) == 2:
            raise KeyboardInterrupt
        ran.append(spec)
        return real(spec, device=device)

    monkeypatch.setattr(sweeps, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep(SPECS, store=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(sweeps, "train", lambda spec, *, device: ran.append(spec) or real(spec, device=device))
    resumed = sweep(SPECS, store=tmp_path)
    assert ran == SPECS and resumed.rows == tuple(row for spec in SPECS for row in real(spec).rows)


def test_a_damaged_file_or_one_of_another_device_is_trained_again(tmp_path):
    first = sweep(SPECS[:2], store=tmp_path)
    file = tmp_path / f"{SPECS[0].label}.json"
    file.write_text(file.read_text()[:50])
    other = tmp_path / f"{SPECS[1].label}.json"
    other.write_text(json.dumps(json.loads(other.read_text()) | {"device": "cuda", "rows": []}))
    assert sweep(SPECS[:2], store=tmp_path) == first


@pytest.mark.parametrize("change", [{"rows": []}, {"seal": ""}])
def test_an_altered_file_is_not_believed(tmp_path, change):
    first = sweep(SPECS[:1], store=tmp_path)
    file = tmp_path / f"{SPECS[0].label}.json"
    kept = json.loads(file.read_text())
    kept["rows"][0]["accuracy"] = 1.0
    for altered in (kept, json.loads(file.read_text()) | change):
        file.write_text(json.dumps(altered))
        assert sweep(SPECS[:1], store=tmp_path) == first


def test_one_failing_run_does_not_end_the_sweep(tmp_path, monkeypatch):
    real = sweeps.train

    def fragile(spec, *, device):
        if spec == SPECS[1]:
            raise FloatingPointError("went wrong")
        return real(spec, device=device)

    monkeypatch.setattr(sweeps, "train", fragile)
    with pytest.raises(SweepError, match="1 of 6 runs failed") as caught:
        sweep(SPECS, store=tmp_path)
    assert caught.value.failures == {SPECS[1].label: "FloatingPointError: went wrong"}
    assert len(list(tmp_path.iterdir())) == 5


def test_bad_specs_and_settings_are_refused_before_anything_runs(tmp_path):
    with pytest.raises(TypeError, match=r"specs\[1\] is a dict"):
        sweep([QUICK, {"depth": 2}], store=tmp_path / "s")
    with pytest.raises(ValueError, match=r"specs\[2\] repeats specs\[0\]"):
        sweep([*SPECS[:2], SPECS[0]], store=tmp_path / "s")
    with pytest.raises(ValueError, match="serial, loky, dask"):
        sweep([QUICK], store=tmp_path / "s", backend="spark")
    with pytest.raises(ValueError, match="n_jobs=0"):
        sweep([QUICK], store=tmp_path / "s", n_jobs=0)
    with pytest.raises(ValueError, match="attempts=0"):
        sweep([QUICK], store=tmp_path / "s", attempts=0)
    assert not (tmp_path / "s").exists()


# --- workers


def test_a_worker_killed_in_the_middle_of_a_real_sweep_changes_nothing(tmp_path):
    specs = SPECS[:4]
    calm = sweep(specs, store=tmp_path / "calm")
    killed = []

    def kill_one(done, total, label):
        if not killed:
            import psutil

            victims = [p for p in psutil.Process().children(recursive=True) if "loky" in " ".join(p.cmdline())]
            workers = [p for p in victims if "resource_tracker" not in " ".join(p.cmdline())]
            killed.append(workers[0].pid)
            os.kill(workers[0].pid, signal.SIGKILL)

    rough = sweep(specs, store=tmp_path / "rough", backend="loky", n_jobs=1, progress=kill_one)
    assert killed and [r["seed"] for r in rough.rows] == [r["seed"] for r in calm.rows]
    for name in ("accuracy", "train_loss", "log10_local_end"):
        assert rough.column(name) == pytest.approx(calm.column(name), rel=1e-4, abs=1e-4)
    assert sweep(specs, store=tmp_path / "rough") == rough


def test_dask_missing_names_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"limitlib\[cluster\]"):
        sweep([QUICK], store=tmp_path, backend="dask")


def test_dask_gives_the_same_table(tmp_path):
    distributed = pytest.importorskip("distributed")
    here = distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None)
    with here, distributed.Client(here):
        by_dask = sweep(SPECS[:3], store=tmp_path / "dask", backend="dask")
    serial = sweep(SPECS[:3], store=tmp_path / "serial")
    assert np.allclose(by_dask.column("train_loss"), serial.column("train_loss"), rtol=1e-4)


def test_a_run_says_what_it_is():
    run = train(replace(QUICK, steps=0))
    assert isinstance(run, Run) and isinstance(run.spec, Spec) and run.device == "cpu" and run.seconds > 0


# --- what a change of code touches


CHANGES = {  # a room: code there, and what it becomes
    "text.py": ("1 - step / spec.steps", "1 - step / spec.steps**2"),
    "digits.py": ("losses(net(x[chosen]), y[chosen]).sum()", "losses(net(x[chosen]), y[chosen]).mean()"),
    "sweeps.py": ("train(spec, device=device)", "train(spec)"),
    "language.py": ("clip_members(net)", "clip_members(net, 2.0)"),
}


def test_notebook_04_depends_on_the_training_it_uses_and_on_no_other(tmp_path):
    notebook = Path(__file__).parents[1] / "notebooks" / "04-criticality.py"
    copy = shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    before = Library(copy).closure(notebook)
    touched = {}
    for room, (old, new) in CHANGES.items():
        file = copy / "training" / room
        source = file.read_text()
        assert old in source
        file.write_text(source.replace(old, new))
        after = Library(copy).closure(notebook)
        touched[room] = {name for name in after if after[name] != before.get(name)}
        file.write_text(source)
    # What is registered with another room's function is module-level work of its own room.
    assert touched["text.py"] == {"limitlib.training.text (module level)"}
    assert touched["digits.py"] == {"limitlib.training.digits (module level)"}
    assert touched["sweeps.py"] == {"limitlib.training.sweeps.attempt"}
    assert touched["language.py"] == set()
    uses_language = Library(copy).closure("from limitlib.training import LanguageSpec, sweep\nsweep([LanguageSpec((0,), 2)])")
    assert {"limitlib.training.language (module level)", "limitlib.models.ensembles.Transformer"} <= uses_language.keys()
    assert not any(".text" in name for name in uses_language)


def test_a_store_is_named_by_the_code_that_trains_its_specs(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMITLIB_STORE", str(tmp_path))
    specs = {"digits": QUICK, "text": TextSpec((0,), 2), "language": LanguageSpec((0,), 2)}
    found = {name: store("part", [spec]) for name, spec in specs.items()}
    assert len(set(found.values())) == 3 and all(folder.is_dir() for folder in found.values())
    assert store("part", [replace(QUICK, depth=5), QUICK]) == found["digits"]
    assert store("part", [*specs.values()]) not in found.values()
