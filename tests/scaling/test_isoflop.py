"""Approaches 1 and 2: exact recovery where theory promises it, the bias where it does not, and intervals against simulation."""

import types

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize_scalar

from limitlib.scaling import (
    BESIROGLU,
    HOFFMANN_ROUNDED,
    ChinchillaLaw,
    allocation_constants,
    approach_1,
    approach_1_bias,
    approach_2,
    approach_2_bias,
    lower_hull,
    numeric_allocation,
    optimal_allocation,
    vertex_bias,
    vertex_bias_leading,
    wasted_compute,
)
from limitlib.scaling.isoflop import PROBLEMS

SYMMETRIC = ChinchillaLaw(1.7, 420.0, 900.0, 0.34, 0.34)
LOPSIDED = ChinchillaLaw(1.7, 900.0, 60.0, 0.465, 0.155)
BUDGETS = np.geomspace(1e18, 1e22, 5)


def profiles(law, budgets=BUDGETS, half_width=0.6, offset=0.0, points=7):
    """Exact isoFLOP profiles: grids of ``points`` sizes of the given half width and offset (decades) about the optimum."""
    budgets = np.asarray(budgets, dtype=float)
    steps = np.linspace(-1.0, 1.0, points) * np.broadcast_to(half_width, budgets.shape)[:, None]
    best = np.asarray(optimal_allocation(law, budgets).n_params)
    P = best[:, None] * 10.0 ** (steps + np.broadcast_to(offset, budgets.shape)[:, None])
    C = np.repeat(budgets, points)
    P = P.ravel()
    return {"C": C, "P": P, "N": C / (6 * P), "loss": law.loss(P, C / (6 * P)), "run": np.arange(P.size)}


def curves(law, sizes, flops, checkpoints=400):
    """Training curves that follow the law all the way: every size at every budget of one grid."""
    C, P = (v.ravel() for v in np.meshgrid(np.geomspace(*flops, checkpoints), sizes))
    run = np.repeat(np.arange(len(sizes)), checkpoints)
    return {"C": C, "P": P, "N": C / (6 * P), "loss": law.loss(P, C / (6 * P)), "run": run}


# ---------------------------------------------------------------- approach 2 without noise


@pytest.mark.parametrize("half_width", [0.3, 1.0])
@pytest.mark.parametrize("points", [3, 8])
def test_a_symmetric_law_on_centred_grids_is_recovered_exactly(half_width, points):
    fit = approach_2(profiles(SYMMETRIC, half_width=half_width, points=points))
    true = optimal_allocation(SYMMETRIC, BUDGETS)
    assert fit.a == pytest.approx(0.5, abs=1e-10)
    assert fit.b == pytest.approx(0.5, abs=1e-10)
    np.testing.assert_allclose(fit.table.n_params, true.n_params, rtol=1e-10)
    np.testing.assert_allclose(fit.table.n_tokens, true.n_tokens, rtol=1e-10)
    np.testing.assert_allclose(fit.params.predict([1e25]), optimal_allocation(SYMMETRIC, [1e25]).n_params, rtol=1e-8)
    assert fit.table.problem == ("",) * 5
    assert fit.kind == fit.params.kind == "estimate"


@pytest.mark.parametrize("law", [BESIROGLU, LOPSIDED])
@pytest.mark.parametrize("offset", [0.0, 0.25])
def test_the_estimator_on_exact_losses_has_exactly_the_computed_bias(law, offset):
    drift = offset * np.arange(5)
    fit = approach_2(profiles(law, offset=drift / 2 - offset, points=9))
    bias = approach_2_bias(law, budgets=BUDGETS, half_width_decades=0.6, centre_offset=drift / 2 - offset, points=9)
    np.testing.assert_allclose(np.log(fit.table.n_params / optimal_allocation(law, BUDGETS).n_params), bias.ln_bias, atol=2e-9)
    assert fit.a == pytest.approx(bias.a_fitted, abs=1e-9)
    assert fit.b == pytest.approx(bias.b_fitted, abs=1e-9)
    later = bias.extrapolate([1e24, 1e26])
    np.testing.assert_allclose(fit.params.predict([1e24, 1e26]), later.n_params, rtol=1e-7)
    np.testing.assert_allclose(fit.tokens.predict([1e24, 1e26]), later.n_tokens, rtol=1e-7)


