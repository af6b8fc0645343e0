"""The solvable model against sums in forty digits, its asymptotics, and the edges of its parameters."""

import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from limitlib.performance import PowerLawModel, variance_constant


def slow(model, N, P, K):
    """E(N, P, K) term by term in forty digits."""
    with mp.workdps(40):
        a, b, eta = mp.mpf(model.a), mp.mpf(model.b), mp.mpf(model.eta)
        rates = [1 - eta * mp.mpf(j) ** -a for j in range(1, P + 1)]
        bias = mp.fsum(mp.mpf(j) ** -b * r ** (2 * K) for j, r in enumerate(rates, 1)) + mp.zeta(b, P + 1)
        return float(bias + mp.mpf(model.noise) / N * mp.fsum((1 - r**K) ** 2 for r in rates))


@pytest.mark.parametrize("seed", range(24))
def test_the_closed_form_is_the_sum(seed):
    rng = np.random.default_rng([seed, 41])
    model = PowerLawModel(rng.uniform(0.3, 4), rng.uniform(1.01, 5), eta=rng.uniform(0.05, 0.95), noise=0.3)
    N, P, K = 10 ** rng.uniform(0, 4), int(10 ** rng.uniform(0, 3.2)), int(10 ** rng.uniform(0, 8))
    assert float(model.error(N, P, K)) == pytest.approx(slow(model, N, P, K), rel=1e-10)


def far(f, tail, P, small):
    """Sum of f(j) over j <= P in 40 digits: by quadrature beyond 300 and, for P = inf, by ``tail`` beyond ``small``."""
    head = int(min(P, 300))
    total = mp.fsum(f(mp.mpf(j)) for j in range(1, head + 1))
    if P <= 300:
        return total
    top = mp.mpf(P) if math.isfinite(P) else max(small, mp.mpf(301))
    cuts = [mp.log(300)]
    while cuts[-1] < mp.log(top):
        cuts.append(min(cuts[-1] + mp.mpf(1) / 3, mp.log(top)))
    total += mp.quad(lambda s: f(mp.exp(s)) * mp.exp(s), cuts) if len(cuts) > 1 else 0
    for x, sign in ((top, 1), (mp.mpf(300), -1)):
        c = mp.taylor(lambda t, x=x: f(x * (1 + t)), 0, 11)
        total += c[0] / 2 if sign > 0 else -c[0] / 2
        total += sign * sum(mp.bernoulli(2 * k) / (2 * k) * c[2 * k - 1] / x ** (2 * k - 1) for k in range(1, 7))
    return total if math.isfinite(P) else total + tail(top)


def independent(model, N, P, K):
    """E(N, P, K) for any size: sums by quadrature in 40 digits, infinite tails by Hurwitz zeta series. Shares no formula."""
    with mp.workdps(40):
        a, b, eta, k = (mp.mpf(v) for v in (model.a, model.b, model.eta, K))
        small = mp.ceil((eta * (2 * k + 1) * 100) ** (1 / a)) if math.isinf(P) else 0
        log_rate = lambda j: k * mp.log1p(-eta * j**-a)  # noqa: E731
        left = lambda m: mp.fsum(mp.binomial(2 * k, i) * (-eta) ** i * mp.zeta(b + a * i, m + 1) for i in range(14))  # noqa: E731
        error = far(lambda j: j**-b * mp.exp(2 * log_rate(j)), left, P, small)
        error += mp.zeta(b, P + 1) if math.isfinite(P) else 0
        if model.noise and P and K:
            found = lambda m: mp.fsum(  # noqa: E731
                (mp.binomial(2 * k, i) - 2 * mp.binomial(k, i)) * (-eta) ** i * mp.zeta(a * i, m + 1) for i in range(2, 14)
            )
            error += mp.mpf(model.noise) / mp.mpf(N) * far(lambda j: mp.expm1(log_rate(j)) ** 2, found, P, small)
        return float(error)


POWERS = st.one_of(st.floats(-3, 2), st.floats(0, 12))


