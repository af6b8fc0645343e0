"""Tables of runs: what each column means is settled, what must not be fitted is refused by name, the rest is written down."""

import copy
import dataclasses
import gzip
import hashlib
import json
import pickle
import re
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from limitlib import scaling
from limitlib.companion import datasets
from limitlib.scaling import ChinchillaLaw, Runs, errors
from limitlib.scaling.suspicions import last_of_run, near_duplicates, same_as_previous

LAW = ChinchillaLaw(E=1.8, A=480.0, B=2000.0, alpha=0.35, beta=0.36)


def grid(n_sizes=4, n_budgets=5, **more):
    """Independent runs, every size at its own numbers of tokens."""
    P = np.repeat(np.geomspace(1e8, 1e10, n_sizes), n_budgets)
    N = np.geomspace(1e9, 1e12, n_sizes * n_budgets).reshape(n_budgets, n_sizes).T.ravel()
    return {"params": P, "tokens": N, "loss": LAW.loss(P, N), **more}


def panel(n_runs=3, checkpoints=4):
    """Checkpoints of a few runs."""
    P = np.repeat(np.geomspace(1e8, 1e9, n_runs), checkpoints)
    N = np.tile(np.geomspace(1e9, 1e11, checkpoints), n_runs)
    names = np.repeat([f"model-{i}" for i in range(n_runs)], checkpoints)
    return {"params": P, "tokens": N, "step": N / 1e6, "run_name": names, "loss": LAW.loss(P, N)}


def read(frame, **named):
    return Runs.from_frame(frame, **{"N": "tokens", "P": "params", **named})


def csv_of(frame):
    rows = zip(*frame.values(), strict=True)
    return "\n".join([",".join(frame), *(",".join(str(v) for v in row) for row in rows)]) + "\n"


def changed(frame, column, row, value):
    values = list(frame[column])
    values[row] = value
    return {**frame, column: values}


def named(warnings):
    return {w.split(":")[0] for w in warnings}


def registered(name, file):
    """A registered file that is on this machine, or skip."""
    found = datasets.local(name, datasets.registered(name).files[file])
    if found is None:
        pytest.skip(f"{name}/{file} is not on this machine")
    return found


# ---------------------------------------------------------------------------------------------- what a table is made of


def test_columns_losses_and_compute():
    frame = grid()
    runs = read(frame)
    assert list(runs.columns) == ["N", "P", "C"]
    np.testing.assert_array_equal(runs.N, frame["tokens"])
    np.testing.assert_array_equal(runs["P"], frame["params"])
    np.testing.assert_array_equal(runs["loss"], frame["loss"])
    np.testing.assert_allclose(runs.C, 6 * frame["params"] * frame["tokens"], rtol=1e-15)
    np.testing.assert_array_equal(runs.weight, np.ones(20))
    assert len(runs) == runs.n_runs == 20
    assert runs.labels == {"N": "tokens", "P": "params", "loss": "loss", "C": "6 N P"}
    assert any(note.startswith("C computed: 6 N P") for note in runs.notes)
    assert any("each of the 20 rows counts as a run of its own" in note for note in runs.notes)
    assert any(note.startswith("counting:") for note in runs.notes)
    assert any(note.startswith("annealed:") for note in runs.notes)
    assert runs.warnings == () and runs.source is None


def test_whole_numbers_do_not_overflow():
    """6 N P of int64 columns leaves int64 from 9.2e18 on; here it is float64."""
    runs = Runs.from_arrays([2.5, 2.4], N=np.array([300 * 10**9] * 2), P=np.array([70 * 10**9, 80 * 10**9]))
    np.testing.assert_allclose(runs.C, [6 * 3e11 * 7e10, 6 * 3e11 * 8e10])


def test_every_shape_of_frame_gives_the_same_table():
    frame = panel()
    rows = [dict(zip(frame, row, strict=True)) for row in zip(*frame.values(), strict=True)]
    by_hand = SimpleNamespace(columns=list(frame))
    lists = {name: values.tolist() for name, values in frame.items()}
    first = read(frame, run="run_name")
    series = {name: pd.Series(values, index=[5] * 12) for name, values in frame.items()}
    frames = (pd.DataFrame(frame), pd.DataFrame(frame).convert_dtypes(), lists | {"unused": [[1, 2]] * 12})
    for other in (series, rows, lists, *frames):
        runs = read(other, run="run_name")
        for name in first.columns:
            np.testing.assert_array_equal(runs[name], first[name])
        assert runs.run_names == first.run_names == ("model-0", "model-1", "model-2")
        np.testing.assert_array_equal(runs.run, np.repeat([0, 1, 2], 4))
    with pytest.raises(TypeError, match="must be a data frame, a mapping"):
        read(by_hand, run="run_name")


def test_a_table_cannot_be_written_to():
    frame = grid()
    runs = read(frame, annealed=True, counting="non-embedding")
    for array in (*runs.columns.values(), runs.loss, runs.run, runs.weight, runs.rows, runs.annealed):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(TypeError, match="does not support item assignment"):
        runs.columns["N"] = runs.N
    with pytest.raises(dataclasses.FrozenInstanceError):
        runs.loss = runs.loss
    before = runs.N[0]
    frame["tokens"][0] = 1.0
    assert runs.N[0] == before


@pytest.mark.parametrize("again", [copy.deepcopy, lambda runs: pickle.loads(pickle.dumps(runs))])
def test_copies_and_other_processes_get_the_same_table(again):
    runs = read(panel(), run="run_name", annealed=False)
    other = again(runs)
    assert other.notes == runs.notes and other.run_names == runs.run_names and other.labels == runs.labels
    np.testing.assert_array_equal(other.C, runs.C)
    assert not other.N.flags.writeable and other.warnings == runs.warnings


