"""One number of a fit: a parameter, the allocation exponent "a", or any function of it; and what single runs do to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from limitlib import checks
from limitlib.scaling.fitting import Bootstrap, Fit
from limitlib.scaling.laws import AdditiveLaw, Law
from limitlib.scaling.solver import minimise

Array = NDArray[np.float64]
Quantity = str | Callable[[Fit], float]

#: Refits times rows that :func:`influence` may spend; beyond, it refits without the most influential runs to first order.
INFLUENCE_BUDGET = 2_000_000
#: Step of the difference quotients of that first order.
STEP = 1e-5
#: Exponents of forms that are no sum of powers.
OTHERS = {
    "kaplan": {"P": "alpha_P", "N": "alpha_N"},
    "repetition": {"P": "alpha", "N": "beta"},
    "transfer": {"P": "alpha", "N": "beta"},
    "multilingual": {"P": "alpha", "N": "beta"},
}


def exponent_of(law: Law, variable: str) -> str | None:
    """The name of the exponent with which a variable enters the law, or None if it has none (or several)."""
    if isinstance(law, AdditiveLaw):
        found = {c for t in law.terms for f, c, s in t.powers if f == f"ln {variable}" and isinstance(c, str) and s < 0}
        return found.pop() if len(found) == 1 else None
    return OTHERS.get(law.name, {}).get(variable)


def has_allocation(law: Law) -> bool:
    """Whether P* is a power of C = 6 N P: the law depends on P and N alone, by one power each."""
    if set(law.variables) != {"P", "N"} or law.name == "transfer":
        return False
    return exponent_of(law, "P") is not None and exponent_of(law, "N") is not None


def draws_of(fit: Fit, theta: Array, quantity: Quantity = "a") -> Array:
    """The quantity at each of B internal parameter vectors (B, p).

    quantity: a parameter's name; "a", the exponent of the compute-optimal size P* ~ C^a under C = 6 N P, which is
    beta / (alpha + beta) for E + A P^-alpha + B N^-beta; or a function of a fit that returns a number.
    """
    if callable(quantity):
        return np.array([checks.returned("quantity", quantity(replace(fit, theta=row))) for row in theta])
    natural = fit.law.natural(theta, fit.means)
    if quantity != "a" or "a" in natural:
        checks.word("quantity", quantity, (*natural, "a") if has_allocation(fit.law) else natural)
        return np.asarray(natural[quantity])
    if not has_allocation(fit.law):
        raise ValueError(
            f"quantity='a', the exponent of the compute-optimal size, is not defined for the law {fit.law.name!r}; name one of "
            f"its parameters ({', '.join(fit.law.parameters)}) or give a function of the fit"
        )
    size, data = (natural[str(exponent_of(fit.law, v))] for v in ("P", "N"))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(data / (size + data))


def value_of(fit: Fit, quantity: Quantity = "a") -> float:
    """The quantity of one fit: see :func:`draws_of`."""
    return float(draws_of(fit, fit.theta[None], quantity)[0])


def spread_of(boot: Bootstrap, quantity: Quantity = "a") -> float:
    """Standard error by the bootstrap: half of its central 68.3 % interval, which a few wild resamples cannot inflate."""
    low, high = np.quantile(draws_of(boot.fit, boot.theta, quantity), [0.1587, 0.8413])
    return float(high - low) / 2


def label_of(quantity: Quantity) -> str:
    """The quantity in words."""
    return getattr(quantity, "__name__", "quantity") if callable(quantity) else quantity


def percent(share: float, digits: int = 0) -> str:
    """A share in words.

    >>> percent(0.95), percent(0.01234, 2)
    ('95 %', '1.23 %')
    """
    return f"{100 * share:.{digits}f} %"


@dataclass(frozen=True, eq=False)
class Influence:
    """A quantity when one run is left out, for the runs that were tried. kind: estimates, each at its own optimum.

    base: with every run. runs: names of the runs left out, values: (R,) the quantity without each. of: how many runs there are;
    where fewer were tried they are the most influential to first order.
    """

    quantity: str
    base: float
    runs: tuple[str, ...]
    values: Array
    of: int
    kind: str = "estimate"

    @property
    def most(self) -> tuple[str, float]:
        """The run whose absence moves the quantity most, and the quantity without it."""
        k = int(np.argmax(np.abs(self.values - self.base)))
        return self.runs[k], float(self.values[k])

    def beyond(self, size: float) -> tuple[str, ...]:
        """The runs whose absence moves the quantity by more than ``size``, the strongest first."""
        moved = np.abs(self.values - self.base)
        return tuple(self.runs[k] for k in np.argsort(-moved, kind="stable") if moved[k] > size)


def influence(fit: Fit, quantity: Quantity = "a") -> Influence:
    """Refit without each run in turn, as one batch from the fit's optimum. Raises ValueError for fewer than 3 runs."""
    runs, theta, of = left_out(fit)
    return Influence(label_of(quantity), value_of(fit, quantity), runs, draws_of(fit, theta, quantity), of)


def left_out(fit: Fit) -> tuple[tuple[str, ...], Array, int]:
    """Names of the runs left out one by one, the optima (R, p) without each, and how many runs there are."""
    problem = fit.problem
    names, codes = np.unique(fit.runs.run, return_inverse=True)
    if len(names) < 3:
        raise ValueError(f"{len(names)} runs: none can be left out; at least 3 are needed")
    most = max(20, INFLUENCE_BUDGET // len(fit.runs))
    tried = np.arange(len(names))
    if len(names) > most:
        tried = np.sort(np.argsort(-_first_order(fit, codes, len(names)), kind="stable")[:most])
    ends, step = [], max(1, 4_000_000 // len(fit.runs))
    for i in range(0, len(tried), step):
        weight = problem.weight * (codes != tried[i : i + step, None])
        ends.append(minimise(problem, np.repeat(fit.theta[None], len(weight), axis=0), weight=weight, free=fit.free).theta)
    return tuple(fit.runs.run_names[names[k]] for k in tried), np.concatenate(ends), len(names)


def _first_order(fit: Fit, codes: NDArray[np.intp], runs: int) -> Array:
    """How far, roughly, leaving out each run moves the parameters: its share of the gradient through the majorant's inverse."""
    problem, free = fit.problem, np.flatnonzero(fit.free)
    steps = STEP * np.eye(len(fit.theta))[free]
    ups, downs = problem.residuals(fit.theta + steps), problem.residuals(fit.theta - steps)
    slopes = (ups - downs) / (2 * STEP)
    pushes = slopes * (problem.weight * problem.objective.slope(problem.residuals(fit.theta[None])[0]))
    per_run = np.stack([np.bincount(codes, push, runs) for push in pushes])
    bend = problem.local(fit.theta[None], problem.weight[None]).majorant[0][np.ix_(free, free)]
    size = np.sqrt(np.diag(bend))
    moved = np.linalg.lstsq(bend / np.outer(size, size), per_run / size[:, None], rcond=1e-12)[0]
    return np.asarray(np.abs(moved).max(axis=0))
