"""Properties that hold for whatever hypothesis finds: lower <= truth <= upper, for norms, networks and attention."""

import itertools
import math

import numpy as np
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from limitlib.bounds import Ball, TokenBall, WholeSpace
from limitlib.lipschitz import ascent_lower, attention_bound, lipschitz, relu_exact, sdp_upper
from limitlib.operators import conv_norm, operator_norm

steady = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
entries = st.one_of(st.just(0.0), st.sampled_from([1.0, -1.0, 0.5, 3.0]), st.floats(-2, 2, allow_subnormal=False))
scales = st.sampled_from([1.0, 1e30, 1e-30, 1e150, 1e-150])


@st.composite
def matrices(draw, rows=None, columns=None, most=5):
    m, n = rows or draw(st.integers(1, most)), columns or draw(st.integers(1, most))
    return np.array(draw(st.lists(entries, min_size=m * n, max_size=m * n))).reshape(m, n)


HIDDEN = st.lists(st.integers(1, 4), min_size=1, max_size=3)


@st.composite
def networks(draw):
    """Weights and biases of a small ReLU network; zero rows, dead units and ties come by themselves."""
    sizes = [draw(st.integers(1, 3)), *draw(HIDDEN), draw(st.integers(1, 2))]
    weights = [draw(matrices(o, i)) for i, o in itertools.pairwise(sizes)]
    return weights, [draw(matrices(len(w), 1))[:, 0] for w in weights]


def values(weights, biases, x):
    for k, (W, b) in enumerate(zip(weights, biases, strict=True)):
        x = x @ W.T + b
        x = np.maximum(x, 0.0) if k < len(weights) - 1 else x
    return x


def slopes(f, x, rng, reach=1e-3):
    """Quotients of close pairs about the points x, less what rounding may add."""
    step = rng.normal(size=x.shape)
    step *= reach / np.linalg.norm(step, axis=1)[:, None]
    a, b = f(x + step), f(x - step)
    rise = np.linalg.norm(a - b, axis=1) - 1e-13 * (np.linalg.norm(a, axis=1) + np.linalg.norm(b, axis=1))
    return rise / (2 * reach * (1 + 1e-9))


@given(matrices(), scales)
@settings(steady, max_examples=300)
def test_a_matrix_norm_lies_in_its_bracket(A, scale):
    bound = operator_norm(A * scale)
    truth = float(np.linalg.norm(A, 2)) * scale
    assert bound.lower <= truth * (1 + 1e-14) and truth * (1 - 1e-14) <= bound.upper
    assert bound.upper - bound.lower <= 1e-6 * bound.upper


@given(st.data())
@settings(steady, max_examples=120)
def test_a_convolution_is_the_matrix_that_it_is(data):
    groups, size = data.draw(st.integers(1, 2)), data.draw(st.integers(3, 7))
    kernel, stride = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    dilation, padding = data.draw(st.integers(1, 2)), data.draw(st.integers(0, 3))
    mode = data.draw(st.sampled_from(["zeros", "circular"])) if padding <= size else "zeros"
    assume(size + 2 * padding >= dilation * (kernel - 1) + 1)
    weight = data.draw(matrices(2 * groups * 2, kernel)).reshape(2 * groups, 2, kernel)
    layer = torch.nn.Conv1d(2 * groups, 2 * groups, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups,
                            bias=False, padding_mode=mode, dtype=torch.float64)  # fmt: skip
    layer.weight.data = torch.tensor(weight)
    with torch.no_grad():
        columns = layer(torch.eye(2 * groups * size, dtype=torch.float64).reshape(-1, 2 * groups, size)).flatten(1)
    truth = float(np.linalg.norm(columns.numpy(), 2))
    bound = conv_norm(weight, size, stride=stride, padding=padding, padding_mode=mode, dilation=dilation, groups=groups)
    assert bound.lower <= truth * (1 + 1e-12) and truth * (1 - 1e-12) <= bound.upper


