"""limitlib.scaling.profiles and frontier: what the runs determine, and the split of a budget with its interval."""

import numpy as np
import pytest

from limitlib.scaling import ChinchillaLaw, LeastSquares, LogHuber, Runs, law, optimal_allocation
from limitlib.scaling.frontier import frontier

TRUE = {"E": 1.7, "A": 400.0, "B": 900.0, "alpha": 0.34, "beta": 0.31}
LAW = law("chinchilla")


def table(loss, run=None, **columns):
    return Runs.from_arrays(loss, run=run, **columns)


def design(rng, n=150, decades=2.5):
    P = 1e8 * 10 ** rng.uniform(-decades / 2, decades / 2, n)
    return {"P": P, "N": 20 * P * 10 ** rng.uniform(-0.8, 0.8, n)}


def noisy(rng, sd=0.005, n=150, true=TRUE, form=LAW, **more):
    columns = design(rng, n, **more)
    return table(form.predict(true, **columns) * np.exp(sd * rng.standard_normal(n)), **columns)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    rng, hits, count = np.random.default_rng(3), dict.fromkeys(TRUE, 0), 60
    for _ in range(count):
        found = LAW.fit(noisy(rng)).identify()
        for name, value in TRUE.items():
            hits[name] += found.profiles[name].lower <= value <= found.profiles[name].upper
    # .95 of 60 is 57; below 49 has a chance of 1e-4 at that rate
    assert min(hits.values()) >= 49


def test_standard_errors_see_the_copies_of_a_run():
    """Every row four times, as one run each: the same information, the same errors; as rows of their own, half of them."""
    rng = np.random.default_rng(4)
    one = noisy(rng, n=80)
    copied = {k: np.repeat(v, 4) for k, v in one.columns.items()}
    together = table(np.repeat(one.loss, 4), np.repeat(np.arange(80), 4), **copied)
    apart = table(np.repeat(one.loss, 4), np.arange(320), **copied)
    errors = [LAW.fit(t, LeastSquares()).identify().standard_errors["alpha"] for t in (one, together, apart)]
    assert errors[1] == pytest.approx(errors[0], rel=1e-6)
    assert errors[2] < 0.6 * errors[0]


def test_profiles_lie_above_the_fit_and_rise_outwards():
    found = LAW.fit(noisy(np.random.default_rng(5))).identify()
    for profile in found.profiles.values():
        assert profile.shape == "bounded" and profile.lower < profile.estimate < profile.upper
        assert (profile.rise >= 0).all()
        left, right = profile.rise[profile.values < profile.estimate], profile.rise[profile.values > profile.estimate]
        assert (np.diff(left) <= 1e-9).all() and (np.diff(right) >= -1e-9).all()


@pytest.mark.parametrize("seed", [2, 6, 8])
def test_a_profile_point_left_on_its_way_is_no_end_of_an_interval(seed):
    """Few runs of many rows and hardly a floor: far steps along the valley stop early, high up, between lower neighbours."""
    rng = np.random.default_rng(seed)
    P, K = np.repeat(np.geomspace(2e7, 1e9, 8), 12), np.tile(np.linspace(1e4, 2.5e5, 12), 8)
    noise = np.repeat(0.015 * rng.standard_normal(8), 12) + 0.002 * rng.standard_normal(96)
    runs = table((0.3 + 15 * P**-0.13 + 4 * K**-0.18) * np.exp(noise), np.repeat(np.arange(8), 12), P=P, K=K)
    found = law("additive", variables=("P", "K")).fit(runs).identify()
    for p in found.profiles.values():
        at = int(np.argmin(p.rise))
        assert (np.diff(p.rise[at:]) >= -1e-6 * p.threshold).all() and (np.diff(p.rise[: at + 1]) <= 1e-6 * p.threshold).all()
    if seed != 2:  # a floor of 0 is within the threshold, so nothing bounds it from below
        assert found.profiles["E"].shape == "one-sided" and found.profiles["E"].lower == 0


def test_the_pivot_is_where_the_term_is_known_best():
    fit = LAW.fit(noisy(np.random.default_rng(6)))
    found, boot = fit.identify(), fit.boot(600, rng=np.random.default_rng(0))
    pivot = next(p for p in found.pivots if p.amplitude == "A")
    sizes = np.geomspace(1e6, 1e10, 81)
    spread = np.std(np.log(boot.parameters["A"])[:, None] - boot.parameters["alpha"][:, None] * np.log(sizes), axis=0)
    assert abs(np.log(sizes[np.argmin(spread)] / pivot.at)) < 1.0
    assert spread.min() == pytest.approx(pivot.term_error, rel=0.35)
    assert any("tied" in w for w in found.words())