def test_arrays():
    runs = Runs.from_arrays([3.0, 2.8, 2.9], N=[1e9, 2e9, 1e9], P=[1e8, 1e8, 2e8], run=["a", "a", "b"], width=[64, 64, 128])
    assert list(runs.columns) == ["N", "P", "C", "width"] and runs.run_names == ("a", "b")
    assert Runs.from_arrays([3.0, 2.8], K=[1, 2], run="=row", annealed=[True, False]).annealed.tolist() == [True, False]
    assert Runs.from_arrays([3.0, 2.8], N=[1e9, 2e9], tokenizer=["t", "t"]).tokenizers == ("t",)
    with pytest.raises(scaling.UnreadableTable, match="several lengths: N 2, loss 3"):
        Runs.from_arrays([3.0, 2.8, 2.9], N=[1e9, 2e9])
    with pytest.raises(scaling.UnreadableTable, match="column 'loss' must be a sequence"):
        Runs.from_arrays(3.0, N=[1e9])
    with pytest.raises(scaling.UnreadableTable, match="column 'N' must be a sequence"):
        Runs.from_arrays([3.0], N=1e9)
    assert Runs.from_arrays([3.0, 2.8], N=[1e9, 2e9], run=[("a", 1), ("a", 2)]).run_names == ("('a', 1)", "('a', 2)")


def test_masked_values_are_missing():
    for masked in (np.ma.array([3.0, 2.9, 2.8], mask=[0, 1, 0]), np.ma.array([3, 2, 1], mask=[0, 1, 0])):
        with pytest.raises(scaling.MissingValues, match="loss in row 1"):
            Runs.from_arrays(masked, N=[1e9, 2e9, 3e9])


def test_factors_turn_billions_into_tokens():
    frame = grid()
    billions = {"tokens_b": frame["tokens"] / 1e9, "params_m": frame["params"] / 1e6, "loss": frame["loss"]}
    runs = Runs.from_frame(billions, N=("tokens_b", 1e9), P=("params_m", 1e6))
    np.testing.assert_allclose(runs.C, read(frame).C, rtol=1e-12)
    assert runs.labels["N"] == "tokens_b x 1e+09" and runs.warnings == ()
    assert "N is 1e+09 times the column 'tokens_b'" in runs.notes
    for bad in (0, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match="N: the factor"):
            Runs.from_frame(billions, N=("tokens_b", bad))
    for bad in (1, ("tokens_b",), ("tokens_b", 1, 2), ["tokens_b", 1e9]):
        with pytest.raises(TypeError, match=r"must be the name of a column, or \(name, factor\)"):
            Runs.from_frame(billions, N=bad)


def test_units_of_the_loss():
    frame = grid()
    nats = frame["loss"]
    bits = read({**frame, "loss": nats / np.log(2)}, unit="bits/token")
    np.testing.assert_allclose(bits.loss, nats, rtol=1e-14)
    assert bits.unit == "nats/token" and any("times ln 2" in n for n in bits.notes)
    perplexity = read({**frame, "loss": np.exp(nats)}, unit="perplexity")
    np.testing.assert_allclose(perplexity.loss, nats, rtol=1e-14)
    assert perplexity.unit == "nats/token" and any("logarithm" in n for n in perplexity.notes)
    assert read(frame, unit="bits/byte").unit == "nats/byte"
    assert read(frame, unit="nats/byte").unit == "nats/byte"
    assert read(frame, unit="=top-1 error").unit == "top-1 error"
    with pytest.raises(scaling.NonPositiveLoss, match=r"not -3\.0 in row 0"):
        read(changed(frame, "loss", 0, -3.0), unit="perplexity")
    for bad in ("nats", "nat/token", "bits", "=", ""):
        with pytest.raises(ValueError, match="is unknown: choose nats or bits per token, byte"):
            read(frame, unit=bad)
    with pytest.raises(TypeError, match="unit=None must be a unit"):
        read(frame, unit=None)


def test_extra_columns():
    frame = grid(width=np.arange(20), **{"Learning rate": np.linspace(1, 2, 20)})
    runs = read(frame, extra={"rate": "Learning rate", "wide": ("width", 64)})
    np.testing.assert_array_equal(runs["wide"], 64 * np.arange(20))
    np.testing.assert_array_equal(runs["rate"], frame["Learning rate"])
    assert list(read(frame, extra=["width"]).columns) == ["N", "P", "C", "width"] == list(read(frame, extra="width").columns)
    for bad in ("Learning rate", "N", "loss", "lambda", ""):
        with pytest.raises(ValueError, match="cannot be the name of a column here"):
            read(frame, extra=[bad])
    assert list(Runs.from_frame(frame, extra=["width"]).columns) == ["width"]


# ----------------------------------------------------------------------------------------------------------------- files