def test_the_curvature_at_the_minimum_is_that_of_the_law():
    fit = approach_2(profiles(SYMMETRIC, half_width=0.01))
    best = optimal_allocation(SYMMETRIC, BUDGETS)
    expected = SYMMETRIC.alpha**2 * (np.asarray(best.loss) - SYMMETRIC.E)
    np.testing.assert_allclose(fit.table.curvature, expected, rtol=1e-3)
    np.testing.assert_allclose(fit.table.loss, best.loss, rtol=1e-7)


def test_a_higher_degree_shrinks_the_bias():
    law = LOPSIDED
    exact = allocation_constants(law)
    errors = []
    for degree in (2, 3, 4):
        fit = approach_2(profiles(law, points=11), degree=degree)
        errors.append(abs(np.log(fit.params.predict(1e20) / (exact.G * (1e20 / 6) ** exact.a))))
    # On a centred grid degrees 3 and 4 have errors of the same order, width^4: the even term moves no minimum.
    assert max(errors[1:]) < errors[0] / 5


# ---------------------------------------------------------------- the bias itself


def test_vertex_bias_agrees_with_a_fitted_parabola():
    rng = np.random.default_rng(5)
    for _ in range(20):
        al, be = rng.uniform(0.1, 0.8, 2)
        h, c, n = rng.uniform(0.2, 3.0), rng.uniform(-1.0, 1.0), int(rng.integers(3, 12))
        s = np.linspace(-h, h, n)
        f = np.exp(-al * (c + s)) / al + np.exp(be * (c + s)) / be
        c2, c1, _ = np.polyfit(s, f, 2)
        assert vertex_bias(al, be, h, c, points=n) == pytest.approx(c - c1 / (2 * c2), abs=1e-9)


@pytest.mark.parametrize("points, constant", [(3, 1 / 6), (5, 68 / 480), (100_001, 1 / 10)])
def test_the_leading_order_is_the_asymmetry_times_the_width_squared_over_ten(points, constant):
    al, be, h = 0.45, 0.25, 1e-2
    assert vertex_bias(al, be, h, points=points) == pytest.approx((al - be) * h**2 * constant, rel=1e-4)
    assert vertex_bias_leading(al, be, h, points=points) == pytest.approx((al - be) * h**2 * constant, rel=1e-4)
    assert constant == pytest.approx((3 * points**2 - 7) / (30 * (points - 1) ** 2), rel=1e-4)


@pytest.mark.parametrize("points", [3, 4, 9])
def test_the_expansion_is_right_to_third_order(points):
    al, be = 0.5, 0.2
    scale = np.array([0.4, 0.2, 0.1])
    error = np.abs(
        vertex_bias(al, be, scale, 0.8 * scale, points=points) - vertex_bias_leading(al, be, scale, 0.8 * scale, points=points)
    )
    order = np.diff(np.log(error)) / np.diff(np.log(scale))
    assert np.all(order > 3.7)


def test_an_off_centre_grid_biases_even_a_symmetric_law():
    c, h = 0.3, 0.6
    exact = vertex_bias(0.34, 0.34, h, c, points=5001)
    assert exact == pytest.approx(0.34**2 * c * (c**2 / 3 - h**2 / 35), rel=0.02)
    assert abs(vertex_bias(0.34, 0.34, h, 0.0)) == 0.0


