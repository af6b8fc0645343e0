"""limitlib.lipschitz.relu_exact: closed forms, an independent enumeration, degenerate networks, and honest brackets."""

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import linprog

from limitlib.bounds import Ball, Box, Shell, WholeSpace
from limitlib.lipschitz import LinearRegion, relu_exact, sdp_upper

INF = math.inf
NORMS = [(2, 2), (1, 1), (INF, INF), (1, 2), (2, INF)]


def network(rng, sizes, bias=0.5):
    weights = [rng.standard_normal((o, i)) / math.sqrt(i) for i, o in itertools.pairwise(sizes)]
    return weights, [bias * rng.standard_normal(o) for o in sizes[1:]]


def forward(weights, biases, x):
    for W, b in zip(weights[:-1], biases[:-1], strict=True):
        x = np.maximum(x @ W.T + b, 0)
    return x @ weights[-1].T + biases[-1]


def size(J, norm):
    p, q = norm
    if p == q == 2:
        return np.linalg.norm(J, 2)
    if p == 1:
        return np.linalg.norm(J, q, axis=0).max()
    return np.linalg.norm(J, {1: INF, 2: 2, INF: 1}[p], axis=1).max()


def jacobians(weights, biases, lo, hi):
    """Jacobians of all regions that meet the box, by one linear program for each cell: independent of the library."""
    d, found = weights[0].shape[1], []

    def width(G, h):
        if not G:
            return 1.0
        G, h = np.array(G), np.array(h)
        scale = np.linalg.norm(G, axis=1)
        A = np.column_stack([-G / scale[:, None], np.ones(len(G))])
        answer = linprog([*np.zeros(d), -1.0], A_ub=A, b_ub=h / scale, bounds=[*zip(lo, hi, strict=True), (None, 1)])
        return -answer.fun

    def layer(k, A, c, G, h):
        Z, z = weights[k] @ A, weights[k] @ c + biases[k]
        if k == len(weights) - 1:
            found.append(Z)
            return

        def neuron(i, G, h, on):
            if i == len(Z):
                on = np.array(on)
                layer(k + 1, np.where(on[:, None], Z, 0), np.where(on, z, 0), G, h)
            elif not Z[i].any():
                neuron(i + 1, G, h, [*on, z[i] > 0])
            else:
                for sign in (1, -1):
                    if width([*G, sign * Z[i]], [*h, sign * z[i]]) > 1e-7:
                        neuron(i + 1, [*G, sign * Z[i]], [*h, sign * z[i]], [*on, sign > 0])

        neuron(0, G, h, [])

    layer(0, np.eye(d), np.zeros(d), [], [])
    return found


# --- closed forms


def test_the_absolute_value_and_a_single_matrix():
    absolute = relu_exact([[[1.0], [-1.0]], [[1.0, 1.0]]])
    assert absolute.is_exact and absolute.contains(1.0)
    A = np.random.default_rng(0).standard_normal((3, 4))
    for norm in NORMS:
        bound = relu_exact([A], norm=norm)
        assert bound.is_exact and bound.upper == pytest.approx(size(A, norm), rel=1e-12)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_sawtooth_has_constant_two_to_the_depth_although_its_formal_norm_is_four_to_it(depth):
    tent = [np.array([[2.0], [4.0]]), np.array([0.0, -2.0]), np.array([[1.0, -1.0]])]
    weights, biases = [tent[0]], [tent[1]]
    for _ in range(depth - 1):
        weights.append(tent[0] @ tent[2])
        biases.append(tent[1])
    weights.append(tent[2])
    biases.append(np.zeros(1))
    bound = relu_exact(weights, biases)
    assert bound.is_exact and bound.contains(2.0**depth)
    assert sdp_upper(weights).upper >= 4.0**depth * (1 - 1e-9)


def test_patterns_without_a_region_do_not_count():
    """relu(x) - relu(x) is 0; the pattern that switches off one of the twins has norm 1 and no region."""
    twins = [np.array([[0.3, 0.7], [0.3, 0.7]]), np.array([[1.0, -1.0]])]
    assert relu_exact(twins).upper == 0 and relu_exact(twins).is_exact
    assert sdp_upper(twins).upper > 0.3
    # The same with one bias moved by an ulp: a sliver of a region exists, and now the norm counts.
    ulp = relu_exact(twins, [np.array([1.0, math.nextafter(1.0, 2)]), np.zeros(1)], Box([-3, -3], [3, 3]))
    assert ulp.upper >= math.hypot(0.3, 0.7) * (1 - 1e-12)


