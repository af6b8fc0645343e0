"""A fit: the exact optimum of a stated objective, with the evidence that it is one, and its bootstrap by run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limitlib import checks
from limitlib.scaling.errors import NoVariation
from limitlib.scaling.laws import FAINT, Law
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
#: Where fewer of the starts agree, or one has converged elsewhere, four times as many are tried, and then other weights.
DOUBTFUL = 0.75
#: How many rounds of other weights at most.
ROUNDS = 4
#: How many starts that are slow but low are followed to their end.
LATE = 6
#: A free parameter that moves the losses by less than this share (per unit of its logarithm) is undetermined.
FELT = 1e-9
#: Two optima agree when their objectives do to this relative difference.
AGREE = 1e-8


@dataclass(frozen=True)
class Certificate:
    """Evidence that a fit is at the optimum of its objective; a proof of a local minimum up to rounding, not of the global one.

    value: the objective, a sum. value_high_precision: the same recomputed in extended precision. gradient_norm: the largest
    component of the gradient, each divided by the square root of (its own curvature times the objective). hessian_eigenvalues:
    ascending, of the exact Hessian in the free parameters scaled to a unit diagonal of its Gauss-Newton part; all positive
    at a minimum. decrement: how far Newton's method would still lower the objective, relative to it. starts, share_agreeing:
    how many starting points were followed (a law's own, and minima of the same table under resampled weights, which lie
    close to the best), and the share of them that ended within 1e-8 (relative) of the best; unfinished: the share that was
    given up on its way down, above the best. boundary: positive parameters that came out as 0; the exponents of such a term
    mean nothing. converged: gradient 0 within rounding, all eigenvalues positive, and every free parameter moves the losses.

    A high share does not prove the optimum global. A low one is common with noise of 1 % and ``delta=1e-4``: a sum of absolute
    residuals has many minima. And the lowest of all may be a spike, a term with a huge exponent that fits one extreme run
    exactly.
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
    shape (n,). theta: the internal parameters (p,), positive ones as logarithms (-inf for a term that is 0), on features
    centred at ``means``; free: (p,), False for what the boundary holds.
    """

    law: Law
    runs: Runs
    objective: Objective
    theta: Array
    free: NDArray[np.bool_]
    means: Mapping[str, float]
    certificate: Certificate
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
        """Loss at given columns (broadcast together), e.g. ``fit.predict(P=7e9, N=1e12)``; an estimate.

        Further columns of the runs may stand there, and change nothing. Raises ValueError for one that is missing or unknown.
        """
        strange = [name for name in columns if name not in self.law.variables and name not in self.runs.columns]
        if strange:
            needs = ", ".join(self.law.variables)
            raise ValueError(f"{strange[0]}=... is no variable of the law {self.law.name!r}: give {needs}")
        return self._predict(self.theta[None], columns)[0]

    def _predict(self, theta: Array, columns: Mapping[str, ArrayLike]) -> Array:
        """Losses (B, *shape) under B internal parameter vectors."""
        return self.law.losses(theta, self.means, columns)

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
        ends, step = [], max(250, n // 8)  # the last of a batch to arrive sets its time: few, large batches
        for i in range(0, n, step):
            ends.append(self._resampled(weights[i : i + step]))
            if progress:
                progress(min(i + step, n), n, "bootstrap")
        end = Minima.joined(ends)
        return Bootstrap(self, end.theta, end.f, end.converged, clusters)

    def _resampled(self, weights: Array) -> Minima:
        """Optima under other weights (B, n): from the fit, and from the least-squares optimum of each resample.

        A term that is absent from the fit may be present in a resample: it starts faint, and is free.
        """
        absent = np.isneginf(self.theta)
        begin = np.where(absent, np.log(FAINT * self.runs.loss.mean()), self.theta)
        start = np.repeat(begin[None], len(weights), axis=0)
        first = minimise(self.problem, start, weight=weights)
        rough = minimise(smooth(self.problem), start, weight=weights, iterations=12, tolerance=1e-6)
        second = minimise(self.problem, rough.theta, weight=weights)
        return first.least(second)

    def identify(self, *, level: float = 0.95) -> Identifiability:
        """What the runs determine and what they do not: see ``limitlib.scaling.profiles.identify``."""
        from limitlib.scaling.profiles import identify

        return identify(self, level=level)

    def frontier(self, C: ArrayLike, boot: Bootstrap | None = None, *, level: float = 0.95) -> FitFrontier:
        """Compute-optimal P and N at budgets C: see ``limitlib.scaling.frontier.frontier``."""
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
        """Losses under every resample: (B,) and then the columns' broadcast shape."""
        return self.fit._predict(self.theta, columns)


