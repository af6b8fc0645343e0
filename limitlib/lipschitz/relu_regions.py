"""Exact Lipschitz constants of small ReLU networks: branch and bound over the regions on which the network is affine.

The constant on a convex domain is the largest norm of the Jacobian over the regions that have interior points in the domain;
patterns of other regions do not count, however large their formal norm. A branch is closed by an upper bound (LipSDP with
the decided neurons eliminated, or intervals) or by a proof that its cell is empty; the lower end is attained at a point.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limitlib.bounds import EXACT_WIDTH, Bound, Domain, WholeSpace, multiply_up, round_down, round_up
from limitlib.lipschitz.piecewise import Array, Forms, ReluNetwork, gamma, interval_norm, largest_norm, relu_network
from limitlib.lipschitz.polyhedra import find_point, likely_point
from limitlib.lipschitz.semidefinite import SlopeProblem, certify, chain_problem, check_weights, descend, fast_start, sdp_upper
from limitlib.operators import operator_norm

Signs = NDArray[np.int8]
SEARCH_SHARE = 0.1  # of the time goes into the first attained value
LMI_ORDER = 400  # larger inequalities are solved once, for the whole network


@dataclass(frozen=True, eq=False)
class LinearRegion:
    """A region on which the network is affine. point: interior to it and to the domain, shape (inputs,). pattern: one vector
    of truth values for each hidden layer, True where the neuron is active at the point. jacobian: there, (outputs, inputs).
    """

    point: Array
    pattern: tuple[NDArray[np.bool_], ...]
    jacobian: Array


def relu_exact(
    weights: Sequence[Any],
    biases: Sequence[Any] | None = None,
    domain: Domain | None = None,
    *,
    norm: tuple[float, float] = (2, 2),
    max_seconds: float = 10.0,
    rtol: float = 0.0,
) -> Bound:
    """Lipschitz constant of ``x -> W_L relu(... relu(W_1 x + b_1) ...) + b_L`` on a convex domain, exact where time allows.

    weights: matrices (out, in), the last one linear; biases: vectors (out,), one for each matrix, or None for zeros. domain:
    WholeSpace(), Ball (p in {1, 2, inf}) or Box; coordinates that a Box fixes do not vary. norm: (2, 2), (1, q) or (p, inf).
    Kind ``exact`` if both ends agree to 1e-9, else ``certified``: after ``max_seconds``, or as soon as upper <= (1 + rtol)
    lower, the bracket reached so far is returned, and ``source`` says why it stopped. The lower end is attained: ``witness`` is
    a :class:`LinearRegion`. Raises ValueError or TypeError for shapes that do not chain, entries that are not finite, half
    precision, another norm or domain, and a domain of one point.

    The region tests are proved in float64 with error bounds, or in rational arithmetic; a region that stays undecided counts
    in the upper end only. Exactness is typical up to about 20 hidden neurons; the problem is NP-hard (Virmaux and Scaman 2018).

    >>> relu_exact([[[1.0], [1.0]], [[1.0, -2.0]]], [[0.0, -1.0], [0.0]]).contains(1.0)  # slopes 0, 1, -1
    True
    """
    chain = check_weights(weights)
    network = relu_network(chain, biases, WholeSpace() if domain is None else domain)
    p, q = _check_norm(norm)
    if not max_seconds >= 0 or not 0 <= rtol < math.inf:
        raise ValueError(f"max_seconds={max_seconds} and rtol={rtol} must be numbers >= 0")
    if isinstance(network, str):
        return _formal_bound(chain, (p, q), WholeSpace() if domain is None else domain, network)
    return _Search(network, (p, q), rtol, time.monotonic() + max_seconds).run()


def _check_norm(norm: tuple[float, float]) -> tuple[float, float]:
    try:
        p, q = norm
        known = p == q == 2 or (p == 1 and q in (1, 2, math.inf)) or (q == math.inf and p in (1, 2, math.inf))
    except (TypeError, ValueError):
        known = False
    if not known:
        raise ValueError(f"norm must be (2, 2), (1, q) or (p, inf) with exponents 1, 2 or inf; got {norm!r}")
    return float(p), float(q)


def _formal_bound(chain: list[Array], norm: tuple[float, float], domain: Domain, why: str) -> Bound:
    """The fallback for numbers out of range: nothing attained, the upper end of all formal patterns."""
    if norm == (2.0, 2.0):
        upper = sdp_upper(chain).upper
    else:
        upper = 1.0
        for k, matrix in enumerate(chain):
            p = norm[0] if k == 0 else norm[0] if norm[0] == norm[1] else (1 if norm[0] == 1 else math.inf)
            q = norm[1] if k == len(chain) - 1 else (1 if norm[0] == 1 else math.inf)
            upper = multiply_up(upper, operator_norm(matrix, p, q).upper)
    return Bound(0.0, upper, norm, domain, source=f"no regions examined: {why}; upper end over all slopes in [0, 1]")


@dataclass(eq=False)
class Attained:
    """The largest Jacobian norm found so far at a point that is certainly interior to a region and to the domain.

    lower, upper: bracket of that norm, in the units of the scaled network. best: the point, in unit coordinates, and its
    pattern; None before the first point.
    """

    network: ReluNetwork
    norm: tuple[float, float]
    lower: float = 0.0
    upper: float = 0.0
    best: tuple[Array, tuple[Signs, ...]] | None = None

    def try_point(self, u: Array) -> tuple[Signs, ...] | None:
        """Record the Jacobian at a point if that is a certain value; returns the pattern there, else None."""
        pattern = self.network.pattern_at(u)
        if pattern is None:
            return None
        J, _ = self.network.jacobian(pattern)
        if self.best is None or largest_norm(J[None], self.norm)[0] > self.lower:
            lower, upper = self.bracket(pattern)
            if self.best is None or lower > self.lower:
                self.lower, self.best = lower, (u, pattern)
            self.upper = max(self.upper, upper)
        return pattern

    def bracket(self, pattern: Sequence[Signs]) -> tuple[float, float]:
        """Certified ends of the norm of the Jacobian under a pattern."""
        J, error = self.network.sharp_jacobian(pattern)
        bound = operator_norm(J, *self.norm, rtol=1e-12)
        off = interval_norm(error, self.norm) * (1 + 1e-9)
        return max(0.0, round_down(bound.lower - off)), round_up(bound.upper + off) if off else bound.upper

    def explore(self, points: Array, deadline: float, *, walks: int = 8) -> None:
        """The best of these points, then walks from there to neighbouring regions of larger norm."""
        network = self.network
        if not network.widths:  # a single matrix
            self.try_point(np.zeros(network.inputs))
            return
        signs = network.patterns(points)
        distinct: dict[bytes, int] = {}
        for i in range(len(points)):
            distinct.setdefault(b"".join(s[i].tobytes() for s in signs), i)
        chosen = np.array(list(distinct.values()))
        parts = np.array_split(chosen, len(chosen) * network.jacobian_cost // 10**7 + 1)
        norms = [largest_norm(network.jacobians([s[part] for s in signs]), self.norm) for part in parts]
        seen: set[bytes] = set()
        for i in chosen[np.argsort(-np.concatenate(norms))][:walks]:
            pattern = self.try_point(points[i])
            if pattern is not None and time.monotonic() < deadline:
                self._walk(pattern, deadline, seen)

    def _walk(self, pattern: tuple[Signs, ...], deadline: float, seen: set[bytes]) -> None:
        """Flip one neuron at a time, as long as the norm grows and the new pattern has a region nobody has been to."""
        network = self.network
        value = float(largest_norm(network.jacobian(pattern)[0][None], self.norm)[0])
        flips = [(k, i) for k, s in enumerate(pattern) for i in range(len(s))]
        if not network.walkable:
            return
        climbing = True
        while climbing and time.monotonic() < deadline:
            climbing = False
            stacked = [np.repeat(s[None], len(flips), axis=0) for s in pattern]
            for row, (k, i) in enumerate(flips):
                stacked[k][row, i] *= -1
            norms = largest_norm(network.jacobians(stacked), self.norm)
            for row in np.argsort(-norms):
                if norms[row] <= value * (1 + 1e-12):
                    break
                candidate = tuple(s[row] for s in stacked)
                name = b"".join(s.tobytes() for s in candidate)
                if name in seen:
                    continue
                seen.add(name)
                rows, _ = network.cell(candidate)
                point = likely_point(rows[:, :-1], rows[:, -1], network.unit_domain)
                found = None if point is None else self.try_point(point)
                if found is not None:
                    pattern, value, climbing = found, float(norms[row]), True
                    break


@dataclass(eq=False)
class _Node:
    """A cell: all signs of the layers before ``layer``, some of those of ``layer``; its inequalities; a point or None."""

    upper: float
    layer: int
    before: tuple[Signs, ...]
    signs: Signs
    forms: Forms
    rows: Array  # (m, d + 1), the inequalities rows . (u, 1) > 0
    error: Array
    names: tuple[tuple[int, int, int], ...]  # (layer, neuron, sign) of each inequality
    point: Array | None
    rho: float
    multipliers: Array  # one for each hidden neuron of the network
    problem: tuple[SlopeProblem, NDArray[np.intp]] | None = None  # with the decided neurons eliminated; numbers of the others


class _Search:
    def __init__(self, network: ReluNetwork, norm: tuple[float, float], rtol: float, deadline: float) -> None:
        self.network, self.norm, self.rtol, self.deadline = network, norm, rtol, deadline
        self.start = time.monotonic()
        self.attained = Attained(network, norm)
        self.closed = 0.0  # largest upper end among branches that were closed above the attained value
        self.serial = itertools.count()
        self.heap: list[tuple[float, int, int, _Node]] = []
        self.visited = self.undecided = 0
        widths = network.widths
        self.offsets = np.concatenate([[0], np.cumsum(widths)])

    # ------------------------------------------------------------------------------------------------------------- main

    def run(self) -> Bound:
        share = max(SEARCH_SHARE * (self.deadline - self.start), 0.02)
        self.attained.explore(self.network.sample(np.random.default_rng(0)), self.start + share)
        root = self._root() if self.network.widths else None
        if root is not None:
            self._push(root)
        stopped = "every branch closed"
        while self.heap:
            if -self.heap[0][0] <= self._bar():
                break
            if time.monotonic() > self.deadline:
                stopped = "time used up"
                break
            self._expand(heapq.heappop(self.heap)[3])
        upper = max(self.attained.upper, self.closed, -self.heap[0][0] if self.heap else 0.0)
        if self.rtol and stopped == "every branch closed" and upper > self.attained.upper:
            stopped = f"relative tolerance {self.rtol:g} reached"
        return self._result(upper, stopped)

    def _result(self, upper: float, stopped: str) -> Bound:
        lower = min(self.attained.lower, upper)
        exact = upper - lower <= EXACT_WIDTH * upper
        source = f"branch and bound over activation regions, {self.visited} cells; {stopped}"
        if self.undecided:
            source += f"; {self.undecided} cells whose emptiness stayed undecided count in the upper end"
        witness = None
        if self.attained.best is not None:
            point, pattern = self.attained.best
            J, _ = self.network.jacobian(pattern)
            network = self.network
            witness = LinearRegion(network.to_input(point), tuple(s > 0 for s in pattern), network.to_output(J))
        scaled = [math.ldexp(v, self.network.exponent) if v else 0.0 for v in (lower, upper)]
        if scaled[1] < 1e-300:
            scaled = [round_down(scaled[0]), round_up(scaled[1])]
        return Bound(
            scaled[0], scaled[1], self.norm, self.network.domain, "exact" if exact else "certified", witness, source
        )

    def _bar(self) -> float:
        """Upper ends up to here need no further work."""
        return max(self.attained.upper, self.attained.lower * (1 + self.rtol))

    def _push(self, node: _Node) -> None:
        if node.upper <= self._bar():
            if node.upper > self.attained.upper:
                self.closed = max(self.closed, node.upper)
            return
        heapq.heappush(self.heap, (-node.upper, -node.layer, -next(self.serial), node))

    # -------------------------------------------------------------------------------------------------------- branching

    def _root(self) -> _Node | None:
        network, total = self.network, int(self.offsets[-1])
        d = network.inputs
        weights, half = [network.first(), *network.weights[1:]], self.start + 0.5 * (self.deadline - self.start)
        upper, rho, multipliers = math.inf, 0.0, np.ones(total)
        alive = all(w.any(axis=1).all() for w in weights[:-1]) and weights[-1].any()
        if self.norm == (2.0, 2.0) and alive and d + total <= LMI_ORDER:
            rho, parts = fast_start(weights, (0.0, 1.0))
            problem = chain_problem(weights, (0.0, 1.0))
            rho, multipliers, _, _ = descend(
                problem, 2 * rho, 2 * np.concatenate(parts), iters=60, gap=1e-3, deadline=half
            )
            upper = round_up(math.sqrt(certify(problem, rho, multipliers)), 2)
        elif alive:  # from the Euclidean norm by |x|_2 <= d^(1/2 - 1/p) |x|_p and |y|_q <= k^(1/q - 1/2) |y|_2
            upper = sdp_upper(weights, max_seconds=max(0.0, half - time.monotonic())).upper
            p, q = self.norm
            upper *= d ** max(0.0, 0.5 - 1 / p) * len(weights[-1]) ** max(0.0, 1 / q - 0.5) * (1 + 1e-14)
        start = self.attained.best[0] if self.attained.best is not None else None
        forms = network.first_forms()
        none, signs = np.empty((0, d + 1)), self._settled(forms)
        node = _Node(upper, 0, (), signs, forms, none, none, (), start, rho, multipliers)
        return self._bounded(node)

    def _settled(self, forms: Forms) -> Signs:
        """Signs of the neurons of a layer that are constant, or certainly of one sign on the whole domain."""
        low, high = self.network.range_of(forms)
        return np.where(low > 0, 1, np.where(high <= 0, -1, 0)).astype(np.int8)

    def _advance(self, node: _Node) -> _Node:
        """Step over layers whose signs are all decided, up to the last hidden one."""
        while (node.signs != 0).all() and node.layer + 1 < len(self.network.widths):
            node.before += (node.signs,)
            node.forms = self.network.next_forms(node.forms, node.signs, node.layer + 1)
            node.layer += 1
            node.signs = self._settled(node.forms)
        return node

    def _bounded(self, node: _Node) -> _Node | None:
        """The node with its upper end; None where it is a leaf, which is settled here."""
        node = self._advance(node)
        if node.layer + 1 == len(self.network.widths) and (node.signs != 0).all():
            self._leaf(node)
            return None
        later = self.network.later_signs(node.forms, node.signs, node.layer)
        node.upper = min(node.upper, self.network.interval_upper(node.forms, node.signs, node.layer, later, self.norm))
        if node.upper <= self._bar() or self.norm != (2.0, 2.0) or node.rho == 0.0:
            return node
        self._semidefinite(node, later)
        return node

    def _leaf(self, node: _Node) -> None:
        pattern = (*node.before, node.signs)
        J, error = self.network.jacobian(pattern)
        if node.point is not None:
            found = self.attained.try_point(node.point)
            if found is not None and all((a == b).all() for a, b in zip(found, pattern, strict=True)):
                return
        quick = largest_norm(J[None], self.norm)[0]
        if quick * (1 + 1e-9) + interval_norm(error, self.norm) <= self.attained.upper:
            return
        upper = min(self.attained.bracket(pattern)[1], node.upper)
        if upper > self._bar():
            if not self._exists(node):
                self.undecided += 1
            self.closed = max(self.closed, upper)
        else:
            self.closed = max(self.closed, upper if upper > self.attained.upper else 0.0)

    def _exists(self, node: _Node) -> bool:
        """A leaf whose point was on the edge of another neuron: try a point further inside."""
        verdict = self._find(node, node.rows, node.error, node.names)
        if verdict.point is None:
            return False
        return self.attained.try_point(verdict.point) is not None

    def _find(self, node: _Node, rows: Array, error: Array, names: tuple[tuple[int, int, int], ...]) -> Any:
        def exact(indices: NDArray[np.intp], sides: Array) -> list[list[Fraction]]:
            return self.network.exact_rows(node.before, [names[i] for i in indices], sides)

        return find_point(rows[:, :-1], rows[:, -1], error, self.network.unit_domain, exact)

    def _expand(self, node: _Node) -> None:
        self.visited += 1
        free = np.flatnonzero(node.signs == 0)
        guess, score = self._guess(node, free)
        new = guess[:, None] * node.forms.rows()[free]
        names = tuple((node.layer, int(i), int(s)) for i, s in zip(free, guess, strict=True))
        error = np.vstack([node.error, node.forms.error[free]])
        verdict = self._find(node, np.vstack([node.rows, new]), error, node.names + names)
        points = [v for v in (node.point, verdict.point) if v is not None]
        if verdict.point is not None:
            self.attained.try_point(verdict.point)
        elif verdict.conflict is not None:
            involved = verdict.conflict[verdict.conflict >= len(node.rows)] - len(node.rows)
            if len(involved):
                masked = np.full(len(free), -math.inf)
                masked[involved] = score[involved]
                score = masked
        branch = int(free[int(np.argmax(score))])
        for sign in (1, -1):
            child = self._child(node, branch, sign, points)
            if child is not None:
                self._push(child)

    def _child(self, node: _Node, neuron: int, sign: int, points: list[Array]) -> _Node | None:
        row = sign * node.forms.rows()[neuron][None]
        error = node.forms.error[neuron][None]
        rows, errors = np.vstack([node.rows, row]), np.vstack([node.error, error])
        names = (*node.names, (node.layer, neuron, sign))
        point = next((u for u in points if self.network.satisfies(row, error, u) and self._inside(node, u)), None)
        if point is None:
            verdict = self._find(node, rows, errors, names)
            if verdict.status == "empty":
                return None
            point = verdict.point
            if point is not None:
                self.attained.try_point(point)
        signs = node.signs.copy()
        signs[neuron] = sign
        child = _Node(
            node.upper, node.layer, node.before, signs, node.forms, rows, errors, names, point, node.rho, node.multipliers
        )
        return self._bounded(child)

    def _inside(self, node: _Node, u: Array) -> bool:
        return u is node.point or self.network.satisfies(node.rows, node.error, u)

    # ------------------------------------------------------------------------------------------------------ upper bounds

    def _slope_problem(self, node: _Node, later: list[Signs]) -> tuple[SlopeProblem, NDArray[np.intp]]:
        """The network with all decided neurons eliminated, and the global numbers of the undecided ones."""
        network, d = self.network, self.network.inputs
        undecided = [np.flatnonzero(node.signs == 0), *(np.flatnonzero(s == 0) for s in later)]
        counts = [len(u) for u in undecided]
        n = d + sum(counts)
        C, dC = np.zeros((n - d, n)), np.zeros((n - d, n))
        A, E = network.unscaled(node.forms)
        row = 0
        for step, free in enumerate(undecided):
            layer = node.layer + step
            signs = node.signs if step == 0 else later[step - 1]
            C[row : row + len(free), : A.shape[1]] = A[free]
            dC[row : row + len(free), : A.shape[1]] = E[free]
            # Values of this layer as linear forms of the inputs and of the undecided neurons so far.
            T, dT = np.zeros((len(signs), n)), np.zeros((len(signs), n))
            on = signs > 0
            T[on, : A.shape[1]], dT[on, : A.shape[1]] = A[on], E[on]
            T[free, d + row + np.arange(len(free))] = 1.0
            row += len(free)
            W = network.weights[layer + 1]
            A = W @ T
            absW = np.abs(W)
            E = (absW @ dT) * (1 + 1e-12) + gamma(W.shape[1] + 2) * (absW @ np.abs(T))
        problem = SlopeProblem(C, A, (0.0, 1.0), dC, E)
        return problem, np.concatenate([self.offsets[node.layer + s] + u for s, u in enumerate(undecided)])

    def _semidefinite(self, node: _Node, later: list[Signs]) -> None:
        if self.network.inputs + int((node.signs == 0).sum() + sum((s == 0).sum() for s in later)) > LMI_ORDER:
            return
        node.problem = problem, numbers = self._slope_problem(node, later)
        bar = self._bar() ** 2
        rho, values, _, used = descend(
            problem,
            node.rho,
            node.multipliers[numbers],
            iters=12,
            gap=1e-2,
            enough=bar * (1 - 1e-7),
            hopeless=bar,
            deadline=self.deadline,
        )
        square = certify(problem, rho, values)
        if math.isfinite(square):
            node.upper = min(node.upper, round_up(math.sqrt(square), 2))
        if used:
            multipliers = node.multipliers.copy()
            multipliers[numbers] = values
            node.rho, node.multipliers = rho, multipliers

    def _guess(self, node: _Node, free: NDArray[np.intp]) -> tuple[Signs, Array]:
        """Signs of the free neurons that the upper bound would like, and how much each matters."""
        if node.problem is not None:
            problem, numbers = node.problem
            z = np.linalg.eigh(problem.matrix(node.rho, node.multipliers[numbers]))[1][:, 0]
            into = problem.C[: len(free)] @ z
            out = z[self.network.inputs : self.network.inputs + len(free)]
            guess = np.where(out * np.sign(into) > 0.5 * np.abs(into), 1, -1).astype(np.int8)
            return guess, node.multipliers[numbers[: len(free)]] * into**2
        return self.network.interval_guess(node.forms, node.signs, node.layer, free, self.norm)
