"""The checklist, the refusal to print exponents without it, the warnings by name, and the report's words and JSON."""

import csv
import json

import numpy as np
import pytest

from limitlib.scaling import (
    NOT_STATED,
    Checklist,
    ChecklistError,
    IncompleteChecklist,
    LeastSquares,
    LogHuber,
    Prediction,
    Runs,
    UnknownQuestion,
    Weighted,
    compare,
    law,
    report,
    spec_curve,
)
from limitlib.scaling import flags as room
from limitlib.scaling.checklist import QUESTIONS
from limitlib.scaling.flags import PLAUSIBLE, PLAUSIBLE_COUNT, flags, reach
from limitlib.scaling.quantities import value_of

TRUE = {"E": 1.7, "A": 400.0, "B": 1200.0, "alpha": 0.34, "beta": 0.30}
ANSWERED = Checklist.nothing_stated(parameters="non-embedding")


def table(rows=60, noise=0.003, true=TRUE, spread=1.0, **options):
    rng = np.random.default_rng(5)
    P = np.exp(np.log(7e8) + spread * rng.uniform(-2.6, 2.6, rows))
    N = np.exp(np.log(3e10) + spread * rng.uniform(-3.4, 3.4, rows))
    loss = law("chinchilla").predict(true, P=P, N=N) * np.exp(noise * rng.standard_normal(rows))
    return Runs.from_arrays(loss, N=N, P=P, **options)


@pytest.fixture(scope="module")
def fitted():
    return law("chinchilla").fit(table())


@pytest.fixture(scope="module")
def boot(fitted):
    return fitted.boot(200, rng=np.random.default_rng(0))


def names(found):
    return {flag.name for flag in found}


# --------------------------------------------------------------------------------------------------------------- checklist


def test_without_the_checklist_no_exponent_is_printed(fitted):
    with pytest.raises(IncompleteChecklist, match="exponents are withheld") as caught:
        report(fitted)
    assert caught.value.missing[0] == "form_reason" and "flops" not in caught.value.missing  # the table set C = 6 N P
    assert "Which tokenizer?" in str(caught.value) and NOT_STATED in str(caught.value)
    with pytest.raises(IncompleteChecklist) as caught:
        report(fitted, Checklist(**{k: "x" for k in QUESTIONS if k not in ("seeds", "flops")}, seeds="  "))
    assert caught.value.missing == ("seeds",)


def test_not_stated_is_an_answer_and_is_printed(fitted):
    made = report(fitted, ANSWERED)
    assert "seeds: not stated" in made.table() and "parameters: non-embedding" in made.table()
    assert made.to_dict()["checklist"]["seeds"] == NOT_STATED and not made.withheld
    assert f"{fitted.parameters['alpha']:.5g}" in made.table()


def test_a_report_without_exponents_holds_none_anywhere(fitted, boot):
    rng = np.random.default_rng(0)
    curve = spec_curve(fitted.runs, deltas=(1e-3, 1e-2), rng=rng, boot=20)
    made = report(fitted, exponents=False, boot=boot, frontier=fitted.frontier([1e22], boot), specifications=curve)
    text, data = made.table(), json.loads(made.dumps())
    assert made.withheld and "withheld" in text and "missing" in text
    values = [*(v for k, v in fitted.parameters.items() if k != "E"), *boot.interval("alpha"), *boot.interval("beta")]
    values.append(value_of(fitted, "a"))
    for value in values:
        assert f"{value:.4g}" not in text and f"{value:.5g}" not in text
        assert all(abs(x - value) > 1e-9 * abs(value) for x in numbers(data))
    assert f"{fitted.parameters['E']:.5g}" in text and data["frontier"]["P"][0] > 0


def numbers(data):
    if isinstance(data, dict):
        data = list(data.values())
    if isinstance(data, list):
        return [x for v in data for x in numbers(v)]
    return [data] if isinstance(data, float) else []


