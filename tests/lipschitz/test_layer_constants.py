"""limitlib.lipschitz.layer_bound: the constants of the standard layers against torch, closed forms and adversarial pairs."""

import math

import numpy as np
import pytest
import torch

from limitlib.bounds import Ball, Box, Shell, TokenBall, WholeSpace
from limitlib.lipschitz import layer_bound
from limitlib.lipschitz.layers import _centred_norm, as_ball

torch.set_num_threads(1)
F = torch.nn.functional
SLACK = 1 + 1e-12


def jacobian_norm(f, x):
    x = torch.tensor(np.array(x, dtype=float))
    return torch.linalg.matrix_norm(torch.func.jacrev(f)(x).reshape(-1, x.numel()), 2).item()


def holds(b, value):
    """The norms that stand for the truth are rounded too."""
    return b.lower / SLACK <= value <= b.upper * SLACK


def quotient(f, x, y):
    x, y = torch.as_tensor(x, dtype=torch.float64), torch.as_tensor(y, dtype=torch.float64)
    return ((f(x) - f(y)).norm() / (x - y).norm()).item()


# --- activations

CONSTANTS = {
    ("relu", ()): 1, ("leaky_relu", ()): 1, ("leaky_relu", (("negative_slope", -3.0),)): 3, ("elu", ()): 1,
    ("selu", ()): 1.7580993408473768, ("gelu", ()): 1.1289041451851548,
    ("gelu", (("approximate", "tanh"),)): 1.1289930686587718,
    ("silu", ()): 1.0998393201288669, ("mish", ()): 1.0884981612517279, ("tanh", ()): 1, ("sigmoid", ()): 0.25,
    ("softplus", ()): 1, ("hardswish", ()): 1.5, ("hardtanh", ()): 1, ("hardsigmoid", ()): 1 / 6, ("relu6", ()): 1,
    ("abs", ()): 1,
    ("softsign", ()): 1, ("logsigmoid", ()): 1, ("tanhshrink", ()): 1, ("sin", ()): 1, ("identity", ()): 1,
    ("quick_gelu", ()): 1.0998393201288669, ("relu_squared", ()): math.inf,
}  # fmt: skip


@pytest.mark.parametrize(("name", "params"), CONSTANTS)
def test_constants_of_activations(name, params):
    b = layer_bound(name, **dict(params))
    assert b.upper == pytest.approx(CONSTANTS[name, params], rel=1e-13) and b.is_exact
    assert b.domain == WholeSpace() and b.norm == (2, 2)


def test_the_rounded_constant_of_gelu_is_too_small():
    """1.1289 lies between the two forms and their common rounding; dividing by it does not make GELU a contraction."""
    for form in ("none", "tanh"):
        assert layer_bound("gelu", approximate=form).lower > 1.1289
    assert layer_bound("gelu", approximate="tanh").lower > layer_bound("gelu").upper


def test_activations_on_small_sets_are_bounded_by_the_slopes_there():
    assert layer_bound("relu", domain=Ball([-1.0, -2.0], 1.0)).upper == 0.0
    assert layer_bound("relu", domain=Ball([-1.0, -2.0], 1.1)).upper == 1.0
    assert layer_bound("relu", domain=Box([-1.0, -5.0], [0.0, -1.0])).is_exact
    b = layer_bound("tanh", domain=Box([1.0, 2.0], [1.5, 9.0]))
    assert b.is_exact and b.contains(1 - math.tanh(1.0) ** 2)
    assert layer_bound("sigmoid", domain=TokenBall(0.1)).contains(0.25)
    shell = layer_bound("silu", domain=Shell(0.5, 1.0))
    assert shell.lower == 0.0 and "lower end left at 0" in shell.source
    assert shell.upper == layer_bound("silu", domain=TokenBall(1.0)).upper
    assert layer_bound("tanh", domain=Ball([0.3], 0.0)).lower == 0.0  # a point: nothing moves


def test_a_ball_is_neither_too_wide_nor_too_narrow_for_its_lower_end():
    rng = np.random.default_rng(0)
    for _ in range(300):
        c, r = rng.standard_normal(), math.exp(rng.uniform(-40, 1))
        b = layer_bound("relu", domain=Ball([c], r))
        # the true constant is 1 exactly if some point of the ball is positive, in rational arithmetic
        assert b.contains(1.0 if c > -r else 0.0)
    assert layer_bound("relu", domain=Ball([-0.1], 0.1)).contains(0.0)
    assert layer_bound("relu", domain=Ball([-0.3], 0.1 + 0.2)).contains(1.0)  # 0.1 + 0.2 > 0.3 in binary