def test_where_the_exponent_is_unbiased_and_where_not():
    args = {"budgets": BUDGETS, "half_width_decades": 1.0}
    assert approach_2_bias(SYMMETRIC, **args).ln_bias == pytest.approx(np.zeros(5), abs=1e-15)
    centred = approach_2_bias(LOPSIDED, **args)
    assert np.all(centred.ln_bias > 0.1)  # alpha > beta: models too large
    assert centred.a_bias == pytest.approx(0.0, abs=1e-14)
    constant = approach_2_bias(LOPSIDED, centre_offset=0.4, **args)
    assert constant.a_bias == pytest.approx(0.0, abs=1e-14)
    assert constant.ln_prefactor_bias == pytest.approx(constant.ln_bias[0], rel=1e-12)
    drifting = approach_2_bias(SYMMETRIC, centre_offset=np.linspace(0.0, 0.9, 5), **args)
    assert drifting.a_bias > 1e-3
    widening = approach_2_bias(LOPSIDED, budgets=BUDGETS, half_width_decades=np.linspace(0.4, 1.0, 5))
    assert widening.a_bias > 1e-3
    # A symmetric law does not mind widths that differ.
    assert approach_2_bias(SYMMETRIC, budgets=BUDGETS, half_width_decades=np.linspace(0.4, 1.0, 5)).a_bias == 0.0


def test_a_wide_grid_is_worse_than_a_narrow_one():
    biases = [approach_2_bias(LOPSIDED, budgets=BUDGETS, half_width_decades=w) for w in (0.3, 0.6, 1.2)]
    waste = [bias.extrapolate(1e24).wasted_share[0] for bias in biases]
    assert 0 < waste[0] < waste[1] / 10 < waste[2] / 100


def test_budgets_whose_vertex_leaves_the_grid_are_left_out_of_the_line_by_both():
    offset = np.array([0.0, 0.0, 0.0, 0.0, 2.5])
    bias = approach_2_bias(LOPSIDED, budgets=BUDGETS, half_width_decades=0.2, centre_offset=offset, points=7)
    assert bias.inside.tolist() == [True] * 4 + [False]
    assert any("edge" in note for note in bias.notes)
    fit = approach_2(profiles(LOPSIDED, half_width=0.2, offset=offset))
    assert fit.table.problem == ("", "", "", "", "minimum at the edge")
    assert fit.a == pytest.approx(bias.a_fitted, abs=1e-8)
    assert bias.kind == "exact"


def test_wasted_compute_against_a_search_for_the_cheaper_run():
    for law in (BESIROGLU, LOPSIDED):
        C = 1e22
        for ratio in (0.3, 1.0, 2.5):
            P = ratio * optimal_allocation(law, C).n_params
            loss = law.loss(P, C / (6 * P))
            found = minimize_scalar(
                lambda x, law=law, loss=loss: (numeric_allocation(law, 10**x).loss - loss) ** 2,
                bounds=(21.0, 22.001),
                method="bounded",
                options={"xatol": 1e-10},
            )
            assert wasted_compute(law, P, C / (6 * P)) == pytest.approx(1 - 10**found.x / C, abs=2e-5)
    best = optimal_allocation(BESIROGLU, 1e23)
    t = 1e-4
    small = wasted_compute(BESIROGLU, best.n_params * np.exp(t), best.n_tokens * np.exp(-t))
    assert small == pytest.approx((BESIROGLU.alpha + BESIROGLU.beta) * t**2 / 2, rel=1e-3)


def test_the_published_waste_on_llama_3_is_not_the_parabola_alone():
    """Constants of Czech et al.'s repository (Llama 3, both approaches); 6.5 % of 3.8e25 FLOPs stands in arXiv 2603.22339."""
    surface = ChinchillaLaw(0.6048, 59.14, 156.22, 0.310, 0.314)
    C = 3.8e25
    tokens = 10**-0.5238 * C**0.5368
    assert wasted_compute(surface, C / (6 * tokens), tokens) == pytest.approx(0.065, abs=1e-3)
    # Centred grids of two decades on that nearly symmetric surface waste almost nothing: the shape of the profile is not it.
    parabola = approach_2_bias(surface, budgets=np.geomspace(6e18, 1e22, 10), half_width_decades=1.0).extrapolate(C)
    assert parabola.wasted_share[0] < 1e-5