@pytest.mark.parametrize(
    ("weights", "biases", "domain"),
    [
        ([[[0.0, 0.0]], [[5.0]]], None, None),
        ([[[1.0], [2.0]], [[0.0, 0.0]]], None, None),
        ([[[1.0], [2.0]], [[-1.0, -1.0]], [[7.0]]], [[0, 0], [0], [0]], None),  # the second layer never fires
        ([[[1.0], [2.0]], [[3.0, 1.0]]], [[-1, -2], [0]], Box([-1.0], [0.9])),  # off on the whole box
        ([[[1.0, 1.0]], [[1.0]]], [[-2.0], [0.0]], Box([0.0, 0.0], [1.0, 1.0])),  # on at the corner only
    ],
)
def test_constant_networks_have_constant_zero_exactly(weights, biases, domain):
    for norm in NORMS:
        bound = relu_exact(weights, biases, domain, norm=norm)
        assert bound.lower == bound.upper == 0 and bound.is_exact


def test_zero_rows_zero_biases_and_duplicated_neurons():
    rng = np.random.default_rng(3)
    W1, W2 = rng.standard_normal((4, 3)), rng.standard_normal((2, 4))
    plain = relu_exact([W1, W2])
    assert plain.is_exact
    padded = relu_exact([np.vstack([W1, np.zeros((2, 3))]), np.hstack([W2, np.ones((2, 2))])], [[0] * 4 + [1.0, 0], [0, 0]])
    doubled = relu_exact([np.vstack([W1, W1]), np.hstack([W2, W2]) / 2])
    tripled = relu_exact([np.vstack([W1, 3 * W1]), np.hstack([W2, W2 / 3]) / 2])
    for other in (padded, doubled, tripled):
        assert other.is_exact and other.upper == pytest.approx(plain.upper, rel=1e-12)


# --- against enumeration


@pytest.mark.parametrize("style", ["general", "zero biases", "integers", "sparse"])
def test_equal_to_an_independent_enumeration(style):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        sizes = [int(rng.integers(1, 4)), *[[6], [4, 3], [3, 2, 2]][seed % 3], int(rng.integers(1, 3))]
        weights, biases = network(rng, sizes)
        if style == "zero biases":
            biases = [0 * b for b in biases]
        if style == "integers":
            weights, biases = [np.round(2 * w) for w in weights], [np.round(3 * b) for b in biases]
        if style == "sparse":
            weights = [w * (rng.random(w.shape) < 0.6) for w in weights]
        half = float(rng.choice([0.5, 1.0, 2.0]))
        lo, hi = np.full(sizes[0], -half), np.full(sizes[0], half)
        found = jacobians(weights, biases, lo, hi)
        norm = NORMS[seed % len(NORMS)]
        truth = max(size(J, norm) for J in found)
        local = relu_exact(weights, biases, Box(lo, hi), norm=norm)
        assert local.is_exact, local.source
        assert local.upper == pytest.approx(truth, rel=1e-9, abs=1e-12)
        assert relu_exact(weights, biases, Ball(np.zeros(sizes[0]), half, INF), norm=norm).upper == pytest.approx(local.upper)
        everywhere = relu_exact(weights, biases, norm=norm)
        assert everywhere.is_exact and everywhere.upper >= local.lower


def test_the_constant_grows_with_the_domain_from_the_jacobian_to_the_global_one():
    weights, biases = network(np.random.default_rng(1), [3, 6, 4, 2])
    center = np.array([0.1, -0.2, 0.3])
    for norm in [(2, 2), (INF, INF)]:
        total = relu_exact(weights, biases, norm=norm)
        for p in (1, 2, INF):
            last = 0.0
            for radius in (1e-9, 0.5, 2.0):
                bound = relu_exact(weights, biases, Ball(center, radius, p), norm=norm)
                assert bound.is_exact and bound.upper >= last * (1 - 1e-12)
                if radius == 1e-9:
                    steps = 1e-10 * np.eye(3)
                    J = (forward(weights, biases, center + steps) - forward(weights, biases, center - steps)).T / 2e-10
                    assert bound.upper == pytest.approx(size(J, norm), rel=1e-4)
                last = bound.upper
            assert last <= total.upper * (1 + 1e-12)


@pytest.mark.parametrize("domain", [WholeSpace(), Ball([0.2, -0.1, 0.4], 0.7), Box([-1, 0, -1], [1, 0, 2.0])], ids=repr)
def test_the_witness_is_a_region_that_attains_the_lower_end(domain):
    weights, biases = network(np.random.default_rng(5), [3, 7, 5, 2])
    bound = relu_exact(weights, biases, domain)
    region = bound.witness
    assert isinstance(region, LinearRegion) and bound.is_exact
    x, J = region.point, region.jacobian
    assert isinstance(domain, Box) or domain.contains(x)
    free = domain.lo < domain.hi if isinstance(domain, Box) else np.ones(3, dtype=bool)
    steps = 1e-7 * np.eye(3)
    numeric = (forward(weights, biases, x + steps) - forward(weights, biases, x - steps)).T / 2e-7
    assert J[:, free] == pytest.approx(numeric[:, free], abs=1e-6) and not J[:, ~free].any()
    assert np.linalg.norm(J, 2) == pytest.approx(bound.lower, rel=1e-10)
    signs = np.maximum(weights[0] @ x + biases[0], 0) > 0
    assert (signs == region.pattern[0]).all() and [len(p) for p in region.pattern] == [7, 5]


