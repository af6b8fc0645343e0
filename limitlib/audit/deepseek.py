"""DeepSeek-MoE (2024, arXiv 2401.06066) from its published architecture: Llama attention, shared and routed experts.

``transformers`` has no class of that name, and the folder's own code is never run, so the few lines that differ from Llama are
written here. This room imports torch and transformers; it is loaded only when such a folder is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import LlamaConfig, LlamaModel
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRotaryEmbedding

#: config.json keys whose other values would change the architecture in a way that is not written here.
ONLY = {"scoring_func": "softmax", "rope_scaling": None, "attention_bias": False, "hidden_act": "silu"}


class DeepseekMoEGate(nn.Module):
    """Top-k softmax routing: weights (tokens, k) and the chosen experts (tokens, k). Not a continuous map."""

    def __init__(self, experts: int, width: int, k: int, normalised: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, width))
        self.top_k, self.norm_topk_prob = k, normalised

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        share = nn.functional.linear(x, self.weight).softmax(dim=-1)
        weight, chosen = share.topk(self.top_k, dim=-1, sorted=False)
        if self.norm_topk_prob and self.top_k > 1:
            weight = weight / (weight.sum(dim=-1, keepdim=True) + 1e-20)
        return weight, chosen


class DeepseekMoE(nn.Module):
    """Mixture of experts: a weighted sum of the chosen experts, plus experts that every token passes."""

    def __init__(self, llama: LlamaConfig, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, experts = config["hidden_size"], config["n_routed_experts"]
        self.gate = DeepseekMoEGate(experts, width, config["num_experts_per_tok"], bool(config.get("norm_topk_prob", False)))
        self.experts = nn.ModuleList(_mlp(llama, config["moe_intermediate_size"]) for _ in range(experts))
        shared = config.get("n_shared_experts")
        self.shared_experts = _mlp(llama, config["moe_intermediate_size"] * shared) if shared else None

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        x = hidden.reshape(-1, hidden.shape[-1])
        weight, chosen = self.gate(x)
        out = torch.zeros_like(x)
        for index in chosen.detach().unique().tolist():
            token, place = torch.where(chosen == index)
            out = out.index_add(0, token, self.experts[index](x[token]) * weight[token, place, None])
        out = out.reshape(hidden.shape)
        return out if self.shared_experts is None else out + self.shared_experts(hidden)


def _mlp(llama: LlamaConfig, hidden: int) -> LlamaMLP:
    narrow = LlamaConfig(**{**llama.to_dict(), "intermediate_size": hidden})
    return LlamaMLP(narrow)


def _build(config: Mapping[str, Any]) -> LlamaModel:
    for key, only in ONLY.items():
        if config.get(key, only) != only:
            raise ValueError(f"{key} = {config[key]!r} is not the published DeepSeek-MoE ({only!r})")
    llama = LlamaConfig(
        vocab_size=config["vocab_size"], hidden_size=config["hidden_size"], intermediate_size=config["intermediate_size"],
        num_hidden_layers=config["num_hidden_layers"], num_attention_heads=config["num_attention_heads"],
        num_key_value_heads=config.get("num_key_value_heads") or config["num_attention_heads"],
        max_position_embeddings=config.get("max_position_embeddings", 2048), rms_norm_eps=config.get("rms_norm_eps", 1e-6),
        rope_parameters={"rope_type": "default", "rope_theta": float(config.get("rope_theta", 10000.0))},
        initializer_range=config.get("initializer_range", 0.02))  # fmt: skip
    llama._attn_implementation = "eager"
    model = LlamaModel(llama)
    for i, layer in enumerate(model.layers):
        late = i >= config.get("first_k_dense_replace", 0) and i % config.get("moe_layer_freq", 1) == 0
        if config.get("n_routed_experts") and late:
            layer.mlp = DeepseekMoE(llama, config)
    return model.eval()


def read(config: Mapping[str, Any], files: Sequence[Path]) -> LlamaModel:
    """The model with the weights of the safetensors files, in the dtype they are stored in.

    Raises ValueError or RuntimeError naming what the files lack or have too much of.
    """
    with torch.device("meta"):
        model = _build(config)
    model.rotary_emb = LlamaRotaryEmbedding(model.config)  # its tables are computed, not stored
    weights: dict[str, torch.Tensor] = {}
    for file in files:
        with safe_open(file, framework="pt") as held:
            weights |= {k.removeprefix("model."): held.get_tensor(k) for k in held.keys() if not k.startswith("lm_head.")}  # noqa: SIM118
    weights = {k: v for k, v in weights.items() if not k.endswith("rotary_emb.inv_freq")}
    model.load_state_dict(weights, strict=True, assign=True)
    return model


def fresh(config: Mapping[str, Any], seed: int) -> LlamaModel:
    """The same architecture with weights drawn as at the start of training: normal, of deviation ``initializer_range``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _build(config)
        for name, p in model.named_parameters():
            if p.ndim >= 2:
                nn.init.normal_(p, std=config.get("initializer_range", 0.02))
            else:
                (nn.init.zeros_ if name.endswith("bias") else nn.init.ones_)(p)
    return model
