"""limitlib.lipschitz.ascent_lower: attained, inside the domain, never above the truth, and close to it."""

import itertools
import math

import numpy as np
import pytest
import torch

from limitlib.bounds import Ball, Box, Product, Shell, TokenBall, WholeSpace, vector_norm
from limitlib.lipschitz import Pair, ascent_lower, relu_exact

INF = math.inf


def rng(seed=0):
    return np.random.default_rng(seed)


def module(generator, sizes, bias=0.5):
    layers, weights, biases = [], [], []
    for i, o in itertools.pairwise(sizes):
        layer = torch.nn.Linear(i, o, dtype=torch.float64)
        weights.append(generator.standard_normal((o, i)) / math.sqrt(i))
        biases.append(bias * generator.standard_normal(o))
        layer.weight.data, layer.bias.data = torch.tensor(weights[-1]), torch.tensor(biases[-1])
        layers += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1]), weights, biases


def quotient(f, pair, norm=(2, 2)):
    a, b = pair.a[None], pair.b[None]
    rise = np.asarray(f(a), dtype=float).reshape(1, -1) - np.asarray(f(b), dtype=float).reshape(1, -1)
    return float(vector_norm(rise, norm[1])[0] / vector_norm((a - b).reshape(1, -1), norm[0])[0])


# --- closed forms


@pytest.mark.parametrize("norm", [(2, 2), (1, 1), (INF, INF), (1, 2), (2, INF), (1, INF), (3, 3)])
def test_a_linear_map_reaches_its_norm(norm):
    A = rng(1).standard_normal((3, 4))
    for f in (lambda x: x @ A.T, lambda x: x @ torch.tensor(A.T)):
        bound = ascent_lower(f, Ball(np.zeros(4), 1.0), rng=rng(), norm=norm)
        assert quotient(lambda x: x @ A.T, bound.witness, norm) == pytest.approx(bound.lower, rel=1e-6)
        if norm[0] == norm[1] == 2:
            truth = np.linalg.norm(A, 2)
        elif norm[0] == 1:
            truth = np.linalg.norm(A, norm[1], axis=0).max()
        elif norm[1] == INF:
            truth = np.linalg.norm(A, {2: 2, INF: 1}[norm[0]], axis=1).max()
        else:
            continue
        assert 0.9999 * truth <= bound.lower <= truth
        assert bound.upper == INF and bound.kind == "certified" and bound.norm == norm


@pytest.mark.parametrize(
    ("f", "domain", "shape", "truth"),
    [
        (np.sin, Box([1.0], [2.0]), None, math.cos(1.0)),
        (np.sin, Ball([0.0, 0.0, 0.0], 3.0), None, 1.0),
        (lambda x: x**2 / 2, Ball([3.0], 0.5), None, 3.5),
        (lambda x: np.exp(-(x**2)), WholeSpace(), 1, math.sqrt(2 / math.e)),
        (lambda x: torch.softmax(x, -1), WholeSpace(), (5,), 0.5),
        (lambda x: x / vector_norm(x, 2)[..., None], Shell(0.5, 2.0), (3,), 2.0),
        (lambda x: (x**2).sum((-1, -2)), TokenBall(1.5), (4, 2), 6.0),
        (lambda x: torch.nn.functional.layer_norm(x, (6,), eps=1e-5), Shell(2.0, centred=True), 6, math.sqrt(6) / 2),
        (torch.nn.GELU(), WholeSpace(), 1, 1.128904),
        (lambda x: 0 * x + 7, Ball([0.0], 1.0), None, 0.0),
    ],
)
def test_known_constants_are_approached_and_never_exceeded(f, domain, shape, truth):
    bound = ascent_lower(f, domain, rng=rng(3), shape=shape)
    assert bound.lower <= truth * (1 + 1e-6) and bound.lower >= 0.999 * truth
    assert bound.domain == domain
    if truth:
        for x in (bound.witness.a, bound.witness.b):
            assert np.all(domain.contains(x))


def test_a_derivative_that_exists_nowhere_is_not_reported():
    """x - relu(x) + relu(-x) is 0, though automatic differentiation at 0 answers 1."""

    def zero(x):
        return x - torch.relu(x) + torch.relu(-x)

    x = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    zero(x).backward()
    assert x.grad.item() == 1
    assert ascent_lower(zero, Ball([0.0], 1.0), rng=rng()).lower == 0


def test_the_rounding_of_a_large_offset_is_not_taken_for_a_slope():
    bound = ascent_lower(lambda x: 1e12 + np.sin(x), Ball([0.0], 1.0), rng=rng())
    assert bound.lower <= 1
    assert ascent_lower(lambda x: 1e12 + 1e-6 * np.sin(x), Ball([0.0], 1.0), rng=rng()).lower == 0