def test_a_combination_that_nothing_determines_is_named():
    """N proportional to P: only the sum of the two terms is seen, and with equal exponents only A + B c."""
    rng = np.random.default_rng(7)
    P = 10 ** rng.uniform(7, 10, 60)
    form = law("over-training")
    runs = table(1.7 + 500 * P**-0.3, P=P, N=20 * P)
    found = form.fit(runs, LeastSquares()).identify()
    assert len(found.flat) == 1 and "ln A" in found.flat[0] and "ln B" in found.flat[0]
    assert not form.fit(noisy(rng, true={"E": 1.7, "A": 400.0, "B": 900.0, "eta": 0.3}, form=form)).identify().flat


def test_an_irreducible_loss_that_the_runs_do_not_show_is_at_the_boundary_or_one_sided():
    rng = np.random.default_rng(8)
    runs = noisy(rng, true={**TRUE, "E": 0.0})
    found = LAW.fit(runs).identify()
    assert found.profiles["E"].shape in ("one-sided", "at the boundary", "flat")
    assert found.profiles["E"].shape != "bounded"


@pytest.mark.parametrize("objective", [LogHuber(1e-3), LeastSquares(), LeastSquares("raw")])
def test_the_frontier_of_exact_data_is_theorem_t9_1(objective):
    columns = design(np.random.default_rng(9))
    fit = LAW.fit(table(LAW.predict(TRUE, **columns), **columns), objective)
    budgets = np.array([1e18, 1e21, 1e24])
    found, truth = fit.frontier(budgets), optimal_allocation(ChinchillaLaw(**TRUE), budgets)
    assert found.method == "closed form"
    np.testing.assert_allclose(found.P, truth.n_params, rtol=1e-8)
    np.testing.assert_allclose(found.N, truth.n_tokens, rtol=1e-8)
    np.testing.assert_allclose(found.loss, truth.loss, rtol=1e-10)
    np.testing.assert_allclose(6 * found.P * found.N, budgets, rtol=1e-12)
    searched = frontier(fit, budgets, numeric=True)
    np.testing.assert_allclose(searched.P, truth.n_params, rtol=1e-4)
    np.testing.assert_allclose(searched.exponent, found.exponent, atol=1e-3)


def test_a_law_without_closed_form_is_searched():
    form = law("kaplan")
    true = {"P_c": 6.4e13, "N_c": 1.8e13, "alpha_P": 0.076, "alpha_N": 0.103}
    columns = design(np.random.default_rng(10))
    found = form.fit(table(form.predict(true, **columns), **columns)).frontier([1e20, 1e22])
    assert found.method == "numeric"
    around = np.exp(np.array([-0.05, 0.0, 0.05]))
    for P, N, loss in zip(found.P, found.N, found.loss, strict=True):
        near = form.predict(true, P=P * around, N=N / around)
        assert near[1] <= near[0] and near[1] <= near[2] and loss == pytest.approx(near[1], rel=1e-6)


def test_intervals_of_the_frontier_hold_the_truth_and_widen_with_the_budget():
    rng, hits, count = np.random.default_rng(11), 0, 40
    truth = optimal_allocation(ChinchillaLaw(**TRUE), 1e22).n_params
    for _ in range(count):
        fit = LAW.fit(noisy(rng))
        found = fit.frontier([1e20, 1e22, 1e24], fit.boot(300, rng=rng))
        low, high = found.P_interval
        hits += low[1] <= truth <= high[1]
        assert (np.diff(np.log(high / low)) > 0).all()
        assert found.beyond[2] == pytest.approx(1e24 / np.max(6 * fit.runs.columns["P"] * fit.runs.columns["N"]))
    assert hits >= 31  # .95 of 40 is 38; fewer than 31 has a chance of 1e-4 at that rate


def test_what_cannot_be_asked_is_refused():
    rng = np.random.default_rng(12)
    fit = LAW.fit(noisy(rng))
    with pytest.raises(ValueError, match=r"level=1\.5 must lie below 1"):
        fit.identify(level=1.5)
    with pytest.raises(ValueError, match=r"C must be positive"):
        fit.frontier([1e20, -1.0])
    steps = law("additive", variables=("P", "N", "K"))
    columns = {**design(rng), "K": 10 ** rng.uniform(3, 5, 150)}
    true = {"E": 1.5, "A_P": 400.0, "A_N": 900.0, "A_K": 20.0, "a_P": 0.34, "a_N": 0.3, "a_K": 0.4}
    with pytest.raises(ValueError, match=r"needs a law in P and N alone"):
        steps.fit(table(steps.predict(true, **columns), **columns)).frontier(1e20)