def test_pointwise_layers_keep_other_norms():
    assert layer_bound("relu", norm=(1, math.inf)).is_exact
    assert layer_bound("relu", norm=(math.inf, math.inf)).norm == (math.inf, math.inf)
    with pytest.raises(ValueError, match="p <= q"):
        layer_bound("relu", norm=(math.inf, 1))
    with pytest.raises(ValueError, match="Euclidean"):
        layer_bound("softmax", norm=(1, 1))


# --- normalisation


@pytest.mark.parametrize("d", [1, 2, 3, 8])
@pytest.mark.parametrize("gains", [False, True])
def test_norm_layers_on_the_whole_space_are_attained_where_they_say(d, gains):
    rng = np.random.default_rng(d)
    g = rng.standard_normal(d) if gains else None
    t = None if g is None else torch.tensor(g)
    rms, layer = layer_bound("rms_norm", weight=g, d=d, eps=1e-3), layer_bound("LayerNorm", weight=g, d=d, eps=1e-3)
    assert rms.is_exact and layer.is_exact
    assert holds(rms, jacobian_norm(lambda x: F.rms_norm(x, (d,), t, 1e-3), np.zeros(d)))
    at_constants = jacobian_norm(lambda x: F.layer_norm(x, (d,), t, None, 1e-3), np.full(d, 2.0))
    assert holds(layer, at_constants)
    assert layer.upper == 0.0 if d == 1 else layer.upper > 0


@pytest.mark.parametrize("centred", [False, True])
def test_norm_layers_on_shells_hold_for_pairs_across_the_hole_and_are_attained(centred):
    rng = np.random.default_rng(1)
    for _ in range(200):
        d, r, eps = int(rng.integers(1 + centred, 7)), math.exp(rng.uniform(-3, 2)), math.exp(rng.uniform(-12, 0))
        g = rng.standard_normal(d)
        t = torch.tensor(g)
        name = "layer_norm" if centred else "rms_norm"

        def f(x, d=d, t=t, eps=eps):
            return F.layer_norm(x, (d,), t, None, eps) if centred else F.rms_norm(x, (d,), t, eps)

        b = layer_bound(name, weight=g, eps=eps, domain=Shell(r, centred=centred))
        x = rng.standard_normal((12, d))
        size = np.linalg.norm(x - x.mean(axis=1, keepdims=True) if centred else x, axis=1, keepdims=True)
        x *= r * np.where(rng.random((12, 1)) < 0.6, 1 + 1e-12, rng.uniform(1, 4, (12, 1))) / size
        biggest = max(quotient(f, x[i], x[j]) for i in range(12) for j in range(i) if np.linalg.norm(x[i] - x[j]) > 1e-6)
        assert biggest <= b.upper * (1 + 1e-9)
        assert max(jacobian_norm(f, v) for v in x[:3]) <= b.upper * SLACK
        # the steepest pair lies across the hole
        P = np.diag(g) @ (np.eye(d) - centred * np.ones((d, d)) / d)
        v = np.linalg.svd(P)[2][0]
        assert b.is_exact and quotient(f, r * v, -r * v) == pytest.approx(b.upper, rel=1e-8)


def test_a_plain_shell_leaves_constant_vectors_in():
    b = layer_bound("layer_norm", d=4, domain=Shell(3.0), eps=1e-5)
    assert b.is_exact and b.upper == pytest.approx(1e5**0.5) and "centred=True" in b.source
    far = np.full(4, 7.0)  # of norm 14, and as bad as any
    assert jacobian_norm(lambda x: F.layer_norm(x, (4,), None, None, 1e-5), far) == pytest.approx(b.upper, rel=1e-9)
    assert layer_bound("layer_norm", d=4, domain=Shell(3.0, centred=True)).upper < 1
    assert layer_bound("rms_norm", d=4, domain=Shell(3.0)).upper < 1
    near = layer_bound("rms_norm", d=2, domain=Shell(3.0, centred=True))
    assert near.lower == 0.0 < near.upper
    assert layer_bound("rms_norm", d=3, domain=Shell(3.0, centred=True)).is_exact


def test_inside_the_shell_the_bound_fails():
    g = layer_bound("rms_norm", d=3, domain=Shell(2.0))
    assert jacobian_norm(lambda x: F.rms_norm(x, (3,), None, 1e-5), [0.5, 0.5, 0.5]) > g.upper