# ---------------------------------------------------------------- approach 2 with noise


def test_the_propagated_interval_covers_and_its_error_is_the_spread():
    rng = np.random.default_rng(20)
    base = profiles(SYMMETRIC)
    inside, slopes, errors = 0, [], []
    for _ in range(200):
        fit = approach_2({**base, "loss": base["loss"] + rng.normal(0.0, 2e-3, base["loss"].size)})
        low, high = fit.params.exponent_interval
        inside += low <= 0.5 <= high
        slopes.append(fit.a)
        errors.append(fit.params.exponent_se)
    assert stats.binomtest(inside, 200, 0.95).pvalue > 0.01
    assert np.mean(errors) == pytest.approx(np.std(slopes, ddof=1), rel=0.15)
    assert np.mean(slopes) == pytest.approx(0.5, abs=4 * np.std(slopes) / np.sqrt(200))


def test_the_interval_of_a_biased_design_misses_the_truth():
    """Negative control: the interval holds the noise only; a drifting grid moves the estimate out of it."""
    rng = np.random.default_rng(21)
    base = profiles(SYMMETRIC, half_width=0.8, offset=np.linspace(0.0, 1.0, 5))
    inside = 0
    for _ in range(50):
        fit = approach_2({**base, "loss": base["loss"] + rng.normal(0.0, 1e-4, base["loss"].size)})
        low, high = fit.params.exponent_interval
        inside += low <= 0.5 <= high
    assert inside == 0


def test_pooled_and_separate_noise_weights_and_the_bootstrap_agree_roughly():
    rng = np.random.default_rng(22)
    base = profiles(SYMMETRIC, points=25)
    base["loss"] = base["loss"] + rng.normal(0.0, 2e-3, base["loss"].size)
    pooled = approach_2(base)
    each = approach_2(base, noise="each")
    weighted = approach_2(base, weights=np.full(base["loss"].size, 250.0))
    booted = approach_2(base, boot=800, rng=np.random.default_rng(0))
    assert each.a == pooled.a == booted.a
    assert weighted.a == pytest.approx(pooled.a, rel=1e-12)
    assert weighted.params.exponent_se == pytest.approx(pooled.params.exponent_se, rel=1e-9)
    assert each.params.exponent_se == pytest.approx(pooled.params.exponent_se, rel=0.3)
    assert booted.params.exponent_se == pytest.approx(pooled.params.exponent_se, rel=0.3)
    assert np.ravel(booted.params.exponent_interval) == pytest.approx(pooled.params.exponent_interval, abs=0.01)
    again = approach_2(base, boot=800, rng=np.random.default_rng(0))
    assert again.params.exponent_interval == booted.params.exponent_interval
    for fit in (pooled, booted):
        low, high = fit.params.interval([1e19, 1e24])
        middle = fit.params.predict([1e19, 1e24])
        assert np.all(low < middle) and np.all(middle < high)
        assert np.log(high / low)[1] > np.log(high / low)[0]


def test_weights_take_a_bad_run_out():
    base = profiles(SYMMETRIC, points=9)
    loss, weight = base["loss"].copy(), np.ones(base["loss"].size)
    loss[10] += 0.3
    weight[10] = 1e-9
    without = approach_2({k: np.delete(v, 10) for k, v in base.items()}).a
    assert abs(approach_2({**base, "loss": loss}).a - without) > 1e-3
    assert approach_2({**base, "loss": loss}, weights=weight).a == pytest.approx(without, abs=1e-7)
    assert without != pytest.approx(0.5, abs=1e-6)  # the grid is no longer symmetric about the optimum


def test_tokens_follow_the_column_and_not_six_p_n():
    base = profiles(SYMMETRIC)
    base["C"] = 1.3 * base["C"]  # another count of FLOPs for the same runs
    np.testing.assert_allclose(approach_2(base).table.n_tokens, optimal_allocation(SYMMETRIC, BUDGETS).n_tokens, rtol=1e-10)


