"""limitlib.lipschitz.mlp_bound and gated_mlp_bound: two-layer perceptrons on tokens of bounded size."""

import math

import numpy as np
import pytest
import torch

from limitlib.bounds import TokenBall, WholeSpace
from limitlib.lipschitz import gated_mlp_bound, mlp_bound

torch.set_num_threads(1)
F = torch.nn.functional
ACTS = {"silu": F.silu, "gelu": F.gelu, "relu": F.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "softplus": F.softplus}
SLACK = 1 + 1e-11


def jacobian_norms(f, X):
    return torch.linalg.matrix_norm(torch.func.vmap(torch.func.jacrev(f))(torch.tensor(X)), 2).numpy()


def points(rng, n, d, R):
    X = rng.standard_normal((n, d))
    return X * R * rng.random((n, 1)) ** 0.2 / np.linalg.norm(X, axis=1, keepdims=True)


def gated(act, G, U, D, b, c):
    G, U, D, b, c = (torch.tensor(v) for v in (G, U, D, b, c))
    return lambda x: D @ (act(G @ x + b) * (U @ x + c))


def plain(act, A, B, b):
    A, B, b = (torch.tensor(v) for v in (A, B, b))
    return lambda x: B @ act(A @ x + b)


def test_on_random_perceptrons_no_jacobian_exceeds_the_bounds():
    rng, ratios = np.random.default_rng(0), []
    for t in range(150):
        name = list(ACTS)[t % len(ACTS)]
        d, m, out = (int(v) for v in rng.integers(1, 8, 3))
        R = math.exp(rng.uniform(-2, 2))
        G, U = rng.standard_normal((2, m, d)) * math.exp(rng.uniform(-1, 1))
        D = rng.standard_normal((out, m))
        b, c = rng.standard_normal((2, m)) * (t % 3)
        X = points(rng, 100, d, R)
        for bound, f in (
            (gated_mlp_bound(G, U, D, R, name, bg=b, bu=c), gated(ACTS[name], G, U, D, b, c)),
            (mlp_bound(G, D, name, b1=b, R=R), plain(ACTS[name], G, D, b)),
        ):
            assert jacobian_norms(f, X).max() <= bound.upper * SLACK, (name, bound.source)
            assert bound.domain == TokenBall(R) and 0 <= bound.lower <= bound.upper
            if bound.witness is not None:
                assert np.linalg.norm(bound.witness) <= R
                assert bound.lower <= jacobian_norms(f, bound.witness[None])[0] * SLACK
            ratios.append(bound.ratio)
    assert np.median(ratios) < 3.5


def test_a_single_hidden_unit_is_nearly_exact():
    """x -> silu(x) x on |x| <= R has its largest slope at R: silu(R) + R silu'(R)."""
    R = 3.0
    b = gated_mlp_bound([[1.0]], [[1.0]], [[1.0]], R)
    s = 1 / (1 + math.exp(-R))
    truth = 2 * R * s + R * R * s * (1 - s)
    assert b.lower == pytest.approx(truth, rel=1e-9)
    assert truth <= b.upper < 1.1 * truth  # silu' peaks inside the interval, silu at its end


def test_sizes_of_tokens_decide():
    rng = np.random.default_rng(1)
    W = [rng.standard_normal((6, 3)), rng.standard_normal((6, 3)), rng.standard_normal((3, 6))]
    uppers = [gated_mlp_bound(*W, R).upper for R in (0.1, 1.0, 10.0)]
    assert uppers[0] < uppers[1] < uppers[2]
    assert jacobian_norms(gated(F.silu, *W, np.zeros(6), np.zeros(6)), points(rng, 200, 3, 10.0)).max() > uppers[1]


def test_gated_layers_are_not_lipschitz_on_the_whole_space():
    I = np.eye(2)
    b = gated_mlp_bound(I, I, I, math.inf)
    assert b.upper == math.inf and "product of two functions" in b.source and b.domain == WholeSpace()
    # unless one factor is constant
    assert gated_mlp_bound(0 * I, I, I, math.inf, "gelu", bg=np.ones(2)).upper == pytest.approx(0.8413447460685429, rel=1e-9)
    assert gated_mlp_bound(I, 0 * I, I, math.inf, "tanh", bu=np.array([3.0, 1.0])).upper == pytest.approx(3.0)
    # or the up part meets no output
    assert gated_mlp_bound(I, I, 0 * I, math.inf).upper == 0.0


