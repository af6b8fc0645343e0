"""The Jacobian of a map at given points. Values at points are LOWER bounds on Lipschitz constants, never upper bounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from limitlib.bounds import Bound, Domain, WholeSpace, round_down, round_up
from limitlib.operators.matrices import operator_norm

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


# ------------------------------------------------------------------------- products with the Jacobian, for larger maps


@dataclass(frozen=True)
class JacobianNorms:
    """Brackets of the spectral norm of a map's Jacobian at each of several points.

    lower, upper: float64 (...), one per point. ``lower`` is attained: |J v| for the unit vector v in ``vectors``, rounded
    down; ``upper`` is inf unless the Jacobian was small enough to be written out. Points whose Jacobian is not finite hold nan.
    residual: |J'J v - |Jv|^2 v| / |Jv|, how far the search is from a singular value (0 where the Jacobian was written out).
    points, vectors: float64 ``(..., *point)``. dtype: that of the map, "float32" or "float64".
    """

    lower: np.ndarray
    upper: np.ndarray
    residual: np.ndarray
    points: np.ndarray = field(repr=False)
    vectors: np.ndarray = field(repr=False)
    source: str
    dtype: str

    def bound(self, domain: Domain | None = None) -> Bound:
        """The best point as a LOWER bound on the Lipschitz constant on ``domain`` (default: the whole space), upper inf.

        ``witness`` is the pair (point, direction); ``kind`` is "certified" for a float64 map and "estimate" for a float32 one,
        whose products carry rounding errors that no one bounded (convert it with .double()). That the points lie in the
        domain, and that the domain is open or the map differentiable around them, is the caller's to know. Raises ValueError
        if no point has a finite Jacobian.
        """
        flat = self.lower.reshape(-1)
        if np.isnan(flat).all():
            raise ValueError("no point has a finite Jacobian; choose other points or a float64 map")
        best = int(np.nanargmax(flat))
        point = self.points.reshape(flat.size, *self.points.shape[self.lower.ndim :])[best]
        vector = self.vectors.reshape(flat.size, *self.points.shape[self.lower.ndim :])[best]
        source = f"best of {flat.size} points: {self.source}"
        kind = "certified" if self.dtype == "float64" else "estimate"
        return Bound(float(flat[best]), math.inf, (2, 2), domain or WholeSpace(), kind, (point, vector), source)


@dataclass(frozen=True)
class JacobianRms:
    """Estimates of rms = |J|_F / inputs^(1/2) at points: the gain of a random infinitesimal perturbation.

    value, standard_error: float64 (...). The squares are unbiased; the error is one standard error of ``probes`` draws, and 0
    where the Jacobian was written out instead (``exact``), with unit probes in every direction.
    """

    value: np.ndarray
    standard_error: np.ndarray
    probes: int
    exact: bool


class _Products:
    """J v and J'u of a map at many points from one forward pass: J'u is linear in u, and its transpose gives J v."""

    def __init__(self, f: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, point_dims: int) -> None:
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel

        if not isinstance(x, torch.Tensor) or not x.is_floating_point():
            raise TypeError(f"x must be a torch tensor of floating-point numbers; got {getattr(x, 'dtype', type(x).__name__)}")
        if x.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"x holds {str(x.dtype).removeprefix('torch.')} numbers; convert x and the map with .float()")
        if point_dims < 1 or x.ndim < point_dims or x.numel() == 0:
            raise ValueError(f"x of shape {tuple(x.shape)} does not hold points of {point_dims} dimension(s); set point_dims")
        self.lead = x.shape[: x.ndim - point_dims]
        self.x = x.detach().clone().requires_grad_(True)
        # Fused attention kernels have no second derivative; the plain formula has, with the same values up to rounding.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            y = f(self.x)
            if y.shape[: len(self.lead)] != self.lead:
                shapes = f"shape {tuple(x.shape)} to {tuple(y.shape)}"
                raise ValueError(f"f maps {shapes}; it must keep the leading dimensions {tuple(self.lead)}")
            self.y = y
            self.points = max(1, math.prod(self.lead))
            self.inputs, self.outputs = x.numel() // self.points, y.numel() // self.points
            self.slot = torch.zeros_like(y, requires_grad=True)
            self.constant = not y.requires_grad
            if not self.constant:
                (self.pulled,) = torch.autograd.grad(y, self.x, self.slot, create_graph=True, materialize_grads=True)
                self.constant = not self.pulled.requires_grad

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        """(points, inputs) -> (points, outputs)."""
        import torch

        if self.constant:
            return self.y.detach().new_zeros(self.points, self.outputs)
        (Jv,) = torch.autograd.grad(self.pulled, self.slot, v.reshape(self.x.shape), retain_graph=True)
        return Jv.reshape(self.points, self.outputs)

    def back(self, u: torch.Tensor) -> torch.Tensor:
        """(points, outputs) -> (points, inputs)."""
        import torch

        if self.constant:
            return torch.zeros_like(self.x).reshape(self.points, self.inputs).detach()
        (Ju,) = torch.autograd.grad(self.y, self.x, u.reshape(self.y.shape), retain_graph=True, materialize_grads=True)
        return Ju.reshape(self.points, self.inputs)

    def matrix(self) -> torch.Tensor:
        """All Jacobians, (points, outputs, inputs), by min(inputs, outputs) products."""
        import torch

        if self.inputs < self.outputs:
            basis = torch.eye(self.inputs, dtype=self.x.dtype, device=self.x.device)
            return torch.stack([self.forward(e.expand(self.points, -1)) for e in basis], dim=-1)
        basis = torch.eye(self.outputs, dtype=self.y.dtype, device=self.y.device)
        return torch.stack([self.back(e.expand(self.points, -1)) for e in basis], dim=-2)


def jacobian_norm(
    f: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    *,
    iters: int = 30,
    rng: np.random.Generator | None = None,
    rtol: float = 1e-3,
    point_dims: int = 1,
) -> JacobianNorms:
    """Top singular value of the Jacobian of ``f`` at every point of ``x``, by products with it: for maps of any size.

    x: ``(..., *point)`` float32 or float64 tensor, where a point takes the last ``point_dims`` dimensions: 1 for vectors, 2 for
    token matrices (..., tokens, d). ``f`` keeps the leading dimensions and treats each point on its own; it must be twice
    differentiable by torch (networks are). Its parameters get no gradients, and those of ``x`` are left alone.

    Golub-Kahan steps for all points at once, at most ``iters``, until the error estimate is below ``rtol`` everywhere. Where
    min(inputs, outputs) <= iters the Jacobian is written out instead, which costs no more, and ``upper`` is finite. Ends are
    attained values moved outward by 8 eps (inputs + outputs)^(1/2) relative, eps of the coarser dtype: a margin for the
    rounding of the products, stated and tested, not proved; in float32 it is about 1e-5 for 100 dimensions, 3e-4 for 1e5.
    They bound the Jacobian at the points, so only ``lower`` says something about a Lipschitz constant. On a kink, torch's
    choice of derivative is what is measured.

    Raises ValueError for shapes that do not fit, iters < 1, half precision, or a missing ``rng`` where a random start is used.

    >>> import torch
    >>> found = jacobian_norm(lambda x: 3 * x, torch.ones(2, 4, dtype=torch.float64))
    >>> bool((found.lower <= 3).all() and (found.upper >= 3).all())
    True
    """
    import torch

    if iters < 1:
        raise ValueError(f"iters={iters} must be at least 1")
    J = _Products(f, x, point_dims)
    eps = max(torch.finfo(J.y.dtype).eps, torch.finfo(x.dtype).eps)
    margin = 8 * eps * math.sqrt(J.inputs + J.outputs)
    kind = "float64" if eps < 1e-10 else "float32"
    if min(J.inputs, J.outputs) <= iters:
        lower, upper, vectors = _written_out(J)
        residual = np.where(np.isnan(lower), np.nan, 0.0)
        source = f"Jacobians written out in {kind}, norms by Cholesky certificates"
    else:
        if rng is None:
            raise ValueError("rng is needed for the random start; pass np.random.default_rng(seed)")
        lower, residual, vectors, steps = _golub_kahan(J, iters, rtol, rng)
        upper = np.where(np.isnan(lower), np.nan, math.inf)
        source = f"attained by {steps} Golub-Kahan steps in {kind}"
    lower = np.array([round_down(v) for v in lower * (1 - margin)])
    upper = np.array([round_up(v) for v in upper * (1 + margin)])
    shape = (*J.lead, *x.shape[len(J.lead) :])
    return JacobianNorms(
        lower.reshape(J.lead),
        upper.reshape(J.lead),
        residual.reshape(J.lead),
        x.detach().double().cpu().numpy().reshape(shape),
        vectors.reshape(shape),
        f"{source}, moved outward by {margin:.1e}",
        kind,
    )


def _written_out(J: _Products) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    matrices = J.matrix().double().cpu().numpy()
    lower, upper = np.full(J.points, np.nan), np.full(J.points, np.nan)
    vectors = np.full((J.points, J.inputs), np.nan)
    for i, matrix in enumerate(matrices):
        if np.isfinite(matrix).all():
            b = operator_norm(matrix)
            lower[i], upper[i], vectors[i] = b.lower, b.upper, b.witness
    return lower, upper, vectors


def _golub_kahan(
    J: _Products, iters: int, rtol: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """|J v|, its residual and the unit vectors v, one per point (nan where not finite), and the number of steps."""
    import torch

    dtype, device = J.x.dtype, J.x.device
    v = torch.tensor(rng.standard_normal((J.points, J.inputs)), dtype=dtype, device=device)
    v = v / v.norm(dim=1, keepdim=True)
    tiny = torch.finfo(dtype).tiny
    V = torch.zeros(J.points, iters, J.inputs, dtype=dtype, device=device)
    alpha, beta = np.zeros((J.points, iters)), np.zeros((J.points, iters))
    u = torch.zeros(J.points, J.outputs, dtype=J.y.dtype, device=device)
    b = torch.zeros(J.points, 1, dtype=dtype, device=device)
    scale = b
    for k in range(iters):
        V[:, k] = v
        # One-sided reorthogonalisation: the left vectors stay orthogonal as far as the right ones do (Simon and Zha 2000).
        u = J.forward(v) - b.to(J.y.dtype) * u
        a = u.norm(dim=1, keepdim=True)
        u = u / a.clamp_min(tiny)
        w = J.back(u).to(dtype)
        for _ in range(2):
            w = w - (w[:, None] @ V[:, : k + 1].mT @ V[:, : k + 1])[:, 0]
        b = w.norm(dim=1, keepdim=True)
        scale = torch.maximum(scale, torch.maximum(a.to(dtype), b))
        # Below this the Krylov space is complete, and what is left is noise.
        b = torch.where(b <= 16 * torch.finfo(dtype).eps * scale, 0.0, b)
        v = torch.where(b == 0, 0.0, w / b.clamp_min(tiny))
        alpha[:, k], beta[:, k] = a[:, 0].double().cpu().numpy(), b[:, 0].double().cpu().numpy()
        if k == iters - 1 or k % 4 == 3:
            T = np.zeros((J.points, k + 1, k + 1))
            T[:, np.arange(k + 1), np.arange(k + 1)] = alpha[:, : k + 1]
            T[:, np.arange(k), np.arange(1, k + 1)] = beta[:, :k]
            finite = np.asarray(np.isfinite(T).all(axis=(1, 2)))
            left, values, right = np.linalg.svd(np.where(finite[:, None, None], T, 0.0))
            top = values[:, 0]
            gap = np.maximum(top - values[:, 1] if k else 0.0 * top, 1e-300)
            off = beta[:, k] * np.abs(left[:, -1, 0])
            error = np.minimum(off, off * off / gap)
            if (error[finite] <= rtol * top[finite]).all():
                break
    weights = torch.tensor(right[:, 0], dtype=dtype, device=device)
    x = torch.einsum("pk,pkn->pn", weights, V[:, : k + 1])
    Jx = J.forward(x)
    length = x.double().norm(dim=1)
    size = Jx.double().norm(dim=1) / length
    unit = (Jx / Jx.norm(dim=1, keepdim=True).clamp_min(tiny)).to(J.y.dtype)
    residual = (J.back(unit).double() - size[:, None] * (x.double() / length[:, None])).norm(dim=1)
    good = finite & np.isfinite(size.cpu().numpy())

    def known(t: Any) -> np.ndarray:
        return np.where(good.reshape(-1, *[1] * (t.ndim - 1)), t.cpu().numpy(), np.nan)

    return known(size), known(residual), known(x.double() / length[:, None]), k + 1


def jacobian_rms(
    f: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    *,
    probes: int = 16,
    rng: np.random.Generator | None = None,
    point_dims: int = 1,
) -> JacobianRms:
    """rms = |J|_F / inputs^(1/2) at every point of ``x``: an ESTIMATE from random signs (Hutchinson), exact for small maps.

    Arguments as for :func:`jacobian_norm`. With random signs u, |J'u|^2 has mean |J|_F^2. Where min(inputs, outputs) <= probes,
    the Jacobian is written out and nothing is random. Points whose Jacobian is not finite hold nan. Raises ValueError for
    probes < 2 and a missing ``rng`` where it is used.
    """
    import torch

    if probes < 2:
        raise ValueError(f"probes={probes} must be at least 2, since the spread of the probes gives the error")
    J = _Products(f, x, point_dims)
    if min(J.inputs, J.outputs) <= probes:
        mean = J.matrix().double().square().sum((1, 2)).cpu().numpy() / J.inputs
        error = np.zeros_like(mean)
        exact = True
    else:
        if rng is None:
            raise ValueError("rng is needed for the random probes; pass np.random.default_rng(seed)")
        draws = []
        for _ in range(probes):
            signs = torch.tensor(rng.choice([-1.0, 1.0], (J.points, J.outputs)), dtype=J.y.dtype, device=J.y.device)
            draws.append(J.back(signs).double().square().sum(1).cpu().numpy() / J.inputs)
        mean, error = np.mean(draws, axis=0), np.std(draws, axis=0, ddof=1) / math.sqrt(probes)
        exact = False
    value = np.sqrt(np.where(np.isfinite(mean), mean, np.nan))
    # The error of a square root, to first order.
    standard_error = np.where(value > 0, error / (2 * np.where(value > 0, value, 1.0)), 0.0)
    standard_error = np.where(np.isnan(value), np.nan, standard_error)
    return JacobianRms(value.reshape(J.lead), standard_error.reshape(J.lead), probes, exact)
