"""What a notebook writes: right values in, clear refusals for wrong ones, whole files only."""

import json

import numpy as np
import pytest

from limitlib import companion
from limitlib.companion import notebook, paths

ALT = "A straight line that rises from one to three, the finding of this test figure"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMITLIB_BUILD", str(tmp_path))
    monkeypatch.setenv("LIMITLIB_NOTEBOOK", "07-covering")
    return tmp_path


def results(here):
    return json.loads((here / "results" / "07-covering.json").read_text())


SCALARS = [1, 1.5, True, "converges", np.float64(2.5), np.int32(3), np.bool_(False), np.array(1.25), np.inf]


@pytest.mark.parametrize("value", SCALARS)
def test_record_keeps_scalars(here, value):
    companion.record("K1.x", value)
    kept = results(here)["records"]["K1.x"]["value"]
    assert kept == value and type(kept) in (int, float, bool, str)


@pytest.mark.parametrize(
    ("key", "value", "options", "error"),
    [
        ("k1.x", 1, {}, "not <claim>"),
        ("K1", 1, {}, "not <claim>"),
        ("K1.X", 1, {}, "not <claim>"),
        ("K1.x", float("nan"), {}, "NaN"),
        ("K1.x", 1, {"badge": "sure"}, "badge"),
        ("K1.x", 1, {"fmt": "q"}, "format"),
    ],
)
def test_record_refuses(here, key, value, options, error):
    with pytest.raises(ValueError, match=error):
        companion.record(key, value, **options)
    assert not (here / "results").exists()


def test_record_refuses_arrays():
    with pytest.raises(TypeError, match="list"):
        companion.record("K1.x", [1, 2])


def test_profile_inherits_and_begins_anew(here):
    companion.record("K1.old", 1)
    assert companion.profile("gpu", smoke={"n": 1, "m": 2}, cpu={"n": 5}) == {"n": 5, "m": 2}
    assert results(here) == {"notebook": "07-covering", "profile": "gpu"}
    with pytest.raises(ValueError, match="unknown profile 'fast': choose one of smoke, cpu, gpu"):
        companion.profile("fast")


def draw():
    fig, ax = companion.new_figure()
    ax.plot([1, 2, 3])
    ax.set_title("It rises")
    return fig


def test_a_figure_is_svg_png_csv_and_words(here):
    companion.save_figure(draw(), "07-covering-rises", alt=ALT, data={"y": [1, 2, 3]})
    files = sorted(f.name for f in (here / "figures").iterdir())
    assert files == ["07-covering-rises.csv", "07-covering-rises.png", "07-covering-rises.svg"]
    assert (here / "figures" / "07-covering-rises.csv").read_text() == "y\n1\n2\n3\n"
    assert results(here)["figures"]["07-covering-rises"] == {"alt": ALT, "badge": "measured"}


def test_equal_figures_are_equal_bytes(here):
    for name in ("07-covering-a", "07-covering-b"):
        companion.save_figure(draw(), name, alt=ALT, data={"y": [1]})
    a, b = ((here / "figures" / f"07-covering-{n}.svg").read_bytes() for n in "ab")
    assert a == b


@pytest.mark.parametrize(
    ("name", "alt", "data", "error"),
    [
        ("08-other", ALT, {"y": [1]}, "NN-topic-finding"),
        ("07-Covering", ALT, {"y": [1]}, "NN-topic-finding"),
        ("07-covering-x", "", {"y": [1]}, "too short"),
        ("07-covering-x", ALT, {"y": [1], "x": []}, "differ in length"),
        ("07-covering-x", ALT, {}, "differ in length"),
    ],
)
def test_a_figure_without_words_or_data_is_refused(here, name, alt, data, error):
    with pytest.raises(ValueError, match=error):
        companion.save_figure(draw(), name, alt=alt, data=data)
    assert not (here / "figures").exists()


def test_a_figure_without_title_is_refused():
    fig, ax = companion.new_figure()
    ax.plot([1])
    with pytest.raises(ValueError, match="title"):
        companion.save_figure(fig, "07-covering-x", alt=ALT, data={"y": [1]})


def test_tables_carry_provenance(here):
    companion.save_table("07-runs", [{"n": 1, "loss": 0.1}, {"n": 2, "loss": 1 / 3}], seeds=5)
    assert (here / "tables" / "07-runs.csv").read_text().splitlines() == ["n,loss", "1,0.1", "2,0.3333333333333333"]
    facts = json.loads((here / "tables" / "07-runs.json").read_text())
    assert {"commit", "device", "python", "versions", "seconds", "seeds"} <= set(facts)


def test_a_missing_table_says_how_to_make_it(here):
    with pytest.raises(FileNotFoundError, match="PROFILE=gpu"):
        companion.load_table("99-nothing")
    assert "results/99-nothing" in results(here)["inputs"], "asked for: its coming must count as a change"


def test_a_full_disk_leaves_the_old_file_whole(tmp_path):
    """The operating system refuses bytes beyond the file size limit as it does on a full disk."""
    import resource
    import signal

    file = tmp_path / "kept.json"
    paths.write_atomic(file, "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        with pytest.raises(paths.CompanionError, match="Nothing was half-written"):
            paths.write_atomic(file, "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert file.read_text() == "old"
    assert [f.name for f in tmp_path.iterdir()] == ["kept.json"]


def test_the_name_of_a_notebook_run_as_a_script(monkeypatch):
    import sys
    import types

    monkeypatch.delenv("LIMITLIB_NOTEBOOK")
    monkeypatch.setitem(sys.modules, "__main__", types.SimpleNamespace(__file__="/x/notebooks/03-y.py"))
    assert notebook.name() == "03-y"
    monkeypatch.setitem(sys.modules, "__main__", types.SimpleNamespace())
    assert notebook.name() == "scratch"