@pytest.fixture
def files(tmp_path):
    frame = {name: values.tolist() for name, values in panel().items()}
    (tmp_path / "runs.csv").write_text("\ufeff" + csv_of(frame) + "\n\n", encoding="utf-8")
    (tmp_path / "runs.tsv").write_text(csv_of(frame).replace(",", "\t"))
    (tmp_path / "semicolons.csv").write_text(csv_of(frame).replace(",", ";").replace("\n", "\r\n"))
    (tmp_path / "runs.csv.gz").write_bytes(gzip.compress(csv_of(frame).encode()))
    rows = [dict(zip(frame, row, strict=True)) for row in zip(*frame.values(), strict=True)]
    (tmp_path / "runs.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    (tmp_path / "runs.jsonl.gz").write_bytes(gzip.compress((tmp_path / "runs.jsonl").read_bytes()))
    return tmp_path


@pytest.mark.parametrize("file", ["runs.csv", "runs.tsv", "semicolons.csv", "runs.csv.gz", "runs.jsonl", "runs.jsonl.gz"])
def test_every_format_reads_the_same(files, file):
    wanted = read(panel(), run="run_name")
    runs = Runs.read(files / file, N="tokens", P="params", run="run_name")
    for name in wanted.columns:
        np.testing.assert_array_equal(runs[name], wanted[name])
    assert runs.run_names == wanted.run_names
    assert runs.source == scaling.Source(file, hashlib.sha256((files / file).read_bytes()).hexdigest())
    assert Runs.read(str(files / file), N="tokens", run="run_name").source == runs.source


def test_a_format_the_name_does_not_tell(files):
    (files / "runs.dat").write_bytes((files / "runs.csv").read_bytes())
    with pytest.raises(ValueError, match=r"runs\.dat' does not tell its format; give format="):
        Runs.read(files / "runs.dat", N="tokens")
    assert len(Runs.read(files / "runs.dat", format="csv", N="tokens", run="run_name")) == 12
    with pytest.raises(ValueError, match="format='xlsx' is unknown"):
        Runs.read(files / "runs.dat", format="xlsx", N="tokens")
    with pytest.raises(FileNotFoundError):
        Runs.read(files / "absent.csv", N="tokens")
    with pytest.raises(TypeError, match="unexpected keyword argument 'tokens'"):
        Runs.read(files / "runs.csv", tokens="tokens")


def test_parquet(tmp_path):
    file = tmp_path / "runs.parquet"
    frame = pd.DataFrame(panel()).astype({"step": "int64"})
    try:
        frame.to_parquet(file)
    except ImportError:
        file.write_bytes(b"PAR1")
        with pytest.raises(ImportError, match=r"runs\.parquet needs pyarrow.* pip install pyarrow, or save"):
            Runs.read(file, N="tokens")
        return
    runs = Runs.read(file, N="tokens", P="params", K="step", run="run_name")
    np.testing.assert_array_equal(runs.K, frame["step"])
    assert runs.run_names == ("model-0", "model-1", "model-2")
    file.write_bytes(b"PAR1")
    with pytest.raises(scaling.UnreadableTable, match=r"runs\.parquet is no Parquet file"):
        Runs.read(file, N="tokens")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "tokens,loss\n1e9,3\n2e9\n", r"a\.csv, line 3: 1 values for the 2 columns"),
        ("a.csv", "tokens,loss\n1,000,3\n", "line 2: 3 values for the 2 columns"),
        ("a.csv", "tokens,tokens,loss\n1,1,3\n", "two columns named 'tokens'"),
        ("a.csv", "", "is empty"),
        ("a.csv", b"tokens,loss\n\xff\xfe,3\n", "no csv file that can be read"),
        ("a.csv", "tokens,loss\n" + "1" * 200_000 + ",3\n", "field larger than field limit"),
        ("a.csv.gz", "tokens,loss\n1e9,3\n", "no csv file that can be read"),
        ("a.jsonl", '{"tokens": 1e9, "loss": 3}\n{"tokens": \n', r"a\.jsonl, line 2: no JSON"),
        ("a.jsonl", '{"tokens": 1e9, "loss": 3}\n[1, 2]\n', "line 2: must be a JSON object"),
    ],
)
def test_broken_files(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(scaling.UnreadableTable, match=said):
        Runs.read(tmp_path / name, N="tokens")


@pytest.mark.parametrize(("name", "content"), [("a.csv", "tokens,loss\n"), ("a.jsonl", "\n")])
def test_files_without_rows(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(scaling.EmptyTable, match="no rows"):
        Runs.read(tmp_path / name, N="tokens")


def test_a_column_without_a_name_and_a_key_that_a_line_lacks(tmp_path):
    (tmp_path / "a.csv").write_text(",tokens,loss,\n0,1e9,3,x\n1,2e9,2.9,y\n")
    assert len(Runs.read(tmp_path / "a.csv", N="tokens")) == 2
    (tmp_path / "a.jsonl").write_text('{"tokens": 1e9, "loss": 3}\n{"tokens": 2e9}\n{"tokens": 3e9, "loss": null}\n')
    with pytest.raises(scaling.MissingValues, match="loss in rows 1, 2"):
        Runs.read(tmp_path / "a.jsonl", N="tokens")


def test_a_large_file_reads_in_well_under_two_seconds(tmp_path):
    rng, n = np.random.default_rng(0), 100_000
    P, N = np.exp(rng.uniform(18, 24, n)), np.exp(rng.uniform(20, 28, n))
    names = np.array([f"run{i // 20}" for i in range(n)])
    frame = {"run_name": names, "params": P, "tokens": N, "loss": LAW.loss(P, N), "seed": np.arange(n), "note": [""] * n}
    (tmp_path / "large.csv").write_text(csv_of({k: list(v) for k, v in frame.items()}))
    start = time.process_time()
    runs = Runs.read(tmp_path / "large.csv", N="tokens", P="params", run="run_name", where="N > P")
    assert len(runs.warnings) == 1 and len(runs.where("C < 1e21")) < len(runs)
    assert time.process_time() - start < 2.0
    one_each = read({**frame, "run_name": np.arange(n)})
    start = time.process_time()
    assert named(one_each.warnings) == {"near-duplicates"}
    assert time.process_time() - start < 2.0


# ---------------------------------------------------------------------------------------------------- refused, by name


def test_every_error_is_a_value_error_of_this_room():
    found = [e for e in vars(errors).values() if isinstance(e, type) and e.__module__ == errors.__name__]
    assert len(found) == 15 and all(issubclass(e, scaling.RunsError) and issubclass(e, ValueError) for e in found)
    assert all(getattr(scaling, e.__name__) is e for e in found)
    error = pickle.loads(pickle.dumps(scaling.MissingValues("words", column="loss", rows=[np.int64(3)])))
    assert (str(error), error.column, error.rows) == ("words", "loss", (3,))


def test_unknown_columns_list_what_there_is_and_what_is_close():
    with pytest.raises(scaling.UnknownColumn) as caught:
        read(grid(), N="token")
    assert str(caught.value) == (
        "N='token': there is no such column; did you mean 'tokens'? There are: params, tokens, loss"
    )
    assert isinstance(caught.value, KeyError)
    for argument in ("P", "K", "C", "loss", "run", "weight", "annealed", "tokenizer"):
        with pytest.raises(scaling.UnknownColumn, match=f"^{argument}='LOSSES'.* did you mean 'loss'"):
            read(grid(), **{argument: "LOSSES"})
    with pytest.raises(scaling.UnknownColumn, match=r"write tokenizer='=gpt2'"):
        read(grid(), tokenizer="gpt2")
    with pytest.raises(scaling.UnknownColumn, match="width='width'"):
        read(grid(), extra=["width"])
    with pytest.raises(ValueError, match=r"none of N, P, K, C and extra is given.* There are: params, tokens, loss"):
        Runs.from_frame(grid())


@pytest.mark.parametrize("argument", ["run", "weight", "tokenizer", "counting", "annealed"])
def test_names_are_words(argument):
    with pytest.raises(TypeError, match=f"{argument}=3 must be"):
        read(grid(), **{argument: 3})


def test_no_table_at_all():
    for bad in (3, "runs.csv", None, [1, 2], np.ones((2, 2))):
        with pytest.raises(TypeError, match="must be a data frame, a mapping"):
            read(bad)
    frame = pd.DataFrame(np.ones((2, 3)), columns=["tokens", "loss", "tokens"])
    with pytest.raises(scaling.UnreadableTable, match="two columns named 'tokens'"):
        Runs.from_frame(frame, N="tokens")
    for bad in (np.ones((2, 2)), "12", {1, 2}, 5):
        with pytest.raises(scaling.UnreadableTable, match="column 'tokens' must be a sequence"):
            Runs.from_frame({"tokens": bad, "loss": [1, 2]}, N="tokens")
    with pytest.raises(scaling.EmptyTable, match="no rows"):
        read({"tokens": [], "params": [], "loss": []})


@pytest.mark.parametrize("bad", ["1.3B", "1,000,000", "70M", "about 3", [1], True, 1j, pd.Timestamp("2024-01-01"), "3,2"])
def test_what_is_no_number(bad):
    with pytest.raises(scaling.UnparsableNumber, match=r"^N \(column 'tokens'\) holds no number in row 7: ") as caught:
        read(changed(grid(), "tokens", 7, bad))
    assert caught.value.rows == (7,) and caught.value.column == "N"


@pytest.mark.parametrize("values", [np.zeros(20, "M8[ns]"), np.zeros(20, complex), np.zeros(20, bool)])
def test_columns_of_no_numbers(values):
    with pytest.raises(scaling.UnparsableNumber, match="rows 0, 1, 2, 3, 4 and 15 more"):
        read({**grid(), "tokens": values})


def test_a_row_that_is_left_out_may_hold_anything():
    frame = changed(grid(split=["train"] * 19 + ["note"]), "tokens", 19, "see paper")
    assert len(read(frame, where="split == 'train'")) == 19
    with pytest.raises(scaling.UnparsableNumber, match="row 19: 'see paper'"):
        read(frame, where="N > 0")


@pytest.mark.parametrize("missing", [None, np.nan, "", " ", "NaN", "n/a", "NULL", np.inf, "inf", pd.NA, pd.NaT])
@pytest.mark.parametrize(("column", "argument"), [("loss", "loss"), ("tokens", "N"), ("params", "P")])
def test_missing_values(missing, column, argument):
    frame = changed(changed(grid(), column, 3, missing), column, 5, missing)
    with pytest.raises(scaling.MissingValues, match=rf"{argument}.* in rows 3, 5 \(of 20 rows.*drop_nan=True") as caught:
        read(frame)
    assert caught.value.rows == (3, 5) and caught.value.column == argument
    runs = read(frame, drop_nan=True)
    assert len(runs) == 18 and 3 not in runs.rows and 5 not in runs.rows
    assert any(note.startswith("dropped, no finite") and note.endswith("rows 3, 5") for note in runs.notes)


def test_missing_names_weights_and_everything():
    with pytest.raises(scaling.MissingValues, match=r"run \(column 'run_name'\) in row 2"):
        read(changed(panel(), "run_name", 2, None), run="run_name")
    assert len(read(changed(panel(), "run_name", 2, ""), run="run_name", drop_nan=True)) == 11
    with pytest.raises(scaling.MissingValues, match="weight in row 0"):
        read(grid(weight=[np.nan] + [1.0] * 19), weight="weight")
    with pytest.raises(scaling.EmptyTable, match="every row lacks a value"):
        read({**grid(), "loss": [None] * 20}, drop_nan=True)
    with pytest.raises(scaling.MissingValues, match=r"no finite value: C \(column '6 N P'\) in row 1 \(of 2 rows"):
        Runs.from_arrays([3.0, 2.9], N=[1e9, 1e200], P=[1e8, 1e200])
    with pytest.raises(TypeError, match="drop_nan='yes' must be True or False"):
        read(grid(), drop_nan="yes")


@pytest.mark.parametrize("bad", [0.0, -0.5, "-2"])
def test_losses_have_a_logarithm(bad):
    with pytest.raises(scaling.NonPositiveLoss, match=r"^loss must be positive, not .* in rows 1, 4: .* by where='loss > 0'"):
        read(changed(changed(grid(), "loss", 1, bad), "loss", 4, bad))
    assert len(read(changed(grid(), "loss", 1, bad), where="loss > 0")) == 19


def test_signs_of_the_variables():
    with pytest.raises(scaling.NonPositiveVariable, match=r"P \(column 'params'\) must be positive, not 0 in row 2"):
        read(changed(grid(), "params", 2, 0))
    with pytest.raises(scaling.NonPositiveVariable, match=r"N \(column 'tokens'\) must be at least 0, not -1 in row 2"):
        read(changed(grid(), "tokens", 2, -1))


def test_weights():
    runs = read(grid(w=np.arange(20)), weight="w")
    np.testing.assert_array_equal(runs.weight, np.arange(20.0))
    with pytest.raises(scaling.BadWeight, match=r"weight \(column 'w'\) must be at least 0 and not all 0, but -1.0 in row 3"):
        read(grid(w=[1.0] * 3 + [-1.0] * 17, name=np.arange(20)), weight="w", where="w > 0 or name == 3")
    with pytest.raises(scaling.BadWeight, match="not all 0, but all are"):
        read(grid(w=[0] * 20), weight="w")


def test_annealed():
    words = ["yes", "no", "True", "false", "1", "0", "1.0", "TRUE", "No", "YES"] * 2
    runs = read(grid(a=words), annealed="a")
    assert runs.annealed.tolist() == [True, False, True, False, True, False, True, True, False, True] * 2
    with pytest.raises(scaling.UnparsableFlag, match=r"annealed \(column 'a'\) must be true or false, not 'maybe' in row 4"):
        read(grid(a=[*words[:4], "maybe", *words[5:]]), annealed="a")
    half = read(grid(a=["no"] * 12 + ["yes"] * 8), annealed="a", where="annealed and annealed != (N < 0)")
    assert half.annealed.all() and len(half) == 8
    with pytest.raises(scaling.UnparsableFlag):
        read(grid(a=["no"] * 19 + ["maybe"]), annealed="a", where="annealed")
    assert read(grid(), annealed=False).warnings[0].startswith("unannealed: 20 of 20 points are not annealed")
    assert read(grid(), annealed=True).warnings == ()


def test_losses_per_token_of_several_tokenizers():
    frame = grid(tokenizer=["gpt2"] * 12 + ["llama"] * 8)
    with pytest.raises(scaling.MixedTokenizers, match=r"2 tokenizers: gpt2 \(from row 0\), llama \(from row 12\)") as caught:
        read(frame, tokenizer="tokenizer")
    with pytest.raises(scaling.MixedTokenizers):
        read(frame)  # nobody named the column, and the losses do not compare all the same
    assert "where=\"tokenizer == 'gpt2'\"" in str(caught.value)
    assert read(frame, where="tokenizer == 'gpt2'").tokenizers == ("gpt2",)
    per_byte = read(frame, tokenizer="tokenizer", unit="nats/byte")
    assert per_byte.tokenizers == ("gpt2", "llama") and any(n.startswith("2 tokenizers") for n in per_byte.notes)
    assert read(grid(), tokenizer="=gpt2").tokenizers == ("gpt2",)
    assert read(grid()).tokenizers == ()
    with pytest.raises(scaling.MixedTokenizers, match="none"):
        read(changed(grid(tokenizer=["gpt2"] * 20), "tokenizer", 4, None))
    sizes = read(grid(vocab_size=[50257] * 10 + [32000] * 10))
    assert any("column 'vocab_size' has 2 values" in note for note in sizes.notes)


def test_checkpoints_are_no_runs():
    frame = panel()
    with pytest.raises(scaling.CheckpointsAsRuns, match=r"'run_name' has one value for several rows.* say run='run_name'"):
        read(frame)
    without_names = {k: v for k, v in frame.items() if k != "run_name"}
    with pytest.raises(scaling.CheckpointsAsRuns, match=r"K \(column 'step'\) grows while P stays the same \(rows 1, 2, 3, 5"):
        read(without_names, K="step")
    with pytest.raises(scaling.CheckpointsAsRuns, match="run='run_name'"):
        read(frame, K="step")
    with pytest.raises(scaling.CheckpointsAsRuns, match="while nothing else stays the same"):
        Runs.from_frame(without_names, K="step")
    for said in (dict(run="run_name"), dict(run="=row")):
        assert len(read(frame, K="step", **said)) == 12
    assert read(frame, run="run_name").n_runs == 3 and read(frame, run="=row").n_runs == 12
    assert any("as said" in note for note in read(frame, run="=row").notes)


def test_a_grid_of_independent_runs_is_no_panel():
    runs = read(grid())
    assert runs.n_runs == 20
    assert any(note.startswith("warning: 20 rows have 4 values of P; if rows that share them") for note in runs.notes)
    assert not any(n.startswith("warning") for n in read(grid(10, 2)).notes)
    labelled = read(grid(model=np.repeat(["a", "b", "c", "d"], 5)))
    assert "column 'model' has one value for several rows; if it names runs, say run='model'" in labelled.notes
    assert read(grid(run_id=np.arange(20))).n_runs == 20
    one_length = read(grid(step=[1000] * 20), K="step")  # K that never grows makes no checkpoints
    assert one_length.n_runs == 20


def test_repeated_rows_are_dropped_unless_something_tells_them_apart():
    frame = {name: np.concatenate([values, values[:3]]) for name, values in grid().items()}
    runs = read(frame)
    assert len(runs) == 20
    assert any(n.startswith("dropped, repeating an earlier row in every used column: rows 20, 21, 22") for n in runs.notes)
    assert len(read({**frame, "Seed": np.arange(23)})) == 23
    assert len(read({**frame, "run_id": np.arange(23)})) == 23
    assert len(read({**frame, "w": np.ones(23)}, weight="w")) == 23
    assert len(read({**frame, "r": np.arange(23)}, run="r")) == 23
    assert len(read({**frame, "r": [*range(20), 0, 1, 2]}, run="r")) == 20
    assert len(read({**frame, "a": [True] * 20 + [False] * 3}, annealed="a")) == 23
    assert len(read(frame | {"lr": np.arange(23)}, extra=["lr"])) == 23


def test_what_a_law_needs():
    runs = read(grid(batch=[512] * 20), extra=["batch"])
    assert list(runs.require(("N", "P"), parameters=5)) == ["N", "P"]
    np.testing.assert_array_equal(runs.require("N")["N"], runs.N)
    with pytest.raises(scaling.NoVariation, match=r"^batch is 512 in all 20 rows.* add runs with another batch"):
        runs.require(["N", "batch"], parameters=3)
    with pytest.raises(scaling.UnknownColumn, match=r"no column 'K', only N, P, C, batch and loss; .*K='name of its column'"):
        runs.require(["K"], parameters=2)
    with pytest.raises(scaling.FewerRunsThanParameters, match=r"^20 runs cannot determine 21 parameters"):
        runs.require(["N"], parameters=21)
    checkpoints = read(panel(), run="run_name")
    with pytest.raises(scaling.FewerRunsThanParameters, match=r"^3 runs \(12 rows, but rows of one run are not independent\)"):
        checkpoints.require(["N", "P"], parameters=5)
    with pytest.raises(ValueError, match="parameters=0 must be at least 1"):
        runs.require(["N"], parameters=0)
    untrained = read(changed(panel(), "step", 4, 0), K="step", run="run_name")
    with pytest.raises(scaling.NonPositiveVariable, match=r"K \(column step\) is 0 in row 4.* leave them out: where='K > 0'"):
        untrained.require(["K"])
    assert len(untrained.where("K > 0").require(["K"])["K"]) == 11


# ---------------------------------------------------------------------------------------------------------- suspicious


def test_points_that_are_not_annealed():
    assert read(panel(), run="run_name").warnings[0].startswith("unannealed: 9 of 12 points are not the last of their run")
    last = read(panel(), run="run_name").where("N > 9e10")
    assert len(last) == 3 and last.warnings == ()
    runs = read(panel(), run="run_name")
    np.testing.assert_array_equal(last_of_run(runs), runs.N > 9e10)
    assert last_of_run(Runs.from_frame({"P": [1e9, 1e9], "loss": [3, 2], "r": [0, 0]}, P="P", run="r")).all()


@pytest.mark.parametrize(
    ("change", "named_so", "said"),
    [
        (dict(loss=np.exp(grid()["loss"]) + 10), "perplexity", "say unit='perplexity'"),
        (dict(loss=[13.0] * 20), "vocabulary", r"above 12.5 nats/token, that of a uniform guess, in 20 of 20"),
        (dict(tokens=grid()["tokens"] / 1e9), "factor", r"N is below 1e\+06 in 20 of 20 rows .* N=\('tokens', 1e9\)"),
        (dict(params=grid()["params"] / 1e9), "factor", r"P is below 10000 in 20 of 20 rows.* P=\('params', 1e9\)"),
        (dict(params=grid()["params"] * 1e9), "factor", r"P is above 1e\+14 in 20 of 20 rows"),
        (dict(tokens=20 * grid()["params"]), "one ratio", "N / P is 20 in all rows"),
        (dict(tokens=[0.0, *grid()["tokens"][1:]]), "untrained", r"N is 0 in 1 of 20 rows \(row 0\)"),
    ],
)
def test_what_looks_like_a_mistake(change, named_so, said):
    runs = read({**grid(), **change, "seed": np.arange(20)})
    (found,) = [w for w in runs.warnings if w.startswith(f"{named_so}:")]
    assert re.search(said, found)


def test_compute_that_is_not_that_of_the_model():
    frame = grid(flops=6 * grid()["params"] * grid()["tokens"])
    assert read(frame, C="flops").warnings == ()
    wrong = read(changed(frame, "flops", 3, 1e15), C="flops")
    assert named(wrong.warnings) == {"compute"} and "in 1 of 20 rows (row 3)" in wrong.warnings[0]
    swapped = Runs.from_frame(frame, N="params", P="tokens", C=("flops", 1e-3))
    assert named(swapped.warnings) == {"compute", "swapped"}


def test_losses_in_other_units_have_other_limits():
    assert named(read({**grid(), "loss": [6.0] * 20}, unit="nats/byte").warnings) == {"vocabulary"}
    assert read({**grid(), "loss": [60.0] * 20}, unit="=top-1 error").warnings == ()


def test_near_duplicates():
    frame = {name: np.append(values, values[4] * 1.0001) for name, values in grid().items()}
    assert read(frame).warnings[0].startswith("near-duplicates: 2 of 21 rows (rows 4, 20)")
    seeds = {**grid(), "loss": grid()["loss"]}
    seeds = {name: np.append(values, values[4] * (1.005 if name == "loss" else 1)) for name, values in seeds.items()}
    assert read(seeds).warnings == ()  # the same setting with another loss is a seed, not a copy


def test_near_duplicates_are_those_of_all_pairs():
    rng = np.random.default_rng(1)
    columns = [np.exp(rng.uniform(0, 0.2, 300)), rng.integers(0, 3, 300).astype(float)]
    loss = np.exp(rng.uniform(0, 0.02, 300))
    close = np.abs(np.log(loss)[:, None] - np.log(loss)) <= 0.001
    close &= np.abs(np.log(columns[0])[:, None] - np.log(columns[0])) <= 0.01
    close &= columns[1][:, None] == columns[1]
    np.fill_diagonal(close, False)
    found = near_duplicates(columns, loss)
    np.testing.assert_array_equal(found, np.flatnonzero(close.any(axis=1)))
    assert 20 < len(found) < 280
    assert near_duplicates([np.ones(1)], np.ones(1)).size == 0
    assert near_duplicates([np.zeros(3)], np.ones(3)).tolist() == [0, 1, 2]


def test_repeats_are_those_of_all_pairs():
    rng = np.random.default_rng(2)
    keys = [rng.integers(0, 4, 200), rng.integers(0, 5, 200).astype(float), rng.integers(0, 2, 200) == 1]
    seen, repeats = set(), []
    for i, row in enumerate(zip(*keys, strict=True)):
        if row in seen:
            repeats.append(i)
        seen.add(row)
    assert same_as_previous(keys).tolist() == repeats


def test_one_run_with_two_losses_at_a_step():
    frame = {name: np.append(values, values[5]) for name, values in panel().items()}
    frame["loss"] = np.append(frame["loss"][:-1], 2.0)
    assert "conflicting: 1 of 13 rows (row 12)" in " ".join(read(frame, run="run_name").warnings)
    assert "conflicting" not in named(read(panel(), run="run_name").warnings)


# ------------------------------------------------------------------------------------------------------- parts of a table


def test_where_keeps_what_meets_the_condition():
    runs = read(panel(), run="run_name", annealed=False)
    N, P, L = runs.N, runs.P, runs.loss
    for condition, mask in [
        ("N < 1e10", N < 1e10),
        ("C < 1e19 and P >= 2e8", (runs.C < 1e19) & (P >= 2e8)),
        ("not N < 1e10 or loss > 3", ~(N < 1e10) | (L > 3)),
        ("1e9 < N <= 1e11 < P * 1e3", (N > 1e9) & (N <= 1e11) & (P * 1e3 > 1e11)),
        ("N / P >= 20", N / P >= 20),
        ("-(N + 1) ** 2 - P < +0", N > 0),
        ("run == 'model-1'", runs.run == 1),
        ("run != 'model-1' and 'model-2' == run", runs.run == 2),
        ("annealed == False and weight == 1", L > 0),
        ("not annealed", L > 0),
        ("N / 0 > 1e300", L > 0),
    ]:
        part = runs.where(condition)
        np.testing.assert_array_equal(part.rows, np.flatnonzero(mask))
        np.testing.assert_array_equal(part.N, N[mask])
        assert part.notes[-1] == f"where {condition}: {mask.sum()} of 12 rows kept"


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("N <", "cannot be read"),
        ("N = 3", "cannot be read"),
        ("", "cannot be read"),
        ("N", "'N' holds numbers where true or false must stand; compare it"),
        ("N and P", "'N' holds numbers"),
        ("N < 'a'", r"compares N \(numbers\) with 'a' \(words\); quote words"),
        ("run > 'a'", "words in an order"),
        ("run + 1 < 2", "'run' holds words where numbers must stand"),
        ("(N < 1) & (P > 2)", "uses & or |; write and, or"),
        ("__import__('os').system('true') == 0", "__import__.* is not understood: allowed are"),
        ("N.real > 0", "'N.real' is not understood"),
        ("[N][0] > 0", "is not understood"),
        ("(lambda: N)() > 0", "is not understood"),
        ("N if P > 0 else N", "is not understood"),
        ("N in (1, 2)", r"is not allowed|is not understood"),
        ("N is None", "is not allowed|is not understood"),
        ("N % 2 == 0", "'N % 2' is not understood"),
        ("N > 1j", "'1j' is not understood"),
        ("N < 1" + "0" * 400, "above the largest float"),
        ("~N > 0", "'~N' is not understood"),
        ("N > 0 and " + "(" * 500 + "N" + ")" * 500 + " > 0", "cannot be read"),
        ("not " * 5000 + "N > 0", "cannot be read|nested too deeply"),
        ("-" * 3000 + "N > 0", "cannot be read|nested too deeply"),
    ],
)
def test_conditions_that_are_not_understood(condition, said):
    runs = read(panel(), run="run_name")
    with pytest.raises(scaling.BadCondition, match=said):
        runs.where(condition)


