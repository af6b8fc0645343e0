"""Rules for the blocks of Hugging Face models, by the names of their classes and parts; nothing of that library is imported.

Attention is taken over all tokens that a block sees (causal where the model is): full sequences without padding. Rotary
embeddings are taken as the exact rotations that they approximate in float32.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from limitlib.bounds import multiply_up, round_up
from limitlib.lipschitz.chains import Entrywise
from limitlib.lipschitz.regions import Array, Region, product_up
from limitlib.lipschitz.torch_rules import class_name, entry_of, layer_norm, linear, numbers, weight_of
from limitlib.lipschitz.walker import UnsupportedLayer, Value, Walker, plain

if TYPE_CHECKING:
    pass

Pair = tuple[Array, Array | None]
LLAMA_LIKE = ("LlamaDecoderLayer", "Qwen2DecoderLayer", "MistralDecoderLayer")


def pair(module: Any, path: str) -> Pair:
    """Weight (out, in) and bias of a Linear, or of a GPT-2 Conv1D, which stores the transpose."""
    W = weight_of(module, path)
    if class_name(module) == "Conv1D":
        W = np.ascontiguousarray(W.T)
    elif class_name(module) != "Linear":
        raise UnsupportedLayer(
            path, f"{type(module).__name__} where a Linear is expected", "load the model without adapters or quantisation"
        )
    return W, numbers(getattr(module, "bias", None), f"{path}.bias")


def activation_of(module: Any, path: str) -> Entrywise:
    entry = entry_of(module, path)
    if entry is None:
        raise UnsupportedLayer(path, f"{type(module).__name__} is no known activation", "use gelu, silu or relu")
    return entry


def norm(walk: Walker, module: Any, path: str, x: Value) -> Value:
    """LayerNorm, or one of the RMSNorm classes, which keep their eps as ``variance_epsilon``."""
    if class_name(module) == "LayerNorm":
        return layer_norm(walk, module, path, x)
    if not class_name(module).endswith("RMSNorm") or not hasattr(module, "variance_epsilon"):
        raise UnsupportedLayer(
            path, f"{type(module).__name__} where a normalisation layer is expected", "use LayerNorm or RMSNorm"
        )
    return walk.normalise(x, path, kind="RMSNorm", eps=float(module.variance_epsilon), gain=weight_of(module, path), bias=None)


def _split(p: Pair, parts: int) -> list[Pair]:
    W, b = p
    biases = [None] * parts if b is None else np.split(b, parts)
    return list(zip(np.split(W, parts), biases, strict=True))


# ------------------------------------------------------------------------------------------------------------ the families


def gpt2_block(walk: Walker, module: Any, path: str, x: Value) -> Value:
    at = f"{path}." if path else ""
    if hasattr(module, "crossattention"):
        raise UnsupportedLayer(path, "cross-attention", "audit a decoder without it")
    x = walk.add(x, gpt2_attention(walk, module.attn, f"{at}attn", norm(walk, module.ln_1, f"{at}ln_1", x)))
    return walk.add(x, gpt2_mlp(walk, module.mlp, f"{at}mlp", norm(walk, module.ln_2, f"{at}ln_2", x)))


def gpt2_attention(walk: Walker, module: Any, path: str, x: Value) -> Value:
    q, k, v = _split(pair(module.c_attn, f"{path}.c_attn"), 3)
    o = pair(module.c_proj, f"{path}.c_proj")
    return walk.attention(x, path, q=q, k=k, v=v, o=o, heads=module.num_heads, causal=True, scale=module.scaling)


def gpt2_mlp(walk: Walker, module: Any, path: str, x: Value) -> Value:
    x = walk.affine(x, f"{path}.c_fc", *pair(module.c_fc, f"{path}.c_fc"))
    x = walk.activation(x, f"{path}.act", activation_of(module.act, f"{path}.act"))
    return walk.affine(x, f"{path}.c_proj", *pair(module.c_proj, f"{path}.c_proj"))


def bert_layer(walk: Walker, module: Any, path: str, x: Value) -> Value:
    at = f"{path}." if path else ""
    if hasattr(module, "crossattention"):
        raise UnsupportedLayer(path, "cross-attention", "audit an encoder without it")
    inner, out = module.attention.self, module.attention.output
    at_self, at_out = f"{at}attention.self", f"{at}attention.output"
    parts = {
        name: pair(getattr(inner, word), f"{at_self}.{word}")
        for name, word in zip("qkv", ("query", "key", "value"), strict=True)
    }
    h = walk.attention(
        x, at_self, q=parts["q"], k=parts["k"], v=parts["v"], o=pair(out.dense, f"{at_out}.dense"),
        heads=inner.num_attention_heads, causal=bool(inner.is_causal),
        scale=inner.scaling,
    )  # fmt: skip
    x = norm(walk, out.LayerNorm, f"{at_out}.LayerNorm", walk.add(x, h))
    h = linear(walk, module.intermediate.dense, f"{at}intermediate.dense", x)
    h = walk.activation(h, f"{at}intermediate", activation_of(module.intermediate.intermediate_act_fn, f"{at}intermediate"))
    h = linear(walk, module.output.dense, f"{at}output.dense", h)
    return norm(walk, module.output.LayerNorm, f"{at}output.LayerNorm", walk.add(x, h))


def llama_layer(walk: Walker, module: Any, path: str, x: Value) -> Value:
    at = f"{path}." if path else ""
    h = norm(walk, module.input_layernorm, f"{at}input_layernorm", x)
    attend = latent_attention if hasattr(module.self_attn, "kv_a_proj_with_mqa") else rotary_attention
    x = walk.add(x, attend(walk, module.self_attn, f"{at}self_attn", h))
    h = norm(walk, module.post_attention_layernorm, f"{at}post_attention_layernorm", x)
    feed = experts if hasattr(module.mlp, "experts") else gated_mlp
    return walk.add(x, feed(walk, module.mlp, f"{at}mlp", h))


def rotary_attention(walk: Walker, module: Any, path: str, x: Value) -> Value:
    for extra in ("q_norm", "k_norm", "sinks"):
        if hasattr(module, extra):
            raise UnsupportedLayer(
                f"{path}.{extra}", "attention with norms of queries and keys, or sinks", "no rule for this family yet"
            )
    window = getattr(module, "sliding_window", None) or (
        getattr(module.config, "sliding_window", None) if class_name(module) == "MistralAttention" else None
    )
    if window is not None and math.prod(x.shape[:-1]) > window:
        raise UnsupportedLayer(path, f"a sliding window of {window} tokens", f"use tokens={window} at most")
    parts = {name: pair(getattr(module, f"{name}_proj"), f"{path}.{name}_proj") for name in "qkvo"}
    heads = len(parts["q"][0]) // module.head_dim
    scale = module.scaling * rotary_factor(module, path) ** 2
    return walk.attention(
        x,
        path,
        q=parts["q"],
        k=parts["k"],
        v=parts["v"],
        o=parts["o"],
        heads=heads,
        kv_heads=heads // module.num_key_value_groups,
        causal=True,
        scale=scale,
        rotary=True,
    )


def rotary_factor(module: Any, path: str) -> float:
    """What the model's rotary embedding multiplies queries and keys with, beside rotating them (1 for most)."""
    kind = (getattr(module.config, "rope_parameters", None) or {}).get("rope_type", "default")
    if kind in ("default", "linear", "dynamic", "llama3"):
        return 1.0
    home = sys.modules[type(module).__module__]
    name = type(module).__name__.replace("Attention", "RotaryEmbedding")
    if not hasattr(home, name):
        raise UnsupportedLayer(path, f"rotary embeddings of type {kind!r}", "use the default type")
    return float(getattr(home, name)(module.config).attention_scaling)


