"""Closed forms of metric entropy against counts and against themselves; Dudley, chaining, spectral complexities."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import special

from limitlib.covering import (
    Interval,
    allocate,
    best_chain,
    chaining_bound,
    closed_forms,
    covering_bound,
    covering_number,
    dudley_integral,
    greedy_order,
    linear_rademacher,
    lipschitz_net,
    margin_bound,
    packing_number,
    spectral_complexity,
    stack_entropy,
)


def test_the_interval_and_the_cube():
    assert covering_bound("interval", 0.25, length=1.0).upper == pytest.approx(math.log(2))
    assert covering_bound("cube", 0.1, d=3, side=1.0).lower == pytest.approx(3 * math.log(5))
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 9)] * 2), -1).reshape(-1, 2)  # a sample never needs more balls
    bound = covering_bound("cube", 0.2, d=2, side=1.0)
    assert covering_number(grid, 0.2, metric="linf", centers="ambient").lower <= math.exp(bound.upper) + 1e-9


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("eps", [0.5, 0.25])
def test_balls_contain_the_counts_of_samples(d, eps):
    rng = np.random.default_rng([d, 5])
    x = rng.normal(size=(1500, d))
    x *= rng.random((1500, 1)) ** (1 / d) / np.linalg.norm(x, axis=1)[:, None]
    bound = covering_bound("ball", eps, d=d)
    assert math.exp(bound.lower) == pytest.approx(eps**-d, rel=1e-9)
    # a packing in the sample is one in the ball: P(2 eps) <= N(eps) <= upper
    assert packing_number(x, 2 * eps, exact=False).lower <= math.exp(bound.upper) * (1 + 1e-9)
    assert covering_bound("ball", 1.0, d=d).upper == 0.0


@pytest.mark.parametrize("d", [2, 3])
def test_the_sphere(d):
    """On the circle an arc of half-angle asin(eps) is all that a ball can hold."""
    rng = np.random.default_rng([d, 6])
    x = rng.normal(size=(2000, d))
    x /= np.linalg.norm(x, axis=1)[:, None]
    for eps in (0.8, 0.4):
        bound = covering_bound("sphere", eps, d=d)
        if d == 2:
            assert math.exp(bound.lower) == pytest.approx(math.pi / math.asin(eps))
        assert packing_number(x, 2 * eps, exact=False).lower <= math.exp(bound.upper)
        assert covering_number(x, eps, exact=False).upper >= math.exp(bound.lower) - 1


def test_ellipsoids():
    ball = covering_bound("ellipsoid", 0.1, axes=[1.0] * 4)
    assert ball.lower == pytest.approx(covering_bound("ball", 0.1, d=4).lower)
    assert ball.lower <= ball.upper <= covering_bound("ball", 0.1, d=4).upper * (1 + 1e-9)
    assert covering_bound("ellipsoid", 1.1, axes=[1.0, 0.5]).upper == 0.0
    flat = covering_bound("ellipsoid", 0.1, axes=[1.0, 1e-9, 1e-9])
    assert flat.upper - flat.lower < 1.0  # an interval, whatever the dimension
    rng = np.random.default_rng(0)
    axes = np.array([1.0, 0.6, 0.2])
    x = rng.normal(size=(3000, 3))
    x *= rng.random((3000, 1)) ** (1 / 3) / np.linalg.norm(x, axis=1)[:, None]
    for eps in (0.5, 0.25):
        bound = covering_bound("ellipsoid", eps, axes=axes)
        assert packing_number(x * axes, 2 * eps, exact=False).lower <= math.exp(bound.upper)
        assert covering_number(x * axes, eps, exact=False).upper >= math.exp(bound.lower) / 2


def test_the_fattened_ellipse_is_not_the_ellipse_of_fattened_axes():
    """The product of 1 + b/r is below the volume that it should bound; the bracket must not use it."""
    a, b, r = 1.0, 0.1, 0.05
    t = np.linspace(0, 2 * np.pi, 400_001)
    perimeter = np.hypot(np.diff(a * np.cos(t)), np.diff(b * np.sin(t))).sum()
    assert np.pi * (a + r) * (b + r) < np.pi * a * b + r * perimeter + np.pi * r**2
    fattened = (np.pi * a * b + r * perimeter + np.pi * r**2) / (np.pi * r**2)
    thin = covering_bound("ellipsoid", 2 * r, axes=[a, b, 1e-9])
    assert math.log(fattened) <= covering_bound("ellipsoid", 2 * r, axes=[a, b]).upper <= thin.upper * (1 + 1e-9)


@pytest.mark.parametrize(
    ("axes", "eps"), [([1, 1e-3], 1e-200), ([1e200, 1], 1e-3), ([1e-200, 1e-210], 1e-201), ([1, 0.5], 1e-308)]
)
def test_ellipsoids_at_the_ends_of_float64(axes, eps):
    bound, long = covering_bound("ellipsoid", eps, axes=axes), [b for b in axes if b > eps]
    assert bound.lower == pytest.approx(sum(math.log(b) - math.log(eps) for b in long))
    assert bound.lower < bound.upper <= bound.lower + len(axes) * math.log(3)  # no axis costs more than a ball's


def test_random_ellipsoids_between_packings_and_coverings():
    """Unequal axes, tiny ones and zeros: packings of points stay below the upper end, coverings above the lower."""
    rng = np.random.default_rng(21)
    for case in range(60):
        axes = np.sort(np.exp(rng.uniform(-4, 0, 2 + case % 2)))[::-1]
        axes[-1] *= (1.0, 1e-9, 0.0)[case % 3]
        eps = axes[0] * math.exp(rng.uniform(math.log(0.2), 0))
        z = rng.normal(size=(2000, len(axes)))
        z *= rng.random((2000, 1)) ** (1 / len(axes)) / np.linalg.norm(z, axis=1)[:, None]
        order = greedy_order(np.vstack([np.diag(axes), -np.diag(axes), z * axes]), k=800)
        bound = covering_bound("ellipsoid", eps, axes=axes)
        assert math.log(np.sum(order.radii > 2 * eps)) <= bound.upper
        covering = int(np.searchsorted(-order.cover, -0.9 * eps)) + 1  # of the points, with a tenth to spare for the rest
        assert bound.lower <= math.log(covering) + 1e-12


@pytest.mark.parametrize(("eps", "count"), [(1 / 2, 2), (1 / 3, 4), (0.3, 8), (1 / 4, 8), (0.22, 16), (1 / 5, 16)])
def test_kolmogorov_and_tikhomirov(eps, count):
    assert math.exp(covering_bound("lipschitz", eps).lower) == pytest.approx(count)
    assert covering_bound("lipschitz", eps).is_exact
    rng = np.random.default_rng(5)
    pieces = round(math.log2(count))  # the paths of the lower bound: slopes +-1 on intervals of length 1 / pieces > eps
    walks = [np.repeat(signs, 60) for signs in itertools.product([-1.0, 1.0], repeat=pieces)]
    walks += [np.clip(np.repeat(rng.normal(0, 3, 20), 15), -1, 1) for _ in range(1000)]
    seen = set()
    for slopes in walks:
        t = np.linspace(0, 1, len(slopes) + 1)
        heights = np.append(0.0, np.cumsum(slopes) / len(slopes))
        word, centre = lipschitz_net(lambda s, t=t, h=heights: np.interp(s, t, h), eps)
        seen.add(word)
        assert np.abs(heights - centre(t)).max() <= eps * (1 + 1e-12)
    assert len(seen) == count  # every centre is needed by some path


def test_a_steeper_path_escapes_its_centre():
    """The hypothesis |slope| <= 1 dropped."""
    _, centre = lipschitz_net(lambda t: 3 * np.asarray(t), 0.25)
    assert abs(3.0 - float(centre(1.0))) > 0.25


def test_parametric_linear_and_composed_classes():
    assert covering_bound("parametric", 0.1, d=5, constant=2.0, radius=1.0).upper == pytest.approx(5 * math.log(41))
    X = np.random.default_rng(1).normal(size=(50, 3))
    axes = 2.0 * np.linalg.svd(X, compute_uv=False) / math.sqrt(50)
    linear, ellipsoid = covering_bound("linear", 0.3, X=X, radius=2.0), covering_bound("ellipsoid", 0.3, axes=axes)
    assert (linear.lower, linear.upper) == (ellipsoid.lower, ellipsoid.upper)
    layer = lambda e: covering_bound("parametric", e, d=2, constant=1.0, radius=1.0)  # noqa: E731
    composed = covering_bound("composition", 0.3, constants=[1.0, 1.0, 1.0], classes=[layer] * 3)
    assert composed.upper == pytest.approx(3 * layer(0.1).upper)
    steep = covering_bound("composition", 0.3, constants=[1.0, 1.0, 5.0], classes=[layer] * 3)
    assert steep.upper > composed.upper


def test_dudley():
    found = dudley_integral(lambda e: 1 / e**1.0, 1.0)  # the integral of e^(-1/2) is 2
    assert found.low <= 2 <= found.high and found.high - found.low < 0.02
    assert dudley_integral(lambda e: e**-2.0, 1.0).high == math.inf
    half = dudley_integral(lambda e: e**-2.0, 1.0, lower=0.1)
    assert half.low <= math.log(10) <= half.high
    with pytest.raises(ValueError, match="increases with eps"):
        dudley_integral(lambda e: e, 1.0)
    with pytest.raises(ValueError, match="need 0 <= lower < upper"):
        dudley_integral(lambda e: 1.0, 1.0, lower=2.0)


@pytest.mark.parametrize("upper", [1.0, 20.0, 1000.0])
@pytest.mark.parametrize("v", [0.0, 0.5, 1.0, 1.5, 1.7, 1.74, 1.8, 1.85, 1.9, 1.95, 1.99, 1.995, 1.999])
def test_dudley_holds_every_integrable_power(v, upper):
    truth = upper ** (1 - v / 2) * 2 / (2 - v)
    for n in (1, 50, 4000, 400_000) if v in (0.0, 1.9, 1.999) else (400, 4000):
        found = dudley_integral(lambda e: e**-v, upper, n=n)
        assert found.low <= truth * (1 + 1e-12) and truth <= found.high < math.inf
    assert found.high <= 1.3 * truth
    for steep in (2.0, 2.001, 3.0):
        assert dudley_integral(lambda e, p=steep: 0.7 * e**-p, upper).high == math.inf


def test_dudley_of_an_infinite_entropy_is_infinite():
    assert dudley_integral(lambda e: math.inf, 1.0, lower=0.1) == Interval(math.inf, math.inf)
    found = dudley_integral(lambda e: math.inf if e <= 0.1 else 1.0, 1.0, lower=0.1)
    assert found == Interval(pytest.approx(0.9), math.inf)
    assert dudley_integral(lambda e: math.inf, 1.0).high == math.inf
    assert dudley_integral(lambda e: 1.0 if e < 2e-12 else 0.0, 1.0).high == math.inf  # nothing says how it goes on
    assert dudley_integral(lambda e: 0.0, 1.0) == Interval(0.0, 0.0)


@pytest.mark.parametrize("n", [0, 1.5, True, None])
def test_dudley_needs_whole_steps(n):
    with pytest.raises((TypeError, ValueError), match=f"n={n}"):
        dudley_integral(lambda e: 1.0, 1.0, n=n)


def test_chaining_knows_the_three_regimes():
    """T5.6: entropy e^-v gives n^(-1/2) for v < 2 and n^(-1/v) for v > 2."""
    for v, slope in ((1.0, -0.5), (4.0, -0.25)):
        values = [chaining_bound(lambda e, v=v: e**-v, n, 1.0)[0] for n in (10**8, 10**10)]
        assert math.log(values[1] / values[0]) / math.log(100) == pytest.approx(slope, abs=0.02)
    value, alpha = chaining_bound(lambda e: 9 * math.log(3 / e), 100, 1.0)
    assert 0 < alpha < 1 and value > 0


@pytest.mark.parametrize("v", [0.5, 1.0, 2.0, 3.0])
def test_the_best_chain_is_never_above_dudley(v):
    for n in (10, 1000, 10**5):
        log_N = lambda e: max(0.0, e**-v - 1)  # noqa: E731
        value, radii = best_chain(log_N, n, 1.0)
        assert value <= chaining_bound(log_N, n, 1.0)[0]
        assert radii[0] == 1.0 and (np.diff(radii) < 0).all()
        entropy = np.array([0.0] + [log_N(r) for r in radii[1:]])
        links = (radii[:-1] + radii[1:]) * np.sqrt(2 * (entropy[:-1] + entropy[1:]) / n)
        assert value == pytest.approx(links.sum() + radii[-1])
    assert best_chain(lambda e: 0.0, 5, 2.0)[0] <= 2.0 * 2**-26  # one function: nothing to choose


def test_chaining_bounds_a_class_that_can_be_listed():
    """Every sign pattern of 3 functions on 10 samples: the complexity itself, its chain and Dudley's bound, in this order."""
    rng = np.random.default_rng(4)
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=10)))
    for size in (3, 20):
        f = rng.normal(size=(size, 10))
        f /= np.sqrt(np.mean(f**2, axis=1, keepdims=True))
        truth = (signs @ f.T / 10).max(axis=1).mean()
        log_N = lambda e, f=f: math.log(covering_number(f, e * math.sqrt(10)).upper)  # noqa: E731
        assert truth <= best_chain(log_N, 10, 2.0)[0] <= chaining_bound(log_N, 10, 2.0)[0]