@settings(max_examples=24, deadline=None, derandomize=True)
@given(
    a=st.one_of(st.sampled_from([0.3, 0.51, 1.0, 5.0]), st.floats(0.3, 5)),
    b=st.one_of(st.sampled_from([1.001, 6.0]), st.floats(1.001, 6)),
    eta=st.one_of(st.sampled_from([1e-9, 0.5, 1 - 1e-9]), st.floats(0.01, 0.99)),
    noise=st.sampled_from([0.0, 1e-6, 1.0, 1e6]),
    n=st.one_of(st.floats(-12, 12), st.sampled_from([-100.0, 100.0])),
    p=st.one_of(st.floats(0, 12), st.just(math.inf)),
    k=POWERS,
)
@example(a=0.51, b=1.001, eta=0.5, noise=19.0, n=-100.0, p=math.inf, k=-6.0)  # these lost digits once
@example(a=0.3, b=1.6, eta=1e-6, noise=0.1, n=-100.0, p=2.691, k=-2.1)
@example(a=0.51, b=1.56, eta=1e-6, noise=0.016, n=-100.0, p=8.456, k=-5.45)
@example(a=0.5, b=1.001, eta=1e-6, noise=0.0, n=0.0, p=math.inf, k=5.471)
@example(a=0.6, b=2.4993, eta=0.5, noise=1.0, n=100.0, p=11.997, k=5.676)
@example(a=1.0, b=6.0, eta=1 - 1e-9, noise=0.0, n=0.0, p=math.inf, k=5.62)
@example(a=0.51, b=40.0, eta=0.1, noise=0.0, n=0.0, p=8.333, k=5.496)
@example(a=5.0, b=1.001, eta=0.5, noise=1.0, n=3.0, p=12.0, k=12.0)
def test_extreme_parameters_against_an_independent_evaluation(a, b, eta, noise, n, p, k):
    if math.isinf(p) and a <= 0.5:
        noise = 0.0  # the variance is inf there
    model = PowerLawModel(a, b, eta=eta, noise=noise)
    P = math.floor(10**p) if math.isfinite(p) else math.inf
    assert float(model.error(10**n, P, 10**k)) == pytest.approx(independent(model, 10**n, P, 10**k), rel=1e-9, abs=1e-300)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(a=st.floats(0.3, 5), b=st.floats(1.001, 6), eta=st.floats(1e-6, 1 - 1e-6), x=st.floats(-9, 9))
@example(a=0.5, b=2.0, eta=0.5, x=0.0)
@example(a=1.0, b=2.0, eta=0.5, x=0.0)
def test_constants_and_scaling_function_against_mpmath(a, b, eta, x):
    model = PowerLawModel(a, b, eta=eta)
    with mp.workdps(30):
        a, b, eta, x = (mp.mpf(v) for v in (a, b, eta, 10**x))
        kappa = (b - 1) / a
        steps = mp.gamma(kappa) / a * (2 * eta) ** -kappa
        learned = mp.gammainc(kappa, 2 * eta * x**-a) / a * (2 * eta) ** -kappa
        phi = learned + x ** (1 - b) / (b - 1)
        if a > 0.5:  # below, Gamma(-1/a) may have a pole, and the variance is infinite
            v = mp.gamma(-1 / a) / a * (mp.mpf(2) ** (1 / a) - 2) if a != 1 else 2 * mp.log(2)
    assert model.prefactors().steps == pytest.approx(float(steps), rel=1e-9)
    assert float(model.scaling_function(float(x))) == pytest.approx(float(phi), rel=1e-9)
    if a > 0.5:
        assert model.prefactors().variance == pytest.approx(float(v * eta ** (1 / a)), rel=1e-9)


