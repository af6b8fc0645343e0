"""limitlib.models: gains are what they say, members never mix, and held weights stay on their manifold."""

import math

import numpy as np
import pytest
import torch

from limitlib.models import CharResidualMLP, GainMLP, ResidualMLP, newton_schulz, orthogonal
from limitlib.operators import jacobian_singular_values

GAINS, SEEDS = (0.7, 1.0, 1.3), (3, 4, 3)
DOUBLE = torch.float64


def points(*shape, seed=0):
    return torch.tensor(np.random.default_rng(seed).standard_normal(shape))


@pytest.mark.parametrize("rows, columns", [(5, 5), (7, 3), (3, 7)])
def test_orthogonal_matrices_have_unit_singular_values(rows, columns):
    Q = orthogonal(np.random.default_rng(1), rows, columns)
    assert Q.shape == (rows, columns)
    assert np.linalg.svd(Q, compute_uv=False) == pytest.approx(np.ones(min(rows, columns)), abs=1e-12)


def test_newton_schulz_finds_the_polar_factor():
    rng = np.random.default_rng(2)
    Q, R = orthogonal(rng, 6, 6), orthogonal(rng, 6, 6)
    W = Q @ np.diag(rng.uniform(0.6, 1.4, 6)) @ R
    found = newton_schulz(torch.tensor(W[None]), iterations=7)[0].numpy()
    assert np.abs(found - Q @ R).max() < 1e-12


def test_newton_schulz_fails_outside_its_range_as_documented():
    beyond = torch.tensor([[[2.3]]], dtype=DOUBLE)  # sqrt(5): beyond it the iteration leaves
    assert abs(newton_schulz(beyond, iterations=8)).item() > 10
    with pytest.raises(ValueError, match="last two dimensions"):
        newton_schulz(torch.zeros(1, 2, 3))


@pytest.mark.parametrize("activation", ["tanh", "relu", "abs"])
def test_every_layer_starts_at_its_gain(activation):
    net = GainMLP(GAINS, SEEDS, depth=4, width=8, activation=activation, dtype=DOUBLE)
    values = torch.linalg.svdvals(net.weight.detach())
    assert torch.allclose(values, net.gain.expand(3, 4, 8))


def test_weights_depend_on_the_seed_alone_and_gains_rescale_them():
    net = GainMLP(GAINS, SEEDS, depth=2, width=8, dtype=DOUBLE)
    assert torch.allclose(net.weight[0] / 0.7, net.weight[2] / 1.3)
    assert not torch.allclose(net.weight[0] / 0.7, net.weight[1])
    assert torch.equal(net.readout[0], net.readout[2])


@pytest.mark.parametrize("make", [
    lambda gains, seeds: GainMLP(gains, seeds, depth=3, width=8, dtype=DOUBLE),
    lambda gains, seeds: ResidualMLP(gains, seeds, depth=3, width=8, dtype=DOUBLE),
    lambda gains, seeds: ResidualMLP(gains, seeds, depth=3, width=8, norm=False, affine=True, final_norm=True, dtype=DOUBLE),
])  # fmt: skip
def test_a_member_computes_what_it_computes_alone(make):
    x = points(5, 8)
    together = make(GAINS, SEEDS)(x)
    assert together.shape == (3, 5, 10)
    for m, (gain, seed) in enumerate(zip(GAINS, SEEDS, strict=True)):
        assert torch.allclose(together[m], make([gain], [seed])(x)[0], atol=1e-13)


@pytest.mark.parametrize("norm", [True, False])
def test_states_and_blocks_agree_with_the_stack(norm):
    net = ResidualMLP(GAINS, SEEDS, depth=3, width=8, norm=norm, dtype=DOUBLE)
    x = points(5, 8)
    states = net.states(x)
    assert len(states) == 4 and torch.equal(states[-1], net.stack(x))
    assert torch.equal(net.block(1, states[1]), states[2])
    plain = GainMLP(GAINS, SEEDS, depth=3, width=8, dtype=DOUBLE)
    assert torch.allclose(plain.states(x)[-1], plain.stack(x), atol=1e-15)


def test_no_plain_stack_exceeds_its_sup_constant_and_tanh_attains_it_at_zero():
    for activation in ("tanh", "relu", "abs"):
        net = GainMLP(GAINS, SEEDS, depth=6, width=16, activation=activation, dtype=DOUBLE)
        sup = np.array(GAINS)[:, None] ** 6
        local = jacobian_singular_values(net.stack, points(3, 40, 16)).local
        assert (local <= sup * (1 + 1e-12)).all()
        at_zero = jacobian_singular_values(net.stack, torch.zeros(3, 1, 16, dtype=DOUBLE)).local
        if activation == "tanh":
            assert at_zero == pytest.approx(sup, rel=1e-12)