def quantiles(draws: Array, level: float) -> tuple[float, float]:
    """Central interval of the draws at a level in (0, 1)."""
    checks.real("level", level, least=0.0, exclusive=True)
    if level >= 1:
        raise ValueError(f"level={level!r} must lie below 1")
    # nothing lies between a number and infinity
    method: Literal["linear", "nearest"] = "linear" if np.isfinite(draws).all() else "nearest"
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], method=method)
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


def fit(law: Law, runs: Runs, objective: Objective | None = None, *, where: str | None = None, starts: int = 8) -> Fit:
    """Fit a law to runs: the exact optimum of a sum over rows, with a certificate. Deterministic: no seed.

    objective: by default ``LogHuber(1e-3)``. where: a condition that rows must meet, like ``"C < 1e21"``. starts: how many
    of the law's starting points are followed to their minima, and as many minima of resampled tables; four times as many and
    more where they disagree. The best is the fit. A term that vanishes is set to 0 and named in
    ``certificate.boundary``. Raises the named errors of ``limitlib.scaling.errors`` for tables that cannot be fitted.
    """
    if not isinstance(law, Law):
        raise TypeError(f'law={law!r} must be a law, for instance law("chinchilla")')
    checks.count("starts", starts, 1)
    if not hasattr(runs, "require"):
        raise TypeError(f"runs of type {type(runs).__name__} must be Runs; make them by Runs.from_frame(frame, N=..., P=...)")
    objective = LogHuber() if objective is None else objective
    runs = runs if where is None else runs.where(where)
    runs.require(law.variables, parameters=law.p)
    base, weight = unwrapped(objective, runs)
    if "log" in (law.scale, base.scale) and (runs.loss <= 0).any():
        why = "the objective takes its logarithm" if base.scale == "log" else f"the law {law.name!r} is positive"
        raise ValueError(f"the loss must be positive, since {why}; got {runs.loss.min():g}; for scores use LeastSquares('raw')")
    if (runs.loss == runs.loss[0]).all():
        raise NoVariation(f"the loss is {runs.loss[0]:g} in all {len(runs)} rows: there is nothing to explain", column="loss")
    if (weight == 0).any():
        if not weight.any():
            raise ValueError("all weights are 0; give positive weights to the rows that count")
        runs.select(weight > 0).require(law.variables, parameters=law.p)
    problem, means, centred = problem_of(law, runs, objective)
    ends = search(law, runs, objective, problem, centred, starts)
    best = int(np.argmin(ends.f))
    if not np.isfinite(ends.f[best]):
        raise ValueError(f"the law {law.name!r} has no finite value at any starting point; check the units of the columns")
    theta, free, boundary = at_boundary(law, problem, ends.theta[best])
    certificate = certify(law, runs, objective, problem, theta, free, boundary, ends)
    return Fit(law, runs, objective, theta, free, means, certificate)


