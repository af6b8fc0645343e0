"""A fit: the exact optimum of a stated objective, with the evidence that it is one, and its bootstrap by run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limitlib import checks
from limitlib.scaling.laws import AdditiveLaw, Law
from limitlib.scaling.objectives import Base, LeastSquares, LogHuber, Objective, Weighted
from limitlib.scaling.solver import Minima, Problem, minimise

if TYPE_CHECKING:
    from limitlib.scaling.frontier import FitFrontier
    from limitlib.scaling.profiles import Identifiability
    from limitlib.scaling.runs import Runs

Array = NDArray[np.float64]
Progress = Callable[[int, int, str], None]

#: Rows above which the search for starts uses an even thinning of the table; the final fit uses every row.
MANY_ROWS = 4000
#: A term whose share of the loss is below this at every run counts as absent.
ABSENT = 1e-7
#: Where fewer of the starts agree, four times as many are tried, up to so many.
DOUBTFUL, MOST_STARTS = 0.25, 256
#: Two optima agree when their objectives do to this relative difference.
AGREE = 1e-8


@dataclass(frozen=True)
class Certificate:
    """Evidence that a fit is at the optimum of its objective; a proof of a local minimum up to rounding, not of the global one.

    value: the objective, a sum. value_high_precision: the same recomputed in extended precision. gradient_norm: the largest
    component of the gradient, each divided by the square root of (its own curvature times the objective). hessian_eigenvalues:
    ascending, of the exact Hessian in the free parameters scaled to a unit diagonal of its Gauss-Newton part; all positive
    at a minimum. decrement: how far Newton's method would still lower the objective, relative to it. starts, share_agreeing:
    independent starts, and the share of them that ended within 1e-8 (relative) of the best; unfinished: the share that was
    given up on its way down, above the best. boundary: amplitudes that came out as 0. converged: all of this within rounding.
    """

    value: float
    value_high_precision: float
    gradient_norm: float
    hessian_eigenvalues: tuple[float, ...]
    decrement: float
    starts: int
    share_agreeing: float
    unfinished: float
    boundary: tuple[str, ...]
    converged: bool


@dataclass(frozen=True, eq=False)
class Fit:
    """A law fitted to runs. ``parameters`` are natural ones; kind: estimates, all of them.

    value: the objective at the optimum (a sum over rows). residuals: ln L - ln L^ for objectives in logarithms, else L - L^,
    shape (n,).
    """

    law: Law
    runs: Runs
    objective: Objective
    theta: Array
    free: NDArray[np.bool_]
    means: Mapping[str, float]
    certificate: Certificate
    minima: Array
    kind: str = "estimate"

    @property
    def value(self) -> float:
        return self.certificate.value

    @cached_property
    def parameters(self) -> dict[str, float]:
        return {k: float(v[0]) for k, v in self.law.natural(self.theta[None], self.means).items()}

    @cached_property
    def problem(self) -> Problem:
        return problem_of(self.law, self.runs, self.objective)[0]

    @property
    def residuals(self) -> Array:
        return np.asarray(self.problem.residuals(self.theta[None])[0])

    def predict(self, **columns: ArrayLike) -> Array:
        """Loss at given columns (broadcast together), e.g. ``fit.predict(P=7e9, N=1e12)``; an estimate."""
        return self._predict(self.theta[None], columns)[0]

    def _predict(self, theta: Array, columns: Mapping[str, ArrayLike]) -> Array:
        """Losses (B, *shape) under B internal parameter vectors."""
        table = self.law.table(columns)
        shape = np.broadcast_shapes(*[np.shape(columns[v]) for v in self.law.variables])
        flat = {
            k: np.broadcast_to(np.reshape(v, np.shape(columns[k.removeprefix("ln ")])), shape).ravel().astype(float)
            for k, v in table.items()
        }
        value = self.law.surface(self.law.centred(flat, self.means)).value(theta)
        loss = np.exp(value) if self.law.scale == "log" else value
        return np.asarray(loss.reshape(len(theta), *shape))

    def objective_at(self, parameters: Mapping[str, float]) -> float:
        """This fit's objective at other natural parameters, say published ones: not below ``value`` if that is the optimum."""
        theta = self.law.internal(parameters, self.means)[None]
        return float(self.problem.value(theta, self.problem.weight[None])[0])

    def boot(self, n: int = 1000, *, rng: np.random.Generator, by: str = "run", progress: Progress | None = None) -> Bootstrap:
        """Nonparametric bootstrap: every resample at its own optimum, all solved as one batch.

        by: "run" draws whole runs, so that checkpoints of one run stay together; "row" draws rows, for independent rows only.
        progress: called with (done, total, what). Raises ValueError for fewer than 3 runs.
        """
        checks.count("n", n, 1)
        checks.generator(rng)
        checks.word("by", by, ("run", "row"))
        codes = np.unique(self.runs.run, return_inverse=True)[1] if by == "run" else np.arange(len(self.runs))
        clusters = int(codes.max()) + 1
        if clusters < 3:
            raise ValueError(f"by={by!r}: {clusters} {by}s cannot be resampled; at least 3 are needed")
        weights = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=n)[:, codes] * self.problem.weight
        ends, step = [], max(1, n // 8)
        for i in range(0, n, step):
            ends.append(self._resampled(weights[i : i + step]))
            if progress:
                progress(min(i + step, n), n, "bootstrap")
        theta, f, converged = (np.concatenate([e[k] for e in ends]) for k in range(3))
        return Bootstrap(self, theta, f, converged.astype(bool), clusters)

    def _resampled(self, weights: Array) -> tuple[Array, Array, Array]:
        """Optima under other weights (B, n): from the fit, and from the least-squares optimum of each resample."""
        start = np.repeat(self.theta[None], len(weights), axis=0)
        options: dict[str, Any] = {"weight": weights, "free": self.free}
        first = minimise(self.problem, start, **options)
        smooth = Problem(self.problem.surface, self.problem.y, LeastSquares(self.problem.objective.scale), self.problem.weight)
        rough = minimise(smooth, start, iterations=12, tolerance=1e-6, **options)
        second = minimise(self.problem, rough.theta, **options)
        better = second.f < first.f
        theta = np.where(better[:, None], second.theta, first.theta)
        return theta, np.where(better, second.f, first.f), np.where(better, second.converged, first.converged)

    def identify(self, *, level: float = 0.95) -> Identifiability:
        """What the runs determine and what they do not: see :func:`limitlib.scaling.profiles.identify`."""
        from limitlib.scaling.profiles import identify

        return identify(self, level=level)

    def frontier(self, C: ArrayLike, boot: Bootstrap | None = None, *, level: float = 0.95) -> FitFrontier:
        """Compute-optimal P and N at budgets C: see :func:`limitlib.scaling.frontier.frontier`."""
        from limitlib.scaling.frontier import frontier

        return frontier(self, C, boot, level=level)

    def backtest(self, **options: Any) -> Any:
        """Rolling back-test of this law on these runs: see :func:`limitlib.scaling.backtest`."""
        from limitlib.scaling.holdout import backtest

        return backtest(self.law, self.runs, objective=self.objective, **options)


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Optima of B resamples. theta: internal, (B, p); f: objectives (B,); converged (B,); clusters: runs drawn each time."""

    fit: Fit
    theta: Array
    f: Array
    converged: NDArray[np.bool_]
    clusters: int
    kind: str = "estimate"

    @cached_property
    def parameters(self) -> dict[str, Array]:
        """Natural parameters, each (B,)."""
        return self.fit.law.natural(self.theta, self.fit.means)

    def interval(self, name: str, level: float = 0.95) -> tuple[float, float]:
        """Percentile interval of one parameter."""
        checks.word("name", name, self.parameters)
        return quantiles(self.parameters[name], level)

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % percentile intervals of all parameters."""
        return {name: self.interval(name) for name in self.parameters}

    def predict(self, **columns: ArrayLike) -> Array:
        """Losses (B, *shape) under every resample."""
        return self.fit._predict(self.theta, columns)


def quantiles(draws: Array, level: float) -> tuple[float, float]:
    """Central interval of the draws at a level in (0, 1)."""
    checks.real("level", level, least=0.0, exclusive=True)
    if level >= 1:
        raise ValueError(f"level={level!r} must lie below 1")
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def problem_of(
    law: Law, runs: Runs, objective: Objective, *, extended: bool = False, rows: Any = slice(None)
) -> tuple[Problem, dict[str, float], dict[str, Array]]:
    """The problem on (some rows of) the runs, where its features are centred, and the centred features."""
    base, weight = unwrapped(objective, runs)
    table = law.table({v: runs.columns[v] for v in law.variables})
    means = law.means(table)
    centred = {k: v[rows] for k, v in law.centred(table, means).items()}
    loss = runs.loss[rows]
    y = np.log(loss) if base.scale == "log" else loss
    if extended:
        wide = {k: v.astype(np.longdouble) for k, v in centred.items()}
        y = np.log(loss.astype(np.longdouble)) if base.scale == "log" else loss
        return Problem(law.surface(wide), y, base, weight[rows]), means, centred
    return Problem(law.surface(centred), y, base, weight[rows]), means, centred


def unwrapped(objective: Objective, runs: Runs) -> tuple[Base, Array]:
    """The objective without its weights, and the weight of every row."""
    if isinstance(objective, LogHuber | LeastSquares):
        return objective, np.asarray(runs.weight, dtype=float)
    if not isinstance(objective, Weighted):
        raise TypeError(f"objective={objective!r} must be LogHuber(...), LeastSquares(...) or Weighted(...)")
    given = objective.weights
    if isinstance(given, str) and given not in runs.columns:
        raise ValueError(f"weights={given!r} is no column of the runs; there are: {', '.join(runs.columns)}")
    values = checks.at_least("weights", runs.columns[given] if isinstance(given, str) else given, 0.0)
    if values.shape != (len(runs),):
        raise ValueError(f"weights has shape {values.shape}; give one weight for each of the {len(runs)} rows")
    return objective.objective, values * runs.weight


def fit(law: Law, runs: Runs, objective: Objective | None = None, *, where: str | None = None, starts: int = 16) -> Fit:
    """Fit a law to runs: the exact optimum of a sum over rows, with a certificate. Deterministic: no seed.

    objective: by default ``LogHuber(1e-3)``. where: a condition that rows must meet, like ``"C < 1e21"``. starts: how many
    independent starting points are followed to their minima; the best is the fit. A term that vanishes is set to 0 and named in
    ``certificate.boundary``. Raises the named errors of :mod:`limitlib.scaling.errors` for tables that cannot be fitted.
    """
    if not isinstance(law, Law):
        raise TypeError(f'law={law!r} must be a law, for instance law("chinchilla")')
    checks.count("starts", starts, 1)
    objective = LogHuber() if objective is None else objective
    runs = runs if where is None else runs.where(where)
    runs.require(law.variables, parameters=law.p)
    problem, means, centred = problem_of(law, runs, objective)
    if problem.objective.scale == "log" and (runs.loss <= 0).any():
        raise ValueError("the objective takes the logarithm of the loss, and a loss is not positive; use LeastSquares('raw')")
    ends = search(law, runs, objective, problem, centred, starts)
    while len(ends.f) < MOST_STARTS and agreeing(ends.f, float(ends.f.min()), problem) < DOUBTFUL:
        starts *= 4
        ends = search(law, runs, objective, problem, centred, starts)
        if len(ends.f) < starts:
            break  # there are no more starting points
    best = int(np.argmin(ends.f))
    theta, free, boundary = at_boundary(law, problem, ends.theta[best])
    distinct = ends.theta[np.unique(np.round(np.log(np.maximum(ends.f, 1e-300)), 6), return_index=True)[1]][:6]
    certificate = certify(law, runs, objective, problem, theta, free, boundary, ends)
    return Fit(law, runs, objective, theta, free, means, certificate, distinct)


def search(
    law: Law, runs: Runs, objective: Objective, problem: Problem, centred: Mapping[str, Array], starts: int
) -> Minima:
    """Minima from the best and from evenly spread starting points; on a thinned table first if it is long."""
    n = len(runs)
    if n > MANY_ROWS:
        thin = np.linspace(0, n - 1, MANY_ROWS).round().astype(int)
        small, *_ = problem_of(law, runs, objective, rows=thin)
        candidates = law.starts({k: v[thin] for k, v in centred.items()}, runs.loss[thin], small.weight)
        ends = descend(small, chosen(small, candidates, starts))
        keep = np.argsort(ends.f, kind="stable")[:4]
        return minimise(problem, ends.theta[keep])
    return descend(problem, chosen(problem, law.starts(centred, runs.loss, problem.weight), starts))


def descend(problem: Problem, theta: Array) -> Minima:
    """Follow every start for a while; go on only with those that may still end below the best that has arrived.

    A valley of sum |r| has a kink wherever a residual changes sign, and a descent along it takes many small steps. A start that
    is still on its way when others have arrived lower is left there, and counted as not agreeing.
    """
    ends = minimise(problem, theta, iterations=25)
    arrived = ends.f[ends.converged].min(initial=np.inf)
    late = np.flatnonzero(~ends.converged & (ends.f < arrived))
    if not late.size:
        return ends
    smooth = Problem(problem.surface, problem.y, LeastSquares(problem.objective.scale), problem.weight)
    rough = minimise(smooth, ends.theta[late], iterations=30, tolerance=1e-6)
    again = minimise(problem, np.concatenate([rough.theta, ends.theta[late]]))
    kept = np.setdiff1d(np.arange(len(theta)), late)
    pairs = zip(vars(ends).values(), vars(again).values(), strict=True)
    return Minima(*(np.concatenate([a[kept], b]) for a, b in pairs))


def chosen(problem: Problem, candidates: Array, starts: int) -> Array:
    """Half of the starts: the best candidates by the objective itself; the other half: spread evenly over the rest."""
    f = problem.value(candidates, np.broadcast_to(problem.weight, (len(candidates), problem.surface.n)))
    order = np.argsort(f, kind="stable")
    first = order[: (starts + 1) // 2]
    rest = order[len(first) :]
    spread = rest[np.unique(np.linspace(0, len(rest) - 1, starts - len(first)).astype(int))] if len(rest) else rest
    return candidates[np.concatenate([first, spread])]


def at_boundary(law: Law, problem: Problem, theta: Array) -> tuple[Array, NDArray[np.bool_], tuple[str, ...]]:
    """Terms that have vanished are set to 0 exactly, and the rest is minimised without them."""
    free = np.ones(law.p, bool)
    names: list[str] = []
    if not isinstance(law, AdditiveLaw):
        return theta, free, ()
    z = law_terms(problem, theta)
    shares = np.exp(z - np.logaddexp.reduce(z, axis=0))
    trial = theta.copy()
    for j, term in enumerate(law.terms):
        if term.amplitude is not None and shares[j].max() < ABSENT and len(names) + 1 < len(law.terms):
            names.append(term.amplitude)
            trial[law.parameters.index(term.amplitude)] = -np.inf
            free[law.parameters.index(term.amplitude)] = False
    if not names:
        return theta, free, ()
    kept = {c for t in law.terms if t.amplitude not in names for _, c, _ in t.powers}
    for k, name in enumerate(law.parameters):
        free[k] &= name in kept or any(t.amplitude == name for t in law.terms)
    end = minimise(problem, trial[None], free=free)
    return end.theta[0], free, tuple(names)


def law_terms(problem: Problem, theta: Array) -> Array:
    terms = problem.surface.terms(theta[None])[0]  # type: ignore[attr-defined]
    return np.asarray(terms)


def agreeing(f: Array, best: float, problem: Problem) -> float:
    """The share of objectives that equal the best, up to ``AGREE`` and to the rounding of exact data."""
    return float(np.mean(f <= best * (1 + AGREE) + 1e-30 * problem.weight.sum()))


def certify(
    law: Law, runs: Runs, objective: Objective, problem: Problem, theta: Array, free: NDArray[np.bool_],
    boundary: tuple[str, ...], ends: Minima,
) -> Certificate:  # fmt: skip
    weight = problem.weight[None]
    local = problem.local(theta[None], weight)
    f = float(local.f[0])
    size = np.sqrt(np.maximum(np.diag(local.majorant[0]), 1e-300))[free]
    gradient = local.gradient[0][free] / size
    scaled = local.hessian[0][np.ix_(free, free)] / np.outer(size, size)
    bends, basis = np.linalg.eigh(scaled)
    along = basis.T @ gradient
    drop = float(0.5 * np.sum(along**2 / np.maximum(np.abs(bends), 1e-300)))
    wide, *_ = problem_of(law, runs, objective, extended=True)
    precise = float(wide.value(theta[None], weight)[0])
    rounding = 1e-30 * float(weight.sum())
    agree = agreeing(ends.f, f, problem)
    unfinished = float(np.mean(~ends.converged & (ends.f > f * (1 + AGREE) + rounding)))
    least = 1e-12 * float(np.abs(bends).max(initial=1.0))
    sound = bool(bends.size and bends[0] > least and drop <= 1e-9 * f + rounding)
    return Certificate(
        f, precise, float(np.abs(gradient).max(initial=0.0) / np.sqrt(f + rounding)), tuple(float(b) for b in bends),
        drop / (f + rounding), len(ends.f), agree, unfinished, boundary, sound,
    )  # fmt: skip