def test_what_the_table_knows_is_filled_in_and_an_answer_goes_before_it():
    runs = table(counting="total", tokenizer="=gpt2", annealed=True)
    made = report(law("chinchilla").fit(runs), Checklist.nothing_stated(tokenizer="llama"))
    assert made.answers["tokenizer"] == "llama" and made.answers["parameters"] == "total"
    assert made.answers["seeds"] == NOT_STATED
    bare = report(law("chinchilla").fit(runs), exponents=False)
    assert bare.answers == {"parameters": "total", "flops": "6 N P", "tokenizer": "gpt2", "schedule": "every point is annealed"}
    assert bare.facts["reduction"] == "sum over rows" and "60 of 60 runs" in bare.facts["rows"]
    runs = table(annealed=np.arange(60) < 45)
    assert report(law("chinchilla").fit(runs), exponents=False).answers["schedule"] == "75 % of the points are annealed"


def test_a_comparison_answers_how_it_was_validated(fitted):
    compared = compare(["chinchilla", "kaplan"], fitted.runs, rng=np.random.default_rng(0))
    made = report(fitted, exponents=False, comparison=compared)
    assert "held out: 12 rows" in made.answers["validation"] and "kaplan" in made.table()


def test_the_template_is_what_from_toml_reads(tmp_path):
    file = tmp_path / "about.toml"
    text = Checklist.template({"parameters": "total"})
    file.write_text(text)
    assert Checklist.from_toml(file).missing({"parameters": "total"}) == tuple(k for k in QUESTIONS if k != "parameters")
    file.write_text(text.replace('seeds = ""', "seeds = 3").replace('# parameters = ""', 'parameters = "active"'))
    read = Checklist.from_toml(file)
    assert read.seeds == "3" and read.parameters == "active" and read.tuning is None
    for wrong, error, said in (
        ('sedes = "1"', UnknownQuestion, "no question 'sedes'"), ("seeds = [1]", ChecklistError, "is no text"),
        ("seeds = one", ChecklistError, "is not TOML"),
    ):  # fmt: skip
        file.write_text(wrong)
        with pytest.raises(error, match=said):
            Checklist.from_toml(file)
    with pytest.raises(TypeError, match="must be an answer in words"):
        Checklist(seeds=1)


# ---------------------------------------------------------------------------------------------------------------- warnings


def test_a_clean_fit_has_no_warning(fitted, boot):
    found = names(flags(fitted, None, fitted.identify(), fitted.frontier([1e23], boot)))
    assert found == set()


def test_a_run_that_moves_an_exponent_is_named():
    runs = table()
    loss = runs.loss.copy()
    loss[7] *= 1.25
    fit = law("chinchilla").fit(Runs.from_arrays(loss, N=runs.N, P=runs.P), LeastSquares())
    boot = fit.boot(200, rng=np.random.default_rng(0))
    found = [f for f in flags(fit, boot) if f.name == "influential run"]
    assert found and all("without run 7," in f.text for f in found)
    assert "(+" in found[0].text or "(-" in found[0].text
    assert all("(" not in f.text for f in flags(fit, boot, hide=True) if f.name == "influential run")


def test_a_floor_that_the_runs_do_not_show_is_at_the_boundary():
    runs = table(noise=0.01, true=TRUE | {"E": 1e-9})
    found = {f.name: f.text for f in flags(law("chinchilla").fit(runs))}
    assert "E = 0 is the optimum" in found["boundary"]


def test_the_exponent_of_a_term_that_is_zero_is_not_determined(fitted):
    from dataclasses import replace

    theta, free = fitted.theta.copy(), fitted.free.copy()
    theta[1], free[[1, 3]] = -np.inf, False  # as a fit is left whose A came out as 0
    fit = replace(fitted, theta=theta, free=free, certificate=replace(fitted.certificate, boundary=("A",)))
    made = report(fit, ANSWERED)
    entries = {p["name"]: p for p in made.parameters}
    assert entries["alpha"] == {"name": "alpha", "value": None, "shape": "not determined"} and "a" not in entries
    assert "alpha could be anything, since its term is 0" in made.table()
    assert not [f for f in made.flags if f.name == "implausible exponent" and "alpha" in f.text]


