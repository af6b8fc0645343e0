"""Held-out scores, ties, AIC, the specification curve and the influence of single runs, against slow and closed forms."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from limitlib.scaling import LeastSquares, LogHuber, Runs, Weighted, comparison, law, quantities
from limitlib.scaling.comparison import aic_of, compare, spec_curve
from limitlib.scaling.quantities import draws_of, influence, spread_of, value_of

TRUE = {"E": 1.7, "A": 400.0, "B": 1200.0, "alpha": 0.34, "beta": 0.30}


def table(rng, rows=60, noise=0.003, **extra):
    P, N = np.exp(rng.uniform(np.log(5e7), np.log(1e10), rows)), np.exp(rng.uniform(np.log(1e9), np.log(1e12), rows))
    loss = law("chinchilla").predict(TRUE, P=P, N=N) * np.exp(noise * rng.standard_normal(rows))
    return Runs.from_arrays(loss, N=N, P=P, **{k: v(P, N) for k, v in extra.items()})


@pytest.fixture(scope="module")
def runs():
    return table(np.random.default_rng(5))


# ------------------------------------------------------------------------------------------------------------------ scores


def test_weighted_scores_are_those_of_repeated_rows():
    rng = np.random.default_rng(0)
    for rows in (1, 2, 7, 30):
        size, counts = rng.random(rows), rng.integers(0, 4, (25, rows))
        counts[:, 0] += 1
        for k, count in enumerate(counts):
            repeated = np.repeat(size, count)
            assert comparison._scores(size, counts, "median")[k] == pytest.approx(np.median(repeated), rel=1e-14)
            assert comparison._scores(size, counts, "rms")[k] == pytest.approx(np.sqrt(np.mean(repeated**2)), rel=1e-12)


def test_the_gaussian_aic_is_the_textbook_one():
    r = np.random.default_rng(1).standard_normal(40) * 0.02
    scale = np.sqrt(np.mean(r**2))
    expected = -2 * norm.logpdf(r, scale=scale).sum() + 2 * 6
    assert aic_of(float(0.5 * np.sum(r**2)), 40, 5, LeastSquares()) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("delta", "size"), [(1e-3, 0.02), (0.02, 0.02), (1.0, 0.02)])
def test_the_quasi_aic_is_minus_twice_the_best_log_likelihood_of_a_density(delta, size):
    r = np.random.default_rng(2).standard_normal(50) * size
    objective = LogHuber(delta)
    value = float(objective.rho(r).sum())

    def cost(s):
        total, _ = quad(lambda x: np.exp(-float(objective.rho(np.array(x))) / s), 0, np.inf, limit=400, epsabs=1e-15)
        return 2 * value / s + 2 * len(r) * np.log(2 * total)

    scales = value / len(r) * np.exp(np.linspace(-1.5, 1.5, 41))
    slow = min(map(cost, scales)) + 2 * 4
    assert aic_of(value, len(r), 3, objective) <= slow + 1e-6
    assert aic_of(value, len(r), 3, objective) == pytest.approx(slow, abs=0.05)
    if delta == 1.0:  # every residual is in the quadratic part: the Gaussian one
        assert aic_of(value, len(r), 3, objective) == pytest.approx(aic_of(value, len(r), 3, LeastSquares()), abs=1e-6)


def test_the_true_law_wins_over_one_without_a_floor_and_ties_with_itself_renamed(runs):
    laws = [law("chinchilla"), law("additive"), law("chinchilla", floor=False)]
    found = compare({"true": laws[0], "renamed": laws[1], "no floor": laws[2]}, runs, rng=np.random.default_rng(0))
    assert set(found.tied) >= {"true", "renamed"} and "no floor" not in found.tied
    renamed = next(e for e in found.entries if e is not found.best and e.name != "no floor")
    assert abs(renamed.difference) < 1e-10 and renamed.tied
    worst = found.entries[-1]
    assert worst.name == "no floor" and worst.difference_interval[0] > 0 and worst.aic > found.best.aic + 50
    words = found.words()
    assert "an interval that covers 0" in words and "quasi-AIC" in words and "12 runs" in words
    assert len(found.table().splitlines()) == 4 and found.to_dict()["laws"][0]["tied"]


def test_errors_and_score_are_those_of_the_fit_below_the_budget(runs):
    rng = np.random.default_rng(0)
    found = compare(["chinchilla"], runs, holdout="C > 1e22", score="rms", objective=LeastSquares(), rng=rng)
    below, above = runs.where("C <= 1e22"), runs.where("C > 1e22")
    fitted = law("chinchilla").fit(below, LeastSquares())
    off = np.log(above.loss) - np.log(fitted.predict(P=above.P, N=above.N))
    assert found.best.errors == pytest.approx(off, abs=1e-12)
    assert found.best.score == pytest.approx(np.sqrt(np.mean(off**2)), rel=1e-10)
    assert found.held_out_rows == len(above) and "AIC has meaning where those hold" in found.aic_basis


def test_a_share_holds_out_whole_runs_and_a_condition_says_what_it_splits(runs):
    rng = np.random.default_rng(3)
    P, steps = np.repeat(np.geomspace(1e8, 1e10, 10), 6), np.tile(np.geomspace(2e9, 2e11, 6), 10)
    loss = law("chinchilla").predict(TRUE, P=P, N=steps) * np.exp(0.002 * rng.standard_normal(60))
    panel = Runs.from_arrays(loss, N=steps, P=P, run=np.repeat(np.arange(10), 6))
    below, above, split, notes = comparison._split(panel, 0.3, "C")
    assert not set(below.run_names) & set(above.run_names) and len(below) == 42 and not notes
    assert above.C.min() > below.C.max() and "3 runs" in split
    found = compare(["chinchilla"], panel, holdout="N > 1e11", rng=rng)
    assert "10 runs have rows on both sides" in found.notes[0] and found.best.aic is None and len(found.notes) == 1
    few = compare(["chinchilla"], panel, holdout=0.3, rng=rng)
    assert few.notes[0].startswith("3 held-out runs are few") and few.notes[0] in few.words()
    assert "rows of one run are not independent" in found.words()


def test_two_held_out_runs_give_no_interval_and_no_verdict(runs):
    found = compare(["chinchilla", "kaplan"], runs, holdout=2 / 60, rng=np.random.default_rng(0))
    assert found.best.interval is None and "too few to tell" in found.words() and set(found.tied) == {"chinchilla", "kaplan"}


def test_a_law_that_cannot_be_fitted_is_named_with_the_reason(runs):
    found = compare(["chinchilla", "schedule"], runs, rng=np.random.default_rng(0))
    assert "schedule" in found.failed and "schedule could not be fitted" in found.words()
    with pytest.raises(ValueError, match="no law could be fitted"):
        compare(["schedule"], runs, rng=np.random.default_rng(0))


def test_a_weight_of_zero_is_a_row_left_out(runs):
    rng = np.random.default_rng(4)
    weight = np.where(rng.random(60) < 0.3, 0.0, 1.0)
    half = Runs.from_arrays(runs.loss, N=runs.N, P=runs.P, weight=weight)
    score = [compare(["chinchilla"], r, holdout="C > 1e22", rng=np.random.default_rng(0)).best.score
             for r in (half, runs.select(weight > 0))]  # fmt: skip
    assert score[0] == pytest.approx(score[1], rel=1e-7)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"holdout": 1.0}, "share below 1"),
        ({"holdout": "C > 0"}, "holds out every row"),
        ({"by": "Q"}, "split by one of those"),
        ({"score": "mean"}, "choose one of median, rms"),
        ({"objective": Weighted(LogHuber(), np.ones(60))}, "name a column"),
    ],
)
def test_mistakes_in_a_comparison_are_named(runs, options, said):
    with pytest.raises(ValueError, match=said):
        compare(["chinchilla"], runs, rng=np.random.default_rng(0), **options)
    with pytest.raises(TypeError, match="rng"):
        compare(["chinchilla"], runs, rng=0)


# ------------------------------------------------------------------------------------------------------------- quantities


def test_the_allocation_exponent_is_the_slope_of_the_numeric_optimum(runs):
    for name in ("chinchilla", "over-training", "kaplan", "additive"):
        fitted = law(name).fit(runs)
        best = []
        for C in (1e20, 1e23):
            P = np.exp(np.linspace(np.log(1e5), np.log(1e14), 400_001))
            best.append(np.log(P[np.argmin(fitted.predict(P=P, N=C / (6 * P)))]))
        assert value_of(fitted) == pytest.approx((best[1] - best[0]) / np.log(1e3), abs=2e-5)


def test_a_quantity_may_be_a_parameter_or_a_function(runs):
    fitted = law("chinchilla").fit(runs)
    draws = np.stack([fitted.theta, fitted.theta + 0.01])
    by_hand = draws_of(fitted, draws, lambda f: f.parameters["beta"] / (f.parameters["alpha"] + f.parameters["beta"]))
    assert draws_of(fitted, draws, "a") == pytest.approx(by_hand, rel=1e-14)
    assert value_of(fitted, "E") == fitted.parameters["E"]
    with pytest.raises(ValueError, match="choose one of E, A, B, alpha, beta, a"):
        value_of(fitted, "gamma")
    with pytest.raises(ValueError, match="not defined for the law 'power'"):
        value_of(law("power").fit(runs), "a")


def test_the_spread_is_the_standard_deviation_of_normal_draws(runs):
    fitted = law("chinchilla").fit(runs, LeastSquares())
    boot = fitted.boot(400, rng=np.random.default_rng(0))
    assert spread_of(boot, "alpha") == pytest.approx(np.std(boot.parameters["alpha"]), rel=0.15)


def test_influence_is_the_refit_without_the_run(runs):
    fitted = law("chinchilla").fit(runs, LeastSquares())
    found = influence(fitted)
    for k in (0, 17, 59):
        without = law("chinchilla").fit(runs.select(np.arange(60) != k), LeastSquares())
        assert found.values[k] == pytest.approx(value_of(without), abs=1e-7)
    assert found.base == value_of(fitted) and found.of == 60 and found.beyond(10.0) == ()


def test_where_runs_are_many_the_most_influential_are_tried(runs, monkeypatch):
    loss = runs.loss.copy()
    loss[33] *= 1.05
    fitted = law("chinchilla").fit(Runs.from_arrays(loss, N=runs.N, P=runs.P), LeastSquares())
    whole = influence(fitted, "alpha")
    monkeypatch.setattr(quantities, "INFLUENCE_BUDGET", 1)
    part = influence(fitted, "alpha")
    assert whole.most[0] == part.most[0] == "33" and part.most[1] == pytest.approx(whole.most[1], rel=1e-9)
    assert len(part.runs) == 20 and set(whole.beyond(0)[:5]) <= set(part.runs)


# --------------------------------------------------------------------------------------------------- specification curve


def test_every_specification_is_the_fit_it_says(runs):
    both = table(np.random.default_rng(5), body=lambda P, N: P - 3e7)
    found = spec_curve(
        both, filters=[None, "C < 1e22"], deltas=(1e-3, LeastSquares()), forms=["chinchilla", "over-training"],
        counting={"total": "P", "body": "body"}, rng=np.random.default_rng(0), boot=50,
    )  # fmt: skip
    assert len(found.specs) == 16 and (np.diff(found.values) >= 0).all()
    assert found.base.choices == {"filter": "all rows", "objective": "huber 0.001", "form": "chinchilla", "counting": "total"}
    assert found.base.value == value_of(law("chinchilla").fit(both))
    body = Runs.from_arrays(both.loss, N=both.N, P=both.columns["body"])
    other = law("chinchilla").fit(body.select(both.C < 1e22), LeastSquares())
    one = next(s for s in found.specs if s.choices == {"filter": "C < 1e22", "objective": "squares of ln loss",
                                                       "form": "chinchilla", "counting": "body"})  # fmt: skip
    assert one.value == pytest.approx(value_of(other), abs=1e-9) and one.rows == len(both.where("C < 1e22"))
    assert all(s.value == 0.5 for s in found.specs if s.form == "over-training")
    assert set(found.moves) == {"filter", "objective", "form", "counting"} and found.most in found.moves
    ranges = {}
    for s in found.specs:
        ranges.setdefault((s.filter, s.objective, s.counting), []).append(s.value)
    assert found.moves["form"] == pytest.approx(np.median([np.ptp(v) for v in ranges.values()]))
    assert found.standard_error > 0 and "standard error" in found.words() and "base" in found.table()


def test_a_specification_that_cannot_be_fitted_stays_with_its_reason(runs):
    found = spec_curve(runs, filters=[None, "C < 1", "C < 1.5e18"], deltas=(1e-3,), rng=np.random.default_rng(0), boot=20)
    lost = [s for s in found.specs if s.problem]
    assert len(lost) == 2 and all(np.isnan(s.value) for s in lost) and "2 specifications could not be fitted" in found.words()
    assert found.moves == {} and found.most == "" and found.to_dict()["specs"][-1]["value"] is None
    with pytest.raises(ValueError, match="the base specification"):
        spec_curve(runs, filters=["C < 1"], rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="is no column"):
        spec_curve(runs, counting={"body": "body"}, rng=np.random.default_rng(0))
