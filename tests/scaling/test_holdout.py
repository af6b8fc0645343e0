"""Rolling back-tests and calibrated intervals: the arithmetic by hand, coverage on simulated tables, and what must fail."""

import json

import numpy as np
import pytest
from scipy.stats import binom, norm, t

from limitlib.scaling import LeastSquares, LogHuber, Weighted, backtest, calibrated_interval, law
from limitlib.scaling.calibration import Forecast, Growth, covered, needed_rate, ranked, small_sample, widened
from limitlib.scaling.holdout import LastValue, last
from limitlib.scaling.runs import Runs

LINE = law("power", x="C", floor=False)
ONES = np.ones(4)


def power_table(rng, n=60, noise=0.01, bend=0.0):
    """ln loss is a line in ln C over five decades, with ``bend`` a parabola."""
    C = np.sort(10 ** rng.uniform(17, 22, n))
    x = np.log(C / 1e17)
    return Runs.from_arrays(np.exp(1.6 - 0.06 * x + bend * x**2 + rng.normal(0, noise, n)), C=C)


def grid_table(noise=0.0, seed=0, sizes=(5e7, 1e8, 2e8, 5e8, 1e9, 2e9, 4e9), tokens=(1e9, 3e9, 1e10, 3e10, 1e11)):
    P, N = (v.ravel() for v in np.meshgrid(sizes, tokens))
    loss = 1.8 + 482 * P**-0.35 + 2085 * N**-0.37
    loss = loss * np.exp(np.random.default_rng(seed).normal(0, noise, len(P)))
    return Runs.from_arrays(loss, P=P, N=N)


# ------------------------------------------------------------------------------------------------------------ arithmetic


def test_the_rate_needed_is_the_smallest_that_covers_the_share():
    forecast = Forecast(np.zeros(4), 0.3 * ONES, 0.6 * ONES)
    error, distance = np.array([-0.5, 1.0, 0.2, -0.3]), np.array([2.0, 1.0, 0.01, 3.0])
    # On its side each error needs sqrt(e^2 - w^2) / h: .4/2, .8/1, 0, 0.
    assert needed_rate(forecast, error, distance, 0.95) == pytest.approx(0.8)
    assert needed_rate(forecast, error, distance, 0.60) == pytest.approx(0.2)
    for level, share in ((0.95, 1.0), (0.60, 0.75)):
        rate = needed_rate(forecast, error, distance, level)
        assert covered(widened(forecast, rate * (1 + 1e-12), distance), error).mean() == share
        assert covered(widened(forecast, rate * (1 - 1e-6), distance), error).mean() < share


def test_near_a_cut_the_distance_counts_as_three_tenths():
    forecast = Forecast(np.zeros(1), np.zeros(1), np.zeros(1))
    assert needed_rate(forecast, np.array([0.3]), np.array([1e-9]), 0.95) == pytest.approx(1.0)
    assert widened(forecast, 1.0, np.array([0.0])).below == pytest.approx(0.3)


def test_widths_add_in_quadrature():
    wide = widened(Forecast(np.zeros(1), np.array([3.0]), np.array([6.0])), 4.0, np.array([2.0]))
    assert wide.below == pytest.approx(np.hypot(3, 8))
    assert wide.above == pytest.approx(10.0)


@pytest.mark.parametrize("splits", [3, 5, 8])
def test_few_splits_are_made_up_for_by_student(splits):
    assert small_sample(splits, 0.9) == pytest.approx(t.ppf(0.95, splits / 2) / norm.ppf(0.95))
    assert small_sample(splits, 0.9) > small_sample(splits + 1, 0.9) > 1


def test_nothing_measured_doubles():
    wide = Growth(2, np.nan, np.nan, np.nan, np.nan).widen(Forecast(ONES, 0.1 * ONES, 0.2 * ONES), ONES)
    assert (wide.below == 0.2).all()
    assert (wide.above == 0.4).all()


def test_cuts_leave_something_above():
    assert ranked(np.array([1.0, 1.0, 2.0, 3.0, 3.0]), (0.1, 0.5, 0.9)) == [1.0, 2.0]


def test_last_value_is_the_best_row_that_is_nowhere_larger():
    at, y = np.log([[1e8, 1e9], [1e8, 4e9], [4e8, 1e9]]), np.array([3.0, 2.6, 2.8])
    assert last(at, y, np.log([1e8, 8e9])) == 2.6
    assert last(at, y, np.log([2e9, 2e9])) == 2.8
    assert last(at, y, np.log([5e7, 9e9])) == 2.6  # nothing is nowhere larger: the nearest