def test_a_floor_that_vanishes_in_resamples_is_named_and_its_interval_begins_at_zero():
    fit = law("chinchilla").fit(table(rows=40, noise=0.05, true=TRUE | {"E": 0.1}))
    boot = fit.boot(60, rng=np.random.default_rng(0))
    gone = int((boot.parameters["E"] < room.vanishing(fit)).sum())
    assert 5 < gone < 60 and fit.parameters["E"] > 0.01  # else the example is none
    found = [f.text for f in flags(fit, boot, influence=False) if f.name == "boundary"]
    assert found == [f"E vanishes in {gone} of 60 resamples: the runs hardly show where the loss levels off"]
    assert report(fit, ANSWERED, boot=boot, identify=False, influence=False).parameters[0]["bootstrap"][0] == 0.0


def test_parameters_that_nothing_determines_are_named():
    N = np.geomspace(1e9, 1e12, 40)
    runs = Runs.from_arrays(2 + 1e3 * N**-0.3 + 0.001 * np.random.default_rng(0).standard_normal(40), N=N, P=N / 20)
    fit = law("chinchilla").fit(runs)
    assert names(flags(fit, None, fit.identify())) & {"not identified", "one-sided"}
    assert "one ratio" in names(flags(fit))


def test_an_exponent_that_nobody_published_is_implausible(fitted):
    steep = law("chinchilla").fit(table(true={"E": 1.7, "A": 1e12, "B": 1200.0, "alpha": 1.5, "beta": 0.30}))
    found = [f.text for f in flags(steep) if f.name == "implausible exponent"]
    assert len(found) == 1 and "alpha = 1.49" in found[0] and "0.037 to 1.01" in found[0] and "22 exponents" in found[0]
    assert "1.49" not in next(f.text for f in flags(steep, hide=True) if f.name == "implausible exponent")


def test_far_extrapolation_is_three_times_the_range_in_logarithms(fitted):
    C = fitted.runs.C
    edge = C.min() * (C.max() / C.min()) ** 3
    assert [reach(fitted.runs.columns, "C", c) for c in (C.max(), edge)] == pytest.approx([1, 3])
    assert "far extrapolation" not in names(flags(fitted, frontier=fitted.frontier([edge * 0.99])))
    found = flags(fitted, frontier=fitted.frontier([edge * 1.01, edge * 1e6]))
    assert [f.name for f in found] == ["far extrapolation"] and f"{edge * 1e6:.3g}" in found[0].text
    assert "far extrapolation" in names(flags(fitted, predictions=[Prediction({"P": 1e20, "N": 1e11}, 1.8)]))


def test_scores_at_chance_are_counted():
    x = np.linspace(0, 4, 30)
    score = 0.25 + 0.75 / (1 + np.exp(-(3 * x - 9)))
    runs = Runs.from_arrays(score, x=x, unit="=accuracy")
    fit = law("sigmoid", x=("x",), floor=0.25).fit(runs, LeastSquares("raw"))
    found = [f.text for f in flags(fit, chance=0.25) if f.name == "chance"]
    near = int((np.abs(score - 0.25) <= 0.015).sum())
    assert found and found[0].startswith(f"{near} of 30 scores")
    assert report(fit, ANSWERED, chance=0.25).quality.unit == "loss"


def test_few_runs_and_unannealed_points_are_named():
    runs = table(rows=12, annealed=np.arange(12) < 6)
    assert {"few runs", "unannealed"} <= names(flags(law("chinchilla").fit(runs)))


def test_disagreeing_starts_and_missed_optima_are_named(fitted):
    from dataclasses import replace

    poor = replace(fitted, certificate=replace(fitted.certificate, share_agreeing=0.05, converged=False))
    assert names(flags(poor)) == {"starts disagree", "not converged"}
    assert "NOT certified" in report(poor, ANSWERED).facts["optimum"]


