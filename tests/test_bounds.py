"""limitlib.bounds: brackets refuse nonsense, combine outward, and name their domain."""

import math
from dataclasses import FrozenInstanceError
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limitlib.bounds import (
    Ball,
    Bound,
    Box,
    Count,
    Estimate,
    Product,
    Shell,
    TokenBall,
    WholeSpace,
    compose,
    concat,
    multiply_up,
    parallel,
    residual,
    round_down,
    round_up,
    vector_norm,
)

sizes = st.floats(1e-30, 1e30)
exponents = st.sampled_from([1, 1.5, 2, 3, math.inf])


def cases(n):
    """The same n cases in every run, however slow the machine."""
    return settings(max_examples=n, deadline=None, derandomize=True)


def upper(u, norm=(2, 2), **more):
    return Bound(0.0, u, norm, **more)


# --- Bound


def test_a_bound_knows_what_it_is():
    b = Bound(1, 4)
    assert (b.ratio, b.is_exact, b.contains(1), b.contains(4.1)) == (4.0, False, True, False)
    assert Bound(3, 3, kind="exact").is_exact
    assert Bound(0, 0).ratio == 1.0
    assert Bound(0, 1).ratio == math.inf
    assert Bound(1, math.inf).ratio == math.inf
    with pytest.raises(FrozenInstanceError):
        b.upper = 1.0


@pytest.mark.parametrize(
    ("arguments", "error", "word"),
    [
        (dict(lower=2, upper=1), ValueError, "lower must not exceed upper"),
        (dict(lower=math.nan, upper=1), ValueError, "lower must not be NaN"),
        (dict(lower=0, upper=math.nan), ValueError, "upper must not be NaN"),
        (dict(lower=0, upper="big"), TypeError, "upper must be a real number"),
        (dict(lower=0, upper=1, kind="sure"), ValueError, "kind must be one of exact, certified"),
        (dict(lower=1, upper=1.1, kind="exact"), ValueError, "use kind='certified'"),
        (dict(lower=0, upper=1, norm=2), ValueError, "norm must be a pair"),
        (dict(lower=0, upper=1, norm=(2, 0.5)), ValueError, "norm must be a norm exponent"),
        (dict(lower=0, upper=1, domain="ball"), TypeError, "domain must be a Domain"),
    ],
)
def test_bad_bounds_are_refused_by_name(arguments, error, word):
    with pytest.raises(error, match=word):
        Bound(**arguments)


def test_an_exact_bound_may_be_as_wide_as_rounding_and_no_wider():
    assert Bound(1, 1 + 1e-10, kind="exact").is_exact
    with pytest.raises(ValueError, match="exact"):
        Bound(1, 1 + 1e-8, kind="exact")
    with pytest.raises(ValueError, match="exact"):
        Bound(1, math.inf, kind="exact")
    assert Bound(math.inf, math.inf, kind="exact").ratio == 1.0  # not Lipschitz, and known to be so


def test_counts_and_estimates_are_checked():
    assert Count(2, 2).is_exact and Count(np.int64(2), 5).contains(3) and not Count(2, 5).contains(6)
    with pytest.raises(ValueError, match="lower=3, upper=2"):
        Count(3, 2)
    with pytest.raises(TypeError, match="upper must be an integer"):
        Count(1, 2.5)
    assert Estimate(1.0, 0.5, 2.0).low == 0.5
    with pytest.raises(ValueError, match="low <= value <= high"):
        Estimate(1.0, 1.5, 2.0)
    with pytest.raises(ValueError, match="high must not be NaN"):
        Estimate(1.0, 0.5, math.nan)


# --- calculus: never on the wrong side of the exact rational value


@cases(100)
@given(st.lists(sizes, min_size=2, max_size=8))
def test_composition_lies_above_the_exact_product_and_close_to_it(us):
    exact = math.prod(map(Fraction, us))
    result = compose(*map(upper, us))
    assert result.lower == 0.0
    if result.upper < math.inf:
        assert Fraction(result.upper) >= exact
    if 1e-290 < exact < 1e290:
        assert Fraction(result.upper) <= exact * (1 + Fraction(len(us), 2**51))


@cases(100)
@given(sizes, sizes)
def test_residual_bracket_contains_every_value_the_branch_allows(a, b):
    low, high = sorted((a, b))
    result = residual(Bound(low, high))
    assert Fraction(result.upper) >= 1 + Fraction(high)
    assert Fraction(result.lower) <= max(0, Fraction(low) - 1, 1 - Fraction(high))


@cases(100)
@given(st.lists(sizes, min_size=2, max_size=6), st.sampled_from([1, 2, 3]))
def test_concat_lies_above_the_exact_sum_of_powers_and_close_to_it(us, q):
    result = concat(*(upper(u, (2, q)) for u in us))
    exact = sum(Fraction(u) ** q for u in us)
    assert Fraction(result.upper) ** q >= exact
    assert Fraction(result.upper) ** q <= exact * (1 + Fraction(1, 10**13))