def gated_mlp(walk: Walker, module: Any, path: str, x: Value) -> Value:
    parts = {name: pair(getattr(module, f"{name}_proj"), f"{path}.{name}_proj") for name in ("gate", "up", "down")}
    return walk.gated(x, path, **parts, activation=activation_of(module.act_fn, f"{path}.act_fn"))


def experts(walk: Walker, module: Any, path: str, x: Value) -> Value:
    """Top-k routing jumps where two experts tie, so the layer is not continuous; only its values are bounded."""
    reason = "top-k routing is not continuous: the output jumps where two experts tie, so there is no Lipschitz constant"
    return walk.lipschitz_layer(x, math.inf, Region(x.shape), path, reason)


def latent_attention(walk: Walker, module: Any, path: str, x: Value) -> Value:
    """Multi-head latent attention: queries, keys and values have nonlinear parts of their own, the norms of the latents."""
    heads, nope, dv = module.num_heads, module.qk_nope_head_dim, module.v_head_dim
    if module.q_lora_rank is None:
        q = walk.affine(x, f"{path}.q_proj", *pair(module.q_proj, f"{path}.q_proj"))
    else:
        q = walk.affine(x, f"{path}.q_a_proj", *pair(module.q_a_proj, f"{path}.q_a_proj"))
        q = norm(walk, module.q_a_layernorm, f"{path}.q_a_layernorm", q)
        q = walk.affine(q, f"{path}.q_b_proj", *pair(module.q_b_proj, f"{path}.q_b_proj"))
    W, b = pair(module.kv_a_proj_with_mqa, f"{path}.kv_a_proj_with_mqa")
    rank = module.kv_lora_rank
    latent = walk.affine(x, f"{path}.kv_a_proj_with_mqa (latent rows)", W[:rank], None if b is None else b[:rank])
    shared = walk.affine(x, f"{path}.kv_a_proj_with_mqa (rotary rows)", W[rank:], None if b is None else b[rank:])
    latent = norm(walk, module.kv_a_layernorm, f"{path}.kv_a_layernorm", latent)
    B, b = pair(module.kv_b_proj, f"{path}.kv_b_proj")
    rows = np.arange(len(B)).reshape(heads, nope + dv)
    pick = {"k": rows[:, :nope].ravel(), "v": rows[:, nope:].ravel()}
    k, v = (walk.affine(latent, f"{path}.kv_b_proj ({n} rows)", B[pick[n]], None if b is None else b[pick[n]]) for n in "kv")
    factor = rotary_factor(module, path)
    scale = abs(module.scaling) * max(1.0, factor) ** 2
    made = core_attention(walk, path, q, k, v, heads=heads, scale=scale, causal=True, shared=shared)
    return walk.affine(made, f"{path}.o_proj", *pair(module.o_proj, f"{path}.o_proj"))