def test_the_plausible_ranges_are_those_of_the_published_table():
    """Recomputed from the registered data set, as the comment at the constants says."""
    from limitlib.companion import datasets

    if not datasets.available("scaling-exponents"):
        pytest.skip("the data set scaling-exponents is not here")
    variables = {"Parameters": "P", "Data": "N", "Compute": "C"}
    found = {"P": [], "N": [], "C": []}
    file = next(f for f in datasets.fetch("scaling-exponents") if f.suffix == ".csv")
    with open(file, newline="", encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        if row["Dependent Variable"] != "Loss" or not row["Loss"].startswith("Cross-entropy"):
            continue
        for k in "12":
            variable = variables.get(row[f"Scaling Variable {k}"])
            if variable and row[f"Exponent {k}"]:
                found[variable].append(float(row[f"Exponent {k}"]))
    assert len(rows) == 137 and len({r["Paper"] for r in rows}) == 24
    assert {k: (min(v), max(v)) for k, v in found.items()} == PLAUSIBLE
    assert {k: len(v) for k, v in found.items()} == PLAUSIBLE_COUNT


# ------------------------------------------------------------------------------------------------------------------ report


def test_the_report_has_every_part_in_words_and_in_json(fitted, boot):
    made = report(
        fitted, ANSWERED, boot=boot, frontier=fitted.frontier([1e22, 1e24], boot), notes=["a note"],
        predictions=[Prediction({"P": 7e9, "N": 1e12}, 2.0, (1.9, 2.1), "calibrated")],
        specifications=spec_curve(fitted.runs, deltas=(1e-3, 1e-2), rng=np.random.default_rng(0), boot=20),
    )  # fmt: skip
    text, data = made.table(), json.loads(made.dumps())
    for words in ("Optimum", "Parameters", "What the runs determine", "Fit quality", "frontier", "Predictions", "Other choices",
                  "Warnings", "a note", "P=7e+09, N=1e+12", "calibrated", "bounded", "starts end there"):  # fmt: skip
        assert words in text, words
    assert data["parameters"][3]["name"] == "alpha" and data["parameters"][3]["value"] == fitted.parameters["alpha"]
    assert data["parameters"][3]["bootstrap"] == list(boot.interval("alpha")) and data["bootstrap"]["resamples"] == 200
    assert data["certificate"]["value"] == fitted.value and data["frontier"]["P_interval"][0][0] < data["frontier"]["P"][0]
    assert data["specifications"]["quantity"] == "a" and data["missing"] == []


def test_quality_is_that_of_the_weighted_residuals():
    weight = np.linspace(0, 2, 60)
    runs = table(weight=weight)
    fit = law("chinchilla").fit(runs, LeastSquares())
    y, q = np.log(runs.loss), report(fit, ANSWERED).quality
    mean = np.average(y, weights=weight)
    assert q.explained == pytest.approx(1 - weight @ fit.residuals**2 / (weight @ (y - mean) ** 2))
    assert q.rms == pytest.approx(np.sqrt(np.average(fit.residuals**2, weights=weight)))
    assert abs(fit.residuals[q.largest_row]) == q.largest


def test_weights_by_name_and_a_gauge_stand_in_the_report():
    runs = Runs.from_arrays(table().loss, N=table().N, P=table().P, w=np.ones(60))
    fit = law("chinchilla").fit(runs, Weighted(LogHuber(), "w"))
    assert report(fit, ANSWERED).facts["weights"] == "w"
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(3), 40)
    runs = Runs.from_arrays(2 + np.exp(shares @ [0.3, -0.2, 0.1]), a=shares[:, 0], b=shares[:, 1], c=shares[:, 2])
    made = report(law("mixing-exponential", domains=["a", "b", "c"]).fit(runs), ANSWERED, identify=False)
    assert "k = 1 here" in made.facts["gauge"] and all(p["name"] != "a" for p in made.parameters)


