"""The top curvature of a loss, for a whole ensemble at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Sharpness:
    """Rayleigh quotients of Hessians, one per member: LOWER bounds on the largest eigenvalue, with their residuals.

    value, residual: float64 (members,); ``residual`` is |H v - value v| for the unit vector v, so some eigenvalue lies
    within it of the value.
    vectors: the v's, tensors shaped like the parameters, to start the next call from.
    """

    value: np.ndarray
    residual: np.ndarray
    vectors: tuple[torch.Tensor, ...]


def sharpness(
    loss: Callable[[Sequence[torch.Tensor]], torch.Tensor],
    parameters: Sequence[torch.Tensor],
    *,
    iters: int = 20,
    rng: np.random.Generator | None = None,
    start: Sequence[torch.Tensor] | None = None,
) -> Sharpness:
    """Top Hessian eigenvalue of a loss by power iteration, for a whole ensemble at once.

    loss: parameters -> losses of shape (members,), member m depending on index m of each parameter only.
    parameters: tensors with leading dimension members. start: vectors of an earlier call; else random ones from ``rng``.
    Power iteration finds the eigenvalue of largest modulus; where that one is negative, so is the value.
    Raises ValueError if neither start nor rng is given or iters < 1.
    """
    import torch

    if iters < 1:
        raise ValueError(f"iters={iters} must be at least 1")
    if start is None and rng is None:
        raise ValueError("give rng (for a random start) or start (the vectors of an earlier call)")
    leaves = [p.detach().requires_grad_(True) for p in parameters]
    members = leaves[0].shape[0]

    def dots(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> torch.Tensor:
        parts = [(u * v).reshape(members, -1).sum(1) for u, v in zip(a, b, strict=True)]
        return torch.stack(parts).sum(0)

    def unit(a: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        size = dots(a, a).sqrt().clamp_min(torch.finfo(leaves[0].dtype).tiny)
        return [v / size.reshape(-1, *[1] * (v.ndim - 1)) for v in a]

    if start is None:
        assert rng is not None
        start = [torch.tensor(rng.standard_normal(p.shape), dtype=p.dtype, device=p.device) for p in leaves]
    v = unit([s.detach() for s in start])
    gradient = torch.autograd.grad(loss(leaves).sum(), leaves, create_graph=True)
    for i in range(iters):
        Hv = [h.detach() for h in torch.autograd.grad(gradient, leaves, v, retain_graph=i < iters - 1)]
        value = dots(v, Hv)
        if i < iters - 1:
            v = unit(Hv)
    excess = [h - value.reshape(-1, *[1] * (h.ndim - 1)) * u for h, u in zip(Hv, v, strict=True)]
    residual = dots(excess, excess).sqrt()
    return Sharpness(value.double().cpu().numpy(), residual.double().cpu().numpy(), tuple(v))