@given(networks(), st.booleans(), st.integers(0, 2**32))
@settings(steady, max_examples=150)
def test_networks_keep_the_order_of_their_bounds(network, everywhere, seed):
    """attained <= exact lower end <= exact upper end <= semidefinite bound <= product of norms."""
    weights, biases = network
    rng = np.random.default_rng(seed)
    d = weights[0].shape[1]
    domain = WholeSpace() if everywhere else Ball(np.zeros(d), 1.0)
    exact = relu_exact(weights, biases, domain, max_seconds=5.0)
    x = rng.normal(size=(40, d)) * (3.0 if everywhere else 0.9 / (3 * math.sqrt(d)))
    x = x if everywhere else x / np.maximum(1.0, np.linalg.norm(x, axis=1)[:, None] / 0.9)
    assert slopes(lambda p: values(weights, biases, p), x, rng).max() <= exact.upper + 1e-9 * (1 + exact.upper)
    product = math.prod(float(np.linalg.norm(w, 2)) for w in weights)
    upper = sdp_upper(weights).upper
    assert exact.lower <= exact.upper <= upper * (1 + 1e-9) + 1e-12 and upper <= product * (1 + 1e-6) + 1e-12
    found = ascent_lower(lambda p: values(weights, biases, p), domain, rng=rng, shape=d, restarts=4, steps=8)
    assert found.lower <= exact.upper * (1 + 1e-12)


@given(networks(), st.sampled_from([torch.nn.ReLU, torch.nn.Tanh, torch.nn.GELU]), st.integers(0, 2**32))
@settings(steady, max_examples=40)
def test_a_walked_module_is_never_steeper_than_its_upper_end(network, activation, seed):
    weights, biases = network
    rng = np.random.default_rng(seed)
    layers = []
    for W, b in zip(weights, biases, strict=True):
        layer = torch.nn.Linear(W.shape[1], W.shape[0], dtype=torch.float64)
        layer.weight.data, layer.bias.data = torch.tensor(W), torch.tensor(b)
        layers += [layer, activation()]
    net = torch.nn.Sequential(*layers[:-1])
    d = weights[0].shape[1]
    bound = lipschitz(net, Ball(np.zeros(d), 2.0), rng=rng)
    x = rng.uniform(-1, 1, size=(40, d)) * 1.9 / math.sqrt(d)
    with torch.no_grad():
        steepest = slopes(lambda p: net(torch.tensor(p)).numpy(), x, rng).max()
    assert bound.lower <= bound.upper and steepest <= bound.upper * (1 + 1e-9) + 1e-12


@given(st.integers(1, 4), st.integers(1, 4), st.floats(0.01, 20), st.booleans(), st.integers(0, 2**32))
@settings(steady, max_examples=120)
def test_attention_is_never_steeper_than_its_bound(d, tokens, R, causal, seed):
    rng = np.random.default_rng(seed)
    q, k, v = (rng.normal(size=(d, d)) * rng.choice([0.0, 0.3, 1.0]) for _ in range(3))
    bound = attention_bound(q, k, v, domain=TokenBall(R), tokens=tokens, causal=causal)
    x = torch.tensor(rng.normal(size=(20, tokens, d)))
    x *= R * torch.tensor(rng.uniform(0.2, 1, size=(20, tokens, 1))) / x.norm(dim=-1, keepdim=True)

    def attend(p):
        scores = (p @ torch.tensor(q).T) @ (p @ torch.tensor(k).T).mT / math.sqrt(d)
        if causal:
            scores = scores.masked_fill(torch.ones(tokens, tokens).triu(1).bool(), -math.inf)
        return scores.softmax(-1) @ (p @ torch.tensor(v).T)

    for point in x:
        J = torch.autograd.functional.jacobian(attend, point).reshape(tokens * d, tokens * d)
        assert float(torch.linalg.matrix_norm(J, 2)) <= bound.upper * (1 + 1e-12)