def search(
    law: Law, runs: Runs, objective: Objective, problem: Problem, centred: Mapping[str, Array], starts: int
) -> Minima:
    """Where the starts lead; where they disagree, where four times as many lead, and then the minima of resampled tables.

    A long table is thinned evenly first; what is distinct there goes on with every row, and counts as often as it was reached.
    """
    rows = np.flatnonzero(problem.weight)
    long = len(rows) > MANY_ROWS
    if long:
        rows = rows[np.linspace(0, len(rows) - 1, MANY_ROWS).round().astype(int)]
    small = problem_of(law, runs, objective, rows=rows)[0] if len(rows) < len(runs) else problem
    with np.errstate(all="ignore"):
        candidates = law.starts({k: v[rows] for k, v in centred.items()}, runs.loss[rows], small.weight)
    candidates = candidates[np.isfinite(candidates).all(axis=1)]
    ends = descend(small, chosen(small, candidates, starts))
    rng = np.random.default_rng(0)  # the same weightings for every fit
    ends = Minima.joined([ends, reweighted(small, ends.theta[np.argmin(ends.f)], starts, rng)])
    if doubtful(small, ends):
        ends = Minima.joined([ends, descend(small, chosen(small, candidates, 4 * starts))])
        for _ in range(ROUNDS):
            lowest = float(ends.f.min())
            ends = Minima.joined([ends, reweighted(small, ends.theta[np.argmin(ends.f)], 4 * starts, rng)])
            if agreeing(np.array([lowest]), float(ends.f.min()), small):
                break  # no lower than before
    if not long:
        return ends
    _, first, which = np.unique(np.round(np.log(np.maximum(ends.f, 1e-300)), 7), return_index=True, return_inverse=True)
    full = minimise(problem, ends.theta[first[:4]])
    # A start whose end on the thinned table is not among the lowest keeps its end, which is not that of the fit.
    rest = Minima(ends.theta, np.full(len(ends.f), np.inf), ends.decrement, ends.converged & (which < 4))
    return Minima(
        *(np.where((which < 4).reshape(-1, *[1] * (b.ndim - 1)), a[np.minimum(which, len(a) - 1)], b)
          for a, b in zip(vars(full).values(), vars(rest).values(), strict=True))
    )  # fmt: skip


def doubtful(problem: Problem, ends: Minima) -> bool:
    """Whether the starts disagree: fewer than DOUBTFUL at the lowest end, or some at a minimum that is higher."""
    lowest = float(ends.f.min())
    settled = ends.f[ends.converged]
    return agreeing(ends.f, lowest, problem) < DOUBTFUL or agreeing(settled, lowest, problem) < 1 if len(settled) else True


def reweighted(problem: Problem, theta: Array, times: int, rng: np.random.Generator) -> Minima:
    """Minima reached from those of resampled tables around ``theta``: sums of |r| have many minima close together."""
    rows = np.flatnonzero(problem.weight)
    counts = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=times)
    weight = np.zeros((times, problem.surface.n))
    weight[:, rows] = counts * problem.weight[rows]
    typical = np.exp(problem.y.mean()) if problem.objective.scale == "log" else np.abs(problem.y).mean()
    faint = np.log(FAINT * max(float(typical), 1e-300))
    begin = np.tile(theta, (times, 1))
    begin[::2] = np.where(problem.surface.amplitudes & (theta < faint), faint, theta)  # an absent term may come back
    near = minimise(problem, begin, weight=weight, iterations=12, tolerance=1e-3)
    return finished(problem, minimise(problem, near.theta, iterations=40))


def smooth(problem: Problem) -> Problem:
    """The least-squares problem on the same table and scale."""
    return Problem(problem.surface, problem.y, LeastSquares(problem.objective.scale), problem.weight)


def graduated(problem: Problem, theta: Array) -> Array:
    """Points near minima, reached by least squares and then by Huber objectives with less and less delta.

    A valley of sum |r| has a kink wherever a residual changes sign, and a descent along it takes many small steps; from its
    smoothed neighbours it takes few.
    """
    if not isinstance(problem.objective, LogHuber):
        return theta
    ends = minimise(smooth(problem), theta, iterations=15, tolerance=1e-4)
    delta = float(np.quantile(np.abs(problem.residuals(ends.theta[[np.argmin(ends.f)]])), 0.9)) / 2
    while delta > 1.5 * problem.objective.delta:
        eased = Problem(problem.surface, problem.y, LogHuber(delta), problem.weight)
        ends = minimise(eased, ends.theta, iterations=8, tolerance=1e-4)
        delta /= 4
    return ends.theta


def descend(problem: Problem, theta: Array) -> Minima:
    """Follow every start by way of smoother objectives."""
    return finished(problem, minimise(problem, graduated(problem, theta), iterations=40))