def test_the_error_of_a_last_value_is_seen_inside_the_table():
    runs = Runs.from_arrays([4.0, 3.0, 2.0], C=[1.0, 2.0, 4.0])
    found = LastValue(("C",), "C", "raw").forecast(runs, {"C": np.array([8.0])}, 0.95, np.random.default_rng(0))
    assert found.center == 2.0
    assert found.below == pytest.approx(1.0)  # it was 1 too high both times
    assert found.above == 0.0


# ------------------------------------------------------------------------------------------------------ simulated tables


def one_far_run(bend, seed, level=0.9):
    """Fit below 10^20.5, predict one run above."""
    rng = np.random.default_rng(seed)
    table = power_table(rng, bend=bend)
    far = rng.choice(np.flatnonzero(table.C > 10**20.5))
    fit = LINE.fit(table.where("C <= 10**20.5"), LeastSquares())
    found = calibrated_interval(fit, {"C": table.C[far]}, rng=rng, level=level, n_boot=60)
    truth = table.loss[far]
    naive = found.naive_lower[0] <= truth <= found.naive_upper[0]
    return naive, found.lower[0] <= truth <= found.upper[0], found.multiplier[0]


def test_coverage_of_the_true_law_is_near_nominal():
    tables = 50
    naive, calibrated, multiplier = np.array([one_far_run(0.0, seed) for seed in range(tables)]).T
    for covers in (naive, calibrated):
        assert covers.sum() >= binom.ppf(1e-3, tables, 0.9)
    assert np.median(multiplier) < 2  # and it is not bought by width


def test_a_wrong_law_is_covered_more_often_by_the_calibrated_interval():
    """Its error grows with the square of the distance, the widening with the distance: nominal coverage is not reached."""
    naive, calibrated, multiplier = np.array([one_far_run(0.001, seed) for seed in range(40)]).T
    assert naive.mean() < 0.5
    assert calibrated.mean() > naive.mean() + 0.25
    assert 1.5 < np.median(multiplier) < 2


def test_a_break_beyond_all_runs_is_not_covered():
    """The negative control: what nothing below the cut shows cannot be calibrated."""
    rng = np.random.default_rng(0)
    table = power_table(rng)
    fit = LINE.fit(table.where("C <= 10**20.5"), LeastSquares())
    far = table.C[table.C > 10**20.5]
    found = calibrated_interval(fit, {"C": far}, rng=rng, n_boot=60)
    truth = 1.12 * table.loss[table.C > 10**20.5]
    assert ((found.lower <= truth) & (truth <= found.upper)).mean() < 0.5


def test_exact_data_need_no_width():
    fit = law("chinchilla").fit(grid_table(noise=0.0).where("C < 1e19"))
    found = calibrated_interval(fit, {"P": 7e9, "N": 1e12}, rng=np.random.default_rng(1), n_boot=20)
    truth = 1.8 + 482 * 7e9**-0.35 + 2085 * 1e12**-0.37
    assert found.predicted[0] == pytest.approx(truth, rel=1e-6)
    assert found.upper[0] - found.lower[0] < 1e-5
    assert found.kind == "estimate"


def test_the_calibrated_interval_contains_the_naive_one_and_grows():
    fit = law("chinchilla").fit(grid_table(noise=0.01), LeastSquares())
    found = calibrated_interval(fit, {"P": 1e9, "N": [1e10, 1e12, 1e14]}, rng=np.random.default_rng(2), n_boot=20)
    assert (found.lower <= found.naive_lower).all()
    assert (found.upper >= found.naive_upper).all()
    assert (np.diff(found.upper - found.lower) > 0).all()
    top = fit.runs.C.max()
    assert found.distance == pytest.approx(np.maximum(np.log(6e9 * np.array([1e10, 1e12, 1e14]) / top), 0))
    assert 0 <= found.inner_naive_coverage <= found.inner_coverage <= 1
    assert any("1 rows lie inside the fitted range" in note for note in found.notes)


