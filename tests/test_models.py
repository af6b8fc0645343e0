"""limitlib.models: gains are what they say, members never mix, and held weights stay on their manifold."""

import math

import numpy as np
import pytest
import torch

from limitlib.models import CharResidualMLP, GainMLP, ResidualMLP, Transformer, newton_schulz, orthogonal
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


# --- transformers


def small(seeds=(3, 4), norm="pre", dtype=DOUBLE, **options):
    return Transformer(seeds, vocab=11, depth=2, width=8, heads=2, norm=norm, context=6, dtype=dtype, **options)


def shaken(net, seed=0):
    """The same network with every parameter moved, so that biases, diagonals and shifts count."""
    rng = np.random.default_rng(seed)
    for p in net.parameters():
        p.data += 0.3 * torch.tensor(rng.standard_normal(p.shape))
    return net


def codes(members=2, batch=3, tokens=6, seed=0):
    return torch.tensor(np.random.default_rng(seed).integers(11, size=(members, batch, tokens)))


def by_torch(net, member, text):
    """The same logits from PyTorch's own layers, for one member: another code path, weight by weight."""
    x = net.table[member][text] + net.positions[member][: text.shape[-1]]
    for layer in range(net.depth):
        peer = torch.nn.TransformerEncoderLayer(
            net.width, net.heads, 4 * net.width, 0.0, "gelu", batch_first=True, norm_first=net.norm == "pre", dtype=DOUBLE
        )
        values = {
            "self_attn.in_proj_weight": net.attention[member, layer].T,
            "self_attn.in_proj_bias": net.attention_bias[member, layer, 0],
            "self_attn.out_proj.weight": net.projection[member, layer].T,
            "self_attn.out_proj.bias": net.projection_bias[member, layer, 0],
            "linear1.weight": net.inner[member, layer].T,
            "linear1.bias": net.inner_bias[member, layer, 0],
            "linear2.weight": net.outer[member, layer].T,
            "linear2.bias": net.outer_bias[member, layer, 0],
        }
        for k in range(2):
            values[f"norm{k + 1}.weight"] = net.diagonal[member, layer, k, 0]
            values[f"norm{k + 1}.bias"] = net.shift[member, layer, k, 0]
        peer.load_state_dict(values)
        causal = torch.nn.Transformer.generate_square_subsequent_mask(text.shape[-1], dtype=DOUBLE)
        x = peer(x, src_mask=causal, is_causal=True)
    if net.norm == "pre":
        x = torch.nn.functional.layer_norm(
            x, (net.width,), net.final_diagonal[member, 0], net.final_shift[member, 0]
        )
    return x @ net.table[member].T


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_transformer_computes_what_pytorchs_own_layers_compute(norm):
    net, text = shaken(small(norm=norm)), codes()
    logits = net(text)
    assert logits.shape == (2, 3, 6, 11)
    for m in range(2):
        assert torch.allclose(logits[m], by_torch(net, m, text[m]), atol=1e-12)
    other = shaken(small(norm="post" if norm == "pre" else "pre"))
    assert not torch.allclose(logits, other(text), atol=0.1)  # where the norm stands matters


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_transformer_member_computes_what_it_computes_alone(norm):
    text = codes()
    together = small(norm=norm)(text)
    for m, seed in enumerate((3, 4)):
        assert torch.allclose(together[m], small([seed], norm=norm)(text[m : m + 1])[0], atol=1e-14)
    assert not torch.allclose(together[0], small([4], norm=norm)(text[:1])[0], atol=1e-4)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_no_position_sees_the_characters_after_it(norm):
    net, text = shaken(small(norm=norm)), codes()
    changed = text.clone()
    changed[..., 3] = (changed[..., 3] + 1) % 11
    before, after = net(text), net(changed)
    assert torch.equal(before[..., :3, :], after[..., :3, :])
    assert ((before - after)[..., 3:, :].abs().amax(-1) > 1e-6).all()  # and every later one does
    assert torch.allclose(net(text[..., :4]), before[..., :4, :], atol=1e-12)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_transformer_states_blocks_and_logits_agree(norm):
    net, text = shaken(small(norm=norm)), codes()
    states = net.states(text)
    assert len(states) == 3 and torch.equal(states[-1], net.stack(states[0]))
    assert torch.equal(net.block(1, states[1]), states[2])
    end = net.normalise(states[-1], net.final_diagonal, net.final_shift) if norm == "pre" else states[-1]
    assert torch.allclose(net(text), torch.einsum("mbtd,mvd->mbtv", end, net.table), atol=1e-12)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # PyTorch's own forward-mode rules call it
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_transformer_blocks_have_derivatives_in_both_directions(norm):
    net = shaken(small(norm=norm))
    x, v, u = points(2, 3, 6, 8), points(2, 3, 6, 8, seed=1), points(2, 3, 6, 8, seed=2)
    block = lambda x: net.block(0, x)  # noqa: E731
    forward = torch.func.jvp(block, (x,), (v,))[1]
    assert torch.allclose((block(x + 1e-6 * v) - block(x - 1e-6 * v)) / 2e-6, forward, atol=1e-7)
    backward = torch.func.vjp(block, x)[1](u)[0]
    assert (forward * u).sum().item() == pytest.approx((backward * v).sum().item(), rel=1e-12)


def test_transformers_start_as_gpt_1_and_gpt_2_do():
    size = dict(vocab=50, depth=8, width=64, heads=4, context=32)
    pre, post = Transformer([0], norm="pre", **size), Transformer([0], norm="post", **size)
    for net, writes in ((pre, 0.02 / 4), (post, 0.02)):  # 1 / sqrt(2 * 8) = 1 / 4
        for name in ("table", "attention", "inner"):
            assert getattr(net, name).std().item() == pytest.approx(0.02, rel=0.05)
        for name in ("projection", "outer"):
            assert getattr(net, name).std().item() == pytest.approx(writes, rel=0.05)
    assert torch.allclose(4 * pre.outer, post.outer) and torch.equal(pre.inner, post.inner)  # a paired comparison
    swapped = Transformer([0], norm="post", scaled_init=True, **size)
    assert torch.equal(swapped.outer, pre.outer) and not hasattr(swapped, "final_diagonal")
    count = {net.norm: sum(p.numel() for p in net.parameters()) for net in (pre, post)}
    assert count["post"] == (50 + 32) * 64 + 8 * (12 * 64**2 + 13 * 64)
    assert count["pre"] - count["post"] == 2 * 64  # the final norm


def test_post_norm_states_have_one_length_and_pre_norm_states_do_not():
    text = codes()
    assert torch.allclose(small(norm="post").states(text)[-1].norm(dim=-1), torch.tensor(8**0.5, dtype=DOUBLE), atol=0.2)
    assert small(norm="pre").states(text)[-1].norm(dim=-1).max() < 1  # the stream starts at the embeddings' 0.02


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
    (lambda: small(norm="both"), "norm='both'"),
    (lambda: Transformer([0], vocab=9, depth=1, width=8, heads=3), "heads=3"),
    (lambda: Transformer([0], vocab=1, depth=1), "vocab=1"),
    (lambda: Transformer([], vocab=9, depth=1), "one of each per member"),
    (lambda: small()(codes(tokens=7)), "tokens <= 6"),
    (lambda: small()(codes(members=3)), "one batch per member"),
])  # fmt: skip
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