def finished(problem: Problem, ends: Minima) -> Minima:
    """Go on with the few that are still on their way, and below the best that has arrived; others count as not agreeing."""
    below = np.where(ends.converged, np.inf, ends.f)
    late = np.argsort(below, kind="stable")[:LATE]
    late = late[below[late] < ends.f[ends.converged].min(initial=np.inf)]
    if not late.size:
        return ends
    return ends.replaced(late, minimise(problem, ends.theta[late]))


def chosen(problem: Problem, candidates: Array, starts: int) -> Array:
    """Half of the starts: the best candidates by the objective itself; the other half: spread evenly over the rest."""
    f = problem.value(candidates, np.broadcast_to(problem.weight, (len(candidates), problem.surface.n)))
    order = np.argsort(f, kind="stable")
    first = order[: (starts + 1) // 2]
    rest = order[len(first) :]
    spread = rest[np.unique(np.linspace(0, len(rest) - 1, starts - len(first)).astype(int))] if len(rest) else rest
    return candidates[np.concatenate([first, spread])]


def at_boundary(law: Law, problem: Problem, theta: Array) -> tuple[Array, NDArray[np.bool_], tuple[str, ...]]:
    """Positive parameters that are as good as 0 are set to 0, and the rest is minimised without them.

    As good as 0: e^-5 times the parameter gives the same losses, and a huge one does not (else it is undetermined). One that
    the formula can't evaluate at 0 stays where it is.
    """
    free = np.ones(law.p, bool)
    weight, names, trial = problem.weight[None], [], theta.copy()

    size = 1.0 if problem.objective.scale == "log" else float(np.abs(problem.y).max()) or 1.0

    def same(other: Array) -> bool:
        with np.errstate(all="ignore"):
            return bool(np.abs(problem.residuals(other[None]) - problem.residuals(trial[None])).max() < ABSENT * size)

    for k, spec in enumerate(law.specs):
        at = np.arange(law.p) == k
        less, much = np.where(at, trial - 5.0, trial), np.where(at, np.maximum(trial, 0.0) + 60.0, trial)
        if spec.kind == "log" and same(less) and not same(much):
            zero = np.where(at, -np.inf, trial)
            with np.errstate(all="ignore"):
                possible = same(zero) and bool(problem.local(zero[None], weight).finite[0])
            trial = zero if possible else trial
            names.append(spec.name)
            free[k] = False
    if not names:
        return theta, free, ()
    # an exponent of an absent term moves nothing
    free &= np.diag(problem.local(trial[None], weight).majorant[0]) > 0
    end = minimise(problem, trial[None], free=free)
    return end.theta[0], free, tuple(names)


def agreeing(f: Array, best: float, problem: Problem) -> float:
    """The share of objectives that equal the best, up to ``AGREE`` and to the rounding of exact data."""
    return float(np.mean(f <= best * (1 + AGREE) + 10 * problem.rounding(problem.weight)))


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
    unit = 1.0 if problem.objective.scale == "log" else problem.y**2
    reach = np.sqrt(np.sum(weight * problem.objective.majorant(problem.residuals(theta[None])) * unit))
    along = basis.T @ gradient
    drop = float(0.5 * np.sum(along**2 / np.maximum(np.abs(bends), 1e-300)))
    wide, *_ = problem_of(law, runs, objective, extended=True)
    precise = float(wide.value(theta[None], weight)[0])
    rounding = max(10 * float(problem.rounding(problem.weight)), 1e-300)
    agree = agreeing(ends.f, f, problem)
    unfinished = float(np.mean(~ends.converged & (ends.f > f * (1 + AGREE) + rounding)))
    least = 1e-12 * float(np.abs(bends).max(initial=1.0))
    felt = bool((size > FELT * reach).all())
    sound = bool(bends.size and bends[0] > least and felt and drop <= 1e-9 * f + rounding)
    return Certificate(
        f, precise, float(np.abs(gradient).max(initial=0.0) / np.sqrt(f + rounding)), tuple(float(b) for b in bends),
        drop / (f + rounding), len(ends.f), agree, unfinished, boundary, sound,
    )  # fmt: skip