def test_too_few_runs_say_so_and_double():
    fit = LINE.fit(power_table(np.random.default_rng(3), n=6), LeastSquares())
    found = calibrated_interval(fit, {"C": [1e23, 1e24]}, rng=np.random.default_rng(3), n_boot=40)
    assert found.inner_splits < 3
    assert np.isnan(found.rate)
    assert np.isnan(found.inner_coverage)
    assert any("too few runs for an inner back-test" in note for note in found.notes)
    assert np.log(found.upper / found.predicted) == pytest.approx(2 * np.log(found.naive_upper / found.predicted))


def test_the_scale_of_the_objective_is_the_scale_of_the_errors():
    table = power_table(np.random.default_rng(4))
    fit = LINE.fit(table, LeastSquares("raw"))
    found = calibrated_interval(fit, {"C": [1e23]}, rng=np.random.default_rng(4), n_boot=40)
    added = found.rate * found.distance
    assert found.upper - found.predicted == pytest.approx(np.hypot(found.naive_upper - found.predicted, added))


# ------------------------------------------------------------------------------------------------------------- back-tests


def line_test(runs, seed=0, **options):
    return backtest(LINE, runs, **{"rng": np.random.default_rng(seed), "objective": LeastSquares(), "n_boot": 20, **options})


@pytest.fixture(scope="module")
def tested():
    runs = grid_table(noise=0.01, seed=5)
    cuts = np.quantile(runs.C, [0.45, 0.75])
    options = {"rng": np.random.default_rng(6), "n_boot": 20, "objective": LeastSquares()}
    return runs, backtest(law("chinchilla"), runs, cuts=cuts, **options)


def test_a_backtest_reports_law_and_baselines(tested):
    runs, found = tested
    assert list(found.scores) == ["chinchilla", "last-value", "single-power-law"]
    assert found.score is found.scores["chinchilla"]
    assert found.score.rows == len(found.truth) == sum((c < runs.C).sum() for c in found.cuts)
    assert len(found.cuts) == 2
    assert found.least_runs == found.fitted_rows[0] == len(runs) - (found.split == 0).sum()
    assert (runs.loss[found.row] == found.truth).all()
    assert (runs.C[found.row] > found.cuts[found.split]).all()
    assert found.score.rms_error < min(found.scores[b].rms_error for b in ("last-value", "single-power-law"))
    held = found.held_out["chinchilla"]
    assert found.score.median_error == pytest.approx(np.median(np.abs(held.predicted / found.truth - 1)))
    assert found.score.coverage == np.mean((held.lower <= found.truth) & (found.truth <= held.upper))
    assert found.score.width == pytest.approx(np.median((held.upper - held.lower) / held.predicted))
    assert found.score.width_ratio >= 1
    assert sum(s.rows for s in found.by_cut("last-value")) == found.score.rows
    summary = json.loads(json.dumps(found.summary()))
    assert summary["scores"]["chinchilla"]["coverage"] == found.score.coverage
    assert summary["least_runs"] == found.least_runs


def test_nothing_above_a_cut_is_used(tested):
    """Other losses above the cut: the same predictions and intervals."""
    runs, _ = tested
    cut = np.quantile(runs.C, 0.7)
    changed = Runs.from_arrays(np.where(cut < runs.C, 9.0, runs.loss), P=runs.P, N=runs.N, C=runs.C)
    first, second = (line_test(r, cuts=[cut], baselines=("last-value",)) for r in (runs, changed))
    for name, one in first.held_out.items():
        two = second.held_out[name]
        for field in ("predicted", "lower", "upper", "naive_lower", "naive_upper"):
            assert (getattr(one, field) == getattr(two, field)).all()
    assert first.score.rms_error < second.score.rms_error


def test_a_backtest_repeats_with_its_seed_and_says_how_far_it_is(tested):
    calls = []
    options = {"seed": 8, "baselines": ("last-value",), "progress": lambda *a: calls.append(a)}
    one, two = (line_test(tested[0], **options) for _ in range(2))
    assert (one.held_out["power"].upper == two.held_out["power"].upper).all()
    total = 2 * len(one.cuts)
    assert [c[:2] for c in calls[:total]] == [(k + 1, total) for k in range(total)]
    assert "power" in calls[0][2]


def test_the_baselines_do_not_move_the_law(tested):
    with_, without = (line_test(tested[0], baselines=b) for b in (("last-value",), ()))
    assert (with_.held_out["power"].upper == without.held_out["power"].upper).all()


def test_an_absolute_objective_on_a_line_is_solved_too(tested):
    """sum |r| of a law that is linear in its parameters has no curvature where no residual is small."""
    found = line_test(tested[0], objective=LogHuber(1e-6), cuts=[np.median(tested[0].C)], baselines=())
    assert np.isfinite(found.held_out["power"].upper).all()