def test_the_complexity_of_a_linear_class():
    rng = np.random.default_rng(8)
    x = rng.normal(size=(10, 3))
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=10)))
    truth = 2.0 * np.linalg.norm(signs @ x, axis=1).mean() / 10
    found = linear_rademacher(x, 2.0, draws=4000, rng=rng)
    assert abs(found.value - truth) <= 4 * (found.high - found.low) / 3.92
    top = 2.0 * np.linalg.norm(x) / 10
    assert top / math.sqrt(2) <= truth <= top
    axes = 2.0 * np.linalg.svd(x, compute_uv=False) / math.sqrt(10)
    assert truth <= best_chain(lambda e: covering_bound("ellipsoid", e, axes=axes), 10, float(axes[0]))[0]


def test_the_allocation():
    shares, value = allocate([1.0, 0.5, 0.2, 0.05], 1.0)
    assert value == pytest.approx(9.362933, abs=1e-6) and shares.sum() == pytest.approx(1.0)
    rng = np.random.default_rng(2)
    for _ in range(200):
        other = rng.dirichlet(np.ones(4))
        assert np.sum((np.array([1.0, 0.5, 0.2, 0.05]) / other) ** 2) >= value * (1 - 1e-12)


@pytest.mark.parametrize(("s", "eps", "slope"), [(2.0, (1e-3, 1e-5), 1.0), (3.0, (1e-5, 1e-8), 0.5), (1.5, (0.4, 0.05), 2.0)])
def test_stacks_have_an_entropy_that_depth_does_not_change(s, eps, slope):
    values = [stack_entropy(e, s=s) for e in eps]
    assert math.log(values[1] / values[0]) / math.log(eps[0] / eps[1]) == pytest.approx(slope, abs=0.02)
    with pytest.raises(ValueError, match="must be summable"):
        stack_entropy(0.1, s=1.0)


