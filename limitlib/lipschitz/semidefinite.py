"""Upper bounds of feed-forward networks by semidefinite programming: LipSDP-Neuron, solved by Newton's method.

Every activation is replaced by the set of all slopes it may have, neuron by neuron. What is bounded is then a supremum of
norms of products of matrices, and a nonnegative multiplier for each neuron proves the bound by one linear matrix inequality.
Any multipliers prove something; good ones are sought, and what they prove is checked again in outward-rounded arithmetic.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs, dtrtrs

from limitlib.bounds import Bound, multiply_up, round_up
from limitlib.operators import operator_norm

Array = NDArray[np.float64]
EPS = float(np.finfo(float).eps)


@dataclass(frozen=True, eq=False)
class Multipliers:
    """What proves an upper bound: ``upper`` is one as soon as the matrix of the multipliers is positive semidefinite.

    values: one vector for each hidden layer, in the order of the network, positive (0 or inf where out of float64's range).
    neurons: for each layer, the neurons that they belong to; the others have no path of nonzero weights and are left out.
    transposed: whether the matrix is that of the transposed and reversed network, whose Jacobians have the same Euclidean
    norms. optimum: numerical lower bound of the best constant that multipliers of this form can prove; not certified, 0 where
    no optimisation was run.
    """

    values: tuple[Array, ...]
    neurons: tuple[NDArray[np.intp], ...]
    transposed: bool
    slopes: tuple[float, float]
    optimum: float


@dataclass(frozen=True, eq=False)
class SlopeProblem:
    """sup |O s| over |x| <= 1, where s = (x, v) and each v_i lies between ``a`` and ``b`` times ``C_i s``.

    C: shape (m, d + m), row i using x and v_1, ..., v_{i-1} only. O: shape (q, d + m). ``dC`` and ``dO`` bound the absolute
    errors of the entries. The bound sqrt(rho) is proved by multipliers with
    ``M = rho E_x + sum_i l_i sym((e_i - a C_i)' (e_i - b C_i)) - O'O`` positive semidefinite.
    """

    C: Array
    O: Array
    slopes: tuple[float, float] = (0.0, 1.0)
    dC: Array | None = None
    dO: Array | None = None

    @property
    def inputs(self) -> int:
        return self.C.shape[1] - self.C.shape[0]

    @functools.cached_property
    def gram(self) -> Array:
        """O'O."""
        return self.O.T @ self.O

    @functools.cached_property
    def factors(self) -> tuple[Array, Array]:
        """P and Q with rows e_i - a C_i and e_i - b C_i."""
        m, d = self.C.shape[0], self.inputs
        unit = np.zeros_like(self.C)
        unit[np.arange(m), d + np.arange(m)] = 1.0
        return unit - self.slopes[0] * self.C, unit - self.slopes[1] * self.C

    def matrix(self, rho: float, multipliers: Array) -> Array:
        """M for these multipliers, shape (d + m, d + m)."""
        return self.change(rho, multipliers) - self.gram

    def change(self, rho: float, multipliers: Array) -> Array:
        """The part of M that depends on the multipliers, and linearly so."""
        P, Q = self.factors
        half = P.T @ ((0.5 * multipliers)[:, None] * Q)
        M = half + half.T
        M.flat[: self.inputs * (M.shape[0] + 1) : M.shape[0] + 1] += rho
        return M

    def proves(self, rho: float, multipliers: Array) -> bool:
        """Whether M is positive semidefinite for certain: Cholesky with a margin for its own rounding and that of M."""
        if not (multipliers >= 0).all() or not np.isfinite(multipliers).all() or not math.isfinite(rho):
            return False
        M, n = self.matrix(rho, multipliers), self.C.shape[1]
        diagonal = M.diagonal()
        if not (diagonal > 0).all():
            return False
        # A congruence with powers of two rounds nothing and brings the diagonal to [1/2, 2].
        unit = np.ldexp(1.0, -(np.frexp(diagonal)[1] // 2))
        P, Q = self.factors
        absP, absQ, absO = np.abs(P), np.abs(Q), np.abs(self.O)
        terms = len(multipliers) + len(self.O) + 8
        size = terms * EPS * (absP.T @ (multipliers[:, None] * absQ) + absO.T @ absO)
        size.flat[: self.inputs * (n + 1) : n + 1] += terms * EPS * rho
        if self.dC is not None:
            a, b = abs(self.slopes[0]), abs(self.slopes[1])
            weighted = multipliers[:, None] * self.dC
            size += a * (weighted.T @ absQ) + b * (absP.T @ weighted) + a * b * (self.dC.T @ weighted)
        if self.dO is not None:
            size += 2 * (absO.T @ self.dO) + self.dO.T @ self.dO
        # Only half of each term survives in M, so twice the symmetric part's row sums is more than its Euclidean norm.
        spread = float(((size + size.T) * unit * unit[:, None]).sum(axis=1).max())
        scaled = M * unit * unit[:, None]
        # Rump 2006: Cholesky that completes after this shift proves positive semidefiniteness of the matrix before it.
        shift = 2 * (n + 4) * EPS * float(np.trace(scaled)) + spread
        scaled.flat[:: n + 1] -= shift
        return bool(dpotrf(scaled, lower=1)[1] == 0)


def descend(
    problem: SlopeProblem,
    rho: float,
    multipliers: Array,
    *,
    iters: int,
    gap: float = 1e-6,
    enough: float = 0.0,
    hopeless: float = math.inf,
    deadline: float = math.inf,
) -> tuple[float, Array, float, int]:
    """Minimise rho from a strictly feasible start: rho, multipliers, numerical lower end of the optimum, steps.

    Primal-dual interior points with Mehrotra's corrector in the direction of Helmberg, Kojima and Monteiro (1996-97). The
    constraints have rank two, so that the Schur complement costs a few matrix products. Stops at the relative ``gap``, at a
    rho below ``enough``, once the optimum is above ``hopeless``, or when steps or time are used up.
    """
    P, Q = problem.factors
    m, n = problem.C.shape
    d = problem.inputs
    signed = problem.slopes[0] * problem.slopes[1] > 0  # otherwise positivity of the multipliers follows from that of M
    y = np.concatenate([[rho], multipliers])
    objective = np.zeros(m + 1)
    objective[0] = 1.0
    cones = n + m * signed
    best, optimum, used = y, 0.0, 0
    M = problem.matrix(rho, multipliers)
    L, failed = dpotrf(M, lower=1, clean=1)
    if failed or rho <= 0:
        return rho, multipliers, optimum, used
    S = _inverse(L)
    X, x = _primal_start(problem, signed)

    def against(Z: Array) -> Array:
        """The traces of all constraint matrices with Z."""
        return np.concatenate([[np.trace(Z[:d, :d])], np.einsum("ij,ij->i", P @ Z, Q)])

    while used < iters and time.monotonic() < deadline:
        used += 1
        mu = (float(np.einsum("ij,ij->", X, M)) + float(x @ y[1:])) / cones
        short = objective - against(X)
        short[1:] -= x
        missing = float(np.abs(short * y).sum())
        bound = float(np.einsum("ij,ij->", problem.gram, X)) - missing  # missing: how far X is from feasible, in units of rho
        optimum = max(optimum, bound)
        if y[0] - optimum <= gap * y[0] or y[0] <= enough or optimum >= hopeless:
            break
        H = _schur(P, Q, X, S, d)
        if signed:
            H.flat[m + 2 :: m + 2] += x / y[1:]
        H *= y * y[:, None]  # relative steps: the multipliers may live on very different scales
        H.flat[:: m + 2] *= 1 + 1e-13
        factor, failed = dpotrf(H, lower=1)
        if failed:
            break
        centre = against(S)
        if signed:
            centre[1:] += 1 / y[1:]

        def direction(target: float, second: Array, second_x: Array) -> tuple[Array, Array, Array, Array]:
            rest = target * centre - against(second) - objective  # noqa: B023
            rest[1:] -= second_x
            dy = y * dpotrs(factor, y * rest, lower=1)[0]  # noqa: B023
            dM = problem.change(dy[0], dy[1:])
            product = X @ dM @ S  # noqa: B023
            dX = target * S - X - 0.5 * (product + product.T) - second  # noqa: B023
            dx = (target / y[1:] - x * (1 + dy[1:] / y[1:]) - second_x) if signed else np.zeros(m)  # noqa: B023
            return dy, dM, dX, dx

        LX, failed = dpotrf(X, lower=1, clean=1)
        if failed:
            break
        none, none_x = np.zeros((n, n)), np.zeros(m)
        dy, dM, dX, dx = direction(0.0, none, none_x)
        a_dual = min(_reach(L, dM), _ratio(y, dy))
        a_primal = min(_reach(LX, dX), _ratio(x, dx) if signed else math.inf)
        a_dual, a_primal = min(1.0, 0.98 * a_dual), min(1.0, 0.98 * a_primal)
        after = float(np.einsum("ij,ij->", X + a_primal * dX, M + a_dual * dM))
        after += float((x + a_primal * dx) @ (y + a_dual * dy)[1:])
        sigma = min(1.0, max(after / (mu * cones), 1e-4)) ** 2
        second = dX @ dM @ S
        dy, dM, dX, dx = direction(sigma * mu, 0.5 * (second + second.T), dx * dy[1:] / y[1:] if signed else none_x)
        a_dual = min(1.0, 0.95 * min(_reach(L, dM), _ratio(y, dy)))
        a_primal = min(1.0, 0.95 * min(_reach(LX, dX), _ratio(x, dx) if signed else math.inf))
        while a_dual > 1e-8:
            trial = y + a_dual * dy
            trial_M = problem.matrix(trial[0], trial[1:])
            trial_L, failed = dpotrf(trial_M, lower=1, clean=1)
            if not failed and (trial > 0).all():
                break
            a_dual *= 0.8
        else:
            break
        y, M, L = trial, trial_M, trial_L
        S = _inverse(L)
        X = X + a_primal * dX
        x = x + a_primal * dx
        if y[0] < best[0]:
            best = y
    return float(best[0]), best[1:], optimum, used


def _primal_start(problem: SlopeProblem, signed: bool) -> tuple[Array, Array]:
    """A strictly feasible primal point: the covariance of (x, v) for isotropic x and slopes drawn at random from two values.

    Independent slopes in {a, b} satisfy every constraint with equality; a little inside, with room for positive slacks.
    """
    m, n = problem.C.shape
    a, b = problem.slopes
    d, inset = problem.inputs, 0.1 * (b - a) if signed else 0.0
    mean, square = 0.5 * (a + b), 0.5 * ((a + inset) ** 2 + (b - inset) ** 2)
    X = np.zeros((n, n))
    X.flat[: d * (n + 1) : n + 1] = 1.0 / d
    slack = np.zeros(m)
    for i in range(m):
        k = d + i
        with_earlier = problem.C[i, :k] @ X[:k, :k]
        size = float(with_earlier @ problem.C[i, :k])
        X[k, :k] = X[:k, k] = mean * with_earlier
        X[k, k] = square * size + 1e-14
        slack[i] = inset * (b - a - inset) * size + 1e-14 if signed else 0.0
    return X, slack


def _inverse(L: Array) -> Array:
    """Inverse of L L'."""
    S = dpotri(L, lower=1)[0]
    S = np.tril(S)
    return S + np.tril(S, -1).T


def _schur(P: Array, Q: Array, X: Array, S: Array, d: int) -> Array:
    """Traces of A_i X A_j S for A_0 = the identity on the inputs and A_i = sym(p_i q_i')."""
    PX, QX, PS, QS = P @ X, Q @ X, P @ S, Q @ S
    H = np.empty((len(P) + 1, len(P) + 1))
    H[0, 0] = np.einsum("ij,ij->", X[:d, :d], S[:d, :d])
    cross = np.einsum("ij,ij->i", PX[:, :d], QS[:, :d]) + np.einsum("ij,ij->i", QX[:, :d], PS[:, :d])
    H[0, 1:] = H[1:, 0] = 0.5 * cross
    mixed = (QX @ P.T) * (PS @ Q.T)
    straight = (QX @ Q.T) * (PS @ P.T) + (PX @ P.T) * (QS @ Q.T)
    H[1:, 1:] = 0.25 * (mixed + mixed.T + straight)
    return H


def _reach(L: Array, step: Array) -> float:
    """Largest alpha with L L' + alpha step positive semidefinite."""
    half = dtrtrs(L, step, lower=1)[0]
    low = float(np.linalg.eigvalsh(dtrtrs(L, half.T, lower=1)[0])[0])
    return -1 / low if low < 0 else math.inf


def _ratio(y: Array, dy: Array) -> float:
    """Largest alpha with y + alpha dy nonnegative."""
    falling = dy < 0
    return float((-y[falling] / dy[falling]).min(initial=math.inf))


def certify(problem: SlopeProblem, rho: float, multipliers: Array) -> float:
    """Smallest proved rho at or a little above the given one; inf if none of a few inflations is proved."""
    for inflation in (0.0, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2):
        trial = round_up(rho * (1 + inflation))
        if problem.proves(trial, multipliers * (1 + inflation / 2)):
            return trial
    return math.inf


# ------------------------------------------------------------------------------------------------------------------ chains


def check_weights(weights: Sequence[object]) -> list[Array]:
    """The matrices of a chain as float64 arrays; errors name the layer."""
    if isinstance(weights, np.ndarray) and weights.ndim == 2:
        raise TypeError("weights must be a list of matrices; got one matrix, write [weights]")
    try:
        given = list(weights)
    except TypeError:
        raise TypeError(f"weights must be a list of matrices; got {type(weights).__name__}") from None
    if not given:
        raise ValueError("weights is empty; give at least one matrix of shape (out, in)")
    chain: list[Array] = []
    for k, weight in enumerate(given):
        name = f"weights[{k}]"
        dtype = str(getattr(weight, "dtype", ""))
        if dtype.endswith(("float16", "bfloat16")):
            raise TypeError(f"{name} is {dtype}; convert with .float(), which is exact, so that the rounding is your choice")
        detach = getattr(weight, "detach", None)  # a torch tensor, without importing torch
        matrix = np.asarray(detach().cpu().numpy() if detach is not None else weight)
        if matrix.dtype.kind not in "fiub":
            raise TypeError(f"{name} has dtype {matrix.dtype}; give real numbers")
        matrix = matrix.astype(float)
        if matrix.ndim != 2 or 0 in matrix.shape:
            raise ValueError(f"{name} has shape {matrix.shape}; give a nonempty matrix (out, in)")
        if not np.isfinite(matrix).all():
            raise ValueError(f"{name} holds a NaN or an infinity; give finite entries")
        if chain and matrix.shape[1] != chain[-1].shape[0]:
            raise ValueError(f"{name} has {matrix.shape[1]} inputs; weights[{k - 1}] has {chain[-1].shape[0]} outputs")
        chain.append(matrix)
    return chain


def scale_up(value: float, exponent: int) -> float:
    """``value * 2**exponent``, rounded up where the result is subnormal, inf where it overflows."""
    if value == 0.0 or math.isinf(value):
        return value
    try:
        scaled = math.ldexp(value, exponent)
    except OverflowError:
        return math.inf
    return scaled if scaled > 1e-300 else math.nextafter(scaled, math.inf)


@dataclass(frozen=True, eq=False)
class BalancedChain:
    """A chain whose hidden rows have largest entries in [1/2, 1); the true last matrix is ``weights[-1] * 2**exponent``.

    Moving powers of two from layer to layer changes no Jacobian and rounds nothing. ``kept`` names the neurons of each hidden
    layer that can carry a slope; ``units`` are the exponents of their scales. ``weights`` is None where the map is constant.
    """

    weights: list[Array] | None
    kept: list[NDArray[np.intp]]
    units: list[NDArray[np.int64]]
    exponent: int


def balance(weights: list[Array]) -> BalancedChain:
    """Drop neurons without input or output weights and equilibrate the rest."""
    kept = [np.arange(w.shape[0]) for w in weights[:-1]]
    changed = True
    while changed:
        changed = False
        for k in range(len(kept)):
            before = kept[k - 1] if k else slice(None)
            after = kept[k + 1] if k + 1 < len(kept) else slice(None)
            live = weights[k][kept[k]][:, before].any(axis=1) & weights[k + 1][after][:, kept[k]].any(axis=0)
            if not live.all():
                kept[k], changed = kept[k][live], True
    empty = BalancedChain(None, kept, [], 0)
    if any(len(k) == 0 for k in kept):
        return empty
    balanced, units = [], []
    unit = np.zeros(weights[0].shape[1], dtype=np.int64)
    for k, weight in enumerate(weights):
        rows = kept[k] if k < len(kept) else np.arange(weight.shape[0])
        columns = kept[k - 1] if k else np.arange(weight.shape[1])
        mantissa, exponent = np.frexp(weight[np.ix_(rows, columns)])
        exponent = np.where(mantissa == 0, -(10**6), exponent + unit)
        if k < len(kept):
            top = exponent.max(axis=1)
            balanced.append(np.ldexp(mantissa, np.maximum(exponent - top[:, None], -2000)))
            units.append(top)
            unit = top
        else:
            last = int(exponent.max())
            if not mantissa.any():
                return empty
            balanced.append(np.ldexp(mantissa, np.maximum(exponent - last, -2000)))
    return BalancedChain(balanced, kept, units, last)


def chain_problem(weights: list[Array], slopes: tuple[float, float]) -> SlopeProblem:
    """The slope problem of a chain of matrices with an activation between each two."""
    d, widths = weights[0].shape[1], [w.shape[0] for w in weights[:-1]]
    n = d + sum(widths)
    C = np.zeros((n - d, n))
    row, column = 0, 0
    for weight in weights[:-1]:
        C[row : row + weight.shape[0], column : column + weight.shape[1]] = weight
        row, column = row + weight.shape[0], column + weight.shape[1]
    O = np.zeros((weights[-1].shape[0], n))
    O[:, column:] = weights[-1]
    return SlopeProblem(C, O, slopes)


def fast_start(weights: list[Array], slopes: tuple[float, float]) -> tuple[float, list[Array]]:
    """One multiplier for each layer in closed form (ECLipsE-Fast for slopes in [0, 1]): rho and the multipliers.

    A tenth short of the best choice, so that the matrix is positive definite.
    """
    a, b = slopes
    w = ((b - a) / 2) ** 2
    best = 0.9 / (math.sqrt(w) * max(abs(a), abs(b)))
    X = np.eye(weights[0].shape[1])
    parts = []
    for weight in weights[:-1]:
        T = weight @ np.linalg.solve(X, weight.T)
        l = best / float(np.linalg.eigvalsh((T + T.T) / 2)[-1])
        G = T
        if a * b != 0.0:
            inner = X + a * b * l * weight.T @ weight
            G = weight @ np.linalg.solve(inner, weight.T)
        X = l * np.eye(len(weight)) - ((a + b) / 2) ** 2 * l * l * (G + G.T) / 2
        parts.append(np.full(len(weight), l))
    T = weights[-1] @ np.linalg.solve(X, weights[-1].T)
    rho = float(np.linalg.eigvalsh((T + T.T) / 2)[-1])
    return rho, [rho * p for p in parts]


def sdp_upper(
    weights: Sequence[object], *, slopes: tuple[float, float] = (0, 1), iters: int = 200, max_seconds: float = 60.0
) -> Bound:
    """UPPER bound of the Euclidean Lipschitz constant of ``x -> W_L act(... act(W_1 x + b_1) ...) + b_L`` on the whole space.

    weights: matrices W_k of shape (out, in), the last one linear. slopes: every activation's difference quotients lie in this
    interval ((0, 1) for ReLU, tanh, softplus; the caller vouches for it). Biases do not matter. iters: Newton steps at
    most; max_seconds: time at most, apart from the set-up and the final check; what is reached then is still proved. Kind
    ``certified``; the lower end is 0, or that of the matrix where there is only one. ``witness`` holds the
    :class:`Multipliers`; ``source`` says which bound won: the optimised multipliers, one multiplier a layer (the start) or
    the product of the norms, the last two only if the optimisation failed or brought nothing. Raises TypeError or
    ValueError for shapes that do not chain, entries that are not finite, half precision or a bad interval. LipSDP-Neuron:
    Fazlyab et al. 2019; the start for slopes (0, 1): ECLipsE-Fast, Xu and Sivaranjani 2024.

    >>> bound = sdp_upper([np.array([[1.0], [-1.0]]), np.array([[1.0, 1.0]])])  # |x|, whose constant is 1
    >>> round(bound.upper, 5)
    1.0
    """
    chain = check_weights(weights)
    a, b = check_slopes(slopes)
    if iters < 0 or not max_seconds >= 0:
        raise ValueError(f"iters={iters} and max_seconds={max_seconds} must not be negative")
    deadline = time.monotonic() + max_seconds
    if len(chain) == 1:
        return replace(operator_norm(chain[0], rtol=1e-9), source="norm of the only matrix")
    steep = max(abs(a), abs(b))
    balanced = balance(chain)
    if balanced.weights is None or steep == 0.0:
        return Bound(0.0, 0.0, kind="exact", source="every path from input to output meets a zero weight: the map is constant")
    norms = [operator_norm(w, rtol=1e-9).upper for w in balanced.weights]
    best, witness, note = _product(norms, steep), None, f"product of the norms of {len(chain)} matrices, balanced"
    plain = scale_up(_product([operator_norm(w, rtol=1e-9).upper for w in chain], steep), -balanced.exponent)
    if plain < best:
        best, note = plain, f"product of the norms of {len(chain)} matrices"
    if a == b:
        linear = _linear_norm(balanced.weights, steep)
        if linear < best:
            best, note = linear, "norm of the only slope pattern, a product of matrices"
    transposed = balanced.weights[0].shape[1] > balanced.weights[-1].shape[0]
    oriented = [w.T for w in reversed(balanced.weights)] if transposed else balanced.weights
    if a < b:
        problem = chain_problem(oriented, (a, b))
        rho, parts = fast_start(oriented, (a, b))
        splits = np.cumsum([len(p) for p in parts])[:-1]
        start = np.concatenate(parts)
        start_name = "one multiplier a layer" + (" (ECLipsE-Fast)" if (a, b) == (0.0, 1.0) else "")
        found = [(start_name, certify(problem, rho * (1 + 1e-9), start * (1 + 5e-10)), start, 0.0)]
        rho, best_found, optimum, used = descend(problem, 2 * rho, 2 * start, iters=iters, deadline=deadline)
        found.append((f"LipSDP-Neuron, {used} Newton steps", certify(problem, rho, best_found), best_found, optimum))
        for name, square, multipliers, low in found:
            upper = round_up(math.sqrt(square), 2)
            if upper < best:
                best, note = upper, name
                per_layer = np.split(multipliers, splits)
                if transposed:
                    per_layer = per_layer[::-1]
                values = tuple(map(functools.partial(_unbalance, balanced.exponent, transposed), per_layer, balanced.units))
                optimum = scale_up(math.sqrt(low), balanced.exponent)
                witness = Multipliers(values, tuple(balanced.kept), transposed, (a, b), optimum)
    upper = scale_up(best, balanced.exponent)
    return Bound(0.0, upper, witness=witness, source=f"{note}; slopes in [{a:g}, {b:g}], biases ignored")


def _product(norms: list[float], steep: float) -> float:
    """Norms of the matrices times the steepest slope between each two, rounded up."""
    total = norms[0]
    for value in norms[1:]:
        total = multiply_up(total, multiply_up(value, steep))
    return total


def _unbalance(exponent: int, transposed: bool, values: Array, unit: NDArray[np.int64]) -> Array:
    """Multipliers of the balanced chain in the units of the given one."""
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(values, 2 * unit if transposed else 2 * (exponent - unit))


def _linear_norm(weights: list[Array], steep: float) -> float:
    """Upper bound of the norm of the product of the matrices, with ``steep`` between each two."""
    J, error = weights[0], np.zeros_like(weights[0])
    for W in weights[1:]:
        absolute = steep * np.abs(W)
        error = (1 + 1e-12) * (absolute @ error) + (W.shape[1] + 4) * 1.01 * EPS * (absolute @ np.abs(J))
        J = steep * (W @ J)
    return round_up(operator_norm(J, rtol=1e-9).upper + math.sqrt(float(np.square(error).sum())) * (1 + 1e-9), 2)


def check_slopes(slopes: tuple[float, float]) -> tuple[float, float]:
    """The interval of slopes as two floats."""
    try:
        a, b = (float(s) for s in slopes)
    except (TypeError, ValueError):
        raise TypeError(f"slopes must be a pair of numbers (smallest, largest); got {slopes!r}") from None
    if not (math.isfinite(a) and math.isfinite(b) and a <= b):
        raise ValueError(f"slopes={slopes!r} must be finite and in order, such as (0, 1)")
    return a, b