@pytest.mark.parametrize(("a", "b"), [(0.6, 1.2), (1.0, 1.5), (1.5, 2.0), (3.0, 4.0)])
@pytest.mark.parametrize("K", [1, 7, 1e3, 1e6])
def test_an_infinite_size_is_the_limit_of_finite_ones(a, b, K):
    """The tail beyond P is bounded by its own integrals, so the difference is known from both sides."""
    model = PowerLawModel(a, b, noise=1.0)
    P = 10.0**9
    tail = K**2 * model.eta**2 * P ** (1 - 2 * a) / (2 * a - 1)  # of the variance; 1 - (1 - x)^K <= K x
    whole, cut = float(model.error(100.0, np.inf, K)), float(model.error(100.0, P, K))
    assert whole - cut == pytest.approx(0.0, abs=tail / 100 + P ** (1 - b) / (b - 1) + 1e-10 * whole)


def test_it_broadcasts_and_keeps_shapes():
    model = PowerLawModel(1.5, 2.0, noise=1.0)
    found = model.error(np.array([10.0, 100.0])[:, None, None], np.array([1, 50, 5000])[:, None], [0, 1, 1e6, np.inf])
    assert found.shape == (2, 3, 4)
    assert found[1, 2, 1] == model.error(100.0, 5000, 1)


def test_the_corners():
    model = PowerLawModel(1.5, 2.0, noise=0.5)
    assert float(model.error(K=0)) == pytest.approx(math.pi**2 / 6, rel=1e-14)  # nothing learned: all the energy
    assert float(model.error(P=0, K=7)) == pytest.approx(math.pi**2 / 6, rel=1e-14)
    assert float(model.error()) == 0.0
    assert float(model.error(P=100)) == pytest.approx(float(mp.zeta(2, 101)), rel=1e-14)
    assert float(model.error(N=100, P=10_000)) == pytest.approx(0.5 * 10_000 / 100 + float(mp.zeta(2, 10_001)), rel=1e-12)
    assert float(model.error(N=100)) == math.inf  # all modes fitted to noise
    assert float(PowerLawModel(0.5, 2.0, noise=1.0).error(N=100, K=1)) == math.inf  # sum of j^-1
    assert math.isfinite(PowerLawModel(0.51, 2.0, noise=1.0).error(N=100, K=1))


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.5), (1.5, 2.0), (2.0, 2.0), (0.951, 1.3478)])
def test_the_power_law_in_steps(a, b):
    model = PowerLawModel(a, b)
    for K, tolerance in ((1e2, 5e-3), (1e3, 5e-4), (1e4, 5e-5)):
        law = model.prefactors().steps * K ** -model.exponents().steps
        assert float(model.error(K=K)) / law == pytest.approx(1, abs=tolerance)


@pytest.mark.parametrize("x", [0.3, 1.0, 3.0, 10.0])
def test_the_data_collapse(x):
    model = PowerLawModel(1.5, 2.0)
    for K, tolerance in ((1e3, 0.02), (1e4, 0.005), (1e5, 0.001)):
        P = round(x * K ** (1 / 1.5))
        collapsed = float(model.error(P=P, K=K)) * K ** model.exponents().steps
        assert collapsed == pytest.approx(float(model.scaling_function(P / K ** (1 / 1.5))), rel=tolerance)


def test_the_additive_law_is_right_up_to_a_factor_of_two_and_not_better():
    model = PowerLawModel(1.0, 1.5)
    x = np.geomspace(1e-3, 1e3, 400)
    ratio = model.scaling_function(x) / (model.prefactors().steps + x**-0.5 / 0.5)
    assert (ratio >= 0.5).all() and (ratio <= 1).all()
    assert ratio.min() == pytest.approx(0.6038, abs=1e-3)


def test_beyond_the_crossover_the_decay_is_exponential():
    model = PowerLawModel(1.5, 2.0)
    P = 4
    floor = float(model.error(P=P))
    K = 20 * float(model.crossover(P))
    rate = math.log((float(model.error(P=P, K=K)) - floor) / (float(model.error(P=P, K=K + 1)) - floor))
    assert rate == pytest.approx(-2 * math.log1p(-0.5 * P**-1.5), rel=1e-4)