def test_huge_powers_end_at_once():
    assert len(read(grid()).where("9 ** 9 ** 9 ** 9 > N")) == 20


def test_where_says_what_it_does_not_know():
    runs = read(panel(), run="run_name")
    with pytest.raises(scaling.UnknownColumn, match="no column 'tokens', only N, P, C and loss"):
        runs.where("tokens > 0")
    with pytest.raises(scaling.UnknownColumn, match="not told which points are annealed; say it by annealed="):
        runs.where("annealed")
    with pytest.raises(scaling.UnknownColumn, match=r"where='K': there is no such column.* step, run_name, loss, N, P, C"):
        read(panel(), run="run_name", where="K > 0")
    with pytest.raises(scaling.UnknownColumn, match="where='token': there is no such column; did you mean 'tokens'"):
        read(panel(), run="run_name", where="token > 0")
    with pytest.raises(scaling.EmptyTable, match=r"keeps none of the 12 rows; their ranges: N 1e\+09 to 1e\+11"):
        runs.where("N < 1")
    with pytest.raises(scaling.EmptyTable, match="keeps none of the 12 rows"):
        read(panel(), run="run_name", where="N < 1")
    with pytest.raises(TypeError, match="or use select"):
        runs.where(runs.N > 0)


def test_where_while_reading_sees_the_source_too():
    frame = panel() | {"router": ["dense"] * 4 + ["hash"] * 8, "ok": np.arange(12) % 2 == 0, "lr": [None, *range(11)]}
    runs = read(frame, run="run_name", where="router == 'hash' and ok and C > 0 and run != 'model-2' and step > 0")
    assert runs.rows.tolist() == [4, 6]
    noted = read(frame, run="run_name", where="lr < 5")
    assert "where: row 0 without lr cannot meet a comparison with it" in noted.notes
    in_nats = read({**frame, "loss": frame["loss"] / np.log(2)}, unit="bits/token", run="run_name", where="loss < 3")
    assert (in_nats.loss < 3).all() and len(in_nats) == (frame["loss"] < 3).sum()
    swapped = {"N": frame["params"], "D": frame["tokens"], "loss": frame["loss"]}  # the letters of the literature
    runs = Runs.from_frame(swapped, N="D", P="N", run="=row", where="N < 1e10")
    assert (runs.N < 1e10).all()
    assert "where: N means N (column 'D'), not the source's column 'N'" in runs.notes
    lacking = read(changed(panel(), "loss", 2, None), run="run_name", where="loss > 0")
    assert len(lacking) == 11 and "where: row 2 without loss cannot meet a comparison with it" in lacking.notes