def test_norm_layers_on_balls_and_boxes():
    rng = np.random.default_rng(2)
    for _ in range(80):
        d, tokens = int(rng.integers(2, 5)), int(rng.integers(1, 3))
        c, r, g = 2 * rng.standard_normal(tokens * d), math.exp(rng.uniform(-3, 0.5)), rng.standard_normal(d)
        t = torch.tensor(g)
        for name in ("layer_norm", "rms_norm"):

            def f(x, name=name, d=d, t=t):
                rows = x.reshape(-1, d)
                return F.layer_norm(rows, (d,), t, None, 1e-2) if name == "layer_norm" else F.rms_norm(rows, (d,), t, 1e-2)

            for domain in (Ball(c, r), Box(c - r, c + 0.5 * r)):
                b = layer_bound(name, weight=g, eps=1e-2, domain=domain)
                center = domain.center if isinstance(domain, Ball) else (domain.lo + domain.hi) / 2
                assert b.lower <= jacobian_norm(f, center) * SLACK
                assert max(jacobian_norm(f, x) for x in domain.sample(3, rng)) <= b.upper * SLACK
    narrow = layer_bound("rms_norm", d=3, domain=Ball([1.0, 2.0, 3.0], 1e-6))
    assert narrow.ratio < 1 + 1e-4


def test_the_centred_gain_norm_is_the_matrix_norm():
    rng = np.random.default_rng(3)
    for _ in range(500):
        d = int(rng.integers(1, 9))
        g = rng.standard_normal(d) * np.exp(rng.uniform(-3, 3))
        if rng.random() < 0.4:
            g[rng.integers(d)] = g[rng.integers(d)]  # ties
        if rng.random() < 0.2:
            g[rng.integers(d)] = 0
        if rng.random() < 0.2:
            g *= 10.0 ** rng.integers(-140, 140)
        low, high = _centred_norm(g, d)
        size = max(np.abs(g).max(), 1e-300)
        exact = np.linalg.norm(np.diag(g / size) @ (np.eye(d) - 1 / d), 2) * size
        assert low * (1 - 1e-14 * d) <= exact * (1 + 4e-15 * d) + 1e-300 or exact < 1e-14 * np.abs(g).max()
        assert exact <= high * (1 + 4e-15 * d) + 1e-15 * np.abs(g).max() * (d == 1)
        assert high - low <= 1e-9 * high


def test_other_normalisers():
    rng = np.random.default_rng(4)
    var, g = rng.uniform(0.1, 2, 3), rng.standard_normal(3)
    module = torch.nn.BatchNorm1d(3).double().eval()
    module.running_var[:], module.weight.data[:] = torch.tensor(var), torch.tensor(g)
    b = layer_bound("BatchNorm1d", running_var=module.running_var, weight=module.weight, eps=module.eps)
    assert b.is_exact and b.contains(jacobian_norm(lambda x: module(x[None])[0], rng.standard_normal(3)))

    g = rng.standard_normal(6)
    for groups, places in ((2, 1), (3, 4), (6, 5), (1, 2)):
        b = layer_bound("group_norm", num_groups=groups, num_channels=6, weight=g, eps=1e-3, size=places)

        def f(x, groups=groups):
            return F.group_norm(x[None], groups, torch.tensor(g), None, 1e-3)[0]

        assert b.is_exact
        assert jacobian_norm(f, np.zeros((6, places))) == pytest.approx(b.upper, rel=1e-9)
    assert layer_bound("group_norm", num_groups=6, num_channels=6).upper == 0.0
    same = layer_bound("InstanceNorm2d", num_channels=6, weight=g, eps=1e-3, size=(2, 3))
    assert same.upper == pytest.approx(np.abs(g).max() / math.sqrt(1e-3))

    assert layer_bound("normalize", eps=0.5).upper == pytest.approx(2.0)
    assert layer_bound("normalize", domain=Shell(4.0)).upper == pytest.approx(0.25)
    assert quotient(lambda x: F.normalize(x, dim=0), [4.0, 0.0], [-4.0, 0.0]) == pytest.approx(0.25)


def test_no_epsilon_means_no_bound():
    for name in ("rms_norm", "layer_norm", "normalize"):
        assert layer_bound(name, eps=0.0, **({} if name == "normalize" else {"d": 3})).upper == math.inf
    assert layer_bound("rms_norm", eps=0.0, d=4, domain=Shell(2.0)).upper == pytest.approx(1.0)


# --- softmax


