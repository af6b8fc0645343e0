"""Blocks of transformers: upper ends are never below attained quotients on the stated shells, and the audit's table."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from limitlib.bounds import Ball, Shell, TokenBall, WholeSpace
from limitlib.lipschitz import (
    NormShells,
    UnsupportedLayer,
    audit,
    block_map,
    entering_norms,
    find_blocks,
    lipschitz,
)
from limitlib.lipschitz.modules import shares_of_log
from limitlib.lipschitz.regions import Region
from limitlib.lipschitz.transformers import core_attention
from limitlib.lipschitz.walker import Walker, plain

transformers = pytest.importorskip("transformers")
TOKENS, D = 5, 8


def gpt2(seed=0, **more):
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        n_layer=2,
        n_embd=D,
        n_head=2,
        vocab_size=11,
        n_positions=16,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.3,
        **more,
    )
    return transformers.GPT2Model(config).eval()


def bert(seed=0):
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        num_hidden_layers=2, hidden_size=D, num_attention_heads=2, intermediate_size=12, vocab_size=11, initializer_range=0.3
    )
    return transformers.BertModel(config).eval()


def llama(seed=0, kind="Llama", **more):
    torch.manual_seed(seed)
    config = getattr(transformers, f"{kind}Config")(
        num_hidden_layers=2, hidden_size=D, num_attention_heads=4, num_key_value_heads=2, intermediate_size=12, vocab_size=11,
        max_position_embeddings=32, initializer_range=0.3, bos_token_id=0, eos_token_id=0, **more,
    )  # fmt: skip
    return getattr(transformers, f"{kind}Model")(config).eval()


def qwen2(seed=0):
    return llama(seed, "Qwen2")


def deepseek(seed=0, dense=2, lora=6):
    torch.manual_seed(seed)
    config = transformers.DeepseekV2Config(
        num_hidden_layers=2, hidden_size=D, num_attention_heads=2, num_key_value_heads=2, intermediate_size=12, vocab_size=11,
        kv_lora_rank=6, q_lora_rank=lora, qk_rope_head_dim=2, v_head_dim=4, qk_nope_head_dim=4, n_routed_experts=4,
        n_shared_experts=1, num_experts_per_tok=2,
        first_k_dense_replace=dense, moe_intermediate_size=6, n_group=1, topk_group=1, initializer_range=0.3,
        bos_token_id=0, eos_token_id=0, max_position_embeddings=32,
    )  # fmt: skip
    return transformers.DeepseekV2Model(config).eval()


FAMILIES = {"gpt2": gpt2, "bert": bert, "llama": llama, "qwen2": qwen2, "deepseek": deepseek}


def scrambled(model, seed):
    """Gains away from 1 and biases away from 0, so that nothing holds by accident."""
    torch.manual_seed(100 + seed)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 1:
                p.add_(0.3 * torch.randn_like(p))
    return model


def jacobian_norm(f, x):
    J = torch.autograd.functional.jacobian(f, x).reshape(x.numel(), x.numel())
    return float(torch.linalg.matrix_norm(J, 2))


def quotients(f, x, y):
    with torch.no_grad():
        return ((f(x) - f(y)).flatten(1).norm(dim=1) / (x - y).flatten(1).norm(dim=1)).numpy()


def observed_shells(f, x, centred, share=1.0):
    return {
        k: Shell(share * float(v[1 if centred else 0].min()) * (1 - 1e-9), centred=centred)
        for k, v in entering_norms(f, x).items()
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_never_exceed_their_bound_on_the_shells_of_the_data(family):
    for seed in range(1 if family == "gpt2" else 2):
        model = scrambled(FAMILIES[family](seed), seed)
        centred = family in ("gpt2", "bert")
        for name, block in find_blocks(model):
            f = block_map(model, name)
            rng = np.random.default_rng(seed)
            x = torch.from_numpy(rng.standard_normal((24, TOKENS, D)) * rng.uniform(0.5, 3.0, (24, 1, 1)))
            near = x[:8] + 1e-4 * torch.randn(8, TOKENS, D, dtype=torch.float64)
            points = torch.cat([x, near])
            radius = float(points.norm(dim=-1).max()) * (1 + 1e-9)
            domain = NormShells(observed_shells(f, points, centred), TokenBall(radius))
            bound = lipschitz(block, domain, tokens=TOKENS)
            found = max(
                quotients(f, x[:8], near).max(), quotients(f, x[:12], x[12:]).max(), *(jacobian_norm(f, p) for p in x[:4])
            )
            assert 0 < found <= bound.upper < math.inf
            if family in ("gpt2", "llama", "qwen2"):  # the others have norms of tiny latents, or two norms in a row
                assert bound.upper < 1e4 * found


@pytest.mark.parametrize("family", FAMILIES)
def test_a_block_run_alone_does_what_it_does_in_the_model(family):
    model = FAMILIES[family]()
    x = torch.randn(2, TOKENS, D)
    with torch.no_grad():
        states = model(inputs_embeds=x, output_hidden_states=True).hidden_states
    names = [name for name, _ in find_blocks(model)]
    assert len(names) == 2
    made = block_map(model, names[0])(states[0])
    assert made.dtype == torch.float64 and torch.allclose(made.float(), states[1], atol=1e-5)
    single = block_map(model, names[0])(states[0][0])
    assert torch.allclose(single, made[0], atol=1e-12)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_torch_encoder_layers(norm_first, batch_first):
    for seed in range(3):
        torch.manual_seed(seed)
        layer = nn.TransformerEncoderLayer(
            D, 2, 16, dropout=0.1, activation="gelu", batch_first=batch_first, norm_first=norm_first
        ).eval()
        layer = scrambled(layer, seed)
        f = block_map(layer, "")
        x = torch.randn(20, TOKENS, D, dtype=torch.float64)
        near = x + 1e-4 * torch.randn_like(x)
        points = torch.cat([x, near])
        domain = NormShells(observed_shells(f, points, True), TokenBall(float(points.norm(dim=-1).max()) * (1 + 1e-9)))
        bound = lipschitz(layer, domain, tokens=TOKENS)
        found = max(quotients(f, x, near).max(), quotients(f, x[:10], x[10:]).max(), *(jacobian_norm(f, p) for p in x[:4]))
        assert 0 < found <= bound.upper < 500 * found


def test_an_encoder_is_the_composition_of_its_layers():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(D, 2, 16, batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).eval()
    shell = Shell(1.0, centred=True)
    one = lipschitz(encoder.layers[0], shell, tokens=TOKENS).upper
    assert lipschitz(encoder, shell, tokens=TOKENS).upper == pytest.approx(one**3, rel=1e-6)


def test_pre_norm_needs_no_bound_of_the_tokens_and_post_norm_does():
    torch.manual_seed(0)
    pre = nn.TransformerEncoderLayer(D, 2, 16, batch_first=True, norm_first=True).eval()
    post = nn.TransformerEncoderLayer(D, 2, 16, batch_first=True, norm_first=False).eval()
    assert math.isfinite(lipschitz(pre, tokens=TOKENS).upper)
    bound = lipschitz(post, tokens=TOKENS)
    assert bound.upper == math.inf and "self_attn" in bound.source
    assert math.isfinite(lipschitz(post, TokenBall(1.0), tokens=TOKENS).upper)


def test_multihead_attention_in_a_forward():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.attn = nn.LayerNorm(D), nn.MultiheadAttention(D, 2, batch_first=True)

        def forward(self, x):
            h = self.norm(x)
            return x + self.attn(h, h, h, need_weights=False)[0]

    torch.manual_seed(0)
    block = Block().eval()
    shell = Shell(1.0, centred=True)
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((30, TOKENS, D)))
    x = x[(shell.contains(x.numpy())).all(axis=1)]
    twin = block_map(block, "")
    assert quotients(twin, x[:10], x[10:20]).max() <= lipschitz(block, shell, tokens=TOKENS).upper
    assert (
        quotients(twin, x[:10], x[:10] + 1e-5 * torch.randn(10, TOKENS, D)).max()
        <= lipschitz(block, shell, tokens=TOKENS).upper
    )


def test_attention_with_masks_or_other_keys_is_refused():
    class Cross(nn.Module):
        def __init__(self):
            super().__init__()
            self.attn = nn.MultiheadAttention(D, 2, batch_first=True)

        def forward(self, x):
            return self.attn(x, 2 * x, x)[0]

    with pytest.raises(UnsupportedLayer, match="different queries"):
        lipschitz(Cross(), TokenBall(1.0), tokens=3)
    with pytest.raises(UnsupportedLayer, match="add_zero_attn"):
        lipschitz(nn.MultiheadAttention(D, 2, add_zero_attn=True), TokenBall(1.0), tokens=3)
    with pytest.raises(ValueError, match="tokens is needed"):
        lipschitz(nn.MultiheadAttention(D, 2), TokenBall(1.0))


@pytest.mark.parametrize("causal", [False, True])
def test_the_core_of_attention_on_given_queries_keys_and_values(causal):
    rng = np.random.default_rng(0)
    for case in range(60):
        n, heads, d, scale = int(rng.integers(1, 6)), int(rng.integers(1, 3)), 3, rng.uniform(0.1, 1.5)
        radius = rng.uniform(0.2, 3.0, 3)
        parts = [plain(float(rng.uniform(0.1, 2)), Region((n, heads * d), r)) for r in radius]
        made = core_attention(Walker(WholeSpace()), "core", *parts, heads=heads, scale=scale, causal=causal)

        def core(z, n=n, heads=heads, scale=scale, d=d):
            q, k, v = (u.reshape(n, heads, d).transpose(0, 1) for u in z.split(n, dim=0))
            s = scale * q @ k.transpose(1, 2)
            if causal:
                s = s.masked_fill(torch.ones(n, n).triu(1).bool(), -math.inf)
            return (s.softmax(-1) @ v).transpose(0, 1).reshape(n, heads * d)

        z = torch.randn(3, n, heads * d, dtype=torch.float64)
        z = z / z.norm(dim=-1, keepdim=True) * torch.from_numpy(radius)[:, None, None]
        J = torch.autograd.functional.jacobian(core, z.reshape(3 * n, heads * d)).reshape(n * heads * d, 3, -1)
        # An input that moves queries, keys and values by their constants, each in the direction that matters most at z.
        tops = [torch.linalg.svd(J[:, i]) for i in range(3)]
        moves = [J[:, i] @ (parts[i].upper * tops[i][2][0]) for i in range(3)]
        signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 3)
        reached = (signs @ torch.stack(moves)).norm(dim=1).max()
        assert max(float(m.norm()) for m in moves) <= float(reached) <= made.upper, case


# ------------------------------------------------------------------------------------------------------------------ the audit


def test_audit_of_a_model_with_states():
    for family in ("gpt2", "bert", "llama", "deepseek"):
        model = FAMILIES[family]()
        centred = family in ("gpt2", "bert")
        with torch.no_grad():
            states = model(inputs_embeds=torch.randn(3, TOKENS, D), output_hidden_states=True).hidden_states
        names = [name for name, _ in find_blocks(model)]
        shells = {}
        for name, x in zip(names, states, strict=False):
            shells |= {f"{name}.{k}": s for k, s in observed_shells(block_map(model, name), x, centred, 0.5).items()}
        seen = []
        rows = audit(model, shells, states=dict(zip(names, states, strict=False)), progress=lambda *a, s=seen: s.append(a))
        assert [r.name for r in rows] == names and seen == [(1, 2, names[0]), (2, 2, names[1])]
        for row, x in zip(rows, states, strict=False):
            assert 0 < row.bound.lower <= row.bound.upper
            exact = max(jacobian_norm(block_map(model, row.name), p.double()) for p in x)
            assert row.bound.lower <= exact * (1 + 1e-6)
            assert row.bound.lower >= 0.9 * exact
        assert math.fsum(r.share_of_log for r in rows) == pytest.approx(1.0)


def test_audit_by_layer_names_every_layer():
    rows = audit(gpt2(), Shell(1.0, centred=True), by="layer", tokens=TOKENS)
    assert [r.name for r in rows][:6] == ["h.0.ln_1", "h.0.attn", "h.0.ln_2", "h.0.mlp.c_fc", "h.0.mlp.act", "h.0.mlp.c_proj"]
    assert len(rows) == 12 and all(0 < r.bound.upper < math.inf for r in rows)
    act = next(r for r in rows if r.name.endswith("act"))
    assert act.bound.upper <= 1.128994


def test_routing_has_no_constant_and_the_source_says_why():
    rows = audit(deepseek(dense=1), Shell(1.0), tokens=TOKENS)
    assert math.isfinite(rows[0].bound.upper)
    assert rows[1].bound.upper == math.inf and "not continuous" in rows[1].bound.source
    assert [r.share_of_log for r in rows] == [0.0, 1.0]


def test_bert_is_bounded_by_its_own_normalisations():
    rows = audit(bert(), Shell(1.0, centred=True), tokens=TOKENS)
    assert all(math.isfinite(r.bound.upper) for r in rows)


def test_latent_attention_with_and_without_compressed_queries():
    for lora in (None, 6):
        rows = audit(deepseek(lora=lora), Shell(0.5), tokens=TOKENS)
        assert all(math.isfinite(r.bound.upper) for r in rows)


def test_audit_of_plain_networks_by_children_and_of_equal_blocks():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    rows = audit(net)
    assert [r.name for r in rows] == ["0", "1", "2"] and rows[1].bound.upper == 1.0
    stack = nn.Sequential(*(nn.Sequential(nn.Linear(3, 3), nn.Tanh()) for _ in range(4)))
    assert [name for name, _ in find_blocks(stack)] == ["0", "1", "2", "3"]
    assert sum(r.share_of_log for r in audit(stack)) == pytest.approx(1.0)


@pytest.mark.parametrize(("uppers", "shares"), [
    ([2.0, 2.0], [0.5, 0.5]),
    ([4.0, 0.5], [2.0, -1.0]),
    ([math.inf, 3.0, math.inf], [0.5, 0.0, 0.5]),
    ([0.0, math.inf, 2.0], [1.0, 0.0, 0.0]),
    ([1.0, 1.0], [0.0, 0.0]),
    ([2.0, 0.5], [0.0, 0.0]),
])  # fmt: skip
def test_shares_of_the_logarithm(uppers, shares):
    assert shares_of_log(uppers) == shares


def test_domains_by_position_and_by_path():
    model = gpt2()
    wide, narrow = Shell(1.0, centred=True), Shell(3.0, centred=True)
    rows = audit(model, [wide, narrow], tokens=TOKENS)
    same = audit(model, {"h.0": wide, "h.1": narrow}, tokens=TOKENS)
    single = audit(model, wide, tokens=TOKENS)
    assert [r.bound.upper for r in rows] == [r.bound.upper for r in same]
    assert rows[0].bound.upper == single[0].bound.upper and rows[1].bound.upper < single[1].bound.upper
    finer = audit(model, {"": wide, "h.0.ln_2": narrow}, tokens=TOKENS)
    assert finer[0].bound.upper < single[0].bound.upper and finer[1].bound.upper == single[1].bound.upper


def test_states_outside_the_shells_do_not_count():
    model = gpt2()
    x = torch.randn(4, TOKENS, D)
    rows = audit(model, Shell(100.0, centred=True), states=[x, x])
    assert all(r.bound.lower == 0.0 and "outside" in r.bound.source for r in rows)


def test_audit_errors():
    model = gpt2()
    x = np.zeros((1, TOKENS, D))
    with pytest.raises(ValueError, match="by='head'"):
        audit(model, by="head")
    with pytest.raises(ValueError, match="tokens is needed"):
        audit(model)
    with pytest.raises(ValueError, match="path of no block"):
        audit(model, {"layers.7": Shell(1.0)}, tokens=TOKENS)
    with pytest.raises(TypeError, match="mapping names Shells"):
        audit(model, {"h.0": TokenBall(1.0)}, tokens=TOKENS)
    with pytest.raises(ValueError, match="one for each of the 2 blocks"):
        audit(model, [Shell(1.0)], tokens=TOKENS)
    with pytest.raises(ValueError, match="states has 1 entries"):
        audit(model, states=[x])
    with pytest.raises(ValueError, match="points, tokens, d"):
        audit(model, states=[x[0], x])
    with pytest.raises(ValueError, match="no block"):
        audit(model, states={"h.9": x})
    with pytest.raises(ValueError, match="tokens=3"):
        audit(model, states=[x, x], tokens=3)
    with pytest.raises(ValueError, match="no path in the model"):
        block_map(model, "h.9")
    with pytest.raises(ValueError, match="no weights"):
        audit(nn.Sequential(nn.ReLU()))
    with pytest.raises(UnsupportedLayer, match="cross-attention"):
        audit(gpt2(add_cross_attention=True), tokens=TOKENS)


def test_the_domain_that_depends_on_the_network_answers_no_membership_question():
    domain = NormShells({"": Shell(1.0), "a.b": Shell(2.0)})
    assert domain.shell_of("a.b.c").r_min == 2.0 and domain.shell_of("a.bc").r_min == 1.0
    assert NormShells({"a": Shell(1.0)}).shell_of("b") is None
    assert domain == NormShells({"": Shell(1.0), "a.b": Shell(2.0)}) and hash(domain) == hash(NormShells(domain.shells))
    with pytest.raises(ValueError, match="depends on the network"):
        domain.contains(np.zeros(3))
    with pytest.raises(TypeError, match="paths to Shell"):
        NormShells({"a": Ball(np.zeros(2), 1.0)})
