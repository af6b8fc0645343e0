"""What a table of runs determines: standard errors, profile intervals and their shape, pivots, flat directions in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from limitlib import checks
from limitlib.scaling.laws import AdditiveLaw
from limitlib.scaling.objectives import LogHuber
from limitlib.scaling.solver import Problem, minimise

if TYPE_CHECKING:
    from limitlib.scaling.fitting import Fit

Array = NDArray[np.float64]
Shape = Literal["bounded", "one-sided", "flat", "at the boundary"]

#: How far a profile is followed, in standard errors of its parameter.
STEPS = np.array([0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 9.0, 14.0, 20.0])
#: How often points of a profile that were left on their way are tried again.
RETRIES = 4
#: Two parameters whose correlation exceeds this are reported as one.
TIED = 0.98
#: A direction whose scaled curvature is below this share of the largest is not determined at all.
FLAT = 1e-9


@dataclass(frozen=True, eq=False)
class Profile:
    """The objective minimised over all other parameters, as a function of one.

    shape: "bounded" where it crosses the threshold on both sides, "one-sided" on one, "flat" on none, followed to 20 standard
    errors; "at the boundary" for an amplitude that came out as 0. lower, upper: natural values at the crossings, infinite or 0
    where there is none. values, rise: natural values of the parameter and how far the objective lies above its minimum there.
    threshold: the rise at the ends of the interval.
    """

    name: str
    estimate: float
    lower: float
    upper: float
    shape: Shape
    values: Array
    rise: Array
    threshold: float


@dataclass(frozen=True)
class Pivot:
    """Where a power term is known best: at ``variable`` = ``at`` the term's amplitude and exponent are uncorrelated.

    term_error: relative standard error of the term there. amplitude_factor: the factor e^se by which the bare amplitude is
    uncertain. correlation: of the logarithm of the amplitude with the exponent.
    """

    amplitude: str
    exponent: str
    variable: str
    at: float
    term_error: float
    amplitude_factor: float
    correlation: float


@dataclass(frozen=True, eq=False)
class Identifiability:
    """What the runs determine.

    condition_raw, condition_centred: condition numbers of the scaled Hessian with amplitudes at 1 unit of their variables and
    at its geometric mean. standard_errors: of the parameters in the coordinates of ``coordinates`` ("ln A" for positive ones),
    sandwich estimates that treat rows of one run as dependent. covariance: (q, q) in the same order. flat: combinations that
    nothing determines, in words. pivots, profiles, boundary. level: of the profiles.
    """

    condition_raw: float
    condition_centred: float
    coordinates: tuple[str, ...]
    standard_errors: dict[str, float]
    covariance: Array
    flat: tuple[str, ...]
    pivots: tuple[Pivot, ...]
    profiles: dict[str, Profile]
    boundary: tuple[str, ...]
    level: float
    kind: str = "estimate"

    def words(self) -> tuple[str, ...]:
        """The findings as sentences."""
        said = [f"Not determined by these runs: {direction}." for direction in self.flat]
        said += [f"{name} is 0, at the boundary: the runs show no such term." for name in self.boundary]
        for p in self.pivots:
            if abs(p.correlation) > TIED:
                said.append(
                    f"{p.amplitude} and {p.exponent} are tied (correlation {p.correlation:.3f}): what the runs determine is "
                    f"{p.amplitude} {p.variable}^-{p.exponent} near {p.variable} = {p.at:.2g}, to {100 * p.term_error:.2g} %; "
                    f"{p.amplitude} alone is known to a factor {p.amplitude_factor:.2g}."
                )
        for q in self.profiles.values():
            if q.shape == "one-sided":
                side = f"at most {q.upper:.4g}" if np.isfinite(q.upper) else f"at least {q.lower:.4g}"
                said.append(f"{q.name} is bounded on one side only: {side} ({100 * self.level:g} %).")
            elif q.shape == "flat":
                said.append(f"{q.name} is not bounded on either side by these runs.")
        return tuple(said)


def identify(fit: Fit, *, level: float = 0.95) -> Identifiability:
    """Standard errors, profiles and flat directions of a fit.

    Thresholds of the profiles are those of the robust likelihood ratio: half the squared t quantile (runs minus parameters
    degrees of freedom) times the ratio of the sandwich variance to the inverse Hessian. Both use the expected curvature of the
    objective, estimated by a kernel, since the number of residuals within delta is noisy. Estimates, not certificates: the
    coverage of these intervals is measured, not proved. Raises ValueError for a level outside (0, 1).
    """
    checks.real("level", level, least=0.0, exclusive=True)
    if level >= 1:
        raise ValueError(f"level={level!r} must lie below 1")
    law, runs = fit.law, fit.runs
    means = dict.fromkeys(fit.means, 0.0)
    table = law.table({v: runs.columns[v] for v in law.variables})
    base = fit.problem
    plain = Problem(law.surface(table), base.y, base.objective, base.weight)
    theta = raw_theta(fit)
    free = fit.free
    shown = tuple(name for k, name in enumerate(law.parameters) if free[k])
    codes = np.unique(runs.run, return_inverse=True)[1]
    clusters = int(codes.max()) + 1

    centred = condition(base, fit.theta, free)[0]
    raw, basis = condition(plain, theta, free)
    hessian, meat = bread(plain, theta, codes)
    hessian, meat = hessian[np.ix_(free, free)], meat[np.ix_(free, free)]
    inverse = np.linalg.pinv(hessian, rcond=1e-14, hermitian=True)
    covariance = inverse @ meat @ inverse * clusters / max(1, clusters - len(shown))
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    names = tuple(f"ln {n}" if law.specs[law.parameters.index(n)].kind == "log" else n for n in shown)
    quantile = float(stats.t.ppf((1 + level) / 2, max(1, clusters - len(shown)))) ** 2
    spread = np.maximum(np.diag(covariance), 1e-300) / np.maximum(np.diag(inverse), 1e-300)
    where = np.flatnonzero(free)
    paths = [inverse[:, j] / max(inverse[j, j], 1e-300) for j in range(len(where))]
    followed = follow(plain, theta, free, errors, paths)
    profiles = {
        shown[j]: profile(fit, plain, theta, int(k), followed[j], 0.5 * quantile * float(spread[j]), means)
        for j, k in enumerate(where)
    }
    for name in fit.certificate.boundary:
        nothing = np.zeros(0)
        profiles[name] = Profile(name, 0.0, 0.0, float("nan"), "at the boundary", nothing, nothing, 0.0)
    for name in law.parameters:
        if name not in profiles:  # an exponent of an absent term moves nothing
            profiles[name] = Profile(name, fit.parameters[name], -np.inf, np.inf, "flat", nothing, nothing, 0.0)
    return Identifiability(
        raw, centred, names, dict(zip(names, errors.tolist(), strict=True)), covariance, flat_words(basis, names),
        pivots(fit, shown, covariance), profiles, fit.certificate.boundary, level,
    )  # fmt: skip


def raw_theta(fit: Fit) -> Array:
    """Internal parameters for features that are not centred."""
    theta = fit.theta.copy()
    if not isinstance(fit.law, AdditiveLaw):
        zero = dict.fromkeys(fit.means, 0.0)
        return fit.law.internal(fit.parameters, zero)
    raw = dict(zip(fit.law.parameters, theta, strict=True))
    for k, s in enumerate(fit.law.specs):
        for exponent, feature, factor in s.shifts:
            at = fit.means[feature] if isinstance(feature, str) else feature
            theta[k] += factor * at * (raw[exponent] if isinstance(exponent, str) else exponent)
    return theta


def condition(problem: Problem, theta: Array, free: NDArray[np.bool_]) -> tuple[float, tuple[Array, Array]]:
    """Condition number of the scaled Hessian, and its eigenvalues and (unscaled) eigenvectors."""
    local = problem.local(theta[None], problem.weight[None])
    size = np.sqrt(np.maximum(np.diag(local.majorant[0]), 1e-300))[free]
    bends, basis = np.linalg.eigh(local.majorant[0][np.ix_(free, free)] / np.outer(size, size))
    least = max(float(bends[0]), 1e-18 * float(bends[-1]))
    return float(bends[-1]) / least, (bends, basis / size[:, None])


def bread(problem: Problem, theta: Array, codes: NDArray[np.intp]) -> tuple[Array, Array]:
    """Hessian with the expected curvature, and the sum over runs of squared scores."""
    point, o = problem.surface.at(theta[None]), problem.objective
    r = problem.residuals(theta[None])
    expected = expected_curvature(r, o.delta) if isinstance(o, LogHuber) else np.ones_like(r)
    value = point.value
    if problem.surface.scale == o.scale:
        first = np.ones_like(value)
    else:
        first = np.exp(value) if o.scale == "raw" else 1.0 / value
    weight = problem.weight[None]
    hessian = point.curve(weight * expected * first**2, np.zeros_like(value))[0]
    scores = np.zeros((int(codes.max()) + 1, len(theta)))
    one = weight * o.slope(r) * first
    for code in range(len(scores)):
        scores[code] = point.pull(np.where(codes == code, one, 0.0))[0]
    return hessian, scores.T @ scores


def expected_curvature(r: Array, delta: float) -> Array:
    """Whether each residual lies within delta, smoothed by a Gaussian kernel of Silverman's width.

    Row by row and not averaged (Powell 1991): rows of larger scatter then bend the objective less, as they should.
    """
    low, high = np.quantile(r, [0.25, 0.75])
    width = 0.9 * min(float(np.std(r)), float(high - low) / 1.349 or float(np.std(r))) * r.size**-0.2
    if width <= 0:
        return np.ones_like(r)
    return np.asarray(stats.norm.cdf((delta - r) / width) - stats.norm.cdf((-delta - r) / width))


def follow(
    problem: Problem, theta: Array, free: NDArray[np.bool_], errors: Array, paths: list[Array]
) -> list[tuple[Array, Array]]:
    """For each free parameter, the minima with it held on both sides of the optimum, and their objectives: one batch."""
    where, count = np.flatnonzero(free), 2 * len(STEPS)
    starts, frees = np.repeat(theta[None], len(where) * count, axis=0), np.repeat(free[None], len(where) * count, axis=0)
    for j, k in enumerate(where):
        rows = slice(j * count, (j + 1) * count)
        moves = np.concatenate([-STEPS[::-1], STEPS]) * max(errors[j], 1e-12)
        starts[rows, where] += moves[:, None] * paths[j]
        starts[rows, k] = theta[k] + moves
        frees[rows, k] = False
    ends = minimise(problem, starts, free=frees, iterations=60)
    found, f = ends.theta.copy(), ends.f.copy()
    held = starts[np.arange(len(starts)), np.repeat(where, count)]
    for _ in range(RETRIES):
        # A point above one farther out was left on its way: it is tried again from where its neighbours ended.
        lost = np.flatnonzero(np.concatenate([passed(f[i : i + count]) for i in range(0, len(f), count)]))
        if not lost.size:
            break
        first = lost // count * count
        sides = [np.clip(lost - 1, first, first + count - 1), np.clip(lost + 1, first, first + count - 1)]
        again, twice = np.concatenate([found[s] for s in sides]), np.tile(lost, 2)
        again[np.arange(len(again)), where[twice // count]] = held[twice]
        tried = minimise(problem, again, free=frees[twice], iterations=60)
        improved = False
        for part, theta_part in zip(np.split(tried.f, 2), np.split(tried.theta, 2), strict=True):
            better = part < f[lost]
            f[lost[better]], found[lost[better]] = part[better], theta_part[better]
            improved |= bool(better.any())
        if not improved:
            break
    return [(found[i : i + count], f[i : i + count]) for i in range(0, len(starts), count)]


def passed(f: Array) -> NDArray[np.bool_]:
    """Which points of a profile, ordered along it with its minimum in the middle, lie above one that is farther out."""
    half = len(f) // 2
    left, right = f[:half], f[half:]
    lowest_left = np.concatenate([[np.inf], np.minimum.accumulate(left)[:-1]])
    lowest_right = np.concatenate([np.minimum.accumulate(right[::-1])[::-1][1:], [np.inf]])
    return np.concatenate([~(left <= lowest_left * (1 + 1e-9)), ~(right <= lowest_right * (1 + 1e-9))])


def profile(
    fit: Fit, problem: Problem, theta: Array, k: int, followed: tuple[Array, Array], threshold: float, means: dict[str, float]
) -> Profile:
    law, (path, objectives) = fit.law, followed
    best = problem.value(theta[None], problem.weight[None])[0]
    rise = np.maximum(objectives - best, 0.0)
    values = law.natural(path, means)[law.parameters[k]]
    estimate = fit.parameters[law.parameters[k]]
    half = len(STEPS)
    signed = np.sqrt(rise / threshold) if threshold > 0 else np.full(len(rise), np.inf)
    upper = crossing(np.concatenate([[estimate], values[half:]]), np.concatenate([[0.0], signed[half:]]))
    lower = crossing(np.concatenate([[estimate], values[:half][::-1]]), np.concatenate([[0.0], signed[:half][::-1]]))
    if values[-1] < values[0]:
        lower, upper = upper, lower
    both = (lower is not None) + (upper is not None)
    shape: Shape = "bounded" if both == 2 else "one-sided" if both else "flat"
    positive = law.specs[k].kind == "log"
    order = np.argsort(values)
    return Profile(
        law.parameters[k], estimate, (0.0 if positive else -np.inf) if lower is None else lower,
        np.inf if upper is None else upper, shape, values[order], rise[order], float(threshold),
    )  # fmt: skip


def crossing(values: Array, height: Array) -> float | None:
    """Where the height first reaches 1 going outwards, by linear interpolation; None if it never does."""
    above = np.flatnonzero(~(height < 1.0))
    if not above.size:
        return None
    i = int(above[0])
    if not np.isfinite(height[i]):
        return float(values[i])
    share = (1.0 - height[i - 1]) / (height[i] - height[i - 1])
    return float(values[i - 1] + share * (values[i] - values[i - 1]))


def flat_words(basis: tuple[Array, Array], names: tuple[str, ...]) -> tuple[str, ...]:
    """Each direction without curvature as a combination of parameters."""
    bends, vectors = basis
    said = []
    for k in np.flatnonzero(bends < FLAT * bends[-1]):
        v = vectors[:, k] / np.abs(vectors[:, k]).max()
        parts = [(c, n) for c, n in zip(v, names, strict=True) if abs(c) > 0.02]
        sign = np.sign(parts[0][0])
        words = " ".join(f"{'-' if sign * c < 0 else '+'} {abs(c):.3g} {n}" for c, n in parts)
        said.append(words.removeprefix("+ "))
    return tuple(said)


def pivots(fit: Fit, shown: tuple[str, ...], covariance: Array) -> tuple[Pivot, ...]:
    """For each power term: the size at which its logarithm has the least variance."""
    if not isinstance(fit.law, AdditiveLaw):
        return ()
    found = []
    for term in fit.law.terms:
        if term.amplitude not in shown or len(term.powers) != 1:
            continue
        feature, exponent, factor = term.powers[0]
        if not isinstance(exponent, str) or exponent not in shown or not feature.startswith("ln ") or factor != -1.0:
            continue
        i, j = shown.index(str(term.amplitude)), shown.index(exponent)
        vi, vj, vij = covariance[i, i], covariance[j, j], covariance[i, j]
        if vj <= 0 or vi <= 0:
            continue
        at = vij / vj
        with np.errstate(over="ignore"):
            found.append(Pivot(
                str(term.amplitude), exponent, feature.removeprefix("ln "), float(np.exp(at)),
                float(np.sqrt(max(vi - vij * at, 0.0))), float(np.exp(np.sqrt(vi))), float(vij / np.sqrt(vi * vj)),
            ))  # fmt: skip
    return tuple(found)