def test_checkpoints_count_as_one_run():
    P = np.repeat(np.geomspace(5e7, 1e9, 4), 12)
    N = np.tile(np.geomspace(1e9, 1e11, 12), 4)
    runs = Runs.from_arrays(1.8 + 482 * P**-0.35 + 2085 * N**-0.37, P=P, N=N, run=np.repeat(list("abcd"), 12))
    with pytest.raises(ValueError, match=r"no cut leaves enough below it for 'chinchilla'.*4 runs below, 5 needed"):
        backtest(law("chinchilla"), runs, rng=np.random.default_rng(0))


def test_small_cuts_are_left_out_with_a_note(tested):
    runs, _ = tested
    small, large = np.sort(runs.C)[[4, 24]]
    found = line_test(runs, cuts=[small, large], baselines=())
    assert found.cuts == pytest.approx([large])
    assert any(f"cut C <= {small:.3g} left out: 5 rows below, 11 needed" in note for note in found.notes)


def test_weights_given_one_by_one_are_thinned_with_the_rows(tested):
    runs, _ = tested
    weights = np.where(runs.P < 1e8, 0.5, 1.0)
    table = Runs.from_arrays(runs.loss, P=runs.P, N=runs.N, C=runs.C, w=weights)
    cut = np.quantile(runs.C, 0.7)
    named, given = (
        line_test(table, cuts=[cut], baselines=(), objective=Weighted(LeastSquares(), w)) for w in ("w", weights)
    )
    assert (named.held_out["power"].predicted == given.held_out["power"].predicted).all()


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"by": "width"}, ValueError, r"by='width' is no column of the runs; choose one of"),
        ({"by": 3}, TypeError, r"by=3 must be the name of a column"),
        ({"level": 1.0}, ValueError, r"level=1.0 must lie below 1"),
        ({"level": 95}, ValueError, r"level=95 must lie below 1"),
        ({"cuts": [1e30]}, ValueError, r"cuts=\[1e\+30\] must have values below the largest C"),
        ({"cuts": [-1.0]}, ValueError, r"cuts must be positive"),
        ({"cuts": [1e10]}, ValueError, r"no cut leaves enough below it .* give more runs, larger cuts"),
        ({"baselines": ("mean",)}, ValueError, r"baselines='mean' is unknown: choose one of last-value"),
        ({"n_boot": 5}, ValueError, r"n_boot=5 must be at least 20"),
        ({"rng": 0}, TypeError, r"rng=0 must be a numpy Generator"),
    ],
)
def test_backtests_refuse_by_name(tested, options, error, match):
    with pytest.raises(error, match=match):
        line_test(tested[0], **options)


def test_backtests_need_a_law_and_runs(tested):
    with pytest.raises(TypeError, match=r"law='power' must be a law"):
        backtest("power", tested[0], rng=np.random.default_rng(0))
    with pytest.raises(TypeError, match=r"runs=3 must be Runs"):
        backtest(LINE, 3, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("columns", "error", "match"),
    [
        (3, TypeError, r"columns=3 must map names to values"),
        ({"P": 1e9}, ValueError, r"columns has no N, C; given: P"),
        ({"P": [1e9, 2e9], "N": [1.0, 2.0, 3.0]}, ValueError, r"columns have shapes that do not fit together"),
        ({"P": 1e9, "N": 1e10, "C": 0.0}, ValueError, r"C must be positive: distances"),
    ],
)
def test_intervals_refuse_by_name(columns, error, match):
    fit = law("chinchilla").fit(grid_table(noise=0.01), LeastSquares())
    with pytest.raises(error, match=match):
        calibrated_interval(fit, columns, rng=np.random.default_rng(0))


def test_an_interval_needs_a_fit_and_says_how_far_it_is():
    with pytest.raises(TypeError, match=r"fit=3 must be a Fit"):
        calibrated_interval(3, {"C": 1.0}, rng=np.random.default_rng(0))
    calls = []
    fit = LINE.fit(power_table(np.random.default_rng(1)), LeastSquares())
    calibrated_interval(fit, {"C": 1e23}, rng=np.random.default_rng(0), n_boot=20, progress=lambda *a: calls.append(a))
    assert [c[:2] for c in calls] == [(k + 1, 8) for k in range(8)]
    assert "inner back-test" in calls[0][2]