@pytest.mark.parametrize("theta", [0.01, 1.0, 5.0])
def test_the_crossover_has_a_shape(theta):
    """T6.4 (4): at K = theta n_* what is left of the modes kept is Gamma(kappa, theta) / Gamma(kappa) of the infinite model."""
    for model in (PowerLawModel(1.5, 1.5), PowerLawModel(0.7, 2.5, eta=0.9)):
        P, kappa = 30_000, (model.b - 1) / model.a
        K = theta * float(model.crossover(P))
        share = float((model.error(P=P, K=K) - model.error(P=P)) / model.error(K=K))
        assert share == pytest.approx(float(mp.gammainc(kappa, theta) / mp.gamma(kappa)), rel=5e-3)


@pytest.mark.parametrize(("a", "constant"), [(0.8, 1.8549), (1, 2 * math.log(2)), (1.5, 1.1053), (2, 1.0383), (3, 1.0022)])
def test_the_variance_constant(a, constant):
    assert variance_constant(a) == pytest.approx(constant, rel=5e-5)
    assert variance_constant(1 + 1e-9) == pytest.approx(2 * math.log(2), rel=1e-8)
    model, K = PowerLawModel(a, 2.0, noise=1.0), 1e7
    variance = float(model.error(N=1.0, K=K)) - float(model.error(K=K))
    scale = (0.5 * K) ** (1 / a)
    assert (variance + 0.5) / scale == pytest.approx(constant, rel=3e-3)


@pytest.mark.parametrize(
    ("a", "b", "size", "error", "x"), [(1.5, 2.0, 0.4, -0.4, 1.2027), (1.0, 1.5, 0.5, -0.25, 1.1320)]
)
def test_the_frontier_sits_on_the_crossover(a, b, size, error, x):
    model = PowerLawModel(a, b)
    front = model.frontier(np.geomspace(1e4, 1e8, 9))
    assert np.polyfit(np.log(front.C), np.log(front.P), 1)[0] == pytest.approx(size, abs=0.01)
    assert np.polyfit(np.log(front.C), np.log(front.error), 1)[0] == pytest.approx(error, abs=0.01)
    assert front.P[-1] / front.K[-1] ** (1 / a) == pytest.approx(x, rel=0.03)
    assert model.exponents().frontier_width == pytest.approx(size) and model.exponents().compute == pytest.approx(-error)


@pytest.mark.parametrize("C", [1.0, 2.0, 17.0, 300.0, 4321.0])
def test_the_frontier_is_the_minimum_over_all_sizes(C):
    model = PowerLawModel(1.2, 1.7)
    sizes = np.arange(1.0, math.floor(C) + 1)
    assert float(model.frontier(C).error) == pytest.approx(model.error(P=sizes, K=C / sizes).min(), rel=1e-14)


def test_stopping_in_time():
    model = PowerLawModel(1.5, 2.0, noise=1.0)
    N = np.geomspace(1e2, 1e6, 5)
    K = model.stopping_time(N)
    best = model.error(N=N, K=K)
    assert K[-1] == pytest.approx(38421, rel=0.01)
    assert np.polyfit(np.log(N), np.log(best), 1)[0] == pytest.approx(-model.exponents().data, abs=0.01)
    assert best[-1] * 1e3 == pytest.approx(1.5857, rel=5e-3)
    for factor in (0.9, 1.1):
        assert (model.error(N=N, K=K * factor) > best).all()
    assert PowerLawModel(1.5, 2.0).stopping_time(10.0) == math.inf
    assert model.stopping_time([]).shape == (0,)
    assert PowerLawModel(0.4, 2.0, noise=1.0).stopping_time(10.0) == 0.0


@pytest.mark.parametrize("seed", range(8))
def test_no_other_number_of_steps_is_better(seed):
    """Against a dense scan over 40 decades, also where the asymptotic rule is far off: few samples, steep spectra."""
    rng = np.random.default_rng([seed, 11])
    model = PowerLawModel(rng.uniform(0.55, 5), rng.uniform(1.01, 6), eta=rng.uniform(0.01, 0.99), noise=1.0)
    N = 10 ** rng.uniform(-9, 9)
    scan = model.error(N=N, K=np.geomspace(1e-20, 1e20, 4001)).min()
    assert float(model.error(N=N, K=model.stopping_time(N))) <= scan * (1 + 1e-12)