def test_select():
    runs = read(panel(), run="run_name", annealed=False)
    part = runs.select(runs.run == 1)
    assert part.run_names == ("model-1",) and part.run.tolist() == [0] * 4 and part.rows.tolist() == [4, 5, 6, 7]
    assert part.notes[-1] == "select: 4 of 12 rows kept" and len(part.annealed) == 4
    back = runs.select([11, 0])
    assert back.run_names == ("model-2", "model-0") and back.N.tolist() == [runs.N[11], runs.N[0]]
    with pytest.raises(ValueError, match=r"mask must be bool of shape \(12,\)"):
        runs.select([True, False])
    with pytest.raises(ValueError, match=r"mask must be bool of shape \(12,\)"):
        runs.select([0.0, 1.0])
    with pytest.raises(ValueError, match=r"outside 0\.\.11"):
        runs.select([12])
    with pytest.raises(ValueError, match="give it twice the weight"):
        runs.select([1, 1])
    with pytest.raises(scaling.EmptyTable, match="keeps none of the 12 rows"):
        runs.select(runs.N < 0)


def test_columns_by_name():
    runs = read(grid())
    with pytest.raises(KeyError, match="these runs have no column 'K', only N, P, C and loss"):
        _ = runs.K
    with pytest.raises(scaling.UnknownColumn, match=r"extra=.'width': 'name of its column'."):
        runs["width"]
    assert "C" in runs and "loss" in runs and "K" not in runs
    assert repr(runs) == f"Runs(20 rows of 20 runs: N, P, C; loss {runs.loss.min():.4g} to {runs.loss.max():.4g} nats/token)"