def test_runs_that_appear_at_two_budgets_are_resampled_whole():
    base = profiles(SYMMETRIC, points=9)
    base["loss"] = base["loss"] + np.random.default_rng(3).normal(0.0, 1e-3, base["loss"].size)
    base["run"] = np.tile(np.arange(9), 5)
    for degree in (2, 3):
        fit = approach_2(base, degree=degree, boot=200, rng=np.random.default_rng(1))
        assert fit.params.draws.shape[1:] == (2,)
        low, high = fit.params.exponent_interval
        assert low < fit.a < high
    assert not any("several rows" in note for note in fit.notes)
    assert any("several rows" in note for note in approach_2({**base, "run": np.arange(45) // 2}).notes)


def test_a_window_uses_only_the_rows_near_the_least_loss():
    base = profiles(LOPSIDED, half_width=1.2, points=25)
    narrow, wide = approach_2(base, window=0.41), approach_2(base)
    assert narrow.table.points.max() < wide.table.points.min() == 25
    exact = np.asarray(optimal_allocation(LOPSIDED, BUDGETS).n_params)
    assert np.abs(np.log(narrow.table.n_params / exact)).max() < np.abs(np.log(wide.table.n_params / exact)).min() / 5


def test_scatter_beyond_the_noise_of_the_profiles_is_said():
    base = profiles(SYMMETRIC, half_width=0.6, offset=np.array([0.2, -0.2, 0.2, -0.2, 0.2]))
    base["P"] = base["P"] * np.repeat([1.3, 0.8, 1.2, 0.7, 1.4], 7)  # a miscounted size at each budget
    rng = np.random.default_rng(4)
    base["loss"] = base["loss"] + rng.normal(0.0, 1e-4, base["loss"].size)
    fit = approach_2(base)
    assert any("scatter" in note for note in fit.notes)
    assert fit.params.scatter_se > 5 * fit.params.exponent_se


# ---------------------------------------------------------------- named problems


def test_problems_are_named_and_left_out():
    base = profiles(SYMMETRIC)
    loss = base["loss"].copy()
    loss[7:14] = 5.0 - np.linspace(-1, 1, 7) ** 2  # a hill
    loss[14:21] = np.linspace(3.0, 2.9, 7) + 1e-3 * np.linspace(-1, 1, 7) ** 2  # falls all the way
    keep = np.ones(loss.size, dtype=bool)
    keep[23:28] = False  # two sizes left
    fit = approach_2({k: v[keep] for k, v in {**base, "loss": loss}.items()})
    assert fit.table.problem == ("", "not convex", "minimum at the edge", "too few sizes", "")
    assert set(fit.table.problem) <= set(PROBLEMS)
    for problem in PROBLEMS[1:]:
        assert any(problem in note for note in fit.notes)
    assert np.isnan(fit.table.n_params[1:4]).all() and np.isnan(fit.table.ln_params_se[1:4]).all()
    assert np.isfinite(fit.table.n_params[[0, 4]]).all()
    assert fit.a == pytest.approx(0.5, abs=1e-10)


def test_fewer_than_two_usable_budgets_is_an_error_that_names_the_problems():
    base = profiles(SYMMETRIC, budgets=[1e18, 1e20], offset=[0.0, 2.0], half_width=0.3)
    with pytest.raises(ValueError, match=r"inner minimum \(1e\+18: usable; 1e\+20: minimum at the edge\)"):
        approach_2(base)


def test_profiles_without_spare_points_have_no_standard_error():
    fit = approach_2(profiles(SYMMETRIC, points=3))
    assert np.isnan(fit.params.exponent_se)
    assert np.isnan(fit.params.exponent_interval).all()
    assert any("no standard error" in note for note in fit.notes)


def test_budgets_given_or_found():
    base = profiles(BESIROGLU)
    base["C"] = base["C"] * np.exp(np.random.default_rng(2).uniform(-0.01, 0.01, base["C"].size))
    found = approach_2(base)
    given = approach_2(base, budgets=BUDGETS[::-1])
    np.testing.assert_allclose(given.table.budget, BUDGETS)
    np.testing.assert_allclose(found.table.budget, BUDGETS, rtol=0.01)
    np.testing.assert_allclose(found.table.n_params, given.table.n_params)
    some = approach_2(base, budgets=BUDGETS[:3])
    assert any("14 rows lie at no budget" in note for note in some.notes)
    assert not any("off their budget" in note for note in approach_2(profiles(BESIROGLU)).notes)


def test_a_table_of_runs_and_missing_columns():
    base = profiles(BESIROGLU)
    columns = {k: base[k] for k in ("P", "N")}
    table = types.SimpleNamespace(columns=columns, loss=base["loss"], run=base["run"])
    whole = approach_2(base)
    assert approach_2(table).a == pytest.approx(whole.a, abs=1e-10)
    assert "C = 6 P N" in approach_2(table).notes
    assert "N = C / (6 P)" in approach_2({k: base[k] for k in ("C", "P", "loss")}).notes
    seen = {"P": base["P"], "K": base["N"], "loss": base["loss"]}
    assert approach_2(seen, tokens="K").a == pytest.approx(whole.a, abs=1e-10)
    with pytest.raises(ValueError, match="say tokens='K'"):
        approach_2(seen)
    with pytest.raises(ValueError, match="no column of runs"):
        approach_2(seen, tokens="T")
    table.annealed = np.zeros(base["loss"].size)
    assert any("35 of 35 rows are unannealed" in note for note in approach_1(table, envelope="hull").notes)


# ---------------------------------------------------------------- approach 1


@pytest.mark.parametrize("law", [SYMMETRIC, BESIROGLU, LOPSIDED])
@pytest.mark.parametrize("steps", [2, 5, 20])
def test_geometric_sizes_shrink_the_exponent_by_one_over_the_steps_squared(law, steps):
    bias = approach_1_bias(law, n_params=1e7 * 1.7 ** np.arange(steps + 2))
    assert bias.a_fitted == pytest.approx(bias.a * (1 - 1 / steps**2), rel=1e-9)
    assert bias.b_fitted == pytest.approx(1 - bias.a_fitted, rel=1e-12)
    assert bias.edge_share == 0.0
    gaps = np.diff(np.log(bias.crossings))
    np.testing.assert_allclose(gaps, np.log(1.7) / bias.a, rtol=1e-9)


def test_crossings_are_where_neighbours_have_equal_loss():
    sizes = np.array([1e7, 3e7, 4e7, 2e8, 9e8])
    bias = approach_1_bias(LOPSIDED, n_params=sizes[::-1])
    for low, high, C in zip(sizes, sizes[1:], bias.crossings, strict=False):
        assert LOPSIDED.loss(low, C / (6 * low)) == pytest.approx(LOPSIDED.loss(high, C / (6 * high)), rel=1e-12)
        assert low < optimal_allocation(LOPSIDED, C).n_params < high


@pytest.mark.parametrize("law", [BESIROGLU, LOPSIDED])
@pytest.mark.parametrize("factor", [1.0, 30.0])
def test_the_estimator_on_exact_curves_has_the_computed_bias(law, factor):
    sizes = 1e7 * 2.0 ** np.arange(8)
    inner = approach_1_bias(law, n_params=sizes)
    flops = (inner.flops[0] / factor, inner.flops[1] * factor)
    bias = approach_1_bias(law, n_params=sizes, flops=flops)
    fit = approach_1(curves(law, sizes, flops), budgets=20_000)
    assert fit.a == pytest.approx(bias.a_fitted, abs=2e-4)
    assert fit.b == pytest.approx(bias.b_fitted, abs=2e-4)
    ratio = fit.params.predict(1e24) / optimal_allocation(law, 1e24).n_params
    assert ratio == pytest.approx(bias.extrapolate(1e24).params_ratio[0], rel=2e-3)
    if factor > 1:
        assert bias.edge_share > 0.1
        assert bias.a_fitted < inner.a_fitted  # the ends cannot move on
        assert any("may lie beyond" in note for note in fit.notes)


def test_many_sizes_recover_the_exponent():
    bias = approach_1_bias(BESIROGLU, n_params=np.geomspace(1e7, 1e10, 400))
    assert bias.a_fitted == pytest.approx(bias.a, rel=1e-4)
    assert bias.extrapolate(1e24).wasted_share[0] < 1e-4
    assert HOFFMANN_ROUNDED.alpha > HOFFMANN_ROUNDED.beta  # an asymmetric law is no harder for approach 1
    assert approach_1_bias(HOFFMANN_ROUNDED, n_params=np.geomspace(1e7, 1e10, 400)).a_bias == pytest.approx(0.0, abs=1e-4)


def test_the_hull_against_the_envelope_and_by_definition():
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=200), rng.normal(size=200)
    hull = lower_hull(x, y)
    assert x[hull[0]] == x.min() and y[hull[-1]] == y.min()
    line = np.interp(x, x[hull], y[hull])
    inside = x <= x[hull[-1]]
    assert np.all(y[inside] >= line[inside] - 1e-12)
    slopes = np.diff(y[hull]) / np.diff(x[hull])
    assert np.all(np.diff(slopes) > 0) and np.all(slopes < 0)
    assert lower_hull([1.0, 1.0, 1.0], [3.0, 1.0, 2.0]).tolist() == [1]

    sizes = 1e7 * 2.0 ** np.arange(12)
    data = curves(SYMMETRIC, sizes, approach_1_bias(SYMMETRIC, n_params=sizes).flops)
    fit = approach_1(data, envelope="hull")
    assert fit.method == "approach 1, hull"
    assert fit.a == pytest.approx(0.5, abs=0.02)
    assert np.all(np.isin(fit.table.n_params, sizes))


def test_thinning_the_checkpoints_moves_the_hull_but_hardly_the_envelope():
    sizes = 1e7 * 2.0 ** np.arange(12)
    flops = approach_1_bias(LOPSIDED, n_params=sizes).flops
    fine, thin = curves(LOPSIDED, sizes, flops, 2000), curves(LOPSIDED, sizes, flops, 40)
    a = {(e, k): approach_1(d, envelope=e).a for e in ("curves", "hull") for k, d in (("fine", fine), ("thin", thin))}
    assert abs(a["curves", "fine"] - a["curves", "thin"]) < 2e-3
    assert abs(a["hull", "fine"] - a["hull", "thin"]) > abs(a["curves", "fine"] - a["curves", "thin"])


def test_approach_1_says_what_it_does_not_know():
    sizes = 1e7 * 2.0 ** np.arange(6)
    data = curves(BESIROGLU, sizes, (1e18, 1e20), 50)
    fit = approach_1(data)
    assert np.isnan(fit.params.exponent_interval).all() and np.isnan(fit.params.scatter_se)
    assert fit.interval_by.startswith("none")
    assert any("unannealed" in note for note in fit.notes)
    annealed = np.arange(data["C"].size) % 50 == 49
    assert any("294 of 300 rows are unannealed" in note for note in approach_1({**data, "annealed": annealed}).notes)
    assert not any("unannealed" in note for note in approach_1({**data, "annealed": np.ones(300, dtype=bool)}).notes)
    booted = approach_1(data, boot=50, rng=np.random.default_rng(0))
    low, high = booted.params.exponent_interval
    assert low < high and booted.a == fit.a
    assert approach_1(data, boot=50, rng=np.random.default_rng(0)).params.exponent_interval == (low, high)
    hulls = approach_1(data, envelope="hull", boot=20, rng=np.random.default_rng(0))
    assert any(f"{len(hulls.params.draws)} of 20 resamples usable" in note for note in hulls.notes)


# ---------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"runs": 3}, TypeError, "mapping of arrays"),
        ({"runs": {"P": [1.0], "loss": [1.0]}}, ValueError, "P and one of C, N are needed"),
        ({"loss": -1.0}, ValueError, "loss must be positive"),
        ({"loss": np.nan}, ValueError, "loss must not be NaN"),
        ({"loss": np.inf}, ValueError, "must be finite"),
        ({"short": True}, ValueError, "differ in length"),
        ({"degree": 1}, ValueError, "at least 2"),
        ({"degree": 5}, ValueError, "at most 4"),
        ({"noise": "some"}, ValueError, "choose one of"),
        ({"tolerance": -0.1}, ValueError, "at least 0"),
        ({"window": 0.0}, ValueError, "must be positive"),
        ({"weights": [1.0]}, ValueError, "one a row"),
        ({"confidence": 1.0}, ValueError, "below 1"),
        ({"budgets": [0.0]}, ValueError, "budgets must be positive"),
        ({"boot": 10}, TypeError, "must be a numpy Generator"),
        ({"boot": 1, "rng": np.random.default_rng(0)}, ValueError, "at least 2"),
    ],
)
def test_approach_2_refuses_bad_arguments(change, error, message):
    change = dict(change)
    base = profiles(SYMMETRIC)
    if "loss" in change:
        base["loss"] = np.r_[change.pop("loss"), base["loss"][1:]]
    if change.pop("short", False):
        base["P"] = base["P"][1:]
    with pytest.raises(error, match=message):
        approach_2(change.pop("runs", base), **change)


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"envelope": "mean"}, ValueError, "choose one of"),
        ({"budgets": 2}, ValueError, "at least 3"),
        ({"flops": (1e20, 1e18)}, ValueError, "increasing pair"),
        ({"flops": (1e10, 1e19)}, ValueError, "what the curves cover"),
        ({"boot": 10}, TypeError, "must be a numpy Generator"),
        ({"confidence": 0.0}, ValueError, "must be positive"),
        ({"one": True}, ValueError, "one checkpoint only"),
        ({"mixed": True}, ValueError, "several sizes"),
        ({"small": True}, ValueError, "one size wins at all budgets"),
    ],
)
def test_approach_1_refuses_bad_arguments(change, error, message):
    change = dict(change)
    data = curves(BESIROGLU, 1e7 * 2.0 ** np.arange(6), (1e18, 1e20), 30)
    if change.pop("one", False):
        data["run"] = np.arange(180)
    if change.pop("mixed", False):
        data["run"] = np.arange(180) // 60
    if change.pop("small", False):
        data = curves(BESIROGLU, [1e7, 2e7], (1e21, 1e22), 30)
    with pytest.raises(error, match=message):
        approach_1(data, **change)