def core_attention(
    walk: Walker,
    path: str,
    q: Value,
    k: Value,
    v: Value,
    *,
    heads: int,
    scale: float,
    causal: bool,
    shared: Value | None = None,
) -> Value:
    """Softmax attention of given queries, keys and values, heads along the last axis, ``shared`` keys appended to every head.

    Row i of a head is m_i = sum_j P_ij v_j, and dm_i = sum_j P_ij dv_j + s sum_j P_ij (v_j - m_i) (k_j . dq_i + q_i . dk_j).
    With |q_i| <= Q, |k_j| <= K, |v_j| <= V for every head, p the largest entry that P can have and n tokens, |P| is at most
    sqrt(n p), and the three parts are at most sqrt(n p) |dv|, s K V |dq| (a covariance of vectors of length V and K) and
    s Q V sqrt(n p) |dk|.
    """
    q, k, v = walk.settle(q), walk.settle(k), walk.settle(v)
    n = math.prod(q.shape[:-1])
    Q, K, V = (z.chain.region.radius for z in (q, k, v))
    lip_k = k.upper
    if shared is not None:
        shared = walk.settle(shared)
        K = round_up(math.hypot(K, shared.chain.region.radius), 4)
        lip_k = round_up(math.hypot(k.upper, math.sqrt(heads) * shared.upper), 8)
    column = _column_norm(n, multiply_up(2 * scale * Q, K), causal)
    parts = [multiply_up(column, v.upper)]
    if n > 1:
        parts += [product_up([scale, K, V, q.upper]), product_up([scale, Q, V, column, lip_k])]
    upper = round_up(math.fsum(parts) if all(map(math.isfinite, parts)) else math.inf, 16)
    walk.record(path, upper, "attention is not Lipschitz on unbounded tokens (Kim et al. 2021); bound the tokens")
    return plain(upper, Region(v.shape, round_up(V * math.sqrt(heads), 4)))


def _column_norm(n: int, gap: float, causal: bool) -> float:
    """Bound of |P|: rows sum to 1, and a column to at most the sum of the largest entries, logits at most ``gap`` apart."""
    least = math.exp(-gap) * (1 - 1e-12) if gap < 700 else 0.0
    visible = np.arange(1, n + 1) if causal else np.full(n, n)
    total = float((1 / (1 + (visible - 1) * least)).sum())
    return 1.0 if n == 1 else math.sqrt(min(float(n), total * (1 + 1e-12))) * (1 + 1e-15)


BLOCKS: dict[str, Callable[[Walker, Any, str, Value], Value]] = {
    "BertLayer": bert_layer,
    "DeepseekV2DecoderLayer": llama_layer,
    "GPT2Block": gpt2_block,
    "GPT2MLP": gpt2_mlp,
    "LlamaDecoderLayer": llama_layer,
    "LlamaMLP": gated_mlp,
    "MistralDecoderLayer": llama_layer,
    "Qwen2DecoderLayer": llama_layer,
    "Qwen2MLP": gated_mlp,
    "LlamaRMSNorm": norm,
    "Qwen2RMSNorm": norm,
    "MistralRMSNorm": norm,
    "DeepseekV2RMSNorm": norm,
    "DeepseekV2MLP": gated_mlp,
    "Conv1D": lambda walk, module, path, x: walk.affine(x, path, *pair(module, path)),
}