@pytest.mark.parametrize("s", [1.25, 1.5, 2.0, 3.0])
def test_the_long_sum_of_a_stack_is_bounded_above_and_close(s):
    for layers in (5e3, 2e5):
        eps = 2 / (s - 1) * layers ** (1 - s)
        m = max(1.0, np.ceil((2 / ((s - 1) * eps)) ** (1 / (s - 1))))
        exact = np.log1p(4 * m / eps * np.arange(1.0, m + 1) ** -s).sum()
        assert exact <= stack_entropy(eps, s=s) * (1 + 1e-12) <= exact * (1 + 1e-5)
    assert stack_entropy(1e-8, s=1.25) < math.inf  # 10^35 layers
    assert stack_entropy(1e-8, s=1.01) == math.inf  # more layers than float64 can count
    assert stack_entropy(0.01, s=s, parameters=7) == pytest.approx(7 * stack_entropy(0.01, s=s))


def test_spectral_complexities():
    layers = [np.eye(3)] * 4
    assert spectral_complexity(layers, "product") == pytest.approx(1.0)
    assert spectral_complexity(layers) == pytest.approx((4 * 3 ** (2 / 3)) ** 1.5)
    assert spectral_complexity(layers, "neyshabur") == pytest.approx(math.sqrt(12))
    assert spectral_complexity(layers, references=layers) == 0.0  # nothing was learned
    assert spectral_complexity([np.zeros((2, 2)), np.eye(2)]) == 0.0
    # L^3 b^2 for equal layers, T5.5: ten times as many layers, a thousand times the square
    ratio = spectral_complexity([np.eye(2)] * 100) / spectral_complexity([np.eye(2)] * 10)
    assert ratio**2 == pytest.approx(1000, rel=1e-6)
    with pytest.raises(ValueError, match="each layer takes the outputs"):
        spectral_complexity([np.eye(2), np.eye(3)])
    with pytest.raises(ValueError, match="kind='frob'"):
        spectral_complexity(layers, "frob")