# --- ReLU networks


def test_relu_networks_are_nearly_exact_and_never_above():
    ratios = []
    generator = rng(11)
    for k in range(24):
        d = int(generator.integers(2, 6))
        net, weights, biases = module(generator, [d, *[[10], [6, 5], [4, 4, 4]][k % 3], int(generator.integers(1, 4))])
        ones = np.ones(d)
        domain = [WholeSpace(), Ball(0.2 * ones, 1.0), Box(-ones, ones), Ball(0 * ones, 1.0, 1)][k % 4]
        norm = [(2, 2), (2, 2), (INF, INF)][k % 3]
        bound = ascent_lower(net, domain, rng=rng(k), norm=norm, shape=d)
        exact = relu_exact(weights, biases, domain, norm=norm)
        assert exact.is_exact and bound.lower <= exact.upper
        ratios.append(bound.lower / exact.upper)
        assert isinstance(bound.witness, Pair) and np.all(domain.contains(bound.witness.point))
        got = quotient(lambda x, net=net: net(torch.tensor(x)).detach(), bound.witness, norm)
        assert got == pytest.approx(bound.lower, rel=1e-6)
        assert vector_norm(bound.witness.direction, 2) == pytest.approx(1)
    assert np.mean(np.array(ratios) >= 0.99) >= 0.9


def test_the_same_network_as_a_black_box_is_below_too():
    """Seed 1 is the reason why a search proves no upper end: its best region is a sliver at the edge of the ball."""
    for seed in range(4):
        net, weights, biases = module(rng(seed), [3, 8, 2])
        for f in (lambda x, net=net: net(x), lambda x, net=net: net(torch.tensor(x)).detach().numpy()):
            bound = ascent_lower(f, Ball(np.zeros(3), 1.0), rng=rng(seed))
            exact = relu_exact(weights, biases, Ball(np.zeros(3), 1.0))
            assert 0 < bound.lower <= exact.upper and "ascent" in bound.source
            assert bound.lower > 0.97 * exact.lower or seed == 1


def test_modules_are_left_as_they_were_and_evaluated_in_evaluation_mode():
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8), torch.nn.Tanh(), torch.nn.Dropout(0.5))
    net.train()
    first, again = (ascent_lower(net, Ball(np.zeros(3), 1.0), rng=rng(), steps=5) for _ in range(2))
    assert first.lower == again.lower > 0 and net.training
    assert net[0].weight.dtype == torch.float32 and net[0].weight.requires_grad and net[0].weight.grad is None
    single = ascent_lower(net, Ball(np.zeros(3), 1.0), rng=rng(), steps=5, dtype="float32")
    assert single.lower == pytest.approx(first.lower, rel=0.05)


# --- errors


@pytest.mark.parametrize(
    ("f", "domain", "arguments", "error", "words"),
    [
        (np.sin, WholeSpace(), {}, ValueError, "names no dimension"),
        (np.sin, TokenBall(1.0), dict(shape=3), ValueError, "token matrices"),
        (np.sin, Ball([0.0], 1.0), dict(shape=2), ValueError, "1 dimensions"),
        (np.sin, Ball([0.0], 0.0), {}, ValueError, "one point"),
        (np.sin, Box([1.0], [1.0]), {}, ValueError, "one point"),
        (np.sin, Product((WholeSpace(),)), {}, TypeError, "domain must be"),
        (np.sin, Ball([0.0], 1.0), dict(norm=(0.5, 2)), ValueError, "exponent"),
        (np.sin, Ball([0.0], 1.0), dict(norm=2), ValueError, "pair"),
        (np.sin, Ball([0.0], 1.0), dict(restarts=0), ValueError, "restarts=0"),
        (np.sin, Ball([0.0], 1.0), dict(scale=-1.0), ValueError, "scale"),
        (np.sin, Ball([0.0], 1.0), dict(rng=0), TypeError, "Generator"),
        (np.sin, Ball([0.0], 1.0), dict(dtype="float16"), TypeError, "float64 or float32"),
        (lambda x: x / 0 if isinstance(x, torch.Tensor) else x * np.nan, Ball([0.0], 1.0), {}, ValueError, "NaN or infinite"),
        (lambda x: np.sin(x).sum(), Ball([0.0], 1.0), {}, ValueError, "first dimension"),
        (torch.nn.Linear(1, 1).half(), Ball([0.0], 1.0), {}, TypeError, r"\.float\(\)"),
    ],
)
def test_bad_arguments_are_named(f, domain, arguments, error, words):
    with pytest.raises(error, match=words):
        ascent_lower(f, domain, **{"rng": rng(), **arguments})
