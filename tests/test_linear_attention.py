"""Linear attention is gradient descent on its context, layer by layer; softmax or too large a step is not."""

import math

import numpy as np
import pytest
import torch

from limitlib.models import LinearAttention
from limitlib.performance import gradient_descent_risk


def drawn(seed, n=20, d=4, q=3, tasks=1):
    rng = np.random.default_rng(seed)
    return (torch.tensor(rng.standard_normal(s)) for s in ((n, d), (tasks, n), (q, d)))


def descent(X, y, query, eta, steps):
    """Predictions after gradient descent on half the mean square error, start 0, in NumPy."""
    X, y, query = X.numpy(), y.numpy(), query.numpy()
    w = np.zeros((len(y), X.shape[1]))
    for _ in range(steps):
        w = w - eta / len(X) * (w @ X.T - y) @ X
    return w @ query.T


def diagonal(d=256, tasks=64, seed=0, a=1.0, b=1.5):
    """A context whose covariance is exactly diag(j^-a), and tasks with w_j^2 j^-a = j^-b, of random signs."""
    j = np.arange(1.0, d + 1)
    X = np.sqrt(d) * np.diag(j ** (-a / 2))
    w = j ** ((a - b) / 2) * np.random.default_rng(seed).choice([-1.0, 1.0], (tasks, d))
    return torch.tensor(X), torch.tensor(w @ X.T), torch.tensor(X), w


@pytest.mark.parametrize("seed", range(6))
def test_one_layer_is_one_step(seed):
    X, y, query = drawn(seed)
    found = LinearAttention(4, 1, eta=0.3)(X, y, query).numpy()
    exact = descent(X, y, query, 0.3, 1)
    assert np.abs(found - exact).max() <= 1e-15 * max(1.0, np.abs(exact).max()) * 2


@pytest.mark.parametrize("seed", range(4))
def test_layers_are_steps(seed):
    X, y, query = drawn(seed, tasks=3)
    net = LinearAttention(4, 6, eta=0.3)
    found = net.predictions(X, y, query, [0, 1, 2, 6])
    assert found.shape == (4, 3, 3) and torch.equal(found[0], torch.zeros(3, 3, dtype=torch.float64))
    for k, predicted in zip((0, 1, 2, 6), found.numpy(), strict=True):
        assert np.abs(predicted - descent(X, y, query, 0.3, k)).max() < 1e-12  # E10.8


@pytest.mark.parametrize("softmax", [False, True])
def test_the_layer_as_written_is_what_forward_repeats(softmax):
    X, y, query = drawn(5, tasks=2)
    net = LinearAttention(4, 5, eta=0.3, softmax=softmax)
    for task in range(2):
        context = torch.cat([X, y[task, :, None]], dim=1)
        tokens = torch.cat([context, torch.cat([query, torch.zeros(3, 1, dtype=torch.float64)], dim=1)])
        for _ in range(5):
            tokens = net.layer(tokens, 20)
        assert torch.allclose(net(X, y, query)[task], -tokens[20:, -1], atol=1e-14)
        assert torch.equal(tokens[:, :-1], torch.cat([X, query]))  # the inputs never change


def test_a_context_for_each_task_or_one_for_all():
    X, y, query = drawn(6, tasks=3)
    net = LinearAttention(4, 7, eta=0.2)
    apart = net(X.expand(3, 20, 4), y, query.expand(3, 3, 4))
    assert torch.allclose(net(X, y, query), apart, atol=1e-14)
    assert torch.allclose(net(X.expand(3, 20, 4), y, query), apart, atol=1e-14)
    other = torch.stack([X, 2 * X, X.flip(0)])
    assert torch.allclose(net(other, y, query)[1], net(2 * X, y[1:2], query)[0], atol=1e-14)


def test_the_power_law_is_realised_exactly():
    """E6.11: the in-context loss after n layers is sum j^-b (1 - eta j^-a)^(2n), to 1e-12."""
    X, y, query, w = diagonal()
    j, depths = np.arange(1.0, 257), [0, 1, 16, 512, 2048]
    found = LinearAttention(256, 2048, eta=0.5).predictions(X, y, query, depths).numpy()
    loss = ((found - w @ query.numpy().T) ** 2).mean(-1)
    exact = np.array([np.sum(j**-1.5 * (1 - 0.5 / j) ** (2 * k)) for k in depths])
    assert np.abs(loss / exact[:, None] - 1).max() < 1e-12
    assert gradient_descent_risk(1 / j, j**-1.5, [16, 512], eta=0.5) == pytest.approx(exact[2:4], rel=1e-12)