def test_plain_perceptrons_on_the_whole_space():
    rng = np.random.default_rng(2)
    A, B = rng.standard_normal((5, 3)), rng.standard_normal((2, 5))
    b = mlp_bound(A, B, "relu")
    assert b.domain == WholeSpace() and b.upper <= np.linalg.norm(A, 2) * np.linalg.norm(B, 2) * SLACK
    assert mlp_bound(A, B, "identity").ratio < 1 + 1e-6
    assert mlp_bound(A, B, "relu_squared").upper == math.inf
    steep = mlp_bound(A, B, "leaky_relu", negative_slope=-2.0)
    assert b.upper < steep.upper <= 2 * np.linalg.norm(A, 2) * np.linalg.norm(B, 2) * SLACK


def test_dead_and_saturated_units_drop_out():
    A, B = np.eye(3), np.eye(3)
    assert mlp_bound(A, B, "relu", b1=np.full(3, -5.0), R=4.9).upper == 0.0
    live = mlp_bound(A, B, "relu", b1=np.full(3, 5.0), R=4.9)
    assert live.ratio < 1 + 1e-6 and live.upper == pytest.approx(1.0)
    assert mlp_bound(A, B, "relu", b1=np.full(3, -5.0), R=5.1).upper > 0.9
    assert mlp_bound(A, B, "tanh", b1=np.full(3, 9.0), R=1.0).upper < 1e-5


def test_balancing_removes_a_scaling_that_means_nothing():
    rng = np.random.default_rng(3)
    A, B = rng.standard_normal((6, 4)), rng.standard_normal((4, 6))
    s = np.exp(rng.uniform(-4, 4, 6))
    straight, scaled = mlp_bound(A, B, "relu"), mlp_bound(s[:, None] * A, B / s, "relu")  # the same map
    assert scaled.upper < 2 * straight.upper
    assert np.linalg.norm(s[:, None] * A, 2) * np.linalg.norm(B / s, 2) > 10 * scaled.upper


@pytest.mark.parametrize("scale", [1e-150, 1e-30, 1e30, 1e150])
def test_extreme_scales(scale):
    rng = np.random.default_rng(4)
    G, U, D = rng.standard_normal((3, 3, 3))
    plain_one = gated_mlp_bound(G, U, D, 1.0)
    assert gated_mlp_bound(G, U, scale * D, 1.0).upper == pytest.approx(scale * plain_one.upper, rel=1e-6)
    assert mlp_bound(scale * G, D / scale, "relu").upper == pytest.approx(mlp_bound(G, D, "relu").upper, rel=1e-6)
    huge = gated_mlp_bound(scale * G, scale * U, D, 1.0)
    assert huge.lower <= huge.upper


def test_float32_integers_and_tensors_are_the_same_numbers():
    W = np.random.default_rng(5).integers(-3, 4, (3, 2, 2))
    assert len({gated_mlp_bound(*V, 1.0).upper for V in (W, W.astype(np.float32), torch.tensor(W), W.tolist())}) == 1


I2 = np.eye(2)


@pytest.mark.parametrize(
    ("call", "error", "word"),
    [
        (lambda: gated_mlp_bound(I2, np.eye(3), I2, 1.0), ValueError, "Wu has shape"),
        (lambda: gated_mlp_bound(I2, I2, np.eye(3), 1.0), ValueError, "Wd has shape"),
        (lambda: gated_mlp_bound(I2, I2, I2, -1.0), ValueError, "R=-1"),
        (lambda: gated_mlp_bound(I2, I2, I2, "big"), TypeError, "R must be one real number"),
        (lambda: gated_mlp_bound(I2, I2, I2, math.nan), ValueError, "R=nan"),
        (lambda: gated_mlp_bound(I2, I2, I2, 1.0, bg=[1.0]), ValueError, "bg has shape"),
        (lambda: gated_mlp_bound(I2, I2, I2, 1.0, bd=[1.0]), ValueError, "bd has shape"),
        (lambda: gated_mlp_bound(I2, I2, I2, 1.0, "nope"), ValueError, "known: abs"),
        (lambda: gated_mlp_bound(I2.astype(np.float16), I2, I2, 1.0), ValueError, "Wg holds float16"),
        (lambda: gated_mlp_bound(I2, I2 * math.nan, I2, 1.0), ValueError, "Wu holds NaN"),
        (lambda: mlp_bound(np.ones(2), I2), ValueError, "W1 has shape"),
        (lambda: mlp_bound(I2, np.eye(3)), ValueError, "W2 has shape"),
        (lambda: mlp_bound(I2, I2, b1=np.ones(3)), ValueError, "b1 has shape"),
        (lambda: mlp_bound(np.zeros((0, 2)), I2), ValueError, "W1 is empty"),
    ],
)
def test_mistakes_are_named(call, error, word):
    with pytest.raises(error, match=word):
        call()