def test_every_infinity_has_its_reason():
    noisy = PowerLawModel(1.5, 2.0, noise=1.0)
    assert noisy.why_infinite(100, 50, 7) == "" == noisy.why_infinite(100, math.inf, 7) == noisy.why_infinite()
    assert "K = inf: infinitely many modes" in noisy.why_infinite(N=100)
    assert "a = 0.4 <= 1/2" in PowerLawModel(0.4, 2.0, noise=1.0).why_infinite(N=100, K=1)
    tiny = noisy.why_infinite(N=1e-309, P=5, K=5)
    assert noisy.error(N=1e-309, P=5, K=5) == math.inf and "range of float64" in tiny


@pytest.mark.parametrize(("a", "constant"), [(1.5, 2.41840), (2.0, 1.57080), (3.0, 1.20920)])
def test_the_effective_dimension(a, constant):
    ridge = 1e-6
    found = float(PowerLawModel(a, 2.0).effective_dimension(ridge))
    assert (found + 0.5) * ridge ** (1 / a) == pytest.approx(constant, abs=1e-4)
    with mp.workdps(30):
        term = lambda j: 1 / (1 + mp.mpf("0.3") * mp.mpf(j) ** mp.mpf(a))  # noqa: E731
        tail = mp.quad(lambda s: term(1 / s) / s**2, [0, mp.mpf(2) / 4001])  # from 2000.5 on, by the midpoint rule
        exact = mp.fsum(term(j) for j in range(1, 2001)) + tail
    assert float(PowerLawModel(a, 2.0).effective_dimension(0.3)) == pytest.approx(float(exact), rel=1e-9)
    assert PowerLawModel(1.0, 2.0).effective_dimension(0.3) == math.inf
    assert float(PowerLawModel(a, 2.0).effective_dimension(1e300)) == pytest.approx(float(mp.zeta(a)) * 1e-300, rel=1e-9)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: PowerLawModel(1.0, 1.0), "b=1.0 must exceed 1"),
        (lambda: PowerLawModel(0.0, 2.0), "a=0.0 must be positive"),
        (lambda: PowerLawModel(1.0, 2.0, eta=1.0), "eta=1.0 must lie strictly between"),
        (lambda: PowerLawModel(1.0, 2.0, noise=-1.0), "noise=-1.0 must be at least 0"),
        (lambda: PowerLawModel(math.nan, 2.0), "a=nan must be finite"),
        (lambda: PowerLawModel(1.0, 2.0, noise=math.inf), "noise=inf must be finite"),
        (lambda: PowerLawModel(1.0, 0.9), "infinite energy"),
        (lambda: PowerLawModel(1.0, 2.0).error(N=[1.0, math.nan]), "N must not be NaN"),
        (lambda: PowerLawModel(1.0, 2.0).error(P=math.nan), "P must not be NaN"),
        (lambda: PowerLawModel(1.0, 2.0).error(K=-0.5), "K must be at least 0"),
        (lambda: PowerLawModel(1.0, 2.0).crossover(-3), "P must be at least 0"),
        (lambda: PowerLawModel(1.0, 2.0).frontier(math.inf), "C must be finite"),
        (lambda: PowerLawModel(1.0, 2.0).frontier(math.nan), "C must not be NaN"),
        (lambda: PowerLawModel(2.0, 2.0).spectrum(2.5), "modes=2.5 must be a whole number"),
        (lambda: variance_constant(-1.0), "a=-1.0 must be positive"),
        (lambda: PowerLawModel(1.0, 2.0).why_infinite(N=[1.0, 2.0]), "must be single numbers"),
        (lambda: PowerLawModel(1.0, 2.0).scaling_function(math.nan), "x must not be NaN"),
        (lambda: PowerLawModel(2.0, 2.0).effective_dimension(-1.0), "ridge must be positive"),
        (lambda: PowerLawModel(1.0, 2.0).error(N=0), "N must be positive"),
        (lambda: PowerLawModel(1.0, 2.0).error(P=-1), "P must be at least 0"),
        (lambda: PowerLawModel(1.0, 2.0).error(P=2.5), "P counts modes"),
        (lambda: PowerLawModel(1.0, 2.0).error(K=math.nan), "K must not be NaN"),
        (lambda: PowerLawModel(1.0, 2.0).frontier(0.5), "at least 1"),
        (lambda: PowerLawModel(1.0, 2.0).scaling_function(0.0), "x must be positive"),
        (lambda: PowerLawModel(1.0, 2.0, noise=1.0).stopping_time(-1.0), "N must be positive"),
        (lambda: PowerLawModel(2.0, 2.0).effective_dimension(0.0), "ridge must be positive"),
        (lambda: PowerLawModel(2.0, 2.0).spectrum(0), "modes=0"),
    ],
)
def test_outside_the_theorem_it_says_so(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: PowerLawModel("1", 2.0), "a='1' must be a real number"),
        (lambda: PowerLawModel(True, 2.0), "a=True must be a real number"),
        (lambda: PowerLawModel(1.0, 2.0).error(N="many"), "N='many' must hold real numbers"),
        (lambda: PowerLawModel(1.0, 2.0).error(K=1j), "must hold real numbers"),
        (lambda: PowerLawModel(1.0, 2.0).frontier(None), "C=None must hold real numbers"),
        (lambda: variance_constant("a"), "must be a real number"),
    ],
)
def test_what_is_no_number_is_named(make, said):
    with pytest.raises(TypeError, match=said):
        make()