def test_arguments_of_a_wrong_kind_are_refused(fitted):
    with pytest.raises(TypeError, match="must be a fit"):
        report(fitted.parameters)
    with pytest.raises(TypeError, match="must be a Checklist"):
        report(fitted, {"seeds": "1"})
    assert room.FAR == 3


# ----------------------------------------------------------------------------------------------------- tables of other people


def test_the_exponent_of_an_absent_term_is_reported_as_undetermined():
    """A score that rises in P alone: both terms of the law vanish but one, and their exponents move nothing."""
    runs = table(30)
    rising = Runs.from_arrays(1e9 * (1 + runs.P / runs.P.max()), N=runs.N, P=runs.P)
    fit = law("chinchilla").fit(rising)
    found = fit.identify()
    assert set(found.profiles) == set(fit.law.parameters)
    made = report(fit, exponents=False)
    assert "nan" not in made.table() and json.loads(made.dumps())["withheld"]


def test_as_many_runs_as_parameters_have_no_intervals():
    made = report(law("chinchilla").fit(table(5, 0.01)), exponents=False)
    assert made.identified is None and "no spare runs" in names(made.flags)
    assert "95 % profile" not in made.table()
    assert all("standard_error" not in entry and "profile" not in entry for entry in made.parameters)


def test_one_resample_gives_no_standard_errors_to_compare_with(fitted):
    assert "influential run" not in names(flags(fitted, fitted.boot(1, rng=np.random.default_rng(0))))


def test_rows_that_look_like_checkpoints_are_a_warning_and_no_mere_note():
    sizes, seen = np.repeat(np.geomspace(1e8, 1e10, 6), 10), np.tile(np.geomspace(1e9, 1e11, 10), 6)
    loss = law("chinchilla").predict(TRUE, P=sizes, N=seen)
    runs = Runs.from_frame({"n": seen, "p": sizes, "loss": loss}, N="n", P="p")
    made = report(law("chinchilla").fit(runs), exponents=False, identify=False)
    assert "checkpoints" in names(made.flags) and "checkpoints: 60 rows have 6 values of P" in made.table()
    assert "warning: 60 rows" not in made.table()


def test_a_score_given_as_a_loss_is_named():
    runs = table(30)
    rank = np.argsort(np.argsort(runs.C))
    assert any(w.startswith("rising: ") for w in Runs.from_arrays(0.2 + rank / 60, N=runs.N, P=runs.P).warnings)
    assert not any(w.startswith("rising: ") for w in runs.warnings)
    said_so = Runs.from_arrays(0.2 + rank / 60, N=runs.N, P=runs.P, unit="=accuracy")
    assert not any(w.startswith("rising: ") for w in said_so.warnings)


def test_millions_and_billions_are_no_swap():
    frame = {"n": np.geomspace(5, 500, 20), "p": np.geomspace(90, 9000, 20)[::-1], "loss": np.linspace(3, 2, 20)}
    told = {w.split(":")[0] for w in Runs.from_frame(frame, N="n", P="p").warnings}
    assert "factor" in told and "swapped" not in told


def test_wrong_things_in_the_place_of_runs_laws_and_columns(fitted):
    with pytest.raises(TypeError, match=r"runs of type dict must be Runs; make them by Runs\.from_frame"):
        law("chinchilla").fit({"N": [1.0]})
    with pytest.raises(ValueError, match=r"Q=\.\.\. is no variable of the law 'chinchilla': give P, N"):
        fitted.predict(P=1e9, N=1e10, Q=1.0)
    assert fitted.predict(**fitted.runs.columns).shape == (60,)  # C among them
    with pytest.raises(TypeError, match="laws has a Fit; it must hold laws or their names"):
        compare([fitted], fitted.runs, rng=np.random.default_rng(0))
    for x in (3, ["C", "P"], ""):
        with pytest.raises(ValueError, match="must be the name of a column"):
            law("power", x=x)
    assert law("sigmoid", x=["nll", "C"]).variables == ("nll", "C")