def test_summary():
    told = read(changed(panel(), "step", 0, 0), K="step", run="run_name").summary()
    assert json.loads(json.dumps(told)) == told
    assert told["rows"] == 12 and told["runs"] == 3 and told["loss"]["unit"] == "nats/token"
    assert told["N"] == {"least": 1e9, "most": 1e11, "distinct": 4, "decades": pytest.approx(2), "unit": "tokens"}
    assert "decades" not in told["K"]


# ----------------------------------------------------------------------------------------------------------- real tables


def test_the_chinchilla_runs():
    file = registered("chinchilla-runs", "df.csv")
    runs = Runs.read(file, N="D", P="N", C="C")
    assert len(runs) == runs.n_runs == 234 and runs.source.file == "df.csv"
    assert runs.source.sha256 == datasets.registered("chinchilla-runs").files["df.csv"].sha256
    assert named(runs.warnings) == {"near-duplicates"}  # sizes are snapped to those read off the figure
    np.testing.assert_allclose(runs.C, 6 * runs.N * runs.P, rtol=1e-6)
    assert sum(note.startswith("warning") for note in runs.notes) == 0
    assert len(runs.where("C < 1e21")) == (pd.read_csv(file).C < 1e21).sum()


def test_the_letters_of_the_literature_are_caught():
    """The file's N counts parameters; swapped letters leave 6 N P as it is, but N below P shows them."""
    swapped = Runs.read(registered("chinchilla-runs", "df.csv"), N="N", P="D")
    assert "swapped" in named(swapped.warnings)
    assert "where: N means N (column 'D'), not the source's column 'N'" in Runs.read(
        registered("chinchilla-runs", "df.csv"), N="D", P="N", where="N > P"
    ).notes