def test_huge_and_tiny_values_stay_in_range_or_are_refused():
    model, noisy = PowerLawModel(1.5, 2.0), PowerLawModel(1.5, 2.0, noise=1.0)
    assert float(model.error(P=1e30, K=1e300)) == pytest.approx(1e-30, rel=1e-9)  # these overflowed once
    assert float(model.error(P=1e300, K=1e4)) == float(model.error(K=1e4))
    assert math.isfinite(noisy.error(N=5e-324, P=5, K=1e-300)) and (noisy.stopping_time([5e-324, 1e300]) >= 0).all()
    assert PowerLawModel(0.1, 2.0, eta=1e-300, noise=1.0).prefactors().variance == math.inf
    assert PowerLawModel(30.0, 40.0).scaling_function(1e-30) == math.inf == PowerLawModel(3.0, 2.0).crossover(1e300)
    assert PowerLawModel(1.0, 1e4).error(P=[0, 5], K=3) == pytest.approx([1.0, 2.0**-6], rel=1e-12)
    with pytest.raises(ValueError, match="eta=1e-12 to the power"):
        PowerLawModel(1.0, 40.0, eta=1e-12).error(P=100, K=3)


def test_the_frontier_of_a_huge_budget():
    """Sizes so large that float64 holds no neighbours: the constants of T6.5, and no window of all sizes in memory."""
    model = PowerLawModel(1.5, 2.0)
    front = model.frontier([1e25, 1e80, 1e300])
    scaled = front.P / front.C**0.4
    assert scaled == pytest.approx(1.1171312, rel=1e-6)
    assert front.error * front.C**0.4 == pytest.approx(1.1893294578892404, rel=1e-6)


def test_empty_arrays_give_empty_arrays():
    model = PowerLawModel(1.5, 2.0, noise=1.0)
    assert model.error(N=[], P=3, K=[]).shape == (0,) == model.frontier([]).P.shape
    assert model.scaling_function([]).shape == (0,) == model.effective_dimension([]).shape


