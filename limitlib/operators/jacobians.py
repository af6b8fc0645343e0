"""The Jacobian of a map at given points. Values at points are LOWER bounds on Lipschitz constants, never upper bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class JacobianSpectrum:
    """Singular values of a map's Jacobian at points, largest first; float64, shape (..., min(outputs, inputs)).

    ``inputs`` is the number of input features, which ``rms`` divides by. Points whose Jacobian is not finite hold nan.
    """

    values: np.ndarray
    inputs: int

    @property
    def local(self) -> np.ndarray:
        """Top singular value at each point: the ``local`` Lipschitz constant, a LOWER bound on ``sup``; shape (...)."""
        return self.values[..., 0]

    @property
    def chi(self) -> np.ndarray:
        """Mean squared singular value |J|_F^2 / inputs at each point (mean-field theory's chi for square maps)."""
        return np.square(self.values).sum(-1) / self.inputs

    @property
    def rms(self) -> np.ndarray:
        """Square root of ``chi``: the gain of a random infinitesimal perturbation; never above ``local``."""
        return np.sqrt(self.chi)

    @property
    def lower(self) -> np.ndarray:
        """Largest ``local`` over the last point dimension: the best LOWER bound on ``sup`` that these points give."""
        return self.local.max(-1)


def jacobian(f: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Exact Jacobians (..., points, outputs, inputs) of ``f`` at points ``x`` (..., points, inputs).

    ``f`` maps (..., points, inputs) to (..., points, outputs) for any number of points and treats each on its own, as
    networks do (BatchNorm does not). In the dtype and on the device of x. Raises ValueError for other shapes.
    """
    import torch

    if x.ndim < 2:
        raise ValueError(f"x has shape {tuple(x.shape)}; give points (..., points, inputs), a single one as x[None]")
    with torch.no_grad():
        value = f(x)
    if value.shape[:-1] != x.shape[:-1]:
        raise ValueError(f"f maps shape {tuple(x.shape)} to {tuple(value.shape)}; it must keep the leading dimensions")
    # A point is repeated once per output, so that one reverse sweep gives a whole Jacobian by plain batched products;
    # torch.func.vmap over the outputs gives the same, but copies the weights for each, which is several times slower.
    outputs = value.shape[-1]
    rows = torch.eye(outputs, dtype=value.dtype, device=value.device).expand(*value.shape[:-2], outputs, outputs)
    found = []
    for point in x.detach().split(1, dim=-2):
        copies = point.expand(*point.shape[:-2], outputs, point.shape[-1]).contiguous().requires_grad_(True)
        found.append(torch.autograd.grad(f(copies), copies, rows)[0])
    return torch.stack(found, dim=-3)


def jacobian_singular_values(f: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> JacobianSpectrum:
    """All singular values of the Jacobian of ``f`` at every point of ``x`` (..., inputs): dense, exact, batched.

    ``f`` as in :func:`jacobian`. The factorisation runs in float64 on the CPU whatever the dtype of x; give a float64
    map for products so small that float32 would lose them.

    >>> import torch
    >>> A = torch.diag(torch.tensor([3.0, 2.0], dtype=torch.float64))
    >>> jacobian_singular_values(lambda x: x @ A, torch.zeros(1, 2, dtype=torch.float64)).local
    array([3.])
    """
    J = jacobian(f, x).double().cpu().numpy()
    finite = np.isfinite(J).all((-1, -2))
    values = np.linalg.svd(np.where(finite[..., None, None], J, 0.0), compute_uv=False)
    return JacobianSpectrum(values=np.where(finite[..., None], values, np.nan), inputs=x.shape[-1])


def pair_ratios(f: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> np.ndarray:
    """|f(x_i) - f(x_j)| / |x_i - x_j| over all pairs i < j of points x (..., points, inputs): LOWER bounds on ``sup``.

    Returns float64 of shape (..., pairs). Raises ValueError if two points coincide.
    """
    import torch

    with torch.no_grad():
        y = f(x).double()
        first, second = torch.triu_indices(x.shape[-2], x.shape[-2], 1, device=x.device)
        below = (x.double()[..., first, :] - x.double()[..., second, :]).norm(dim=-1)
        above = (y[..., first, :] - y[..., second, :]).norm(dim=-1)
    if (below == 0).any():
        raise ValueError("x holds two equal points; a ratio needs different ones")
    return (above / below).cpu().numpy()
