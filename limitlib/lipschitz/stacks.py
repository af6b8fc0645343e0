"""The blocks of a model: where they are, how to run one alone in float64, and which tokens enter its normalisation layers."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from limitlib.lipschitz.torch_rules import class_name
from limitlib.lipschitz.transformers import BLOCKS

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Attention classes of Hugging Face models that take the rotation of every position from the model.
ROTARY = ("LlamaAttention", "Qwen2Attention", "MistralAttention", "DeepseekV2Attention")


def find_blocks(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The blocks of a model with their paths, in order.

    The list of children of one type that holds the most parameters (``h`` of GPT-2, ``layers`` of Llama, ``encoder.layer`` of
    BERT, an nn.Sequential of equal blocks); without one, the children of the model; a model that is itself one block stands
    alone, with path "". Raises ValueError if there is nothing to audit.
    """
    if class_name(model) in BLOCKS or class_name(model) == "TransformerEncoderLayer":
        return [("", model)]
    best: tuple[int, list[tuple[str, nn.Module]]] = (0, [])
    for path, m in model.named_modules():
        if class_name(m) not in ("ModuleList", "Sequential") and type(m).__name__ != "ModuleList":
            continue
        children = [(f"{path}.{n}" if path else n, c) for n, c in m.named_children()]
        if len({type(c) for _, c in children}) != 1 or any(not list(c.children()) for _, c in children):
            continue
        size = sum(p.numel() for p in m.parameters())
        if size > best[0]:
            best = (size, children)
    found = best[1] or list(model.named_children()) or [("", model)]
    if not any(p.numel() for p in model.parameters()):
        raise ValueError(f"model: {type(model).__name__} has no weights, so there is nothing to audit")
    return found


def block_map(model: nn.Module, name: str, *, tokens: int | None = None) -> Callable[[Tensor], Tensor]:
    """A block as a map of states, in a float64 copy with exact attention (full sequences, causal where the model is).

    name: a path that :func:`find_blocks` gives. The map takes tensors (points, tokens, d) or (tokens, d) and keeps the shape.
    RMS norms that compute in float32 whatever they are given are replaced by float64 ones; the rotations of DeepSeek's
    attention and its router stay in float32. tokens is not needed. Raises ValueError for an unknown name.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    modules = dict(model.named_modules())
    if name not in modules:
        raise ValueError(f"name={name!r} is no path in the model; find_blocks(model) lists the blocks")
    twin = float64_copy(modules[name])
    rotary = rotary_of(model, modules[name])
    first = any(class_name(m) == "MultiheadAttention" and not m.batch_first for m in twin.modules())
    del tokens

    def run(x: Tensor) -> Tensor:
        x = x.double() if not x.is_floating_point() or x.dtype == torch.float32 else x
        single = x.ndim == 2
        h = x[None] if single else x
        extra: dict[str, Any] = {}
        if rotary is not None:
            extra["position_embeddings"] = rotary(h, torch.arange(h.shape[1], device=h.device)[None])
        with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            y = twin(h.transpose(0, 1)).transpose(0, 1) if first else twin(h, **extra)
        y = y[0] if isinstance(y, tuple) else y
        return y[0] if single else y

    run.module = twin  # type: ignore[attr-defined]
    return run


def float64_copy(module: nn.Module) -> nn.Module:
    """A copy of a block on the CPU in float64 and evaluation mode, without gradients, that computes in float64 inside."""
    import torch

    twin = copy.deepcopy(module).cpu().double().eval()
    for p in twin.parameters():
        p.requires_grad_(False)
    for m in list(twin.modules()):
        config = getattr(m, "config", None)
        if config is not None and hasattr(config, "_attn_implementation"):
            config._attn_implementation = "sdpa"
        for name, child in list(m.named_children()):
            if type(child).__name__.endswith("RMSNorm") and hasattr(child, "variance_epsilon"):
                exact = torch.nn.RMSNorm(child.weight.shape, eps=float(child.variance_epsilon), dtype=torch.float64)  # type: ignore[arg-type]
                exact.weight = child.weight  # type: ignore[assignment]
                setattr(m, name, exact)
    return twin


def rotary_of(model: nn.Module, block: nn.Module) -> Any:
    """The rotary embedding that gives a block its rotations: the model's own, or one made from the block's configuration."""
    needing = [m for m in block.modules() if type(m).__name__ in ROTARY]
    if not needing:
        return None
    for m in model.modules():
        if type(m).__name__.endswith("RotaryEmbedding"):
            return m
    home = sys.modules[type(needing[0]).__module__]
    return getattr(home, type(needing[0]).__name__.replace("Attention", "RotaryEmbedding"))(needing[0].config)


def entering_norms(run: Callable[[Tensor], Tensor], x: Tensor) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Norms and centred norms of the tokens that enter each normalisation layer of a block.

    run: what :func:`block_map` returns. x: states (points, tokens, d). Returns path in the block -> two arrays, each
    (points, tokens) or as many rows as enter the layer for each point. Useful for choosing shells: half of the least, say.
    """
    import torch

    seen: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    handles = []

    def keep(path: str) -> Callable[..., None]:
        def hook(module: Any, args: tuple[Any, ...]) -> None:
            v = args[0].detach()
            centred = v - v.mean(dim=-1, keepdim=True)
            lengths = [torch.linalg.vector_norm(u, dim=-1).double().cpu().numpy() for u in (v, centred)]
            n = len(x) if x.ndim == 3 else 1
            shape = (n, -1) if lengths[0].ndim < 2 or lengths[0].shape[0] == n else (-1, n)
            seen[path] = tuple(a.reshape(shape) if shape[0] == n else a.reshape(shape).T for a in lengths)  # type: ignore[assignment]

        return hook

    for path, m in run.module.named_modules():  # type: ignore[attr-defined]
        if class_name(m) in ("LayerNorm", "RMSNorm") or type(m).__name__.endswith("RMSNorm"):
            handles.append(m.register_forward_pre_hook(keep(path)))
    try:
        with torch.no_grad():
            run(x)
    finally:
        for h in handles:
            h.remove()
    return seen