def test_the_eight_rows_without_a_loss_of_the_routed_models():
    file = registered("routed-lm", "curves.csv.gz")
    columns = dict(K="step", P="total_parameter_count", loss="loss_validation", run="hyper_id", extra=["num_experts"])
    rows = (2153, 2180, 2207, 3352, 3665, 4315, 4340, 4991)
    with pytest.raises(scaling.MissingValues, match="which drops 8 and notes them") as caught:
        Runs.read(file, **columns)
    assert caught.value.rows == rows
    runs = Runs.read(file, **columns, drop_nan=True)
    assert len(runs) == 5791 and runs.n_runs == 223
    assert f"dropped, no finite loss (column 'loss_validation'): rows {', '.join(map(str, rows))}" in runs.notes
    assert named(runs.warnings) == {"unannealed", "untrained"}
    with pytest.raises(scaling.NonPositiveVariable, match=r"is 0 in rows .* and 2"):
        runs.require(["K"])
    late = "step >= 240000 and routing_frequency == 0.5 and router_type == 'S-Base'"
    ends = Runs.read(file, **columns, where=late, drop_nan=True)
    assert ends.K.min() >= 240000 and ends["num_experts"].min() > 1
    with pytest.raises(scaling.CheckpointsAsRuns, match="run='hyper_id'"):
        Runs.read(file, K="step", P="total_parameter_count", loss="loss_validation", drop_nan=True)