def test_the_biases_refuse_bad_arguments():
    good = {"budgets": BUDGETS, "half_width_decades": 0.5}
    for change, message in [
        ({"budgets": [1e18]}, "at least two different"),
        ({"budgets": [-1.0, 1.0]}, "budgets must be positive"),
        ({"half_width_decades": 0.0}, "half_width_decades must be positive"),
        ({"half_width_decades": [0.1, 0.2]}, "one for each of the 5"),
        ({"centre_offset": np.inf}, "centre_offset"),
        ({"centre_offset": 5.0}, "fewer than two budgets"),
        ({"points": 2}, "at least 3"),
    ]:
        with pytest.raises(ValueError, match=message):
            approach_2_bias(BESIROGLU, **{**good, **change})
    with pytest.raises(ValueError, match="at least 3"):
        approach_1_bias(BESIROGLU, n_params=[1e7, 2e7, 2e7])
    with pytest.raises(ValueError, match="increasing pair"):
        approach_1_bias(BESIROGLU, n_params=[1e7, 2e7, 4e7], flops=(1e20, 1e19))
    with pytest.raises(ValueError, match="n_params must be positive"):
        wasted_compute(BESIROGLU, 0.0, 1.0)
    with pytest.raises(ValueError, match="equally many"):
        lower_hull([1.0, 2.0], [1.0])