def test_the_margin_bound_falls_with_data_and_is_vacuous_for_large_complexity():
    options = dict(margin=1.0, width=64)
    few = margin_bound(1.0, data_norm=math.sqrt(1e6), n=10**6, **options)
    more = margin_bound(1.0, data_norm=math.sqrt(1e8), n=10**8, **options)
    assert 0 < more < few
    assert margin_bound(1e4, data_norm=10.0, n=1000, **options) > 1
    with pytest.raises(ValueError, match=r"margin=0\.0 must be positive"):
        margin_bound(1.0, data_norm=1.0, n=10, margin=0.0, width=4)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: covering_bound("ball", 0.0, d=2), "eps=0.0 must be positive"),
        (lambda: covering_bound("blob", 0.1), "kind='blob' is unknown"),
        (lambda: covering_bound("ball", 0.1), "needs d"),
        (lambda: covering_bound("ball", 0.1, d=2, r=1.0), "does not take r"),
        (lambda: covering_bound("ellipsoid", 0.1, axes=[]), "axes must be"),
        (lambda: covering_bound("linear", 0.1, X=[1.0], radius=1.0), "give finite points"),
        (lambda: lipschitz_net(np.sin, 2.0), "must lie in"),
        (lambda: best_chain(lambda e: 1.0, 0, 1.0), "n=0 must be at least 1"),
        (lambda: chaining_bound(lambda e: 1.0, 1, 0.0), "D=0.0 must be positive"),
        (lambda: best_chain(lambda e: 1.0, math.nan, 1.0), "n=nan must be finite"),
        (lambda: stack_entropy(0.1, s=2.0, parameters=math.nan), "parameters=nan must be finite"),
        (lambda: lipschitz_net(lambda t: 0.0, 0.3), "one finite value for each"),
        (lambda: lipschitz_net(lambda t: math.nan * t, 0.3), "one finite value for each"),
        (lambda: margin_bound(1.0, data_norm=1.0, margin=1.0, n=9, width=2, margin_error=-1.0), "a share of the samples"),
        (lambda: spectral_complexity([np.eye(2)], references=[np.full((2, 2), np.nan)]), "one finite matrix"),
        (lambda: linear_rademacher([1.0], rng=np.random.default_rng(0)), "give finite points"),
        (lambda: linear_rademacher([[1.0]], draws=1, rng=np.random.default_rng(0)), "draws=1 must be at least 2"),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(ValueError, match=said):
        call()


