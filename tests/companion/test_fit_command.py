"""What a user types at ``limitlib fit``: outputs, exit codes, messy tables, interruptions, and the page."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from limitlib.companion import datasets, fit_page
from limitlib.companion.cli import main
from limitlib.companion.fit_words import assignment, column, extra, law_of, objective_of, typed
from limitlib.companion.paths import UsageError
from limitlib.scaling import LeastSquares, LogHuber, law
from limitlib.scaling.checklist import QUESTIONS

TRUE = {"E": 1.7, "A": 400.0, "B": 1200.0, "alpha": 0.34, "beta": 0.30}
QUICK = ["--N", "tokens", "--P", "params", "--boot", "60"]


def rows(n=40, noise=0.003, seed=5):
    rng = np.random.default_rng(seed)
    P, N = np.exp(rng.uniform(np.log(5e7), np.log(1e10), n)), np.exp(rng.uniform(np.log(1e9), np.log(1e12), n))
    loss = law("chinchilla").predict(TRUE, P=P, N=N) * np.exp(noise * rng.standard_normal(n))
    return [{"tokens": float(a), "params": float(b), "loss": float(c)} for a, b, c in zip(N, P, loss, strict=True)]


def write(path, table):
    """A CSV of rows; what a row lacks stays empty."""
    names = list(dict.fromkeys(k for r in table for k in r))
    lines = [",".join(names)] + [",".join(str(r.get(n, "")) for n in names) for r in table]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture
def csv(tmp_path):
    return write(tmp_path / "runs.csv", rows())


@pytest.fixture
def about(tmp_path):
    file = tmp_path / "about.toml"
    file.write_text("".join(f'{key} = "not stated"\n' for key in QUESTIONS))
    return str(file)


def said(capsys):
    out = capsys.readouterr()
    return out.out, out.err


# ----------------------------------------------------------------------------------------------------------------- outputs


def test_without_a_checklist_all_but_the_exponents_is_printed_with_the_line_to_type(csv, capsys):
    assert main(["fit", csv, *QUICK, "--budget", "1e24"]) == 0
    out, err = said(capsys)
    for words in ("Optimum", "starts end there", "withheld", "Fit quality", "1e+24", "tokenizer: no answer yet", "6 N P"):
        assert words in out, words
    assert "fitting chinchilla to 40 rows" in err and "bootstrap" in err
    line = out.strip().splitlines()[-1]
    assert shlex.split(line) == ["limitlib", "fit", csv, *QUICK, "--budget", "1e24", "--about", "about.toml"]
    assert not re.search(r"0\.3\d\d\d", out[out.index("Parameters") : out.index("Fit quality")].replace("correlation 0.3", ""))


def test_the_line_to_type_works(csv, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", csv, *QUICK]) == 0
    template, again = (shlex.split(line) for line in said(capsys)[0].strip().splitlines()[-2:])
    assert template[-2:] == [">", "about.toml"]
    assert main(template[1:-2]) == 0
    text = said(capsys)[0]
    assert '# flops = ""' in text and 'seeds = ""' in text
    (tmp_path / "about.toml").write_text(text.replace('= ""', '= "not stated"'))
    assert main(again[1:]) == 0
    out = said(capsys)[0]
    assert re.search(r"alpha +0\.3\d+ +0\.\d+ to 0\.\d+", out) and "withheld" not in out and "seeds: not stated" in out


def test_json_goes_to_a_file_or_to_the_output(csv, about, tmp_path, capsys):
    file = tmp_path / "out.json"
    assert main(["fit", csv, *QUICK, "--about", about, "--json", str(file)]) == 0
    made = json.loads(file.read_text())
    assert made["complete"] and not made["withheld"] and made["runs"]["rows"] == 40 and "Parameters" in said(capsys)[0]
    values = {p["name"]: p["value"] for p in made["parameters"]}
    assert values["alpha"] == pytest.approx(0.34, abs=0.05) and values["a"] == pytest.approx(0.47, abs=0.06)
    assert main(["fit", csv, *QUICK, "--json", "-"]) == 0
    out, err = said(capsys)
    hidden = json.loads(out)
    assert hidden["withheld"] and all(p["value"] is None for p in hidden["parameters"] if p["name"] != "E")
    assert "--about-template" in err


def test_the_seed_decides_everything(csv, capsys):
    outs = []
    for seed in ("3", "3", "4"):
        assert main(["fit", csv, *QUICK, "--json", "-", "--seed", seed]) == 0
        outs.append(json.loads(said(capsys)[0])["frontier"])
    assert outs[0] == outs[1] != outs[2]


def test_an_incomplete_checklist_names_what_is_missing(csv, tmp_path, capsys):
    file = tmp_path / "half.toml"
    file.write_text('seeds = "1"\n')
    assert main(["fit", csv, *QUICK, "--about", str(file)]) == 0
    out = said(capsys)[0]
    assert "half.toml lacks form_reason" in out and "seeds: 1" in out and "withheld" in out
    file.write_text("seeds = 1 1\n")
    assert main(["fit", csv, *QUICK, "--about", str(file)]) == 2
    assert "is not TOML" in said(capsys)[1]


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """The JSON and the page of one command that asks for everything."""
    folder = tmp_path_factory.mktemp("everything")
    (folder / "about.toml").write_text("".join(f'{key} = "not stated"\n' for key in QUESTIONS))
    words = ["fit", write(folder / "runs.csv", rows()), *QUICK[:4], "--boot", "20", "--about", str(folder / "about.toml")]
    words += ["--compare", "over-training", "power:x=C", "--holdout", "C > 1e22", "--predict", "P=7e9,N=1e12"]
    words += ["--objective", "ls", "--backtest", "5e21"]
    assert main([*words, "--json", str(folder / "fit.json"), "--html", str(folder / "fit.html")]) == 0
    return json.loads((folder / "fit.json").read_text()), (folder / "fit.html").read_text()


def test_comparison_backtest_and_prediction(everything):
    made = everything[0]
    laws = {e["name"] for e in made["comparison"]["laws"]}
    assert laws == {"chinchilla", "over-training", "power:x=C"}
    assert made["comparison"]["split"].endswith("with C > 1e22") and made["backtest"]["scores"]["chinchilla"]["rows"] > 0
    low, high = made["predictions"][0]["interval"]
    truth = float(law("chinchilla").predict(TRUE, P=7e9, N=1e12))
    assert low < made["predictions"][0]["loss"] < high and abs(made["predictions"][0]["loss"] / truth - 1) < 0.03
    assert "rolling back-test" in made["checklist"]["validation"] and made["backtest"]["cuts"] == [5e21]


def test_the_answer_over_other_choices_is_withheld_with_the_exponents(csv, about, capsys):
    words = ["fit", csv, *QUICK, "--law", "over-training", "--objective", "ls", "--choices", "--json", "-"]
    assert main(words) == 0 and "specifications" not in json.loads(said(capsys)[0])
    assert main([*words, "--about", about]) == 0
    made = json.loads(said(capsys)[0])["specifications"]
    assert made["quantity"] == "eta" and len(made["specs"]) == 9 and set(made["moves"]) == {"filter", "objective"}


@pytest.mark.parametrize("kind", ["jsonl", "csv.gz", "tsv", "parquet"])
def test_other_files_give_the_same(kind, tmp_path, capsys):
    import gzip

    table, file = rows(), tmp_path / f"runs.{kind}"
    text = "tokens,params,loss\n" + "".join(f"{r['tokens']!r},{r['params']!r},{r['loss']!r}\n" for r in table)
    if kind == "jsonl":
        file.write_text("".join(json.dumps(r) + "\n" for r in table))
    elif kind == "parquet":
        pa = pytest.importorskip("pyarrow")
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(table), file)
    elif kind == "tsv":
        file.write_text(text.replace(",", "\t"))
    else:
        file.write_bytes(gzip.compress(text.encode()))
    assert main(["fit", str(file), *QUICK, "--json", "-"]) == 0
    assert json.loads(said(capsys)[0])["certificate"]["value"] == pytest.approx(reference(tmp_path, capsys), rel=1e-9)


def reference(tmp_path, capsys):
    assert main(["fit", write(tmp_path / "same.csv", rows()), *QUICK, "--json", "-"]) == 0
    return json.loads(said(capsys)[0])["certificate"]["value"]


def test_other_laws_objectives_and_factors(tmp_path, capsys):
    table = [{"T": r["tokens"] / 1e9, "M": r["params"] / 1e6, "loss": r["loss"], "split": "a"} for r in rows()]
    file = write(tmp_path / "runs.csv", [table[0] | {"split": "b"}, *table[1:]])
    words = ["--N", "T*1e9", "--P", "M*1e6", "--where", "split == 'a'", "--boot", "0", "--json", "-"]
    assert main(["fit", file, *words, "--law", "over-training", "--objective", "ls"]) == 0
    made = json.loads(said(capsys)[0])
    assert made["runs"]["rows"] == 39 and "squares of ln loss" in made["facts"]["objective"] and "bootstrap" not in made
    assert main(["fit", file, *words, "--law", "power:x=C"]) == 0
    made = json.loads(said(capsys)[0])
    assert made["law"]["formula"] == "L = E + A C^-alpha" and "frontier" not in made
    assert main(["fit", file, *words, "--law", "additive:variables=P+N", "--budget", "1e23"]) == 0
    assert json.loads(said(capsys)[0])["frontier"]["C"] == [1e23]


def test_scores_of_a_task_near_chance(tmp_path, capsys):
    x = np.linspace(2, 4, 30)
    score = 0.25 + 0.7 / (1 + np.exp(6 * (x - 2.6)))
    file = write(tmp_path / "evals.csv", [{"nll": a, "acc": b} for a, b in zip(x, score, strict=True)])
    words = ["--extra", "nll", "--loss", "acc", "--unit", "=accuracy", "--law", "sigmoid:x=nll,floor=0.25", "--boot", "0"]
    assert main(["fit", file, *words, "--chance", "0.25", "--objective", "ls-raw"]) == 0
    out = said(capsys)[0]
    assert "chance:" in out and "of chance, 0.25" in out


# ------------------------------------------------------------------------------------------------------------ messy tables


def mixed(table):
    return [r | {"tok": "gpt2" if i < 30 else "llama"} for i, r in enumerate(table)]


MESSES = {
    "NaN rows": (lambda t: [*t, {"tokens": "nan", "params": 1e8, "loss": 3}, {"params": 1e9, "loss": 2}], [], 1,
                 "MissingValues: .*rows 40, 41.*--drop-nan"),
    "NaN rows dropped": (lambda t: [*t, {"tokens": "nan", "params": 1e8, "loss": 3}], ["--drop-nan"], 0, ""),
    "mixed tokenizers": (mixed, ["--tokenizer", "tok"], 1, "MixedTokenizers: .*gpt2.*llama.*--where"),
    "checkpoints posing as runs": (lambda t: [r | {"run_name": f"r{i // 4}"} for i, r in enumerate(t)], [], 1,
                                   "CheckpointsAsRuns: .*--run run_name"),
    "a loss of zero": (lambda t: [*t, {"tokens": 1e9, "params": 1e8, "loss": 0}], [], 1, "NonPositiveLoss: .*row 40.*--where"),
    "one variable constant": (lambda t: [r | {"params": 1e9} for r in t], [], 1, "NoVariation: P .*--law power:x=C"),
    "too few runs": (lambda t: t[:4], [], 1, "FewerRunsThanParameters: 4 runs cannot determine 5 parameters.*--law"),
    "an empty table": (lambda t: [{"tokens": "", "params": "", "loss": ""}], ["--where", "tokens > 0"], 1,
                       "EmptyTable: "),
    "words for numbers": (lambda t: [*t, {"tokens": "1.3B", "params": 1e8, "loss": 3}], [], 1, "UnparsableNumber: .*1.3B"),
    "no such column": (lambda t: t, ["--N", "token"], 2, "UnknownColumn: .*did you mean 'tokens'"),
    "no such condition": (lambda t: t, ["--where", "tokens <"], 2, "BadCondition: --where"),
    "an unknown law": (lambda t: t, ["--law", "hoffmann"], 2, "--law hoffmann: .*chinchilla"),
    "an option the law lacks": (lambda t: t, ["--law", "kaplan:x=C"], 2, "--law kaplan:x=C: "),
    "a law in other columns": (lambda t: t, ["--law", "additive:variables=P+K"],
                               2, "the law additive .*needs --K COLUMN; "),
    "a point without N": (lambda t: t, ["--predict", "P=1e9"], 2, "--predict lacks N"),
    "a budget for a law in C": (lambda t: t, ["--law", "power:x=C", "--budget", "1e24"], 2, "--budget needs a law in P and N"),
    "the loss that is another column": (lambda t: t, ["--loss", "tokens"], 0, ""),
    "an absent checklist": (lambda t: t, ["--about", "absent.toml"], 2, "--about: cannot read absent.toml: No such file"),
    "an absent folder": (lambda t: t, ["--json", "absent/out.json"], 2, ".*make it first"),
    "decimal commas": (lambda t: [{k: f'"{v}"'.replace(".", ",") for k, v in r.items()} for r in t], [], 1,
                       "UnparsableNumber: .*with a decimal point"),
    "a floor that is no flag": (lambda t: t, ["--law", "chinchilla:floor=1.5"], 2, "--law .*floor=1.5 must be True or False"),
    "a typo in an option": (lambda t: t, ["--law", "power:x=C,flor=no"], 2, "--law .*no option 'flor'; it has x, floor"),
    "a law in nothing": (lambda t: t, ["--law", "power:x="], 2, "--law power:x=: x='' must be the name of a column"),
    "an unknown rival": (lambda t: t, ["--compare", "hoffmann"], 2, "--compare hoffmann: .*chinchilla"),
    "an unknown unit": (lambda t: t, ["--unit", "nat"], 2, "--unit nat is unknown"),
    "an unknown --by": (lambda t: t, ["--by", "Q"], 2, "--by Q: .*choose one of N, P, C"),
    "a share of 2": (lambda t: t, ["--compare", "--holdout", "2"], 2, "--holdout 2 must lie between 0 and 1"),
    "chance in per cent": (lambda t: t, ["--chance", "25"], 2, "--chance 25 must be a share"),
    "a point with a stranger": (lambda t: t, ["--predict", "P=1e9,N=1e10,Q=3"], 2, "--predict has Q: chinchilla is in P, N"),
    "an output without a name": (lambda t: t, ["--json", ""], 2, "--json '' names no file"),
    "a level of 95": (lambda t: t, ["--level", "95"], 2, "--level 95 must lie between"),
}  # fmt: skip


@pytest.mark.parametrize("mess", MESSES)
def test_a_messy_table_or_word_gets_one_line_and_a_code(mess, tmp_path, capsys):
    make, words, code, pattern = MESSES[mess]
    assert main(["fit", write(tmp_path / "runs.csv", make(rows())), *QUICK, *words]) == code
    out, err = said(capsys)
    if code:
        last = err.splitlines()[-1]
        assert err.count("limitlib fit: ") == 1 and re.match(f"limitlib fit: {pattern}", last), err
        assert "Traceback" not in err and out == ""
    else:
        assert "Optimum" in out and ("--drop-nan" not in words or "dropped" in out)


def test_words_that_argparse_refuses(csv, capsys):
    for words in (["--objective", "mae"], ["--budget", "-1"], ["--predict", "P"], ["--N", "tokens*x"], ["--boot", "-1"]):
        with pytest.raises(SystemExit) as stopped:
            main(["fit", csv, *words])
        assert stopped.value.code == 2
        assert "error: argument" in said(capsys)[1]
    assert main(["fit"]) == 2 and "name the table" in said(capsys)[1]
    assert main(["fit", "absent.csv", *QUICK]) == 2 and "does not exist" in said(capsys)[1]
    assert main(["fit", ".", *QUICK]) == 2 and "is a folder" in said(capsys)[1]
    assert main(["fit", __file__, *QUICK]) == 2 and "--format csv" in said(capsys)[1]


def test_repeated_rows_are_dropped_and_noted(tmp_path, capsys):
    table = rows()
    assert main(["fit", write(tmp_path / "runs.csv", [*table, *table[:5]]), *QUICK]) == 0
    out = said(capsys)[0]
    assert "40 of 40 runs" in out and "dropped, repeating an earlier row" in out


def test_checkpoints_are_resampled_by_run(tmp_path, capsys):
    rng, table = np.random.default_rng(0), []
    for i, r in enumerate(rows(12)):
        for k in (1, 2, 4):
            at = {"P": r["params"], "N": k * r["tokens"]}
            loss = float(law("chinchilla").predict(TRUE, **at) * np.exp(0.003 * rng.standard_normal()))
            table.append({"tokens": at["N"], "params": at["P"], "loss": loss, "name": f"m{i}", "done": k == 4})
    words = ["--run", "name", "--annealed", "done", "--boot", "60", "--json", "-"]
    assert main(["fit", write(tmp_path / "runs.csv", table), *QUICK[:4], *words]) == 0
    made = json.loads(said(capsys)[0])
    assert made["bootstrap"]["runs"] == 12 and made["runs"]["runs"] == 12 and made["runs"]["rows"] == 36
    assert "unannealed" in {f["name"] for f in made["flags"]}
    assert made["checklist"]["schedule"] == "33 % of the points are annealed"


def test_five_runs_are_fitted_with_a_warning(tmp_path, capsys):
    assert main(["fit", write(tmp_path / "runs.csv", rows(5)), *QUICK]) == 0
    assert "no spare runs: 5 runs for 5 parameters" in said(capsys)[0]


def test_a_hundred_thousand_rows_take_seconds(tmp_path, capsys):
    file = write(tmp_path / "runs.csv", rows(100_000, noise=0.01))
    began = time.process_time()
    assert main(["fit", file, "--N", "tokens", "--P", "params"]) == 0
    assert time.process_time() - began < 15
    out = said(capsys)[0]
    assert "no bootstrap: 100000 rows" in out and "no profile intervals" in out


def test_the_chinchilla_runs_give_the_known_optimum(about, capsys):
    if not datasets.available("chinchilla-runs"):
        pytest.skip("the data set chinchilla-runs is not here")
    file = str(datasets.fetch("chinchilla-runs")[0])
    assert main(["fit", file, "--N", "D", "--P", "N", "--C", "C", "--boot", "100", "--about", about, "--json", "-"]) == 0
    made = json.loads(said(capsys)[0])
    found = {p["name"]: p["value"] for p in made["parameters"]}
    known = {"E": 1.78389, "A": 442.16, "B": 1271.81, "alpha": 0.342626, "beta": 0.342002}
    assert {k: found[k] for k in known} == pytest.approx(known, rel=1e-5)
    assert made["facts"]["source"].startswith("df.csv, sha256 2ed2c412")
    assert "near-duplicates" in {f["name"] for f in made["flags"]}


# -------------------------------------------------------------------------------------------------------------- the page


def test_the_page_asks_for_nothing_and_every_figure_has_words_and_data(everything, parsed):
    text = everything[1]
    page = parsed(text)
    for tag, attrs in page.tags:
        assert tag not in ("script", "link", "iframe", "img")
        for key in ("src", "href", "xlink:href", "srcset"):
            assert attrs.get(key, "#").startswith("#"), (tag, attrs)
    assert not re.search(r"url\((?!#)", text) and "@import" not in text and "default-src 'none'" in text
    figures, drawings = page.all("figure"), page.all("svg")
    assert len(figures) == len(drawings) == 6
    assert all(d["role"] == "img" and len(d["aria-label"]) > 40 for d in drawings)
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    used = {a["xlink:href"][1:] for a in page.all("use")} | set(re.findall(r"url\(#([^)]+)\)", text))
    assert used <= set(ids) and "prefers-color-scheme:dark" in text and 'name="viewport"' in text
    words = " ".join(page.words)
    for part in ("What was found", "Parameters", "Compute-optimal sizes", "Checklist", "calibrated", "Notes", "not stated"):
        assert part in words, part


def test_the_page_without_a_checklist_draws_no_exponent(csv, tmp_path, capsys, parsed):
    pytest.importorskip("matplotlib")
    file = tmp_path / "fit.html"
    assert main(["fit", csv, *QUICK, "--html", str(file)]) == 0
    text = " ".join(parsed(file.read_text()).words)
    assert "Exponents are withheld" in text and "--about-template" in text and "ln amplitude" not in text


def test_the_page_escapes_what_it_is_given(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    file = tmp_path / "fit.html"
    table = write(tmp_path / "<script>alert(1)<script>.csv", rows())
    assert main(["fit", table, *QUICK, "--counting", "<b>all</b>", "--html", str(file)]) == 0
    text = file.read_text()
    assert "<script>" not in text and "<b>all" not in text and "&lt;b&gt;all" in text


def test_a_page_of_any_law_is_a_page(tmp_path, capsys, parsed):
    """Laws without P and N, without power terms, at the boundary: parts are missing, never the page."""
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(3), 30)
    mixture = [{"a": r[0], "b": r[1], "c": r[2], "loss": 2 + np.exp(r @ [0.3, -0.2, 0.1])} for r in shares]
    nofloor = [r | {"loss": 50 * r["tokens"] ** -0.15 * (1 + 0.01 * rng.standard_normal())} for r in rows()]
    for words, table in (
        (["--law", "mixing-exponential:domains=a+b+c", "--extra", "a", "--extra", "b", "--extra", "c"], mixture),
        (["--law", "power:x=N", "--N", "tokens"], nofloor),
    ):
        file = tmp_path / "fit.html"
        words = ["fit", write(tmp_path / "runs.csv", table), *words, "--boot", "40", "--html", str(file)]
        assert main(words) == 0, said(capsys)[1]
        assert parsed(file.read_text()).all("figure")


def test_an_interrupted_page_says_so(csv):
    from limitlib.scaling import Runs, report

    made = report(law("chinchilla").fit(Runs.read(csv, N="tokens", P="params")), exponents=False, identify=False)
    assert "Incomplete." in fit_page.page(made, complete=False)


# --------------------------------------------------------------------------------------------- interruptions, installation


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_keeps_what_was_finished(csv, tmp_path):
    """A real interruption of a real process: exit code 130, the fit and its table kept, marked incomplete."""
    out = tmp_path / "out.json"
    words = ["fit", csv, *QUICK[:4], "--boot", "300000", "--json", str(out)]
    running = subprocess.Popen([sys.executable, "-m", "limitlib", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # fmt: skip
    for line in running.stderr:
        if "bootstrap" in line:
            time.sleep(0.5)
            running.send_signal(signal.SIGINT)
            break
    table, error = running.communicate(timeout=60)
    assert running.returncode == 130, error
    made = json.loads(out.read_text())
    assert made["complete"] is False and made["certificate"]["converged"] and "interrupted: bootstrap" in error
    assert "Optimum" in table and "interrupted before: bootstrap" in table


def test_the_table_and_json_need_neither_matplotlib_nor_pandas(csv, tmp_path):
    blocked = "import sys\nfor m in ('matplotlib', 'pandas', 'pyarrow'): sys.modules[m] = None\n"
    code = blocked + "from limitlib.companion.cli import main\nsys.exit(main(sys.argv[1:]))"
    done = [subprocess.run([sys.executable, "-c", code, "fit", csv, *QUICK, *words], capture_output=True, text=True)
            for words in ([], ["--html", str(tmp_path / "x.html")])]  # fmt: skip
    assert done[0].returncode == 0 and "Optimum" in done[0].stdout, done[0].stderr
    assert done[1].returncode == 1 and "pip install 'limitlib[fit]'" in done[1].stderr and "Traceback" not in done[1].stderr


# ------------------------------------------------------------------------------------------------------------------- words


def test_words_of_options():
    assert column("tokens") == "tokens" and column("t*1e9") == ("t", 1e9) and column("a*b*2") == ("a*b", 2.0)
    assert extra("width=d_model*2") == ("width", ("d_model", 2.0)) and extra("nll") == ("nll", "nll")
    assert assignment("P=7e9, N=1e12") == {"P": 7e9, "N": 1e12}
    assert objective_of("huber:0.01") == LogHuber(0.01) and objective_of("ls") == LeastSquares()
    assert objective_of("ls-raw") == LeastSquares("raw")
    assert law_of("chinchilla:floor=no").parameters == ("A", "B", "alpha", "beta")
    assert law_of("critical:variables=NP").variables == ("N", "P") and law_of("broken:x=C,breaks=2").p == 9
    assert law_of("mixing-power:domains=a+b,offset=0.05").variables == ("a", "b")
    with pytest.raises(UsageError, match="is no option"):
        law_of("power:C")


def test_messages_are_in_the_words_of_the_command():
    for library, command in (
        ("or say drop_nan=True, which", "or say --drop-nan, which"),
        ("say run='run_name', or run='=row' if", "say --run run_name, or --run =row if"),
        ("N='tokns': there", "--N tokns: there"),
        ("P=('params', 1e9) (row", "--P 'params*1e9' (row"),
        ("each: where=\"tok == 'a'\", or", "each: --where \"tok == 'a'\", or"),
        ("leave them out by where=, or", "leave them out by --where, or"),
        ("say annealed=True or", "say --annealed True or"),
        ("at P=7e+09, N=1e+12", "at P=7e+09, N=1e+12"),
        ("C <= 1e20 and loss == 3", "C <= 1e20 and loss == 3"),
    ):
        assert typed(library) == command


def test_files_that_are_no_table_say_what_to_do(tmp_path, capsys):
    nested, folder, array = tmp_path / "a.jsonl", tmp_path / "b.csv", tmp_path / "c.json"
    nested.write_text("\n".join(json.dumps({"tokens": 1e9, "params": 1e8, "summary": {"loss": 3.0}}) for _ in range(9)))
    folder.mkdir()
    array.write_text("[]")
    wide = tmp_path / "d.csv"
    wide.write_text("tokens,params,loss\n", encoding="utf-16")
    for file, words, code, pattern in (
        (nested, ["--loss", "summary"], 1, r"loss \(column 'summary'\) holds objects \(loss\).*json_normalize"),
        (folder, [], 2, "b.csv is a folder"), (array, [], 2, "does not tell its format; give --format csv"),
        (wide, [], 1, "no text in UTF-8 .* save it as UTF-8"),
    ):  # fmt: skip
        assert main(["fit", str(file), *QUICK, *words]) == code
        assert re.search(pattern, said(capsys)[1])


def test_a_broken_matplotlib_is_named_before_the_work(csv, tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise ImportError('broken here')\n")
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    words = [sys.executable, "-m", "limitlib", "fit", csv, *QUICK, "--html", str(tmp_path / "a.html")]
    done = subprocess.run(words, capture_output=True, text=True, env=env)
    assert done.returncode == 1 and "the page needs matplotlib (broken here)" in done.stderr
    assert "Traceback" not in done.stderr and "fitting" not in done.stderr


def test_a_reader_that_has_enough_ends_it_without_a_word(tmp_path):
    """Like `| head -1`: the pipe is closed before the table comes."""
    rows = [f"{10.0**k},{3e7 * 2.0**k},{2 + 0.3 / (k - 7)}" for k in range(8, 20)]
    (tmp_path / "runs.csv").write_text("\n".join(["tokens,params,loss", *rows]))
    told = ["fit", "runs.csv", "--N", "tokens", "--law", "power:x=N", "--boot", "0"]
    with subprocess.Popen(
        [sys.executable, "-m", "limitlib", *told], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, text=True
    ) as running:
        running.stdout.close()
        words = running.stderr.read()
    assert running.returncode == 0 and "pipe" not in words.lower()