def test_concat_in_the_maximum_norm_is_the_maximum():
    assert concat(upper(2, (2, math.inf)), upper(3, (2, math.inf))).upper == 3


@cases(30)
@given(st.integers(0, 2**32 - 1))
def test_true_norms_of_random_matrices_respect_the_calculus(seed):
    rng = np.random.default_rng(seed)
    A, B = rng.standard_normal((2, 3, 3))
    a, b = (Bound(s, s * (1 + 1e-14)) for s in (np.linalg.norm(A, 2), np.linalg.norm(B, 2)))
    slack = 1 + 1e-12  # the norms that stand for the truth are rounded too
    assert np.linalg.norm(B @ A, 2) <= compose(a, b).upper * slack
    assert residual(a).lower / slack <= np.linalg.norm(np.eye(3) + A, 2) <= residual(a).upper * slack
    stacked, side_by_side = np.vstack([A, B]), np.block([[A, np.zeros((3, 3))], [np.zeros((3, 3)), B]])
    assert concat(a, b).lower / slack <= np.linalg.norm(stacked, 2) <= concat(a, b).upper * slack
    assert parallel(a, b).lower / slack <= np.linalg.norm(side_by_side, 2) <= parallel(a, b).upper * slack


def test_residual_of_a_contraction_cannot_collapse():
    assert residual(Bound(0, 0.25)).lower == pytest.approx(0.75)
    assert residual(Bound(0, 0.25)).lower <= 0.75
    assert residual(Bound(0.5, 2)).lower == 0.0


def test_a_lower_bound_of_a_factor_says_nothing_about_the_product():
    project, other = np.diag([1.0, 0.0]), np.diag([0.0, 1.0])  # both of norm one, their product is zero
    assert np.linalg.norm(project @ other, 2) == 0.0
    assert compose(Bound(1, 1, kind="exact"), Bound(1, 1, kind="exact")).lower == 0.0
    single = Bound(1, 1, kind="exact", witness=(1, 0))
    assert compose(single) is single


def test_a_constant_map_wins_over_an_unbounded_one():
    assert compose(upper(math.inf), upper(0.0)).upper == 0.0
    assert compose(upper(math.inf), upper(2.0)).upper == math.inf


def test_the_least_trustworthy_part_names_the_kind():
    exact, sure, likely, guess = (Bound(1, 1, kind=k) for k in ("exact", "certified", "probabilistic", "estimate"))
    assert compose(exact, exact).kind == "certified"
    assert compose(sure, likely).kind == concat(likely, exact).kind == "probabilistic"
    assert residual(guess).kind == parallel(sure, guess).kind == "estimate"
    assert parallel(exact, exact).kind == "exact"


def test_norms_must_meet():
    assert compose(upper(1, (1, 2)), upper(1, (2, math.inf))).norm == (1, math.inf)
    with pytest.raises(ValueError, match="output norm 2 meets input norm 1"):
        compose(upper(1, (1, 2)), upper(1, (1, 2)))
    with pytest.raises(ValueError, match="equal input and output"):
        residual(upper(1, (1, 2)))
    with pytest.raises(ValueError, match="equal norms"):
        concat(upper(1, (1, 2)), upper(1, (2, 2)))


def test_the_maximum_is_refused_where_it_is_false():
    with pytest.raises(ValueError, match="p <= q"):
        parallel(upper(1, (math.inf, 1)), upper(1, (math.inf, 1)))
    # and rightly: two identities on the line, l_inf -> l_1, have norm 2 side by side
    assert vector_norm(np.ones(2), 1) == 2 * vector_norm(np.ones(2), math.inf)


@pytest.mark.parametrize("scale", [1e-200, 0.4, 1.0, 1e200])
def test_a_large_exponent_does_not_lose_the_largest_entry(scale):
    assert vector_norm(np.array([scale, 0.75 * scale]), 10_001) == pytest.approx(scale, rel=1e-12)


def test_local_bounds_keep_their_domain():
    ball, box = Ball([0.0], 1.0), Box([0.0], [1.0])
    chain = compose(upper(1, domain=ball), upper(1, domain=box))
    assert chain.domain == ball and "if inputs stay in Box" in chain.source
    assert parallel(upper(1, domain=ball), upper(1, domain=box)).domain == Product((ball, box))
    assert parallel(upper(1), upper(1)).domain == WholeSpace()
    with pytest.raises(ValueError, match="domains must agree"):
        concat(upper(1, domain=ball), upper(1, domain=box))