# ---------------------------------------------------------------------------------------------------- the ends of float64


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scales", [(1e-200,), (1e-160,), (1e160,), (1e-200, 1e200), (1e-320, 1e300), (1e308, 1e-308), (1, 1)])
def test_spectral_complexities_at_every_scale_are_rounded_up(scales):
    """|s I|, |s I|_{2,1} and |s I|_F of 2 x 2 layers: 1, 2 and sqrt 2 times s; the norms may add 1e-6 each."""
    weights, product = [s * np.eye(2) for s in scales], math.prod(map(Fraction, scales))
    layers = len(scales)
    for kind, factor in (("product", 1.0), ("bartlett", 2 * layers**1.5), ("neyshabur", math.sqrt(2 * layers))):
        found = Fraction(spectral_complexity(weights, kind)) / product
        assert factor * (1 - 1e-15) <= found <= factor * (1 + 2e-6) ** layers
    moved = spectral_complexity(weights, references=[2 * w if s < 1e307 else -w for w, s in zip(weights, scales, strict=True)])
    assert moved >= spectral_complexity(weights) * (1 - 1e-12)


@pytest.mark.filterwarnings("error")
def test_spectral_complexities_beyond_float64():
    tiny, huge = 1e-200 * np.eye(2), 1e200 * np.eye(2)
    for kind in ("product", "bartlett", "neyshabur"):
        assert spectral_complexity([tiny] * 2, kind) == math.ulp(0.0)
        assert spectral_complexity([huge] * 2, kind) == math.inf
    assert spectral_complexity([1.5e308 * np.eye(2)], references=[-1.5e308 * np.eye(2)]) == math.inf
    assert spectral_complexity([tiny, 1.5e308 * np.eye(2)], references=[tiny, -1.5e308 * np.eye(2)]) == pytest.approx(6e108)
    one = [np.eye(2), np.diag([1.0, 1e-200])]  # the difference is tiny beside its layers
    found = spectral_complexity(one, "neyshabur", references=[np.eye(2), np.diag([1.0, 2e-200])])
    assert 1e-200 <= found <= 1.00001e-200