def test_softmax_and_log_softmax():
    rng = np.random.default_rng(5)
    for d in (1, 2, 3, 7):
        soft, log = layer_bound("softmax", d=d), layer_bound("log_softmax", d=d)
        x = 3 * rng.standard_normal((20, d))
        assert max(jacobian_norm(lambda v: F.softmax(v, 0), v) for v in x) <= soft.upper + 1e-15
        assert max(jacobian_norm(lambda v: F.log_softmax(v, 0), v) for v in x) <= log.upper * SLACK
        assert soft.is_exact and log.is_exact
        peak, tie = np.zeros(d), np.full(d, -40.0)
        peak[0], tie[:2] = 40.0, 0.0
        assert jacobian_norm(lambda v: F.softmax(v, 0), tie) == pytest.approx(soft.upper, rel=1e-9, abs=1e-15)
        assert jacobian_norm(lambda v: F.log_softmax(v, 0), peak) == pytest.approx(log.upper, rel=1e-9, abs=1e-15)
    assert layer_bound("softmax", temperature=0.1).upper == pytest.approx(5.0)
    assert layer_bound("softmax", temperature=0.1).upper >= 0.5 / 0.1
    assert layer_bound("softmax", temperature=0.0).upper == math.inf


# --- pooling


def max_pool_truth(n, dims, **how):
    """Exact constant on inputs of n^dims places: the largest share of windows that pick one entry, by raising each in turn."""
    pool = (F.max_pool1d, F.max_pool2d)[dims - 1]
    best = 0.0
    for i in range(n**dims):
        x = torch.zeros(n**dims, dtype=torch.float64)
        x[i] = 1.0
        best = max(best, quotient(lambda v: pool(v.reshape(1, 1, *[n] * dims), **how), x, 2 * x))
    return best