@pytest.mark.parametrize("combine", [compose, parallel, concat])
def test_combining_refuses_nothing_and_negatives(combine):
    with pytest.raises(ValueError, match="at least one"):
        combine()
    with pytest.raises(ValueError, match="lower=-1"):
        combine(Bound(-1, 1), Bound(0, 1))
    with pytest.raises(TypeError, match="Bound objects"):
        combine(1.0)


# --- rounding and norms


@cases(100)
@given(st.floats(-1e300, 1e300), st.integers(1, 50))
def test_rounding_moves_outward_and_not_far(value, ulps):
    assert round_down(value, ulps) <= value <= round_up(value, ulps)
    if value:
        assert round_down(value, ulps) < value < round_up(value, ulps)
        assert round_up(value, ulps) - value <= 2 * ulps * math.ulp(value)
    else:
        assert round_up(value) == 0.0


@cases(100)
@given(st.floats(0, 1e300), st.floats(0, 1e300))
def test_products_round_up_even_among_subnormal_numbers(a, b):
    product = multiply_up(a, b)
    assert product == math.inf or Fraction(product) >= Fraction(a) * Fraction(b)


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, math.inf])
@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1.0, 1e30, 1e300])
def test_vector_norm_at_all_scales(p, scale):
    v = np.array([[3.0, -4.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    np.testing.assert_allclose(vector_norm(v * scale, p) / scale, np.linalg.norm(v, p, axis=-1), rtol=1e-14)


@cases(100)
@given(st.integers(0, 2**32 - 1), exponents)
def test_a_row_keeps_its_norm_whatever_stands_beside_it(seed, p):
    rng = np.random.default_rng(seed)
    v = rng.standard_normal((6, 5))
    alone = np.array([vector_norm(row[None], p)[0] for row in v])
    np.testing.assert_array_equal(vector_norm(v, p), alone)
    extreme = np.vstack([v, np.full((1, 5), 1e250), np.zeros((1, 5)), np.full((1, 5), np.nan), np.full((1, 5), np.inf)])
    np.testing.assert_array_equal(vector_norm(extreme, p)[:6], alone)
    assert np.isnan(vector_norm(extreme, p)[8]) and vector_norm(extreme, p)[9] == math.inf


# --- domains


@pytest.mark.parametrize(
    ("domain", "inside", "outside"),
    [
        (WholeSpace(), [1e9, 0.0], None),
        (Ball([1.0, 0.0], 1.0), [1.5, 0.5], [2.0, 0.5]),
        (Ball([0.0, 0.0], 1.0, math.inf), [0.9, 0.9], [1.1, 0.0]),
        (Ball([0.0, 0.0], 1.0, 1), [0.4, 0.5], [0.6, 0.5]),
        (Box([0.0, -1.0], [1.0, 1.0]), [0.0, 1.0], [-1e-9, 0.0]),
        (TokenBall(1.0), [[0.6, 0.6], [0.0, 0.9]], [[0.6, 0.6], [0.0, 1.1]]),
        (Shell(1.0), [0.9, 0.9], [0.5, 0.5]),
        (Shell(1.0, 2.0), [0.9, 0.9], [1.5, 1.5]),
        (Shell(1.0, 2.0), [-1.4, 1.4], [[0.1, 0.1], [2.0, 0.1]]),
        (Shell(1.0, centred=True), [50.0, 52.0], [[50.0, 50.0], [9.0, 9.1]]),
        (Shell(1.0, 2.0, centred=True), [[50.0, 52.0], [-1.0, 1.0]], [50.0, 56.0]),
        (Shell(0.0), [0.0, 0.0], None),
    ],
)
def test_membership(domain, inside, outside):
    assert domain.contains(inside).all()
    assert outside is None or not domain.contains(outside).any()


@cases(60)
@given(st.integers(0, 2**32 - 1), exponents, exponents)
def test_the_inner_ball_lies_in_the_domain(seed, p, q):
    rng = np.random.default_rng(seed)
    x = 0.4 * rng.standard_normal(3)
    shells = (Shell(0.2), Shell(0.2, 0.9), Shell(0.1, centred=True), Shell(0.1, 0.8, centred=True))
    for domain in (Ball(0.3 * rng.standard_normal(3), 1.0, q), Box(-np.ones(3), rng.uniform(0.5, 2, 3)), *shells):
        r = float(domain.inner_radius(x, p))
        if r <= 0:
            continue
        directions = rng.standard_normal((200, 3))
        directions[:3] = np.eye(3)
        directions[3:7] = np.sign(rng.standard_normal((4, 3)))
        directions[7] = -x  # straight at the hole of the shell
        sphere = x + 0.999999 * r * directions / vector_norm(directions, p)[:, None]
        assert domain.contains(sphere).all()


@cases(60)
@given(st.integers(0, 2**32 - 1))
def test_shells_hold_exactly_the_points_of_their_norms(seed):
    rng = np.random.default_rng(seed)
    low, high = np.sort(rng.uniform(0, 3, 2))
    x = rng.standard_normal((200, 4)) * rng.uniform(0, 3, (200, 1)) + 100 * rng.integers(0, 2)
    for centred in (False, True):
        size = np.linalg.norm(x - x.mean(axis=1, keepdims=True) if centred else x, axis=1)
        clear = (np.abs(size - low) > 1e-9) & (np.abs(size - high) > 1e-9)
        inside = Shell(low, high, centred=centred).contains(x)
        assert (inside == ((low <= size) & (size <= high)))[clear].all()


def test_a_shell_without_an_outer_end_is_the_old_one():
    assert Shell(1.0) == Shell(1.0, math.inf) != Shell(1.0, 2.0)
    assert Shell(1.0) != Shell(1.0, centred=True)
    assert Shell(1.0, 3.0).inner_radius(np.array([2.5, 0.0])) == pytest.approx(0.5)
    assert Shell(1.0, 3.0).inner_radius(np.array([1.2, 0.0])) == pytest.approx(0.2)
    assert Shell(1.0, 3.0).inner_radius(np.array([4.0, 0.0])) == pytest.approx(-1.0)
    # adding a constant vector changes nothing once the mean is taken off
    assert Shell(1.0, centred=True).inner_radius(np.array([7.0, 10.0])) == pytest.approx(3 / math.sqrt(2) - 1)


def test_the_inner_ball_is_not_needlessly_small():
    assert Ball([0.0, 0.0], 1.0).inner_radius(np.array([0.5, 0.0])) == pytest.approx(0.5)
    assert Ball([0.0, 0.0], 1.0, 1).inner_radius(np.zeros(2), math.inf) == pytest.approx(0.5)
    assert Ball([0.0, 0.0], 1.0).inner_radius(np.array([3.0, 0.0])) == pytest.approx(-2.0)
    assert Box([0.0], [1.0]).inner_radius(np.array([0.25])) == pytest.approx(0.25)
    assert WholeSpace().inner_radius(np.zeros((4, 2))).tolist() == [math.inf] * 4


@pytest.mark.parametrize("p", [1, 2, 3, math.inf])
def test_samples_are_uniform_in_the_ball(p):
    rng = np.random.default_rng(7)
    n, d = 40_000, 3
    points = Ball(np.ones(d), 2.0, p).sample(n, rng) - 1
    radii = vector_norm(points, p) / 2
    assert radii.max() <= 1 + 1e-12
    # P(radius <= s) = s^d for the uniform law; Kolmogorov's statistic beyond 2.2 / sqrt(n) has probability 1e-4
    assert np.abs(np.sort(radii) ** d - np.arange(1, n + 1) / n).max() < 2.2 / math.sqrt(n)
    assert np.abs(points.mean(axis=0)).max() < 5 * 2 / math.sqrt(n)


def test_sampling_needs_a_bounded_named_set():
    rng = np.random.default_rng(0)
    box = Box([0.0, 5.0], [1.0, 6.0])
    assert box.contains(box.sample(100, rng)).all()
    for domain in (WholeSpace(), TokenBall(1.0), Shell(1.0), Product((box, box))):
        with pytest.raises(ValueError, match="cannot be sampled"):
            domain.sample(1, rng)


def test_domains_are_values():
    assert Ball([0, 0], 1) == Ball((0.0, -0.0), 1.0)
    assert hash(Ball([0, 0], 1)) == hash(Ball((0.0, -0.0), 1.0))
    assert Ball([0, 0], 1) != Ball([0, 0], 1, p=1)
    assert Ball([0, 0], 1) != Box([0, 0], [1, 1])
    center = np.zeros(2)
    ball = Ball(center, 1.0)
    center[0] = 9.0
    assert ball.center[0] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        ball.center[0] = 1.0


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Ball([0.0], -1.0), "radius must be at least 0"),
        (lambda: Ball([math.nan], 1.0), "center must be a nonempty vector of finite numbers"),
        (lambda: Ball(0.0, 1.0), "center must be a nonempty vector"),
        (lambda: Ball([0.0], 1.0, 0.5), "p must be a norm exponent"),
        (lambda: Box([1.0], [0.0]), "lo must have the shape of hi and lie below it"),
        (lambda: TokenBall(-1.0), "R must be at least 0"),
        (lambda: TokenBall(1.0).contains([1.0]), "shape"),
        (lambda: Shell(math.nan), "r_min must not be NaN"),
        (lambda: Shell(-1.0), "r_min must be at least 0"),
        (lambda: Shell(2.0, 1.0), "r_max must be at least 2"),
        (lambda: Shell(2.0, math.nan), "r_max must not be NaN"),
        (lambda: Product((WholeSpace(),)).contains([1.0]), "one point for each factor"),
    ],
)
def test_bad_domains_are_refused_by_name(make, word):
    with pytest.raises(ValueError, match=word):
        make()