@pytest.mark.parametrize("eps", [1e-300, 1e-150, 1e-8, 0.3])
@pytest.mark.parametrize("d", [2, 3, 4])
def test_caps_of_small_radius(eps, d):
    """Shares of caps in closed form, by the series of the angle where it is small: a, 1 - cos a, a - sin a cos a."""

    def minus_log(sine):
        a, log = (math.asin(sine), math.log(sine)) if sine > 1e-5 else (sine, math.log(sine))
        if d == 2:
            return math.log(math.pi) - math.log(a)
        if d == 3:
            return math.log(4) - 2 * log if sine < 1e-5 else -math.log(math.sin(a / 2) ** 2)
        return math.log(1.5 * math.pi) - 3 * log if sine < 1e-5 else math.log(math.pi) - math.log(a - math.sin(a) * math.cos(a))

    bound = covering_bound("sphere", eps, d=d)
    assert bound.lower == pytest.approx(minus_log(eps), rel=1e-9)
    assert bound.upper == pytest.approx(minus_log(eps / 2), rel=1e-9)
    scaled = covering_bound("sphere", eps * 1e-5, d=d, radius=1e-5)
    assert scaled.lower == pytest.approx(bound.lower, rel=1e-9)


@pytest.mark.parametrize("d", [600, 3000, 10**5, 10**9])
@pytest.mark.parametrize("eps", [0.05, 0.3, 0.9])
def test_caps_in_high_dimension_lie_between_their_elementary_bounds(eps, d):
    """x^a / (a B(a, 1/2)) times a number from 1 to (1 - x)^(-1/2), x = eps^2, a = (d - 1) / 2; B is near sqrt(pi / a)."""
    bound, a = covering_bound("sphere", eps, d=d), (d - 1) / 2
    least = math.log(2) - 2 * a * math.log(eps) + math.log(a) + math.log(math.pi / a) / 2
    assert least + math.log1p(-(eps**2)) / 2 - 1e-12 * least <= bound.lower <= least * (1 + 1e-12) + 1 / (4 * a)
    assert bound.upper > bound.lower