def test_scales_from_the_very_small_to_the_very_large():
    weights, biases = network(np.random.default_rng(2), [2, 5, 4, 1])
    truth = relu_exact(weights, biases).upper
    for a, b, c in [(1e150, 1e-150, 1.0), (1e-30, 1e-30, 1e30), (1e-150, 1e-100, 1e200), (1e100, 1e100, 1e-100)]:
        scaled = relu_exact([a * weights[0], b * weights[1], c * weights[2]], [a * biases[0], a * b * biases[1], biases[2]])
        assert scaled.is_exact and scaled.upper / (a * b * c) == pytest.approx(truth, rel=1e-9)
    tiny = relu_exact(weights, [1e-30 * b for b in biases])  # all walls next to the origin, in another order of regions
    assert tiny.upper == pytest.approx(truth, rel=1e-9)
    moved = relu_exact(weights, biases, Ball([1e-40, 0], 1e-30))
    assert moved.is_exact and moved.upper <= truth * (1 + 1e-12)
    assert relu_exact(weights, [1e250 * b for b in biases]).upper == pytest.approx(truth, rel=1e-9)
    far = relu_exact([w * 1e-200 for w in weights], biases)
    assert far.kind == "certified" and "powers of two" in far.source and far.lower == 0


# --- anytime


def test_out_of_time_it_returns_a_bracket_that_holds():
    for seed in range(2):
        weights, biases = network(np.random.default_rng(seed), [4, 12, 3])
        for norm in [(2, 2), (INF, INF)]:
            exact = relu_exact(weights, biases, norm=norm)
            hurried = relu_exact(weights, biases, norm=norm, max_seconds=0.0)
            assert exact.is_exact and 0 < hurried.lower <= exact.upper and exact.lower <= hurried.upper < 20 * exact.upper
            loose = relu_exact(weights, biases, norm=norm, rtol=0.5)
            assert loose.upper <= 1.5 * loose.lower * (1 + 1e-9) and loose.lower <= exact.upper and exact.lower <= loose.upper
    wide, offsets = network(np.random.default_rng(9), [30, 60, 60, 5])
    bracket = relu_exact(wide, offsets, max_seconds=0.3)
    assert not bracket.is_exact and "time used up" in bracket.source
    assert 0 < bracket.lower <= bracket.upper <= np.prod([np.linalg.norm(w, 2) for w in wide])


def test_dtypes_and_missing_biases():
    W = [np.array([[1, -2], [3, 1]]), np.array([[1, 1]], dtype=np.float32)]
    bound = relu_exact(W, [None, np.array([1], dtype=np.float32)])
    assert bound.is_exact and bound.upper == pytest.approx(math.hypot(4, 1))


# --- errors


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (dict(weights=[]), ValueError, "weights is empty"),
        (dict(weights=np.eye(2)), TypeError, r"\[weights\]"),
        (dict(weights=[np.eye(2), np.eye(3)]), ValueError, r"weights\[1\] has 3 inputs"),
        (dict(weights=[np.full((2, 2), np.nan)]), ValueError, r"weights\[0\] holds a NaN"),
        (dict(weights=[np.eye(2, dtype=np.float16)]), TypeError, r"\.float\(\)"),
        (dict(weights=[np.empty((0, 2))]), ValueError, "nonempty"),
        (dict(weights=[np.eye(2)], biases=[[1.0]]), ValueError, r"biases\[0\] has shape"),
        (dict(weights=[np.eye(2)], biases=[]), ValueError, "biases has 0 entries"),
        (dict(weights=[np.eye(2)], biases=[[1.0, np.inf]]), ValueError, r"biases\[0\] holds"),
        (dict(weights=[np.eye(2)], domain=Ball([0.0], 1.0)), ValueError, "1 dimensions"),
        (dict(weights=[np.eye(2)], domain=Ball([0.0, 0], 0.0)), ValueError, "one point"),
        (dict(weights=[np.eye(2)], domain=Ball([0.0, 0], 1.0, 3)), ValueError, "l_3"),
        (dict(weights=[np.eye(2)], domain=Shell(1.0)), TypeError, "WholeSpace"),
        (dict(weights=[np.eye(2)], norm=(INF, 1)), ValueError, "norm must be"),
        (dict(weights=[np.eye(2)], max_seconds=-1), ValueError, "max_seconds"),
    ],
)
def test_bad_arguments_are_named(arguments, error, words):
    with pytest.raises(error, match=words):
        relu_exact(**arguments)