def test_the_gemstones():
    file = registered("gemstones", "wandb_df_for_fitting_hot.jsonl")
    columns = dict(N="tokens", P="params_active_precise", loss="final_loss", extra=["width", "depth"])
    with pytest.raises(scaling.CheckpointsAsRuns, match="say run='run_name'"):
        Runs.read(file, **columns)
    runs = Runs.read(file, **columns, run="run_name", annealed=False)
    assert (len(runs), runs.n_runs) == (220, 22)
    assert runs.warnings[0].startswith("unannealed: 220 of 220 points") and len(runs.warnings) == 1
    slim = registered("gemstones", "wandb_df_for_fitting_slim_chinchilla.jsonl")
    slim = Runs.read(slim, **columns | {"extra": None}, C="FLOPs")
    assert len(slim) == slim.n_runs == 28


def test_the_observational_table_counts_in_billions():
    file = registered("observational", "base_llm_benchmark_eval.csv")
    named_so = dict(N="Pretraining Data Size (T)", P="Model Size (B)", loss="MMLU", unit="=accuracy", drop_nan=True)
    assert named(Runs.read(file, **named_so).warnings) >= {"factor"}
    factors = dict(N=("Pretraining Data Size (T)", 1e12), P=("Model Size (B)", 1e9), C=("FLOPs (1E21)", 1e21))
    runs = Runs.read(file, **named_so | factors)
    assert len(runs) == 123 and "factor" not in named(runs.warnings) and "compute" not in named(runs.warnings)