def test_the_two_ways_to_a_cap_agree():
    """Where the share is 1e-285 the incomplete beta function still has it."""
    for d in (40, 200, 1000, 2400, 10_000):
        a = (d - 1) / 2
        log_sine = -285 * math.log(10) / (2 * a)
        assert special.betainc(a, 0.5, math.exp(2 * log_sine)) > 1e-290
        one, other = (closed_forms._cap(d, x, log_sine) for x in (math.exp(2 * log_sine), 0.0))
        assert one == pytest.approx(other, rel=2e-13)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("kind", "eps", "parameters", "upper"),
    [
        ("interval", 1e-320, dict(length=1e300), 300 * math.log(10) - math.log(2) - math.log(1e-320)),
        ("interval", 1e308, dict(length=1e-300), 0.0),
        ("cube", 1e-200, dict(d=2, side=1e200), 800 * math.log(10) - 2 * math.log(2)),
        ("ball", 1e-200, dict(d=1, radius=1e200), 400 * math.log(10)),
        ("ball", 1e-200, dict(d=2, radius=1e200), 800 * math.log(10) + 2 * math.log(2)),
        ("lipschitz", 1e250, dict(constant=1e200, length=1e60), (1e10 - 1) * math.log(2)),
        ("lipschitz", 1e-200, dict(constant=1e200), math.inf),
        ("parametric", 1e-200, dict(d=1, constant=1e200, radius=1e200), 600 * math.log(10) + math.log(2)),
        ("parametric", 1e300, dict(d=1, constant=1e200, radius=1e120), 20 * math.log(10) + math.log(2)),
    ],
)
def test_closed_forms_at_the_ends_of_float64(kind, eps, parameters, upper):
    found = covering_bound(kind, eps, **parameters)
    assert found.upper == pytest.approx(upper, rel=1e-12) and found.lower <= found.upper


@pytest.mark.filterwarnings("error")
def test_allocations_and_margins_at_the_ends_of_float64():
    shares, value = allocate([1.0, 2.0], 1e200)
    assert value == 0.0 and shares.sum() == pytest.approx(1e200)
    assert allocate([1e200, 1.0], 1.0)[1] == math.inf
    shares, value = allocate([1e200, 8e200], 1e200)
    assert value == pytest.approx(125.0) and shares.tolist() == pytest.approx([2e199, 8e199])
    assert allocate([1e-200, 8e-200], 1e-200)[1] == pytest.approx(125.0)
    options = dict(data_norm=1.0, margin=1.0, n=100, width=4)
    noise = 3 * math.sqrt(math.log(40) / 200)
    for complexity in (1e200, 1e300, math.inf):  # alpha = D / 2: the class lies in one ball
        assert margin_bound(complexity, **options) == pytest.approx(4.0 + noise)
    assert margin_bound(math.inf, **options | dict(data_norm=0.0)) == pytest.approx(noise)
    usual = margin_bound(2.0, **options)
    assert margin_bound(2e300, **options | dict(data_norm=1e5, margin=1e305)) == pytest.approx(usual)


@pytest.mark.filterwarnings("error")
def test_the_complexity_of_a_linear_class_carries_its_unit():
    x = np.random.default_rng(9).normal(size=(10, 3))
    one = linear_rademacher(x, rng=np.random.default_rng(0))
    for unit in (-900, 900):
        assert linear_rademacher(np.ldexp(x, unit), rng=np.random.default_rng(0)).value == math.ldexp(one.value, unit)
    assert linear_rademacher([[1e308]], 1e10, rng=np.random.default_rng(0)).value == math.inf


# -------------------------------------------------------------------------------------------------------- what is refused