def test_abs_preserves_every_singular_value_and_relu_halves_their_squares():
    net = GainMLP([1.0], [0], depth=30, width=32, activation="abs", dtype=DOUBLE)
    assert jacobian_singular_values(net.stack, points(1, 5, 32)).values == pytest.approx(np.ones((1, 5, 32)), abs=1e-12)
    # One relu layer keeps about half of the directions: chi = g^2 / 2 in the mean, so chi = 1 at sqrt(2), not at 1.
    layer = GainMLP([math.sqrt(2)], [0], depth=1, width=200, activation="relu", dtype=DOUBLE)
    chi = jacobian_singular_values(layer.stack, points(1, 20, 200)).chi.mean()
    assert abs(chi - 1) < 5 / math.sqrt(200 * 20)  # five standard errors of a share of 200 * 20 coins, doubled


def test_holding_keeps_the_gain_through_training_and_not_holding_loses_it():
    def train(hold):
        net = GainMLP([0.8, 1.3], [0, 1], depth=3, width=16)
        optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
        x, y = points(64, 16).float(), torch.arange(64) % 10
        for _ in range(40):
            loss = torch.nn.functional.cross_entropy(net(x).flatten(0, 1), y.repeat(2))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if hold:
                net.hold()
        return torch.linalg.svdvals(net.weight.detach()) / net.gain

    assert (train(True) - 1).abs().max() < 1e-4
    assert (train(False) - 1).abs().max() > 0.02


def test_branch_scale_and_gain_do_what_the_formula_says():
    x = points(1, 4, 8)
    net = ResidualMLP([2.0], [0], depth=1, width=8, norm=False, scale=0.25, dtype=DOUBLE)
    expected = x + 0.25 * torch.relu(2.0 * x @ net.inner[:, 0]) @ net.outer[:, 0]
    assert torch.allclose(net.stack(x), expected, atol=1e-14)


def test_layer_norm_removes_the_scale_of_the_input():
    net = ResidualMLP([1.0], [0], depth=1, width=8, dtype=DOUBLE)
    x = points(1, 4, 8)
    branch = lambda x: net.block(0, x) - x  # noqa: E731
    assert torch.allclose(branch(100 * x), branch(x), atol=1e-4)  # up to LayerNorm's epsilon
    bare = ResidualMLP([1.0], [0], depth=1, width=8, norm=False, dtype=DOUBLE)
    assert not torch.allclose(bare.block(0, 100 * x) - 100 * x, bare.block(0, x) - x, atol=1e-4)


def test_the_character_model_embeds_each_member_with_its_own_table():
    net = CharResidualMLP([0, 1], vocab=7, depth=2, context=3, embedding=4, dtype=DOUBLE)
    codes = torch.tensor(np.random.default_rng(0).integers(7, size=(2, 5, 3)))
    states = net.embed(codes)
    assert states.shape == (2, 5, 12) and net(codes).shape == (2, 5, 7)
    for m in range(2):
        assert torch.equal(states[m, 2], net.table[m][codes[m, 2]].flatten())
    alone = CharResidualMLP([1], vocab=7, depth=2, context=3, embedding=4, dtype=DOUBLE)
    assert torch.allclose(net(codes)[1], alone(codes[1:])[0], atol=1e-13)
    assert net.scale == pytest.approx(2**-0.5) and CharResidualMLP([0], vocab=7, depth=2, branch="unit").scale == 1


@pytest.mark.parametrize("make, message", [
    (lambda: GainMLP([1.0], [0, 1], depth=2), "one of each per member"),
    (lambda: GainMLP([], [], depth=2), "one of each per member"),
    (lambda: GainMLP([1.0], [0], depth=0), "depth=0"),
    (lambda: GainMLP([-1.0], [0], depth=1), "positive"),
    (lambda: GainMLP([math.nan], [0], depth=1), "positive"),
    (lambda: GainMLP([1.0], [0], depth=1, activation="swish"), "choose one of tanh, relu, abs, gelu"),
    (lambda: ResidualMLP([1.0], [0], depth=1, init="zeros"), "'orthogonal' or 'normal'"),
    (lambda: CharResidualMLP([0], vocab=1, depth=1), "vocab=1"),
    (lambda: CharResidualMLP([0], vocab=9, depth=1, branch="half"), "'scaled'"),
])  # fmt: skip
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