def test_softmax_is_no_gradient_descent():
    X, y, query, w = diagonal(d=32, tasks=8)
    truth = w @ query.numpy().T
    exact = descent(X, y, query, 0.5, 64)
    found = LinearAttention(32, 64, eta=0.5, softmax=True)(X, y, query).numpy()
    assert np.abs(found - exact).max() > 0.1
    losses = [((p - truth) ** 2).mean() for p in (found, exact)]
    assert losses[0] < losses[1] / 5  # not the law: on this context of orthogonal tokens it does better, not worse


def test_a_step_above_the_threshold_diverges():
    X, y, query, w = diagonal(d=32, tasks=4)
    limit = LinearAttention.largest_step(X)
    assert limit == pytest.approx(2.0, rel=1e-12)
    loss = {e: ((LinearAttention(32, 300, eta=e)(X, y, query).numpy() - w @ query.numpy().T) ** 2).mean() for e in (1.9, 2.1)}
    assert loss[1.9] < 1 < 1e20 < loss[2.1]


X, Y, Q = drawn(0)


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: LinearAttention(0, 1, eta=0.5), ValueError, "dim=0 must be at least 1"),
        (lambda: LinearAttention(4, -1, eta=0.5), ValueError, "depth=-1 must be at least 0"),
        (lambda: LinearAttention(4, 1.5, eta=0.5), ValueError, "depth=1.5 must be a whole number"),
        (lambda: LinearAttention(4, 1, eta=0.0), ValueError, "eta=0.0 must be positive"),
        (lambda: LinearAttention(4, 1, eta=math.nan), ValueError, "eta=nan must be finite"),
        (lambda: LinearAttention(4, 1, eta="big"), TypeError, "eta='big' must be a real number"),
        (lambda: LinearAttention(5, 1, eta=0.5)(X, Y, Q), ValueError, "don't fit"),
        (lambda: LinearAttention(4, 1, eta=0.5)(X, Y[:, :3], Q), ValueError, "don't fit"),
        (lambda: LinearAttention(4, 1, eta=0.5)(X.expand(2, 20, 4), Y, Q), ValueError, "don't fit"),
        (lambda: LinearAttention(4, 1, eta=0.5)(X.float(), Y, Q), TypeError, "X must be a float64 tensor"),
        (lambda: LinearAttention(4, 1, eta=0.5)(X, Y[0], Q), ValueError, "y has shape"),
        (lambda: LinearAttention(4, 1, eta=0.5)(X.numpy(), Y, Q), TypeError, "X must be a float64 tensor"),
        (lambda: LinearAttention(4, 1, eta=0.5)(X, Y, Q[:0]), ValueError, "query has shape"),
        (lambda: LinearAttention(4, 1, eta=0.5)(X, Y * math.nan, Q), ValueError, "y must be finite"),
        (lambda: LinearAttention(4, 3, eta=0.5).predictions(X, Y, Q, [2, 1]), ValueError, "must increase"),
        (lambda: LinearAttention(4, 3, eta=0.5).predictions(X, Y, Q, [4]), ValueError, "at most depth=3"),
        (lambda: LinearAttention(4, 3, eta=0.5).layer(X, 20), ValueError, "tokens has shape"),
        (lambda: LinearAttention.largest_step(Q[0]), ValueError, "give one context"),
        (lambda: LinearAttention.largest_step(X * math.nan), ValueError, "X must be finite"),
        (lambda: LinearAttention.largest_step(X.numpy()), TypeError, "X must be a tensor"),
        (lambda: LinearAttention(3, 1, eta=0.5).layer(X, 2.5), ValueError, "context=2.5 must be a whole number"),
        (lambda: LinearAttention(4, 3, eta=0.5).predictions(X, Y, Q, 3), TypeError, "depths=3 must be a list"),
        (lambda: LinearAttention(4, 3, eta=0.5).predictions(X, Y, Q, [1.5]), ValueError, "depths=1.5 must be a whole number"),
        (lambda: LinearAttention(4, 1, eta=0.5, softmax="no"), TypeError, "softmax='no' must be True or False"),
    ],
)
def test_bad_input_is_named(make, error, said):
    with pytest.raises(error, match=said):
        make()