def test_max_pooling_counts_windows():
    assert layer_bound("max_pool", kernel_size=3, stride=1).upper == 3.0
    assert layer_bound("MaxPool2d", kernel_size=2).upper == 1.0
    assert layer_bound("MaxPool1d", kernel_size=(3,), stride=(1,)).upper == math.nextafter(math.sqrt(3), 2)
    for k in (1, 2, 3):
        for s in (1, 2, 3):
            for pad in range(k // 2 + 1):
                for dil in (1, 2):
                    for ceil in (False, True):
                        how = dict(kernel_size=k, stride=s, padding=pad, dilation=dil, ceil_mode=ceil)
                        b = layer_bound("max_pool", input_size=(6, 6), **how)
                        assert b.is_exact and holds(b, max_pool_truth(6, 2, **how)), how
                        assert b.upper <= layer_bound("max_pool", **{**how, "ceil_mode": False}).upper


def test_average_pooling_is_a_matrix():
    for k, s, pad, ceil, count in [
        (2, 2, 0, False, True),
        (3, 1, 1, False, True),
        (3, 2, 1, True, True),
        (3, 2, 1, True, False),
        (4, 1, 2, False, False),
        (2, 3, 1, False, True),
    ]:
        how = dict(kernel_size=k, stride=s, padding=pad, ceil_mode=ceil, count_include_pad=count)
        b = layer_bound("avg_pool", input_size=(5, 6), **how)

        def f(x, how=how):
            return F.avg_pool2d(x.reshape(1, 1, 5, 6), **how)

        exact = jacobian_norm(f, np.zeros(30))
        assert b.is_exact and holds(b, exact), how
        if count or not pad:
            assert layer_bound("avg_pool", **{**how, "ceil_mode": False}).upper >= b.lower or ceil
    b = layer_bound("adaptive_avg_pool", output_size=(2, 3), input_size=(5, 7))
    exact = jacobian_norm(lambda x: F.adaptive_avg_pool2d(x.reshape(1, 1, 5, 7), (2, 3)), np.zeros(35))
    assert b.is_exact and holds(b, exact)
    assert layer_bound("global_avg_pool", input_size=(4, 4)).upper == pytest.approx(0.25)
    long = layer_bound("AvgPool1d", kernel_size=3, stride=1, input_size=(400,))
    assert 0.999 < long.upper <= layer_bound("avg_pool", kernel_size=(3,), stride=(1,)).upper


# --- the rest


def test_embedding_two_readings():
    rng = np.random.default_rng(6)
    W = rng.standard_normal((7, 3)) + 50.0
    span, tokens = layer_bound("embedding", weight=W), layer_bound("embedding", weight=W, on="tokens")
    assert holds(span, np.linalg.norm(W, 2))
    largest = max(np.linalg.norm(a - b) for a in W for b in W) / math.sqrt(2)
    assert tokens.is_exact and holds(tokens, largest)
    many = layer_bound("embedding", weight=rng.standard_normal((5000, 2)), on="tokens")
    assert many.kind == "certified" and 1 <= many.ratio <= 2.1


@pytest.mark.parametrize("name", ["dropout", "Dropout2d", "flatten", "zero_pad", "ZeroPad2d", "identity", "Identity"])
def test_isometries(name):
    b = layer_bound(name)
    assert (b.lower, b.upper, b.kind) == (1.0, 1.0, "exact")


def test_boxes_lie_in_their_balls():
    rng = np.random.default_rng(7)
    for p in (1, 2, math.inf, None):
        domain = Box(-rng.random(4), rng.random(4)) if p is None else Ball(rng.standard_normal(4), 0.7, p)
        center, radius = as_ball(domain)
        assert np.linalg.norm(domain.sample(500, rng) - center, axis=1).max() <= radius


@pytest.mark.parametrize("scale", [1e-150, 1e-30, 1e30, 1e150])
def test_extreme_scales(scale):
    g = np.array([1.0, -2.0, 3.0])
    for name in ("rms_norm", "layer_norm"):
        plain = layer_bound(name, weight=g)
        assert layer_bound(name, weight=scale * g).upper == pytest.approx(scale * plain.upper, rel=1e-12)
        far = layer_bound(name, weight=g, domain=Shell(scale, centred=name == "layer_norm"))
        assert far.lower <= far.upper <= plain.upper * SLACK
    assert layer_bound("embedding", weight=scale * np.eye(2), on="tokens").contains(scale)


@pytest.mark.parametrize(
    ("call", "error", "word"),
    [
        (lambda: layer_bound("conv7"), ValueError, "known: abs, adaptive_avg_pool"),
        (lambda: layer_bound(7), TypeError, "name must be a word"),
        (lambda: layer_bound("relu", domain=3), TypeError, "domain must be a Domain"),
        (lambda: layer_bound("layer_norm", gain=1), TypeError, "parameters: weight, eps, d"),
        (lambda: layer_bound("layer_norm", eps=-1), ValueError, "eps=-1"),
        (lambda: layer_bound("layer_norm", eps="small"), TypeError, "eps must be one real number"),
        (lambda: layer_bound("layer_norm", domain=Shell(1.0, centred=True)), ValueError, "give d or the gain"),
        (lambda: layer_bound("layer_norm", weight=[1, 2], d=3), ValueError, "weight has 2 gains"),
        (lambda: layer_bound("layer_norm", weight=[]), ValueError, "weight is empty"),
        (lambda: layer_bound("rms_norm", weight=[1, math.nan]), ValueError, "weight holds NaN"),
        (lambda: layer_bound("rms_norm", weight=np.ones(2, np.float16)), ValueError, r"weight holds float16.*float\(\)"),
        (lambda: layer_bound("rms_norm", d=3, domain=Ball([1.0, 1.0], 0.1)), ValueError, "not a multiple of d=3"),
        (lambda: layer_bound("batch_norm", running_var=[-1.0]), ValueError, "running_var must not be negative"),
        (lambda: layer_bound("batch_norm", running_var=[1.0], weight=[1, 2]), ValueError, "one gain for each variance"),
        (lambda: layer_bound("group_norm", num_groups=4, num_channels=6), ValueError, "num_groups=4 must divide"),
        (lambda: layer_bound("log_softmax"), TypeError, "log_softmax: missing a required argument: 'd'"),
        (lambda: layer_bound("softmax", d=0), ValueError, "d=0 must be a positive integer"),
        (lambda: layer_bound("max_pool", kernel_size=0), ValueError, "kernel_size=0"),
        (lambda: layer_bound("max_pool", kernel_size=2, padding=2, input_size=(4, 4)), ValueError, "padding=2 exceeds half"),
        (lambda: layer_bound("max_pool", kernel_size=5, input_size=(4, 4)), ValueError, "smaller than one window"),
        (lambda: layer_bound("max_pool", kernel_size=(2, 2, 2), input_size=(4, 4)), ValueError, "one number or 2 numbers"),
        (lambda: layer_bound("embedding", weight=[1.0, 2.0]), ValueError, "give \\(words, features\\)"),
        (lambda: layer_bound("embedding", weight=[[1.0]], on="x"), ValueError, "on='x'"),
    ],
)
def test_mistakes_are_named(call, error, word):
    with pytest.raises(error, match=word):
        call()