RNG = np.random.default_rng(0)
MARGIN = dict(data_norm=1.0, margin=1.0, n=9, width=2)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: covering_bound("linear", 0.1, X=np.eye(2) * 1j, radius=1.0), "X="),
        (lambda: covering_bound("ellipsoid", 0.1, axes=[1j]), "axes="),
        (lambda: covering_bound("interval", 0.1, length="a"), "length='a'"),
        (lambda: covering_bound("interval", None, length=1.0), "eps=None"),
        (lambda: covering_bound("interval", "1", length=1.0), "eps='1'"),
        (lambda: covering_bound("interval", True, length=1.0), "eps=True"),
        (lambda: covering_bound([], 0.1), "kind="),
        (lambda: covering_bound("cube", 0.1, d=True, side=1.0), "d=True"),
        (lambda: covering_bound("composition", 0.1, constants=[1.0], classes=[2.0]), "classes=2.0 must be a function"),
        (lambda: spectral_complexity([np.eye(2) * 1j]), "weights="),
        (lambda: spectral_complexity([np.eye(2)], references=[np.eye(2) * 1j]), "references="),
        (lambda: spectral_complexity([np.eye(2)], None), "kind=None"),
        (lambda: linear_rademacher([[1j]], rng=RNG), "X="),
        (lambda: linear_rademacher([[1.0]], rng=0), "rng=0 must be a numpy Generator"),
        (lambda: linear_rademacher([[1.0]], "1", rng=RNG), "radius='1'"),
        (lambda: allocate([1j], 1.0), "radii="),
        (lambda: allocate([1.0], None), "eps=None"),
        (lambda: dudley_integral(1.0, 1.0), "log_N=1.0 must be a function"),
        (lambda: dudley_integral(lambda e: 1.0, "1"), "upper='1'"),
        (lambda: chaining_bound(1.0, 5, 1.0), "log_N=1.0 must be a function"),
        (lambda: chaining_bound(lambda e: 1.0, True, 1.0), "n=True"),
        (lambda: best_chain(None, 5, 1.0), "log_N=None must be a function"),
        (lambda: best_chain(lambda e: 1.0, 5, None), "D=None"),
        (lambda: margin_bound(True, **MARGIN), "complexity=True"),
        (lambda: stack_entropy(0.1, s="2"), "s='2'"),
        (lambda: lipschitz_net(2.0, 0.1), "f=2.0 must be a function"),
        (lambda: lipschitz_net(np.sin, 0.1)[1](np.array([1j])), "t="),
        (lambda: lipschitz_net(lambda t: t * 1j, 0.1), "must hold real numbers"),
    ],
)
def test_what_is_not_real_is_refused(call, said):
    with pytest.raises(TypeError, match=said):
        call()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: covering_bound("cube", 0.1, d=1.5, side=1.0), "d=1.5 must be a whole number"),
        (lambda: covering_bound("ball", 0.1, d=1.5), "d=1.5 must be a whole number"),
        (lambda: covering_bound("sphere", 0.1, d=2.5), "d=2.5 must be a whole number"),
        (lambda: covering_bound("parametric", 0.1, d=1.5, constant=1.0, radius=1.0), "d=1.5 must be a whole number"),
        (lambda: covering_bound("ball", 10**400, d=1), "eps is above the largest float"),
        (lambda: covering_bound("composition", 1.0, constants=[1.0] + [1e200] * 2, classes=[np.log] * 3), "beyond float64"),
        (lambda: stack_entropy(0.1, s=2.0, parameters=1.5), "parameters=1.5 must be a whole number"),
        (lambda: chaining_bound(lambda e: 1.0, 1.5, 1.0), "n=1.5 must be a whole number"),
        (lambda: best_chain(lambda e: 1.0, 1.5, 1.0), "n=1.5 must be a whole number"),
        (lambda: best_chain(lambda e: 1.0, 2, 1e-300), "D=1e-300 must lie between"),
        (lambda: chaining_bound(lambda e: 1.0, 2, 1e308), "D=1e\\+308 must lie between"),
        (lambda: margin_bound(1.0, **MARGIN | dict(n=1.5)), "n=1.5 must be a whole number"),
        (lambda: margin_bound(1.0, **MARGIN | dict(width=2.5)), "width=2.5 must be a whole number"),
        (lambda: margin_bound(-1.0, **MARGIN), "complexity=-1.0 must be at least 0"),
        (lambda: margin_bound(1.0, **MARGIN, delta=1.0), "delta=1.0 must lie"),
        (lambda: linear_rademacher([[1.0]], draws=2.5, rng=RNG), "draws=2.5 must be a whole number"),
        (lambda: lipschitz_net(np.sin, 1e-9), "eps=1e-09 asks for"),
        (lambda: lipschitz_net(np.sin, 1e-320), "eps=1e-320 asks for inf"),
        (lambda: dudley_integral(lambda e: 1.0, 1e-320), "too small for lower=0"),
        (lambda: spectral_complexity([np.zeros((2, 2))], "frob"), "kind='frob'"),
    ],
)
def test_counts_are_whole_and_errors_name_the_argument(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_whole_floats_are_counts():
    assert best_chain(lambda e: 1.0, 5.0, 1.0)[0] == best_chain(lambda e: 1.0, 5, 1.0)[0]
    assert best_chain(lambda e: 1 / e, 10**30, 1.0)[0] > 0.0
    assert covering_bound("cube", 0.1, d=3.0, side=1.0) == covering_bound("cube", 0.1, d=3, side=1.0)