def test_three_power_laws_hold_when_training_stops_and_fail_when_it_does_not():
    """The corollary of T6.4, and its hypothesis dropped: the variance grows like K^(1/a) / N."""
    model = PowerLawModel(1.5, 2.0, noise=1.0)
    rng = np.random.default_rng(3)
    N, P, K = 10 ** rng.uniform(0, 9, 4000), np.floor(10 ** rng.uniform(0, 7, 4000)), 10 ** rng.uniform(0, 9, 4000)
    law = K ** (-2 / 3) + 1 / P + N**-0.5
    stopped = model.error(N, P, np.minimum(K, N**0.75)) / law
    assert stopped.min() > 0.3 and stopped.max() < 2
    unstopped = model.error(N, P, K) / law
    assert unstopped.max() > 1e4
    late = model.error(100, np.inf, [1e6, 1e8])
    assert np.log10(late[1] / late[0]) / 2 == pytest.approx(2 / 3, abs=1e-3)


def test_the_additive_bounds_hold_without_any_limit():
    rng = np.random.default_rng(4)
    P, K = np.floor(10 ** rng.uniform(0, 6, 500)), 10 ** rng.uniform(0, 9, 500)
    for model in (PowerLawModel(0.4, 1.1), PowerLawModel(1.5, 2.0), PowerLawModel(4.0, 3.0)):
        both, steps, size = model.error(P=P, K=K), model.error(K=K), model.error(P=P)
        assert (both <= (steps + size) * (1 + 1e-12)).all() and (both >= np.maximum(steps, size) * (1 - 1e-12)).all()


def test_the_second_term_of_the_variance():
    """-1/2 for a > 1, but -1/2 + eta/2 at a = 1."""
    for a, eta, term in ((2.0, 0.5, -0.5), (1.0, 0.5, -0.25), (1.0, 0.1, -0.45), (3.0, 0.9, -0.5)):
        noisy, silent, K = PowerLawModel(a, 2.0, eta=eta, noise=1.0), PowerLawModel(a, 2.0, eta=eta), 1e6
        variance = float(noisy.error(N=1.0, K=K) - silent.error(K=K))
        assert variance - variance_constant(a) * (eta * K) ** (1 / a) == pytest.approx(term, abs=0.005)


def test_a_gap_makes_the_decay_exponential():
    """T6.3's hypothesis dropped: with finitely many modes there is no spectral mass at 1, and no power law."""
    model = PowerLawModel(1.5, 2.0)
    critical = [float(model.error(K=K)) for K in (1e4, 1e5, 1e6)]
    gapped = [float(model.error(P=4, K=K)) - float(model.error(P=4)) for K in (120, 140)]
    assert np.diff(np.log(critical)) == pytest.approx(-math.log(10) / 1.5, rel=1e-2)
    assert gapped[1] / gapped[0] == pytest.approx((1 - 0.5 * 4**-1.5) ** 40, rel=1e-3)


@pytest.mark.parametrize("a", [base + s * 10.0**-k for k in range(1, 16) for base, s in ((0.5, 1), (1, 1), (1, -1))])
def test_the_variance_constant_keeps_its_digits(a):
    with mp.workdps(60):
        s = 1 / mp.mpf(a)
        exact = s * mp.gamma(-s) * (mp.mpf(2) ** s - 2) if a != 1 else 2 * mp.log(2)
    assert variance_constant(a) == pytest.approx(float(exact), rel=1e-12)


@pytest.mark.parametrize("a", [200.0, 1e22, 1e300])
def test_only_the_first_mode_is_learned_for_huge_a(a):
    model = PowerLawModel(a, 2.0, noise=1.0)
    for P, rest in ((math.inf, math.pi**2 / 6 - 1), (1000, math.pi**2 / 6 - 1)):
        assert model.error(N=10, P=P, K=5) == pytest.approx(rest + 0.5**10 + 0.1 * (1 - 0.5**5) ** 2, rel=1e-12)
    assert model.effective_dimension(1.0) == pytest.approx(0.5, rel=1e-12)
    assert model.frontier(100).error == pytest.approx(math.pi**2 / 6 - 1, rel=1e-12)


def test_no_time_to_stop_below_one_half():
    assert PowerLawModel(0.5, 2.0).exponents().data == 0.0 == PowerLawModel(0.3, 2.0).exponents().data
    assert PowerLawModel(0.51, 2.0).exponents().data == 0.5
